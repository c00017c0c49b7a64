"""What the finder's contestants rest on: sweeps, short and whole trainings by the library, each made once

    python benchmarks/arena/records.py --seeds 5        makes those that are missing

They are kept in a file in the temporary folder, so that another reading of the same losses takes seconds:
`constants.py` tries out other constants on them.
"""
import argparse
import json
import sqlite3
import sys
import tempfile
import time
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import torch

from lrfinder_nb import LossCurve, LRFinder, NoSuggestion, set_seed
from lrfinder_nb.core.trials import Trial, Trials
from tasks import TASKS

KEPT = Path(tempfile.gettempdir())/'lrfinder_nb-arena-records.sqlite'
FIRST_SEED = 100        # no training of the truth has used the seeds from here on


class Memory:
    "Values by key, in a file"
    def __init__(self, path=KEPT):
        self.path = path

    @cached_property
    def db(self):
        db = sqlite3.connect(self.path, timeout=60)
        db.execute('create table if not exists kept (key text primary key, value text)')
        return db

    def __contains__(self, key):
        return self.db.execute('select 1 from kept where key = ?', [key]).fetchone() is not None

    def __call__(self, key, make):
        found = self.db.execute('select value from kept where key = ?', [key]).fetchone()
        if found is None:
            found = [json.dumps(make())]
            with self.db:
                self.db.execute('insert or replace into kept values (?, ?)', [key, found[0]])
        return json.loads(found[0])


remember = Memory()


def fresh(task, seed):
    "(finder, train_dl, valid_dl) of a task"
    model, optimizer = task.make(seed)
    train_dl, valid_dl = task.loaders(seed)
    set_seed(seed, *([] if task.mixed else [train_dl]))
    return LRFinder(model, optimizer, task.loss_fn), train_dl, valid_dl


def plain(curve):
    "A curve as lists"
    return curve and dict(lrs=curve.lrs.tolist(), losses=curve.losses.tolist(), ended=curve.ended,
                          coarse=plain(curve.coarse), before=curve.ran_on.get('steps_before', len(curve.coarse or ())))


def curve_of(kept):
    "The curve of such lists"
    if kept:
        ran_on = dict(steps_before=kept['before'])
        return LossCurve(kept['lrs'], kept['losses'], kept['ended'], ran_on=ran_on, coarse=curve_of(kept['coarse']))


def single(task, seed, num_iter):
    "Curve of one sweep from 1e-7 to 10"
    def make():
        finder, train_dl, _ = fresh(task, seed)
        finder.range_test(train_dl, start_lr=1e-7, end_lr=10, num_iter=num_iter, progress=False)
        return plain(finder.curve)
    return curve_of(remember(f'single {task.name} {seed} {num_iter}', make))


def swept(task, seed):
    "Curve of a sweep from coarse to fine"
    def make():
        finder, train_dl, _ = fresh(task, seed)
        return plain(finder.range_test(train_dl, progress=False).curve)
    return curve_of(remember(f'swept {task.name} {seed}', make))


def resumed(task, seed, trials=None):
    "(finder, train_dl, valid_dl) as they are after the sweep, and the short trainings if there are some"
    finder, train_dl, valid_dl = fresh(task, seed)
    finder._keep(swept(task, seed))
    if trials:
        finder._keep_trials(trials)
        finder._verified = True
    return finder, train_dl, valid_dl


def tried(task, seed, orders=2):
    "`Trials` after such a sweep; the first batch order of two is that of one"
    def make():
        finder, train_dl, _ = resumed(task, seed)
        with suppress(NoSuggestion):
            finder.verify(train_dl, orders=2, progress=False)
        t = finder.trials
        return t and [t.swept, [[x.lr, list(x.losses), x.order] for x in t.trials]]
    kept = remember(f'tried {task.name} {seed}', make)
    if kept:
        return Trials(tuple(Trial(lr, tuple(y), order) for lr, y, order in kept[1] if order < orders), kept[0])


def trained(task, seed, horizon=1.):
    "Rows (rate, value, steps) of whole trainings after sweep and short trainings, in the order in which they were made"
    def make():
        finder, train_dl, valid_dl = resumed(task, seed, tried(task, seed, 1))
        finder.verify(train_dl, valid_dl, epochs=task.epochs, horizon=horizon, progress=False)
        return [[t.lr, t.value, t.steps] for t in finder.trials.trainings]
    return remember(f'trained {task.name} {seed} {horizon:g}', make)


KINDS = {
    'coarse to fine': swept, 'verified': tried, 'single 100': lambda task, seed: single(task, seed, 100),
    'a quarter': lambda task, seed: trained(task, seed, .25), 'thorough': trained,
    'single 300': lambda task, seed: single(task, seed, 300)}


def main():
    parser = argparse.ArgumentParser(description='Make the sweeps and trainings that are missing')
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--first', type=int, default=0)
    parser.add_argument('--kinds', default=','.join(KINDS))
    parser.add_argument('--tasks', default='')
    parser.add_argument('--slow', action='store_true', help='the slow tasks, which are left out otherwise')
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for kind in asked.kinds.split(','):
        for seed in range(FIRST_SEED + asked.first, FIRST_SEED + asked.first + asked.seeds):
            start = time.time()
            for task in TASKS.values():
                if task.slow == asked.slow and asked.tasks in task.name:
                    try:
                        KINDS[kind](task, seed)
                    except NoSuggestion as error:
                        print(kind, task.name, seed, error)
            print(f'{kind}, seed {seed}: {time.time() - start:.0f} s', file=sys.stderr, flush=True)


if __name__ == '__main__':
    main()
