"""Runs in other processes: bit for bit those at home, and a sentence where they cannot be made"""
import os
import subprocess
import sys
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder_nb import compare, repeat

MSE = nn.functional.mse_loss


def data():
    x = torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, (x[:, :1]*x[:, 1:2]).tanh()), 32, shuffle=True)


def make(kind=torch.optim.Adam):
    model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(.1), nn.ReLU(), nn.Linear(16, 1))
    return model, kind(model.parameters())


def with_sgd(): return make(torch.optim.SGD)
def dies(): os._exit(1)


def shared_model(made=[]):      # the default lives as long as the function
    made or made.append(make())
    return made[0]


@pytest.fixture(scope='module')
def pool():
    with ProcessPoolExecutor(2, get_context('spawn')) as executor: yield executor


def curves(runs): return [analysis.curve for analysis in runs.runs]


@pytest.mark.parametrize('kw', [
    dict(runs=3, num_iter=30), dict(runs=2, verify=True), dict(runs='auto', within=50., most=4)])
def test_the_runs_are_those_at_home(pool, kw):
    home = repeat(make, MSE, data(), progress=False, **kw)
    away = repeat(make, MSE, data(), executor=pool, progress=False, **kw)
    assert curves(away) == curves(home) and away.trials == home.trials and away.seeds == home.seeds


def test_variants_are_those_at_home(pool):
    variants = dict(adam={}, sgd=dict(make=with_sgd))
    home, away = (compare(make, MSE, data(), variants, 2, num_iter=30, progress=False, **kw)
                  for kw in ({}, dict(executor=pool)))
    assert all(curves(away.variants[name]) == curves(home.variants[name]) for name in variants)


def test_a_pair_keeps_its_weights(pool):
    model, optimizer = make()
    before = [p.detach().clone() for p in model.parameters()]
    home, away = (repeat((model, optimizer), MSE, data(), 2, num_iter=30, progress=False, **kw)
                  for kw in ({}, dict(executor=pool)))
    assert curves(home) == curves(away) and away.same_weights
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))


def test_functions_of_a_notebook_travel_with_cloudpickle(pool):
    pytest.importorskip('cloudpickle')
    width = 8
    def inside():
        model = nn.Linear(4, width), nn.Linear(width, 1)
        return nn.Sequential(*model), torch.optim.Adam([p for part in model for p in part.parameters()])
    home, away = (repeat(inside, lambda p, y: MSE(p, y), data(), 2, num_iter=30, progress=False, **kw)
                  for kw in ({}, dict(executor=pool)))
    assert curves(home) == curves(away)


def test_the_random_state_at_home_stays(pool):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    repeat(make, MSE, data(), 2, num_iter=20, executor=pool, progress=False)
    assert torch.equal(before, torch.get_rng_state())


def test_a_factory_that_returns_one_model_is_refused_there_too(pool):
    with pytest.raises(ValueError, match='parameters of its call before'):
        repeat(shared_model, MSE, data(), 2, num_iter=20, executor=pool, progress=False)


def test_more_threads_at_home_count_there_too(pool):
    own = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        home, away = (repeat(make, MSE, data(), 1, num_iter=20, progress=False, **kw)
                      for kw in ({}, dict(executor=pool)))
    finally: torch.set_num_threads(own)
    assert curves(home) == curves(away)


class Lazy:
    "Does a run when its result is asked for, and notes what was cancelled"
    def __init__(self): self.made = self.cancelled = 0
    def submit(self, f, *args):
        executor = self
        class Later(Future):
            def result(self, timeout=None):
                executor.made += 1
                return f(*args)
            def cancel(self):
                executor.cancelled += 1
                return True
        return Later()


def test_runs_that_are_not_needed_are_cancelled():
    executor = Lazy()
    runs = repeat(make, MSE, data(), 'auto', within=1e9, most=8, executor=executor, progress=False)
    assert executor.made == len(runs) < 8 and executor.cancelled == 8


def test_a_dead_worker_gets_a_sentence():
    with ProcessPoolExecutor(1, get_context('spawn')) as executor, pytest.raises(RuntimeError) as error:
        repeat(dies, MSE, data(), 2, num_iter=20, executor=executor, progress=False)
    assert 'a worker of the ProcessPoolExecutor has died' in str(error.value) and ';' in str(error.value)


@pytest.mark.parametrize('wrong,said', [
    (3, 'must have a method submit, got int'), (ThreadPoolExecutor(1), 'got ThreadPoolExecutor')])
def test_what_is_no_executor_gets_a_sentence(wrong, said):
    with pytest.raises(TypeError, match=said): repeat(make, MSE, data(), executor=wrong, progress=False)


ALONE = """
import sys, pickle
sys.modules['cloudpickle'] = None
import torch
from lrfinder_nb.engine.executors import packed
from lrfinder_nb.engine.runs import RunPlan
try: packed(RunPlan(lambda: None, None, [1]))
except TypeError as e: print(e)
"""


def test_without_cloudpickle_a_closure_gets_a_sentence():
    out = subprocess.run([sys.executable, '-c', ALONE], capture_output=True, text=True, check=True).stdout
    assert 'cannot be sent to a worker' in out and 'install cloudpickle' in out


def test_a_worker_that_cannot_import_the_factory_gets_a_sentence(monkeypatch):
    from lrfinder_nb.engine import executors
    def fails(body): raise ModuleNotFoundError("No module named 'mine'")
    monkeypatch.setattr(executors.pickle, 'loads', fails)
    with pytest.raises(ValueError, match="could not load make, loss_fn or train_dl .No module named 'mine'"):
        repeat(make, MSE, data(), 2, num_iter=20, executor=Lazy(), progress=False)
