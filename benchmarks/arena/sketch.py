"""An experiment bench: the rules "coarse to fine" and "verified" written down plainly

    python benchmarks/arena/sketch.py --seeds 5     lets them answer, and keeps their rates beside the contestants'

Sweeps and short trainings are kept in a file in the temporary folder, so that a rule can be changed and tried
again within seconds.
"""
import argparse
import json
import math
import sqlite3
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from lrfinder_nb import LossCurve, LRFinder, NoSuggestion, analyse, set_seed
from run import save, seeds_of
from tasks import TASKS
from truth import path_of

KEPT = Path(tempfile.gettempdir())/'lrfinder_nb-arena-sketch.sqlite'
COARSE, PACE = 40, 37.5         # steps of the coarse pass, steps a decade of the fine one
ONE_TWO_FIVE = sorted(m*10.**k for k in range(-9, 4) for m in (1, 2, 5))


class Memory:
    "Values by key, in a file"
    def __init__(self, path=KEPT):
        self.db = sqlite3.connect(path, timeout=60)
        self.db.execute('create table if not exists kept (key text primary key, value text)')
        self.here = {}

    def __call__(self, key, make):
        if key not in self.here:
            found = self.db.execute('select value from kept where key = ?', [key]).fetchone()
            if found is None:
                found = [json.dumps(make())]
                with self.db:
                    self.db.execute('insert or replace into kept values (?, ?)', [key, found[0]])
            self.here[key] = json.loads(found[0])
        return self.here[key]


remember = Memory()


def forever(loader):
    while True:
        yield from loader


def trace(task, seed, lrs, order):
    "Losses of one step at each rate, from the model of `seed`; batches and other randomness are those of `order`"
    model, optimizer = task.make(seed)
    model.train()
    train_dl, _ = task.loaders(1000*order + seed)
    set_seed(1000*order + seed)
    losses = []
    for lr, (x, y) in zip(lrs, islice(forever(train_dl), len(lrs))):
        for group in optimizer.param_groups:
            group['lr'] = lr
        optimizer.zero_grad()
        loss = task.loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(float(f'{float(loss):.5g}'))
        if not math.isfinite(losses[-1]):
            break
    return losses


def coarse_losses(task, seed, steps=COARSE, order=0):
    "Raw losses of the coarse pass"
    lrs = np.geomspace(1e-7, 10, steps).tolist()
    y = remember(f'coarse {task.name} {seed} {order} {steps}', lambda: trace(task, seed, lrs, order))
    return np.nan_to_num(np.array(y + [math.inf]*(steps - len(y))), nan=1e30, posinf=1e30, neginf=1e30)


def noise_of(y):
    "Standard deviation of one loss, from the differences of neighbours"
    d = np.diff(y)
    return 1.4826*float(np.median(np.abs(d - np.median(d))))/math.sqrt(2)


@dataclass(frozen=True)
class Coarse:
    "What the coarse pass says; positions are logarithms of rates"
    x0: float       # where to expect the answer
    low: float      # of the smallest loss
    edge: float     # from where on it explodes; the last rate where it does not
    drop: float     # in standard deviations of the noise
    exploded: bool


def read_coarse(y):
    "The rule for the coarse pass"
    x = np.linspace(-7, 1, len(y))
    start, noise = float(np.median(y[:max(5, len(y)//5)])), noise_of(y)
    padded = np.concatenate([y[:1], y, y[-1:]])
    m = np.median([padded[:-2], padded[1:-1], padded[2:]], axis=0)
    above = m > start + 6*noise
    runs = np.flatnonzero(above[:-2] & above[1:-1] & above[2:])
    exploded = len(runs) > 0
    edge = int(runs[0]) if exploded else len(y) - 1
    low = int(np.argmin(m[:max(edge, 1)]))
    drop = (start - m[low])/noise if noise else math.inf
    clear = drop >= (4 if exploded else 3)
    x0 = min(x[low], x[edge] - .4) - .6 if clear else x[edge] - 1.2
    return Coarse(float(x0), float(x[low]), float(x[edge]), float(drop), exploded)


def swept(task, seed, start, steps, order=0):
    "Curve of a sweep from 10^start to 10 by the library, with its usual stop"
    def make():
        model, optimizer = task.make(seed)
        train_dl, _ = task.loaders(1000*order + seed)
        set_seed(1000*order + seed)
        finder = LRFinder(model, optimizer, task.loss_fn)
        finder.range_test(train_dl, start_lr=10**start, end_lr=10, num_iter=steps, progress=False)
        short = lambda values: [float(f'{x:.6g}') for x in values]
        return [short(finder.curve.lrs), short(finder.curve.losses), finder.curve.ended]
    lrs, losses, ended = remember(f'sweep {task.name} {seed} {order} {start:.4f} {steps}', make)
    return LossCurve(lrs, losses, ended)


def coarse_to_fine(task, seed, order=0):
    "(log10 of the rate or None, steps, what the coarse pass said)"
    coarse = read_coarse(coarse_losses(task, seed, order=order))
    start = max(coarse.x0 - 2.2, -10)
    curve = swept(task, seed, start, round(PACE*(1 - start)) + 1, order)
    s = None
    with suppress(NoSuggestion):
        s = math.log10(analyse(curve).suggestion.lr)
    return s, COARSE + len(curve), coarse


def trial(task, seed, lr, order=0, steps=60):
    "Losses of a short training at a constant rate, infinite from where they were not finite"
    key = f'trial {task.name} {seed} {order} {lr:.4g} {steps}'
    losses = remember(key, lambda: trace(task, seed, [lr]*steps, order))
    return np.nan_to_num(np.array(losses + [math.inf]*(steps - len(losses))), nan=math.inf)


def climbed(value, start, grid=ONE_TWO_FIVE, most=8):
    "{rate: value} along the grid from the rate next to 10^start, until both neighbours of the best are worse"
    i = min(range(len(grid)), key=lambda j: abs(math.log10(grid[j]) - start))
    values = {i: value(grid[i])}
    while len(values) < most:
        best = min(values, key=values.get)
        nearest = [j for j in (best + 1, best - 1) if j not in values and 0 <= j < len(grid)]
        if not nearest:
            break
        for j in nearest:
            values[j] = value(grid[j])
            if values[j] < values[best] or len(values) == most:
                break
    return {grid[j]: v for j, v in values.items()}


def weighted(values, first, sharpness=.03):
    "Mean of the logarithms of rates, weighted by how near their values come to the best one"
    rates, v = np.array([*values]), np.array([*values.values()])
    scale = sharpness*max(first - v.min(), 1e-12)
    w = np.exp(-(v - v.min())/scale)
    return float((w*np.log10(rates)).sum()/w.sum())


class Trials:
    "Short trainings of one batch order: 40 steps, or 30 where the first one loses 30 % of its loss by then"
    def __init__(self, task, seed, order, steps=40, tail=30):
        self.task, self.seed, self.order, self.steps, self.tail = task, seed, order, steps, tail
        self.losses, self.used = {}, 0

    def __call__(self, lr):
        "The value of a rate: mean loss of the last `tail` steps, the same steps for every rate"
        losses = self.losses[lr] = trial(self.task, self.seed, lr, self.order)
        if len(self.losses) == 1 and np.mean(losses[25:30]) < .7*np.mean(losses[:3]):
            self.steps = 30
        finite = np.isfinite(losses[:self.steps])
        self.used += self.steps if finite.all() else int(np.argmin(finite)) + 1
        return float(np.mean(losses[self.steps - self.tail:self.steps]))

    @property
    def first(self):
        "The loss before training"
        return float(next(iter(self.losses.values()))[0])


def kept_near(u, s, below=.1, above=.3, far=.9):
    "The trials' answer `u`, kept near the sweep's `s` unless that is missing or far away"
    return u if s is None or abs(u - s) > far else min(max(u, s - below), s + above)


def verified(task, seed, orders=1, sharpness=.03, **near):
    "(log10 of the rate, steps)"
    s, used, coarse = coarse_to_fine(task, seed)
    answers = []
    for order in range(1, orders + 1):
        trials = Trials(task, seed, order)
        values = climbed(trials, coarse.x0 if s is None else s)
        answers.append(weighted(values, trials.first, sharpness))
        used += trials.used
    return kept_near(float(np.mean(answers)), s, **near), used


def trials_only(task, seed, orders=2, sharpness=.1):
    "(log10 of the rate, steps): no fine sweep, short trainings from where the coarse pass points"
    start, answers, used = read_coarse(coarse_losses(task, seed)).x0, [], COARSE
    for order in range(1, orders + 1):
        trials = Trials(task, seed, order)
        values = climbed(trials, answers[0] if answers else start)
        answers.append(weighted(values, trials.first, sharpness))
        used += trials.used
    return float(np.mean(answers)), used


def coarse_to_fine_or_coarse(task, seed):
    "(log10 of the rate, steps): what the coarse pass points at where the fine one finds no descent"
    s, used, coarse = coarse_to_fine(task, seed)
    return coarse.x0 if s is None else s, used


RULES = {
    'sketch: coarse to fine': lambda task, seed: coarse_to_fine(task, seed)[:2],
    'sketch: coarse to fine, or coarse': coarse_to_fine_or_coarse,
    'sketch: coarse and trials': partial(trials_only, orders=1),
    'sketch: coarse and trials in two orders': trials_only,
    'sketch: verified': verified,
    'sketch: verified in two orders': partial(verified, orders=2),
}


def main():
    parser = argparse.ArgumentParser(description='Let the sketched rules answer')
    parser.add_argument('--seeds', type=int, default=5, help='seeds a task')
    parser.add_argument('--rules', help='their names, with commas between them; all of them otherwise')
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.rules.split(',') if asked.rules else RULES:
        answers = {}
        for task in TASKS.values():
            if not path_of(task).exists():
                continue
            given = answers.setdefault(task.name, {})
            for seed in seeds_of(task, asked.seeds):
                x, steps = RULES[name](task, seed)
                given[str(seed)] = [None if x is None else float(f'{10**x:.4g}'), steps]
            save(name, answers)
        print(name, 'is done')


if __name__ == '__main__':
    main()
