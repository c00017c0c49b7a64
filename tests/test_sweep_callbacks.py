"""What looks on while a sweep runs"""
import dataclasses
import sys
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder_nb import Callback, EarlyStopping, LRFinder
from lrfinder_nb.train.callbacks import TrainingLog


def swept(**kw):
    "A finder after a sweep with these arguments, which has put everything back"
    torch.manual_seed(0)
    x = torch.randn(128, 8)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    before = [p.detach().clone() for p in model.parameters()]
    finder = LRFinder(model, torch.optim.Adam(model.parameters()), nn.MSELoss())
    loader = DataLoader(TensorDataset(x, x[:, :1]*x[:, 1:2]), 16)
    try: finder.range_test(loader, progress=False, seed=0, **kw).wait()
    finally: assert all(map(torch.equal, before, model.parameters()))
    return finder


class Noting(Callback):
    def __init__(self): self.seen, self.now = [], None
    def begin(self, now): self.seen.append(('begin', now.step))
    def step(self, now): self.seen.append(('step', now.step))
    def end(self, now):
        self.seen.append(('end', now.step))
        self.now = now


@pytest.mark.parametrize('kw', [{}, dict(num_iter=30), dict(num_iter=30, background=True), dict(group='each')])
def test_begin_steps_and_end_are_told_in_order(kw):
    noting = Noting()
    finder = swept(callbacks=[noting], **kw)
    kinds = [kind for kind, _ in noting.seen]
    assert kinds == ['begin', *['step']*(len(kinds) - 2), 'end']
    assert [n for kind, n in noting.seen if kind == 'step'] == list(range(1, len(kinds) - 1))
    assert noting.now.losses[-len(finder.curve):] == [*finder.curve.losses]
    assert noting.now.lrs[-len(finder.curve):] == [*finder.curve.lrs]


def test_callbacks_change_nothing():
    assert swept(callbacks=[Noting()]).curve == swept().curve


def test_a_callback_ends_the_sweep():
    class Enough:
        def step(self, now):
            if now.step == 7: now.stop('enough')
    finder = swept(callbacks=Enough(), num_iter=30)
    assert (finder.ended, len(finder.curve)) == ('stopped', 7)


def test_the_view_of_a_sweep_is_frozen():
    noting = Noting()
    swept(callbacks=[noting], num_iter=5)
    with pytest.raises(dataclasses.FrozenInstanceError): noting.now.model = None


def test_a_failing_callback_fails_the_sweep_and_all_comes_back():
    class Failing:
        def step(self, now):
            if now.step == 3: raise RuntimeError('mine')
    noting = Noting()
    with pytest.raises(RuntimeError, match='mine'): swept(callbacks=[Failing(), noting], num_iter=20)
    assert noting.seen[-1][0] == 'end'


@pytest.mark.parametrize('kw', [dict(start_lr=1e-6, end_lr=1), {}, dict(start_lr=1e-6, end_lr=1, background=True)])
def test_the_loggers_of_trainings_write_a_sweep_and_its_suggestion(kw):
    rows = []
    finder = swept(log_to=lambda values, step: rows.append((step, values)), **kw)
    *steps, (last, said) = rows
    assert [step for step, _ in rows] == list(range(len(steps) + 1)) and last == len(steps)
    assert [v['sweep/loss'] for _, v in steps][-len(finder.curve):] == list(finder.curve.losses)
    assert [v['sweep/lr'] for _, v in steps][-len(finder.curve):] == list(finder.curve.lrs)
    assert said == {'sweep/suggested_lr': finder.suggestion.lr}


def test_a_sweep_without_an_answer_is_written_without_one():
    rows = []
    assert swept(callbacks=[TrainingLog(lambda values, step: rows.append(values))], num_iter=2).problem
    assert [set(values) for values in rows] == [{'sweep/loss', 'sweep/lr'}]*2


def test_a_sweep_in_tensorboard(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finder = swept(log_to=['tensorboard'], start_lr=1e-6, end_lr=1)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    written = EventAccumulator(str(next(tmp_path.glob('runs/*')))).Reload()
    assert [x.value for x in written.Scalars('sweep/loss')] == pytest.approx(list(finder.curve.losses))
    assert written.Scalars('sweep/suggested_lr')[0].value == pytest.approx(finder.suggestion.lr)


def test_a_logger_that_is_not_there_is_refused_before_the_sweep(monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    noting = Noting()
    with pytest.raises(ImportError, match='pip install wandb'): swept(log_to='wandb', callbacks=[noting])
    with pytest.raises(ValueError, match="log_to must be 'tensorboard'"): swept(log_to='paper', callbacks=[noting])
    assert not noting.seen


class Strict:
    "A run that drops what comes at an earlier step, as wandb does"
    def __init__(self): self.step, self.kept = 0, []
    def log(self, values, step):
        if step < self.step: return
        self.step = step
        self.kept.append(values)
    def finish(self): raise AssertionError('the run was closed')


def test_a_sweep_and_a_training_in_one_open_run_lose_nothing(monkeypatch):
    wandb = ModuleType('wandb')
    wandb.run = Strict()
    monkeypatch.setitem(sys.modules, 'wandb', wandb)
    finder = swept(log_to='wandb', start_lr=1e-6, end_lr=1)
    data = [(torch.randn(16, 8), torch.randn(16, 1)) for _ in range(5)]
    history = finder.fit_one_cycle(data, epochs=2, max_lr=.01, log_to='wandb', progress=False)
    names = [name for values in wandb.run.kept for name in values]
    assert names.count('sweep/loss') == len(finder.curve) and names.count('sweep/suggested_lr') == 1
    assert [v['loss'] for v in wandb.run.kept if 'loss' in v] == list(history.losses)


def test_a_callback_without_a_moment_in_a_sweep_is_quiet():
    assert len(swept(callbacks=[EarlyStopping()], num_iter=12).curve)


@pytest.mark.parametrize('wrong,said', [(3, 'a callback needs one of the methods'), (Noting, 'got the class Noting')])
def test_what_is_no_callback_gets_a_sentence(wrong, said):
    with pytest.raises(TypeError, match=said): swept(callbacks=[wrong])


def test_another_view_is_told_as_well():
    class View:
        points = 0
        def point(self, lr, loss): self.points += 1
        def finish(self, curve, error): self.curve = curve
    view, noting = View(), Noting()
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    finder = LRFinder(model, torch.optim.SGD(model.parameters()), nn.MSELoss())
    finder.range_test([(torch.randn(16, 8), torch.randn(16, 1))], num_iter=9, progress=view, callbacks=[noting])
    assert view.points == len(finder.curve) and view.curve is finder.curve
