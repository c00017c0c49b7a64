"Verifications of other libraries' objects by the workers of a process pool, bit for bit those at home"
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from lrfinder_nb import finder_for


@pytest.fixture(scope='module')
def pool():
    with ProcessPoolExecutor(2, get_context('spawn')) as executor: yield executor


def trainer(tmp_path):
    tests = pytest.importorskip('test_transformers')
    return finder_for(tests.trainer(tmp_path))


def lightning(tmp_path):
    tests = pytest.importorskip('test_lightning')
    return finder_for(tests.made(), tests.Data())


def accelerate(tmp_path):
    tests = pytest.importorskip('test_accelerate')
    return finder_for(tests.prepared()[0], loss_fn=tests.LOSS)


def ignite(tmp_path):
    tests = pytest.importorskip('test_ignite')
    return finder_for(tests.supervised()[0], tests.loader())


@pytest.mark.parametrize('make', [trainer, lightning, accelerate, ignite])
def test_trials_are_those_at_home(pool, tmp_path, make):
    finder = make(tmp_path).range_test(progress=False)
    home = finder.verify(progress=False).trials
    assert finder.verify(executor=pool, orders=1, progress=False).trials == home
