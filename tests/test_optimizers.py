"""Optimizers beyond one call of `step`: several at once, closures, averaged weights, rates that are none"""
import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder_nb import LRFinder, fit_one_cycle, repeat
from lrfinder_nb.engine.optimizers import Joint


def data(n=128):
    x = torch.randn(n, 8, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x[:, :1]*x[:, 1:2]), 16, shuffle=True)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))


def matrices(model): return [p for p in model.parameters() if p.ndim == 2]
def vectors(model): return [p for p in model.parameters() if p.ndim < 2]


class SAM(torch.optim.Optimizer):
    "Sharpness-aware minimization around another optimizer, as its authors wrote it down"
    def __init__(self, params, base, rho=.05, **kw):
        super().__init__(params, dict(rho=rho, **kw))
        self.base = base(self.param_groups, **kw)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        for p in self.param_groups[0]['params']:
            self.state[p]['old'] = p.clone()
            p.add_(self.param_groups[0]['rho']*p.grad)
        if zero_grad: self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for p in self.param_groups[0]['params']: p.copy_(self.state[p]['old'])
        self.base.step()

    def step(self, closure=None):
        assert closure is not None
        self.first_step(zero_grad=True)
        torch.enable_grad()(closure)()
        self.second_step()


class Averaging(torch.optim.Optimizer):
    "What a schedule-free optimizer does with its weights: it trains at one point and is judged at the mean"
    def __init__(self, params, lr=.1): super().__init__(params, dict(lr=lr, train_mode=False))

    def _swap(self, mode):
        for group in self.param_groups:
            if group['train_mode'] == mode: continue
            for p in group['params']:
                state = self.state[p]
                if 'mean' not in state: state['mean'], state['n'] = p.detach().clone(), 0
                kept, p.data = p.data, state['mean']
                state['mean'] = kept
            group['train_mode'] = mode
    def train(self): self._swap(True)
    def eval(self): self._swap(False)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            if not group['train_mode']: raise RuntimeError('not in train mode')
            for p in group['params']:
                state = self.state[p]
                p.sub_(group['lr']*p.grad)
                state['n'] += 1
                state['mean'].lerp_(p, 1/state['n'])


def joint(model):
    return [torch.optim.Muon(matrices(model), lr=.02), torch.optim.AdamW(vectors(model), lr=.002)]


MAKERS = dict(
    joint=joint, named=lambda model: dict(zip(('muon', 'rest'), joint(model))),
    lbfgs=lambda model: torch.optim.LBFGS(model.parameters(), lr=.1),
    sam=lambda model: SAM(model.parameters(), torch.optim.SGD, lr=.1, momentum=.9),
    averaging=lambda model: Averaging(model.parameters()))


@pytest.mark.parametrize('name', MAKERS)
@pytest.mark.parametrize('valid', (False, True))
def test_training_on_is_bit_for_bit_that_without_the_sweep(name, valid):
    ends = []
    for swept in (False, True):
        model, loader = net(), data()
        optimizer = MAKERS[name](model)
        fit_one_cycle(model, optimizer, nn.MSELoss(), loader, max_lr=.01, epochs=1, progress=False)
        if swept:
            finder = LRFinder(model, optimizer, nn.MSELoss())
            finder.range_test(loader, loader if valid else None, num_iter=20, progress=False)
            assert len(finder.curve) > 3
        fit_one_cycle(model, optimizer, nn.MSELoss(), loader, max_lr=.01, epochs=1, progress=False)
        ends.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends))


def by_hand(model, optimizers, loader, lrs, step):
    "The losses of a plain loop at these rates"
    ratios = [1., .1]
    found = []
    for lr, (x, y) in zip(lrs, loader):
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group, ratio in zip(groups, ratios): group['lr'] = lr*ratio
        found.append(step(model, optimizers, x, y))
    return found


def plain(model, optimizers, x, y):
    for optimizer in optimizers: optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    for optimizer in optimizers: optimizer.step()
    return loss.item()


def with_closure(model, optimizers, x, y):
    losses = []
    def closure():
        optimizers[0].zero_grad()
        losses.append(nn.functional.mse_loss(model(x), y))
        losses[-1].backward()
        return losses[-1]
    if isinstance(optimizers[0], SAM): closure()
    optimizers[0].step(closure)
    return losses[0].item()


@pytest.mark.parametrize('name,step', [('joint', plain), ('lbfgs', with_closure), ('sam', with_closure)])
def test_the_losses_of_a_sweep_are_those_of_a_loop_by_hand(name, step):
    batches = list(data())
    model = net()
    curve = LRFinder(model, MAKERS[name](model), nn.MSELoss()).range_test(
        batches, start_lr=1e-4, end_lr=1e-2, num_iter=8, progress=False).curve
    model = net()
    made = MAKERS[name](model)
    losses = by_hand(model, made if isinstance(made, list) else [made], batches, curve.lrs, step)
    assert list(curve.losses) == pytest.approx(losses, rel=1e-6)


def test_a_training_with_two_optimizers_is_that_of_a_loop_by_hand():
    batches = list(data())
    model = net()
    history = fit_one_cycle(model, joint(model), nn.MSELoss(), batches, max_lr=.01, epochs=1, progress=False)
    other = net()
    losses = by_hand(other, joint(other), batches, history.lrs, plain)
    assert list(history.losses) == pytest.approx(losses, rel=1e-6)


def test_the_rates_of_several_keep_their_ratio_and_come_back():
    model = net()
    muon, adam = joint(model)
    finder = LRFinder(model, [muon, adam], nn.MSELoss()).range_test(data(), num_iter=20, progress=False)
    assert isinstance(finder.optimizer, Joint) and 'Muon' in repr(finder.optimizer)
    assert (muon.param_groups[0]['lr'], adam.param_groups[0]['lr']) == (.02, .002)


def test_several_optimizers_go_on_from_a_checkpoint(tmp_path):
    def train(epochs, stop_at=1., path=None):
        model = net()
        history = fit_one_cycle(model, joint(model), nn.MSELoss(), data(), max_lr=.01, epochs=epochs,
                                checkpoint=path, stop_at=stop_at, progress=False)
        return model, history
    whole, _ = train(4)
    train(4, .5, tmp_path/'run.pt')
    model, _ = train(4, path=tmp_path/'run.pt')
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), model.parameters()))


def test_repetitions_take_a_factory_with_several_optimizers():
    def make():
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        return model, joint(model)
    runs = repeat(make, nn.MSELoss(), data(), 2, num_iter=30, progress=False)
    assert len(runs) == 2


def test_a_schedule_free_model_is_judged_and_left_at_its_mean():
    model, loader = net(), data()
    optimizer = Averaging(model.parameters())
    history = fit_one_cycle(model, optimizer, nn.MSELoss(), loader, loader, max_lr=.1, epochs=2, progress=False)
    assert not optimizer.param_groups[0]['train_mode']
    x, y = loader.dataset.tensors
    assert history.epochs[-1]['valid_loss'] == pytest.approx(nn.functional.mse_loss(model(x), y).item(), rel=1e-4)
    optimizer.train()
    assert history.epochs[-1]['valid_loss'] != pytest.approx(nn.functional.mse_loss(model(x), y).item(), rel=1e-4)


def test_the_best_weights_are_those_that_were_judged():
    model, loader = net(), data()
    history = fit_one_cycle(model, Averaging(model.parameters()), nn.MSELoss(), loader, loader, max_lr=.1,
                            epochs=3, keep='best', progress=False)
    x, y = loader.dataset.tensors
    assert history.final['valid_loss'] == pytest.approx(nn.functional.mse_loss(model(x), y).item(), rel=1e-4)


def test_clipping_reaches_the_gradients_of_a_closure():
    "With gradients clipped to almost nothing, the first SAM step is that of the base optimizer alone"
    model = net()
    before = copy.deepcopy(model)
    fit_one_cycle(model, MAKERS['sam'](model), nn.MSELoss(), list(data()), max_lr=.1, epochs=1, clip=1e-9,
                  progress=False)
    assert all(torch.allclose(a, b, atol=1e-8) for a, b in zip(model.parameters(), before.parameters()))


class Estimating(torch.optim.SGD):
    "Keeps what Prodigy keeps in its groups"
    def __init__(self, params):
        super().__init__(params, lr=1.)
        self.param_groups[0].update(d=1e-6, d0=1e-6, d_coef=1.)


@pytest.mark.parametrize('kind,said', [
    (Estimating, 'Estimating estimates its own rate'),
    (torch.optim.Adafactor, "torch's Adafactor takes no step above 1/sqrt(step)")])
def test_a_rate_that_is_none_is_refused_in_a_sweep_and_trains(kind, said):
    model = net()
    optimizer = kind(model.parameters())
    finder = LRFinder(model, optimizer, nn.MSELoss())
    with pytest.raises(ValueError, match=said[:20]) as error: finder.range_test(data(), progress=False)
    assert said in str(error.value) and ';' in str(error.value)
    assert fit_one_cycle(model, optimizer, nn.MSELoss(), data(), max_lr=.01, epochs=1, progress=False)


def test_the_range_that_the_sentence_names_works():
    model = net()
    finder = LRFinder(model, torch.optim.Adafactor(model.parameters()), nn.MSELoss())
    finder.range_test(data(), start_lr=1e-6, end_lr=.1, num_iter=100, progress=False)
    assert max(finder.curve.lrs) <= .1


def test_what_cannot_be_joined_gets_a_sentence():
    model = net()
    for wrong, said in (([], 'at least one optimizer'), ([3], 'optimizer[0] must be a torch Optimizer'),
                        ([torch.optim.SGD(model.parameters())]*2, '4 parameters are in more than one'),
                        ([MAKERS['lbfgs'](model), MAKERS['joint'](model)[0]], 'takes a closure')):
        with pytest.raises((ValueError, TypeError)) as error: LRFinder(model, wrong, nn.MSELoss())
        assert said in str(error.value)


def test_shares_of_layers_as_timm_writes_them_are_kept(tmp_path):
    model, seen = net(), tmp_path/'rates'       # a file, since a list would be put back
    groups = [dict(params=model[0].parameters(), lr_scale=.25), dict(params=model[2].parameters(), lr_scale=1.)]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)

    def note(optimizer, *rest):
        with seen.open('a') as f: f.write(f"{optimizer.param_groups[0]['lr']/optimizer.param_groups[1]['lr']:.6f} ")
    optimizer.register_step_pre_hook(note)
    LRFinder(model, optimizer, nn.MSELoss()).range_test(data(), num_iter=10, progress=False)
    assert set(seen.read_text().split()) == {'0.250000'}
