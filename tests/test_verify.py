"""Verification by trainings: what it leaves behind when it fails, is stopped or runs in the background"""
import copy

import pytest
import torch
from torch import nn

from lrfinder_nb import LRFinder, SmallCNN, digits, set_seed

LOSS = nn.CrossEntropyLoss()


@pytest.fixture(scope='module')
def loaders(): return digits()


@pytest.fixture(scope='module')
def curve(loaders, tmp_path_factory):
    "File of a sweep, made once"
    return fresh().range_test(loaders[0], seed=0, progress=False).save(tmp_path_factory.mktemp('curve')/'curve.json')


def fresh():
    set_seed(0)
    model = SmallCNN(channels=(8,))
    return LRFinder(model, torch.optim.AdamW(model.parameters()), LOSS)


class Breaks:
    "A view that raises at a step"
    def __init__(self, at, error): self.at, self.error, self.n = at, error, 0

    def point(self, lr, loss):
        self.n += 1
        if self.n == self.at: raise self.error

    def finish(self, curve, error): pass


def state(finder): return copy.deepcopy((finder.model.state_dict(), finder.optimizer.state_dict()))


def test_a_failed_verification_does_not_bring_an_older_one_back(curve, loaders):
    finder = fresh().load(curve).verify(loaders[0], progress=False)
    assert finder.rung == 'verified'
    explorer = finder.explore(rule='steepest')
    explorer.use()
    assert finder.rung == 'sweep' and finder.suggestion.rule == 'steepest'
    before = state(finder)
    with pytest.raises(OSError): finder.verify(loaders[0], progress=Breaks(3, OSError('disk on fire')))
    assert finder.rung == 'sweep' and finder.suggestion.rule == 'steepest'
    assert str(state(finder)) == str(before)


def test_ctrl_c_keeps_what_is_finished(curve, loaders):
    finder = fresh().load(curve)
    before = state(finder)
    finder.verify(loaders[0], progress=Breaks(60, KeyboardInterrupt()))
    assert len(finder.trials) == 1 and finder.rung == 'verified' and finder.ended == 'stopped'
    assert str(state(finder)) == str(before)


def test_ctrl_c_before_the_first_step_is_raised(curve, loaders):
    def pressed():
        raise KeyboardInterrupt
        yield
    finder = fresh().load(curve)
    with pytest.raises(KeyboardInterrupt): finder.verify(pressed(), progress=False)
    assert finder.trials is None and finder.rung == 'sweep'


@pytest.mark.parametrize('full', [False, True])
def test_in_the_background_as_in_the_foreground(curve, loaders, full):
    whole = dict(valid_dl=loaders[1], epochs=1, most=2) if full else {}
    one, two = (fresh().load(curve) for _ in range(2))
    before = state(two)
    one.verify(loaders[0], seed=0, progress=False, **whole)
    two.verify(loaders[0], seed=0, progress=False, background=True, **whole)
    assert two.suggestion == one.suggestion and two.rung == one.rung
    assert str(state(two)) == str(before)


def test_a_metric_that_nobody_measures_is_refused_before_anything_is_trained(curve, loaders):
    finder = fresh().load(curve)
    with pytest.raises(ValueError, match='needs metrics='):
        finder.verify(*loaders, epochs=1, judge='accuracy', progress=Breaks(1, AssertionError('trained')))


def test_the_copy_stays_where_the_user_says(curve, loaders, monkeypatch):
    from lrfinder_nb.engine import verify
    seen = []
    real = verify.preserved
    monkeypatch.setattr(verify, 'preserved', lambda *things, on='auto': seen.append(on) or real(*things, on=on))
    finder = fresh()
    finder = LRFinder(finder.model, finder.optimizer, LOSS, preserve_on='disk').load(curve)
    finder.verify(*loaders, epochs=1, most=2, progress=False)
    assert set(seen) == {'disk'}
