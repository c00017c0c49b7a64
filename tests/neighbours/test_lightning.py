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


def fitted(module, *data):
    torch.manual_seed(2)
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = L.Trainer(max_epochs=2, accelerator='cpu', **quiet)
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
