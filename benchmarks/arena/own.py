"""This library's contestants: what is read from the sweeps and trainings of `records.py`"""
import math
from contextlib import suppress
from functools import partial

from contestants import contestant
from lrfinder_nb import NoSuggestion, Spread, analyse
from lrfinder_nb.core.trainings import Training, Trainings
from records import FIRST_SEED, single, swept, trained, tried


def answer(read):
    "(rate, interval) of an analysis, of trials or of trainings; (None, None) where they suggest none"
    with suppress(NoSuggestion, AttributeError):
        return read.suggestion.lr, read.suggestion.interval
    return None, None


def steps_of(curve):
    return len(curve) + curve.ran_on.get('steps_before', len(curve.coarse or ()))


def one_sweep(num_iter, task, seed):
    "One sweep from 1e-7 to 10"
    curve = single(task, seed, num_iter)
    rate, interval = answer(analyse(curve))
    return rate, steps_of(curve), interval


for _steps in 100, 300:
    contestant(f'single sweep of {_steps}', ours=True)(partial(one_sweep, _steps))


@contestant('coarse to fine', ours=True)
def coarse_to_fine(task, seed):
    curve = swept(task, seed)
    rate, interval = answer(analyse(curve))
    return rate, steps_of(curve), interval


def verified(orders, task, seed):
    "Short trainings after the sweep"
    trials = tried(task, seed, orders)
    rate, interval = answer(trials)
    return rate, steps_of(swept(task, seed)) + (trials.steps if trials else 0), interval


contestant('verified', ours=True)(partial(verified, 1))
contestant('verified in two orders', ours=True)(partial(verified, 2))


def thorough(horizon, task, seed):
    "Whole trainings, or a quarter of them, after the short ones"
    _, steps, _ = verified(1, task, seed)
    rows = trained(task, seed, horizon)
    trainings = Trainings(tuple(Training(*row, {}) for row in rows), horizon)
    rate, interval = answer(trainings)
    return rate, steps + trainings.steps, interval


contestant('thorough', ours=True)(partial(thorough, 1.))
contestant('thorough at a quarter', ours=True)(partial(thorough, .25))


def repeated(runs, task, seed):
    "The geometric mean of several sweeps; the seeds of one answer are those of no other"
    first = FIRST_SEED + runs*(seed - FIRST_SEED)
    found = [coarse_to_fine(task, s) for s in range(first, first + runs)]
    rates = [rate for rate, _, _ in found if rate is not None]
    spread = Spread(tuple(rates)) if rates else None
    return spread and spread.geometric_mean, sum(steps for _, steps, _ in found), spread and spread.interval


contestant('repeat of three', ours=True)(partial(repeated, 3))
contestant('repeat of five', ours=True)(partial(repeated, 5))


def most_seeds(name):
    "How many answers of a contestant there can be without new sweeps than those of ten seeds"
    return {'repeat of three': 3, 'repeat of five': 2, 'thorough': 3, 'thorough at a quarter': 3}.get(name, math.inf)
