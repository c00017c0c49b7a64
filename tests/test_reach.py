"""Objects of every kind that a loss, a dataset or a class may hold: a sweep puts them back, or a check names them"""
import collections
import contextvars
import ctypes
import functools
import itertools
import multiprocessing
import queue
import sys
import threading
import types
import warnings
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lrfinder_nb.engine.finder import LRFinder

torch.set_num_threads(1)
SWEEP = dict(num_iter=6, start_lr=1e-5, end_lr=1., progress=False, check=True)
X, Y = torch.randn(16, 4), torch.arange(16) % 2


def net(): return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))


def said(model=None, loader=None, **kw):
    "What a sweep warns of"
    model = model or net()
    if 'step' not in kw: kw.setdefault('loss_fn', F.cross_entropy)
    finder = LRFinder(model, torch.optim.SGD(model.parameters(), .1), **kw)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        finder.range_test([(X, Y)]*2 if loader is None else loader, **SWEEP)
    return ' '.join(str(w.message) for w in caught)


class Held(nn.Module):
    "A loss that holds a thing and touches it each time"
    def __init__(self, thing, touch):
        super().__init__()
        self.thing, self.touch = thing, touch

    def forward(self, out, y):
        self.touch(self.thing)
        return F.cross_entropy(out, y)


def enter(d): d['n'] = d.get('n', 0) + 1


def write(memory): memory[0] = (memory[0] + 1) % 256


def add(box): box.n += 1


def more(shared): shared.value += 1


def again(variable): variable.set(variable.get(0) + 1)


class Key:
    "What a weak dictionary can hold"


KEYS = [Key() for _ in range(9)]


def local():
    found = threading.local()
    found.n = 0
    return found


class Stream:
    "An iterator of the user's own"
    def __init__(self): self.n = 0
    def __iter__(self): return self
    def __next__(self): self.n += 1


PUT_BACK = dict(
    list_iterator=(lambda: iter([*range(99)]), next, lambda x: x.__length_hint__()),
    tuple_iterator=(lambda: iter((*range(99),)), next, lambda x: x.__length_hint__()),
    range_iterator=(lambda: iter(range(99)), next, lambda x: x.__length_hint__()),
    reversed_list=(lambda: reversed([*range(99)]), next, lambda x: x.__length_hint__()),
    stream=(Stream, next, lambda x: x.n),
    context=(lambda: contextvars.ContextVar('n', default=0), again, lambda x: x.get()),
    weak_keys=(weakref.WeakKeyDictionary, lambda d: d.update({KEYS[len(d)]: 1}), len),
    weak_values=(weakref.WeakValueDictionary, lambda d: d.update({len(d): KEYS[0]}), len),
    weak_set=(weakref.WeakSet, lambda s: s.add(KEYS[len(s)]), len),
    counter=(lambda: collections.Counter(a=1), lambda c: c.update('ab'), dict),
    chain_map=(lambda: collections.ChainMap({}, dict(n=1)), enter, dict),
    user_dict=(collections.UserDict, enter, dict), user_list=(collections.UserList, lambda x: x.append(1), list),
    view=(lambda: memoryview(bytearray(3)), write, bytes), number=(lambda: ctypes.c_int(1), more, lambda x: x.value),
    shared=(lambda: multiprocessing.Value('i', 0), more, lambda x: x.value), local=(local, add, lambda x: x.n),
    bits=(lambda: np.random.PCG64(1), lambda b: b.random_raw(), lambda b: repr(b.state)))
NAMED = dict(
    count=(itertools.count, next), chained=(lambda: itertools.chain(range(3), range(99)), next),
    cycle=(lambda: itertools.cycle([1, 2, 3]), next), sliced=(lambda: itertools.islice(range(99), 50), next),
    zipped=(lambda: zip(range(99), 'a'*99), next), numbered=(lambda: enumerate('a'*99), next),
    mapped=(lambda: map(abs, range(99)), next), generator=(lambda: (i for i in range(99)), next),
    waiting=(queue.Queue, lambda q: q.put(1)), simple=(queue.SimpleQueue, lambda q: q.put(1)),
    spawning=(lambda: np.random.default_rng(1), lambda g: g.spawn(1)))


@pytest.mark.parametrize('kind', PUT_BACK)
def test_what_a_loss_holds_is_put_back(kind):
    make, touch, state = PUT_BACK[kind]
    thing, twin = make(), make()
    assert said(loss_fn=Held(thing, touch)) == '' and state(thing) == state(twin)
    touch(twin)
    assert state(thing) != state(twin)


@pytest.mark.parametrize('kind', NAMED)
def test_what_cannot_be_put_back_is_named(kind):
    make, touch = NAMED[kind]
    assert 'could not be put back: loss_fn.thing' in said(loss_fn=Held(make(), touch))
    assert said(loss_fn=Held(make(), lambda thing: None)) == ''


def test_an_iterator_that_is_used_up_is_named():
    assert 'could not put back model.thing' in said(loss_fn=Held(iter([1, 2, 3]), lambda x: next(x, 0)))


# Classes, and the globals of their methods

class Passes(IterableDataset):
    "Batches that depend on the number of the pass, which is counted in the class, too"
    all_passes, places = 0, []
    def __init__(self): self.passes = 0

    def __iter__(self):
        self.passes += 1
        Passes.all_passes += 1
        for i in range(8):
            self.last = i
            self.places.append(i)
            yield X[i]*self.passes, Y[i]


def test_counters_of_an_iterable_dataset_and_its_class_are_put_back():
    data = Passes()
    assert said(loader=DataLoader(data, 4)) == '' and vars(data) == dict(passes=0)
    assert (Passes.all_passes, Passes.places) == (0, [])


class Base(nn.Linear):
    "A model whose classes count, each in its way"
    calls, box = 0, types.SimpleNamespace(n=0)
    def __init__(self): super().__init__(4, 2)

    def forward(self, x):
        Base.calls += 1
        self.box.n += 1
        type(self).new = getattr(type(self), 'new', 0) + 1
        return super().forward(x)


class Derived(Base):
    "Its class"


def test_attributes_of_classes_are_put_back():
    assert said(model=Derived()) == '' and (Base.calls, Base.box.n, hasattr(Derived, 'new')) == (0, 0, False)


RNG, COUNT, SEEN, PLACE = np.random.default_rng(5), 0, [], contextvars.ContextVar('PLACE', default=0)
MINE = types.ModuleType('module_of_the_users_own')
MINE.n, MINE.rng = 0, np.random.default_rng(6)
sys.modules[MINE.__name__] = MINE


class Drawn(Dataset):
    "Samples with noise from generators that are globals"
    def __len__(self): return 8
    def __getitem__(self, i): return X[i] + RNG.random() + MINE.rng.random(), Y[i]


def test_generators_that_methods_draw_from_are_put_back():
    before = RNG.bit_generator.state, MINE.rng.bit_generator.state
    assert said(loader=DataLoader(Drawn(), 4)) == ''
    assert (RNG.bit_generator.state, MINE.rng.bit_generator.state) == before


class Noted(Dataset):
    "Samples whose reading is noted in globals"
    def __len__(self): return 8

    def __getitem__(self, i):
        global COUNT
        COUNT += 1
        SEEN.append(i)
        return X[i], Y[i]


class Settings:
    "A class that nobody makes an object of"
    step = 0


def in_a_class(model, batch):
    Settings.step += 1
    return F.cross_entropy(model(batch[0]), batch[1])


def in_a_module(model, batch):
    MINE.n += 1
    return F.cross_entropy(model(batch[0]), batch[1])


def in_a_context(model, batch):
    PLACE.set(PLACE.get() + 1)
    return F.cross_entropy(model(batch[0]), batch[1])


class Kept(nn.Module):
    "A loss with a cache on a method"
    @functools.lru_cache(None)
    def weight(self, n): return n
    def forward(self, out, y): return F.cross_entropy(out, y)*self.weight(len(out))


def test_globals_that_methods_and_steps_change_are_named():
    found = said(loader=DataLoader(Noted(), 4))
    assert 'Noted.__getitem__ (the global COUNT)' in found and 'Noted.__getitem__ global SEEN' in found
    assert 'the global Settings.step' in said(step=in_a_class)
    assert 'the global MINE.n' in said(step=in_a_module)
    assert 'Kept.weight' in said(loss_fn=Kept())
    assert said(step=in_a_context) == '' and PLACE.get() == 0
