"""What does a sweep leave behind? Each finder that is installed, on the digits: which of the things it touched are bit for bit as they were.

    python benchmarks/traces.py             writes benchmarks/results/traces.json and prints a table
"""
import copy
import json
import logging
import random
import warnings

import matplotlib
import numpy as np
import torch
from quality import RESULTS, available, setting


def state(model, opt, dl):
    "Everything that the training after a sweep depends on"
    return copy.deepcopy({
        'weights and buffers': list(model.state_dict().values()), 'optimizer': opt.state_dict(), 'gradients': [p.grad for p in model.parameters()],
        'train/eval mode': [m.training for m in model.modules()], 'order of the data': dl.generator.get_state(),
        'random state of torch': torch.get_rng_state(), 'random state of Python and NumPy': (random.getstate(), str(np.random.get_state()))})


def same(a, b):
    "Whether two nests of values are equal bit for bit"
    if isinstance(a, torch.Tensor): return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict): return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return a == b


def main():
    warnings.filterwarnings('ignore'); logging.disable(logging.WARNING); matplotlib.use('Agg')
    rows = {}
    for f in available():
        model, opt, dl = setting('CNN, AdamW', 0)
        for b, _ in zip(dl, range(3)): opt.zero_grad(); torch.nn.functional.cross_entropy(model(b[0]), b[1]).backward(); opt.step()
        model[0][1].eval()                  # a batch normalisation that the user has frozen
        before = state(model, opt, dl)
        name = min(f('CNN, AdamW', model, opt, dl), key=len).split(' ')[0]
        after = state(model, opt, dl)
        rows[name] = {k: 'yes' if same(before[k], after[k]) else 'no' for k in before}
        if name in ('Lightning', 'fastai'): rows[name]['optimizer'] = 'makes its own'
    (RESULTS/'traces.json').write_text(json.dumps(rows, indent=1) + '\n')
    names = list(rows)
    print('\n'.join([f"| as it was after a sweep | {' | '.join(names)} |", '|---'*(len(names) + 1) + '|'] +
                    [f"| {k} | {' | '.join(rows[n][k] for n in names)} |" for k in rows[names[0]]]))


if __name__ == '__main__': main()
