"""Training on after a sweep gives, bit for bit, what it would have given had the sweep never run"""
import copy, math, random
from collections import OrderedDict, deque, namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import ConcatDataset, DataLoader, Dataset, TensorDataset
from torchvision.models import mobilenet_v3_small, resnet18

from lrfinder_nb.engine.finder import LRFinder
from lrfinder_nb.core.schedule import sweep_lrs
from lrfinder_nb.engine.step import TrainStep
from lrfinder_nb.engine.sweep import sweep

torch.set_num_threads(1)
SWEEP = dict(start_lr=1e-5, end_lr=1., num_iter=12, diverge_threshold=math.inf, progress=False)


# Two trainings from one seed

@dataclass
class Training:
    "All that a training loop holds"
    model: nn.Module
    opt: torch.optim.Optimizer
    loader: Any
    loss_fn: Any = F.cross_entropy
    scheduler: Any = None
    zero_grad: bool = True  # False adds gradients up over all steps
    generators: tuple = ()  # random generators that model or data own
    batches: Any = None  # the loader over and over, an epoch perhaps under way


def train(t, steps):
    "The losses of `steps` steps, as a user's own loop takes them"
    losses = []
    for x, y in islice(t.batches, steps):
        if t.zero_grad: t.opt.zero_grad()
        loss = t.loss_fn(t.model(x), y)
        loss.backward()
        t.opt.step()
        if t.scheduler: t.scheduler.step()
        losses.append(loss.detach())
    return losses


def leaves(x, name=''):
    "Names and values of all tensors, arrays and plain values in nested containers"
    if isinstance(x, dict):
        yield f'{name}.keys', [*map(str, x)]
        for k, v in x.items(): yield from leaves(v, f'{name}.{k}')
    elif isinstance(x, (list, tuple, deque)):
        yield f'{name}.type', f'{type(x).__name__} of {len(x)}'
        for i, v in enumerate(x): yield from leaves(v, f'{name}.{i}')
    elif isinstance(x, torch.Tensor): yield name, x.detach().to_dense().clone()
    elif isinstance(x, set): yield name, sorted(x)
    elif isinstance(x, (np.ndarray, bool, int, float, str, type(None))): yield name, copy.copy(x)


def generator_state(g):
    "The state of a random generator of torch or NumPy"
    if isinstance(g, torch.Generator): return g.get_state()
    return g.bit_generator.state if isinstance(g, np.random.Generator) else None


def record(t, when):
    "Everything that later training depends on, by name"
    loss = t.loss_fn if isinstance(t.loss_fn, nn.Module) else nn.Module()
    scheduler = t.scheduler.state_dict() if t.scheduler else None
    loader = generator_state(getattr(t.loader, 'generator', None))
    return dict(leaves({when: dict(
        **of_model(t.model), **of_optimizer(t.opt), scheduler=scheduler,
        loss={**loss.state_dict(), 'training': loss.training},
        python=random.getstate(), numpy=np.random.get_state(), torch=torch.get_rng_state(),
        loader=loader, generators=[generator_state(g) for g in t.generators])}))


def of_model(model):
    "Parameters, their gradients and flags, buffers, modes and attributes of a model"
    named, parts = dict(model.named_parameters(remove_duplicate=False)), dict(model.named_modules())
    internal = vars(nn.Module())
    return dict(
        parameter=named, grad={n: p.grad for n, p in named.items()},
        requires_grad={n: p.requires_grad for n, p in named.items()},
        buffer=dict(model.named_buffers(remove_duplicate=False)),
        training={n: part.training for n, part in parts.items()},
        attribute={n: {k: v for k, v in vars(part).items() if k not in internal} for n, part in parts.items()})


def of_optimizer(opt):
    "State, attributes and parameters of an optimizer"
    held = [group['params'] for group in opt.param_groups]
    attributes = {k: v for k, v in vars(opt).items() if k not in ('state', 'param_groups')}
    return dict(optimizer=opt.state_dict(), optimizer_attribute=attributes, held=held,
                held_grad=[[p.grad for p in params] for params in held])


def run(make, interlude=lambda t: None, before=3, after=20):
    "The record of a seeded training with `interlude` in its middle"
    for seed in (random.seed, np.random.seed, torch.manual_seed): seed(0)
    t = make()
    t.batches = chain.from_iterable(repeat(t.loader))
    losses = train(t, before)
    interlude(t)
    middle = record(t, 'middle')
    losses += train(t, after)
    return {**dict(leaves(losses, 'losses')), **middle, **record(t, 'end')}


def same(a, b):
    "Whether two leaves are equal in type and in every bit"
    if type(a) is not type(b): return False
    if isinstance(a, torch.Tensor): return a.dtype == b.dtype and torch.equal(a, b)
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


def differences(a, b):
    "The names under which two records differ"
    return [k for k in {**a, **b} if not (k in a and k in b and same(a[k], b[k]))]


def find(t, train_dl=None, ended='completed', step=None, preserve=(), amp=None, **kw):
    "A sweep that must end as said"
    finder = LRFinder(t.model, t.opt, t.loss_fn, step=step, preserve=preserve, amp=amp)
    batches = t.loader if train_dl is None else train_dl
    kw.setdefault('check', not isinstance(batches, Iterator))       # what was taken from an iterator is gone
    try: finder.range_test(batches, **{**SWEEP, **kw})
    finally: assert finder.curve.ended == ended and len(finder.curve) >= 2


def check(make, interlude=find, **kw):
    "A training with `interlude` must be the training without it"
    assert differences(run(make, **kw), run(make, interlude, **kw)) == []


# Parts

def loader(shape, n=22, **kw):
    "A shuffled loader with a generator of its own"
    g = torch.Generator().manual_seed(1)
    data = TensorDataset(torch.randn(n, *shape, generator=g), torch.randint(3, (n,), generator=g))
    return DataLoader(data, **{**dict(batch_size=4, shuffle=True, generator=g), **kw})


def mlp(): return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(.3), nn.Linear(16, 3))


def cnn():
    body = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    return nn.Sequential(*body, nn.Linear(16, 3))


class Recurrent(nn.Module):
    "Two LSTM layers and a linear head"
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 8, 2, batch_first=True, dropout=.2), nn.Linear(8, 3)

    def forward(self, x): return self.head(self.lstm(x)[0][:, -1])


def spectral():
    normed = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 16))
    return nn.Sequential(normed, nn.ReLU(), nn.Linear(16, 3))


SHAPES = {cnn: (1, 8, 8), Recurrent: (6, 4), resnet18: (3, 32, 32), mobilenet_v3_small: (3, 32, 32)}
OPTIMIZERS = dict(
    sgd=lambda ps: torch.optim.SGD(ps, .05),
    nesterov=lambda ps: torch.optim.SGD(ps, .02, momentum=.9, nesterov=True, weight_decay=1e-3),
    adam=lambda ps: torch.optim.Adam(ps, 1e-2),
    amsgrad=lambda ps: torch.optim.AdamW(ps, 1e-2, amsgrad=True),
    foreach=lambda ps: torch.optim.AdamW(ps, 1e-2, foreach=True),
    fused=lambda ps: torch.optim.AdamW(ps, 1e-2, fused=True),
    rmsprop=lambda ps: torch.optim.RMSprop(ps, 1e-3, momentum=.5, centered=True),
    adagrad=lambda ps: torch.optim.Adagrad(ps, .05))


def training(model=mlp, opt='sgd', prepare=None, **kw):
    "A maker of seeded trainings; `prepare(t)` changes one before it starts"
    def make():
        m = model(weights=None, num_classes=3) if model in (resnet18, mobilenet_v3_small) else model()
        t = Training(m, OPTIMIZERS[opt](m.parameters()), loader(SHAPES.get(model, (8,)), **kw))
        if prepare: prepare(t)
        return t
    return make


# The comparison can fail

def bare_sweep(t):
    "A sweep that puts nothing back"
    list(sweep(TrainStep(t.model, t.opt, t.loss_fn), t.loader, sweep_lrs(1e-5, .1, 12)))


def test_a_sweep_that_restores_nothing_is_noticed():
    make = training(cnn, 'adam')
    found = differences(run(make), run(make, bare_sweep))
    kinds = {k.split('.')[2] for k in found if k.startswith('.middle')}
    assert {'parameter', 'grad', 'buffer', 'optimizer', 'loader'} <= kinds
    assert 'losses.22' in found


@pytest.mark.parametrize('change, name', [
    (lambda t: torch.rand(1), 'torch'), (lambda t: random.random(), 'python'), (lambda t: np.random.rand(), 'numpy'),
    (lambda t: t.loader.generator.seed(), 'loader'), (lambda t: t.model[2].eval(), 'training'),
    (lambda t: t.model[3].requires_grad_(False), 'requires_grad'),
    (lambda t: setattr(t.model[3].bias, 'grad', None), 'grad'),
    (lambda t: t.opt.param_groups[0].update(lr=.3), 'optimizer'),
    (lambda t: setattr(t.model, 'note', 1), 'attribute')])
def test_every_small_change_is_noticed(change, name):
    make = training()
    assert any(k.startswith(f'.middle.{name}') for k in differences(run(make, after=1), run(make, change, after=1)))


# Every model, every optimizer, every ending

MODELS = {mlp: 'adam', cnn: 'nesterov', Recurrent: 'adam', spectral: 'sgd',
          resnet18: 'nesterov', mobilenet_v3_small: 'rmsprop'}


@pytest.mark.parametrize('model, opt', MODELS.items())
def test_models(model, opt): check(training(model, opt))


@pytest.mark.parametrize('opt', OPTIMIZERS)
def test_optimizers(opt): check(training(opt=opt))


@pytest.mark.parametrize('opt', ['nesterov', 'foreach', 'adagrad'])
def test_optimizers_before_their_first_step(opt): check(training(opt=opt), before=0)


class Fused:
    "A loader that raises at batch `k`"
    def __init__(self, batches, k, exc): self.batches, self.k, self.exc = batches, k, exc

    def __iter__(self):
        for i, b in enumerate(self.batches):
            if i == self.k: raise self.exc
            yield b


class FusedLater:
    "A loader that raises in its fourth pass"
    def __init__(self, batches, exc): self.batches, self.exc, self.passes = batches, exc, 0

    def __iter__(self):
        self.passes += 1
        for i, b in enumerate(self.batches):
            if self.passes == 4 and i == 2: raise self.exc
            yield b


def in_the_loader(exc, k, **kw):
    "A sweep whose loader raises at batch `k`"
    return lambda t: find(t, Fused(t.loader, k, exc), 'stopped', **kw)


def in_the_model(exc, k, **kw):
    "A sweep whose model raises at call `k`"
    def interlude(t):
        calls = []

        def blow(*_):
            calls.append(1)
            if len(calls) == k + 1: raise exc
        handle = t.model[2].register_forward_hook(blow)
        try: find(t, ended='stopped', **kw)
        finally: handle.remove()
    return interlude


def in_the_step(exc, k):
    "A sweep that raises right after the optimizer's step `k`"
    def interlude(t):
        calls = []

        def blow(*_):
            calls.append(1)
            if len(calls) == k + 1: raise exc
        handle = t.opt.register_step_post_hook(blow)
        try: find(t, ended='stopped')
        finally: handle.remove()
    return interlude


def expecting(exc, interlude):
    "`interlude`, which must let `exc` through"
    def f(t):
        with pytest.raises(type(exc), match=str(exc)): interlude(t)
    return f


def some_batches(n):
    "A list of `n` batches"
    return list(islice(loader((8,), n=4*n), n))


BOOM, OOM = RuntimeError('boom'), torch.OutOfMemoryError('out of memory')
EXIT, CTRL_C = SystemExit('exit'), KeyboardInterrupt('ctrl-c')
ENDINGS = dict(
    completed=find,
    diverged=lambda t: find(t, ended='diverged', end_lr=1e6, num_iter=60, diverge_threshold=4.),
    non_finite=lambda t: find(t, ended='non-finite', end_lr=1e38, num_iter=60),
    exhausted=lambda t: find(t, iter(some_batches(5)), 'exhausted'),
    exhausted_generator=lambda t: find(t, (b for b in some_batches(5)), 'exhausted', accumulation_steps=2),
    model_raises=expecting(BOOM, in_the_model(BOOM, 5)),
    model_out_of_memory=expecting(OOM, in_the_model(OOM, 5)),
    model_raises_late_in_accumulation=expecting(BOOM, in_the_model(BOOM, 8, accumulation_steps=3)),
    model_exits=expecting(EXIT, in_the_model(EXIT, 4)),
    optimizer_raises=expecting(BOOM, in_the_step(BOOM, 5)),
    loader_raises=expecting(BOOM, in_the_loader(BOOM, 5)),
    ctrl_c_in_model=in_the_model(CTRL_C, 5),
    ctrl_c_in_optimizer=in_the_step(CTRL_C, 5),
    ctrl_c_in_loader=in_the_loader(CTRL_C, 5),
    ctrl_c_in_validation=lambda t: find(t, valid_dl=FusedLater(t.loader, CTRL_C), ended='stopped'))


@pytest.mark.parametrize('ending', ENDINGS)
def test_endings(ending): check(training(opt='amsgrad'), ENDINGS[ending])


def test_several_sweeps_in_a_row():
    def interlude(t):
        for ending in ('completed', 'non_finite', 'loader_raises'): ENDINGS[ending](t)
    check(training(cnn, 'adam'), interlude)


# Special conditions of model and optimizer

def test_frozen_parameters(): check(training(cnn, 'adam', lambda t: t.model[0].requires_grad_(False)))


def test_parameters_outside_the_optimizer():
    def prepare(t): t.opt = OPTIMIZERS['adam'](t.model[3:].parameters())
    check(training(prepare=prepare))


def test_submodules_in_eval_mode(): check(training(cnn, prepare=lambda t: t.model[1].eval()))


def test_model_in_eval_mode(): check(training(cnn, 'adam', lambda t: t.model.eval()))


def test_training_submodule_of_a_model_in_eval_mode():
    def prepare(t): t.model.eval()[2].train()
    check(training(mlp, 'adam', prepare))


@pytest.mark.parametrize('before', [0, 3])
def test_attached_scheduler(before):
    def prepare(t): t.scheduler = OneCycleLR(t.opt, max_lr=.1, total_steps=30)
    check(training(opt='adam', prepare=prepare), before=before)


def test_scheduler_stepped_by_the_users_step():
    def prepare(t): t.scheduler = OneCycleLR(t.opt, max_lr=.1, total_steps=40)

    def interlude(t):
        def step(model, batch):
            t.scheduler.step()
            return F.cross_entropy(model(batch[0]), batch[1])
        find(t, step=step, preserve=[t.scheduler])
    check(training(opt='nesterov', prepare=prepare), interlude)


def test_gradients_that_wait_for_the_next_step():
    def prepare(t): t.zero_grad = False
    check(training(opt='adam', prepare=prepare))


def test_gradients_of_half_a_step():
    def backward_then(interlude):
        def f(t):
            F.cross_entropy(t.model.eval()(torch.ones(4, 8)), torch.ones(4).long()).backward()
            interlude(t)
        return f
    make = training(prepare=lambda t: setattr(t, 'zero_grad', False))
    assert differences(run(make, backward_then(lambda t: None)), run(make, backward_then(find))) == []


def test_sparse_gradients():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(10, 6, sparse=True), nn.Linear(6, 3)
        def forward(self, x): return self.head(self.embed((x[:, :3].abs()*3).long().clamp(max=9)).mean(1))
    check(training(Words, prepare=lambda t: setattr(t, 'zero_grad', False)))


@pytest.mark.parametrize('cls', [torch.optim.SGD, torch.optim.Adam])
def test_tensor_learning_rate(cls):
    def prepare(t):
        parts = {t.model[0]: torch.tensor(.01), t.model[3]: torch.tensor(.02)}
        t.opt = cls([dict(params=part.parameters(), lr=lr) for part, lr in parts.items()])
    rates = []

    def interlude(t):
        mine = [g['lr'] for g in t.opt.param_groups]
        find(t)
        assert all(g['lr'] is lr for g, lr in zip(t.opt.param_groups, mine))
        rates.extend(mine)
    check(training(prepare=prepare), interlude)
    assert len(rates) == 2


def test_discriminative_groups():
    def prepare(t):
        body = dict(params=t.model[0].parameters(), lr=1e-3, weight_decay=.1)
        head = dict(params=t.model[3].parameters(), betas=(.8, .9))
        t.opt = torch.optim.AdamW([body, head], lr=1e-2)
    check(training(prepare=prepare))


def test_tied_weights():
    def tied():
        m = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 3))
        m[2].weight = m[0].weight
        return m

    def interlude(t):
        find(t)
        assert t.model[2].weight is t.model[0].weight
    check(training(tied, 'adam'), interlude)


def test_same_objects_come_back():
    def interlude(t):
        def identity():
            held = [x for p in t.model.parameters() for x in (p, p.grad, *t.opt.state[p].values())]
            return [id(x) for x in (*held, *t.model.buffers())]
        old = identity()
        find(t)
        assert identity() == old
    check(training(cnn, 'adam'), interlude)


def test_expanded_buffer():
    class Typed(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(8, 3))
            self.register_buffer('kinds', torch.ones(1).expand(8))
        def forward(self, x): return super().forward(x*self.kinds)
    check(training(Typed, 'adam'))


def test_buffer_replaced_by_the_forward():
    class Centred(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(8, 3))
            self.register_buffer('mean', torch.zeros(8), persistent=False)
        def forward(self, x):
            self.mean = .9*self.mean + .1*x.mean(0)
            return super().forward(x - self.mean)
    check(training(Centred))


State = namedtuple('State', 'h n')


class Remembering(nn.Module):
    "A model whose output depends on what it keeps in the plain attribute `kept`"
    def __init__(self, kept):
        super().__init__()
        self.body, self.head, self.kept = nn.Linear(8, 8), nn.Linear(8, 3), kept

    def forward(self, x):
        h = self.body(x).tanh()
        return self.head(h + .1*self.remember(self.kept, h.detach().mean(0)))

    def remember(self, kept, now):
        "Take `now` into what is kept, in the way of its kind, and return all of that as a tensor"
        if kept is None: self.kept = now
        elif isinstance(kept, int): self.kept = kept + 1
        elif isinstance(kept, torch.Tensor): kept.mul_(.9).add_(now)
        elif isinstance(kept, np.ndarray): kept += 1
        elif isinstance(kept, State): self.kept = State(.9*kept.h + now, kept.n + 1)
        elif isinstance(kept, tuple): self.kept = .9*kept[0] + now, kept[1]
        elif isinstance(kept, set): kept.add(len(kept))
        elif isinstance(kept, (list, deque)): kept.append(now)
        elif isinstance(kept, dict): kept['h'] = .9*kept['h'] + now
        return self.past()

    def past(self):
        "What is kept, as a tensor"
        kept = self.kept
        if isinstance(kept, dict): return kept['h']
        if isinstance(kept, tuple): return kept[0]
        if isinstance(kept, (list, deque)): return torch.stack(list(kept)).mean(0)
        if isinstance(kept, np.ndarray): return torch.from_numpy(kept)
        if isinstance(kept, torch.Tensor): return kept
        return torch.tensor(float(len(kept) if isinstance(kept, set) else kept))


KEPT = dict(counter=lambda: 0, tensor=lambda: torch.zeros(8), none=lambda: None,
            tuple=lambda: (torch.zeros(8), 'h'), list=list, dict=lambda: {'h': torch.zeros(8)},
            ordered_dict=lambda: OrderedDict(h=torch.zeros(8)), namedtuple=lambda: State(torch.zeros(8), 0),
            deque=lambda: deque(maxlen=3), set=set,
            array=lambda: np.zeros(8, dtype=np.float32))


@pytest.mark.parametrize('kept', KEPT)
@pytest.mark.parametrize('before', [0, 3])
def test_plain_attributes(kept, before): check(training(lambda: Remembering(KEPT[kept]()), 'adam'), before=before)


def test_model_with_its_own_generator():
    class Noisy(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(8, 3))
            self.rng = torch.Generator().manual_seed(3)
        def forward(self, x): return super().forward(x + torch.randn(x.shape, generator=self.rng))
    check(training(Noisy, prepare=lambda t: setattr(t, 'generators', (t.model.rng,))))


# Special conditions of the loss

class Tempered(nn.Module):
    "Cross entropy at a learned temperature, with a running mean of its own value as a buffer"
    def __init__(self):
        super().__init__()
        self.log_t = nn.Parameter(torch.zeros(()))
        self.register_buffer('mean', torch.ones(()))

    def forward(self, out, target):
        loss = F.cross_entropy(out*self.log_t.exp(), target)
        if self.training: self.mean.lerp_(loss.detach(), .1)
        return loss/self.mean


def test_loss_module_with_a_buffer_and_a_learned_parameter():
    def prepare(t):
        t.loss_fn = Tempered()
        t.opt = OPTIMIZERS['adam']([*t.model.parameters(), *t.loss_fn.parameters()])
    check(training(prepare=prepare))


def test_learned_parameter_of_a_plain_loss():
    def prepare(t):
        log_t = nn.Parameter(torch.zeros(()))
        t.loss_fn = lambda out, target: F.cross_entropy(out*log_t.exp(), target)
        t.opt.add_param_group(dict(params=[log_t]))
    check(training(opt='nesterov', prepare=prepare))


def test_user_step():
    def step(model, batch):
        random.random()
        np.random.rand()
        return F.cross_entropy(model(batch[0] + torch.randn(8)), batch[1])
    check(training(), lambda t: find(t, step=step))


def test_user_step_that_thaws_parameters():
    def interlude(t):
        def step(model, batch):
            model[0].requires_grad_(True)
            return F.cross_entropy(model(batch[0]), batch[1])
        find(t, step=step)
    check(training(cnn, 'adam', lambda t: t.model[0].requires_grad_(False)), interlude)


def test_amp(): check(training(cnn, 'adam'), lambda t: find(t, amp='bf16'))


@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode])
def test_inside_no_grad(mode):
    def interlude(t):
        with mode(): find(t)
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    check(training(cnn, 'adam'), interlude)


def test_seeded_sweep(): check(training(), lambda t: find(t, seed=7))


def test_accumulation(): check(training(cnn, 'adam'), lambda t: find(t, accumulation_steps=3))


# Special conditions of the data

def test_loader_without_a_generator(): check(training(generator=None))


def test_sampling_with_replacement():
    def prepare(t):
        g = t.loader.generator
        sampler = torch.utils.data.RandomSampler(t.loader.dataset, replacement=True, num_samples=100, generator=g)
        t.loader, t.generators = DataLoader(t.loader.dataset, batch_size=4, sampler=sampler), (g,)
    check(training(prepare=prepare))


def test_sweep_between_two_epochs(): check(training(opt='adam'), before=6)


@pytest.mark.parametrize('before', [0, 3, 6])
def test_persistent_workers(before): check(training(num_workers=2, persistent_workers=True), before=before)


def test_worker_processes(): check(training(num_workers=1))


def test_validation_loader():
    def prepare(t): t.valid_dl = loader((1, 8, 8), n=9)

    def interlude(t):
        old = t.valid_dl.generator.get_state()
        find(t, valid_dl=t.valid_dl)
        assert torch.equal(old, t.valid_dl.generator.get_state())
    check(training(cnn, 'adam', prepare), interlude)


class Noise:
    "A transform with a generator of its own"
    def __init__(self): self.rng = np.random.default_rng(5)
    def __call__(self, x): return x + torch.from_numpy(self.rng.normal(size=x.shape)).float()


class NoiseModule(nn.Module):
    "The same as a module, as the transforms of torchvision are"
    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(5)

    def forward(self, x): return Noise.__call__(self, x)


class Compose:
    "Transforms in a row"
    def __init__(self, *transforms): self.transforms = list(transforms)

    def __call__(self, x):
        for f in self.transforms: x = f(x)
        return x


class Transformed(Dataset):
    "The vectors of a data set, transformed"
    def __init__(self, data, transform): self.data, self.transform = data, transform
    def __len__(self): return len(self.data)
    def __getitem__(self, i): return self.transform(self.data[i][0]), self.data[i][1]


TRANSFORMS = dict(
    plain=lambda: (f := Noise(), f.rng), composed=lambda: (Compose(nn.Identity(), f := Noise()), f.rng),
    module=lambda: (f := NoiseModule(), f.rng),
    modules=lambda: (nn.Sequential(nn.Identity(), f := NoiseModule()), f.rng))


@pytest.mark.parametrize('transform', TRANSFORMS)
@pytest.mark.parametrize('join', [lambda d: d, lambda d: ConcatDataset([d, d])], ids=['one', 'concat'])
def test_dataset_with_its_own_generator(transform, join):
    def prepare(t):
        f, rng = TRANSFORMS[transform]()
        data = join(Transformed(t.loader.dataset, f))
        t.loader, t.generators = DataLoader(data, batch_size=4, shuffle=True, generator=t.loader.generator), (rng,)
    check(training(prepare=prepare))


class Halved:
    "A loader around another"
    def __init__(self, inner): self.inner, self.generator = inner, inner.generator
    def __len__(self): return len(self.inner)
    def __iter__(self): return ((x/2, y) for x, y in self.inner)


@pytest.mark.parametrize('around', ['sweep', 'both'])
@pytest.mark.parametrize('kw', [{}, dict(num_workers=1, persistent_workers=True)], ids=['plain', 'persistent workers'])
def test_wrapped_loader(around, kw):
    def prepare(t):
        if around == 'both': t.loader = Halved(t.loader)
    check(training(prepare=prepare, **kw), lambda t: find(t, Halved(t.loader)))


@pytest.mark.parametrize('workers', [0, 2])
def test_the_rest_of_a_running_iterator(workers):
    t = training(num_workers=workers, shuffle=False, n=44)()
    batches = iter(t.loader)
    next(batches)
    find(t, batches, num_iter=4)
    rest = [x for x, _ in batches]
    assert len(rest) == 6 and torch.equal(torch.cat(rest), t.loader.dataset.tensors[0][20:])


class Reshuffled:
    "A loader that shuffles by the number of its epoch"
    def __init__(self, batches): self.batches, self.epoch = batches, 0

    def __iter__(self):
        self.epoch += 1
        yield from (self.batches[i] for i in np.random.default_rng(self.epoch).permutation(len(self.batches)))


def test_custom_loader_that_counts_its_epochs():
    def prepare(t): t.loader = Reshuffled(some_batches(5))
    check(training(prepare=prepare))
