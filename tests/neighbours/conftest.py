"""What the tests of neighbours share, and the table of what held with which version"""
import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder_nb import finder_for

os.environ.update(HF_HUB_OFFLINE='1', TRANSFORMERS_OFFLINE='1', WANDB_MODE='disabled', TOKENIZERS_PARALLELISM='false')
COLUMNS = 'sweep', 'verify', 'train', 'restored', 'processes'
HELD = {}


@pytest.fixture
def held(request):
    "held(package, column): this test shows that `column` of the table holds for the library"
    noted = []
    yield lambda package, *columns: noted.append((package, columns))
    outcome = getattr(request.node, 'outcome', None)
    for package, columns in noted:
        for column in columns: HELD.setdefault(package, {})[column] = outcome == 'passed'


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == 'call': item.outcome = report.outcome


def pytest_sessionfinish(session):
    path = os.environ.get('NEIGHBOURS_TABLE')
    if not path or not HELD: return
    path, table = Path(path), {}
    if path.exists(): table = json.loads(path.read_text(encoding='utf-8'))
    for package, columns in HELD.items():
        try: number = version(package)
        except PackageNotFoundError: continue
        table[package] = dict(version=number, **{c: columns[c] for c in COLUMNS if c in columns})
    path.write_text(json.dumps(dict(sorted(table.items())), indent=1) + '\n', encoding='utf-8')


class Rows(torch.utils.data.Dataset):
    "Samples as dicts"
    def __init__(self, n=192, seed=0):
        g = torch.Generator().manual_seed(seed)
        self.x = torch.randn(n, 8, generator=g)
        self.y = (self.x[:, 0]*self.x[:, 1] > 0).long()
    def __len__(self): return len(self.x)
    def __getitem__(self, i): return dict(x=self.x[i], labels=self.y[i])


def pairs(n=192, seed=0):
    "The same as pairs"
    rows = Rows(n, seed)
    return TensorDataset(rows.x, rows.y)


def loader(batch_size=16, shuffle=True): return DataLoader(pairs(), batch_size, shuffle=shuffle)


def net(): return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(.1), nn.Linear(32, 2))


def weights(model): return [p.detach().clone() for p in model.parameters()]


def equal(a, b): return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b))


def check_verify(trainer):
    "Short and whole trainings of a Trainer give an answer and leave its weights as they were"
    before = weights(trainer.model)
    finder = finder_for(trainer).range_test(progress=False).verify(progress=False)
    assert finder.trials and finder.rung == 'verified'
    finder.verify(epochs=1, most=2, progress=False)
    assert finder.rung == 'trained in full' and len(finder.trials.trainings) == 2
    assert equal(before, weights(trainer.model))
