"""The contestants from other libraries, each swept as its own documentation does"""
import contextlib
import io
import logging
import tempfile
import warnings
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from contestants import contestant
from lrfinder_nb import set_seed
from tasks import TASKS

SCRATCH = Path(tempfile.gettempdir())/'lrfinder_nb-benchmarks'


def setting(task, seed):
    "(model, optimizer, train_dl, valid_dl) of a task, with the random state of `seed`"
    model, optimizer = task.make(seed)
    train_dl, valid_dl = task.loaders(seed)
    set_seed(seed)
    return model, optimizer, train_dl, valid_dl


@contestant('torch-lr-finder')
def torch_lr_finder(task, seed):
    import matplotlib.pyplot as plt
    from torch_lr_finder import LRFinder, TrainDataLoaderIter
    model, optimizer, train_dl, _ = setting(task, seed)
    finder = LRFinder(model, optimizer, task.loss_fn)
    batches = train_dl if isinstance(train_dl, DataLoader) else TrainDataLoaderIter(train_dl)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        finder.range_test(batches, start_lr=1e-7, end_lr=10, num_iter=100)
        found = finder.plot(suggest_lr=True)
    plt.close('all')
    return (float(found[1]) if isinstance(found, tuple) else None), len(finder.history['lr'])


def lightning_module(task, model):
    "The task as a LightningModule"
    import pytorch_lightning as pl

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.model, self.lr = model, 1e-3

        def training_step(self, batch, i):
            return task.loss_fn(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return task.optimizer(self.model.parameters(), lr=self.lr)

    return Module()


@contestant('Lightning lr_find')
def lightning(task, seed):
    import pytorch_lightning as pl
    from pytorch_lightning.tuner import Tuner
    warnings.filterwarnings('ignore')
    logging.getLogger('pytorch_lightning').setLevel(logging.ERROR)
    model, _, train_dl, _ = setting(task, seed)
    trainer = pl.Trainer(accelerator='cpu', logger=False, enable_checkpointing=False,
                         enable_progress_bar=False, enable_model_summary=False, max_epochs=1000,
                         default_root_dir=SCRATCH)
    found = Tuner(trainer).lr_find(lightning_module(task, model), train_dl, min_lr=1e-7, max_lr=10,
                                   num_training=100, update_attr=False)
    return found and found.suggestion(), len(found.results['lr']) if found else 100


@lru_cache(512)
def fastai_sweep(name, seed):
    "What the four rules read from one sweep, and its steps"
    from fastai.basics import DataLoaders, Learner, OptimWrapper
    from fastai.callback import schedule
    warnings.filterwarnings('ignore')
    task = TASKS[name]
    model, _, train_dl, valid_dl = setting(task, seed)
    learner = Learner(DataLoaders(train_dl, valid_dl), model, loss_func=task.loss_fn, path=SCRATCH,
                      opt_func=partial(OptimWrapper, opt=task.optimizer))
    rules = {rule: getattr(schedule, rule) for rule in FASTAI_RULES}
    with learner.no_bar(), learner.no_logging():
        return swept(learner, rules), len(learner.recorder.lrs)


def swept(learner, rules):
    "The rates of the rules, each read by itself, since one that fails takes the others with it"
    found = {}
    learner.lr_find(show_plot=False, suggest_funcs=None)
    record = learner.recorder
    lrs, losses = (torch.tensor([float(x) for x in values[10:-5]]) for values in (record.lrs, record.losses))
    if len(losses) and torch.isnan(losses).any():
        first = int(torch.isnan(losses).nonzero()[0])
        lrs, losses = lrs[:first], losses[:first]
    for name, rule in rules.items():
        try:
            found[name] = float(rule(lrs, losses, 100)[0])
        except (ValueError, IndexError, RuntimeError):
            found[name] = None
    return found


FASTAI_RULES = 'valley', 'steep', 'minimum', 'slide'


def fastai(rule, task, seed):
    rates, steps = fastai_sweep(task.name, seed)
    return rates[rule], steps


for _rule in FASTAI_RULES:
    contestant(f'fastai {_rule}')(partial(fastai, _rule))


@contestant('ignite FastaiLRFinder')
def ignite(task, seed):
    from ignite.engine import Engine
    from ignite.handlers import FastaiLRFinder
    logging.getLogger('ignite').setLevel(logging.ERROR)
    warnings.filterwarnings('ignore')
    model, optimizer, train_dl, _ = setting(task, seed)

    def step(engine, batch):
        model.train()
        optimizer.zero_grad()
        loss = task.loss_fn(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss.item()

    finder, trainer, touched = FastaiLRFinder(), Engine(step), dict(model=model, optimizer=optimizer)
    with finder.attach(trainer, touched, num_iter=100, start_lr=1e-7, end_lr=10.) as run:
        run.run(train_dl)
    try:
        return float(finder.lr_suggestion()), len(finder.get_results()['lr'])
    except RuntimeError:
        return None, 100


@contestant("Prodigy's d")
def prodigy(task, seed, steps=100):
    "The step size that Prodigy has settled on after 100 steps; it means Adam's"
    from prodigyopt import Prodigy
    model, _, train_dl, _ = setting(task, seed)
    optimizer, done = Prodigy(model.parameters()), 0
    while done < steps:
        for x, y in train_dl:
            optimizer.zero_grad()
            task.loss_fn(model(x), y).backward()
            optimizer.step()
            done += 1
            if done == steps:
                break
    return float(optimizer.param_groups[0]['d']), steps
