"""The data of the arena, all from packages: clothes, tables, two photographs and Python's own sources"""
import gzip
import math
import sysconfig
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

FASHION = Path('/usr/share/datasets/fashion-mnist')     # where Debian's package dataset-fashion-mnist puts it
MODULES = ('argparse', 'ast', 'calendar', 'codecs', 'dataclasses', 'difflib', 'doctest', 'enum', 'heapq', 'inspect',
           'locale', 'optparse', 'fractions', 'pdb')
PROSE = 'pydoc_data/topics.py'                          # the language reference: English, not code


class Arrays(Dataset):
    "Inputs and targets that are indexed by whole batches"
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]

    def __getitems__(self, indices):
        return self.x[indices], self.y[indices]


def together(batch):
    "A batch is already one"
    return batch


def loaders(train, valid, batch_size, seed):
    "(train_dl, valid_dl) over two pairs of arrays; the training data are shuffled from `seed`"
    shuffled = torch.Generator().manual_seed(seed)
    train_dl = DataLoader(Arrays(*train), batch_size, shuffle=True, generator=shuffled, collate_fn=together)
    return train_dl, DataLoader(Arrays(*valid), 500, collate_fn=together)


def _images(part, n):
    "The first `n` pictures of Fashion-MNIST and their labels"
    with gzip.open(FASHION/f'{part}-images-idx3-ubyte.gz') as f:
        x = np.frombuffer(f.read(16 + n*784), np.uint8, offset=16)
    with gzip.open(FASHION/f'{part}-labels-idx1-ubyte.gz') as f:
        y = np.frombuffer(f.read(8 + n), np.uint8, offset=8)
    return torch.from_numpy(x.reshape(n, 1, 28, 28).copy()).float(), torch.from_numpy(y.copy()).long()


@lru_cache
def fashion(n, held=1000, side=14):
    "((x, y), (x, y)): `n` pictures of clothes for training and `held` for validation, shrunk to `side` pixels"
    (x, y), (valid_x, valid_y) = _images('train', n), _images('t10k', held)
    if side < 28:
        x, valid_x = (F.adaptive_avg_pool2d(a, side) for a in (x, valid_x))
    mean, std = x.mean(), x.std()
    return ((x - mean)/std, y), ((valid_x - mean)/std, valid_y)


def noisy(data, share, classes=10):
    "The same data with a share of the training labels drawn anew"
    (x, y), valid = data
    g = torch.Generator().manual_seed(7)
    wrong = torch.rand(len(y), generator=g) < share
    return (x, torch.where(wrong, torch.randint(classes, y.shape, generator=g), y)), valid


def _split(x, y, held, seed=3):
    "Two pairs of arrays, the rows shuffled once and for all"
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    x, y = x[order], y[order]
    return (x[held:], y[held:]), (x[:held], y[:held])


@lru_cache
def table(name, held, normalised=True):
    "A table of scikit-learn: 'digits', 'wine', 'breast_cancer' or 'diabetes', whose target is standardised"
    from sklearn import datasets
    loaded = getattr(datasets, f'load_{name}')(**(dict(scaled=False) if name == 'diabetes' else {}))
    x = torch.from_numpy(np.ascontiguousarray(loaded.data)).float()
    y = torch.from_numpy(np.ascontiguousarray(loaded.target))
    y = ((y - y.mean())/y.std()).float()[:, None] if name == 'diabetes' else y.long()
    train, valid = _split(x, y, held)
    if not normalised:
        return train, valid
    mean, std = train[0].mean(0), train[0].std(0).clamp(min=.1)
    return ((train[0] - mean)/std, train[1]), ((valid[0] - mean)/std, valid[1])


@lru_cache
def photograph(name):
    "One of scikit-learn's two photographs, shape (3, height, width), from -1 to 1"
    from sklearn.datasets import load_sample_image
    return torch.from_numpy(load_sample_image(name).copy()).permute(2, 0, 1).float()/127.5 - 1


@lru_cache
def patches(n=3000, held=600, side=8):
    "Grey patches of the photograph of a temple, each its own target"
    grey = photograph('china.jpg').mean(0)
    g = torch.Generator().manual_seed(5)
    corners = torch.stack([torch.randint(s - side, (n + held,), generator=g) for s in grey.shape], 1).tolist()
    x = torch.stack([grey[i:i + side, j:j + side].flatten() for i, j in corners])
    x = (x - x.mean())/x.std()
    return (x[held:], x[held:]), (x[:held], x[:held])


@lru_cache
def pixels(n=16000, held=2000, waves=16):
    "Colours of the photograph of a flower at random places, which are given as sines and cosines"
    picture = photograph('flower.jpg')
    g = torch.Generator().manual_seed(6)
    place = torch.rand(n + held, 2, generator=g)
    i, j = ((place[:, k]*s).long() for k, s in enumerate(picture.shape[1:]))
    angles = 2*math.pi*place @ torch.randn(2, waves, generator=g)*2
    x, y = torch.cat([place*2 - 1, angles.sin(), angles.cos()], 1), picture[:, i, j].T.contiguous()
    return (x[held:], y[held:]), (x[:held], y[:held])


def _characters(files):
    "The text of some files of Python's library, as numbers from 0 to 96"
    folder = Path(sysconfig.get_paths()['stdlib'])
    raw = b''.join((folder/name).read_bytes() for name in files)
    codes = np.frombuffer(raw, np.uint8).astype(np.int64)
    return torch.from_numpy(np.where((codes >= 32) & (codes < 127), codes - 31, np.where(codes == 10, 96, 0)))


VOCABULARY = 97


@lru_cache
def text(n, length=32, held=200, prose=False, start=0):
    "`n` windows of text and the same ones a character on; of Python's sources, or of its language reference"
    codes = _characters([PROSE] if prose else [f'{m}.py' for m in MODULES])
    edge = len(codes)*9//10
    g = torch.Generator().manual_seed(8 + start)
    def windows(low, high, count):
        at = torch.randint(low, high - length - 1, (count, 1), generator=g) + torch.arange(length + 1)
        return codes[at][:, :-1].contiguous(), codes[at][:, 1:].contiguous()
    return windows(0, edge, n), windows(edge, len(codes), held)
