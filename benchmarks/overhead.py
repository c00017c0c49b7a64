"""What a range test costs: time added to each step, memory, and the time to read a curve.

A contender sweeps over batches that run and time a block of bare training steps (of a twin model) before
each block of its own, so that both see the same machine. Times are CPU times on one thread. The blocks of
the tiny MLP hold 20 steps: if they took turns at every step, the bare step would pay for the caches that the
contender has emptied.
"""
import contextlib
import copy
import json
import logging
import os
import platform
import tempfile
import threading
import time
import warnings
from datetime import date
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

os.environ.setdefault('KINETO_LOG_LEVEL', '9')      # the profiler talks otherwise
import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from lrfinder_nb import LRFinder, LossCurve, RULES, SmallCNN, analyse, preserved
from lrfinder_nb.core.suggest import interval
from report import Report, processor

clock, loss_fn = time.process_time, nn.functional.cross_entropy
# So low that nothing diverges, and a finite threshold, so that every step is tested.
RATES, NEVER = dict(start_lr=1e-9, end_lr=1e-8), 1e9


def sgd(net): return torch.optim.SGD(net.parameters(), lr=1e-9, momentum=.9)
def batches_of(*shape, n=32): return [(torch.randn(n, *shape), torch.randint(10, (n,))) for _ in range(16)]
def mlp(): return nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)), batches_of(32)
def cnn(): return SmallCNN(), batches_of(1, 28, 28)
def slow_cnn(): return SmallCNN(), [(x + y.view(-1, 1, 1, 1)/3, y) for x, y in batches_of(1, 28, 28, n=48)]


# ---- the contenders: (model, optimizer, steps) -> function of a loader, which is what is timed

def bare_step(net, opt):
    "The steps that all others are compared with"
    def step(batch):
        opt.zero_grad(set_to_none=True)
        loss = loss_fn(net(batch[0]), batch[1])
        loss.backward()
        opt.step()
        return loss.item()
    return step


def bare_loop(net, opt, steps):
    "The same once more: what comes out beside 0 is the error of the measurement"
    step = bare_step(net, opt)
    return lambda loader: [step(batch) for batch in loader]


def ours(net, opt, steps, progress=False):
    settings = dict(num_iter=steps, diverge_threshold=NEVER, progress=progress, **RATES)
    return lambda loader: LRFinder(net, opt, loss_fn).range_test(loader, **settings)


def torch_lr_finder(net, opt, steps):
    from torch_lr_finder import LRFinder as Theirs, TrainDataLoaderIter
    def run(loader):
        finder = Theirs(net, opt, loss_fn)      # its bar cannot be switched off
        finder.range_test(TrainDataLoaderIter(loader), num_iter=steps, diverge_th=NEVER, **RATES)
        finder.reset()
    return run


def lightning(net, opt, steps):
    import pytorch_lightning as pl
    from pytorch_lightning.tuner import Tuner
    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = net
        def training_step(self, batch, i): return loss_fn(self.net(batch[0]), batch[1])
        def configure_optimizers(self): return opt
    folder = tempfile.TemporaryDirectory()      # it keeps its snapshot in a file
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = pl.Trainer(accelerator='cpu', devices=1, max_epochs=-1, default_root_dir=folder.name, **quiet)
    settings = dict(min_lr=1e-9, max_lr=1e-8, num_training=steps, early_stop_threshold=None, update_attr=False)
    def run(loader):
        with folder: Tuner(trainer).lr_find(Module(), loader, **settings)
    return run


CONTENDERS = {
    'bare loop (control)': bare_loop, 'progress=False': ours, 'progress=True': partial(ours, progress=True),
    'torch-lr-finder': torch_lr_finder, 'pytorch-lightning': lightning}


# ---- time

class Paired:
    "`steps` batches; before every `block` of them, as many bare steps are run and timed"
    def __init__(self, step, batches, steps, block):
        self.step, self.batches, self.steps, self.block = step, batches, steps, block
    def __len__(self): return self.steps
    def __iter__(self):
        for i in range(self.steps):
            if i % self.block == 0:
                asked = clock()
                for b in self.batches[:self.block]: self.step(b)
                TIMES.append((asked, clock()))
            yield self.batches[i % len(self.batches)]


TIMES = []      # when bare steps began and ended; not in the loader, which the finder puts back


@contextlib.contextmanager
def terminal():
    "A pseudo-terminal as stdout, drained by a thread; stderr goes nowhere"
    import pty
    master, slave = pty.openpty()
    def drain():
        with contextlib.suppress(OSError):      # the other end is closed
            while os.read(master, 65536): pass
    thread = threading.Thread(target=drain, daemon=True)
    thread.start()
    with open(os.devnull, 'w') as nowhere, open(slave, 'w') as out:
        with contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(out): yield
    thread.join()
    os.close(master)


def sweep_once(contender, task, blocks, block):
    "Of one sweep: (its step over the bare one, bare seconds a step, seconds beside the steps)"
    torch.manual_seed(0)
    steps = blocks*block + 1        # the last step is a block of its own
    TIMES.clear()
    (net, batches), (twin, _) = task(), task()
    loader = Paired(bare_step(twin, sgd(twin)), (batches*2)[:block], steps, block)
    with terminal():
        run = contender(net, sgd(net), steps)
        start = clock()
        run(loader)
        end = clock()
    asked, given = np.array(TIMES).T
    assert len(asked) == blocks + 1, f"the sweep took {len(asked)} blocks, not {blocks + 1}"
    theirs, alone = (asked[1:] - given[:-1])/block, (given - asked)/block
    fixed = asked[0] - start + end - given[-1] - np.median(theirs)
    return theirs.sum()/((alone[1:] + alone[:-1])/2).sum(), alone.mean(), fixed


def race(contenders, task, blocks, block, rounds):
    "The contenders in turn: bare seconds a step in the quietest tenth; by name, ratios and fixed seconds"
    for c in contenders.values(): sweep_once(c, task, 2, block)
    turns = [{name: sweep_once(c, task, blocks, block) for name, c in contenders.items()} for _ in range(rounds)]
    found = {name: [turn[name] for turn in turns] for name in contenders}
    quiet = np.quantile([bare for rows in found.values() for _, bare, _ in rows], .1)
    scaled = lambda rows: np.array([(ratio, fixed*quiet/bare) for ratio, bare, fixed in rows]).T
    return quiet, {name: scaled(rows) for name, rows in found.items()}


def short_trainings(net, batches, finder):
    "(seconds of one `verify` over those of the same steps of a plain loop between them, plain seconds a step)"
    TIMES.clear()
    twin = copy.deepcopy(net)
    loader = Paired(bare_step(twin, sgd(twin)), batches, len(batches), 1)
    whole = time_of(lambda: finder.verify(loader, progress=False))
    plain = sum(given - asked for asked, given in TIMES)
    return whole/plain - 1, plain/len(TIMES)


def time_of(f):
    "Seconds that a call of `f` takes"
    start = clock()
    f()
    return clock() - start


def time_analyse(n, calls=60):
    "Milliseconds of `analyse`, by rule and with a new `beta`, and of an interval; `calls` each"
    x, noise = np.linspace(-7, 1, n), np.random.default_rng(0).normal(0, .02, n)
    curve = LossCurve(10**x, 2.3 - 1.5/(1 + np.exp(-3*(x + 3))) + np.maximum(0, x + 1)**2 + noise)
    a, found = analyse(curve), {}
    def clocked(name, f, *args, **kw):
        start = clock()
        f(*args, **kw)
        found.setdefault(name, []).append(1e3*(clock() - start))
    for i in range(calls):
        for rule in RULES: clocked(rule, analyse, curve, rule=rule)
        clocked('a new beta', analyse, curve, beta=.5 + .4*(i + .5)/calls)
        if i % 6 == 0: clocked('interval', interval, a.trend, a.kept, a.rule)
    return found


# ---- memory and synchronisation

def allocated(f):
    "(most bytes, bytes at the end) of tensors on the CPU that `f()` allocates"
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as p:
        kept = f()      # what it returns lives until the profile ends
    events = [e for e in p.profiler.kineto_results.events() if e.name() == '[memory]']
    held = np.cumsum([n for _, n in sorted((e.start_ns(), e.nbytes()) for e in events)])
    return int(held.max()), int(held[-1])


def memory(width=1800, steps=3):
    "(MiB of state, copies of it that `preserved` holds, copies that a sweep adds to the peak)"
    def train(use=lambda net, opt, batch: None):
        "Gradients and moments after one step, then whatever `use` does"
        layers = nn.Linear(width, width), nn.ReLU(), nn.BatchNorm1d(width), nn.Linear(width, width)
        net, batch = nn.Sequential(*layers), (torch.randn(4, width), torch.randint(10, (4,)))
        opt = torch.optim.Adam(net.parameters(), lr=1e-9)
        bare_step(net, opt)(batch)
        return net, opt, use(net, opt, batch)
    def hold(net, opt, batch): stack.enter_context(preserved(net, opt))
    def bare(net, opt, batch): bare_loop(net, opt, steps)([batch]*steps)
    def sweep(net, opt, batch): return ours(net, opt, steps)([batch])
    with contextlib.ExitStack() as stack:
        (_, size), (_, held) = allocated(train), allocated(lambda: train(hold))
    alone, _ = allocated(lambda: train(bare))
    swept, _ = allocated(lambda: train(sweep))
    return size/2**20, held/size - 1, (swept - alone)/size


def synchronisations():
    "Synchronising CUDA calls per step of a range test"
    counts, (net, batches) = [], mlp()
    net, batches = net.cuda(), [(x.cuda(), y.cuda()) for x, y in batches]
    for steps in (20, 50, 250):     # the first is to warm up
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            torch.cuda.set_sync_debug_mode('warn')
            try: ours(net, sgd(net), steps)(batches)
            finally: torch.cuda.set_sync_debug_mode('default')
        counts.append(sum('synchronizing' in str(w.message) for w in caught))
    return (counts[2] - counts[1])/200


# ---- the report

def installed():
    "(the contenders that can run here, versions of the others' packages)"
    versions, contenders = {}, dict(CONTENDERS)
    for peer in ('torch-lr-finder', 'pytorch-lightning'):
        try: versions[peer] = version(peer)
        except PackageNotFoundError:
            del contenders[peer]
            print(f'{peer} is not installed: left out')
    return contenders, versions


def report_time(report, contenders):
    "Time added to the steps of a tiny and of a small model"
    targets = {'progress=False': 60, 'progress=True': 200}
    quiet, found = race(contenders, mlp, 50, 20, 15)
    report.row('bare step', 'MLP', 1e6*quiet, 'µs', digits=1)
    for name, (ratio, _) in found.items():
        report.row('added to an MLP step', name, 1e6*quiet*(ratio - 1), 'µs', targets.get(name), 1)
    for name, (_, fixed) in found.items(): report.row('fixed, MLP', name, 1e3*fixed, 'ms')
    quiet, found = race(contenders, cnn, 50, 1, 8)
    report.row('bare step', 'CNN', 1e3*quiet, 'ms', digits=1)
    for name, (ratio, fixed) in found.items():
        over, target = ratio + fixed/(100*quiet), 1.02 if name in targets else None
        report.row('100 CNN steps over bare ones', name, over, '×', target, 4)


def report_trials(report, rounds=9):
    "Time added to the steps of short trainings, with what lies between them"
    torch.manual_seed(0)
    net, batches = slow_cnn()
    finder = LRFinder(net, sgd(net), loss_fn).range_test(batches, progress=False)
    ratios, bare = zip(*[short_trainings(net, batches, finder) for _ in range(rounds + 1)][1:])
    report.row('bare step', f'CNN, batches of {len(batches[0][0])}', 1e3*min(bare), 'ms', digits=1)
    report.row('steps of verify over bare ones', f'CNN, batches of {len(batches[0][0])}', ratios, '×', 1.02, 4)


def report_memory(report):
    size, held, added = memory()
    report.row(f'copies of a {size:.0f} MiB state', 'held by preserved', held, '×', 1.)
    report.row(f'copies of a {size:.0f} MiB state', 'added to the peak', added, '×')


def report_reading(report):
    for n, target in ((100, .5), (1000, 2.)):
        for what, ms in time_analyse(n).items():
            measure = f'{n} points' if what == 'interval' else f'analyse, {n} points'
            report.row(measure, what, ms, 'ms', target if what in RULES else None, 3)


def main():
    "Measure, print the table and write it to `results/overhead.json`"
    torch.set_num_threads(1)
    warnings.filterwarnings('ignore')
    logging.getLogger('pytorch_lightning').setLevel(logging.ERROR)
    contenders, versions = installed()
    report = Report()
    print('| measure | of | median | quartiles | target |\n|---|---|---|---|---|')
    report_time(report, contenders)
    report_trials(report)
    report_memory(report)
    report_reading(report)
    cuda = torch.cuda.is_available()
    if cuda: report.row('synchronisations a step', 'CUDA', synchronisations(), '', .1)
    else: print('\nno GPU was there: synchronisations were not counted')
    body = dict(date=str(date.today()), cpu=processor(), python=platform.python_version(),
                torch=torch.__version__, peers=versions, results=report.rows)
    path = Path(__file__).parent/'results/overhead.json'
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


if __name__ == '__main__': main()
