"""The truth of the arena: what one-cycle trainings reach at a grid of rates, for each task

    python benchmarks/arena/truth.py            goes on where it was stopped
    python benchmarks/arena/truth.py --plan     says what is left, and starts nothing

Each training is one line of benchmarks/results/arena/truth/<task>.jsonl: horizon, rate, seed, validation loss and
error. The first seed walks from a customary rate, three rates a decade, to either side until training fails; six
rates a decade follow within a decade of the best one. The other seeds repeat these rates, but for those at the ends
that tell nothing, and last come the trainings that are four times as long.
"""
import argparse
import json
import math
import sys
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from lrfinder_nb import TrainingDiverged, fit_one_cycle
from tasks import TASKS

RESULTS = Path(__file__).parents[1]/'results'/'arena'
SEEDS, CAP = 3, 10.         # a loss is at most ten times that of the untrained model
CENTRES = dict(adam=1e-3, adamw=1e-3, rmsprop=1e-3, sgd=.1, momentum=1e-2, lion=1e-4, muon=1e-2)


def grid(k):
    "The rate with number `k`: six of them a decade, and number 0 is 1"
    return float(f'{10**(k/6):.6g}')


def number(lr):
    "The number of the grid's rate next to `lr`"
    return round(6*math.log10(lr))


def path_of(task):
    return RESULTS/'truth'/f"{task.name.replace(' ', '-')}.jsonl"


def rows_of(task):
    "The trainings that are done, by (horizon, number of the rate, seed); number None is the untrained model"
    if not path_of(task).exists():
        return {}
    rows = [json.loads(line) for line in path_of(task).read_text().splitlines() if line.endswith('}')]
    return {(r['horizon'], r['lr'] and number(r['lr']), r['seed']): r for r in rows}


def outcome(task, lr, seed, horizon=1):
    "(loss, error) after one cycle at `lr`; an untrained model's with None"
    torch.manual_seed(seed)
    model, optimizer = task.make(seed, lr or 1e-3)
    untrained = task.outcome(model)
    if lr is None:
        return untrained
    worst = CAP*untrained[0], None if untrained[1] is None else max(untrained[1], .5)
    train_dl, _ = task.loaders(seed)
    try:
        fit_one_cycle(model, optimizer, task.loss_fn, train_dl, max_lr=lr, epochs=task.epochs*horizon,
                      progress=False)
    except TrainingDiverged:
        return worst
    loss, error = task.outcome(model)
    return (loss, error) if math.isfinite(loss) and loss < worst[0] else worst


def train(task, k, seed, horizon=1):
    "One training, written down"
    start = time.time()
    lr = None if k is None else grid(k)
    loss, error = outcome(task, lr, seed, horizon)
    row = dict(horizon=horizon, lr=lr, seed=seed, loss=float(f'{loss:.5g}'),
               error=error and float(f'{error:.4g}'), seconds=round(time.time() - start, 2))
    path_of(task).parent.mkdir(parents=True, exist_ok=True)
    with path_of(task).open('a') as f:
        f.write(json.dumps(row) + '\n')
    return row


def walk(task):
    "Trainings of the first seed from the customary rate to either side"
    untrained = wanted(task, None, 0)['loss']
    first = 2*round(number(CENTRES[task.family])/2)
    losses = {first: wanted(task, first, 0)['loss']}
    for way in (2, -2):
        k, bad = first, 0
        while bad < 2 and abs(k - first) < 24:
            k += way
            losses[k] = wanted(task, k, 0)['loss']
            best = min(losses.values())
            failed = losses[k] > min(3*best, .9*untrained)
            bad = bad + 1 if failed and k*way > way*min(losses, key=losses.get) else 0


def wanted(task, k, seed, horizon=1):
    "The row of a training, done now if it is not there"
    return rows_of(task).get((horizon, k, seed)) or train(task, k, seed, horizon)


def first_losses(task):
    "Losses of the first seed at the base horizon, by the number of the rate"
    return {k: r['loss'] for (h, k, s), r in rows_of(task).items() if h == 1 and s == 0 and k is not None}


def numbers(task):
    "The rates of the first seed, and six a decade within a decade of the best"
    losses = first_losses(task)
    coarse = [k for k in losses if k % 2 == 0]
    best = min(coarse, key=losses.get)
    return sorted({*coarse, *(k for k in range(best - 6, best + 7) if k >= min(coarse) and k <= max(coarse))})


def telling(task):
    "The rates that are worth another seed: from two below those that reach four times the best loss to two above"
    losses, untrained = first_losses(task), rows_of(task)[1, None, 0]['loss']
    limit = min(4*min(losses.values()), .95*untrained)
    good = [k for k in losses if losses[k] <= limit]
    return [k for k in numbers(task) if min(good) - 4 <= k <= max(good) + 4]


def long_numbers(task):
    "Three rates a decade around the best of the short horizon, more of them below it, and four finer ones"
    lrs, losses, _ = truth(task)
    best = 2*round(number(lrs[int(np.argmin(losses))])/2)
    kept = set(numbers(task))
    return sorted(kept & {*range(best - 8, best + 7, 2), best - 3, best - 1, best + 1})


def left(seed, horizon=1, slow=False):
    "Trainings of quick or of slow tasks that are left to do for a seed, as (task, number)"
    tasks = [t for t in TASKS.values() if t.slow == slow and (horizon == 1 or t.long)]
    for task in tasks:
        done = rows_of(task)
        for k in [None, *(long_numbers(task) if horizon > 1 else telling(task) if seed else numbers(task))]:
            if (horizon, k, seed) not in done and (k is not None or horizon == 1):
                yield task, k


def estimate():
    "Seconds that are left, from those which are done"
    total = 0.
    for task in TASKS.values():
        done = rows_of(task)
        if not done:
            continue
        cost = np.mean([r['seconds']/h for (h, k, s), r in done.items() if k is not None])
        n = len(numbers(task)) + (SEEDS - 1)*len(telling(task)) + SEEDS
        todo = max(0, n - sum(h == 1 for h, _, _ in done))
        longer = max(0, SEEDS*11 - sum(h == 4 for h, _, _ in done)) if task.long else 0
        total += cost*(todo + 4*longer)
    return total


def say(*words):
    print(time.strftime('%H:%M:%S'), *words, file=sys.stderr, flush=True)


@lru_cache
def _read(name, size, horizon):
    "(rates, losses, errors or None) of a task whose file is `size` bytes long"
    task = TASKS[name]
    rows = {(k, s): r for (h, k, s), r in rows_of(task).items() if h == horizon and k is not None}
    known, kept = sorted({k for k, _ in rows}), set(telling(task))
    full = next(n for n in range(SEEDS, 0, -1) if n == 1 or all((k, n - 1) in rows for k in known if k in kept))
    def mean(key):
        return np.array([np.mean([rows[k, s][key] for s in range(full) if (k, s) in rows]) for k in known])
    return np.array([grid(k) for k in known]), mean('loss'), mean('error') if task.classes else None


def truth(task, horizon=1):
    "(rates, losses, errors or None): means over the seeds; what fails at the ends was trained once"
    return _read(task.name, path_of(task).stat().st_size, horizon)


ORDER = [(1, 0, False), (1, 1, False), (1, 2, False), (1, 0, True), (4, 0, False), (1, 1, True), (4, 1, False),
         (1, 2, True), (4, 2, False)]       # (horizon, seed, slow tasks)


def compute(stages):
    "The trainings that are left of the first `stages` entries of `ORDER`"
    for task in TASKS.values():
        walk(task)
        say(f'walked {task.name}: {len(rows_of(task))} trainings')
    say(f'about {estimate()/60:.0f} minutes are left')
    for horizon, seed, slow in ORDER[:stages]:
        for task, k in list(left(seed, horizon, slow)):
            train(task, k, seed, horizon)
        kind = 'slow' if slow else 'quick'
        say(f'horizon {horizon}, seed {seed}, {kind}: done; about {estimate()/60:.0f} minutes are left')


def main():
    parser = argparse.ArgumentParser(description='Compute the truth of the arena')
    parser.add_argument('--plan', action='store_true', help='say what is left, and start nothing')
    parser.add_argument('--stages', type=int, default=len(ORDER), help='how many entries of ORDER')
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.plan:
        done = sum(len(rows_of(t)) for t in TASKS.values())
        print(f'{done} trainings are done; about {estimate()/60:.0f} minutes are left of the tasks begun')
    else:
        compute(asked.stages)


if __name__ == '__main__':
    main()
