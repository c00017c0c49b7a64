"""What a step of a sweep costs with the objects of other libraries, beside their own loop and their own finder.

    python benchmarks/neighbours.py                 writes benchmarks/results/neighbours.json and prints a table
    python benchmarks/neighbours.py lightning ...   one round of these libraries, as JSON, in their environment

The environments are those that `make test-neighbours` has made beside `.venv`. Every loop reads batches that make
a bare step of a twin model before they are handed on, so that both see the same machine. Times are CPU times on
one thread. A round races the loop, the sweep and the library's own finder; rounds of the environments take turns.
"""
import contextlib
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

import torch
from report import processor
from torch import nn
from torch.utils.data import DataLoader, Dataset

ROOT = Path(__file__).resolve().parent.parent
ROUNDS, STEPS, BATCH, RATES = 7, 45, 240, dict(start_lr=1e-9, end_lr=1e-8)
LOSS = nn.functional.cross_entropy


class Net(nn.Module):
    "A model whose step takes about 20 ms on one core; with labels it returns its loss, as transformers wants it"
    def __init__(self):
        super().__init__()
        first, second = nn.Conv2d(1, 64, 3, padding=1), nn.Conv2d(64, 160, 3, stride=2, padding=1)
        self.layers = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                    nn.Linear(160, 10))

    def forward(self, x, labels=None):
        out = self.layers(x)
        return out if labels is None else dict(loss=LOSS(out, labels), logits=out)


def sgd(parameters): return torch.optim.SGD(parameters, lr=1e-9)


class Batches(Dataset):
    "Batches, before each of which a bare step of a twin is made and timed"
    def __init__(self, named=False):
        torch.manual_seed(0)
        self.net, self.named, self.asked, self.given = Net(), named, [], []
        self.opt, self.batch = sgd(self.net.parameters()), (torch.randn(BATCH, 1, 8, 8), torch.randint(10, (BATCH,)))

    def __len__(self): return STEPS

    def __getitem__(self, i):
        self.asked.append(time.process_time())
        self.opt.zero_grad()
        loss = LOSS(self.net(self.batch[0]), self.batch[1])
        loss.backward()
        self.opt.step()
        loss.item()
        self.given.append(time.process_time())
        return dict(x=self.batch[0], labels=self.batch[1]) if self.named else self.batch

    def ratio(self):
        "(median of a step over the bare ones beside it, bare seconds a step)"
        bare = [b - a for a, b in zip(self.asked, self.given)]
        steps = [b - a for a, b in zip(self.given, self.asked[1:])]
        ratios = [2*step/(one + two) for step, one, two in zip(steps, bare, bare[1:])]
        return median(ratios[8:-2]), median(bare)       # the first ones fill the caches


NOTES = []      # the batches of the last contender; a finder would put back what it finds in a loader


def loader(named=False):
    NOTES.append(Batches(named))
    return DataLoader(Handed(len(NOTES) - 1), batch_size=None)


class Handed(Dataset):
    "The batches by their number in `NOTES`"
    def __init__(self, number): self.number = number
    def __len__(self): return STEPS
    def __getitem__(self, i): return NOTES[self.number][i]


# ---- the contenders of each library: functions that make STEPS steps

def transformers():
    from transformers import Trainer, TrainingArguments

    from lrfinder_nb import finder_for

    class Own(Trainer):
        def get_train_dataloader(self): return loader(named=True)

    def made():
        args = TrainingArguments(tempfile.mkdtemp(), max_steps=STEPS, report_to=[], use_cpu=True, save_strategy='no',
                                 logging_strategy='no', disable_tqdm=True, learning_rate=1e-9, optim='sgd')
        return Own(model=Net(), args=args, train_dataset=[0])
    ours = lambda trainer: finder_for(trainer).range_test(num_iter=STEPS, progress=False, **RATES)
    return made, dict(loop=lambda trainer: trainer.train(), sweep=ours)


def lightning():
    import lightning.pytorch as pl
    from lightning.pytorch.tuner import Tuner

    from lrfinder_nb import finder_for

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.lr = Net(), 1e-9
        def training_step(self, batch, i): return LOSS(self.net(batch[0]), batch[1])
        def configure_optimizers(self): return sgd(self.parameters())

    def trainer():
        quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
        return pl.Trainer(accelerator='cpu', devices=1, max_epochs=1, default_root_dir=tempfile.mkdtemp(), **quiet)

    def theirs(module):
        settings = dict(min_lr=1e-9, max_lr=1e-8, num_training=STEPS, early_stop_threshold=None, update_attr=False)
        Tuner(trainer()).lr_find(module, loader(), **settings)
    ours = lambda module: finder_for(module, loader()).range_test(num_iter=STEPS, progress=False, **RATES)
    return Module, {'loop': lambda module: trainer().fit(module, loader()), 'sweep': ours, 'Tuner.lr_find': theirs}


def accelerate():
    from accelerate import Accelerator

    from lrfinder_nb import finder_for

    def made():
        accelerator, model = Accelerator(cpu=True), Net()
        accelerator._models.clear(), accelerator._optimizers.clear(), accelerator._dataloaders.clear()
        return accelerator, *accelerator.prepare(model, sgd(model.parameters()), loader())

    def loop(parts):
        accelerator, model, optimizer, batches = parts
        for x, y in batches:
            optimizer.zero_grad()
            loss = LOSS(model(x), y)
            accelerator.backward(loss)
            optimizer.step()
            loss.item()
    ours = lambda parts: finder_for(parts[0], loss_fn=LOSS).range_test(num_iter=STEPS, progress=False, **RATES)
    return made, dict(loop=loop, sweep=ours)


def fastai():
    from functools import partial

    from fastai.basics import DataLoaders, Learner, OptimWrapper
    from fastai.callback import schedule        # adds lr_find
    assert schedule

    from lrfinder_nb import finder_for
    plain = partial(OptimWrapper, opt=torch.optim.SGD)

    def made():
        dls = DataLoaders(loader(), [])
        return Learner(dls, Net(), loss_func=LOSS, path=tempfile.mkdtemp(), opt_func=plain, lr=1e-9)

    def quiet(learn, f):
        with learn.no_bar(), learn.no_logging(): f()
    loop = lambda learn: quiet(learn, lambda: learn.fit(1, 1e-9))
    settings = dict(start_lr=1e-9, end_lr=1e-8, num_it=STEPS, stop_div=False, show_plot=False, suggest_funcs=())
    theirs = lambda learn: quiet(learn, lambda: learn.lr_find(**settings))
    ours = lambda learn: finder_for(learn).range_test(num_iter=STEPS, progress=False, **RATES)
    return made, {'loop': loop, 'sweep': ours, 'lr_find': theirs}


LIBRARIES = dict(transformers=transformers, lightning=lightning, accelerate=accelerate, fastai=fastai)
ENVIRONMENTS = dict(neighbours=('transformers', 'lightning', 'accelerate'), fastai=('fastai',))


# ---- the race

def one_round(names):
    "By library: its version, and (ratio, bare seconds) of each contender in this process"
    found = {}
    for name in names:
        made, contenders = LIBRARIES[name]()
        for who, run in contenders.items():
            thing = made()
            with contextlib.redirect_stdout(io.StringIO()): run(thing)
            found.setdefault(name, dict(version=version(name)))[who] = NOTES[-1].ratio()
    return found


def rounds():
    "`one_round` of each environment, in turns"
    beside = os.environ.get('VIRTUAL_ENV', str(ROOT/'.venv'))
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT), HF_HUB_OFFLINE='1')
    for i in range(ROUNDS):
        turn = {}
        for suffix, names in ENVIRONMENTS.items():
            python = os.environ.get(f'PYTHON_{suffix.upper()}', f'{beside}-{suffix}/bin/python')
            call = [python, '-W', 'ignore', __file__, *names]
            out = subprocess.run(call, env=env, check=True, capture_output=True, text=True).stdout
            turn.update(json.loads(out.splitlines()[-1]))
        print(f'round {i + 1} of {ROUNDS}', file=sys.stderr, flush=True)
        yield turn


def summary(turns):
    "By library and contender: the added share of a step over the library's own loop, median and quartiles"
    found = {}
    for name in LIBRARIES:
        own = [turn[name] for turn in turns]
        for who in [who for who in own[0] if who not in ('version', 'loop')]:
            low, mid, high = quantiles([100*(turn[who][0]/turn['loop'][0] - 1) for turn in own], n=4)
            row = dict(median=round(mid, 1), quartiles=[round(low, 1), round(high, 1)])
            found.setdefault(name, dict(version=own[0]['version']))[who] = row
        loop = median(100*(turn['loop'][0] - 1) for turn in own)
        found[name]['loop over a bare one'] = round(loop, 1)
    return found


def main():
    warnings.filterwarnings('ignore')
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    if sys.argv[1:]:
        print(json.dumps(one_round(sys.argv[1:])))
        return
    turns = list(rounds())
    bare = [who[1] for turn in turns for name in turn.values() for key, who in name.items() if key != 'version']
    body = dict(cpu=processor(), python=sys.version.split()[0], date=date.today().isoformat(), torch=torch.__version__,
                step_ms=round(1e3*median(bare), 1), rounds=ROUNDS, target=5, added_percent=summary(turns))
    path = ROOT/'benchmarks/results/neighbours.json'
    path.write_text(json.dumps(body, indent=1) + '\n', encoding='utf-8')
    print(json.dumps(body, indent=1))


if __name__ == '__main__': main()
