"""A thousand presses of Ctrl-C at random times and a hundred kills, with nothing lost

    python tests/soak.py [presses] [kills]

Each press comes at a random time of a sweep, of its snapshots or of its restoration; a second one follows at times.
Each kill ends a process that trains with a checkpoint and saves its curve; what lies on the disk must then be whole.
"""
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder_nb import LRFinder, LossCurve, fit_one_cycle, load_curve, save_curve
from lrfinder_nb.engine.fingerprint import Fingerprint

torch.set_num_threads(1)
RNG = random.Random()       # its own: the sweep is to leave that of the process alone


def task():
    "A small model with everything that can be lost, its optimizer after some steps, and a loader"
    g = torch.Generator().manual_seed(1)
    x = torch.randn(64, 8, generator=g)
    loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), 8, shuffle=True, generator=g)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(.2), nn.Linear(16, 2))
    opt = torch.optim.AdamW(model.parameters(), 1e-3)
    for x, y in loader:
        opt.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        opt.step()
    return model, opt, loader


def presser(delays):
    "A thread that presses Ctrl-C after each of `delays` seconds, unless it is told to stop"
    off = threading.Event()

    def press():
        for seconds in delays:
            if off.wait(seconds): return
            os.kill(os.getpid(), signal.SIGINT)
    return threading.Thread(target=press), off


def pressed(finder, loader, delays):
    "How a sweep ended in which Ctrl-C is pressed after each of `delays`"
    thread, off = presser(delays)
    try:
        try:
            thread.start()
            finder.range_test(loader, num_iter=30, start_lr=1e-5, end_lr=1., progress=False)
            return finder.curve.ended
        finally:
            off.set()
            thread.join()
    except KeyboardInterrupt:
        thread.join()
        return 'interrupted'


def presses(n):
    "How `n` interrupted sweeps ended, and what of any of them was lost"
    model, opt, loader = task()
    finder, lost, ends = LRFinder(model, opt, nn.functional.cross_entropy), [], {}
    start = time.perf_counter()
    finder.range_test(loader, num_iter=30, start_lr=1e-5, end_lr=1., progress=False)
    whole = time.perf_counter() - start
    before = Fingerprint(('model', model), ('optimizer', opt), ('loader', loader))
    handler = signal.getsignal(signal.SIGINT)
    for i in range(n):
        delays = [RNG.uniform(0, 1.2*whole)] + [RNG.uniform(0, whole/4)]*(RNG.random() < .3)
        try: ended = pressed(finder, loader, delays)
        except KeyboardInterrupt: ended = 'interrupted'
        ends[ended] = ends.get(ended, 0) + 1
        changed = before.changed()
        if changed or signal.getsignal(signal.SIGINT) is not handler: lost.append((i, ended, changed))
    return dict(presses=n, ends=ends, lost=lost)


def fitted(folder):
    "The history of a training with a checkpoint"
    model, opt, loader = task()
    return fit_one_cycle(model, opt, nn.CrossEntropyLoss(), loader, max_lr=.01, epochs=20, checkpoint=folder/'run.pt',
                         progress=False)


def written(folder):
    "Train with a checkpoint and save curves until killed"
    torch.manual_seed(0)
    curves = [LossCurve([1e-3*k, 1e-2*k, 1e-1*k], [3., 2., 4.]) for k in range(1, 50)]
    while True:
        for curve in curves: save_curve(curve, folder/'curve.json')
        fitted(folder)
        (folder/'run.pt').unlink()


def whole(folder):
    "What is wrong with the files that a killed process has left, or None"
    try:
        if (folder/'curve.json').exists(): load_curve(folder/'curve.json')
        history = fitted(folder)
        return None if history.ended == 'completed' and len(history) == 20 else repr(history)
    except Exception as e: return f'{type(e).__name__}: {e}'


def kills(n):
    "What was wrong after each of `n` kills"
    lost = []
    for i in range(n):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            child = os.fork()
            if not child: written(folder)
            time.sleep(RNG.uniform(.05, 1.))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            if said := whole(folder): lost.append((i, said))
    return dict(kills=n, lost=lost)


def main(n_presses=1000, n_kills=100):
    seed = random.SystemRandom().randrange(2**32)
    RNG.seed(seed)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    found = dict(seed=seed, **{'ctrl_c': presses(int(n_presses)), 'kill': kills(int(n_kills))})
    print(json.dumps(found))
    return 1 if found['ctrl_c']['lost'] or found['kill']['lost'] else 0


if __name__ == '__main__': sys.exit(main(*sys.argv[1:]))
