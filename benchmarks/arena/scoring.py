"""How good an answer is: the loss at the rate over the best loss, read from the truth"""
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from run import load
from tasks import TASKS
from truth import path_of, truth

REFUSED = 10.       # a refusal counts as ten times the best loss


@dataclass(frozen=True)
class Answers:
    "What one contestant said on one task, against the truth"
    task: str
    rates: tuple        # one for each seed, None where it refused
    steps: tuple
    horizon: int = 1
    intervals: tuple = ()   # (low, high) for each seed, None where there is none

    @cached_property
    def ratios(self):
        "Loss at each rate over the best loss"
        lrs, losses, _ = truth(TASKS[self.task], self.horizon)
        logs = np.log(losses/losses.min())
        at = lambda r: math.exp(np.interp(math.log(r), np.log(lrs), logs))
        return np.array([REFUSED if r is None else at(r) for r in self.rates])

    @cached_property
    def points(self):
        "Points of error above the best error, where there is one"
        lrs, _, errors = truth(TASKS[self.task], self.horizon)
        if errors is None:
            return np.zeros(len(self.rates))
        at = lambda r: np.interp(math.log(r), np.log(lrs), errors) - errors.min()
        return np.array([0. if r is None else at(r) for r in self.rates])

    @property
    def refused(self):
        return np.array([r is None for r in self.rates])

    @property
    def catastrophes(self):
        "Whether an answer more than doubles the loss or adds ten points of error"
        return ~self.refused & ((self.ratios > 2) | (self.points > .1))

    @property
    def score(self):
        "Mean of the logarithm of the ratios"
        return float(np.log(self.ratios).mean())

    @property
    def scatter(self):
        "Standard deviation of the logarithm of the rates over the seeds, nan with fewer than two"
        logs = [math.log(r) for r in self.rates if r is not None]
        return float(np.std(logs, ddof=1)) if len(logs) > 1 else math.nan

    @property
    def covered(self):
        "Share of the answers of other seeds that lie in the interval of one, nan where there is none"
        inside = [low <= rate <= high for i, (low, high) in self._ends() for j, rate in enumerate(self.rates)
                  if j != i and rate is not None]
        return float(np.mean(inside)) if inside else math.nan

    @property
    def width(self):
        "Mean of the logarithm of the interval's upper end over its lower one, nan where there is none"
        widths = [math.log(high/low) for _, (low, high) in self._ends()]
        return float(np.mean(widths)) if widths else math.nan

    def _ends(self):
        return [(i, ends) for i, ends in enumerate(self.intervals) if ends]


@dataclass(frozen=True)
class Measured:
    "A contestant on all tasks that have a truth and its answers"
    name: str
    answers: tuple      # of `Answers`

    @cached_property
    def scores(self):
        "Score by task"
        return {a.task: a.score for a in self.answers}

    @property
    def score(self):
        return float(np.mean([*self.scores.values()]))

    @cached_property
    def row(self):
        "The numbers of the table"
        ratios = np.concatenate([a.ratios for a in self.answers])
        mean = lambda key: float(np.mean([getattr(a, key).mean() for a in self.answers]))
        return dict(steps=float(np.mean([np.mean(a.steps) for a in self.answers])), score=self.score,
                    tail=float(np.quantile(ratios, .9)), catastrophic=mean('catastrophes'),
                    refused=mean('refused'),
                    close=float(np.mean([(a.ratios <= 1.05).mean() for a in self.answers])),
                    spread=math.exp(self._mean('scatter')),
                    covered=self._mean('covered'), width=math.exp(self._mean('width')))

    def _mean(self, key):
        "Mean over the tasks, nan where no task has it"
        values = [v for a in self.answers if not math.isnan(v := getattr(a, key))]
        return float(np.mean(values)) if values else math.nan


def known(horizon=1):
    "Names of the tasks whose truth is there"
    def there(task):
        path = path_of(task)
        return path.exists() and (horizon == 1 or f'"horizon": {horizon}' in path.read_text())
    return [name for name, task in TASKS.items() if there(task)]


def measured(name, horizon=1, answers=None):
    "A contestant, scored; `answers` as in its file, which is read otherwise"
    answers = load(name) if answers is None else answers
    found = []
    for task in known(horizon):
        if given := answers.get(task):
            rates, steps = zip(*(g[:2] for g in given.values()))
            intervals = tuple(tuple(g[2:]) or None for g in given.values())
            found.append(Answers(task, rates, steps, horizon, intervals))
    return Measured(name, tuple(found))


def difference(a, b, resamples=10000):
    "(mean, low, high) of the score of `a` less that of `b`: 95 % interval of a bootstrap over shared tasks"
    shared = [t for t in a.scores if t in b.scores]
    gaps = np.array([a.scores[t] - b.scores[t] for t in shared])
    drawn = np.random.default_rng(0).integers(0, len(gaps), (resamples, len(gaps)))
    low, high = np.quantile(gaps[drawn].mean(1), [.025, .975])
    return float(gaps.mean()), float(low), float(high)
