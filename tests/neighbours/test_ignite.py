"Engines of ignite"
import pytest
import torch
from torch import nn

pytest.importorskip('ignite', reason='ignite is not installed: make test-neighbours installs it')

from conftest import equal, loader, net, weights  # noqa: E402
from ignite.engine import Engine, Events, create_supervised_trainer  # noqa: E402
from ignite.handlers import LRScheduler, PiecewiseLinear  # noqa: E402

from lrfinder_nb import LRFinder, finder_for  # noqa: E402

LOSS = nn.CrossEntropyLoss()


def supervised(lr=1e-3, **kw):
    torch.manual_seed(0)
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    return create_supervised_trainer(model, optimizer, LOSS, **kw), model, optimizer


def run(engine, epochs=2):
    torch.manual_seed(3)
    return engine.run(loader(), max_epochs=epochs)


def test_a_run_after_the_sweep_is_that_with_the_rate_set_by_hand(held):
    held('pytorch-ignite', 'sweep', 'train', 'restored')
    engine, model, optimizer = supervised()
    finder = finder_for(engine, loader()).range_test(seed=0, progress=False).apply()
    assert optimizer.param_groups[0]['lr'] == finder.suggestion.lr
    run(engine)
    other, there, _ = supervised(finder.suggestion.lr)
    run(other)
    assert equal(weights(model), weights(there)) and engine.state.iteration == other.state.iteration


def test_the_curve_is_that_of_an_ordinary_finder():
    engine, *_ = supervised()
    _, model, optimizer = supervised()
    data = list(loader(shuffle=False))
    theirs = finder_for(engine, data).range_test(seed=0, progress=False).curve
    ours = LRFinder(model, optimizer, LOSS).range_test(data, seed=0, progress=False).curve
    assert list(theirs.losses) == pytest.approx(list(ours.losses), rel=1e-5)


def test_verify(held):
    held('pytorch-ignite', 'verify')
    engine, model, _ = supervised()
    before = weights(model)
    finder = finder_for(engine, loader()).range_test(seed=0, progress=False).verify(seed=0, progress=False)
    assert finder.rung == 'verified' and equal(before, weights(model))


def test_handlers_are_not_called_and_a_run_goes_on_as_if_never_swept():
    ends = []
    for swept in (False, True):
        engine, model, _ = supervised()
        calls = []
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: calls.append(engine.state.iteration))
        run(engine, 1)
        noted, state = list(calls), (engine.state.iteration, engine.state.epoch, engine.state.output)
        if swept: finder_for(engine, loader()).range_test(num_iter=30, progress=False)
        assert calls == noted and state == (engine.state.iteration, engine.state.epoch, engine.state.output)
        run(engine, 2)
        ends.append(weights(model))
    assert equal(*ends)


def test_a_function_of_the_users_with_a_dict():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=.1)

    def step(engine, batch):
        optimizer.zero_grad()
        loss = LOSS(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return dict(loss=loss, seen=engine.state.iteration)
    assert len(finder_for(Engine(step), loader()).range_test(num_iter=20, progress=False).curve)


def test_two_optimizers_need_a_word():
    model = net()
    first, second = (torch.optim.SGD(part.parameters(), lr=.1) for part in (model[0], model[3]))

    def step(engine, batch):
        for optimizer in (first, second): optimizer.zero_grad()
        loss = LOSS(model(batch[0]), batch[1])
        loss.backward()
        for optimizer in (first, second): optimizer.step()
        return loss.item()
    engine = Engine(step)
    with pytest.raises(ValueError, match='works with 2 optimizers'): finder_for(engine, loader())
    before = weights(model)
    finder_for(engine, loader(), optimizer=first, preserve=[second]).range_test(num_iter=20, progress=False)
    assert equal(before, weights(model))


def test_what_cannot_be_swept_gets_a_sentence():
    with pytest.raises(ValueError, match='an Engine has no batches before it runs'): finder_for(supervised()[0])
    finder = finder_for(supervised()[0], loader())
    with pytest.raises(ValueError, match='an Engine accumulates by itself'):
        finder.range_test(accumulation_steps=2, progress=False)
    with pytest.raises(ValueError, match='so that it cannot validate'):
        finder.range_test(valid_dl=loader(), num_iter=5, progress=False)


@pytest.mark.parametrize('kw', [dict(gradient_accumulation_steps=2), dict(amp_mode='amp'),
                                dict(output_transform=lambda x, y, out, loss: dict(loss=loss.item(), out=out)),
                                dict(prepare_batch=lambda batch, device, non_blocking: (batch[0]*2, batch[1]))])
def test_engines_of_other_kinds(kw):
    engine, model, _ = supervised(**kw)
    finder_for(engine, loader()).range_test(num_iter=30, progress=False).apply(.02)
    run(engine)
    other, there, _ = supervised(.02, **kw)
    run(other)
    assert equal(weights(model), weights(there))


def test_a_scheduler_among_the_handlers_goes_to_the_rate_that_was_written():
    def scheduled(lr):
        engine, model, optimizer = supervised(lr)
        decay = LRScheduler(torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1/(1 + i)))
        engine.add_event_handler(Events.ITERATION_COMPLETED, decay)
        return engine, model
    engine, model = scheduled(1e-3)
    finder_for(engine, loader()).range_test(num_iter=30, progress=False).apply(.02)
    run(engine)
    other, there = scheduled(.02)
    run(other)
    assert equal(weights(model), weights(there))


def test_a_scheduler_with_rates_of_its_own_is_named():
    engine, _, optimizer = supervised()
    own = PiecewiseLinear(optimizer, 'lr', [(0, 0.), (9, .1)])
    engine.add_event_handler(Events.ITERATION_STARTED, own)
    finder = finder_for(engine, loader()).range_test(num_iter=30, progress=False)
    with pytest.raises(ValueError, match='the PiecewiseLinear of this Engine sets the rates; make it with'):
        finder.apply(.02)
