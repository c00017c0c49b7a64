"""The contestants of the arena that need nothing but torch. A contestant is a function

    @contestant('half of the usual rate')
    def half(task, seed):
        return .5*USUAL[task.family], 0

that returns a rate, or None where it has no answer, how many training steps it took, and, if it has one, the
interval in which it says that nine in ten such answers lie: (low, high). It gets the model and the
optimizer by `task.make(seed)` and the loaders by `task.loaders(seed)`, and may use nothing else of the task than
its `loss_fn`, `family` and `epochs`.
"""
import math
from functools import partial

import torch

from lrfinder_nb import set_seed

CONTESTANTS = {}
STEP_TYPES = dict(sgd='sgd', momentum='sgd', adam='adam', adamw='adam', rmsprop='adam', lion='lion',
                  muon='muon')
CONSTANTS = {
    'low constant': dict(sgd=.01, adam=3e-4, lion=3e-5, muon=1e-3),
    'high constant': dict(sgd=.1, adam=1e-3, lion=1e-4, muon=2e-2),
}


def contestant(name, ours=False):
    "Register `f(task, seed) -> (rate or None, steps)`, with an interval at will, under `name`"
    def register(f):
        f.ours = ours
        CONTESTANTS[name] = f
        return f
    return register


def constant(rates, task, seed):
    "One rate for each type of optimizer"
    return rates[STEP_TYPES[task.family]], 0


for _name, _rates in CONSTANTS.items():
    contestant(_name)(partial(constant, _rates))


def loss_after(task, seed, lr):
    "(loss before, loss after) one step at `lr` on the first batch, measured on that batch"
    model, optimizer = task.make(seed, lr)
    x, y = next(iter(task.loaders(seed)[0]))
    set_seed(seed)
    before = task.loss_fn(model(x), y)
    before.backward()
    optimizer.step()
    set_seed(seed)
    with torch.no_grad():
        return float(before), float(task.loss_fn(model(x), y))


@contestant('critical rate')
def critical(task, seed, forwards=10):
    "The largest rate at which one step does not raise its batch's loss; a forward counts as a third of a step"
    low, high = -7., 1.
    for _ in range(forwards):
        middle = (low + high)/2
        before, after = loss_after(task, seed, 10**middle)
        low, high = (middle, high) if math.isfinite(after) and after <= before else (low, middle)
    return 10**low, 1 + forwards//3
