"""What scripts written for torch-lr-finder rely on, with its name aliased"""
import sys

import matplotlib
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder_nb.adapters import torch_lr_finder

matplotlib.use('agg')


@pytest.fixture(autouse=True)
def aliased(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch_lr_finder', torch_lr_finder)
    monkeypatch.setitem(sys.modules, 'torch_lr_finder.lr_finder', torch_lr_finder.lr_finder)


def parity(n=512, extra=0):
    "Bits and their parity, with further columns where asked"
    bits = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (n, 8))).float()
    return TensorDataset(bits, bits.sum(1, keepdim=True) % 2, *(torch.zeros(n) for _ in range(extra)))


def finder(two_groups=False, **kw):
    from torch_lr_finder import LRFinder
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 1))
    groups = [dict(params=model[0].parameters(), lr=1e-3), dict(params=model[1].parameters(), lr=1e-5)]
    params = groups if two_groups else model.parameters()
    return LRFinder(model, torch.optim.SGD(params, lr=1e-5, momentum=.5), nn.MSELoss(), **kw)


@pytest.mark.parametrize('two_groups', [False, True])
@pytest.mark.parametrize('extra', [0, 2])
@pytest.mark.parametrize('valid', [False, True])
def test_run(two_groups, extra, valid):
    f = finder(two_groups)
    start = f.optimizer.param_groups[0]['lr']
    assert f.range_test(DataLoader(parity(extra=extra)), DataLoader(parity(8)) if valid else None, end_lr=.1) is None
    assert max(f.history['lr']) >= start and len(f.history['lr']) == len(f.history['loss']) == 100
    assert [g['lr'] for g in f.optimizer.param_groups] == ([1e-3, 1e-5] if two_groups else [1e-5])


@pytest.mark.parametrize('two_groups', [False, True])
@pytest.mark.parametrize('kw', [{}, dict(memory_cache=False)])
def test_reset(two_groups, kw):
    f = finder(two_groups, **kw)
    before = [p.detach().clone() for p in f.model.parameters()]
    rates = [g['lr'] for g in f.optimizer.param_groups]
    f.range_test(DataLoader(parity()), end_lr=.1)
    assert all(map(torch.equal, before, f.model.parameters()))
    with torch.no_grad(): f.model[0].weight.zero_()
    f.reset()
    assert all(map(torch.equal, before, f.model.parameters())) and rates == [g['lr'] for g in f.optimizer.param_groups]


@pytest.mark.parametrize('step_mode, end_lr, lrs', [('linear', 5e-5, [1e-5, 2e-5, 3e-5, 4e-5, 5e-5]),
                                                    ('exp', .1, [1e-5, 1e-4, 1e-3, 1e-2, .1])])
def test_history(step_mode, end_lr, lrs):
    f = finder()
    f.range_test(DataLoader(parity()), num_iter=5, step_mode=step_mode, end_lr=end_lr)
    assert f.history['lr'] == pytest.approx(lrs) and f.best_loss == min(f.history['loss'])


def test_losses_are_smoothed_as_there():
    f, raw = finder(), finder()
    f.range_test(DataLoader(parity(), 32), num_iter=20, end_lr=.1)
    raw.range_test(DataLoader(parity(), 32), num_iter=20, end_lr=.1, smooth_f=0)
    expected = [raw.history['loss'][0]]
    for loss in raw.history['loss'][1:]: expected.append(.05*loss + .95*expected[-1])
    assert f.history['loss'] == pytest.approx(expected) and raw.history['loss'] == pytest.approx(list(f.curve.losses))


def test_accumulation_calls_the_criterion_for_each_batch():
    f, calls = finder(), []
    criterion = f.criterion
    f.criterion = lambda *args: calls.append(1) or criterion(*args)
    f.range_test(DataLoader(parity(), 8), num_iter=10, accumulation_steps=4, end_lr=.1)
    assert len(calls) == 40


def test_loader_iterators():
    from torch_lr_finder.lr_finder import DataLoaderIter, TrainDataLoaderIter, ValDataLoaderIter
    loader = DataLoader(parity(256), 32)
    train, valid = TrainDataLoaderIter(loader), ValDataLoaderIter(loader)
    assert isinstance(train, DataLoaderIter) and isinstance(valid, DataLoaderIter)
    for _ in range(9): next(train)
    assert len([next(valid) for _ in range(8)]) == 8
    with pytest.raises(StopIteration): next(valid)
    assert len(list(iter(valid))) == 8


SEEN = []       # a list in a closure would be put back


def test_loader_iterators_in_a_range_test():
    from torch_lr_finder import TrainDataLoaderIter, ValDataLoaderIter
    SEEN.clear()
    class Train(TrainDataLoaderIter):
        def inputs_labels_from_batch(self, batch): return SEEN.append('train') or tuple(batch[:2])
    class Valid(ValDataLoaderIter):
        def inputs_labels_from_batch(self, batch): return SEEN.append('valid') or tuple(batch[:2])
    f = finder()
    f.range_test(Train(DataLoader(parity(), 8)), val_loader=Valid(DataLoader(parity(32), 8)), num_iter=5, end_lr=.1)
    assert (SEEN.count('train'), SEEN.count('valid')) == (5, 20)


def test_other_loaders_are_refused():
    class Other:
        def __iter__(self): return iter(())
    train = DataLoader(parity())
    with pytest.raises(ValueError, match='`train_loader` has unsupported type'): finder().range_test(Other())
    with pytest.raises(ValueError, match='`val_loader` has unsupported type'): finder().range_test(train, Other())


@pytest.mark.parametrize('num_iter', [0, 1])
@pytest.mark.parametrize('step_mode', ['exp', 'linear'])
def test_num_iter(num_iter, step_mode):
    from torch_lr_finder.lr_finder import ExponentialLR, LinearLR
    f = finder()
    with pytest.raises(ValueError, match='num_iter'):
        f.range_test(DataLoader(parity()), num_iter=num_iter, step_mode=step_mode, end_lr=5e-5)
    kind = ExponentialLR if step_mode == 'exp' else LinearLR
    with pytest.raises(ValueError, match='num_iter'): kind(f.optimizer, 1., num_iter)


def test_a_scheduler_is_refused():
    f = finder()
    torch.optim.lr_scheduler.StepLR(f.optimizer, 3)
    with pytest.raises(RuntimeError, match='scheduler'): f.range_test(DataLoader(parity()))


@pytest.mark.parametrize('suggest_lr', [False, True])
@pytest.mark.parametrize('skip_start', [0, 5, 10])
@pytest.mark.parametrize('skip_end', [0, 5, 10])
def test_plot(suggest_lr, skip_start, skip_end):
    from matplotlib.figure import Figure
    f, ax = finder(), Figure().subplots()
    f.range_test(DataLoader(parity(), 8), num_iter=11, end_lr=.1)
    draw = lambda: f.plot(skip_start=skip_start, skip_end=skip_end, suggest_lr=suggest_lr, ax=ax)
    if suggest_lr and skip_start + skip_end + 2 > 11:
        with pytest.raises(RuntimeError, match='Need at least'): draw()
        return
    drawn = draw()
    assert (drawn[0] if suggest_lr else drawn) is ax
    assert len(ax.lines) == 1 and len(ax.collections) == suggest_lr
    part = slice(skip_start, -skip_end or None)
    x, y = ax.lines[0].get_data()
    assert np.allclose(x, f.history['lr'][part]) and np.allclose(y, f.history['loss'][part])


@pytest.mark.parametrize('losses, lr', [([10, 8, 4, 1, 4, 16], 2), ([1, 0, 1, 2, 3, 4], 0), ([0, 1, 2, 3, 4, 3], 5)])
def test_the_suggestion_is_the_steepest_descent(losses, lr):
    f = finder()
    f.history = dict(lr=range(6), loss=losses)
    assert f.plot(skip_start=0, skip_end=0)[1] == lr
