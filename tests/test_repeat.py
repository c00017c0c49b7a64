"""Several runs: their bar, their silence, their notes, and answers that rest on short trainings"""
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder_nb import compare, repeat, sources
from lrfinder_nb.engine import progress
from lrfinder_nb.engine.runs import RunPlan, one_run

torch.manual_seed(0)
X = torch.randn(256, 4)
Y = (X[:, :1]*X[:, 1:2]).tanh()
DL = DataLoader(TensorDataset(X, Y), batch_size=32, shuffle=True)
MSE = nn.functional.mse_loss


def make(optimizer=torch.optim.Adam, lr=1e-3):
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
    return model, optimizer(model.parameters(), lr=lr)


@pytest.fixture
def shown(monkeypatch):
    "(position, total) at each update of the bar"
    from fastprogress.fastprogress import ConsoleProgressBar
    seen, update = [], ConsoleProgressBar.update
    def watched(bar, value):
        seen.append((value, bar.total))
        update(bar, value)
    monkeypatch.setattr(ConsoleProgressBar, 'update', watched)
    monkeypatch.setattr('lrfinder_nb.engine.runs.bar_of', progress.Bar)
    return seen


@pytest.mark.parametrize('kw', [{}, dict(verify=True), dict(num_iter=60), dict(runs='auto', within=50.)])
def test_the_bar_ends_at_100_percent(shown, kw):
    kw = dict(runs=2) | kw
    runs = repeat(make, MSE, DL, **kw)
    assert runs.runs[-1].curve.ended in ('diverged', 'completed')
    position, total = shown[-1]
    assert position == total > 0
    assert all(value <= total for value, total in shown)


def test_the_bar_ends_at_100_percent_where_the_last_run_diverges_early(shown):
    runs = repeat(make, MSE, DL, 2, num_iter=100, end_lr=1e6)
    assert runs.runs[-1].curve.ended == 'diverged'
    assert shown[-1][0] == shown[-1][1]


def test_verified_runs_answer_with_their_trials():
    runs = repeat(make, MSE, DL, 3, verify=True, progress=False)
    plain = repeat(make, MSE, DL, 3, progress=False)
    assert runs.curves == plain.curves
    assert [a.found.lr for a in runs.runs] == [t.lr for t in runs.trials] != [a.found.lr for a in plain.runs]
    assert runs.steps == plain.steps + sum(t.steps for t in runs.trials)
    assert str(runs.steps) in runs.notes[0]
    assert runs.analyse(rule='basin').lr == runs.lr
    assert 'recommended' in runs._repr_html_()
    assert runs.analyse(rule='steepest').trials is runs.trials


def test_a_run_is_the_same_alone():
    runs = repeat(make, MSE, DL, 2, verify=True, progress=False)
    alone = one_run(RunPlan(make, MSE, DL, True), 1)
    assert (alone.curve, alone.trials) == (runs.runs[1].curve, runs.trials[1])


def test_ctrl_c_in_the_trials_keeps_the_runs_before(monkeypatch):
    import lrfinder_nb.engine.verify as module
    calls, run_trial = [], module.run_trial
    def pressed(*args, **kw):
        calls.append(1)
        if len(calls) == 7: raise KeyboardInterrupt
        return run_trial(*args, **kw)
    monkeypatch.setattr(module, 'run_trial', pressed)
    runs = repeat(make, MSE, DL, 5, verify=True, progress=False)
    assert 1 <= len(runs) < 5


def test_a_single_sweep_without_a_rate_has_no_trials():
    runs = repeat(make, MSE, DL, 2, end_lr=1e-6, verify=True, progress=False)
    assert runs.trials == (None, None) and runs.problem


def test_compare_and_sources_verify():
    variants = dict(a={}, b=dict(make=lambda: make(torch.optim.SGD)))
    found = compare(make, MSE, DL, variants, 1, verify=True, progress=False)
    assert all(len(runs.trials) == 1 for runs in found.variants.values())
    assert found.steps == sum(runs.steps for runs in found.variants.values())
    assert len(sources(make, MSE, DL, 2, verify=True, progress=False).varied['noise'].trials) == 2


def hopeless():
    "A model whose loss does not follow from its weights, so that no sweep gives a rate"
    model = nn.Linear(4, 1)
    return model, torch.optim.SGD(model.parameters(), lr=1e-3)


def no_use(out, target): return 0*out.mean() + torch.rand(())


def test_runs_without_a_suggestion_are_silent_and_say_why_once():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        runs = repeat(hopeless, no_use, DL, 5, progress=False)
        runs.plot()
        html, _ = runs._repr_html_(), (repr(runs), runs.to_dict())
    assert runs.problem
    assert html.count(runs.runs[0].problem[:40]) == 1


def test_shapes_are_compared_at_the_same_rates():
    runs = repeat(make, MSE, DL, 3, progress=False)
    assert len({a.curve.lrs[0] for a in runs.runs}) > 1     # they begin at different rates
    assert 'shapes disagree' not in [symptom.name for symptom in runs.diagnosis]


def test_runs_take_what_a_finder_takes():
    "The limit of the gradients, and the place of the copy"
    sgd = partial(make, torch.optim.SGD)
    clipped, free = (repeat(sgd, MSE, DL, 2, num_iter=30, progress=False, **kw)
                     for kw in (dict(clip=1e-3, preserve_on='cpu'), {}))
    assert clipped.runs[0].curve.losses[0] == free.runs[0].curve.losses[0]
    assert clipped.runs[0].curve.losses[-1] != free.runs[0].curve.losses[-1]
