"""What looks on while a training runs, and what is measured: torchmetrics, loggers, callbacks"""
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder_nb import Callback, EarlyStopping, KeepBest, fit, fit_one_cycle, preserved, set_seed


def task():
    set_seed(0)
    x = torch.randn(50, 4)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    dl = DataLoader(TensorDataset(x, x[:, :3].argmax(1)), 8, shuffle=True)
    return model, torch.optim.AdamW(model.parameters()), nn.CrossEntropyLoss(), dl


def trained(f=fit_one_cycle, **kw):
    "(history, model, loader)"
    model, opt, loss_fn, dl = task()
    return f(model, opt, loss_fn, dl, dl, **dict(max_lr=.05, epochs=3, progress=False) | kw), model, dl


def test_torchmetrics_count_over_the_whole_set():
    f1 = torchmetrics.F1Score('multiclass', num_classes=3, average='macro')
    right = torchmetrics.Accuracy('multiclass', num_classes=3)
    metrics = torchmetrics.MetricCollection(dict(f1=f1.clone(), right=right.clone()))
    h, model, dl = trained(metrics=metrics)
    x, y = dl.dataset.tensors
    with torch.no_grad(): out = model.eval()(x)
    assert h.epochs[-1]['f1'] == pytest.approx(f1(out, y).item()) and h.epochs[-1]['right'] == right(out, y).item()
    alone, _, _ = trained(metrics=f1.clone())
    named, _, _ = trained(metrics=dict(score=f1.clone(), all=metrics.clone()))
    assert alone.epochs[-1]['MulticlassF1Score'] == named.epochs[-1]['score'] == named.epochs[-1]['all_f1']
    assert 'accuracy' not in alone.epochs[-1]


@pytest.mark.parametrize('kind, said, metrics', [
    (ValueError, "got 'acuracy'; pass metrics='accuracy'", 'acuracy'),
    (TypeError, 'got the class MeanMetric; make one', torchmetrics.MeanMetric),
    (TypeError, r'must return one number, got shape \(3,\)',
     torchmetrics.Accuracy('multiclass', num_classes=3, average='none')),
    (TypeError, "metrics must be 'accuracy' or a dict", ['accuracy']),
])
def test_metrics_that_are_none(kind, said, metrics):
    with pytest.raises(kind, match=said): trained(metrics=metrics)


@pytest.mark.parametrize('said, kw', [
    ('pass its suggestion', dict(max_lr=SimpleNamespace())),
    ('must be a whole number from 1, got 3.0; pass 3', dict(epochs=3.)),
    ("keep must be 'last' or 'best', got 'first'", dict(keep='first')),
    (r'stop_at must lie in \(0, 1\], got 1.5', dict(stop_at=1.5)),
    ('callbacks must be objects, got the class EarlyStopping', dict(callbacks=[EarlyStopping])),
    ("mode must be 'min' or 'max' for 'accuracy'", dict(callbacks=lambda: EarlyStopping('accuracy'))),
    ("no epoch has a 'auc', only train_loss, valid_loss", dict(callbacks=[EarlyStopping('auc', mode='max')])),
    ("schedule must be one of 'one_cycle'", dict(schedule='cosinus', f=fit)),
    ("fit has no argument 'pct_start'", dict(pct_start=.2, f=fit)),
])
def test_slips_get_a_sentence(said, kw):
    class Holder:
        suggestion = .1
    if isinstance(kw.get('max_lr'), SimpleNamespace): kw = dict(max_lr=Holder())
    with pytest.raises((TypeError, ValueError), match=said):
        if callable(kw.get('callbacks')): kw['callbacks']()
        trained(**kw)


def test_moments_in_their_order():
    told = []

    class Listening(Callback):
        def begin(self, now): told.append(('begin', now.step, now.epoch))
        def step(self, now): told.append(('step', now.step, now.epoch))
        def epoch(self, now): told.append(('epoch', now.step, now.epoch))
        def end(self, now): told.append(('end', now.step, now.epoch, now.history.ended))

    h, _, dl = trained(callbacks=Listening(), epochs=2)
    n = len(dl)
    steps = [[('step', e*n + i + 1, e) for i in range(n)] + [('epoch', (e + 1)*n, e + 1)] for e in (0, 1)]
    assert told == [('begin', 0, 0), *steps[0], *steps[1], ('end', 2*n, 2, 'completed')] and h.ended == 'completed'


def test_a_step_may_ask_to_stop():
    "The epoch that was begun is validated, and nothing is left on the optimizer"
    class Enough:
        def step(self, now):
            if now.step == 9: now.stop('nine are enough')

    h, _, dl = trained(callbacks=[Enough()])
    assert (len(h.lrs), len(h), h.ended, h.why) == (9, 2, 'early', 'nine are enough') and 'valid_loss' in h.final


def test_a_callback_that_fails_leaves_no_scheduler():
    class Failing(Callback):
        def epoch(self, now): raise ZeroDivisionError

    model, opt, loss_fn, dl = task()
    with pytest.raises(ZeroDivisionError):
        fit_one_cycle(model, opt, loss_fn, dl, max_lr=.05, callbacks=[Failing()], progress=False)
    assert opt.param_groups[0]['lr'] == 1e-3 and 'max_lr' not in opt.param_groups[0]


def test_the_best_weights_are_kept():
    "Those of the epoch that the record names, with their validation loss"
    class Spoiling(Callback):
        "Spoils the weights in the first step after the second epoch"
        def step(self, now):
            if now.epoch == 2:
                with torch.no_grad(): now.model[2].bias.add_(3*torch.arange(3.))

    h, model, dl = trained(keep='best', callbacks=[Spoiling()])
    x, y = dl.dataset.tensors
    with torch.no_grad(): loss = nn.functional.cross_entropy(model.eval()(x), y).item()
    assert h.kept == 2 and h.final['valid_loss'] == pytest.approx(loss, rel=1e-5)
    h, _, _ = trained(callbacks=[KeepBest('train_loss'), Spoiling()])
    assert h.kept in (2, 3)


def test_trial_trainings_leave_nothing_behind():
    "A training within `preserved` is as if it had not been, for the whole horizon or a share of it"
    model, opt, loss_fn, dl = task()
    plain = fit_one_cycle(model, opt, loss_fn, dl, max_lr=.05, epochs=2, progress=False)
    model, opt, loss_fn, dl = task()
    for kw in (dict(stop_at=.75), dict(keep='best'), {}):
        with preserved(model, opt, dl):
            fit_one_cycle(model, opt, loss_fn, dl, dl, max_lr=.2, epochs=2, progress=False, **kw)
    assert fit_one_cycle(model, opt, loss_fn, dl, max_lr=.05, epochs=2, progress=False).losses == plain.losses


def test_tensorboard(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained(log_to='tensorboard')
    assert list(tmp_path.glob('runs/*/events*'))


def test_runs_of_others_are_used_and_left_open(monkeypatch):
    "wandb and mlflow as they are spoken to, and what is not installed"
    said = []
    run = SimpleNamespace(log=lambda values, step: said.append((step, values)), finish=lambda: said.append('finished'))
    wandb = ModuleType('wandb')
    wandb.run, wandb.init = None, lambda: run
    mlflow = ModuleType('mlflow')
    mlflow.active_run, mlflow.start_run = lambda: 'theirs', lambda: said.append('started')
    mlflow.log_metrics, mlflow.end_run = lambda values, step: said.append((step, values)), lambda: said.append('ended')
    for module in (wandb, mlflow):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    h, _, _ = trained(log_to=['wandb', 'mlflow'])
    assert said.count('finished') == 1 and not {'started', 'ended'} & {s for s in said if isinstance(s, str)}
    rows = [values for _, values in filter(lambda s: isinstance(s, tuple), said) if 'valid_loss' in values]
    losses = [values['loss'] for _, values in filter(lambda s: isinstance(s, tuple), said) if 'loss' in values]
    assert len(rows) == 6 and sorted(losses) == sorted(2*h.losses)
    monkeypatch.setitem(sys.modules, 'wandb', None)
    with pytest.raises(ImportError, match='needs wandb, which is not installed: pip install wandb'):
        trained(log_to='wandb')
