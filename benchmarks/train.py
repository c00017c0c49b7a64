"""What does `fit_one_cycle` cost over a bare loop with the same schedule? Beside other trainers that are installed.

    python benchmarks/train.py              writes benchmarks/results/train.json and prints a table
"""
import contextlib
import copy
import io
import json
import logging
import sys
import time
import warnings
from importlib.util import find_spec

import torch
from report import processor
from quality import RESULTS, SCRATCH
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder_nb import fit_one_cycle

BATCH, STEPS, ROUNDS, LR = 64, 100, 11, 1e-2
LOSS = nn.CrossEntropyLoss()


def task():
    "(model, loader) whose step takes about 10 ms on one core"
    torch.manual_seed(0)
    x, y = torch.randn(BATCH*STEPS, 1, 8, 8), torch.randint(0, 10, (BATCH*STEPS,))
    first, second = nn.Conv2d(1, 48, 3, padding=1), nn.Conv2d(48, 128, 3, stride=2, padding=1)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)
    model = nn.Sequential(first, nn.BatchNorm2d(48), nn.ReLU(), second, nn.ReLU(), *head)
    return model, DataLoader(TensorDataset(x, y), BATCH, shuffle=True)


def bare(model, dl):
    opt = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, LR, total_steps=len(dl))
    model.train()
    for x, y in dl:
        opt.zero_grad()
        LOSS(model(x), y).backward()
        opt.step()
        schedule.step()


def ours(model, dl):
    opt = torch.optim.AdamW(model.parameters())
    fit_one_cycle(model, opt, LOSS, dl, max_lr=LR, epochs=1, progress=False)


def lightning(model, dl):
    import pytorch_lightning as pl

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = model

        def training_step(self, batch, i): return LOSS(self.model(batch[0]), batch[1])
        def configure_optimizers(self):
            opt = torch.optim.AdamW(self.parameters())
            schedule = torch.optim.lr_scheduler.OneCycleLR(opt, LR, total_steps=len(dl))
            return dict(optimizer=opt, lr_scheduler=dict(scheduler=schedule, interval='step'))

    silent = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = pl.Trainer(accelerator='cpu', max_epochs=1, default_root_dir=SCRATCH, **silent)
    trainer.fit(Module(), dl)


def fastai(model, dl):
    from functools import partial

    from fastai.basics import DataLoaders, Learner, OptimWrapper
    from fastai.callback import schedule        # adds fit_one_cycle
    assert schedule
    adamw = partial(OptimWrapper, opt=torch.optim.AdamW)
    learn = Learner(DataLoaders(dl, dl), model, loss_func=LOSS, path=SCRATCH, opt_func=adamw)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(1, LR)


def trainers():
    "What can be run here"
    found = {'bare loop': bare, 'lrfinder_nb': ours, 'bare loop again': bare}
    for name, (module, f) in {'Lightning': ('pytorch_lightning', lightning), 'fastai': ('fastai', fastai)}.items():
        if find_spec(module): found[name] = f
        else: print(f'{name} is not installed and left out', file=sys.stderr)
    return found


def seconds(f, model, dl):
    "CPU seconds of one epoch"
    model = copy.deepcopy(model)
    torch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()):
        start = time.process_time()
        f(model, dl)
    return time.process_time() - start


def main():
    warnings.filterwarnings('ignore')
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    model, dl = task()
    fs = trainers()
    for f in fs.values(): seconds(f, model, dl)     # imports and caches
    rows = []
    for i in range(ROUNDS):
        order = list(fs) if i % 2 else list(fs)[::-1]
        times = {n: seconds(fs[n], model, dl) for n in order}
        rows.append({n: times[n] for n in fs})
    least = {n: min(r[n] for r in rows) for n in fs}      # the rounds that the rest of the machine disturbed least
    ratio = {n: round(least[n]/least['bare loop'], 4) for n in fs}
    step_ms = round(1e3*least['bare loop']/STEPS, 2)
    body = dict(cpu=processor(), torch=torch.__version__, step_ms=step_ms, epoch_over_bare_loop=ratio, target=1.03)
    (RESULTS/'train.json').write_text(json.dumps(body, indent=1) + '\n')
    print(json.dumps(body, indent=1))


if __name__ == '__main__': main()
