"""Twins with what few trainings have: odd tensors, hooks, samplers, signals and ways to compute a gradient"""
import collections
import dataclasses
import os
import random
import signal
import types
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, jvp, stack_module_state, vmap
from torch.nn.utils import parametrize
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import ConcatDataset, DataLoader, Sampler, Subset, random_split

from lrfinder_nb import fit_one_cycle
from lrfinder_nb.engine.finder import LRFinder
from lrfinder_nb.engine.state import preserved
from lrfinder_nb.engine.step import TrainStep
from lrfinder_nb.engine.sweep import sweep
from test_restoration import SWEEP, Training, differences, loader, mlp, run

torch.set_num_threads(1)
POSIX = pytest.mark.skipif(os.name != 'posix', reason='needs signals and forks')


def momentum(model): return torch.optim.SGD(model.parameters(), .05, momentum=.9)


def swept(t, step=None, **kw):
    "A sweep that must not warn of anything"
    finder = LRFinder(t.model, t.opt, t.loss_fn, step=step)
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='.*put back')
        return finder.range_test(t.loader, **{**SWEEP, 'check': True, **kw})


def check(make, interlude=swept, beside=lambda t: None, **kw):
    "A training with a sweep is the training without; `beside` is done in both"
    def fresh():
        torch.utils.hooks.RemovableHandle.next_id = 10**6       # counted in the process, and recorded
        return make()
    twin, other = run(fresh, beside, **kw), run(fresh, lambda t: (interlude(t), beside(t)), **kw)
    found = [k for k in differences(twin, other) if '_torchdynamo_wrapper_id' not in k]     # of the process
    assert found == []


class Changing(nn.Module):
    "A linear model whose output depends on what `change(self)` makes of its attributes in each forward"
    def __init__(self, change, **attributes):
        super().__init__()
        self.body, self.change = nn.Linear(8, 3), change
        for k, v in attributes.items(): setattr(self, k, v)

    def forward(self, x): return self.body(x)*(1 + .01*self.change(self))


# Tensors of every sort

def sparse(self): return self.table.mul_(1.1).to_dense().sum()
def denser(self): return self.table.add_(torch.ones(3, 3).to_sparse()*.01).to_dense().sum()
def nested(self): return self.box.n.unbind()[0].add_(.01).sum()
def eighths(): return torch.quantize_per_tensor(torch.rand(3), .1, 0, torch.qint8)
def quantised(self): return self.box.n.copy_(eighths()).dequantize().sum()


def small(self):
    self.eight.add_(1)
    self.tiny.copy_((self.eight.float()/8).to(torch.float8_e4m3fn))
    return self.flag.logical_not_().float().sum() + self.tiny.float().sum()


def kept(self):
    self.note = dataclasses.replace(self.note, n=self.note.n + 1)
    self.note.kept.append(1)
    return self.note.n + len(self.note.kept)/10


@dataclasses.dataclass(frozen=True)
class Note:
    "A frozen object with a list in it"
    n: int = 0
    kept: list = dataclasses.field(default_factory=list)


def shared(self):
    self.array[0] += .01
    return self.body.weight.sum()


def of_array():
    "A model whose weights are the memory of an array that only a closure knows"
    model = Changing(lambda self: 0.)
    array = np.random.rand(3, 8).astype('f4')
    model.body.weight = nn.Parameter(torch.from_numpy(array))
    model.change = lambda self: array.__setitem__((0, 0), array[0, 0] + .01) or array[0, 0]
    return model


class Complex(nn.Module):
    "Complex weights and a complex buffer"
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 3, dtype=torch.cfloat))
        self.register_buffer('bias', torch.zeros(3, dtype=torch.cfloat))

    def forward(self, x):
        self.bias += .1j
        return (x.to(torch.cfloat)@self.weight + self.bias).abs()


class Ensemble(nn.Module):
    "Three models in one, by vmap"
    def __init__(self):
        super().__init__()
        weights, _ = stack_module_state([nn.Linear(8, 3) for _ in range(3)])
        self.weight, self.bias = nn.Parameter(weights['weight']), nn.Parameter(weights['bias'])

    def forward(self, x): return vmap(lambda w, b: x@w.T + b)(self.weight, self.bias).mean(0)


class Parametrized(nn.Sequential):
    "A parametrization that counts, registered in the first forward"
    class Growing(nn.Module):
        n = 0
        def forward(self, weight):
            self.n += 1
            return weight*(1 + .01*self.n)

    def forward(self, x):
        if not parametrize.is_parametrized(self[0]):
            parametrize.register_parametrization(self[0], 'weight', self.Growing())
        with parametrize.cached(): return super().forward(x)


class Swapping(nn.Module):
    "A model that swaps its parts, and computes one of them twice"
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x):
        self.a, self.b = self.b, self.a
        return checkpoint(self.a, x, use_reentrant=False)


class Looking(nn.Sequential):
    "A model that makes attributes of whatever it is asked for"
    class Any:
        def __getattr__(self, name):
            if name[:2] == '__': raise AttributeError(name)
            self.__dict__[name] = Looking.Any()
            return self.__dict__[name]

    def __init__(self):
        super().__init__(*mlp())
        self.any = self.Any()


def compiled(): return torch.compile(mlp(), backend='eager')


BOX = types.SimpleNamespace
MODELS = dict(
    coo=lambda: Changing(sparse, table=nn.Buffer(torch.eye(3).to_sparse())),
    coo_grows=lambda: Changing(denser, table=nn.Buffer(torch.eye(3).to_sparse())),
    nested=lambda: Changing(nested, box=BOX(n=torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]))),
    quantised=lambda: Changing(quantised, box=BOX(n=eighths())),
    small=lambda: Changing(small, eight=nn.Buffer(torch.zeros(3, dtype=torch.int8)),
                           tiny=nn.Buffer(torch.zeros(3).to(torch.float8_e4m3fn)), flag=nn.Buffer(torch.ones(3) > 2)),
    frozen=lambda: Changing(kept, note=Note()), entropy=lambda: Changing(lambda self: 0., rng=random.SystemRandom()),
    shared=lambda: Changing(shared, array=np.zeros(3)), array=of_array, complex=Complex, ensemble=Ensemble,
    parametrized=lambda: Parametrized(nn.Linear(8, 3)), swapping=Swapping, looking=Looking, compiled=compiled,
    normed=lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(8, 8)), nn.BatchNorm1d(8), nn.Linear(8, 3)))


@pytest.mark.parametrize('model', MODELS)
@pytest.mark.filterwarnings('ignore::UserWarning')
def test_models(model):
    def make():
        net = MODELS[model]()
        return Training(net, momentum(net), loader((8,)))
    check(make)


# Optimizers, schedulers and hooks around them

def hooked(register):
    "A training with an average of the weights that hooks keep, and that its loss reads"
    def make():
        model = mlp()
        opt, average = momentum(model), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(.9))
        register(model, opt, lambda *_: average.update_parameters(model))
        loss = lambda out, y: F.cross_entropy(out, y) + .01*sum(p.detach().sum() for p in average.parameters())
        return Training(model, opt, loader((8,)), loss)
    return make


def scheduled(scheduler):
    "A training with a scheduler that is attached before the sweep"
    def make():
        model = mlp()
        opt = momentum(model)
        return Training(model, opt, loader((8,)), scheduler=scheduler(opt))
    return make


class Plateau(lr_scheduler.ReduceLROnPlateau):
    "A scheduler that looks at the weights"
    def step(self, *_):
        held = [p for group in self.optimizer.param_groups for p in group['params']]
        super().step(float(sum(p.abs().sum() for p in held)))


def each_its_own():
    "A training whose parameters each have an optimizer that steps in the backward pass"
    model = mlp()
    opts = {p: torch.optim.SGD([p], .05, momentum=.9) for p in model.parameters()}

    def step(p):
        opts[p].step()
        opts[p].zero_grad()
    for p in model.parameters(): p.register_post_accumulate_grad_hook(step)
    return Training(model, momentum(model), loader((8,)))


def clipped():
    "A training whose gradients are clipped at the mean of their last norms"
    model, norms = mlp(), collections.deque(maxlen=4)
    opt = momentum(model)
    clip = lambda *_: norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), np.mean(norms) if norms else 1.)))
    opt.register_step_pre_hook(lambda *_: clip() and None)
    return Training(model, opt, loader((8,)))


class Bags(nn.Module):
    "A table with sparse gradients, and entries that are made smaller when they are read"
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 3, sparse=True, max_norm=1.)
    def forward(self, x): return self.table((x.abs()*5).long().clamp(0, 19)).sum(1)


def sparse_adam():
    model = Bags()
    return Training(model, torch.optim.SparseAdam(model.parameters(), .01), loader((8,)))


def maximized():
    model, lr = mlp(), torch.tensor(1e-2)
    return Training(model, torch.optim.Adam(model.parameters(), lr, foreach=False, maximize=True), loader((8,)))


TRAININGS = dict(
    in_forward=hooked(lambda model, opt, f: model.register_forward_hook(lambda *_: f())),
    in_step=hooked(lambda model, opt, f: opt.register_step_post_hook(f)),
    swa=scheduled(lambda o: SWALR(o, .01, 5)), plateau=scheduled(lambda o: Plateau(o, patience=1, threshold=.5)),
    by_function=scheduled(lambda o: lr_scheduler.LambdaLR(o, lambda i: .9**i)),
    cyclic=scheduled(lambda o: lr_scheduler.CyclicLR(o, .001, .1, 4)),
    in_turn=scheduled(lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, .1, 3), lr_scheduler.ExponentialLR(o, .9)], [5])),
    each_its_own=each_its_own, clipped=clipped, sparse_adam=sparse_adam, maximized=maximized)


@pytest.mark.parametrize('training', TRAININGS)
@pytest.mark.filterwarnings('ignore::UserWarning')
def test_trainings(training): check(TRAININGS[training])


# Steps that compute their gradient in another way

def functional(model, batch):
    named = {k: v*1. for k, v in model.named_parameters()}
    return F.cross_entropy(functional_call(model, named, (batch[0],)), batch[1])


def tangent(model, batch):
    out, slope = jvp(model, (batch[0],), (torch.ones_like(batch[0]),))
    return F.cross_entropy(out, batch[1]) + .01*slope.pow(2).mean()


def twice(model, batch):
    x = batch[0].clone().requires_grad_()
    out = model(x)
    slope, = torch.autograd.grad(out.sum(), x, create_graph=True)
    return F.cross_entropy(out, batch[1]) + .1*slope.pow(2).mean()


def scaled(model, batch, scaler=torch.amp.GradScaler('cpu', enabled=False)):
    return scaler.scale(F.cross_entropy(model(batch[0]), batch[1]))


def half(model, batch):
    with torch.autocast('cpu', torch.bfloat16): return F.cross_entropy(model(batch[0]).float(), batch[1])


def smooth():
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3))
    return Training(model, momentum(model), loader((8,)))


@pytest.mark.parametrize('step', [functional, tangent, twice, scaled, half])
def test_steps(step): check(smooth, lambda t: swept(t, step))


# Loaders

class Sizes(Sampler):
    "Batches whose size changes with the epoch"
    def __init__(self, n): self.n, self.epoch = n, 0
    def __len__(self): return 5

    def __iter__(self):
        self.epoch += 1
        size, order = 2 + self.epoch % 3, torch.randperm(self.n).tolist()
        for i in range(0, self.n - size, size): yield order[i:i + size]


def joined(data):
    some, rest = random_split(data, [16, 6], torch.Generator().manual_seed(1))
    return DataLoader(ConcatDataset([some, Subset(rest, [1, 2, 3])]), 4, shuffle=True)


def sized(data): return DataLoader(data, batch_sampler=Sizes(22))


@pytest.mark.parametrize('load', [sized, joined])
def test_loaders(load):
    def make():
        model = mlp()
        return Training(model, momentum(model), load(loader((8,)).dataset))
    check(make)


# Endings

def raising(at, act):
    "A step that acts in call `at`"
    calls = []

    def step(model, batch):
        calls.append(1)
        if len(calls) == at: act()
        return F.cross_entropy(model(batch[0]), batch[1])
    return step


def terminated(t):
    "SIGTERM, with a handler that leaves"
    def leave(*_): raise SystemExit(143)
    old = signal.signal(signal.SIGTERM, leave)
    try:
        with pytest.raises(SystemExit): swept(t, raising(5, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    finally: signal.signal(signal.SIGTERM, old)


def forked(t):
    "A child that is made in a step and leaves at once"
    def fork():
        child = os.fork()
        if child == 0: os._exit(0)
        os.waitpid(child, 0)
    swept(t, raising(4, fork))


class Leaving:
    "A callback that leaves"
    def step(self, now):
        if len(now.losses) == 4: raise SystemExit(3)


def left(t):
    with pytest.raises(SystemExit): swept(t, callbacks=[Leaving()])


def thrown(t):
    "A generator around a sweep into which somebody throws"
    def points():
        with preserved(t.model, t.opt, t.loader):
            yield from sweep(TrainStep(t.model, t.opt, t.loss_fn), t.loader, [1e-3, 1e-2, 1e-1, 1.])
    found = points()
    assert next(found) and next(found)
    with pytest.raises(ZeroDivisionError): found.throw(ZeroDivisionError('thrown'))


@pytest.mark.parametrize('ending', [*(pytest.param(f, marks=POSIX) for f in (terminated, forked)), left, thrown])
@pytest.mark.filterwarnings('ignore:.*fork')
def test_endings(ending): check(smooth, ending)


def test_a_loss_from_before_a_sweep_is_differentiated_after_it():
    def make():
        t = smooth()
        t.before = t.model(torch.randn(4, 8)).pow(2).sum()
        return t
    check(make, beside=lambda t: t.before.backward(), before=0)


# Refused

@pytest.mark.parametrize('begin', [
    lambda t: swept(t), lambda t: LRFinder(t.model, t.opt, t.loss_fn).range_test(t.loader, background=True, **SWEEP),
    lambda t: fit_one_cycle(t.model, t.opt, t.loss_fn, t.loader, max_lr=.1, progress=False)],
    ids=['sweep', 'background', 'training'])
def test_a_sweep_inside_a_step_of_another_is_refused(begin):
    def interlude(t):
        with pytest.raises(ValueError, match='cannot begin inside a step of another'):
            swept(t, raising(3, lambda: begin(t)))
        assert len(swept(t).curve) == SWEEP['num_iter']
    check(smooth, interlude)


def test_a_model_without_values_is_refused():
    model = nn.Linear(8, 3, device='meta')
    with pytest.raises(ValueError, match="on the device 'meta', where they have no values; .*to_empty"):
        LRFinder(model, momentum(model), F.cross_entropy)


class Empty:
    "A step with a length of nothing"
    def __len__(self): return 0
    def __call__(self, model, batch): return model(batch[0]).pow(2).mean()


def test_a_step_that_is_false_is_a_step():
    t = smooth()
    curve = swept(t, Empty()).curve
    assert curve.ran_on['loss'] == 'Empty' and curve.losses[0] != swept(t).curve.losses[0]
