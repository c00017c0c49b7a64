"""A training that is stopped and continued is one that never stopped, or a sentence says why it cannot be"""
import copy
import random
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

from lrfinder_nb import EarlyStopping, fit_one_cycle, set_seed

KW = dict(max_lr=.05, epochs=4, progress=False)


class Counting(nn.Module):
    "A model with what no state_dict holds: counters, lists, generators, arrays, a buffer that is not persistent"
    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(4, 8), nn.Linear(8, 2)
        self.calls, self.seen, self.setting = 0, [], 1.
        self.generator, self.rng = torch.Generator().manual_seed(3), np.random.default_rng(4)
        self.totals = np.zeros(2)
        self.register_buffer('scale', torch.ones(()), persistent=False)

    def forward(self, x):
        h = self.inner(x).tanh()
        if self.training:
            self.calls += 1
            self.seen = [*self.seen[-3:], float(x.mean())]
            self.totals[self.calls % 2] += self.rng.random()
            self.scale = self.scale*.99 + .01*h.detach().abs().mean()
            h = h + .1*torch.randn(h.shape, generator=self.generator)
        return self.head(h*self.scale)*self.setting + self.calls/1e3 + sum(self.seen)/10 + self.totals[0]/100


class Proxies(nn.Module):
    "A loss with parameters of its own, and a counter"
    def __init__(self):
        super().__init__()
        self.weight, self.calls = nn.Parameter(torch.ones(2)), 0

    def forward(self, output, target):
        self.calls += 1
        return nn.functional.cross_entropy(output*self.weight, target) + 1e-3*self.calls


class InPlace:
    "A sampler that shuffles its own list, and counts with a NumPy integer"
    def __init__(self, n): self.order, self.passes = list(range(n)), np.int64(0)
    def __len__(self): return len(self.order)
    def __iter__(self):
        self.passes += 1
        random.shuffle(self.order)
        yield from self.order[int(self.passes) % 3:] + self.order[:int(self.passes) % 3]


class Pressed(list):
    "Validation batches during whose second reading somebody presses Ctrl-C, where somebody does"
    def __init__(self, batches, when):
        super().__init__(batches)
        self.when, self.times = when, 0

    def __iter__(self):
        self.times += 1
        if self.times == self.when: raise KeyboardInterrupt
        return super().__iter__()


def data(n=48):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, 4, generator=g)
    return TensorDataset(x, (x[:, 0] > 0).long())


def sampled():
    dataset = data()
    return DataLoader(dataset, 8, sampler=InPlace(len(dataset)))


def plain_net(): return nn.Sequential(nn.Linear(4, 8), nn.Dropout(.3), nn.Linear(8, 2))


LOADERS = dict(
    shuffled=lambda: DataLoader(data(), 8, shuffle=True),
    persistent=lambda: DataLoader(data(), 8, shuffle=True, num_workers=1, persistent_workers=True),
    persistent_seeded=lambda: DataLoader(data(), 8, shuffle=True, num_workers=1, persistent_workers=True,
                                         generator=torch.Generator().manual_seed(5)),
    in_place=sampled,
)
CASES = [(net, loss, loader) for net, loss, loader in [
    (plain_net, nn.CrossEntropyLoss, 'persistent'), (plain_net, nn.CrossEntropyLoss, 'persistent_seeded'),
    (plain_net, nn.CrossEntropyLoss, 'in_place'), (Counting, nn.CrossEntropyLoss, 'shuffled'),
    (plain_net, Proxies, 'shuffled'), (Counting, Proxies, 'in_place')]]


def held_by(loss_fn):
    "A step that holds the loss, and a generator of noise, in its closure"
    rng = torch.Generator().manual_seed(6)

    def step(model, batch):
        x, y = batch
        return loss_fn(model(x + .1*torch.randn(x.shape, generator=rng)), y)
    return step


def trained(net, loss, loader, path=None, when=0, seed=0, in_a_step=False):
    "(history, model, loss) of a training, interrupted in the validation of epoch `when`"
    set_seed(seed)
    model, loss_fn, dl = net(), loss(), LOADERS[loader]()
    parameters = [*model.parameters(), *loss_fn.parameters()]
    opt = torch.optim.AdamW(parameters)
    if seed: random.random(), np.random.rand(), torch.rand(3)       # whatever has happened since
    how = dict(checkpoint=path, step=held_by(loss_fn) if in_a_step else None)
    valid_dl = Pressed(DataLoader(data(16), 8), when)
    h = fit_one_cycle(model, opt, None if in_a_step else loss_fn, dl, valid_dl, **how, **KW)
    return h, model, loss_fn


def test_a_loss_that_a_step_holds_is_continued(tmp_path):
    kw = dict(net=plain_net, loss=Proxies, loader='shuffled', in_a_step=True)
    full, whole, whole_loss = trained(**kw)
    assert trained(path=tmp_path/'run.pt', when=2, **kw)[0].ended == 'stopped'
    rest, model, loss_fn = trained(path=tmp_path/'run.pt', seed=9, **kw)
    assert rest.losses == full.losses and loss_fn.calls == whole_loss.calls
    assert all(map(torch.equal, [*whole.parameters(), whole_loss.weight], [*model.parameters(), loss_fn.weight]))


def test_another_module_in_the_step_is_refused(tmp_path):
    kw = dict(net=plain_net, loss=Proxies, loader='shuffled', path=tmp_path/'run.pt')
    assert trained(when=2, in_a_step=True, **kw)[0].ended == 'stopped'
    model, step = plain_net(), held_by(nn.functional.cross_entropy)
    held = nn.Parameter(torch.ones(2))      # in the place of the weights of the loss
    old = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="'step.loss_fn' is only there"):
        fit_one_cycle(model, torch.optim.AdamW([*model.parameters(), held]), None, LOADERS['shuffled'](),
                      DataLoader(data(16), 8), step=step, checkpoint=kw['path'], **KW)
    assert all(torch.equal(v, old[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize('net, loss, loader', CASES, ids=lambda x: getattr(x, '__name__', x))
def test_continued_bit_for_bit(tmp_path, net, loss, loader):
    full, whole, whole_loss = trained(net, loss, loader)
    path = tmp_path/'run.pt'
    assert trained(net, loss, loader, path, when=3)[0].ended == 'stopped'
    rest, again, again_loss = trained(net, loss, loader, path, seed=7)
    assert rest.losses == full.losses and rest.lrs == full.lrs
    assert [r['valid_loss'] for r in rest.epochs] == [r['valid_loss'] for r in full.epochs]
    for a, b in ((whole, again), (whole_loss, again_loss)):
        assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    if net is Counting:
        assert (whole.calls, whole.seen, whole.totals.tolist()) == (again.calls, again.seen, again.totals.tolist())
        assert torch.equal(whole.scale, again.scale) and isinstance(again.totals, np.ndarray)


def run(path, net=plain_net, loss_fn=None, dl=None, valid_dl=None, opt=torch.optim.AdamW, **kw):
    "One training, or one that goes on"
    set_seed(0)
    model = net()
    loss_fn, dl = loss_fn or nn.CrossEntropyLoss(), DataLoader(data(), 8, shuffle=True) if dl is None else dl
    h = fit_one_cycle(model, opt(model.parameters(), lr=.01), loss_fn, dl, valid_dl, checkpoint=path, **KW | kw)
    return h, model


@pytest.mark.parametrize('said, kw', [
    ('loss differs', dict(loss_fn=nn.CrossEntropyLoss(label_smoothing=.1))),
    ('loss differs', dict(loss_fn=nn.functional.cross_entropy)),
    ('amp differs', dict(amp='bf16')),
    ('sampler differs', dict(dl=DataLoader(data(), 8))),
    ('samples differs|batches differs', dict(dl=DataLoader(data(56), 8, shuffle=True))),
    ('samples differs', dict(dl=DataLoader(data(47), 8, shuffle=True))),
    ('metrics differs', dict(metrics=dict(other=lambda o, y: o.sum()))),
    ('optimizer differs', dict(opt=torch.optim.SGD)),
    ('epochs differs', dict(epochs=5)),
    ('clip differs', dict(clip=1.)),
    ('max_lrs differs', dict(max_lr=.06)),
])
def test_what_changed_is_named(tmp_path, said, kw):
    path, valid = tmp_path/'run.pt', DataLoader(data(16), 8)
    run(path, valid_dl=valid, metrics='accuracy', stop_at=.5)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f'is of another training: its ({said})'):
        run(path, **dict(valid_dl=valid, metrics='accuracy') | kw)
    assert path.read_bytes() == before


def test_a_resume_without_validation_shows_its_table(tmp_path):
    path = tmp_path/'run.pt'
    run(path, valid_dl=DataLoader(data(16), 8), metrics='accuracy', stop_at=.5)
    h, _ = run(path)
    assert len(h) == 4 and 'valid_loss' in h.epochs[0] and 'valid_loss' not in h.epochs[3]
    assert 'valid_loss' in h._repr_html_() and h.best['epoch'] <= 2 and '4 epochs' in repr(h)


def test_a_share_of_the_schedule_can_be_continued(tmp_path):
    "A training that ended after half of its steps goes on to be the whole one"
    full, whole = run(None)
    half, _ = run(tmp_path/'run.pt', stop_at=.5)
    rest, again = run(tmp_path/'run.pt')
    assert (len(half), half.ended, rest.ended) == (2, 'early', 'completed') and rest.losses == full.losses
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters()))


def test_early_stopping_remembers(tmp_path):
    "The patience goes on where it was"
    kw = dict(valid_dl=DataLoader(data(16), 8))
    path = tmp_path/'run.pt'
    run(path, stop_at=.5, callbacks=[EarlyStopping(patience=3, min_delta=9.)], **kw)
    h, _ = run(path, callbacks=[EarlyStopping(patience=3, min_delta=9.)], **kw)
    assert len(h) == 4 and h.why == '' and h.ended == 'completed'
    run(tmp_path/'b.pt', stop_at=.5, callbacks=[EarlyStopping(patience=2, min_delta=9.)], **kw)
    h, _ = run(tmp_path/'b.pt', callbacks=[EarlyStopping(patience=2, min_delta=9.)], **kw)
    assert len(h) == 3 and 'has not improved for 2 epochs' in h.why


class OfClass(nn.Module):
    "A model that counts in its class, in a small object, and in the closure of a hook"
    calls = 0
    def __init__(self):
        super().__init__()
        self.net, self.box, seen = plain_net(), types.SimpleNamespace(n=0), [0]

        def hook(module, inputs, out):
            seen[0] += module.training
            return out*(1 + seen[0]/100)
        self.net[0].register_forward_hook(hook)

    def forward(self, x):
        if self.training:
            OfClass.calls += 1
            self.box.n += 1
        return self.net(x) + OfClass.calls/100 + self.box.n/50


class Reading(Dataset):
    "Samples that depend on how many were read, and on a generator of the module"
    rng = np.random.default_rng(0)
    def __init__(self): self.data, self.reads, self.kept = data(24), 0, {}
    def __len__(self): return 24

    def __getitem__(self, i):
        self.reads += 1
        self.kept[i] = self.reads
        return self.data[i][0] + self.reads/1000 + float(self.rng.random()), self.data[i][1]


class Scaled:
    "A loss or a step that counts its calls"
    def __init__(self): self.n = 0

    def __call__(self, out, y):
        self.n += 1
        if isinstance(out, nn.Module): out, y = out(y[0]), y[1]
        return nn.functional.cross_entropy(out, y)*(1 + self.n/100)


class Decaying(torch.optim.SGD):
    "An optimizer whose decay grows with a count of its own"
    def __init__(self, weights):
        super().__init__(weights, .05)
        self.k = 0

    def step(self, closure=None):
        self.k += 1
        for group in self.param_groups: group['weight_decay'] = self.k*1e-3
        return super().step(closure)


def counting_step():
    n = [0]

    def step(model, batch):
        n[0] += 1
        step.calls += 1
        return nn.functional.cross_entropy(model(batch[0]), batch[1])*(1 + n[0]/100 + step.calls/50)
    step.calls = 0
    return step


class Noting:
    "A `collate_fn` that counts"
    def __init__(self): self.n = 0

    def __call__(self, batch):
        self.n += 1
        x, y = default_collate(batch)
        return x + self.n/100, y


def of_the_users_own(case):
    "Keyword arguments of a training in which something of the user's own counts"
    OfClass.calls, Reading.rng = 0, np.random.default_rng(0)
    return dict(model=lambda: dict(model=OfClass()), step=lambda: dict(step=counting_step()),
                loss=lambda: dict(loss_fn=Scaled()), step_object=lambda: dict(step=Scaled()),
                optimizer=lambda: dict(opt=Decaying), dataset=lambda: dict(dl=DataLoader(Reading(), 8, shuffle=True)),
                collate=lambda: dict(dl=DataLoader(data(24), 8, shuffle=True, collate_fn=Noting())))[case]()


def trained_with(case, path=None, when=0, seed=0):
    "(history, weights) of a training in which something counts, interrupted in the validation of epoch `when`"
    set_seed(seed)
    kw = of_the_users_own(case)
    if seed: random.random(), np.random.rand(), torch.rand(3)
    model, step = kw.get('model') or plain_net(), kw.get('step')
    dl = kw.get('dl') or DataLoader(data(24), 8, shuffle=True)
    loss_fn, opt = kw.get('loss_fn', nn.CrossEntropyLoss()), kw.get('opt', torch.optim.AdamW)(model.parameters())
    valid_dl = Pressed(DataLoader(data(16), 8), when)
    h = fit_one_cycle(model, opt, None if step else loss_fn, dl, valid_dl, step=step, checkpoint=path, **KW)
    return h, [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize('case', ['model', 'step', 'loss', 'step_object', 'optimizer', 'dataset', 'collate'])
def test_what_counts_anywhere_goes_on_counting(tmp_path, case):
    full, weights = trained_with(case)
    assert trained_with(case, tmp_path/'run.pt', when=3)[0].ended == 'stopped'
    rest, again = trained_with(case, tmp_path/'run.pt', seed=7)
    assert rest.losses == full.losses and all(map(torch.equal, weights, again))


def test_a_cache_is_not_written_into_a_checkpoint(tmp_path):
    class Caching(Reading):
        def __getitem__(self, i):
            self.cache[i] += 1
            return super().__getitem__(i)
    path, dataset = tmp_path/'run.pt', Caching()
    dataset.cache = torch.zeros(10**6)
    run(path, dl=DataLoader(dataset, 8))
    held = torch.load(path, weights_only=True)['parts']['objects']
    assert dataset.cache.any() and path.stat().st_size < 200_000
    assert [key for key in held if 'dataset' in key] == [f'train_dl.dataset:Caching:{x}' for x in ('kept', 'reads')]


def places(x, path=()):
    "Every place inside the body of a checkpoint"
    yield path
    items = x.items() if isinstance(x, dict) else enumerate(x) if isinstance(x, (list, tuple)) else ()
    for k, v in list(items)[:40]: yield from places(v, (*path, k))


def damaged(body, path, rng):
    "The body with one place changed"
    if not path: return rng.choice([[], {}, 3, 'text', None])
    body = copy.deepcopy(body)
    holder = body
    for k in path[:-1]: holder = holder[k]
    old, new = holder[path[-1]], rng.choice([None, 3.5, 'text', [], {}, torch.zeros(3), -1, [1, 2], b'x'])
    if isinstance(old, torch.Tensor) and rng.random() < .5:
        new = rng.choice([old[..., :0] if old.ndim else old + 1, old.double() + 1])
    if repr(new) == repr(old): raise LookupError        # no damage
    if isinstance(holder, dict) and rng.random() < .3: del holder[path[-1]]
    elif isinstance(holder, tuple): raise LookupError
    else: holder[path[-1]] = new
    return body


def test_500_edits_are_refused_before_anything_changes(tmp_path):
    path, bad, rng = tmp_path/'run.pt', tmp_path/'bad.pt', random.Random(0)
    run(path, net=Counting, stop_at=.5)
    body = torch.load(path, weights_only=True)
    there = list(places(body))
    set_seed(1)
    model, loss_fn, dl = Counting(), nn.CrossEntropyLoss(), DataLoader(data(), 8, shuffle=True)
    opt = torch.optim.AdamW(model.parameters(), lr=.01)
    before = copy.deepcopy(model.state_dict()), torch.get_rng_state(), random.getstate()
    done = 0
    while done < 500:
        try: wrong = damaged(body, rng.choice(there), rng)
        except LookupError: continue
        torch.save(wrong, bad)
        with pytest.raises(ValueError, match='is not a checkpoint of fit_one_cycle|is damaged'):
            fit_one_cycle(model, opt, loss_fn, dl, checkpoint=bad, **KW)
        done += 1
    assert all(torch.equal(a, b) for a, b in zip(before[0].values(), model.state_dict().values(), strict=True))
    assert torch.equal(torch.get_rng_state(), before[1]) and random.getstate() == before[2]
    assert not opt.state and opt.param_groups[0]['lr'] == .01 and model.calls == 0


def test_the_file_keeps_its_mode_and_its_link(tmp_path):
    real, link = tmp_path/'real.pt', tmp_path/'run.pt'
    run(real, stop_at=.5)
    real.chmod(0o600)
    link.symlink_to(real)
    run(link)
    assert link.is_symlink() and real.stat().st_mode & 0o777 == 0o600 and not list(tmp_path.glob('.*'))
    assert len(torch.load(real, weights_only=True)['random']) == 1
