"""What is promised on CUDA, in one command that needs one GPU and no network: make test-gpu"""
import json
import math
import os
import time
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from lrfinder_nb import LRFinder
from lrfinder_nb.engine import keep
from lrfinder_nb.engine.state import preserved

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA GPU')
SWEEP = dict(start_lr=1e-5, end_lr=1., diverge_threshold=math.inf, progress=False)


def net():
    layers = nn.Linear(32, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(.3), nn.Linear(64, 10)
    return nn.Sequential(*layers).cuda()


def batches(n=4):
    g = torch.Generator().manual_seed(1)
    return [(torch.randn(32, 32, generator=g).cuda(), torch.randint(10, (32,), generator=g).cuda()) for _ in range(n)]


def trained(interlude, amp=None, steps=6):
    "Weights and draws of a seeded training with `interlude` in its middle"
    torch.manual_seed(0)
    torch.cuda.manual_seed_all(0)
    model, data = net(), batches()
    opt = torch.optim.AdamW(model.parameters(), 1e-2)
    scaler = torch.amp.GradScaler('cuda', enabled=amp == torch.float16)
    for i in range(steps):
        if i == steps//2: interlude(model, opt, data)
        x, y = data[i % len(data)]
        opt.zero_grad()
        with torch.autocast('cuda', amp, enabled=amp is not None): loss = nn.functional.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(opt)
        scaler.update()
    kept = [*model.parameters(), *model.buffers(), torch.rand(3, device='cuda')]
    return [x.detach().cpu() for x in kept]


@pytest.mark.parametrize('where', ['auto', 'device', 'cpu', 'disk'])
@pytest.mark.parametrize('amp, dtype', [(None, None), ('bf16', torch.bfloat16), ('fp16', torch.float16)])
def test_a_training_goes_on_as_if_there_had_been_no_sweep(amp, dtype, where):
    def sweep(model, opt, data):
        finder = LRFinder(model, opt, nn.functional.cross_entropy, amp=amp, preserve_on=where)
        finder.range_test(data, num_iter=20, **SWEEP)
        assert len(finder.curve) >= 2
    for a, b in zip(trained(lambda *_: None, dtype), trained(sweep, dtype), strict=True): assert torch.equal(a, b)


def test_a_captured_graph_sees_the_old_weights():
    model = nn.Linear(32, 10).cuda()
    opt, x = torch.optim.SGD(model.parameters(), .1), torch.randn(8, 32, device='cuda')
    with torch.no_grad():
        model(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph): out = model(x)
        graph.replay()
        before = out.clone()
    LRFinder(model, opt, nn.functional.cross_entropy).range_test(batches(), num_iter=20, **SWEEP)
    graph.replay()
    assert torch.equal(out, before)


def test_no_synchronisation_at_each_step():
    counts, data = [], batches()
    for steps in (20, 50, 250):     # the first is to warm up
        model = net()
        opt = torch.optim.SGD(model.parameters(), .1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            torch.cuda.set_sync_debug_mode('warn')
            try: LRFinder(model, opt, nn.functional.cross_entropy).range_test(data, num_iter=steps, **SWEEP)
            finally: torch.cuda.set_sync_debug_mode('default')
        counts.append(sum('synchronizing' in str(w.message) for w in caught))
    assert (counts[2] - counts[1])/200 <= .1 + 1e-9


def test_a_state_that_does_not_fit_twice_goes_to_the_host(monkeypatch):
    model = nn.Linear(4096, 4096, bias=False).cuda()      # 64 MiB
    for free, least, most in ((2**30, 60, 70), (2**26, 0, 4)):
        monkeypatch.setattr(keep, 'free_bytes', lambda d: free)
        start = torch.cuda.memory_allocated()
        with preserved(model): held = (torch.cuda.memory_allocated() - start)/2**20
        assert least <= held <= most


def test_one_rank_with_nccl(tmp_path):
    import torch.distributed as dist
    dist.init_process_group('nccl', init_method=f'file://{tmp_path}/meet', rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(net(), device_ids=[0])
        old = [p.detach().clone() for p in model.parameters()]
        opt = torch.optim.SGD(model.parameters(), .1)
        LRFinder(model, opt, nn.functional.cross_entropy).range_test(batches(), num_iter=20, **SWEEP)
        assert all(map(torch.equal, old, model.parameters()))
    finally: dist.destroy_process_group()


def seconds(f):
    torch.cuda.synchronize()
    start = time.perf_counter()
    f()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def test_a_sweep_costs_what_its_steps_cost():
    "100 steps of a ResNet-50 in a sweep, over the same steps without one; the ratio is written beside the benchmarks"
    from torchvision.models import resnet50
    model = resnet50(num_classes=10).cuda()
    opt = torch.optim.SGD(model.parameters(), 1e-9, momentum=.9)
    data = [(torch.randn(32, 3, 128, 128).cuda(), torch.arange(32).cuda() % 10)]
    rates = dict(start_lr=1e-9, end_lr=1e-8, num_iter=100, progress=False, diverge_threshold=math.inf)

    def bare():
        for _ in range(100):
            opt.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(data[0][0]), data[0][1]).backward()
            opt.step()
    finder = LRFinder(model, opt, nn.functional.cross_entropy)
    for f in (bare, lambda: finder.range_test(data, **rates)): f()
    ratios = [seconds(lambda: finder.range_test(data, **rates))/seconds(bare) for _ in range(3)]
    body = dict(gpu=torch.cuda.get_device_name(), torch=torch.__version__, resnet50_ratio=sorted(ratios)[1])
    if path := os.environ.get('GPU_RESULTS'): Path(path).write_text(json.dumps(body, indent=1) + '\n')
    assert sorted(ratios)[1] < 1.1, ratios
