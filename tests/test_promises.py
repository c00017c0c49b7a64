"""What the library says before it sweeps and what it finds afterwards: slips, checks, places, threads"""
import copy
import functools
import pickle
import threading
import time
import warnings
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lrfinder_nb.engine import keep
from lrfinder_nb.engine.background import NOTICE
from lrfinder_nb.engine.finder import LRFinder
from lrfinder_nb.engine.keep import place
from lrfinder_nb.engine.repeat import repeat
from lrfinder_nb.engine.state import Seen, preserved, snapshot

torch.set_num_threads(1)
SWEEP = dict(num_iter=6, start_lr=1e-5, end_lr=1., progress=False)
X, Y = torch.randn(8, 4), torch.arange(8) % 2


def net(out=2): return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, out))


def finder(model=None, loss_fn=F.cross_entropy, **kw):
    model = model or net()
    return LRFinder(model, torch.optim.AdamW(model.parameters(), 1e-3), loss_fn, **kw)


def sweep(batches=((X, Y),), model=None, loss_fn=F.cross_entropy, step=None, **kw):
    loader = list(batches) if isinstance(batches, tuple) else batches
    return finder(model, loss_fn, step=step).range_test(loader, **{**SWEEP, **kw})


# The commonest slips, each with its remedy, and torch's own error as the cause

class Head(nn.Module):
    "A model that returns an object with logits"
    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x): return SimpleNamespace(logits=self.net(x))


def adam(): return torch.optim.Adam(net().parameters())


LOGITS, LIKELY = F.binary_cross_entropy_with_logits, torch.rand(8, 1)
SLIPS = dict(
    loss_class=('CrossEntropyLoss(...)', lambda: sweep(loss_fn=nn.CrossEntropyLoss)),
    loader_class=('DataLoader(...)', lambda: sweep(DataLoader)),
    model_class=('Linear(...)', lambda: LRFinder(nn.Linear, None)),
    no_loss_fn=('pass a loss_fn', lambda: sweep(loss_fn=None)),
    three_parts=('pass step=', lambda: sweep(((X, Y, torch.ones(8)),))),
    more_fields=('pass step=', lambda: sweep((dict(x=X, mask=Y, labels=Y),))),
    output=('out.logits', lambda: sweep(model=Head())),
    float_labels=('y.long()', lambda: sweep(((X, Y.float()),))),
    column_labels=('y.squeeze(1)', lambda: sweep(((X, Y[:, None]),))),
    missing_class=('got the class 5', lambda: sweep(((X, Y + 5 - Y),))),
    whole_labels=('y.float()', lambda: sweep(((X, Y[:, None]),), net(1), LOGITS)),
    doubles=('x.float()', lambda: sweep(((X.double(), Y),))),
    pixels=('x.float()/255', lambda: sweep(((X.byte(), Y),))),
    halves=("amp='bf16'", lambda: sweep(model=net().bfloat16())),
    array=('torch.as_tensor', lambda: sweep(((X.numpy(), Y),))),
    text=('tokenizer', lambda: sweep(((['a', 'b'], Y),))),
    one_sample=('drop_last=True', lambda: sweep(((X[:1], Y[:1]),), nn.Sequential(net(), nn.BatchNorm1d(2)))),
    used_up=('make a new one', lambda: sweep(iter([]))),
    doubles_in_the_model=('model.float()', lambda: sweep(model=net().double())),
    shares=('y.argmax(1)', lambda: sweep(((X, F.one_hot(Y)),))),
    no_indices=('x.long()', lambda: sweep(model=nn.Sequential(nn.Embedding(9, 2), nn.Flatten(), nn.Linear(8, 2)))),
    preserve_one=('preserve=[...]', lambda: finder(preserve=torch.optim.SGD(net().parameters()))),
    preserve_dict=('dict', lambda: finder(preserve=[dict(a=net())])),
    preserve_list=('list', lambda: finder(preserve=[[net()]])),
    preserve_word=('str', lambda: finder(preserve=['scheduler'])),
    preserve_on=("'gpu'", lambda: finder(preserve_on='gpu').range_test([(X, Y)], **SWEEP)),
    num_iter=('pass 12', lambda: sweep(num_iter=12.0)),
    array_labels=('torch.as_tensor', lambda: sweep(((X, Y.numpy()),))),
    list_labels=('torch.as_tensor', lambda: sweep(((X, Y.tolist()),))),
    list_inputs=('torch.as_tensor', lambda: sweep(((X.tolist(), Y),))),
    whole_inputs=('x.float()', lambda: sweep(((X.long(), Y),))),
    no_probabilities=('with_logits', lambda: sweep(((1000*X, LIKELY),), net(1), F.binary_cross_entropy)),
    repeat_model=('def make():', lambda: repeat(net(), F.cross_entropy, [(X, Y)], progress=False)),
    repeat_class=('the class Linear', lambda: repeat(nn.Linear, F.cross_entropy, [(X, Y)], progress=False)),
    repeat_pair_turned=('return the pair', lambda: repeat(lambda: (adam(), net()), None, [(X, Y)], progress=False)),
    max_lr=('max_lr=finder.suggestion', lambda: finder().fit_one_cycle([(X, Y)], max_lr=finder())),
    checkpoint=("'run.pt'", lambda: finder().fit_one_cycle([(X, Y)], max_lr=.1, checkpoint='')),
    metric_name=('another name', lambda: finder().fit_one_cycle([(X, Y)], [(X, Y)], max_lr=.1, metrics=dict(lr=len))))
WITH_CAUSE = {'no_loss_fn', 'three_parts', 'more_fields', 'output', 'float_labels', 'doubles', 'array', 'text',
              'one_sample', 'shares', 'no_indices', 'array_labels', 'list_inputs', 'whole_inputs', 'no_probabilities'}


@pytest.mark.parametrize('slip', SLIPS)
def test_slips(slip):
    remedy, call = SLIPS[slip]
    with pytest.raises((TypeError, ValueError)) as e: call()
    assert remedy in str(e.value) and '\n' not in str(e.value) and len(str(e.value)) < 300, str(e.value)
    if slip in WITH_CAUSE: assert isinstance(e.value.__cause__, Exception)


def test_an_error_of_the_users_own_is_not_explained():
    def step(model, batch): raise ZeroDivisionError('mine')
    with pytest.raises(ZeroDivisionError, match='mine') as e: sweep(step=step)
    assert e.value.__cause__ is None


# What a sweep has changed and could not put back is named

class Cached(Dataset):
    "A data set with a cache of functools, which cannot be turned back"
    def __init__(self): self.read = functools.lru_cache(None)(lambda i: X[i] + torch.randn(4))
    def __len__(self): return 8
    def __getitem__(self, i): return self.read(i), Y[i]


CALLS, BATCHES = 0, [(X, Y)]


def counting(model, batch):
    global CALLS
    CALLS += 1
    return F.cross_entropy(model(batch[0]), batch[1])


class Endless:
    "A loader whose passes go on where the last one stopped"
    def __init__(self):
        self.rest = self.all()
        next(self.rest)

    def all(self):
        while True:
            for i in range(0, 8, 2): yield X[i:i + 2], Y[i:i + 2]

    def __iter__(self): return islice(self.rest, 3)


@pytest.mark.parametrize('name, call', [
    ('train_dl.rest', lambda: sweep(Endless(), check=True, num_iter=5)),
    ('global CALLS', lambda: sweep(step=counting, check=True)),
    ('read', lambda: sweep(DataLoader(Cached(), 4), check=True))])
def test_what_could_not_be_put_back_is_named(name, call):
    with pytest.warns(RuntimeWarning, match='could not be put back') as caught: call()
    assert name in str(caught[0].message)


def test_nothing_is_said_where_all_is_back():
    model = nn.Sequential(net(), nn.BatchNorm1d(2), nn.Dropout())
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        sweep(DataLoader(TensorDataset(X, Y), 4, shuffle=True), model, check=True)


def test_one_part_that_cannot_be_put_back_keeps_no_other_from_it():
    class Evil(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin, self.table = nn.Linear(4, 2), np.zeros(2)
        def forward(self, x):
            self.table.flags.writeable = False
            return self.lin(x)
    model = Evil()
    old, frozen = model.lin.weight.detach().clone(), model.train()
    with pytest.warns(RuntimeWarning, match=r'could not put back model\.table'): sweep(model=model)
    assert torch.equal(model.lin.weight, old) and model.training and frozen.lin.weight.grad is None


# Where the copy stays

def test_copies_go_where_there_is_room(monkeypatch):
    cpu, card = torch.device('cpu'), torch.device('cuda', 0)
    for free, where in ((10, 'device'), (9, 'cpu')): assert place('auto', {card: 5}, lambda d: free)[card] == where
    seen = []
    monkeypatch.setattr(keep, 'free_bytes', lambda d: 100)       # a small device
    monkeypatch.setattr(keep, 'copied', lambda x, where: (seen.append(where), x.clone())[1])
    for size, where in ((10, 'device'), (20, 'cpu')):     # 40 and 80 bytes
        seen.clear()
        snapshot(nn.Linear(1, size, bias=False), Seen())
        assert set(seen) == {where}, (size, seen)


def test_a_fresh_optimizer_costs_no_copy_of_moments(monkeypatch):
    model, sizes = net(), []
    monkeypatch.setattr(keep, 'copied', lambda x, where: (sizes.append(x.numel()), x.clone())[1])
    with preserved(model, torch.optim.AdamW(model.parameters())): pass
    assert sum(sizes) == sum(p.numel() for p in model.parameters())


def test_what_is_shared_is_copied_once(monkeypatch):
    model, sizes = net(), []
    monkeypatch.setattr(keep, 'copied', lambda x, where: (sizes.append(x.numel()), x.clone())[1])
    with preserved(model, torch.optim.SGD(model.parameters()), model[0], [p.data for p in model.parameters()]): pass
    assert sum(sizes) == sum(p.numel() for p in model.parameters())


def test_a_large_data_set_is_not_copied(monkeypatch):
    seen = []
    monkeypatch.setattr(keep, 'copied', lambda x, where: (seen.append(tuple(x.shape)), x.clone())[1])
    with preserved(DataLoader(TensorDataset(torch.zeros(1000, 10), torch.zeros(1000)), 4)): pass
    assert (1000, 10) not in seen


# Background and threads

class Slow(list):
    "Batches that take their time"
    def __iter__(self):
        for b in super().__iter__():
            time.sleep(.01)
            yield b


def in_background(use):
    "What `use(finder)` saw of a model that is swept in the background, and what is there afterwards"
    f = finder()
    old = [p.detach().clone() for p in f.model.parameters()]
    f.range_test(Slow([(X, Y)]*4), background=True, **{**SWEEP, 'num_iter': 20})
    time.sleep(.05)
    seen = use(f)
    f.wait()
    assert all(map(torch.equal, old, f.model.parameters())) and not f.optimizer.state
    assert f.optimizer.param_groups[0]['lr'] == 1e-3 and len(f.curve) >= 2
    return seen, old


def test_a_state_dict_waits_for_the_end():
    seen, old = in_background(lambda f: f.model.state_dict())
    assert torch.equal(seen['0.weight'], old[0])


def test_a_part_of_the_model_waits_for_the_end():
    seen, old = in_background(lambda f: f.model[0](X))
    assert torch.equal(seen, F.linear(X, old[0], old[1]))


READERS = dict(
    parameters=lambda f: [*f.model.parameters()][0], named=lambda f: dict(f.model.named_parameters())['0.weight'],
    copied=lambda f: copy.deepcopy(f.model)[0].weight, pickled=lambda f: pickle.loads(pickle.dumps(f.model))[0].weight,
    part=lambda f: copy.deepcopy(f.model[0]).weight, moved=lambda f: f.model.to('cpu')[0].weight,
    turned=lambda f: f.model.eval().train()[0].weight, cleared=lambda f: f.optimizer.zero_grad() or f.model[0].weight)


@pytest.mark.parametrize('how', READERS)
def test_who_reads_copies_or_changes_a_model_waits_for_the_end(how):
    def use(f):
        assert f._task.running
        found = READERS[how](f).detach().clone()
        assert not f._task.running
        return found
    seen, old = in_background(use)
    assert torch.equal(seen, old[0])


def test_weights_that_are_loaded_meanwhile_are_those_afterwards():
    fresh = net().state_dict()
    f = finder().range_test(Slow([(X, Y)]*4), background=True, **{**SWEEP, 'num_iter': 20})
    f.model.load_state_dict(fresh)
    assert not f._task.running and torch.equal(f.model[0].weight, fresh['0.weight'])


def test_nothing_is_left_on_a_model_that_was_swept_in_the_background():
    f = finder()
    old = [dict(vars(x)) for x in (*f.model.modules(), f.optimizer)]
    f.range_test([(X, Y)], background=True, **SWEEP).wait()
    assert [dict(vars(x)) for x in (*f.model.modules(), f.optimizer)] == old and pickle.dumps(f.model)


class Shadowed(nn.Linear):
    "A model with a list that is called like a method, and one method of its own"
    def __init__(self):
        super().__init__(4, 2)
        self.buffers, self.eval = [], lambda: 'mine'

    def forward(self, x):
        self.buffers.append(1)
        return super().forward(x)


def test_attributes_that_are_called_like_methods_stay():
    f = finder(Shadowed()).range_test([(X, Y)], background=True, **SWEEP)
    assert len(f.curve) == SWEEP['num_iter'] and f.model.buffers == [] and f.model.eval() == 'mine'


def test_what_does_not_wait_is_said():
    loader = DataLoader(TensorDataset(X, Y), 4)
    # not checked: the loader draws a random number just when the sweep may look at them
    f = finder().range_test(Slow([(X, Y)]*4), background=True, check=False, **{**SWEEP, 'num_iter': 20})
    assert len(list(loader)) == 2 and f.model[0].weight.isfinite().all() and f._task.running
    assert all(word in NOTICE for word in ('parameters', 'loader', 'random numbers', 'undone when the sweep ends'))
    f.wait()


class Counter:
    "A view of the user's own, which counts"
    n, ended = 0, False
    def point(self, lr, loss): self.n += 1
    def finish(self, curve, error): self.ended = True


def test_what_shows_a_background_sweep_is_not_put_back_with_the_model():
    f, view = finder(), Counter()
    f.range_test([(X, Y)], background=True, **{**SWEEP, 'progress': view})
    f.wait()
    assert view.n == len(f.curve) and view.ended


@pytest.mark.filterwarnings('error:the sweep has changed')
def test_a_check_in_the_background_raises_no_false_alarm():
    f = finder()
    f.range_test(DataLoader(TensorDataset(X, Y), 4, shuffle=True), background=True, check=True, progress=False)
    assert len(f.curve) > 20


def second(model, opt): return LRFinder(model, opt, F.cross_entropy).range_test([(X, Y)], **SWEEP)


@pytest.mark.filterwarnings('ignore:.*torch.jit')
def test_scripted_models_in_the_background():
    part = torch.jit.script(nn.Linear(4, 4))
    f = finder(nn.Sequential(part, net())).range_test([(X, Y)], background=True, **SWEEP)
    assert len(f.curve) > 1
    scripted = torch.jit.script(net())
    with pytest.raises(ValueError, match='torch.jit.script'):
        finder(scripted).range_test([(X, Y)], background=True, **SWEEP)
    assert len(finder(scripted).range_test([(X, Y)], **SWEEP).curve) > 1


@pytest.mark.parametrize('use', [lambda part: part.step(), lambda part: part.state_dict()], ids=['step', 'state'])
def test_each_of_several_optimizers_waits_for_the_end(use):
    model = net()
    parts = [torch.optim.SGD(layer.parameters(), .1) for layer in (model[0], model[2])]
    f = LRFinder(model, parts, F.cross_entropy)
    f.range_test(Slow([(X, Y)]*4), background=True, **{**SWEEP, 'num_iter': 20})
    assert f._task.running
    use(parts[1])
    assert not f._task.running


def test_a_second_sweep_through_another_module_waits():
    f, _ = in_background(lambda f: second(nn.Sequential(f.model), f.optimizer))
    assert f.curve.ended == 'completed'


def test_a_second_sweep_from_another_thread_waits():
    def use(f):
        found = []
        threads = [threading.Thread(target=lambda: found.append(second(f.model, f.optimizer))) for _ in range(2)]
        for t in threads: t.start()
        for t in threads: t.join()
        return found
    found, _ = in_background(use)
    assert np.array_equal(found[0].curve.losses, found[1].curve.losses)


def test_sweeps_of_two_threads_take_turns():
    f = finder()
    old, found = [p.detach().clone() for p in f.model.parameters()], []
    threads = [threading.Thread(target=lambda: found.append(second(f.model, f.optimizer))) for _ in range(3)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert all(map(torch.equal, old, f.model.parameters())) and not f.optimizer.state
    assert len({tuple(x.curve.losses) for x in found}) == 1


# Ctrl-C

def test_ctrl_c_before_the_first_step_is_raised():
    class Pressed:
        def __iter__(self): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): sweep(Pressed())


@pytest.mark.parametrize('workers', [0, 2])
def test_no_thread_outlives_a_sweep(workers):
    kw = dict(num_workers=workers, persistent_workers=workers > 0)
    loader, calls = DataLoader(TensorDataset(X, Y), 4, **kw), [0]
    list(loader)
    before = threading.active_count()

    def step(model, batch):
        calls[0] += 1
        if calls[0] == 4: raise KeyboardInterrupt
        return F.cross_entropy(model(batch[0]), batch[1])
    f = sweep(loader, step=step)
    assert f.curve.ended == 'stopped' and len(list(loader)) == 2
    end = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < end: time.sleep(.05)    # queues end slowly
    assert threading.active_count() == before
