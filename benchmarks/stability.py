"""Does the answer hold when asked again? Ten calls of `repeat(runs=5)` on five tasks, and what they cost.

    python benchmarks/stability.py          writes benchmarks/results/stability.json and prints a table
"""
import json
import sys
import time

import numpy as np
import torch
from quality import RESULTS, TASKS
from torch import nn

from lrfinder_nb import LRFinder, repeat, set_seed
from lrfinder_nb.project.data import digits

FIVE = ('CNN, AdamW', 'CNN, AdamW, batches of 16', 'MLP, SGD', 'LSTM, Adam', 'MLP, RMSprop')
CALLS, RUNS, LOSS = 10, 5, nn.CrossEntropyLoss()


def task_of(name):
    "(make, loader) of a task"
    make, opt, batch_size = TASKS[name]
    def fresh():
        model = make()
        return model, opt(model.parameters(), lr=1e-3)
    return fresh, digits(batch_size, seed=0)[0]


def asked_again(name):
    "The rates of ten calls, of their single runs, and how many runs `auto` would have taken"
    make, dl = task_of(name)
    calls = [repeat(make, LOSS, dl, RUNS, seed=1000*(k + 1), progress=False) for k in range(CALLS)]
    autos = [repeat(make, LOSS, dl, 'auto', seed=1000*(k + 1), progress=False) for k in range(3)]
    rates = lambda found, of: [float(f'{of(x):.3g}') for x in found if not x.problem]
    return dict(lrs=rates(calls, lambda c: c.lr), refused=sum(bool(c.problem) for c in calls),
                singles=rates([a for c in calls for a in c.runs], lambda a: a.found.lr),
                pooled=rates([c.pooled for c in calls], lambda a: a.found.lr),
                auto_runs=[len(a) for a in autos], auto_lrs=rates(autos, lambda c: c.lr))


def sweep_time(name, runs, seed, deterministic=False):
    "CPU seconds of `runs` sweeps that run to their end"
    make, dl = task_of(name)
    torch.use_deterministic_algorithms(deterministic)
    start = time.process_time()
    if runs == 1:
        set_seed(seed, dl)
        LRFinder(*make(), LOSS).range_test(dl, seed=seed, progress=False, end_lr=1e-2)
    else: repeat(make, LOSS, dl, runs, seed=seed, progress=False, end_lr=1e-2)
    torch.use_deterministic_algorithms(False)
    return time.process_time() - start


def costs(name='CNN, AdamW', rounds=5):
    "Times of `repeat(runs=5)` and of a deterministic sweep over that of one sweep; interleaved"
    turn = lambda s: (sweep_time(name, 1, s), sweep_time(name, RUNS, s), sweep_time(name, 1, s, True))
    rows = [turn(s) for s in range(rounds)]
    one, five, fixed = np.min(rows, axis=0).tolist()      # the rounds that others disturbed least
    return dict(repeat_over_one=round(five/one, 3), deterministic_over_not=round(fixed/one, 3))


def table(body):
    "Lines of a markdown table"
    yield '| task | max/min of ten calls of `repeat(runs=5)` | of fifty single sweeps | runs that `auto` took |'
    yield '|---|---|---|---|'
    over = lambda xs: max(xs)/min(xs)
    for name, r in body['tasks'].items():
        runs = ', '.join(map(str, r['auto_runs']))
        yield f"| {name} | {over(r['lrs']):.2f} | {over(r['singles']):.1f} | {runs} |"
    spreads = [over(r['lrs']) for r in body['tasks'].values()]
    yield f"| median, worst | {np.median(spreads):.2f}, {max(spreads):.2f} | | |"


def main():
    torch.set_num_threads(1)
    tasks = {}
    for name in FIVE:
        start = time.time()
        tasks[name] = asked_again(name)
        print(f'{name}: {time.time() - start:.0f} s', file=sys.stderr, flush=True)
    body = dict(tasks=tasks, cost=costs(), torch=torch.__version__)
    (RESULTS/'stability.json').write_text(json.dumps(body, indent=1) + '\n')
    print('\n'.join(table(body)), body['cost'], sep='\n')


if __name__ == '__main__': main()
