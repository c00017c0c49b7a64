"""A Learner of fastai; it needs an environment of its own, since it wants an older fastcore than nbdev"""
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch

pytest.importorskip('fastai', reason='fastai is not installed: make test-neighbours installs it')

from conftest import equal, net, weights  # noqa: E402
from fastai.callback.core import Callback  # noqa: E402
from fastai.callback.mixup import MixUp  # noqa: E402
from fastai.callback.fp16 import MixedPrecision  # noqa: E402
from fastai.callback.progress import ProgressCallback  # noqa: E402
from fastai.callback.schedule import Learner, ParamScheduler, SchedCos  # noqa: E402
from fastai.callback.tracker import EarlyStoppingCallback  # noqa: E402
from fastai.callback.training import GradientAccumulation, GradientClip  # noqa: E402
from fastai.data.core import DataLoaders  # noqa: E402
from fastai.data.load import DataLoader  # noqa: E402
from fastai.losses import CrossEntropyLossFlat  # noqa: E402
from fastai.optimizer import Lamb, OptimWrapper, ranger  # noqa: E402

from lrfinder_nb import finder_for, set_seed  # noqa: E402


def torch_adam(params, lr, **kw): return OptimWrapper(params, torch.optim.AdamW, lr=lr, **kw)


class Noisy(Callback):
    "Changes the batch, and counts"
    seen = 0
    def before_batch(self):
        self.seen += 1
        self.learn.xb = tuple(x + .1*torch.randn_like(x) for x in self.learn.xb)


def learner(cbs=(), lr=1e-3, **kw):
    set_seed(1)
    g = torch.Generator().manual_seed(0)
    x = torch.randn(192, 8, generator=g)
    rows = list(zip(x, (x[:, 0]*x[:, 1] > 0).long()))
    dls = DataLoaders(DataLoader(rows[:160], bs=16, shuffle=True), DataLoader(rows[160:], bs=32))
    learn = Learner(dls, net(), loss_func=CrossEntropyLossFlat(), lr=lr, cbs=list(cbs), **kw)
    learn.remove_cb(ProgressCallback)
    return learn


def fitted(learn):
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(2)
    return weights(learn.model), [float(x) for x in learn.recorder.losses]


KINDS = [{}, dict(opt_func=ranger), dict(opt_func=torch_adam), dict(cbs=[Noisy]), dict(cbs=[MixUp]),
         dict(opt_func=Lamb, wd=.1), dict(train_bn=False), dict(cbs=[MixedPrecision]),
         dict(cbs=[lambda: GradientClip(.1)]), dict(cbs=[lambda: GradientAccumulation(32)]),
         dict(cbs=[EarlyStoppingCallback])]


@pytest.mark.parametrize('kw', KINDS)
def test_a_fit_after_the_sweep_is_that_with_the_rate_set_by_hand(held, kw):
    held('fastai', 'sweep', 'verify', 'train', 'restored')
    make = lambda **more: learner(**{**kw, 'cbs': [cb() for cb in kw.get('cbs', ())], **more})
    learn = make()
    before = weights(learn.model)
    finder = finder_for(learn).range_test(progress=False).verify(progress=False).apply()
    assert equal(before, weights(learn.model)) and learn.opt is None and learn.lr == finder.suggestion.lr
    a = fitted(learn)
    b = fitted(make(lr=finder.suggestion.lr))
    assert a[1] == b[1] and equal(a[0], b[0])


def test_callbacks_take_part_and_count_nothing():
    learn = learner([Noisy()])
    finder = finder_for(learn).range_test(num_iter=20, seed=0, progress=False)
    plain = finder_for(learner()).range_test(num_iter=20, seed=0, progress=False)
    assert finder.curve.losses[0] != plain.curve.losses[0]
    assert next(cb for cb in learn.cbs if isinstance(cb, Noisy)).seen == 0


def test_after_a_fit_and_with_groups():
    learn = learner(splitter=lambda m: [list(m[0].parameters()), list(m[3].parameters())])
    fitted(learn)
    before, hypers = weights(learn.model), [dict(h) for h in learn.opt.hypers]
    finder = finder_for(learn).range_test(num_iter=30, progress=False)
    assert len(finder.curve) and equal(before, weights(learn.model))
    assert [dict(h) for h in learn.opt.hypers] == hypers and isinstance(learn.loss_func, CrossEntropyLossFlat)


def halves(model): return [list(model[0].parameters()), list(model[3].parameters())]


FITS = {
    'frozen': lambda learn: (learn.freeze(), learn.fit_one_cycle(1)),
    'slice': lambda learn: learn.fit_one_cycle(1, slice(learn.lr/10, learn.lr)),
    'fine_tune': lambda learn: learn.fine_tune(1, learn.lr),
    'flat_cos': lambda learn: learn.fit_flat_cos(1),
    'sgdr': lambda learn: learn.fit_sgdr(1, 1),
}


@pytest.mark.parametrize('fit', FITS.values(), ids=FITS)
def test_other_ways_to_fit(fit):
    ends = []
    for lr in (1e-3, .02):
        learn = learner(splitter=halves, lr=lr)
        if lr != .02: finder_for(learn).range_test(num_iter=30, progress=False).apply(.02)
        with learn.no_bar(), learn.no_logging(): fit(learn)
        ends.append(weights(learn.model))
    assert equal(*ends)


def test_a_callback_that_sets_the_rates_does_not_take_part():
    def schedule(): return ParamScheduler(dict(lr=SchedCos(1., 2.)))
    sweep = dict(num_iter=20, seed=0, progress=False)
    plain = finder_for(learner()).range_test(**sweep)
    assert finder_for(learner([schedule()])).range_test(**sweep).curve == plain.curve


def test_without_validation_batches():
    learn = learner()
    learn.dls = DataLoaders(learn.dls.train)
    assert finder_for(learn).range_test(progress=False).verify(progress=False).rung == 'verified'


def test_trials_made_by_workers_are_those_at_home():
    finder = finder_for(learner()).range_test(progress=False)
    home = finder.verify(progress=False).trials
    with ProcessPoolExecutor(2, get_context('spawn')) as executor:
        assert finder.verify(executor=executor, progress=False).trials == home
