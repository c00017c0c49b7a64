"""What accelerate has prepared, in one process and in two"""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

accelerate = pytest.importorskip('accelerate', reason='accelerate is not installed: make test-neighbours installs it')

from conftest import equal, loader, net, weights  # noqa: E402

from lrfinder_nb import LRFinder, finder_for  # noqa: E402

LOSS = nn.functional.cross_entropy


def prepared(lr=1e-3, schedule=None, groups=False, **kw):
    "(accelerator, model, optimizer, loader) and a scheduler where `schedule(optimizer, lr)` makes one"
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = accelerate.Accelerator(cpu=True, **kw)
    torch.manual_seed(1)
    model = net()
    halves = [dict(params=model[0].parameters(), lr=lr/10), dict(params=model[3].parameters(), lr=lr)]
    opt = torch.optim.Adam(halves if groups else model.parameters(), lr=lr)
    more = [schedule(opt, lr)] if schedule else []
    return accelerator, *accelerator.prepare(model, opt, loader(), *more)


def trained(accelerator, model, opt, dl, schedule=None):
    torch.manual_seed(2)
    losses = []
    for _ in range(2):
        for x, y in dl:
            with accelerator.accumulate(model):
                loss = LOSS(model(x), y)
                accelerator.backward(loss)
                opt.step()
                if schedule: schedule.step()
                opt.zero_grad()
            losses.append(loss.item())
    return losses, weights(model)


@pytest.mark.parametrize('kw', [{}, dict(gradient_accumulation_steps=2), dict(mixed_precision='bf16')])
def test_training_after_the_sweep_is_that_with_the_rate_set_by_hand(held, kw):
    held('accelerate', 'sweep', 'verify', 'train', 'restored')
    parts = prepared(**kw)
    finder = finder_for(parts[0], loss_fn=LOSS).range_test(progress=False).verify(progress=False).apply()
    a = trained(*parts)
    by_hand = prepared(**kw)
    for group in by_hand[2].param_groups: group['lr'] = finder.suggestion.lr
    b = trained(*by_hand)
    assert a[0] == b[0] and equal(a[1], b[1])


def test_prepared_parts_work_in_an_ordinary_finder():
    parts = prepared()
    _, model, opt, dl = parts
    finder = LRFinder(model, opt, LOSS).range_test(dl, progress=False)
    assert len(finder.curve) > 50
    a, b = trained(*parts), trained(*prepared())
    assert a[0] == b[0] and equal(a[1], b[1])


def test_what_is_missing_gets_a_sentence():
    accelerator, model, opt, dl = prepared()
    accelerator.prepare(loader())
    with pytest.raises(ValueError, match='prepared 2 loaders.*finder_for'): finder_for(accelerator, loss_fn=LOSS)
    assert len(finder_for(accelerator, dl, loss_fn=LOSS).range_test(num_iter=9, progress=False).curve) == 9
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    empty = accelerate.Accelerator(cpu=True)
    with pytest.raises(ValueError, match='prepared 0 models'): finder_for(empty, loss_fn=LOSS)


S = torch.optim.lr_scheduler
SCHEDULES = {
    'warm-up from nothing': lambda opt, lr: S.LambdaLR(opt, lambda i: i/10),
    'cosine': lambda opt, lr: S.CosineAnnealingLR(opt, 24),
    'one cycle': lambda opt, lr: S.OneCycleLR(opt, [group['lr'] for group in opt.param_groups], total_steps=60),
    'in turn': lambda opt, lr: S.SequentialLR(opt, [S.LinearLR(opt, .1, total_iters=5), S.CosineAnnealingLR(opt, 20)],
                                              [5]),
}


@pytest.mark.parametrize('groups', [False, True])
@pytest.mark.parametrize('schedule', SCHEDULES.values(), ids=SCHEDULES)
def test_a_scheduler_goes_to_the_rate_that_was_written(schedule, groups):
    parts = prepared(schedule=schedule, groups=groups)
    finder = finder_for(parts[0], loss_fn=LOSS).range_test(progress=False).apply(.02)
    assert finder.applied.endswith('the optimizer and its scheduler')
    finder.apply(.02)       # once more changes nothing
    a, b = trained(*parts), trained(*prepared(.02, schedule=schedule, groups=groups))
    assert a[0] == pytest.approx(b[0], rel=1e-4)


def test_a_scheduler_that_was_not_prepared_is_named_and_nothing_is_written():
    accelerator, _, opt, _ = prepared()
    S.StepLR(opt.optimizer, 5)
    finder = finder_for(accelerator, loss_fn=LOSS).range_test(num_iter=9, progress=False)
    with pytest.raises(ValueError, match='a scheduler was made with this Adam.*make optimizer and scheduler anew'):
        finder.apply(.02)
    assert opt.param_groups[0]['lr'] == 1e-3


LOADERS = 'split_batches', 'use_seedable_sampler', 'dispatch_batches', 'use_stateful_dataloader'


@pytest.mark.parametrize('how', LOADERS)
def test_loaders_of_other_kinds(how):
    if how == 'use_stateful_dataloader': pytest.importorskip('torchdata')
    kw = dict(dataloader_config=accelerate.DataLoaderConfiguration(**{how: True}))
    parts = prepared(**kw)
    finder_for(parts[0], loss_fn=LOSS).range_test(progress=False).apply(.02)
    a, b = trained(*parts), trained(*prepared(.02, **kw))
    assert a[0] == b[0] and equal(a[1], b[1])


TWO = '''
import sys; sys.path.insert(0, {tests!r})
import torch, accelerate
from torch import nn
from conftest import loader, net, weights, equal
from lrfinder_nb import finder_for
accelerator = accelerate.Accelerator(cpu=True)
torch.manual_seed(1)
model = net()
model, opt, dl = accelerator.prepare(model, torch.optim.Adam(model.parameters(), lr=1e-3), loader())
before = weights(model)
finder = finder_for(accelerator, loss_fn=nn.functional.cross_entropy).range_test(progress=False).verify(progress=False)
assert equal(before, weights(model))
rates = accelerator.gather(torch.tensor([finder.suggestion.lr], dtype=torch.float64))
if accelerator.is_main_process: print('rates', rates.tolist(), accelerator.num_processes)
'''


def test_two_processes(tmp_path, held):
    held('accelerate', 'processes')
    script = tmp_path/'two.py'
    script.write_text(TWO.format(tests=str(Path(__file__).parent)))
    call = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', str(script)]
    env = dict(os.environ, ACCELERATE_USE_CPU='true', OMP_NUM_THREADS='1')
    run = subprocess.run(call, capture_output=True, text=True, timeout=240, env=env)
    assert run.returncode == 0, run.stderr[-3000:]
    line = next(line for line in run.stdout.splitlines() if line.startswith('rates'))
    rates = json.loads(line.removeprefix('rates ').rsplit(' ', 1)[0])
    assert line.endswith(' 2') and rates[0] == rates[1]
