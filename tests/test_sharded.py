"""A model whose parameters are spread over two processes is swept, verified and put back with its optimizer's state"""
import multiprocessing
import os
import sys

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder_nb import LRFinder, fit_one_cycle

pytestmark = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason='needs gloo')
MESHES = dict(sharded={'shards': 2}, hybrid={'copies': 2, 'shards': 1})


def sharded(shape):
    "(model, optimizer) with a state, and the loader of this training"
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    torch.manual_seed(0)
    mesh = init_device_mesh('cpu', (*shape.values(),), mesh_dim_names=(*shape,))
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    for layer in (model[0], model[2], model): fully_shard(layer, mesh=mesh)
    x = torch.randn(128, 8, generator=torch.Generator().manual_seed(1))
    loader = DataLoader(TensorDataset(x, x[:, :1]*x[:, 1:2]), 16, shuffle=True)
    return model, torch.optim.AdamW(model.parameters()), loader


def train(model, optimizer, loader, n):
    for _, (x, y) in zip(range(n), loader):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()


def local(x): return (x.to_local() if hasattr(x, 'to_local') else x).detach().clone()


def image(model, optimizer):
    "This process's part of the weights and of the optimizer's state"
    moments = [x for state in optimizer.state.values() for x in state.values()]
    return [local(x) for x in [*model.parameters(), *moments]]


def equal(a, b): return len(a) == len(b) and all(map(torch.equal, a, b))


def scene(name, folder):
    "What held in this process"
    from torch.distributed.checkpoint import load, save
    from torch.distributed.checkpoint.state_dict import get_state_dict
    said, ends = {}, []
    for swept in (False, True):
        model, optimizer, loader = sharded(MESHES[name])
        torch.manual_seed(3)
        train(model, optimizer, loader, 3)
        before = image(model, optimizer)
        said['state'] = len(before)
        if swept:
            saved = dict(zip(('model', 'optimizer'), get_state_dict(model, optimizer)))
            save(saved, checkpoint_id=f'{folder}/{name}')
            finder = LRFinder(model, optimizer, nn.functional.mse_loss).range_test(loader, seed=0, progress=False)
            said['losses'] = [float(x) for x in finder.curve.losses]
            said['restored'] = equal(before, image(model, optimizer))
            finder.verify(loader, seed=0, progress=False)
            said['verified'] = finder.rung == 'verified' and equal(before, image(model, optimizer))
            there = dict(zip(('model', 'optimizer'), get_state_dict(model, optimizer)))
            load(there, checkpoint_id=f'{folder}/{name}')
            said['as saved'] = equal(before, image(model, optimizer))
        train(model, optimizer, loader, 5)
        ends.append(image(model, optimizer))
    said['same end'] = equal(*ends)
    history = fit_one_cycle(model, optimizer, nn.functional.mse_loss, loader, max_lr=1e-2, epochs=2, progress=False)
    said['trained'] = [float(x) for x in history.losses]
    return said


def work(rank, folder):
    if sys.platform == 'linux': os.environ.setdefault('GLOO_SOCKET_IFNAME', 'lo')
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    torch.save({name: scene(name, folder) for name in MESHES}, f'{folder}/{rank}.pt')
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def said(tmp_path_factory):
    "What each process said of each mesh"
    folder, context = str(tmp_path_factory.mktemp('sharded')), multiprocessing.get_context('spawn')
    processes = [context.Process(target=work, args=(rank, folder)) for rank in range(2)]
    for process in processes: process.start()
    for process in processes: process.join(240)
    for process in processes:
        if process.is_alive(): process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(f'{folder}/{rank}.pt') for rank in range(2)]


@pytest.mark.parametrize('name', MESHES)
def test_a_sharded_model_comes_back_with_its_optimizer(said, name):
    for found in said:
        assert all(found[name][what] for what in ('restored', 'verified', 'same end', 'as saved'))
        assert found[name]['state'] == 16       # four parameters, and three numbers or tensors of Adam for each


@pytest.mark.parametrize('name', MESHES)
def test_both_processes_have_one_curve_and_one_training(said, name):
    first, second = (found[name] for found in said)
    assert first['losses'] == second['losses'] and len(first['losses']) > 50
    assert first['trained'] == second['trained'] and len(first['trained']) == 8
