"""A checkpoint whose inside was edited, with its fingerprint renewed: refused in a sentence before anything changes"""
import copy
import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lrfinder_nb import EarlyStopping, fit_one_cycle, set_seed
from lrfinder_nb.train.attributes import fingerprint, structure
from lrfinder_nb.train.one_cycle import TrainingDiverged
from test_resume import KW, LOADERS, Counting, Proxies, data, places, plain_net

torch.set_num_threads(1)


def amsgrad(weights, lr): return torch.optim.AdamW(weights, lr, amsgrad=True)
def momentum(weights, lr): return torch.optim.SGD(weights, lr, momentum=.9)


class Setting:
    "A training that may begin: the model, its optimizer and loss, the loader and a callback that remembers"
    def __init__(self, net=plain_net, opt=torch.optim.AdamW, loss=nn.CrossEntropyLoss, loader='shuffled'):
        set_seed(0)
        self.model, self.loss_fn, self.loader = net(), loss(), LOADERS[loader]()
        self.opt = opt([*self.model.parameters(), *self.loss_fn.parameters()], lr=.01)
        self.patience = EarlyStopping(patience=3, min_delta=9.)

    def train(self, path, valid=DataLoader(data(16), 8), **kw):
        how = dict(checkpoint=path, callbacks=[self.patience], **KW)
        return fit_one_cycle(self.model, self.opt, self.loss_fn, self.loader, valid, **how | kw)

    def state(self):
        "A hash of all that a refused checkpoint must leave as it is"
        held = [self.model, self.loss_fn, self.loader.sampler, self.patience]
        attributes = [{k: repr(v) for k, v in vars(x).items() if k != '_modules'} for x in held]
        own = [getattr(x, '__getstate__', dict)() for x in (getattr(self.model, 'rng', {}),)]
        anyones = [torch.get_rng_state(), repr(random.getstate()), repr(np.random.get_state()), repr(own)]
        anyones += [x.get_state() for x in [getattr(self.model, 'generator', None)] if x is not None]
        flags = [(module.training, [p.requires_grad for p in module.parameters()]) for module in self.model.modules()]
        states = [self.model.state_dict(), self.loss_fn.state_dict(), repr(self.opt.state_dict())]
        return fingerprint([*states, attributes, anyones, flags])


CASES = dict(counting=dict(net=Counting), sgd=dict(opt=momentum), amsgrad=dict(opt=amsgrad),
             proxies=dict(net=Counting, loss=Proxies, loader='in_place'))


def changed(x, path, change):
    "`x` with `change(holder, key)` done to the place that `path` leads to"
    if len(path) == 1: return change(x, path[0])
    inner = changed(x[path[0]], path[1:], change)
    return replaced(x, path[0], inner)


def replaced(x, k, new):
    if isinstance(x, dict): return {name: new if name == k else v for name, v in x.items()}
    return type(x)(new if i == k else v for i, v in enumerate(x))


def dropped(x, k):
    if isinstance(x, dict): return {name: v for name, v in x.items() if name != k}
    return type(x)(v for i, v in enumerate(x) if i != k)


def alike(old):
    "What is nearly `old`: another number, another shape, an entry more or less"
    if isinstance(old, torch.Tensor):
        far = torch.full_like(old, 255 if old.dtype == torch.uint8 else -1)
        return [old[..., :0] if old.ndim else old.reshape(1), old.double(), old[None], torch.zeros_like(old), far]
    if isinstance(old, bool): return [not old]
    if isinstance(old, (int, float)): return [-old - 1, old*1000 + 7, old + .5, type(old)(0)]
    if isinstance(old, str): return ['', old[:-1], old + 'x', old.replace('0', '9'), old.replace('[', '{')]
    if isinstance(old, dict): return [dict(list(old.items())[1:]), old | dict(more=1), {str(k): old[k] for k in old}]
    return [old[1:], [*old, 7], old[::-1]] if isinstance(old, (list, tuple)) else []


ANYTHING = [None, 3.5, 'text', [], {}, (), torch.zeros(3), -1, 10**6, [1, 2], b'x', True]


def edited(body, path, rng):
    "The body with one place changed, or left out"
    if rng.random() < .2: return changed(body, path, dropped)
    near = rng.random() < .6
    return changed(body, path, lambda x, k: replaced(x, k, rng.choice(near and alike(x[k]) or ANYTHING)))


def outcome(path, case):
    "How a training from an edited file ends: 'accepted', or 'refused' in one sentence and with nothing changed"
    there = Setting(**CASES[case])
    before = there.state()
    try:
        with warnings.catch_warnings(action='ignore'): there.train(path)
    except ValueError as error:
        assert str(path) in str(error) and '\n' not in str(error) and there.state() == before
        return 'refused'
    except TrainingDiverged: pass       # weights are numbers like any other
    except IndexError as error:         # and so are the indices of the user's own sampler
        assert case == 'proxies' and str(path) in error.__notes__[0]
    return 'accepted'


@pytest.mark.parametrize('case, seed, renewed, edits', [
    ('counting', 1, False, 50), ('sgd', 2, False, 40), ('amsgrad', 3, False, 40), ('proxies', 4, False, 50),
    ('amsgrad', 5, True, 30), ('counting', 6, True, 40)])
def test_any_edit_is_taken_or_refused_before_anything_changes(tmp_path, case, seed, renewed, edits):
    whole, bad, rng = tmp_path/'run.pt', tmp_path/'bad.pt', random.Random(seed)
    Setting(**CASES[case]).train(whole, stop_at=.5)
    body = torch.load(whole, weights_only=True)
    hashes = [body.pop(name) for name in ('fingerprint', 'structure')]
    there, seen = list(places(body))[1:], []
    while len(seen) < edits:
        wrong = edited(body, rng.choice(there), rng)
        try:
            wrong['structure'] = structure(wrong) if renewed else hashes[1]
            wrong['fingerprint'] = fingerprint(wrong)
        except TypeError: continue
        torch.save(wrong, bad)
        seen.append(outcome(bad, case))
    assert seen.count('refused') > edits/3, seen


def test_a_sound_file_is_taken(tmp_path):
    Setting().train(tmp_path/'run.pt', stop_at=.5)
    assert outcome(tmp_path/'run.pt', 'sgd') == 'refused' and len(Setting().train(tmp_path/'run.pt')) == 4


def failing(error):
    def step(model, batch): raise error
    return step


def test_a_first_step_that_fails_leaves_everything_as_it_was(tmp_path):
    path, there = tmp_path/'run.pt', Setting()
    Setting().train(path, stop_at=.5)
    there.loader.dataset.tensors[0].resize_(48, 5)      # data that the model does not take
    before = there.state()
    with pytest.raises(ValueError, match='cannot go on from the checkpoint .* its first step fails') as e:
        there.train(path)
    assert isinstance(e.value.__cause__, RuntimeError) and there.state() == before and not there.opt.state


def test_memory_that_runs_out_is_not_the_fault_of_the_file(tmp_path):
    path, there = tmp_path/'run.pt', Setting()
    Setting().train(path, stop_at=.5)
    there.model.register_forward_pre_hook(lambda *_: failing(RuntimeError('CUDA out of memory.'))(0, 0))
    with pytest.raises(RuntimeError, match='out of memory'): there.train(path)


def test_an_error_after_the_first_step_is_the_users_own(tmp_path):
    path, there, calls = tmp_path/'run.pt', Setting(), []
    Setting().train(path, stop_at=.5)

    def late(*_):
        calls.append(1)
        if len(calls) == 3: raise IndexError('mine')
    there.model.register_forward_pre_hook(late)
    with pytest.raises(IndexError, match='mine') as e: there.train(path)
    assert str(path) in e.value.__notes__[0] and '\n' not in e.value.__notes__[0]


def test_the_structure_allows_other_numbers_only():
    body = dict(a=[1, 2.], b={'x': torch.zeros(2), 3: 'word'}, c={1, 2}, d=(None, True))
    same, other = copy.deepcopy(body), [dict(a=[1, 2]), dict(b={'x': torch.zeros(3), 3: 'word'}), dict(d=(1, True))]
    same['a'][0], same['b']['x'][1], same['b'][3] = 7, 5., 'text'
    assert structure(same) == structure(body) and fingerprint(same) != fingerprint(body)
    for part in (*other, dict(c={1, '2'}), dict(b={'x': torch.zeros(2), 4: 'word'}), dict(a=[1, 2., 3])):
        assert structure(body | part) != structure(body)
