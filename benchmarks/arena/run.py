"""Lets contestants answer on all tasks and keeps what they said

    python benchmarks/arena/run.py          all of them that can be run here, five seeds
    python benchmarks/arena/run.py --contestants 'single sweep of 100' --seeds 10 --tasks clothes

The answers stand in benchmarks/results/arena/rates/<contestant>.json; those that are there are not asked for
again.
"""
import argparse
import json
import logging
import math
import sys
import time
import warnings

import torch

import own
import peers  # noqa: F401, registers its contestants
from contestants import CONTESTANTS
from records import FIRST_SEED
from tasks import TASKS
from truth import RESULTS

SLOW_SEEDS = 3          # for slow tasks


def path_of(name):
    return RESULTS/'rates'/f"{name.replace(' ', '-').replace(chr(39), '')}.json"


def load(name):
    "{task: {seed: [rate or None, steps, low, high]}} of a contestant; the last two where it gives an interval"
    path = path_of(name)
    return json.loads(path.read_text())['answers'] if path.exists() else {}


def save(name, answers):
    path = path_of(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix('.part')
    lines = [f' {json.dumps(task)}: {json.dumps(seeds)}' for task, seeds in answers.items()]
    head = f'{{"contestant": {json.dumps(name)}, "torch": {json.dumps(torch.__version__)}, "answers": {{\n'
    part.write_text(head + ',\n'.join(lines) + '\n}}\n')
    part.replace(path)


def seeds_of(task, seeds, name=''):
    "The seeds that a task is asked with"
    seeds = min(seeds, own.most_seeds(name))
    return range(FIRST_SEED, FIRST_SEED + (min(seeds, SLOW_SEEDS) if task.slow else seeds))


def rounded(x):
    return float(f'{x:.4g}')


def ask(name, task, seed):
    "[rate or None, steps] and the ends of the interval if there is one, rounded"
    rate, steps, *interval = CONTESTANTS[name](task, seed)
    if rate is None or not math.isfinite(rate) or rate <= 0:
        return [None, int(steps)]
    ends = interval[0] if interval and interval[0] else ()
    return [rounded(rate), int(steps), *map(rounded, ends)]


def run(name, tasks, seeds, again=False):
    "All answers of a contestant that are not there yet; seconds, or None where a library is missing"
    answers, start = load(name), time.time()
    if again:
        answers |= {task.name: {} for task in tasks}
    for task in tasks:
        given = answers.setdefault(task.name, {})
        for seed in seeds_of(task, seeds, name):
            if str(seed) in given:
                continue
            try:
                given[str(seed)] = ask(name, task, seed)
            except ImportError as error:
                print(f'{name} is left out: {error}', file=sys.stderr)
                return None
        save(name, answers)
    return time.time() - start


def main():
    parser = argparse.ArgumentParser(description='Let contestants answer')
    parser.add_argument('--contestants', help='their names, with commas between them; all of them otherwise')
    parser.add_argument('--seeds', type=int, default=5, help='seeds a task')
    parser.add_argument('--again', action='store_true', help='ask for answers that are there, too')
    parser.add_argument('--tasks', default='', help='only tasks whose name contains this')
    parser.add_argument('--quick', action='store_true', help='leave out the slow tasks')
    asked = parser.parse_args()
    warnings.filterwarnings('ignore')
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    names = asked.contestants.split(',') if asked.contestants else [*CONTESTANTS]
    for slow in (False,) if asked.quick else (False, True):
        tasks = [t for t in TASKS.values() if asked.tasks in t.name and t.slow == slow]
        for name in names if tasks else ():
            seconds = run(name, tasks, asked.seeds, asked.again)
            if seconds is not None:
                kind = 'slow' if slow else 'quick'
                print(f'{name}, {kind} tasks: {seconds:.0f} s', file=sys.stderr, flush=True)


if __name__ == '__main__':
    main()
