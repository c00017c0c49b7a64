"NeuralNets of skorch"
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip('skorch', reason='skorch is not installed: make test-neighbours installs it')

from conftest import equal, pairs, weights  # noqa: E402
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor  # noqa: E402
from skorch.callbacks import EarlyStopping, Freezer, GradientNormClipping, LRScheduler  # noqa: E402
from skorch.dataset import ValidSplit  # noqa: E402
from skorch.helper import predefined_split  # noqa: E402

from lrfinder_nb import finder_for  # noqa: E402

X, Y = (tensor.numpy() for tensor in pairs().tensors)


class Net(nn.Module):
    def __init__(self, width=32, outputs=2):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Dropout(.1), nn.Linear(width, outputs))
    def forward(self, X): return self.layers(X)


def classifier(**kw):
    options = dict(criterion=nn.CrossEntropyLoss, optimizer=torch.optim.AdamW, max_epochs=2, batch_size=16,
                   iterator_train__shuffle=True, verbose=0, lr=1e-3)
    return NeuralNetClassifier(Net, **{**options, **kw})


def fitted(net, y=Y):
    torch.manual_seed(3)
    np.random.seed(3)
    return weights(net.fit(X, y).module_)


def test_a_fit_after_the_sweep_is_that_with_the_rate_set_by_hand(held):
    held('skorch', 'sweep', 'train', 'restored')
    net = classifier()
    finder = finder_for(net, (X, Y)).range_test(seed=0, progress=False).apply()
    assert net.lr == finder.suggestion.lr and not net.initialized_ and 'net.lr' in finder.applied
    assert equal(fitted(net), fitted(classifier(lr=finder.suggestion.lr)))


def test_the_random_state_stays():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    finder_for(classifier(), (X, Y)).range_test(num_iter=30, progress=False)
    assert torch.equal(before, torch.get_rng_state())


def test_verify(held):
    held('skorch', 'verify')
    finder = finder_for(classifier(), (X, Y)).range_test(seed=0, progress=False).verify(seed=0, progress=False)
    assert finder.rung == 'verified'
    finder.verify(epochs=2, most=2, progress=False)
    assert finder.rung == 'trained in full'


def test_a_net_that_was_fitted_goes_on_as_if_never_swept():
    ends = []
    for swept in (False, True):
        net = classifier()
        fitted(net)
        rows = len(net.history)
        if swept: finder_for(net, (X, Y)).range_test(num_iter=30, progress=False)
        assert len(net.history) == rows
        torch.manual_seed(4)
        ends.append(weights(net.partial_fit(X, Y).module_))
    assert equal(*ends)


def test_the_rate_of_a_fitted_net_is_in_its_optimizer_too():
    net = classifier(optimizer__lr=.002)
    fitted(net)
    finder_for(net, (X, Y)).range_test(seed=0, progress=False).apply(.03)
    assert net.optimizer__lr == net.optimizer_.param_groups[0]['lr'] == .03


def test_a_loss_of_a_subclass_counts():
    class Scaled(NeuralNet):
        def get_loss(self, y_pred, y_true, X=None, training=False):
            return 0*super().get_loss(y_pred, y_true, X, training) + self.module_.layers[0].weight.sum()
    net = Scaled(Net, nn.CrossEntropyLoss, train_split=None, verbose=0)
    curve = finder_for(net, (X, Y)).range_test(start_lr=1e-8, end_lr=1e-7, num_iter=5, progress=False).curve
    assert max(curve.losses) - min(curve.losses) < 1e-3       # the same sum at each step


@pytest.mark.parametrize('data', ['dataset', 'loader'])
def test_other_data(data):
    given = pairs() if data == 'dataset' else torch.utils.data.DataLoader(pairs(), 16, shuffle=True)
    net = classifier(train_split=None)
    assert len(finder_for(net, given).range_test(num_iter=30, progress=False).curve)


def test_a_regressor_and_clipping():
    net = NeuralNetRegressor(Net, module__outputs=1, callbacks=[GradientNormClipping(.5)], verbose=0)
    finder = finder_for(net, (X, Y.astype('float32')[:, None]))
    assert finder.clip == .5 and len(finder.range_test(num_iter=30, progress=False).curve)


def test_without_data_there_is_a_sentence():
    with pytest.raises(ValueError, match='a NeuralNetClassifier has no data before it is fitted'):
        finder_for(classifier())


KINDS = {
    'callbacks': dict(callbacks=[EarlyStopping()]), 'freezer': dict(callbacks=[Freezer('layers.0.*')]),
    'scheduler': dict(callbacks=[LRScheduler('StepLR', step_size=1)]), 'no split': dict(train_split=None),
    'split': dict(train_split=ValidSplit(3, stratified=True)),
    'predefined': dict(train_split=predefined_split(pairs(32))), 'whole': dict(batch_size=-1),
    'weights': dict(criterion__weight=torch.tensor([1., 2.])),
    'groups': dict(optimizer__param_groups=[('layers.0.*', dict(lr=1e-4))]),
}


@pytest.mark.parametrize('kw', KINDS.values(), ids=KINDS)
def test_nets_of_other_kinds(kw):
    net = classifier(**kw)
    finder_for(net, (X, Y)).range_test(num_iter=30, progress=False).apply(.02)
    assert equal(fitted(net), fitted(classifier(**kw, lr=.02)))


def test_a_copy_in_a_worker_trains_its_own_module():
    finder = finder_for(classifier(), (X, Y)).range_test(seed=0, progress=False)
    home = finder.verify(seed=0, progress=False).trials
    with ProcessPoolExecutor(2, get_context('spawn')) as executor:
        assert finder.verify(seed=0, executor=executor, progress=False).trials == home


def test_inputs_alone_are_no_loader():
    with pytest.raises(ValueError, match='No y-values are given'): finder_for(classifier(), X)
