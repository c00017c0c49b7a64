"""A LightningModule, with and without a datamodule, before and after a fit"""
import warnings

import pytest
import torch
from torch import nn

L = pytest.importorskip('lightning.pytorch', reason='lightning is not installed: make test-neighbours installs it')

from conftest import equal, loader, net, pairs, weights  # noqa: E402

from lrfinder_nb import finder_for  # noqa: E402


class Module(L.LightningModule):
    def __init__(self, lr=1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net, self.lr = net(), lr
    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log('loss', loss, prog_bar=True)
        self.log_dict(dict(twice=2*loss, epoch=float(self.trainer.current_epoch)))
        return dict(loss=loss, n=len(batch[0]))
    def validation_step(self, batch, batch_idx): self.training_step(batch, batch_idx)
    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        steps = int(self.trainer.estimated_stepping_batches)
        return dict(optimizer=optimizer, lr_scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps))


class Data(L.LightningDataModule):
    def setup(self, stage): self.rows = pairs()
    def train_dataloader(self): return torch.utils.data.DataLoader(self.rows, 16, shuffle=True)
    def val_dataloader(self): return torch.utils.data.DataLoader(self.rows, 64)


def made(cls=Module, **kw):
    torch.manual_seed(1)
    return cls(**kw)


def fitted(module, *data, **kw):
    torch.manual_seed(2)
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = L.Trainer(max_epochs=2, accelerator='cpu', **quiet, **kw)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        trainer.fit(module, *data)
    return weights(module)


@pytest.mark.parametrize('data', [loader, Data])
def test_a_fit_after_the_sweep_is_that_with_the_rate_set_by_hand(held, data):
    held('lightning', 'sweep', 'train', 'restored')
    module = made()
    before, rng = weights(module), torch.get_rng_state()
    finder = finder_for(module, data()).range_test(progress=False)
    assert equal(before, weights(module)) and torch.equal(rng, torch.get_rng_state()) and module._trainer is None
    finder.apply()
    assert module.lr == module.hparams.lr == finder.suggestion.lr and 'module.hparams.lr' in finder.applied
    a, by_hand = data(), data()
    assert equal(fitted(module, a), fitted(made(lr=module.lr), by_hand))


def test_the_loader_of_the_module_itself(held):
    held('lightning', 'verify')
    class Own(Module):
        def train_dataloader(self): return loader()
        def val_dataloader(self): return loader(64, False)
    module = made(Own)
    before = weights(module)
    finder = finder_for(module).range_test(progress=False).verify(progress=False)
    assert finder.rung == 'verified'
    finder.verify(epochs=1, most=2, progress=False)
    assert finder.rung.startswith('trained') and equal(before, weights(module))
    assert not {'log', 'log_dict'} & set(vars(module))


def test_after_a_fit():
    module = made()
    fitted(module, loader())
    before, trainer = weights(module), module._trainer
    finder = finder_for(module, loader()).range_test(num_iter=30, progress=False)
    assert len(finder.curve) and equal(before, weights(module)) and module._trainer is trainer


def test_batches_change_in_the_hooks_of_the_module():
    class Scaled(Module):
        def on_after_batch_transfer(self, batch, dataloader_idx): return batch[0]*0, batch[1]
    torch.manual_seed(0)
    first = finder_for(made(Scaled), loader()).range_test(num_iter=2, progress=False).curve.losses[0]
    torch.manual_seed(0)
    assert first != finder_for(made(), loader()).range_test(num_iter=2, progress=False).curve.losses[0]


def test_what_cannot_be_swept_gets_a_sentence():
    class Two(Module):
        def configure_optimizers(self): return [torch.optim.SGD(self.parameters(), lr=.1) for _ in range(2)]
    class ByHand(Module):
        automatic_optimization = False
    class Nameless(Module):
        def __init__(self):
            L.LightningModule.__init__(self)
            self.net = net()
        def configure_optimizers(self): return torch.optim.SGD(self.parameters(), lr=.1)
    class NoTrain(L.LightningDataModule): pass
    with pytest.raises(ValueError, match='returned 2 optimizers.*optimizer='): finder_for(made(Two), loader())
    module = made(Two)
    one = torch.optim.SGD(module.parameters(), lr=.1)
    assert len(finder_for(module, loader(), optimizer=one).range_test(num_iter=9, progress=False).curve) == 9
    with pytest.raises(ValueError, match='optimizes by hand.*step='): finder_for(made(ByHand), loader())
    with pytest.raises(ValueError, match='Module has no train_dataloader'): finder_for(made())
    with pytest.raises(ValueError, match='NoTrain has no train_dataloader'): finder_for(made(), NoTrain())
    finder = finder_for(made(Nameless), loader()).range_test(progress=False)
    with pytest.raises(ValueError, match='no attribute lr or learning_rate'): finder.apply(1e-2)


def checked(cls, data, **kw):
    "Whether a fit after the sweep is that with the rate set by hand, for other modules and data"
    module = made(cls)
    before = weights(module)
    finder = finder_for(module, data()).range_test(progress=False)
    assert equal(before, weights(module))
    finder.apply(*([2e-3] if finder.problem else []))
    return equal(fitted(module, data(), **kw), fitted(made(cls, lr=module.lr), data(), **kw))


class OneList(Module):
    def configure_optimizers(self): return [torch.optim.Adam(self.parameters(), lr=self.lr)]


class Schedulers(Module):
    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.lr, total_steps=24)
        return [optimizer], [dict(scheduler=schedule, interval='step')]


class ListOfDicts(Module):
    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return [dict(optimizer=optimizer, lr_scheduler=dict(scheduler=plateau, monitor='loss'))]


class OwnStep(Module):
    "Hooks around the step, and the optimizer asked for by name"
    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        self.clip_gradients(optimizer, gradient_clip_val=.1, gradient_clip_algorithm='norm')
    def training_step(self, batch, batch_idx):
        self.log('rate', self.optimizers().param_groups[0]['lr'])
        return super().training_step(batch, batch_idx)


class Skipping(Module):
    def training_step(self, batch, batch_idx): return None if batch_idx % 3 == 2 else super().training_step(batch, 0)


class Reading(Module):
    "Reads its batches itself"
    def training_step(self, dataloader_iter):
        (x, y), *_ = next(dataloader_iter)
        return nn.functional.cross_entropy(self.net(x), y)


class SetUp(Module):
    "What the step needs is made by setup"
    def setup(self, stage): self.weight = torch.tensor([1., 2.])
    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1], weight=self.weight)


@pytest.mark.parametrize('cls', [OneList, Schedulers, ListOfDicts, OwnStep, Skipping, Reading, SetUp])
def test_modules_of_other_kinds(cls): assert checked(cls, loader)


@pytest.mark.parametrize('kw', [dict(accumulate_grad_batches=2), dict(precision='bf16-mixed'),
                                dict(gradient_clip_val=.5)])
def test_trainers_of_other_kinds(kw): assert checked(Module, loader, **kw)


class Both(Module):
    "Takes a batch from each of two loaders"
    def training_step(self, batch, batch_idx):
        batches = batch.values() if isinstance(batch, dict) else batch
        return sum(nn.functional.cross_entropy(self.net(x), y) for x, y in batches)


class Loaders(L.LightningDataModule):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
    def train_dataloader(self): return self.kind(a=loader(), b=loader(8))


def combined(**parts): return L.utilities.CombinedLoader(parts, 'max_size_cycle')


@pytest.mark.parametrize('kind', [dict, lambda **parts: [*parts.values()], combined])
def test_several_loaders_at_once(kind):
    assert checked(Both, lambda: Loaders(kind))
    assert checked(Both, lambda: kind(a=loader(), b=loader(8)))


def test_several_validation_loaders():
    class Two(Data):
        def val_dataloader(self): return [super(Two, self).val_dataloader()]*2
    finder = finder_for(made(), Two()).range_test(progress=False)
    assert finder.verify(epochs=1, most=2, progress=False).rung == 'trained in full'


def test_batches_change_in_the_hooks_of_a_datamodule():
    class Scaled(Data):
        def on_after_batch_transfer(self, batch, dataloader_idx): return batch[0]*0, batch[1]
    losses = [finder_for(made(), kind()).range_test(num_iter=2, seed=0, progress=False).curve.losses[0]
              for kind in (Scaled, Data)]
    assert losses[0] != losses[1]


def test_a_module_whose_batches_need_its_setup():
    class Whole(Module):
        def prepare_data(self): self.prepared = True
        def setup(self, stage): self.rows = pairs() if self.prepared else None
        def train_dataloader(self): return torch.utils.data.DataLoader(self.rows, 16, shuffle=True)
    assert len(finder_for(made(Whole)).range_test(num_iter=9, progress=False).curve) == 9


def test_a_rate_that_can_only_be_read_is_no_place_for_one():
    class Saved(L.LightningModule):
        def __init__(self, learning_rate=1e-3):
            super().__init__()
            self.save_hyperparameters()
            self.net = net()
        @property
        def lr(self): return self.hparams.learning_rate
        training_step = Module.training_step
        def configure_optimizers(self): return torch.optim.Adam(self.parameters(), lr=self.lr)
    module = made(Saved)
    finder = finder_for(module, loader()).range_test(progress=False).apply(.01)
    assert module.lr == .01 and finder.applied.endswith('module.hparams.learning_rate')


def test_several_optimizers_are_swept_together_where_they_are_passed():
    module = made()
    halves = [torch.optim.SGD(part.parameters(), lr=lr) for part, lr in ((module.net[0], .1), (module.net[3], .01))]
    before = weights(module)
    assert len(finder_for(module, loader(), optimizer=halves).range_test(num_iter=9, progress=False).curve) == 9
    assert equal(before, weights(module)) and [o.param_groups[0]['lr'] for o in halves] == [.1, .01]


def test_what_only_a_fit_knows_gets_a_sentence():
    class Asks(Module):
        def training_step(self, batch, batch_idx): return super().training_step(batch, self.trainer.strategy.rank)
    class Later(Module):
        def __init__(self, lr=1e-3):
            L.LightningModule.__init__(self)
            self.lr = lr
        def configure_model(self): self.net = net()
    class Slip(Module):
        def configure_optimizers(self): return torch.optim.Adam(self.parameterz(), lr=self.lr)
    module = made(Asks)
    before = weights(module)
    with pytest.raises(AttributeError, match='trainer.strategy is there in a fit only; .*module.trainer = trainer'):
        finder_for(module, loader()).range_test(num_iter=9, progress=False)
    assert equal(before, weights(module)) and module._trainer is None
    with pytest.raises(ValueError, match='Later has no parameters before a fit; call module.configure_model'):
        finder_for(made(Later), loader())
    with pytest.raises(AttributeError, match="has no attribute 'parameterz'") as error:
        finder_for(made(Slip), loader())
    assert 'finder_for' not in str(error.value)      # a slip of the user's, not of the library


def test_a_step_that_has_moved_shows_before_the_sweep(monkeypatch):
    monkeypatch.delattr(L.LightningModule, 'training_step')
    class Old(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = net()
    with pytest.raises(TypeError, match=r"does not know this lightning \([\d.]+\): .*training_step"):
        finder_for(Old(), loader())
