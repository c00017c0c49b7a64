"""A stranger's contestant takes part in the arena, and the arena scores it as it says"""
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ARENA = Path(__file__).resolve().parent.parent/'benchmarks'/'arena'
OPTIMUM = 10**(-16/6)     # number -16 of the grid


@pytest.fixture
def arena(monkeypatch, tmp_path):
    "The arena's modules, with a linear regression as the one task and a truth of nine rates"
    monkeypatch.syspath_prepend(str(ARENA))
    before = {*sys.modules}
    import contestants
    import run
    import scoring
    import tasks
    import truth
    import torch
    from torch import nn, optim
    data = lambda: ((torch.randn(64, 3), torch.randn(64, 1)), (torch.randn(32, 3), torch.randn(32, 1)))
    task = tasks.Task('a line', 'sgd', lambda: nn.Linear(3, 1), optim.SGD, data, 16, 1, nn.MSELoss(), classes=False)
    for module in tasks, truth, run, scoring: monkeypatch.setattr(module, 'TASKS', {task.name: task})
    monkeypatch.setattr(contestants, 'CONTESTANTS', {})
    monkeypatch.setattr(run, 'CONTESTANTS', contestants.CONTESTANTS)
    for module in truth, run: monkeypatch.setattr(module, 'RESULTS', tmp_path)
    write_truth(truth, task)
    yield SimpleNamespace(run=run, scoring=scoring, contestant=contestants.contestant, task=task)
    for name in {*sys.modules} - before:
        if str(getattr(sys.modules[name], '__file__', '')).startswith(str(ARENA)): del sys.modules[name]


def write_truth(truth, task):
    "The loss rises by e for each factor of e from the optimum"
    centre = truth.number(OPTIMUM)
    rates = [(k, math.exp(abs(math.log(truth.grid(k)/truth.grid(centre))))) for k in range(centre - 8, centre + 9, 2)]
    rows = [dict(horizon=1, lr=None, seed=0, loss=1e3, error=None, seconds=0.)]
    row = lambda k, y, s: dict(horizon=1, lr=truth.grid(k), seed=s, loss=y, error=None, seconds=0.)
    rows += [row(k, y, s) for k, y in rates for s in range(3)]
    path = truth.path_of(task)
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(map(json.dumps, rows)) + '\n')


def mine(task, seed):
    "A stranger's finder: the rate grows while one step from the start lowers the loss"
    import torch
    x, y = next(iter(task.loaders(seed)[0]))
    for steps in range(1, 30):
        model, optimizer = task.make(seed, rate := 1e-6*2**steps)
        loss = task.loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            if task.loss_fn(model(x), y) > loss: break
    return rate/2, steps


def test_a_stranger_takes_part(arena):
    arena.contestant('mine')(mine)
    assert arena.run.run('mine', [arena.task], 3) is not None
    m = arena.scoring.measured('mine')
    assert [len(a.rates) for a in m.answers] == [3] and 0 < m.score < 20 and m.row['refused'] == 0


@pytest.mark.parametrize('factor, score', [(1, 0), (math.e, 1), (1/math.e, 1)])
def test_the_score_is_the_logarithm_of_the_loss_over_the_best(arena, factor, score):
    rate = OPTIMUM*factor
    arena.contestant('fixed')(lambda task, seed: (rate, 0, (rate/2, rate*2)))
    arena.run.run('fixed', [arena.task], 2)
    m = arena.scoring.measured('fixed')
    assert m.score == pytest.approx(score, abs=1e-3)
    assert m.row['catastrophic'] == (score > math.log(2)) and m.row['covered'] == 1
    assert m.row['width'] == pytest.approx(4, rel=1e-3)


def test_a_refusal_counts_as_ten_times_the_loss(arena):
    arena.contestant('silent')(lambda task, seed: (None, 7))
    arena.run.run('silent', [arena.task], 2)
    m = arena.scoring.measured('silent')
    assert m.score == pytest.approx(math.log(10)) and m.row['refused'] == 1 and m.row['steps'] == 7


def test_intervals_that_miss_other_seeds_are_seen(arena):
    arena.contestant('sure')(lambda task, seed: (rate := 1e-3*2**(seed - 100), 0, (rate/1.1, rate*1.1)))
    arena.run.run('sure', [arena.task], 3)
    assert arena.scoring.measured('sure').row['covered'] == 0
