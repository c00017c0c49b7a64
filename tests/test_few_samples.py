"""The model knows its few samples by heart: the loss comes down to nothing, and the rest of the curve says nothing"""
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder_nb import LossCurve, LRFinder, SmallCNN, analyse, diagnose, digits, set_seed


def learned(floor=1e-4, shift=0., ended='completed', n=150):
    "Falls from 2.3 to `floor` around 1e-3, stays there for three decades and rises around 10"
    lrs = np.logspace(-5, 1.5, n)
    x = np.log10(lrs)
    y = floor + (2.3 - floor)/(1 + 10**(3*(x + 3))) + .5*10**(3*(x - 1.2))*(ended == 'diverged')
    return LossCurve(lrs, y*np.exp(.1*np.random.default_rng(0).standard_normal(n)) + shift, ended)


@pytest.mark.parametrize('ended', ['completed', 'diverged'])
def test_a_bottom_of_nothing_does_not_count(ended):
    a = analyse(learned(ended=ended))
    assert 1e-3 < a.suggestion.lr < 2e-2 and 'almost no loss is left' in a.suggestion.why
    assert not a.suggestion.at_least and a.suggestion.interval[1] < .1
    assert 'never rose' not in [symptom.name for symptom in diagnose(a)]
    assert analyse(learned(1e-6, ended=ended)).suggestion.lr == pytest.approx(a.suggestion.lr, rel=.1)


@pytest.mark.parametrize('floor,shift', [(.1, 0), (1e-4, 1.), (1e-4, -2.)])
def test_a_bottom_of_something_counts(floor, shift):
    "Also where the loss may become negative, so that nothing is no limit"
    a = analyse(learned(floor, shift, 'diverged'))
    assert a.suggestion.lr > .03 and 'almost no loss' not in a.suggestion.why


@pytest.mark.parametrize('seed', [0, 1])
def test_few_digits(seed):
    "20 epochs of one cycle are best at 1e-2; 6e-2, the middle of the whole bottom, has 1.4 times the loss and more"
    set_seed(seed)
    model, (train_dl, _) = SmallCNN(), digits()
    few_dl = DataLoader(TensorDataset(*train_dl.dataset[:60]), 32, shuffle=True)
    finder = LRFinder(model, torch.optim.AdamW(model.parameters()), nn.CrossEntropyLoss())
    finder.range_test(few_dl, progress=False)
    assert 2e-3 < finder.suggestion.lr < 3e-2
    assert finder.verify(few_dl, progress=False).suggestion.lr < 4e-2
