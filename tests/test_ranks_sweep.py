"""Two processes sweep together, and one fails, is stopped or exits: both end at once, with their models as before"""
import multiprocessing
import os
import sys
import time

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lrfinder_nb import LRFinder
from test_ranks import happens

pytestmark = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason='needs gloo')
AT = 6      # the step in which it happens
SWEEP = dict(num_iter=20, start_lr=1e-4, end_lr=.1, progress=False)


def swept(rank, how, wrap):
    "What a sweep said, how long after the event it ended, and whether the model is as before"
    torch.manual_seed(0)
    model, begun, x = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)), [], torch.randn(8, 4)
    if wrap: model = DistributedDataParallel(model)
    old = {k: v.clone() for k, v in model.state_dict().items()}
    opt, calls = torch.optim.Adam(model.parameters(), .01), []

    def step(model, batch):
        calls.append(1)
        if len(calls) == AT: print(begun.append(time.time()) or time.time(), file=open(f'{FOLDER}/{rank}.time', 'w'))
        if len(calls) == AT and rank: happens(how)
        return nn.functional.mse_loss(model(batch[0]), batch[1])
    finder = LRFinder(model, opt, step=step)
    try: said = repr(finder.range_test([(x, x[:, :1])], **SWEEP).curve)
    except BaseException as e: said = f'{type(e).__name__}: {e}'
    took = time.time() - float(open(f'{FOLDER}/{rank}.time').read())
    same = all(torch.equal(v, old[k]) for k, v in model.state_dict().items())
    return dict(said=said, took=took, same=same and not opt.state and opt.param_groups[0]['lr'] == .01)


FOLDER = None


def work(rank, folder, scenes, after):
    "Sweep as one of two processes; `after` says how the process ends"
    global FOLDER
    FOLDER = folder
    if sys.platform == 'linux': os.environ.setdefault('GLOO_SOCKET_IFNAME', 'lo')
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    said = {}
    for how, wrap in scenes:
        said[how, wrap] = swept(rank, how, wrap)
        torch.save(said, f'{folder}/{rank}.pt')
    if after == 'exits': sys.exit(1)        # the error was caught
    os._exit(0)


def play(folder, scenes, after='', seconds=100):
    "What both processes said, where they said something, and how long they took to end"
    context = multiprocessing.get_context('spawn')
    both = [context.Process(target=work, args=(rank, str(folder), scenes, after)) for rank in (0, 1)]
    for p in both: p.start()
    for p in both: p.join(seconds)
    late = [p for p in both if p.is_alive()]
    for p in late: p.kill()
    assert not late, 'a process waits for the other one'
    ended = time.time() - max((folder/f'{rank}.time').stat().st_mtime for rank in (0, 1))
    return [torch.load(path) if (path := folder/f'{rank}.pt').exists() else {} for rank in (0, 1)], ended


LIVING = [(how, wrap) for how in ('fails', 'is stopped', 'leaves', 'completes') for wrap in (False, True)]


@pytest.fixture(scope='module')
def said(tmp_path_factory): return play(tmp_path_factory.mktemp('ranks'), LIVING)[0]


@pytest.mark.parametrize('scene', LIVING, ids=lambda s: f"{s[0]}{', wrapped' if s[1] else ''}")
def test_both_end_at_once_with_their_models_as_before(said, scene):
    one, other = (s[scene] for s in said)
    assert one['same'] and other['same'] and max(one['took'], other['took']) < 10, (one, other)
    if scene[0] == 'fails': assert 'the disk is full' in one['said'] and other['said'] == 'ValueError: the disk is full'
    if scene[0] == 'leaves': assert 'another process has failed' in one['said'] and other['said'] == 'SystemExit: 3'
    if scene[0] == 'is stopped': assert 'stopped' in one['said'] and 'stopped' in other['said']
    if scene[0] == 'completes': assert one['said'] == other['said'] and 'completed' in one['said']


@pytest.mark.parametrize('how', ['dies', 'is killed'])
def test_one_is_gone(tmp_path, how):
    (one, other), _ = play(tmp_path, [(how, False)])
    one = one[how, False]
    assert 'another process has failed' in one['said'] and one['took'] < 10 and one['same'] and not other


@pytest.mark.parametrize('how', ['fails', 'leaves'])
def test_processes_that_exit_after_the_error_was_caught(tmp_path, how):
    (one, other), ended = play(tmp_path, [(how, False)], 'exits')
    assert one[how, False]['same'] and other[how, False]['same'] and ended < 30     # with the end of two Pythons
