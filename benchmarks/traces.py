"""What does a sweep leave behind? For each finder that is installed: what is bit for bit as it was.

    python benchmarks/traces.py             writes benchmarks/results/traces.json and prints a table
"""
import copy
import json
import random

import numpy as np
import torch
from quality import RESULTS, available, quiet, setting


def state(model, opt, dl):
    "Everything that the training after a sweep depends on"
    return copy.deepcopy({
        'weights and buffers': list(model.state_dict().values()),
        'optimizer': opt.state_dict(),
        'gradients': [p.grad for p in model.parameters()],
        'train/eval mode': [m.training for m in model.modules()],
        'order of the data': dl.generator.get_state(),
        'random state of torch': torch.get_rng_state(),
        'random state of Python and NumPy': (random.getstate(), str(np.random.get_state()))})


def same(a, b):
    "Whether two nests of values are equal bit for bit"
    if isinstance(a, torch.Tensor): return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict): return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return a == b


def warmed_up():
    "Model, optimizer and loader of a task after three steps"
    model, opt, dl = setting('CNN, AdamW', 0)
    for (images, labels), _ in zip(dl, range(3)):
        opt.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        opt.step()
    return model, opt, dl


def main():
    quiet()
    rows = {}
    for f in available():
        model, opt, dl = warmed_up()
        model[0][1].eval()                  # a batch normalisation that the user has frozen
        before = state(model, opt, dl)
        name = min(f('CNN, AdamW', model, opt, dl), key=len).split(' ')[0]
        after = state(model, opt, dl)
        rows[name] = {k: 'yes' if same(before[k], after[k]) else 'no' for k in before}
        if name in ('Lightning', 'fastai'): rows[name]['optimizer'] = 'makes its own'
    (RESULTS/'traces.json').write_text(json.dumps(rows, indent=1) + '\n')
    names = list(rows)
    lines = [f"| as it was after a sweep | {' | '.join(names)} |", '|---'*(len(names) + 1) + '|']
    lines += [f"| {k} | {' | '.join(rows[n][k] for n in names)} |" for k in rows[names[0]]]
    print('\n'.join(lines))


if __name__ == '__main__': main()
