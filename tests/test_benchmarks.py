"""The benchmarks measure what they say: a change of the finder must not leave them broken until the next release"""
import math
import sys
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]/'benchmarks'))
import overhead

# the loader trains a model of its own, which is not to be put back
pytestmark = pytest.mark.filterwarnings('ignore:the sweep has changed')


@pytest.mark.parametrize('contender', [overhead.bare_loop, overhead.ours, partial(overhead.ours, progress=True)])
def test_each_contender_makes_the_steps_that_are_timed(contender):
    figures = overhead.sweep_once(contender, overhead.mlp, blocks=3, block=4)
    assert len(overhead.TIMES) == 4
    assert all(map(math.isfinite, figures))


def test_short_trainings_are_timed_beside_as_many_bare_steps():
    net, batches = overhead.mlp()
    finder = overhead.LRFinder(net, overhead.sgd(net), overhead.loss_fn).range_test(batches, progress=False)
    figures = overhead.short_trainings(net, batches, finder)
    assert len(overhead.TIMES) >= finder.trials.steps > 0
    assert all(map(math.isfinite, figures))
