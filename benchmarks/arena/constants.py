"""Are the constants of the rules right? Others are tried on the same sweeps and trainings

    python benchmarks/arena/constants.py        needs the records, which `records.py` makes where they are missing

A row gives the score with each value, the difference of the best to ours with a 95 % interval of a bootstrap over
tasks, and the score leave-one-task-out: each task is judged with the value that is best on all others.
"""
import json
import math
from functools import partial

import numpy as np

from lrfinder_nb import analyse
from lrfinder_nb.core.rules import SHARPNESS, basin_divisor, low_weights
from lrfinder_nb.core.trainings import TOLERANCE, near_weights
from lrfinder_nb.core.trials import FAR
from own import coarse_to_fine, one_sweep
from records import FIRST_SEED, swept, trained, tried
from run import RESULTS
from scoring import difference, known, measured
from tasks import TASKS

SCALES = .5, .7, .85, 1., 1.2, 1.4, 2.


def scaled(ask, factor, task, seed):
    "The answer of a sweep as if the divisor of its rule were smaller by `factor`"
    rate = ask(task, seed)[0]
    return rate and rate*factor


def basin(task, seed, sharpness):
    "The answer of a sweep from coarse to fine with another sharpness"
    analysis = analyse(swept(task, seed))
    if analysis.problem: return None
    t = analysis.trend[analysis.kept]
    weights = low_weights(t.values, t.values[:t.values.argmin() + 1].max(), sharpness)
    return 10**float(weights @ np.log10(t.lrs))/basin_divisor(t.lrs)


def verified(task, seed, sharpness=SHARPNESS, share=.5, far=FAR):
    "The verified answer with other constants; `share` is the weight of the trials"
    trials = tried(task, seed, 1)
    rates, values = np.log10([*trials.values]), [*trials.values.values()]
    u = float(low_weights(values, trials.first, sharpness) @ rates)
    s = trials.swept and math.log10(trials.swept)
    return 10**(u if s is None or abs(u - s) > far else share*u + (1 - share)*s)


def thorough(horizon, task, seed, tolerance=TOLERANCE):
    "The answer of whole trainings with another tolerance"
    lrs, values, _ = zip(*trained(task, seed, horizon))
    logs = np.log10(lrs)
    return 10**float(near_weights(logs, np.array(values), tolerance) @ logs)


def varied(f, name, values):
    return {v: partial(f, **{name: v}) for v in values}


def studies():
    "(what is varied, ours, {value: f(task, seed) -> rate}, seeds)"
    for name, ask, seeds in (('coarse to fine', coarse_to_fine, 10), ('100 steps', partial(one_sweep, 100), 5),
                             ('300 steps', partial(one_sweep, 300), 5)):
        yield f'{name}: rate times', 1., {k: partial(scaled, ask, k) for k in SCALES}, seeds
    yield 'coarse to fine: sharpness', SHARPNESS, varied(basin, 'sharpness', (.01, .02, .03, .05, .1, .2)), 10
    yield 'verified: sharpness', SHARPNESS, varied(verified, 'sharpness', (.01, .02, .03, .05, .1)), 10
    yield 'verified: share of the trials', .5, varied(verified, 'share', (0., .3, .4, .5, .6, .7, 1.)), 10
    yield 'verified: far', FAR, varied(verified, 'far', (.6, .7, .8, .9, 1.2, 1.5)), 10
    for name, horizon in (('thorough', 1.), ('thorough at a quarter', .25)):
        f = partial(thorough, horizon)
        yield f'{name}: tolerance', TOLERANCE, varied(f, 'tolerance', (.02, .05, .1, .2, .3, .4, .5)), 3


def asked(f, seeds):
    "What `f` says on all quick tasks, scored"
    tasks = [TASKS[name] for name in known() if not TASKS[name].slow]
    rows = {t.name: {s: [f(t, s), 0] for s in range(FIRST_SEED, FIRST_SEED + seeds)} for t in tasks}
    return measured('', answers=rows)


def left_out(found):
    "Mean score of each task with the value that is best on all others"
    table = np.array([[*m.scores.values()] for m in found.values()])
    others = table.sum(1, keepdims=True) - table
    return float(np.mean([table[others[:, i].argmin(), i] for i in range(table.shape[1])]))


def rows():
    "Lines of a markdown table: a row for each constant"
    yield '| constant | ours | scores | the best less ours | 95 % interval | leave-one-task-out |'
    yield '| --- | --- | --- | --- | --- | --- |'
    for what, ours, options, seeds in studies():
        found = {value: asked(f, seeds) for value, f in options.items()}
        best = min(found, key=lambda value: found[value].score)
        mean, low, high = difference(found[best], found[ours])
        scores = ', '.join(f'{value:g}: {m.score:.3f}' for value, m in found.items())
        yield (f'| {what} | {ours:g}: {found[ours].score:.3f} | {scores} | {mean:+.3f} | {low:+.3f} to {high:+.3f} '
               f'| {left_out(found):.3f} |')


def main():
    found = []
    for row in rows():
        print(row, flush=True)
        found.append(row)
    (RESULTS/'constants.json').write_text(json.dumps(found, indent=1) + '\n')


if __name__ == '__main__': main()
