"""One rate with kept ratios against a rate for each group: a new head on a body that knows other digits

    python benchmarks/groups.py [--draws 12]

The task is that of the fine-tuning tutorial: a network that tells the digits 0 to 4 apart learns the digits 5 to 9
from 60 pictures, 12 epochs of one cycle. Each draw has other pictures and another body.
"""
import argparse
import copy
import json
import os
from pathlib import Path
from statistics import mean

os.environ.setdefault('OMP_NUM_THREADS', '1')
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

from lrfinder_nb import LRFinder, SmallCNN, digits, set_seed

RESULT = Path(__file__).parent/'results'/'groups.json'
LOSS = nn.CrossEntropyLoss()


def part(loader, low, high, chosen=slice(None)):
    "Some pictures of the classes from `low` below `high`, labelled from 0"
    x, y = loader.dataset.tensors
    kept = ((y >= low) & (y < high)).nonzero()[chosen, 0]
    return TensorDataset(x[kept], y[kept] - low)


def body_of(seed, loader):
    "A network that knows the digits of `loader`, with a new head"
    set_seed(seed)
    model = SmallCNN(num_classes=5)
    finder = LRFinder(model, optim.AdamW(model.parameters()), LOSS).range_test(loader, progress=False)
    finder.fit_one_cycle(loader, epochs=5, progress=False)
    model[-1] = nn.Linear(model[-1].in_features, 5)
    return model


def tuned(model, few, unseen, seed, group):
    "Rates of body and head, and what the training with them gives on pictures that it has not seen"
    body, head = nn.Sequential(*list(model)[:-1]), model[-1]
    optimizer = optim.AdamW([dict(params=body.parameters(), lr=1e-4), dict(params=head.parameters(), lr=1e-3)])
    finder = LRFinder(model, optimizer, LOSS).range_test(few, seed=0, group=group, progress=False)
    if finder.problem: return dict(problem=finder.problem)
    found = finder.suggestion
    lrs = [x.lr for x in found] if group else [found.lr/10, found.lr]
    set_seed(seed, few)
    row = finder.fit_one_cycle(few, unseen, epochs=12, metrics='accuracy', progress=False).epochs[-1]
    return dict(lrs=lrs, valid_loss=row['valid_loss'], accuracy=row['accuracy'])


def draw(seed, train_dl, valid_dl):
    "Both ways from one state"
    few = DataLoader(part(train_dl, 5, 10, slice(60*(seed % 6), 60*(seed % 6) + 60)), 12, shuffle=True)
    unseen = DataLoader(part(valid_dl, 5, 10), 256)
    model = body_of(seed, DataLoader(part(train_dl, 0, 5), 64, shuffle=True))
    begun, found = copy.deepcopy(model.state_dict()), {}
    for name, group in (('kept ratios', None), ('each', 'each')):
        model.load_state_dict(begun)
        found[name] = tuned(model, few, unseen, seed, group)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--draws', type=int, default=12)
    torch.set_num_threads(1)
    train_dl, valid_dl = digits()
    draws = [draw(seed, train_dl, valid_dl) for seed in range(parser.parse_args().draws)]
    both = [found for found in draws if not any('problem' in way for way in found.values())]
    means = {name: {key: mean(found[name][key] for found in both) for key in ('valid_loss', 'accuracy')}
             for name in ('kept ratios', 'each')}
    better = sum(found['kept ratios']['valid_loss'] < found['each']['valid_loss'] for found in both)
    said = dict(draws=len(draws), both=len(both), kept_ratios_better=better, means=means)
    print(json.dumps(said, indent=1))
    RESULT.write_text(json.dumps(dict(said, each_draw=draws), indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__': main()
