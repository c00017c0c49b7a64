"""Twins, drawn anew in each run: any model, optimizer, loader and ending leave the training as it would have been"""
import array
import math
import random
import warnings
from collections import ChainMap, Counter, OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum
from fractions import Fraction
from functools import partial
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from torch import nn
from torch.nn.utils import parameters_to_vector, prune, vector_to_parameters
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import (BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, Sampler,
                              SubsetRandomSampler, TensorDataset, WeightedRandomSampler, default_collate)

from lrfinder_nb.core.suggest import NoSuggestion
from lrfinder_nb.engine.finder import LRFinder
from lrfinder_nb.engine.state import preserved
from test_restoration import OPTIMIZERS, Training, differences, run

torch.set_num_threads(1)
SWEEP = dict(start_lr=1e-5, end_lr=1., num_iter=8, diverge_threshold=math.inf, progress=False)
SWEEP['check'] = False      # the twin sees more


# Models of eight numbers that remember in every way there is

def plain(): return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Dropout(.3), nn.Linear(12, 3))


def normed(): return nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3))


def spectral(): return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(8, 12)), nn.Linear(12, 3))


class Remembering(nn.Sequential):
    "A model whose output depends on what `change(self)` makes of its attributes in each forward"
    def __init__(self, change=lambda self: 0., **attributes):
        super().__init__(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
        self.change = change
        for k, v in attributes.items(): setattr(self, k, v)

    def forward(self, x): return super().forward(x)*(1 + .01*float(self.change(self)))


class Mode(Enum):
    "A state that is a name"
    first, second = 1, 2


class Box:
    "A small object with an attribute"
    def __init__(self): self.n = 0


class Slotted:
    "A small object without a `__dict__`"
    __slots__ = 'n',
    def __init__(self): self.n = 0


class Stubborn(dict):
    "A dict that refuses to be updated"
    def update(self, *a, **kw): raise TypeError('no')
    def clear(self): raise TypeError('no')


def count(box):
    box.n += 1
    return box.n


def entry(d):
    d['n'] = d.get('n', 0) + 1
    return d['n']


def number(self):
    self.n = self.n + type(self.n)(1)
    return self.n


def linked():
    "Sixteen nodes, each holding the one before three times, in a box"
    node, box = [0], Slotted()
    for _ in range(16): node = [node, node, {'again': node}]
    box.n = node
    return box


def innermost(node):
    while isinstance(node[0], list): node = node[0]
    node[0] += 1
    return node[0]


def push(self):
    self.kept.append(1)
    return len(self.kept)


def swap(self):
    self.mode = Mode.second if self.mode is Mode.first else Mode.first
    return self.mode.value


def grown(self):
    self.kept = self.kept | {len(self.kept)}
    return len(self.kept)


def fresh(self):
    old, self.box = self.box, Box()
    self.box.n = old.n + 1
    return self.box.n


def read_only(self):
    self.table = self.table + 1
    self.table.flags.writeable = False
    return self.table[0]


def fixed(n):
    table = np.full(2, float(n))
    table.flags.writeable = False
    return table


class Hooked(nn.Sequential):
    "A model that registers a hook in its first forward"
    def __init__(self):
        super().__init__(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
        self.ready = False

    def forward(self, x):
        if not self.ready: self[0].register_forward_hook(lambda m, i, o: o*1.1)
        self.ready = True
        return super().forward(x)


class Parametrized(nn.Sequential):
    "A model that is parametrized in its first forward"
    def __init__(self): super().__init__(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x):
        if not nn.utils.parametrize.is_parametrized(self[0]):
            nn.utils.parametrize.register_parametrization(self[0], 'bias', nn.Softplus(), unsafe=True)
        return super().forward(x)


class NewBuffer(nn.Sequential):
    "A model whose buffer gets new memory in each forward"
    def __init__(self):
        super().__init__(nn.Linear(8, 3))
        self.register_buffer('mean', torch.zeros(8))

    def forward(self, x):
        self.mean.data = .9*self.mean + .1*x.mean(0).detach()
        return super().forward(x - self.mean)


class Resized(nn.Sequential):
    "A model whose buffer grows"
    def __init__(self):
        super().__init__(nn.Linear(8, 3))
        self.register_buffer('seen', torch.zeros(1))

    def forward(self, x):
        n = len(self.seen) + 1
        self.seen.resize_(n)[-1] = n
        return super().forward(x)*(1 + .01*self.seen[-1])


class Pruned(nn.Sequential):
    "A model that is pruned, and gets a buffer, in its forward"
    def __init__(self): super().__init__(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x):
        if not hasattr(self[0], 'weight_orig'): prune.random_unstructured(self[0], 'weight', .1)
        self.register_buffer('late', x.detach().std(0), persistent=False)
        return super().forward(x)


class Views(nn.Module):
    "A model whose parameters are views of one tensor, which it writes to"
    def __init__(self):
        super().__init__()
        self.flat = torch.randn(8*3 + 3 + 8)
        self.weight, self.bias = nn.Parameter(self.flat[:24].view(8, 3)), nn.Parameter(self.flat[24:27])
        self.register_buffer('shift', self.flat[27:])

    def forward(self, x):
        self.flat[27:] += .01
        return (x + self.shift)@self.weight + self.bias


class Scripted(nn.Module):
    "A model with a part that torch has compiled, and one that is computed twice"
    def __init__(self):
        super().__init__()
        with warnings.catch_warnings(action='ignore'): self.part = torch.jit.script(normed()[:2])
        self.head = nn.Linear(12, 3)

    def forward(self, x): return checkpoint(self.head, self.part(x), use_reentrant=False)


class Averaged(nn.Module):
    "A model that keeps an average of itself"
    def __init__(self):
        super().__init__()
        self.net = plain()
        self.average = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(.9))

    def forward(self, x):
        if self.training: self.average.update_parameters(self.net)
        return self.net(x) + .1*self.average(x).detach()


def reordered(self):
    "Entries that change places, and a chain of dicts"
    self.chain['n'] = self.chain.get('n', 0) + 1
    self.order.move_to_end(next(iter(self.order)))
    return self.chain['n'] + list(self.order).index('a')


def fields(self):
    "Arrays of other kinds: with fields, masked, every second value, of objects"
    self.table['a'] += 1
    self.masked[self.table['a'][0] % 3] = np.ma.masked
    self.second += 1
    self.things[0, 0] = self.things[0, 0] + 1
    return self.table['a'][0] + self.masked.mask.sum() + self.second[0] + self.things[0, 0]


def arrays():
    return dict(table=np.zeros(3, dtype=[('a', 'i4'), ('b', 'f4')]), masked=np.ma.zeros(3),
                second=np.zeros(10)[::2], things=np.array([[1], [2]], dtype=object))


MODELS = dict(
    pruned=Pruned, views=Views, scripted=Scripted, averaged=Averaged,
    reordered=lambda: Remembering(reordered, chain=ChainMap({}, dict(n=1)), order=OrderedDict(a=1, b=2, c=3)),
    fields=lambda: Remembering(fields, **arrays()),
    plain=plain, normed=normed, spectral=spectral, hooked=Hooked, parametrized=Parametrized, buffer=NewBuffer,
    resized=Resized,
    scalar=lambda: Remembering(number, n=np.float32(1)), fraction=lambda: Remembering(number, n=Fraction(1, 3)),
    enum=lambda: Remembering(swap, mode=Mode.first), frozen=lambda: Remembering(grown, kept=frozenset()),
    bytes=lambda: Remembering(push, kept=bytearray()), array=lambda: Remembering(push, kept=array.array('i')),
    deque=lambda: Remembering(push, kept=deque(maxlen=9)),
    counter=lambda: Remembering(lambda s: entry(s.c), c=Counter(n=2)),
    stubborn=lambda: Remembering(lambda s: entry(s.d), d=Stubborn(n=1)),
    box=lambda: Remembering(lambda s: count(s.box), box=Box()),
    slots=lambda: Remembering(lambda s: count(s.box), box=Slotted()),
    replaced=lambda: Remembering(fresh, box=Box()),
    linked=lambda: Remembering(lambda s: innermost(s.box.n), box=linked()),
    fixed=lambda: Remembering(read_only, table=fixed(0)))


# Optimizers that write in every way there is

class Assigning(torch.optim.SGD):
    "An optimizer that replaces the memory of its parameters"
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group['params']:
                if p.grad is not None: p.data = p.data - group['lr']*p.grad


class Vector(torch.optim.SGD):
    "An optimizer that writes all parameters as one vector"
    def step(self, closure=None):
        params = [p for group in self.param_groups for p in group['params']]
        grad = torch.cat([torch.zeros_like(p).view(-1) if p.grad is None else p.grad.view(-1) for p in params])
        vector_to_parameters(parameters_to_vector(params).detach() - self.param_groups[0]['lr']*grad, params)


class Wrapper(torch.optim.Optimizer):
    "An optimizer around another"
    def __init__(self, params, inner):
        self.inner, self.calls = inner, 0
        super().__init__(params, dict(lr=.05))
        self.param_groups = inner.param_groups

    def step(self, closure=None):
        self.calls += 1
        self.inner.step()


class Lookahead(Wrapper):
    "Slow weights that follow the fast ones every third step"
    def __init__(self, params):
        params = list(params)
        super().__init__(params, torch.optim.Adam(params, 1e-2))
        self.slow = [p.detach().clone() for p in params]

    @torch.no_grad()
    def step(self, closure=None):
        super().step()
        if self.calls % 3: return
        for slow, p in zip(self.slow, (p for g in self.param_groups for p in g['params'])):
            slow.lerp_(p, .5)
            p.data = slow.clone()


class Noisy(Wrapper):
    "An optimizer that adds noise from a generator of its own"
    def __init__(self, params):
        params = list(params)
        super().__init__(params, torch.optim.SGD(params, .05, momentum=.9))
        self.rng = [torch.Generator().manual_seed(1), np.random.default_rng(2)]

    @torch.no_grad()
    def step(self, closure=None):
        super().step()
        for p in (p for g in self.param_groups for p in g['params']):
            p.add_(torch.randn(p.shape, generator=self.rng[0])*float(self.rng[1].random())*.01)


class Sharp(torch.optim.Optimizer):
    "Steps from where the loss is sharper, and puts the weights back by replacing their memory"
    def __init__(self, params):
        super().__init__(params, {})
        self.base = torch.optim.SGD(self.param_groups, .05, momentum=.9)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def step(self, closure=None):
        held = [p for group in self.param_groups for p in group['params'] if p.grad is not None]
        for p in held: self.state[p]['before'] = p.data.clone()
        for p in held: p.add_(p.grad, alpha=.05)
        for p in held: p.data = self.state[p]['before']
        self.base.step()


def clamped(params):
    "An optimizer with a hook that replaces the weights by clamped ones"
    opt = torch.optim.SGD(params, .05, momentum=.9)

    def clamp(opt, args, kw):
        for p in (p for g in opt.param_groups for p in g['params']): p.data = p.data.clamp(-1, 1)
    opt.register_step_post_hook(clamp)
    return opt


OPTS = {**OPTIMIZERS, 'assigning': lambda ps: Assigning(ps, .05), 'vector': lambda ps: Vector(ps, .05),
        'lookahead': Lookahead, 'noisy': Noisy, 'sharp': Sharp,
        'adadelta': torch.optim.Adadelta, 'rprop': torch.optim.Rprop,
        'clamped': clamped}


# Loaders that keep their place in every way there is

class InPlace(Sampler):
    "A sampler that shuffles its list in place"
    def __init__(self, data, order=list): self.order = order(range(len(data)))
    def __len__(self): return len(self.order)

    def __iter__(self):
        np.random.default_rng(int(self.order[0])).shuffle(self.order)
        return iter([int(i) for i in self.order])


class Counting(Sampler):
    "A sampler that counts its epochs as a NumPy number"
    def __init__(self, data): self.n, self.epoch = len(data), np.int64(0)
    def __len__(self): return self.n

    def __iter__(self):
        self.epoch += 1
        return iter(np.random.default_rng(int(self.epoch)).permutation(self.n).tolist())


class Cached(Dataset):
    "A data set that keeps what it has augmented first"
    def __init__(self, data): self.data, self.kept = data, {}
    def __len__(self): return len(self.data)

    def __getitem__(self, i):
        if i not in self.kept: self.kept[i] = self.data[i][0] + torch.randn(8)
        return self.kept[i], self.data[i][1]


class Deep(Dataset):
    "A data set whose generator hides in a closure, behind slots and ten thousand objects"
    def __init__(self, data):
        rng, box = np.random.default_rng(3), Slotted()
        box.n = lambda: rng.random()
        self.data, self.things = data, [Box() for _ in range(10_000)] + [box]

    def __len__(self): return len(self.data)
    def __getitem__(self, i): return self.data[i][0] + self.things[-1].n(), self.data[i][1]


class Passes(IterableDataset):
    "Samples in an order that follows from the number of the pass"
    def __init__(self, data): self.data, self.passes = data, 0

    def __iter__(self):
        self.passes += 1
        for i in np.random.default_rng(self.passes).permutation(len(self.data)).tolist(): yield self.data[i]


def noted(data):
    "A loader whose `collate_fn` keeps a note of each batch"
    notes = []

    def collate(batch):
        notes.append(len(batch))
        x, y = default_collate(batch)
        return x*(1 + .01*len(notes)), y
    return shuffled(data, collate_fn=collate)


def weighted(data):
    g = torch.Generator().manual_seed(1)
    return DataLoader(data, 4, sampler=WeightedRandomSampler(torch.rand(22, generator=g), 22, generator=g))


class Fast:
    "A loader that makes a new generator of each pass, as fastai's do"
    def __init__(self, data): self.data, self.rng = data, random.Random(4)

    def __iter__(self):
        self.rng = random.Random(self.rng.randint(0, 2**32 - 1))
        order = self.rng.sample(range(len(self.data)), len(self.data))
        for k in range(0, len(order), 4): yield tuple(t[order[k:k + 4]] for t in self.data.tensors)


def data():
    g = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(22, 8, generator=g), torch.randint(3, (22,), generator=g))


def shuffled(data, **kw):
    g = torch.Generator().manual_seed(2)
    return DataLoader(data, **{**dict(batch_size=4, shuffle=True, generator=g), **kw})


def stateful(data):
    from torchdata.stateful_dataloader import StatefulDataLoader
    return StatefulDataLoader(data, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(2))


def prepared(data, **kw):
    from accelerate.data_loader import prepare_data_loader
    return prepare_data_loader(shuffled(data, **kw), put_on_device=False)


def replaced(data):
    g = torch.Generator().manual_seed(1)
    return DataLoader(data, batch_size=4, sampler=RandomSampler(data, True, 100, generator=g))


LOADERS = dict(
    passes=lambda d: DataLoader(Passes(d), 4), noted=noted, weighted=weighted,
    batched=lambda d: DataLoader(d, batch_sampler=BatchSampler(SubsetRandomSampler(range(22)), 4, False)),
    shuffled=shuffled, ownerless=lambda d: DataLoader(d, 4, shuffle=True), replaced=replaced,
    cached=lambda d: shuffled(Cached(d)), in_place=lambda d: DataLoader(d, 4, sampler=InPlace(d)),
    counting=lambda d: DataLoader(d, 4, sampler=Counting(d)), fast=Fast, stateful=stateful, prepared=prepared,
    in_place_array=lambda d: DataLoader(d, 4, sampler=InPlace(d, np.array)),
    batches=lambda d: [(d.tensors[0][k:k + 4], d.tensors[1][k:k + 4]) for k in range(0, 20, 4)])
SLOW = dict(deep=lambda d: shuffled(Deep(d)), worker=lambda d: shuffled(d, num_workers=1),
            persistent=lambda d: shuffled(d, num_workers=1, persistent_workers=True),
            stateful_prepared=lambda d: prepared(d, num_workers=0))


# Endings

class Fused:
    "A loader that raises at batch `k`"
    def __init__(self, batches, k, error): self.batches, self.k, self.error = batches, k, error

    def __iter__(self):
        for i, b in enumerate(self.batches):
            if i == self.k: raise self.error
            yield b


def swept(t, loader=None, step=None, amp=None, preserve_on='auto', **kw):
    "Whether a sweep ended without an error, or with that which was asked for"
    finder = LRFinder(t.model, t.opt, t.loss_fn, step=step, amp=amp, preserve_on=preserve_on)
    try: finder.range_test(t.loader if loader is None else loader, **{**SWEEP, **kw})
    except (RuntimeError, KeyboardInterrupt, SystemExit) as e: return str(e) == 'by design'
    return True


def raising(error, k):
    "A step that raises at call `k`"
    calls = [0]

    def step(model, batch):
        calls[0] += 1
        if calls[0] == k: raise error
        return nn.functional.cross_entropy(model(batch[0]), batch[1])
    return step


def within(block):
    "A sweep inside of a block that changes how torch computes"
    def ending(t):
        with block(): return swept(t)
    return ending


def in_a_thread(t):
    "A sweep in another thread than the main one"
    with ThreadPoolExecutor(1) as pool: return pool.submit(swept, t).result()


def in_the_background(t):
    finder = LRFinder(t.model, t.opt, t.loss_fn).range_test(t.loader, background=True, **SWEEP)
    return len(finder.curve) > 1


def verified(t):
    "Short trainings after the sweep, where it gives a rate"
    finder = LRFinder(t.model, t.opt, t.loss_fn).range_test(t.loader, check=False, progress=False)
    with suppress(NoSuggestion): finder.verify(t.loader, progress=False)
    return True


BOOM, CTRL_C, EXIT = RuntimeError('by design'), KeyboardInterrupt('by design'), SystemExit('by design')
ENDINGS = dict(
    no_grad=within(torch.no_grad), inference=within(torch.inference_mode),
    autocast=within(partial(torch.autocast, 'cpu', torch.bfloat16)),
    in_a_thread=in_a_thread, in_the_background=in_the_background, verified=verified,
    completed=swept, seeded=lambda t: swept(t, seed=7), accumulated=lambda t: swept(t, accumulation_steps=2),
    diverged=lambda t: swept(t, end_lr=1e6, num_iter=30, diverge_threshold=4.),
    non_finite=lambda t: swept(t, end_lr=1e38, num_iter=30),
    exhausted=lambda t: swept(t, iter(list(islice(t.loader, 5)))),
    validated=lambda t: swept(t, valid_dl=t.loader, num_iter=3), amp=lambda t: swept(t, amp='bf16'),
    raised=lambda t: swept(t, step=raising(BOOM, 4)), stopped=lambda t: swept(t, step=raising(CTRL_C, 4)),
    stopped_at_once=lambda t: swept(t, step=raising(CTRL_C, 1)), left=lambda t: swept(t, step=raising(EXIT, 3)),
    loader_raised=lambda t: swept(t, Fused(t.loader, 3, BOOM)),
    on_disk=lambda t: swept(t, preserve_on='disk'), on_cpu=lambda t: swept(t, preserve_on='cpu'))


def check(model, opt, loader, ending, before=3):
    "A training with a sweep in it is the training without one"
    def make():
        torch.utils.hooks.RemovableHandle.next_id = 10**6       # counted in the process, and recorded
        m = MODELS[model]()
        return Training(m, OPTS[opt](m.parameters()), {**LOADERS, **SLOW}[loader](data()))

    def interlude(t):
        if ending == 'exhausted':       # what it takes beforehand is taken by the twin, too
            list(islice(t.loader, 5))
        else: assert ENDINGS[ending](t)

    def exhausted(t): assert ENDINGS['exhausted'](t)
    plain_run = run(make, interlude if ending == 'exhausted' else lambda t: None, before, 9)
    assert differences(plain_run, run(make, exhausted if ending == 'exhausted' else interlude, before, 9)) == []


ANY = settings(max_examples=600, deadline=None, database=None, print_blob=True, phases=(Phase.generate, Phase.shrink),
               suppress_health_check=list(HealthCheck))


@ANY
@given(model=st.sampled_from(sorted(MODELS)), opt=st.sampled_from(sorted(OPTS)),
       loader=st.sampled_from(sorted(LOADERS)), ending=st.sampled_from(sorted(ENDINGS)),
       before=st.sampled_from([0, 3, 6]))
def test_any_training_goes_on(model, opt, loader, ending, before):
    if loader in ('stateful', 'prepared'): pytest.importorskip('torchdata' if loader == 'stateful' else 'accelerate')
    check(model, opt, loader, ending, before)


@pytest.mark.parametrize('model', MODELS)
def test_models(model): check(model, 'adam', 'shuffled', 'completed')


@pytest.mark.parametrize('opt', OPTS)
def test_optimizers(opt): check('normed', opt, 'shuffled', 'completed')


@pytest.mark.parametrize('loader', [*LOADERS, *SLOW])
@pytest.mark.parametrize('before', [0, 3])
def test_loaders(loader, before):
    if loader in ('stateful',): pytest.importorskip('torchdata')
    if 'prepared' in loader: pytest.importorskip('accelerate')
    check('plain', 'nesterov', loader, 'completed', before)


@pytest.mark.parametrize('ending', ENDINGS)
def test_endings(ending): check('normed', 'adam', 'shuffled', ending)


def test_the_comparison_can_fail():
    "Without the restoration, nothing of this holds"
    with pytest.MonkeyPatch.context() as m:
        m.setattr(preserved, '__exit__', lambda *a: None)
        with pytest.raises(AssertionError): check('plain', 'sgd', 'shuffled', 'completed')
