"""A loss that is not finite: too high a rate, or data that are bad at any rate"""
import copy
import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal
from torch.utils.data import DataLoader, TensorDataset

from lrfinder_nb import LRFinder, NoSuggestion, load_curve, repeat, set_seed

WIDE = dict(start_lr=1e-6, end_lr=1e3, num_iter=200, progress=False)


def data(spoiled=()):
    "Inputs and targets of a line, the targets of some samples missing"
    x = torch.randn(512, 4, generator=torch.Generator().manual_seed(0))
    y = x @ torch.tensor([[1.], [-2.], [3.], [.5]])
    y[list(spoiled)] = math.nan
    return DataLoader(TensorDataset(x, y), 32)


def same_state(model):
    "A check that a model is what it is now"
    before = copy.deepcopy(model.state_dict())
    return lambda model: all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def finder(loss_fn=nn.functional.mse_loss, outputs=1, make=torch.optim.AdamW, **kw):
    set_seed(0)
    model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, outputs))
    return LRFinder(model, make(model.parameters()), loss_fn, **kw)


@pytest.mark.parametrize('sample', [0, 100, 511])
def test_a_missing_value_is_not_blamed_on_the_rate(sample, tmp_path):
    found = finder()
    before = same_state(found.model)
    found.range_test(data([sample]), progress=False)
    n = sample//32 + 1
    assert found.curve.ended == 'non-finite' and len(found.curve) == n and found.curve.ran_on['bad_batch'] == n
    with pytest.raises(NoSuggestion, match=f'step {n}, .*check the data, such as for missing values') as e:
        found.suggestion
    assert e.value.symptom == 'bad batch' and before(found.model)
    assert load_curve(found.save(tmp_path/'curve.json')) == found.curve
    assert 'even with the weights that the sweep began with' in str(e.value)


def test_a_missing_value_in_the_validation_data():
    found = finder().range_test(data(), valid_dl=list(data([3])), progress=False)
    assert found.diagnosis[0].name == 'bad batch' and 'at once' in found.problem


def test_a_missing_value_after_a_long_descent():
    "The curve would give a rate, and training would fail at it"
    x, y = data().dataset.tensors
    batches = [(x, y)]*120 + [(x, y*math.nan)]
    found = finder().range_test(batches, **WIDE)
    assert len(found.curve) == 121 and found.diagnosis[0].name == 'bad batch'


def test_several_runs_over_bad_data_say_it_once():
    def make():
        model = nn.Linear(4, 1)
        return model, torch.optim.AdamW(model.parameters())
    runs = repeat(make, nn.functional.mse_loss, data([70]), runs=3, progress=False)
    assert str(runs).count('missing values') == 1 and 'none of the 3 runs' in str(runs)


def normal(out, y): return -Normal(out[:, :1], out[:, 1:].exp()).log_prob(y).mean()


def covariance(out, y):
    "A Gaussian whose covariance is no longer positive definite once the outputs are large"
    spread = torch.eye(2)*.5 + .1*torch.tensor([[0., 1.], [1., 0.]])*out[:, 1:].mean()
    return -MultivariateNormal(out[:, :1].expand(-1, 2), spread).log_prob(y.expand(-1, 2)).mean()


@pytest.mark.parametrize('make', [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize('loss_fn', [normal, covariance])
def test_a_loss_that_refuses_large_numbers_ends_the_sweep(loss_fn, make):
    found = finder(loss_fn, 2, make)
    before = same_state(found.model)
    found.range_test(data(), progress=False)
    assert found.suggestion.lr > 1e-6 and before(found.model)
    found.range_test(data(), **{**WIDE, 'end_lr': 1e8}, diverge_threshold=math.inf)
    assert found.curve.ended == 'non-finite' and not math.isfinite(found.curve.losses[-1])
    assert len(found.curve) > 20 and 'bad_batch' not in found.curve.ran_on and before(found.model)


def test_trainings_that_explode_with_an_error_count_as_exploded():
    found = finder(covariance, 2).range_test(data(), progress=False)
    assert found.verify(data(), progress=False).suggestion.lr > 1e-6


def test_an_error_of_its_own_is_raised():
    "Its words speak of NaN, and it comes with the weights of the beginning, too"
    def checked(out, y):
        if y.isnan().any(): raise ValueError('found nan in the targets')
        return nn.functional.mse_loss(out, y)
    found = finder(checked)
    before = same_state(found.model)
    with pytest.raises(ValueError, match='found nan in the targets'): found.range_test(data([100]), progress=False)
    assert len(found.curve) == 3 and before(found.model)


def test_an_error_without_large_numbers_is_raised_at_once():
    calls = []
    def step(model, batch):
        calls.append(1)
        if len(calls) == 5: raise ValueError('my own')
        return nn.functional.mse_loss(model(batch[0]), batch[1])
    with pytest.raises(ValueError, match='my own'): finder(step=step, loss_fn=None).range_test(data(), **WIDE)
