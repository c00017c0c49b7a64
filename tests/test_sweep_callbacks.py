"""What looks on while a sweep runs"""
import dataclasses

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


def test_the_logger_of_trainings_writes_a_sweep():
    rows = []
    finder = swept(callbacks=[TrainingLog(lambda values, step: rows.append((step, values)))], num_iter=12)
    assert [step for step, _ in rows] == list(range(len(finder.curve)))
    assert [values['loss'] for _, values in rows] == list(finder.curve.losses)


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
