"""Whatever goes wrong, the model is unchanged and one sentence says what was received"""
import json, math, multiprocessing, os, re, signal, stat, subprocess, sys, threading, warnings
from collections import defaultdict, namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, Phase, example, given, settings, strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder_nb.core.curve import ENDS, LossCurve, load_curve, save_curve
from lrfinder_nb.core.diagnose import diagnose
from lrfinder_nb.engine.finder import LRFinder
from lrfinder_nb.show.plot import plot_curve
from lrfinder_nb.core.schedule import sweep_lrs
from lrfinder_nb.engine.step import to_device
from lrfinder_nb.core.suggest import RULES, NoSuggestion, Suggestion, analyse

torch.set_num_threads(1)
posix = pytest.mark.skipif(os.name != 'posix', reason='needs POSIX signals and permissions')
SWEEP = dict(num_iter=20, start_lr=1e-5, end_lr=1., progress=False)
BATCH = torch.ones(4, 8), torch.tensor([0, 1, 2, 0])


class Net(nn.Linear):
    "A linear model that finds its own loss where it is given labels"
    def __init__(self): super().__init__(8, 3)

    def forward(self, x, labels=None):
        out = super().forward(x)
        return out if labels is None else {'loss': F.cross_entropy(out, labels), 'logits': out}


class Pair:
    "A model and its optimizer, and whether they are as they were"
    def __init__(self):
        torch.manual_seed(0)
        self.model = Net()
        self.opt = torch.optim.Adam(self.model.parameters(), 1e-3)
        self.old = {k: v.clone() for k, v in self.model.state_dict().items()}

    def unchanged(self):
        model = all(torch.equal(v, self.old[k]) for k, v in self.model.state_dict().items()) and self.model.training
        optimizer = not self.opt.state and self.opt.param_groups[0]['lr'] == 1e-3
        return model and optimizer and all(p.grad is None for p in self.model.parameters())


@pytest.fixture
def pair():
    "A model and an optimizer that must be unchanged after the test"
    p = Pair()
    yield p
    assert p.unchanged()


def find(pair, loader=(BATCH,), loss_fn=F.cross_entropy, step=None, **kw):
    "The finder after a sweep"
    if isinstance(loader, tuple): loader = list(loader)
    return LRFinder(pair.model, pair.opt, loss_fn, step=step).range_test(loader, **{**SWEEP, **kw})


def check_sentence(error, value):
    "`error` says in one sentence what was received"
    text = str(error)
    assert value in text and '\n' not in text and 20 < len(text) < 400, text


# Losses

def losing(f):
    "A step whose loss at step i (from 0) is `f(i, loss)`"
    calls = []

    def step(model, batch):
        calls.append(1)
        return f(len(calls) - 1, F.cross_entropy(model(batch[0]), batch[1]))
    return step


def test_nan_at_step_three(pair):
    finder = find(pair, step=losing(lambda i, loss: loss*math.nan if i == 2 else loss))
    assert finder.curve.ended == 'non-finite' and len(finder.curve) == 3
    assert np.isnan(finder.curve.losses).tolist() == [False, False, True]
    check_answers(finder.curve)


def test_infinite_at_once(pair):
    finder = find(pair, step=losing(lambda i, loss: loss*math.inf))
    assert finder.curve.ended == 'non-finite' and len(finder.curve) == 1
    with pytest.raises(NoSuggestion, match='at once') as e: finder.suggestion
    check_sentence(e.value, f'{finder.curve.lrs[0]:.1e}')


@pytest.mark.parametrize('f', [lambda i, loss: loss - 100, lambda i, loss: -loss], ids=['shifted', 'negated'])
def test_negative_loss(pair, f):
    finder = find(pair, step=losing(f))
    assert (finder.curve.losses < 0).all() and finder.curve.ended == 'completed'
    check_answers(finder.curve)


@pytest.mark.parametrize('level', [0, 1, -1, 1e30])
def test_constant_loss(pair, level):
    finder = find(pair, step=losing(lambda i, loss: loss*0 + level))
    assert finder.curve.ended == 'completed' and len(set(finder.curve.losses)) == 1
    with pytest.raises(NoSuggestion, match='never fell'): finder.analyse(skip_start=0, skip_end=0).suggestion
    check_answers(finder.curve)


def test_out_of_memory(pair):
    def step(i, loss):
        if i == 6: raise RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB')
        return loss
    with pytest.raises(RuntimeError, match='out of memory'): find(pair, step=losing(step))


def test_a_sweep_without_a_point_does_not_answer_with_the_last_curve(pair):
    finder = find(pair)

    class Interrupted:
        def __iter__(self): raise KeyboardInterrupt
    with pytest.raises((KeyboardInterrupt, ValueError)):
        finder.range_test(Interrupted(), **SWEEP)
        finder.curve


# Batches

@dataclass(frozen=True)
class Sample:
    x: torch.Tensor
    labels: torch.Tensor


Picture = namedtuple('Picture', 'x labels')


BATCHES = dict(
    tuple=BATCH, list=list(BATCH), dict=dict(x=BATCH[0], labels=BATCH[1]),
    defaultdict=defaultdict(list, x=BATCH[0], labels=BATCH[1]), dataclass=Sample(*BATCH), namedtuple=Picture(*BATCH))


@pytest.mark.parametrize('own_loss', [False, True])
@pytest.mark.parametrize('kind', BATCHES)
def test_batches(pair, kind, own_loss):
    curve = find(pair, [BATCHES[kind]], None if own_loss else F.cross_entropy).curve
    assert curve.ended == 'completed' and np.array_equal(curve.losses, find(pair).curve.losses)


def test_batch_that_knows_how_to_move():
    packed = nn.utils.rnn.pack_sequence([torch.ones(3), torch.ones(2)])
    moved, _ = to_device((packed, BATCH[1]), torch.device('meta'))
    assert moved.data.device.type == 'meta' and moved.batch_sizes.device.type == 'cpu'


def test_batches_that_are_none(pair):
    curve = find(pair, [None, None], step=lambda model, batch: F.cross_entropy(model(BATCH[0]), BATCH[1])).curve
    assert curve.ended == 'completed' and len(curve) == 20


# Loaders

class Bare:
    "An iterable and nothing else"
    def __init__(self, batches): self.batches = batches
    def __iter__(self): return iter(self.batches)


class Once(Bare):
    "An iterable that can be read once"
    def __iter__(self):
        batches, self.batches = self.batches, []
        return iter(batches)


def endless():
    while True: yield BATCH


@pytest.mark.parametrize('loader, ended, steps', [
    ([BATCH]*3, 'completed', 20), (Bare([BATCH]*3), 'completed', 20),
    (endless(), 'completed', 20), ((BATCH,), 'completed', 20),
    (iter([BATCH]*7), 'exhausted', 7), ((b for b in [BATCH]*7), 'exhausted', 7), (Once([BATCH]*7), 'exhausted', 7),
    (DataLoader(TensorDataset(*BATCH), batch_size=2), 'completed', 20)],
    ids=['list', 'custom', 'endless generator', 'tuple', 'iterator', 'generator', 'once', 'DataLoader'])
def test_loaders(pair, loader, ended, steps):
    curve = find(pair, loader, check=not isinstance(loader, Iterator)).curve     # an iterator is not where it was
    assert (curve.ended, len(curve)) == (ended, steps)


def test_too_few_batches_for_one_step(pair):
    with pytest.raises(ValueError) as e: find(pair, iter([BATCH]), accumulation_steps=2).curve
    assert 'call range_test' not in str(e.value)
    check_sentence(e.value, 'accumulation_steps')


def test_no_worker_outlives_a_sweep(pair):
    def step(i, loss):
        if i == 3: raise RuntimeError('boom')
        return loss
    loader = DataLoader(TensorDataset(*BATCH), batch_size=2, num_workers=1)
    with pytest.raises(RuntimeError, match='boom') as held: find(pair, loader, step=losing(step))
    assert held and not multiprocessing.active_children()


def test_numpy_counts(pair):
    counts = dict(num_iter=np.int64(12), accumulation_steps=np.int64(2), seed=np.int64(3))
    rates = dict(start_lr=np.float32(1e-5), diverge_threshold=np.float64(4))
    assert len(find(pair, **counts, **rates).curve) == 12


def test_outside_the_main_thread(pair):
    found = []
    thread = threading.Thread(target=lambda: found.append(find(pair)))
    thread.start()
    thread.join()
    assert found[0].curve.ended == 'completed' and np.array_equal(found[0].curve.losses, find(pair).curve.losses)


# Arguments and batches that cannot be used

class Sized(torch.utils.data.Dataset):
    def __len__(self): return 3
    def __getitem__(self, i): return BATCH


def preserving(p, things): return LRFinder(p.model, p.opt, F.cross_entropy, preserve=things).range_test([BATCH])


def logits_loss(m, b, **kw): return F.cross_entropy(m(b[0]), b[1], **kw)


TOO_LARGE = DataLoader(TensorDataset(*BATCH), batch_size=64, drop_last=True)
REFUSED = dict(
    model=(TypeError, "str", lambda p: LRFinder('net', p.opt)),
    optimizer=(TypeError, "str", lambda p: LRFinder(p.model, 'adam')),
    optimizers=(ValueError, "at least one optimizer", lambda p: LRFinder(p.model, {})),
    others_optimizer=(ValueError, "SGD", lambda p: LRFinder(p.model, torch.optim.SGD(Net().parameters(), .1))),
    frozen=(ValueError, "Net", lambda p: LRFinder(Net().requires_grad_(False), p.opt)),
    loss_fn=(TypeError, "int", lambda p: LRFinder(p.model, p.opt, 3)),
    step=(TypeError, "str", lambda p: LRFinder(p.model, p.opt, step='step')),
    cuda=(ValueError, "cuda", lambda p: LRFinder(p.model, p.opt, device='cuda')),
    device=(ValueError, "banana", lambda p: LRFinder(p.model, p.opt, device='banana')),
    device_number=(ValueError, "3.5", lambda p: LRFinder(p.model, p.opt, device=3.5)),
    amp=(ValueError, "int8", lambda p: LRFinder(p.model, p.opt, amp='int8')),
    fp16=(ValueError, "fp16", lambda p: LRFinder(p.model, p.opt, amp='fp16')),
    preserve=(TypeError, "object", lambda p: preserving(p, [object()])),
    preserve_one=(TypeError, "int", lambda p: preserving(p, 3)),
    start_lr=(ValueError, "-1", lambda p: find(p, start_lr=-1)),
    start_lr_zero=(ValueError, "0", lambda p: find(p, start_lr=0)),
    start_lr_nan=(ValueError, "nan", lambda p: find(p, start_lr=math.nan)),
    start_lr_word=(TypeError, "'small'", lambda p: find(p, start_lr='small')),
    end_lr=(ValueError, "1e-06", lambda p: find(p, end_lr=1e-6)),
    end_lr_inf=(ValueError, "inf", lambda p: find(p, end_lr=math.inf)),
    num_iter=(ValueError, "1", lambda p: find(p, num_iter=1)),
    num_iter_half=(ValueError, "2.5", lambda p: find(p, num_iter=2.5)),
    num_iter_flag=(ValueError, "True", lambda p: find(p, num_iter=True)),
    step_mode=(ValueError, "'cos'", lambda p: find(p, step_mode='cos')),
    step_mode_list=(ValueError, "['exp']", lambda p: find(p, step_mode=['exp'])),
    diverge_threshold=(ValueError, "1", lambda p: find(p, diverge_threshold=1)),
    diverge_threshold_nan=(ValueError, "nan", lambda p: find(p, diverge_threshold=math.nan)),
    diverge_threshold_word=(ValueError, "'4'", lambda p: find(p, diverge_threshold='4')),
    accumulation_steps=(ValueError, "0", lambda p: find(p, accumulation_steps=0)),
    seed=(ValueError, "-1", lambda p: find(p, seed=-1)),
    seed_word=(ValueError, "'x'", lambda p: find(p, seed='x')),
    seed_large=(ValueError, str(2**32), lambda p: find(p, seed=2**32)),
    no_loader=(TypeError, "NoneType", lambda p: find(p, None)),
    number_as_loader=(TypeError, "int", lambda p: find(p, 3)),
    word_as_loader=(TypeError, "str", lambda p: find(p, 'data')),
    dict_as_loader=(TypeError, "dict", lambda p: find(p, dict(train=[BATCH]))),
    tensor_as_loader=(TypeError, "Tensor", lambda p: find(p, BATCH[0])),
    dataset_as_loader=(TypeError, "Sized", lambda p: find(p, Sized())),
    empty_list=(ValueError, "list", lambda p: find(p, [])),
    empty_generator=(ValueError, "generator", lambda p: find(p, (b for b in ()))),
    empty_loader=(ValueError, "DataLoader", lambda p: find(p, TOO_LARGE)),
    valid_iterator=(TypeError, "list_iterator", lambda p: find(p, valid_dl=iter([BATCH]))),
    valid_empty=(ValueError, "list", lambda p: find(p, valid_dl=[])),
    batch_of_one=(TypeError, "tuple of 1", lambda p: find(p, [(BATCH[0],)])),
    bare_tensor=(TypeError, "Tensor", lambda p: find(p, [BATCH[0]])),
    number_as_batch=(TypeError, "int", lambda p: find(p, [3])),
    no_batch=(TypeError, "NoneType", lambda p: find(p, [None])),
    no_target=(TypeError, "x, z", lambda p: find(p, [dict(x=BATCH[0], z=BATCH[1])])),
    no_own_loss=(TypeError, "object", lambda p: find(p, [3], None, step=lambda m, b: object())),
    vector_loss=(ValueError, "(4,)", lambda p: find(p, step=partial(logits_loss, reduction='none'))),
    float_loss=(TypeError, "float", lambda p: find(p, step=lambda m, b: logits_loss(m, b).item())),
    detached_loss=(ValueError, "no gradient", lambda p: find(p, step=lambda m, b: logits_loss(m, b).detach())),
    complex_loss=(TypeError, "complex64", lambda p: find(p, step=lambda m, b: m(b[0]).mean()*1j)),
    whole_loss=(TypeError, "int64", lambda p: find(p, step=lambda m, b: torch.tensor(3))),
    loss_later=(TypeError, "NoneType", lambda p: find(p, step=losing(lambda i, loss: None if i == 5 else loss))),
)


@pytest.mark.parametrize('case', REFUSED)
def test_refused(pair, case):
    error, value, call = REFUSED[case]
    with pytest.raises(error) as e: call(pair)
    check_sentence(e.value, value)


WRONG = dict(beta=(1, -.1, math.nan, 'x'), skip_start=(-1, 2.5, math.nan, math.inf), skip_end=('x', None),
             diverge_threshold=(.5, math.nan, 'x'), rule=('magic', ['minimum'], None))


@pytest.mark.parametrize('setting, value', [(name, value) for name, values in WRONG.items() for value in values])
def test_settings_refused(setting, value):
    curve = LossCurve(sweep_lrs(num_iter=50), np.linspace(2, 1, 50))
    with pytest.raises((ValueError, TypeError)) as e: analyse(curve, **{setting: value})
    check_sentence(e.value, repr(value))
    assert setting in str(e.value)


@pytest.mark.parametrize('what', [3, None, 'curve', [], {}, [3], {'a': 3}])
def test_plot_refuses(what):
    with pytest.raises((TypeError, ValueError)) as e: plot_curve(what)
    check_sentence(e.value, type(what).__name__)


def test_curve_before_any_sweep(pair):
    finder = LRFinder(pair.model, pair.opt)
    attributes = [lambda name=name: getattr(finder, name) for name in ('curve', 'suggestion', 'diagnosis')]
    for ask in (*attributes, finder.plot, lambda: finder.save('x.json')):
        with pytest.raises(ValueError) as e: ask()
        check_sentence(e.value, 'range_test')
    assert 'no curve' in repr(finder) and 'no curve' in finder._repr_html_()


# Ctrl-C

CHILD = '''
import json, os, signal, sys, threading, time, torch
from lrfinder_nb.engine.finder import LRFinder
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(8, 2000), torch.nn.Linear(2000, 1000), torch.nn.Linear(1000, 3))
opt = torch.optim.SGD(model.parameters(), .1, momentum=.9)
old = [p.detach().clone() for p in model.parameters()]
finder = LRFinder(model, opt, torch.nn.functional.cross_entropy)
def same():
    kept = all(torch.equal(p, o) and p.grad is None for p, o in zip(model.parameters(), old))
    return kept and not opt.state and model.training
'''
ONE = CHILD + '''
class Slow:
    def __iter__(self):
        for i in range(2000):
            print(i, flush=True)
            time.sleep(.01)
            yield torch.ones(4, 8), torch.zeros(4).long()
finder.range_test(Slow(), num_iter=2000, end_lr=1e-3, progress=False)
print(json.dumps(dict(ended=finder.curve.ended, steps=len(finder.curve), same=same())))
'''
TWO = CHILD + '''
def twice(wait):
    for pause in (.01, wait):
        time.sleep(pause)
        os.kill(os.getpid(), signal.SIGINT)
class Kicking:
    def __iter__(self):
        for i in range(2000):
            if i == 3: thread.start()
            yield torch.ones(4, 8), torch.zeros(4).long()
seen = []
for k in range(20):
    thread = threading.Thread(target=twice, args=(k*5e-4,))
    try:
        try: finder.range_test(Kicking(), num_iter=2000, end_lr=1e-3, progress=False)
        finally: thread.join()
    except KeyboardInterrupt: pass
    seen.append(same() and (finder._curve is None or finder.curve.ended == 'stopped'))
print(json.dumps(seen))
'''
WORKERS = CHILD + '''
from torch.utils.data import DataLoader, TensorDataset
signal.signal(signal.SIGINT, signal.default_int_handler)
data = TensorDataset(torch.ones(64, 8), torch.zeros(64).long())
loader = DataLoader(data, batch_size=4, num_workers=1, persistent_workers=True)
def step(model, batch):
    if len(calls) == 4:
        os.killpg(os.getpgid(0), signal.SIGINT)
        time.sleep(.3)
    calls.append(1)
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
calls = []
if __name__ == '__main__':
    before = len(list(loader))
    LRFinder(model, opt, step=step).range_test(loader, num_iter=200, end_lr=1e-3, progress=False)
    print(json.dumps(dict(before=before, after=len(list(loader)), same=same())))
'''


def child(script, **kw):
    "A fresh Python that runs `script`, in a process group of its own"
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen([sys.executable, '-c', script], start_new_session=True, **pipes, **kw)


def finished(p, timeout=60):
    "What the child said last, as JSON"
    try: out, err = p.communicate(timeout=timeout)
    finally:
        if p.poll() is None: p.kill()
    assert p.returncode == 0, err
    return json.loads(out.strip().splitlines()[-1])


@posix
def test_ctrl_c():
    p = child(ONE)
    for line in p.stdout:
        if line.strip() == '7': break
    p.send_signal(signal.SIGINT)
    said = finished(p)
    assert said['ended'] == 'stopped' and said['same'] and 7 <= said['steps'] < 1000


@posix
def test_second_ctrl_c_right_after_the_first():
    assert finished(child(TWO)) == [True]*20


@posix
def test_ctrl_c_reaches_the_workers_of_the_training_too():
    assert finished(child(WORKERS)) == dict(before=16, after=16, same=True)


PARTS = tuple(f'{name}.py' for name in ('state', 'keep', 'passes', 'sweep', 'finder', 'step'))


class Interrupter:
    "Sends a real Ctrl-C at the n-th line of the library that runs, once armed; the same line counts once"
    def __init__(self, n): self.left, self.where, self.armed, self.seen = n, None, False, set()

    def __call__(self, frame, event, arg):
        name = frame.f_code.co_filename
        if not name.endswith(PARTS) or 'lrfinder_nb' not in name: return
        if event == 'line' and self.armed and self.where is None and (name, frame.f_lineno) not in self.seen:
            self.seen.add((name, frame.f_lineno))
            self.left -= 1
            if self.left < 0:
                self.where = f'{os.path.basename(name)}:{frame.f_lineno} {frame.f_code.co_name}'
                signal.raise_signal(signal.SIGINT)
        return self


TRACE = None        # global: what a step reaches otherwise is put back


def interrupted(n, press):
    "Where the n-th line was, and whether the model came back"
    global TRACE
    p, TRACE = Pair(), Interrupter(n)

    def step(i, loss):
        if i == 1 and press == 'second':
            TRACE.armed = True
            raise KeyboardInterrupt
        return loss
    finder = LRFinder(p.model, p.opt, step=losing(step))
    TRACE.armed = press != 'second'
    old = signal.signal(signal.SIGINT, (lambda *a: None) if press == 'unheeded' else signal.default_int_handler)
    sys.settrace(TRACE)
    try: finder.range_test([BATCH], num_iter=3, progress=False, check=False)
    except KeyboardInterrupt: pass
    finally: sys.settrace(None)
    heeded = signal.signal(signal.SIGINT, old) is not None
    return TRACE.where, p.unchanged() and heeded and (press != 'unheeded' or finder.curve.ended == 'completed')


@pytest.mark.parametrize('press', ['first', 'second', 'unheeded'])
def test_ctrl_c_at_every_line(press):
    lost, n = [], 0
    while (found := interrupted(n, press))[0]:
        if not found[1]: lost.append(found[0])
        n += 1
    assert n > 50 and lost == []


# Saved curves

CURVE = LossCurve([1e-3, 1e-2, 1e-1], [3., 2., math.nan], 'non-finite', ran_on=dict(model='net', seed=None, gpus=2))


def body(**kw):
    "The text of a saved curve with some entries changed; `...` takes one away"
    entries = dict(schema='lrfinder_nb.curve', version=1, ended='completed', step_mode='exp', diverge_threshold=4.,
                   ran_on={}, lrs=[1e-3, 1e-2], losses=[2., 1.])
    return json.dumps({k: v for k, v in {**entries, **kw}.items() if v is not ...}).encode()


HOSTILE = dict(
    empty=b'', truncated=body()[:-20], not_json=b'lr,loss\n1,2\n', a_list=b'[]', a_number=b'3', null=b'null',
    binary=bytes(range(256)), pickle=b'\x80\x04]\x94.', bom=b'\xef\xbb\xbf' + body(),
    deep=b'['*200_000 + b']'*200_000,
    deep_in_place=body(ran_on=...)[:-1] + b', "ran_on": {"a": ' + b'['*100_000 + b']'*100_000 + b'}}',
    deep_but_parsed=body(ran_on=...)[:-1] + b', "ran_on": {"a": ' + b'['*900 + b']'*900 + b'}}',
    nan_lr=body(lrs=[math.nan, 1.]), nan_threshold=body(diverge_threshold=math.nan),
    inf_lr=body(lrs=[1e-3, math.inf]), word_lr=body(lrs=['1e-3', 1.]), word_loss=body(losses=['2', 1.]),
    huge_lr=body().replace(b'0.01', b'1e999'), huge_whole=body().replace(b'0.01', b'9'*400),
    endless_whole=body().replace(b'0.01', b'9'*10_000),
    flag_lr=body(lrs=[True, 2.]), flag_loss=body(losses=[True, 2.]), flag_version=body(version=True),
    flag_threshold=body(diverge_threshold=True), null_loss=body(losses=[None, 1.]), list_loss=body(losses=[[1.], [2.]]),
    no_losses=body(losses=...), no_lrs=body(lrs=...), no_ended=body(ended=...), no_schema=body(schema=...),
    no_version=body(version=...), no_threshold=body(diverge_threshold=...), no_ran_on=body(ran_on=...),
    schema=body(schema='other'), schema_list=body(schema=['lrfinder_nb.curve']),
    version=body(version=2), version_word=body(version='1'),
    ended=body(ended='exploded'), ended_long=body(ended='x'*10**6), step_mode=body(step_mode='cos'),
    threshold=body(diverge_threshold=1), unequal=body(losses=[1.]), no_points=body(lrs=[], losses=[]),
    falling=body(lrs=[1., .1]), negative=body(lrs=[-1., 1.]), twice=body(lrs=[1., 1.]),
    lists_in_ran_on=body(ran_on=dict(a=[1])), dicts_in_ran_on=body(ran_on=dict(a={})),
    ran_on_list=body(ran_on=[]), lrs_dict=body(lrs={}), lrs_text=body(lrs='12'))


@pytest.mark.parametrize('case', HOSTILE)
def test_hostile_files(tmp_path, case):
    (tmp_path/'c.json').write_bytes(HOSTILE[case])
    with pytest.raises(ValueError) as e: load_curve(tmp_path/'c.json')
    check_sentence(str(e.value).replace(str(tmp_path), ''), 'c.json')


def test_lenient_numbers(tmp_path):
    (tmp_path/'c.json').write_bytes(body(losses=[math.inf, 1.]).replace(b'1.0]', b'1e999]'))
    assert load_curve(tmp_path/'c.json').losses.tolist() == [math.inf, math.inf]


def test_load_where_nothing_is(tmp_path):
    cases = {tmp_path: IsADirectoryError, tmp_path/'none.json': FileNotFoundError,
             tmp_path/'none'/'c.json': FileNotFoundError}
    for path, error in cases.items():
        with pytest.raises(error) as e: load_curve(path)
        assert str(path) in str(e.value) and '\n' not in str(e.value)


def test_a_failed_load_keeps_the_curve(pair, tmp_path):
    finder = find(pair)
    curve = finder.curve
    (tmp_path/'c.json').write_text('{')
    with pytest.raises(ValueError): finder.load(tmp_path/'c.json')
    assert finder.curve is curve


def test_save_where_nothing_can_be(tmp_path):
    (tmp_path/'file').write_text('x')
    (tmp_path/'dir').mkdir()
    for path in (tmp_path/'file'/'c.json', tmp_path/'dir', tmp_path/'none'/'c.json'):
        with pytest.raises(OSError) as e: save_curve(CURVE, path)
        assert str(path) in str(e.value) and '\n' not in str(e.value)
    assert sorted(p.name for p in tmp_path.rglob('*')) == ['dir', 'file'] and (tmp_path/'file').read_text() == 'x'


FULL = OSError(28, 'No space left on device')


@pytest.mark.parametrize('error', [FULL, KeyboardInterrupt(), MemoryError()], ids=lambda e: type(e).__name__)
def test_interrupted_save(tmp_path, monkeypatch, error):
    old = save_curve(LossCurve([1., 2.], [2., 1.]), tmp_path/'c.json').read_bytes()

    def fail(*a, **kw): raise error
    with monkeypatch.context() as m:
        m.setattr(os, 'replace', fail)
        with pytest.raises(type(error)): save_curve(CURVE, tmp_path/'c.json')
    assert (tmp_path/'c.json').read_bytes() == old and os.listdir(tmp_path) == ['c.json']


def test_full_disk(tmp_path):
    resource = pytest.importorskip('resource')
    old, (soft, hard) = save_curve(CURVE, tmp_path/'c.json').read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        with pytest.raises(OSError) as e: save_curve(an_hour_glass(5_000), tmp_path/'c.json')
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(tmp_path/'c.json') in str(e.value)
    assert (tmp_path/'c.json').read_bytes() == old and os.listdir(tmp_path) == ['c.json']


@posix
def test_saved_files_can_be_read_by_others(tmp_path):
    (tmp_path/'plain').write_text('')
    mode = lambda p: stat.S_IMODE(p.stat().st_mode)
    assert mode(save_curve(CURVE, tmp_path/'c.json')) == mode(tmp_path/'plain')


def test_long_names(tmp_path):
    assert load_curve(save_curve(CURVE, tmp_path/('c'*250 + '.json'))) == CURVE


# Any curve

ANY_FLOAT = st.floats()
ANY_FLOAT32 = st.floats(width=32)
KINDS = (ANY_FLOAT32, st.floats(-1e6, 1e6), st.floats(.01, 10.), st.sampled_from([0., 1., -1.]),
         st.sampled_from([3e38, -3e38, 1e-45, 0., math.inf, math.nan]))
HUGE_KINDS = (ANY_FLOAT, st.sampled_from([1.7e308, -1.7e308, 5e-324, 0.]))


@st.composite
def curves(draw, kinds=KINDS):
    "A curve of 1 to 200 losses of one kind, at times on top of a descent or with an odd end"
    n, kind = draw(st.integers(1, 200)), draw(st.sampled_from(kinds))
    losses = draw(st.lists(kind, min_size=n, max_size=n))
    if draw(st.booleans()):
        noise = .1*np.clip(np.nan_to_num(losses), -5, 5)
        losses = (np.linspace(3, draw(st.floats(-3, 3)), n) + noise).tolist()
    if draw(st.booleans()): losses[-1] = draw(kinds[0])
    start, decades = 10.**draw(st.integers(-10, 0)), draw(st.sampled_from([.01, .5, 3, 8, 12]))
    mode = draw(st.sampled_from(['exp', 'linear']))
    lrs = sweep_lrs(start, start*10**decades, max(n, 2), mode)[:n]
    ended, threshold = draw(st.sampled_from(ENDS)), draw(st.sampled_from([1.5, 4., math.inf]))
    return LossCurve(lrs, losses, ended, mode, threshold, dict(model='<b>net', n=n))


def an_hour_glass(n=100, scale=1.):
    "A curve that falls and rises"
    x = np.linspace(-7, 1, n)
    return LossCurve(10**x, scale*(2 - 1.5/(1 + np.exp(-3*(x + 4))) + 10**(2*x)))


def ragged():
    "A curve whose smoothed trend, smoothed again, has its steepest point decades away"
    y = np.zeros(64)
    y[[0, 15, 17, 19, 49, 52, 55, 57, 59, 62]], y[[14, 47, 51, 54, 61]] = 1, 2
    y[[2, 24, 27]], y[[3, 4, 28, 29]] = -5, -4
    return LossCurve(np.geomspace(1, 1e12, 64), y)


def check_answers(curve, **kw):
    "`curve` gives a rate in range with an ordered interval, or a sentence why not; and never a warning"
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        found = analyse(curve, **kw)
        assert repr(curve) + repr(found)
        symptoms = diagnose(found)
    for symptom in symptoms:
        assert symptom.name and symptom.sentence and not re.search(r'\bnan\b|\n', symptom.sentence)
    if found.problem:
        assert len(found.problem) > 20 and '\n' not in found.problem and symptoms
        with pytest.raises(NoSuggestion) as e: found.suggestion
        assert str(e.value) == found.problem
        return
    check_suggestion(found.suggestion, curve)


def check_suggestion(suggestion, curve):
    "The rate and its interval lie within what was swept, or a little below it"
    low, high = suggestion.interval
    assert isinstance(suggestion, Suggestion) and curve.lrs[0]/5 <= suggestion.lr <= curve.lrs[-1]
    assert curve.lrs[0]/5*(1 - 1e-6) <= low <= high <= curve.lrs[-1]*(1 + 1e-6)
    assert 0 <= suggestion.index < len(curve) and suggestion.why and not math.isnan(float(suggestion))


ANY = settings(max_examples=150, deadline=None, database=None, derandomize=True,
               suppress_health_check=list(HealthCheck))
BETAS, THRESHOLDS = (None, 0., .5, .98, .9999), (None, 1.0001, 4., math.inf)


@ANY
@given(curves(), st.sampled_from(BETAS), st.integers(0, 20), st.sampled_from(THRESHOLDS),
       st.sampled_from(sorted(RULES)))
@example(an_hour_glass(), None, 0, None, 'minimum')
@example(ragged(), None, 0, None, 'steepest')
@example(an_hour_glass(scale=1e-300), None, 0, None, 'minimum')
@example(an_hour_glass(scale=1e35), None, 0, None, 'minimum')
def test_any_curve_gives_a_rate_or_a_reason(curve, beta, skip, diverge_threshold, rule):
    kw = dict(beta=beta, skip_start=skip, skip_end=skip//2, rule=rule)
    check_answers(curve, diverge_threshold=diverge_threshold, **kw)


@ANY
@given(curves(HUGE_KINDS), st.sampled_from(sorted(RULES)))
@example(an_hour_glass(scale=1e306), 'minimum')
def test_losses_near_the_largest_float(curve, rule): check_answers(curve, skip_start=0, skip_end=0, rule=rule)


@ANY
@given(curve=curves() | curves(HUGE_KINDS))
@example(curve=CURVE)
def test_any_curve_survives_the_file(tmp_path_factory, curve):
    path = tmp_path_factory.getbasetemp()/'c.json'
    assert load_curve(save_curve(curve, path)) == curve


@pytest.mark.parametrize('value', [math.inf, -math.inf, math.nan, 'inf', 1e308, True, None, '\ud800', 2**70])
def test_a_note_is_refused_or_survives_the_file(tmp_path, value):
    noted = lambda: LossCurve([1., 2.], [2., 1.], ran_on=dict(a=value))
    try: curve = noted()
    except (TypeError, ValueError) as e: return check_sentence(e, repr(value))
    assert load_curve(save_curve(curve, tmp_path/'c.json')) == curve == noted()


def test_every_nan_is_the_same(tmp_path):
    a, b = (LossCurve([1., 2.], [2., x]) for x in (math.nan, -math.nan))
    assert a == b and hash(a) == hash(b) and load_curve(save_curve(b, tmp_path/'c.json')) == a


@settings(ANY, max_examples=50, phases=(Phase.explicit, Phase.generate))
@given(curve=curves() | curves(HUGE_KINDS), several=st.booleans())
@example(LossCurve([1., 2.], [5e-324, 5e-324]), False)
@example(LossCurve([1., 2.], [1e17, 1e17 + 16]), False)
def test_any_curve_is_drawn(curve, several):
    plt.close('all')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        ax = plot_curve([curve, an_hour_glass()] if several else curve)
        ax.figure.canvas.draw()
    assert ax.get_xlabel() == 'learning rate' and np.isfinite(ax.get_ylim()).all()


@settings(ANY, max_examples=50)
@given(curve=curves() | curves(HUGE_KINDS))
def test_any_curve_is_shown(curve):
    p = Pair()
    finder = LRFinder(p.model, p.opt)
    finder._curve = curve
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        text, html = repr(finder), finder._repr_html_()
    assert '\n' not in text and '<b>' not in html and html.count('<p') == html.count('</p>') >= 2


@pytest.mark.parametrize('ends', [(1e-300, 1e300), (5e-320, 1e-300), (1., 1 + 1e-12), (1e300, 1.7e308)])
def test_extreme_rates(ends):
    for n in (2, 40):
        curve = LossCurve(sweep_lrs(*ends, num_iter=n), np.linspace(2, 1, n))
        check_answers(curve, skip_start=0, skip_end=0)


# Imports

HEAVY = 'torch', 'torchvision', 'matplotlib', 'ipywidgets', 'IPython', 'fastprogress', 'yaml'
PURE = 'core.suggest', 'core.diagnose', 'core.schedule'


def loaded(names, *imports):
    "Which of the modules `names` a fresh Python has loaded after some imports"
    lines = ['import json, sys', *(f'import {name}' for name in imports),
             f'print(json.dumps([name for name in {names} if name in sys.modules]))']
    return finished(child('\n'.join(lines)))


@pytest.mark.parametrize('modules', [('core.curve',), PURE], ids=['curve', 'reading'])
def test_pure_modules_load_nothing_heavy(modules):
    assert loaded(HEAVY, *(f'lrfinder_nb.{name}' for name in modules)) == []


def test_the_package_loads_nothing():
    assert loaded(('torch', 'numpy', 'matplotlib', 'ipywidgets'), 'lrfinder_nb') == []


def test_the_finder_loads_no_pictures():
    pictures = 'matplotlib', 'ipywidgets', 'IPython', 'torchvision'
    assert loaded(pictures, 'lrfinder_nb.engine.finder') == []
