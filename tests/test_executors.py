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

from lrfinder_nb import EarlyStopping, LRFinder, compare, repeat, sources

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
from lrfinder_nb.engine.executors import SENT, packed
from lrfinder_nb.engine.runs import RunPlan
try: packed(RunPlan(lambda: None, None, [1]), SENT)
except TypeError as e: print(e)
"""


def test_without_cloudpickle_a_closure_gets_a_sentence():
    out = subprocess.run([sys.executable, '-c', ALONE], capture_output=True, text=True, check=True).stdout
    assert 'cannot be sent to a worker' in out and 'install cloudpickle' in out


def test_a_worker_that_cannot_import_the_factory_gets_a_sentence(monkeypatch):
    def fails(body, **kw): raise ModuleNotFoundError("No module named 'mine'")
    monkeypatch.setattr(torch, 'load', fails)
    with pytest.raises(ValueError, match="could not load make, loss_fn or train_dl .No module named 'mine'"):
        repeat(make, MSE, data(), 2, num_iter=20, executor=Lazy(), progress=False)


def swept(make=make, **kw):
    "A finder after its sweep, always the same"
    torch.manual_seed(0)
    return LRFinder(*make(), MSE, **kw).range_test(data(), progress=False)


def valid(): return DataLoader(data().dataset, 64)


def noisy():
    "A model whose dropout draws from the random state"
    model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(.5), nn.ReLU(), nn.BatchNorm1d(16), nn.Linear(16, 1))
    return model, torch.optim.SGD(model.parameters(), lr=.1, momentum=.9)


def several():
    "Two optimizers"
    model, _ = make()
    return model, [torch.optim.SGD(model[0].parameters(), .1), torch.optim.Adam(model[3].parameters(), 1e-3)]


def away_and_home(pool, make=make, before=lambda finder: None, **kw):
    "(finder verified by workers, the same at home), with equal random states before"
    found = []
    for executor in (pool, None):
        finder = swept(make)
        before(finder)
        torch.manual_seed(7)
        found.append(finder.verify(data(), executor=executor, progress=False, **kw))
    return found


@pytest.mark.parametrize('build', [make, noisy, several])
@pytest.mark.parametrize('kw', [{}, dict(orders=2), dict(seed=3), dict(accumulation_steps=2)])
def test_trials_are_those_at_home(pool, build, kw):
    away, home = away_and_home(pool, build, **kw)
    assert away.trials == home.trials and away.rung == 'verified' and away.ended == home.ended == 'completed'


@pytest.mark.parametrize('kw', [dict(epochs=2), dict(epochs=4, horizon=.25, seed=1), dict(epochs=3, most=2),
                                dict(epochs=2, judge='mae_loss', metrics=dict(mae_loss=nn.functional.l1_loss))])
def test_whole_trainings_are_those_at_home(pool, kw):
    away, home = away_and_home(pool, noisy, valid_dl=valid(), **kw)
    assert away.trials.values == home.trials.values and away.suggestion == home.suggestion


def test_the_best_weights_come_home(pool):
    away, home = away_and_home(pool, noisy, valid_dl=valid(), epochs=2, keep=True)
    for a, b in zip((away.model, away.optimizer), (home.model, home.optimizer)):
        assert str(a.state_dict()) == str(b.state_dict())


def test_momentum_from_an_earlier_training_travels(pool):
    def trained(finder): finder.fit_one_cycle(data(), epochs=1, max_lr=1e-2, progress=False)
    away, home = away_and_home(pool, before=trained)
    assert away.trials == home.trials


def test_a_verification_by_workers_leaves_no_trace_at_home(pool):
    finder = swept(noisy)
    state, rng = str((finder.model.state_dict(), finder.optimizer.state_dict())), torch.get_rng_state()
    finder.verify(data(), executor=pool, orders=2, progress=False)
    assert str((finder.model.state_dict(), finder.optimizer.state_dict())) == state
    assert torch.equal(rng, torch.get_rng_state())


def test_workers_in_the_background(pool):
    finder = swept().verify(data(), executor=pool, background=True, progress=False)
    assert finder.wait().trials == swept().verify(data(), progress=False).trials


class Never:
    "Takes work and never does it"
    def __init__(self): self.futures = []
    def submit(self, f, *args):
        self.futures.append(Future())
        return self.futures[-1]


def test_stop_ends_the_waiting_and_cancels_what_has_not_begun():
    executor = Never()
    finder = swept().verify(data(), executor=executor, background=True, progress=False)
    finder.stop().wait()
    assert finder.ended == 'stopped' and finder.trials is None and finder.rung == 'sweep'
    assert len(executor.futures) == 3 and all(future.cancelled() for future in executor.futures)


def test_a_sweep_without_an_answer_has_its_control_made_there(pool):
    def labels(finder):
        x = torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
        y = torch.randn(256, 1, generator=torch.Generator().manual_seed(1))
        return finder.range_test(DataLoader(TensorDataset(x, y), 32), progress=False)
    away, home = away_and_home(pool, before=labels)
    assert home.analyse().problem and away.trials == home.trials and away.problem == home.problem


def test_a_worker_that_dies_in_a_verification_gets_a_sentence():
    class Dies(nn.Linear):
        def forward(self, x): return os._exit(1) if os.getpid() != HERE else super().forward(x)
    torch.manual_seed(0)
    model = nn.Sequential(Dies(4, 16), nn.ReLU(), nn.Linear(16, 1))
    finder = LRFinder(model, torch.optim.Adam(model.parameters()), MSE).range_test(data(), progress=False)
    before = str(model.state_dict())
    with ProcessPoolExecutor(1, get_context('spawn')) as executor:
        with pytest.raises(RuntimeError, match='has died') as error: finder.verify(data(), executor=executor)
    assert ';' in str(error.value) and finder.rung == 'sweep' and str(model.state_dict()) == before


HERE = os.getpid()


def test_what_cannot_travel_gets_a_sentence_and_changes_nothing(pool):
    finder = swept()
    finder.model.lock = sys.stdout
    with pytest.raises(TypeError, match='cannot be sent to a worker.*leave executor out'):
        finder.verify(data(), executor=pool, progress=False)
    with pytest.raises(TypeError, match='must have a method submit'): finder.verify(data(), executor=2)
    assert finder.trials is None and finder.rung == 'sweep'


@pytest.mark.parametrize('executor', [None, 'pool'])
def test_callbacks_do_not_carry_over_from_one_training_to_the_next(request, executor):
    executor = executor and request.getfixturevalue(executor)
    stops = EarlyStopping(patience=1)
    finder = swept(noisy).verify(data(), valid(), epochs=4, callbacks=[stops], executor=executor, progress=False)
    alone = {}
    for lr in finder.trials.values:
        one = swept(noisy)
        history = one.fit_one_cycle(data(), valid(), epochs=4, max_lr=lr, progress=False,
                                    callbacks=[EarlyStopping(patience=1)])
        alone[lr] = history.epochs[-1]['valid_loss']
    assert finder.trials.values == alone and stops.watched.best is None


def test_sources_are_those_at_home(pool):
    home, away = (sources(noisy, MSE, data(), 2, num_iter=30, progress=False, **kw)
                  for kw in ({}, dict(executor=pool)))
    assert all(curves(away.varied[name]) == curves(home.varied[name]) for name in home.varied)
    assert away.factors == home.factors or str(away.factors) == str(home.factors)


def test_views_of_one_memory_stay_so_on_their_way(pool):
    def tied():
        model, optimizer = make()
        flat = torch.randn(20)
        model[0].register_buffer('flat', flat)
        model[0].register_buffer('part', flat[:4])
        model.register_forward_pre_hook(lambda module, args: (module[0].flat.mul_(1.01), None)[1])
        model.register_forward_hook(lambda module, args, out: out + module[0].part.sum())
        return model, optimizer
    away, home = away_and_home(pool, tied)
    assert away.trials == home.trials


class Waits(torch.optim.SGD):
    "Steps every second time only, by a counter of its own"
    def __init__(self, *args):
        super().__init__(*args)
        self.calls = 0
    def step(self, closure=None):
        self.calls += 1
        if self.calls % 2: super().step()


def waiting():
    model, _ = make()
    return model, Waits(model.parameters(), .1)


def test_attributes_of_an_optimizer_travel(pool):
    def once(finder): finder.optimizer.calls = 1
    away, home = away_and_home(pool, waiting, before=once)
    assert away.trials == home.trials


def test_a_scheduler_stays_at_home(pool):
    def scheduled(finder): torch.optim.lr_scheduler.OneCycleLR(finder.optimizer, .1, total_steps=9)
    away, home = away_and_home(pool, before=scheduled)
    assert away.trials == home.trials
