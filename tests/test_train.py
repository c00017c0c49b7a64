"""The training loop as a person and as an enemy would use it"""
import os
import pickle
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from lrfinder_nb import (LossCurve, LRFinder, NoSuggestion, SmallCNN, consensus, digits, fit_one_cycle, mixup, set_seed,
                         soft_cross_entropy)
from lrfinder_nb.train.device import check_device


@pytest.mark.parametrize('seed', range(5))
def test_digits(seed):
    "Five epochs at the suggested rate name at least 98 % of the unseen digits"
    set_seed(seed)
    train_dl, valid_dl = digits(seed=seed)
    model = SmallCNN()
    finder = LRFinder(model, torch.optim.AdamW(model.parameters()), nn.CrossEntropyLoss())
    finder.range_test(train_dl, progress=False)
    history = finder.fit_one_cycle(train_dl, valid_dl, epochs=5, metrics='accuracy', progress=False)
    assert history.epochs[-1]['accuracy'] >= .98


def small(dropout=.1):
    "A small model with dropout on a small task"
    set_seed(0)
    x = torch.randn(64, 4)
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 2))
    dl = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long()), 8, shuffle=True)
    return model, torch.optim.AdamW(model.parameters()), nn.CrossEntropyLoss(), dl


class Evil:
    def __reduce__(self): return os.system, ('touch owned',)


def test_hostile_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'bad.pt').write_bytes(pickle.dumps(Evil()))
    torch.save(dict(kind='lrfinder_nb.checkpoint', evil=Evil()), tmp_path/'worse.pt')
    model, opt, loss_fn, dl = small()
    for name in ('bad.pt', 'worse.pt'):
        before = (tmp_path/name).read_bytes()
        with pytest.raises(ValueError, match='is not a checkpoint of fit_one_cycle'):
            fit_one_cycle(model, opt, loss_fn, dl, max_lr=.1, checkpoint=name, progress=False)
        assert (tmp_path/name).read_bytes() == before
    assert not (tmp_path/'owned').exists()


def test_refused_before_anything_is_changed():
    "Neither device nor memory format of the model, nor anything of the optimizer"
    model, (train_dl, _) = SmallCNN(channels=(4, 8)), digits()
    opt = torch.optim.SGD(model.parameters(), lr=.1)
    wrong = [dict(max_lr=-1), dict(amp='fp16'), dict(pct_start=2), dict(clip=0), dict(valid_dl=[]), dict(metrics=3),
             dict(checkpoint='no folder/run.pt'), dict(checkpoint=''), dict(keep='best'), dict(stop_at=0),
             dict(callbacks=[3]), dict(log_to='paper'), dict(metrics='accuracy')]
    usual = dict(max_lr=.1, device='cpu', channels_last=True, progress=False)
    for kw in wrong:
        with pytest.raises((ValueError, TypeError, OSError)):
            fit_one_cycle(model, opt, nn.CrossEntropyLoss(), train_dl, **usual | kw)
        assert all(p.is_contiguous() for p in model.parameters())
        assert opt.param_groups[0]['lr'] == .1 and not hasattr(opt.step, '_wrapped_by_lr_sched')


def test_devices_are_counted(monkeypatch):
    "A machine with one CUDA device has no second one"
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    assert str(check_device('cuda:0')) == 'cuda:0'
    with pytest.raises(ValueError, match="'cuda:1' is not there on this machine; leave device out, or pass 'cuda'"):
        check_device('cuda:1')


def test_one_step():
    "One batch and one epoch are a training, too"
    model, opt, loss_fn, dl = small()
    h = fit_one_cycle(model, opt, loss_fn, [next(iter(dl))], max_lr=.1, epochs=1, progress=False)
    assert len(h.losses) == len(h) == 1 and h.ended == 'completed'


def test_generators_of_the_data_come_back(tmp_path):
    "An augmentation with a NumPy generator of its own continues where it was"
    class Noisy(torch.utils.data.Dataset):
        def __init__(self):
            kinds = np.random.MT19937, np.random.Philox, np.random.SFC64
            self.rngs = [np.random.default_rng(3), np.random.RandomState(4), random.Random(5)]
            self.rngs += [np.random.Generator(kind(6)) for kind in kinds]
        def __len__(self): return 16
        def __getitem__(self, i):
            drawn = [g.rand() if isinstance(g, np.random.RandomState) else g.random() for g in self.rngs]
            return torch.full((4,), sum(drawn)), i % 2

    def fit(epochs, path, times):
        model, opt, loss_fn, _ = small()
        dl = torch.utils.data.DataLoader(Noisy(), 8)
        for _ in range(times - 1): next(iter(dl))       # whatever has happened since
        kw = dict(max_lr=.1, epochs=3, checkpoint=path, progress=False)
        return fit_one_cycle(model, opt, loss_fn, dl, Interrupting(epochs), **kw)

    class Interrupting(list):
        "Validation batches that press Ctrl-C in one epoch"
        def __init__(self, when):
            super().__init__([(torch.zeros(2, 4), torch.tensor([0, 1]))])
            self.when, self.n = when, 0

        def __iter__(self):
            self.n += 1
            if self.n == self.when: raise KeyboardInterrupt
            return super().__iter__()
    whole = fit(0, None, 1)
    assert fit(2, tmp_path/'run.pt', 1).ended == 'stopped'
    assert fit(0, tmp_path/'run.pt', 2).losses == whole.losses


@pytest.mark.parametrize('kw', [{}, dict(accumulation_steps=3), dict(clip=.5), dict(amp='bf16'), dict(keep='best'),
                                dict(cycle_momentum=False, anneal='linear')])
def test_continued_is_uninterrupted(tmp_path, kw):
    "A run that is killed after each epoch and continued in a new process state ends with the same bits"
    kw = dict(max_lr=.05, epochs=3, metrics='accuracy', progress=False) | kw
    whole, opt, loss_fn, dl = small()
    full = fit_one_cycle(whole, opt, loss_fn, dl, dl, **kw)

    class Killed(Exception): pass

    class Killing(torch.utils.data.DataLoader):
        "A loader that fails after some passes"
        def __iter__(self):
            self.passes = getattr(self, 'passes', 0) + 1
            if self.passes > self.when: raise Killed
            return super().__iter__()

    path = tmp_path/'run.pt'
    for n in (1, 1, 2, 9):      # the checkpoint knows the passes of the loader: the second one fails at once
        model, opt, loss_fn, dl = small()
        if path.exists(): torch.manual_seed(12345)      # whatever has happened since
        loader = Killing(dl.dataset, 8, shuffle=True)
        loader.when = n
        try: rest = fit_one_cycle(model, opt, loss_fn, loader, dl, checkpoint=path, **kw)
        except Killed: pass
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), whole.state_dict().values(), strict=True))
    assert (rest.losses, rest.lrs, rest.kept) == (full.losses, full.lrs, full.kept)
    assert [r['accuracy'] for r in rest.epochs] == [r['accuracy'] for r in full.epochs]


def test_pressed(tmp_path):
    "Ctrl-C in a script: the call returns, with model, history and checkpoint"
    (tmp_path/'script.py').write_text("""
import sys, time, torch
from torch import nn
from lrfinder_nb import fit_one_cycle
class Slow:
    def __len__(self): return 10
    def __iter__(self):
        for _ in range(10): time.sleep(.02); print('step', flush=True); yield torch.ones(4, 2), torch.ones(4, 1)
model = nn.Linear(2, 1)
opt = torch.optim.SGD(model.parameters(), lr=.1)
h = fit_one_cycle(model, opt, nn.functional.mse_loss, Slow(), max_lr=.1, epochs=100, checkpoint='run.pt')
print('then', h.ended, len(h), len(h.losses) == len(h.lrs), flush=True)
""")
    p = subprocess.Popen([sys.executable, 'script.py'], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    for _ in range(15):
        while 'step' not in p.stdout.readline(): pass
    p.send_signal(signal.SIGINT)
    out, _ = p.communicate(timeout=60)
    assert p.returncode == 0 and 'then stopped' in out and 'stopped after' in out and (tmp_path/'run.pt').exists()


def test_a_second_training_follows():
    "The first leaves no scheduler behind, and a sweep in between leaves nothing at all"
    model, opt, loss_fn, dl = small()
    for _ in range(2):
        fit_one_cycle(model, opt, loss_fn, dl, max_lr=.01, epochs=1, progress=False)
        LRFinder(model, opt, loss_fn).range_test(dl, num_iter=20, progress=False)
    group = opt.param_groups[0]
    assert group['lr'] == 1e-3 and group['betas'] == (.9, .999) and 'max_lr' not in group


def test_dict_batches_and_a_model_with_its_own_loss():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Linear(4, 1)

        def forward(self, x, labels):
            out = self.f(x)
            return dict(loss=((out - labels)**2).mean(), logits=out)

    torch.manual_seed(0)
    x = torch.randn(32, 4)
    batches = [dict(x=a, labels=a[:, :1]) for a in x.split(8)]
    model = Own()
    off = dict(off=lambda out, y: (out['logits'] - y).abs().mean())
    opt = torch.optim.Adam(model.parameters())
    h = fit_one_cycle(model, opt, None, batches, batches, max_lr=.1, epochs=20, metrics=off, progress=False)
    assert h.epochs[-1]['valid_loss'] < .05 < h.epochs[0]['valid_loss'] and h.epochs[-1]['off'] < .3


@pytest.mark.parametrize('kw', [dict(channels_last=True), dict(amp=True)])
def test_options_train(kw):
    set_seed(0)
    train_dl, valid_dl = digits()
    model = SmallCNN(channels=(16, 32))
    kw = dict(max_lr=2e-2, epochs=2, metrics='accuracy', progress=False) | kw
    opt = torch.optim.AdamW(model.parameters())
    h = fit_one_cycle(model, opt, nn.CrossEntropyLoss(), train_dl, valid_dl, **kw)
    assert h.epochs[-1]['accuracy'] > .8


def test_compiled(monkeypatch):
    "The compiled model is trained, and the parameters are those of the model"
    seen = []
    monkeypatch.setattr(torch, 'compile', lambda m: seen.append(m) or torch.nn.Sequential(m))
    model, opt, loss_fn, dl = small()
    start = [p.detach().clone() for p in model.parameters()]
    fit_one_cycle(model, opt, loss_fn, dl, max_lr=.01, epochs=1, compile=True, progress=False)
    assert seen == [model] and not all(torch.equal(a, b) for a, b in zip(start, model.parameters()))


@pytest.mark.filterwarnings('ignore:.*torch.jit')
def test_a_scripted_model_is_validated():
    "It takes no hooks, and only metrics need them"
    model, data = torch.jit.script(nn.Linear(4, 1)), [(torch.randn(8, 4), torch.randn(8, 1))]*4
    optimizer = torch.optim.SGD(model.parameters())
    history = fit_one_cycle(model, optimizer, nn.functional.mse_loss, data, data, max_lr=1e-2, epochs=1, progress=False)
    assert history.ended == 'completed' and history.epochs[0]['valid_loss'] > 0


def test_mixed_up():
    "MixUp in training, plain labels in validation"
    set_seed(0)
    train_dl, valid_dl = digits()
    model = SmallCNN(channels=(16, 32))
    kw = dict(max_lr=2e-2, epochs=3, metrics='accuracy', progress=False)
    opt = torch.optim.AdamW(model.parameters())
    h = fit_one_cycle(model, opt, soft_cross_entropy, mixup(train_dl), valid_dl, **kw)
    assert h.epochs[-1]['accuracy'] > .85


def test_no_rate_is_said():
    "What says why there is no rate goes through to the caller"
    model, opt, loss_fn, dl = small()
    none = consensus([LossCurve([1e-3, 1e-2], [1., 1.])])
    with pytest.raises(NoSuggestion, match='none of the 1 runs suggests a rate'):
        fit_one_cycle(model, opt, loss_fn, dl, max_lr=none, progress=False)


class Claims:
    "A loader with fewer or more batches than it says"
    def __init__(self, loader, length): self.loader, self.length = loader, length

    def __len__(self): return self.length

    def __iter__(self): return iter(self.loader)


@pytest.mark.parametrize('claimed, warned', [(8, False), (5, False), (11, True)])
def test_a_loader_with_fewer_batches_than_it_says_is_named(claimed, warned, recwarn):
    model, opt, loss_fn, dl = small()
    fit_one_cycle(model, opt, loss_fn, Claims(dl, claimed), max_lr=.1, epochs=3, progress=False)
    said = [str(w.message) for w in recwarn if 'fewer batches than it says' in str(w.message)]
    assert bool(said) == warned
    assert not said or 'an epoch made 8 of 11 steps' in said[0]
