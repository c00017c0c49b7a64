"""How good are the suggestions? Each rule and each installed finder, against a grid of trainings.

    python benchmarks/quality.py            writes benchmarks/results/quality.json and prints a table

A task is a model, an optimizer and a batch size on the handwritten digits. Its truth is the validation loss
after five epochs of one cycle at thirteen rates, the mean of three seeds, interpolated on the log scale. A finder
is swept ten times with other seeds; its regret is the loss at its suggestion over the best loss of the grid.
"""
import contextlib
import io
import json
import logging
import math
import sys
import tempfile
import time
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import nn

from lrfinder_nb import LRFinder, RULES, SmallCNN, TrainingDiverged, digits, fit_one_cycle, set_seed

GRID, SEEDS, SWEEPS, EPOCHS = np.geomspace(1e-4, 10, 13), 3, 10, 5


class RowLSTM(nn.Module):
    "Reads a digit row by row"
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 64, batch_first=True), nn.Linear(64, 10)
    def forward(self, x): return self.head(self.lstm(x[:, 0])[0][:, -1])


def mlp(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Dropout(.2), nn.Linear(128, 10))
def sgd(params, lr): return torch.optim.SGD(params, lr, momentum=.9)


TASKS = {
    'CNN, AdamW': (SmallCNN, torch.optim.AdamW, 64),
    'CNN, SGD': (SmallCNN, sgd, 64),
    'MLP, Adam': (mlp, torch.optim.Adam, 64),
    'MLP, SGD': (mlp, sgd, 64),
    'LSTM, Adam': (RowLSTM, torch.optim.Adam, 64),
    'CNN, AdamW, batches of 16': (SmallCNN, torch.optim.AdamW, 16),
    'MLP, RMSprop': (mlp, torch.optim.RMSprop, 64),
}


def trained_loss(task, lr, seed):
    "Validation loss after one cycle at `lr`"
    make, opt, batch_size = TASKS[task]
    set_seed(seed)
    model, (train_dl, valid_dl), loss_fn = make(), digits(batch_size, seed=0), nn.CrossEntropyLoss()
    set_seed(seed, train_dl)
    optimizer, (images, labels) = opt(model.parameters(), lr=lr), valid_dl.dataset.tensors
    try: fit_one_cycle(model, optimizer, loss_fn, train_dl, max_lr=lr, epochs=EPOCHS, progress=False)
    except TrainingDiverged: return 10.
    with torch.no_grad(): loss = loss_fn(model.eval()(images), labels).item()
    return min(loss, 10.) if math.isfinite(loss) else 10.


def setting(task, seed):
    "Fresh (model, optimizer, loader) of a task"
    make, opt, batch_size = TASKS[task]
    set_seed(seed)
    model, (train_dl, _) = make(), digits(batch_size, seed=0)
    set_seed(seed, train_dl)
    return model, opt(model.parameters(), lr=1e-3), train_dl


def ours(task, model, opt, dl, num_iter=100):
    "Suggestion of every rule on one sweep"
    finder = LRFinder(model, opt, nn.CrossEntropyLoss()).range_test(dl, num_iter=num_iter, progress=False)
    return {f'lrfinder_nb {rule}, {num_iter} steps': finder.analyse(rule=rule).suggestion.lr for rule in RULES}


def torch_lr_finder(task, model, opt, dl):
    from torch_lr_finder import LRFinder as Peer
    peer = Peer(model, opt, nn.CrossEntropyLoss())
    peer.range_test(dl, start_lr=1e-7, end_lr=10, num_iter=100)
    lr = float(peer.plot(suggest_lr=True)[1])
    peer.reset()
    return {'torch-lr-finder': lr}


def lightning(task, model, opt, dl):
    import pytorch_lightning as pl
    from pytorch_lightning.tuner import Tuner

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.model, self.lr, self.loss = model, 1e-3, nn.CrossEntropyLoss()
        def forward(self, x): return self.model(x)
        def training_step(self, batch, i): return self.loss(self.model(batch[0]), batch[1])
        def configure_optimizers(self): return TASKS[task][1](self.model.parameters(), lr=self.lr)

    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    tuner = Tuner(pl.Trainer(accelerator='cpu', max_epochs=1000, default_root_dir=SCRATCH, **quiet))
    found = tuner.lr_find(Module(), dl, min_lr=1e-7, max_lr=10, num_training=100, update_attr=False)
    return {'Lightning lr_find': float(found.suggestion())}


def fastai(task, model, opt, dl):
    from fastai.basics import DataLoaders, Learner, OptimWrapper
    from fastai.callback import schedule        # adds lr_find
    opt_func, rules = partial(OptimWrapper, opt=TASKS[task][1]), [schedule.valley, schedule.steep]
    learn = Learner(DataLoaders(dl, dl), model, loss_func=nn.CrossEntropyLoss(), path=SCRATCH, opt_func=opt_func)
    with learn.no_bar(), learn.no_logging(): found = learn.lr_find(show_plot=False, suggest_funcs=rules)
    return {'fastai valley': float(found.valley), 'fastai steep': float(found.steep)}


def available():
    "The finders that can be run here"
    found = [ours, partial(ours, num_iter=300)]
    for module, f in dict(torch_lr_finder=torch_lr_finder, pytorch_lightning=lightning, fastai=fastai).items():
        if find_spec(module): found.append(f)
        else: print(f'{module} is not installed and left out', file=sys.stderr)
    return found


RESULTS, SCRATCH = Path(__file__).parent/'results', Path(tempfile.gettempdir())/'lrfinder_nb-benchmarks'


def quiet():
    "Other finders warn and draw; here they do neither"
    warnings.filterwarnings('ignore')
    logging.disable(logging.WARNING)
    matplotlib.use('Agg')


def swept(task, finders):
    "{finder: rates of all sweeps}"
    rates = {}
    for s in range(SWEEPS):
        for f in finders:
            with contextlib.redirect_stdout(io.StringIO()): found = f(task, *setting(task, 100 + s))
            for name, lr in found.items(): rates.setdefault(name, []).append(lr)
    return rates


def main():
    quiet()
    torch.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)
    rows, grids, finders = {}, {}, available()
    for task in TASKS:
        start = time.time()
        losses = np.array([np.mean([trained_loss(task, lr, s) for s in range(SEEDS)]) for lr in GRID])
        grids[task] = losses.round(4).tolist()
        regret = lambda lr: math.exp(np.interp(math.log(lr), np.log(GRID), np.log(losses)))/losses.min()
        for name, lrs in swept(task, finders).items():
            found = dict(lrs=[float(f'{lr:.3g}') for lr in lrs], regrets=[round(regret(lr), 3) for lr in lrs])
            rows.setdefault(name, {})[task] = found
        best, seconds = GRID[losses.argmin()], time.time() - start
        print(f'{task}: best rate {best:.1e}, {seconds:.0f} s', file=sys.stderr, flush=True)
    body = dict(grid=GRID.round(6).tolist(), grids=grids, torch=torch.__version__, finders=rows)
    (RESULTS/'quality.json').write_text(json.dumps(body, indent=1) + '\n')
    print('\n'.join(table(body)))


def table(body):
    "Lines of a markdown table: each finder's regret and spread over all tasks"
    yield ('| finder and rule | loss over the best, median | 90th percentile | more than doubled '
           '| max/min of ten sweeps, median task | worst task |')
    yield '|---|---|---|---|---|---|'
    def summary(tasks):
        regrets = np.concatenate([t['regrets'] for t in tasks.values()])
        spreads = [max(t['lrs'])/min(t['lrs']) for t in tasks.values()]
        return np.median(regrets), np.quantile(regrets, .9), np.mean(regrets > 2), np.median(spreads), max(spreads)
    for name, tasks in sorted(body['finders'].items(), key=lambda kv: summary(kv[1])[0]):
        m, q, bad, spread, worst = summary(tasks)
        yield f'| {name} | {m:.2f} | {q:.2f} | {bad:.0%} | {spread:.1f} | {worst:.2g} |'


if __name__ == '__main__': main()
