"Runs on the workers of Dask, one of which is killed"
import os
import signal
import threading
import time

import pytest
import torch
from torch import nn

MISSING = 'distributed is not installed: make test-neighbours installs it'
distributed = pytest.importorskip('distributed', reason=MISSING)

from conftest import loader, net  # noqa: E402

from lrfinder_nb import LRFinder, repeat  # noqa: E402


def make():
    model = net()
    return model, torch.optim.Adam(model.parameters())


def curves(runs): return [analysis.curve for analysis in runs.runs]


def test_a_run_of_a_killed_worker_is_made_again(held, tmp_path):
    held('distributed', 'sweep', 'verify', 'processes')
    begun = tmp_path/'pids'
    home = repeat(make, nn.CrossEntropyLoss(), loader(), 4, verify=True, progress=False)

    def noted():
        with begun.open('a') as f: f.write(f'{os.getpid()}\n')
        time.sleep(.3)
        return make()

    def kill():
        while not begun.exists() or not begun.read_text().strip(): time.sleep(.02)
        os.kill(int(begun.read_text().split()[0]), signal.SIGKILL)
    workers = dict(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with distributed.LocalCluster(**workers) as cluster, distributed.Client(cluster) as client:
        killer = threading.Thread(target=kill)
        killer.start()
        away = repeat(noted, nn.CrossEntropyLoss(), loader(), 4, verify=True, executor=client.get_executor(),
                      progress=False)
        killer.join()
    assert curves(away) == curves(home) and away.trials == home.trials
    assert len(set(begun.read_text().split())) == 3       # two, and the one in place of the killed one


def test_a_verification_on_the_workers_of_dask(held):
    held('distributed', 'verify')
    torch.manual_seed(0)
    finder = LRFinder(*make(), nn.CrossEntropyLoss()).range_test(loader(), seed=0, progress=False)
    workers = dict(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with distributed.LocalCluster(**workers) as cluster, distributed.Client(cluster) as client:
        more = dict(executor=client.get_executor(), orders=2, seed=0, progress=False)
        away = finder.verify(loader(), **more).trials
    assert away == finder.verify(loader(), orders=2, seed=0, progress=False).trials
