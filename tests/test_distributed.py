"""Two processes sweep as one: the same curve, the same last step, and weights that come back on both"""
import math, os, subprocess, sys
from datetime import timedelta
from itertools import count

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from lrfinder_nb.engine.finder import LRFinder
from lrfinder_nb.train.mixup import mixup
from lrfinder_nb.engine.state import set_seed
from lrfinder_nb.train.one_cycle import fit_one_cycle

pytestmark = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason='needs gloo')
torch.set_num_threads(1)
SWEEP = dict(num_iter=30, start_lr=1e-3, end_lr=.5, progress=False)
HALF = 4


def net():
    "A seeded small network"
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))


def batches(rank=None, seed=1, n=7):
    "Global batches, or the half of each that `rank` sees"
    g = torch.Generator().manual_seed(seed)
    part = slice(None) if rank is None else slice(rank*HALF, (rank + 1)*HALF)
    return [(x[part], x.sin().sum(1, keepdim=True)[part]) for x in torch.randn(n, 2*HALF, 6, generator=g)]


def sweep(model, loader, step=None, momentum=0., **kw):
    "What a sweep said, and whether it left everything as it was"
    opt = torch.optim.SGD(model.parameters(), .1, momentum=momentum)
    old = {k: v.clone() for k, v in model.state_dict().items()}
    curve = LRFinder(model, opt, F.mse_loss, step=step).range_test(loader, **{**SWEEP, **kw}).curve
    same = all(torch.equal(v, old[k]) for k, v in model.state_dict().items())
    same = same and not opt.state and all(p.grad is None for p in model.parameters())
    return dict(lrs=curve.lrs.tolist(), losses=curve.losses.tolist(), ended=curve.ended, same=same)


def spoiled(factor, when):
    "A step whose loss is multiplied by `factor` from step `when` on"
    calls = count()
    return lambda model, batch: F.mse_loss(model(batch[0]), batch[1])*(factor if next(calls) >= when else 1.)


def trained(rank, swept):
    "Losses and parameters of eight steps under DistributedDataParallel, a sweep after the third where `swept`"
    model = DistributedDataParallel(net())
    opt, losses = torch.optim.SGD(model.parameters(), .05, momentum=.9), []
    for i, (x, y) in enumerate(batches(rank, n=8)):
        if i == 3 and swept: LRFinder(model, opt, F.mse_loss).range_test(batches(rank, seed=2), **SWEEP)
        opt.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        opt.step()
        losses.append(loss.detach())
    return dict(losses=torch.stack(losses), parameters=[p.detach() for p in model.parameters()])


def loader(batch_size, shuffle=False):
    "A loader that each process gets its share of"
    x = torch.cat([b[0] for b in batches()])
    return DataLoader(TensorDataset(x, x.sin().sum(1, keepdim=True)), batch_size, shuffle=shuffle)


def with_momentum(model): return torch.optim.SGD(model.parameters(), .1, momentum=.9)
def weights_of(model): return [p.detach() for p in model.parameters()]
def same_weights(a, b): return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def fitted(batch_size):
    "A training with one cycle, and what came of it"
    model, metrics = net(), dict(off=lambda out, y: (out - y).abs().mean())
    kw = dict(max_lr=.1, epochs=2, metrics=metrics, progress=False)
    history = fit_one_cycle(model, with_momentum(model), F.mse_loss, loader(batch_size), loader(3), **kw)
    valid, off = ([row[name] for row in history.epochs] for name in ('valid_loss', 'off'))
    return dict(losses=list(history.losses), weights=weights_of(model), valid=valid, off=off)


class Pressed(list):
    "Validation batches, in whose second reading somebody presses Ctrl-C"
    times = 0
    def __iter__(self):
        self.times += 1
        if self.times == 2: raise KeyboardInterrupt
        return super().__iter__()


def resumed(rank):
    "Whether a stopped training with dropout continues as if it had not been, and another seed gives another one"
    def fit(seed, path=None, valid_dl=None):
        model = nn.Sequential(net(), nn.Dropout(.5), nn.Linear(1, 1, bias=False).requires_grad_(False))
        model[2].weight.data.fill_(1.)
        set_seed(seed + rank)
        kw = dict(max_lr=.1, epochs=3, checkpoint=path, progress=False)
        data = loader(HALF, shuffle=True), valid_dl
        history = fit_one_cycle(model, with_momentum(model), F.mse_loss, *data, **kw)
        return history, weights_of(model)
    path = f"{os.environ['SCENES']}/run.pt"
    whole, weights = fit(5)
    assert fit(5, path, Pressed(batches()))[0].ended == 'stopped'
    rest, again = fit(77, path)
    same = rest.losses == whole.losses and same_weights(weights, again)
    return dict(same=same, another=fit(6)[0].losses != whole.losses)


def blended(rank):
    "The inputs that a blended loader gives this process in two epochs"
    seen = []
    def see(model, batch):
        seen.append(batch[0][:, 0].round().tolist())
        return model(batch[0]).square().mean()
    dl = DataLoader(TensorDataset(torch.arange(16.)[:, None].expand(16, 6), torch.arange(16) % 2), 4, shuffle=True)
    model = net()
    kw = dict(max_lr=.01, epochs=2, step=see, progress=False)
    fit_one_cycle(model, torch.optim.SGD(model.parameters(), .01), None, mixup(dl, prob=0.), **kw)
    return seen


SCENES = dict(
    resumed=resumed, blended=blended,
    ddp=lambda rank: sweep(DistributedDataParallel(net()), batches(rank)),
    ddp_momentum=lambda rank: sweep(DistributedDataParallel(net()), batches(rank), momentum=.9),
    ddp_accumulated=lambda rank: sweep(DistributedDataParallel(net()), batches(rank), accumulation_steps=3),
    ddp_validated=lambda rank: sweep(DistributedDataParallel(net()), batches(rank), valid_dl=batches(rank, seed=3)),
    plain=lambda rank: sweep(net(), batches(rank)),
    loader=lambda rank: sweep(net(), loader(HALF)),
    fit=lambda rank: fitted(HALF),
    diverged=lambda rank: sweep(net(), batches(rank), spoiled(1e4, 14 if rank else math.inf)),
    non_finite=lambda rank: sweep(net(), batches(rank), spoiled(math.nan, 14 if rank else math.inf)),
    unswept=lambda rank: trained(rank, False),
    swept=lambda rank: trained(rank, True),
    exhausted=lambda rank: sweep(net(), iter(batches(rank, n=9))))
ALONE = dict(unequal=lambda rank: sweep(net(), iter(batches(rank, n=5 + 6*rank))))


def work(rank, folder, scenes, seconds):
    "Play scenes as one of two processes and save what they said"
    if sys.platform == 'linux': os.environ.setdefault('GLOO_SOCKET_IFNAME', 'lo')
    os.environ['SCENES'] = folder
    who = dict(rank=rank, world_size=2, timeout=timedelta(seconds=seconds))
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', **who)
    said = {}
    for name in scenes:
        try: said[name] = {**SCENES, **ALONE}[name](rank)
        except Exception as e: said[name] = f'{type(e).__name__}: {e}'
    torch.save(said, f'{folder}/{rank}.pt')
    dist.destroy_process_group()


def play(folder, scenes, seconds=60):
    "What both processes said"
    torch.multiprocessing.spawn(work, (str(folder), list(scenes), seconds), nprocs=2)
    return [torch.load(folder/f'{rank}.pt') for rank in (0, 1)]


@pytest.fixture(scope='module')
def said(tmp_path_factory): return play(tmp_path_factory.mktemp('ranks'), SCENES)


def both(said, name):
    "What both ranks said in one scene, which must be the same"
    a, b = (s[name] for s in said)
    assert isinstance(a, dict) and isinstance(b, dict), (a, b)
    assert a['same'] and b['same']
    assert (a['lrs'], a['ended']) == (b['lrs'], b['ended']) and np.array_equal(a['losses'], b['losses'], equal_nan=True)
    return a


WHOLE = dict(ddp={}, plain={}, ddp_momentum=dict(momentum=.9), ddp_accumulated=dict(accumulation_steps=3))


@pytest.mark.parametrize('name, kw', WHOLE.items())
def test_two_halves_are_one_batch(said, name, kw):
    two, one = both(said, name), sweep(net(), batches(), **kw)
    assert two['ended'] == one['ended'] == 'completed' and two['lrs'] == one['lrs']
    assert np.allclose(two['losses'], one['losses'], rtol=1e-5, atol=1e-6)


def test_a_loader_is_shared_out(said):
    two, one = both(said, 'loader'), sweep(net(), loader(2*HALF))
    assert np.allclose(two['losses'], one['losses'], rtol=1e-5, atol=1e-6)


def test_validation_losses_are_averaged(said):
    two, one = both(said, 'ddp_validated'), sweep(net(), batches(), valid_dl=batches(seed=3))
    assert np.allclose(two['losses'], one['losses'], rtol=1e-5, atol=1e-6)


def test_training_in_two_processes_is_training_in_one(said):
    a, b = (x['fit'] for x in said)
    assert same_weights(a['weights'], b['weights'])
    assert all(a[k] == b[k] for k in ('losses', 'valid', 'off'))
    one = fitted(2*HALF)
    for k in ('losses', 'valid', 'off'): assert np.allclose(a[k], one[k], rtol=1e-5, atol=1e-6)
    assert all(torch.allclose(p, q, atol=1e-5) for p, q in zip(a['weights'], one['weights'], strict=True))


def test_a_stopped_training_continues_in_two_processes(said):
    for s in said: assert s['resumed'] == dict(same=True, another=True), s['resumed']


def test_a_blended_loader_is_shared_out(said):
    "Each epoch shows every sample once to one of the processes, and in another order than the last"
    epochs = [[x for s in said for batch in s['blended'][2*e:2*e + 2] for x in batch] for e in (0, 1)]
    assert [sorted(e) for e in epochs] == [list(range(16))]*2 and epochs[0] != epochs[1]


def test_torchrun(tmp_path):
    "The README's call under torchrun: both processes hold one curve and one model, and one of them speaks"
    (tmp_path/'script.py').write_text("""
import os, torch
from lrfinder_nb import LRFinder, SmallCNN, digits, set_seed
torch.set_num_threads(1)
set_seed(0)
model = SmallCNN(channels=(8,))
train_dl, valid_dl = digits(32)
finder = LRFinder(model, torch.optim.AdamW(model.parameters()), torch.nn.CrossEntropyLoss())
finder.range_test(train_dl, num_iter=60, start_lr=1e-5)
history = finder.fit_one_cycle(train_dl, valid_dl, max_lr=1e-2, epochs=1, metrics='accuracy')
said = dict(curve=finder.curve.losses.tolist(), losses=history.losses)
torch.save(dict(said, weights=[p.detach() for p in model.parameters()]), f"{os.environ['RANK']}.pt")
""")
    env = dict(os.environ, GLOO_SOCKET_IFNAME='lo') if sys.platform == 'linux' else dict(os.environ)
    torchrun = sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2'
    kw = dict(cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    ran = subprocess.run([*torchrun, 'script.py'], **kw)
    assert ran.returncode == 0, ran.stderr[-2000:]
    a, b = (torch.load(tmp_path/f'{rank}.pt') for rank in (0, 1))
    assert a['curve'] == b['curve'] and a['losses'] == b['losses'] and same_weights(a['weights'], b['weights'])
    assert ran.stdout.count('valid_loss') == 1


def test_divergence_on_one_rank_stops_both(said):
    two = both(said, 'diverged')
    assert two['ended'] == 'diverged' and 15 <= len(two['losses']) <= 20


def test_nan_on_one_rank_stops_both(said):
    two = both(said, 'non_finite')
    assert two['ended'] == 'non-finite' and len(two['losses']) == 15 and np.isnan(two['losses'][-1])


def test_exhausted_loaders_stop_both(said):
    two = both(said, 'exhausted')
    assert two['ended'] == 'exhausted' and len(two['losses']) == 9


def test_training_goes_on_as_if_there_had_been_no_sweep(said):
    for s in said:
        assert torch.equal(s['swept']['losses'], s['unswept']['losses'])
        assert all(torch.equal(a, b) for a, b in zip(s['swept']['parameters'], s['unswept']['parameters'], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(*(s['swept']['parameters'] for s in said), strict=True))


def test_a_rank_that_runs_out_stops_both(tmp_path):
    two = both(play(tmp_path, ALONE, seconds=10), 'unequal')
    assert two['ended'] == 'exhausted' and len(two['losses']) == 5
