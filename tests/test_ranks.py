"""Two processes train together, and one of them fails, is stopped or exits: the other does not wait for it"""
import multiprocessing
import os
import signal
import sys
import time

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from lrfinder_nb import fit_one_cycle

pytestmark = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason='needs gloo')
AT = 6      # the step in which it happens


def happens(how):
    "What happens to the second process"
    if how == 'fails': raise ValueError('the disk is full')
    if how == 'is stopped': os.kill(os.getpid(), signal.SIGINT)
    if how == 'leaves': sys.exit(3)
    if how == 'dies': os._exit(3)
    if how == 'is killed': os.kill(os.getpid(), signal.SIGKILL)


def train(rank, how, wrap=False):
    "What a training said, how long after the event it ended, and the weights then"
    torch.manual_seed(0)
    model, calls, begun = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)), [], []
    if wrap: model = DistributedDataParallel(model)
    x = torch.randn(64, 4)
    dl = DataLoader(TensorDataset(x, x[:, :1]), 4)

    def step(model, batch):
        calls.append(1)
        if len(calls) == AT: begun.append(time.time())
        if len(calls) == AT and rank: happens(how)
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    opt = torch.optim.SGD(model.parameters(), .01)
    try: said = fit_one_cycle(model, opt, None, dl, step=step, max_lr=.1, epochs=3, progress=False)
    except BaseException as e: said = f'{type(e).__name__}: {e}'
    took = time.time() - begun[0] if begun else 0.
    return dict(said=str(said), took=took, weights=[p.detach().clone() for p in model.parameters()])


def work(rank, folder, scenes):
    "Play scenes as one of two processes and save what they said"
    if sys.platform == 'linux': os.environ.setdefault('GLOO_SOCKET_IFNAME', 'lo')
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    said = {}
    for how, wrap in scenes:
        said[how, wrap] = train(rank, how, wrap)
        torch.save(said, f'{folder}/{rank}.pt')
    os._exit(0)     # the common group may wait for the other process


def play(folder, scenes, seconds=120):
    "What both processes said, where they said something"
    context = multiprocessing.get_context('spawn')
    both = [context.Process(target=work, args=(rank, str(folder), scenes)) for rank in (0, 1)]
    for p in both: p.start()
    for p in both: p.join(seconds)
    late = [p for p in both if p.is_alive()]
    for p in late: p.kill()
    assert not late, 'a process waits for the other one'
    return [torch.load(path) if (path := folder/f'{rank}.pt').exists() else {} for rank in (0, 1)]


LIVING = [(how, wrap) for how in ('fails', 'is stopped', 'leaves', 'completes') for wrap in (False, True)]


@pytest.fixture(scope='module')
def said(tmp_path_factory): return play(tmp_path_factory.mktemp('ranks'), LIVING)


@pytest.mark.parametrize('wrap', [False, True])
def test_one_fails(said, wrap):
    one, other = (s['fails', wrap] for s in said)
    assert other['said'] == 'ValueError: the disk is full'
    assert 'another process has failed' in one['said'] and 'ValueError: the disk is full' in one['said']
    assert max(one['took'], other['took']) < 10 and same(one, other)


@pytest.mark.parametrize('wrap', [False, True])
def test_one_leaves(said, wrap):
    one, other = (s['leaves', wrap] for s in said)
    assert other['said'] == 'SystemExit: 3' and 'another process has failed' in one['said']
    assert max(one['took'], other['took']) < 10 and same(one, other)


@pytest.mark.parametrize('wrap', [False, True])
def test_one_is_stopped(said, wrap):
    "Both end as stopped after the same step, with the same weights"
    one, other = (s['is stopped', wrap] for s in said)
    assert one['said'] == other['said'] and f'{AT - 1} steps, stopped' in one['said']
    assert max(one['took'], other['took']) < 10 and same(one, other)


@pytest.mark.parametrize('wrap', [False, True])
def test_the_next_training_is_a_whole_one(said, wrap):
    "What went wrong before has left nothing behind"
    one, other = (s['completes', wrap] for s in said)
    assert one['said'] == other['said'] and 'completed' in one['said'] and same(one, other)


@pytest.mark.parametrize('how', ['dies', 'is killed'])
def test_one_is_gone(tmp_path, how):
    one, other = play(tmp_path, [(how, False)])
    assert 'another process has failed' in one[how, False]['said'] and one[how, False]['took'] < 10 and not other


def same(one, other): return all(map(torch.equal, one['weights'], other['weights']))
