"Optimizers of schedulefree, prodigyopt, transformers and timm"
import pytest
import torch
from torch import nn

MISSING = 'schedulefree, prodigyopt, timm or transformers is not installed: make test-neighbours installs them'
schedulefree = pytest.importorskip('schedulefree', reason=MISSING)
prodigyopt = pytest.importorskip('prodigyopt', reason=MISSING)
timm = pytest.importorskip('timm', reason=MISSING)
optimization = pytest.importorskip('transformers.optimization', reason=MISSING)

from conftest import equal, loader, net, weights  # noqa: E402
from timm.optim import create_optimizer_v2  # noqa: E402

from lrfinder_nb import LRFinder, fit_one_cycle  # noqa: E402

FREE = dict(sgd=schedulefree.SGDScheduleFree, adamw=schedulefree.AdamWScheduleFree,
            radam=schedulefree.RAdamScheduleFree)


@pytest.mark.parametrize('kind', FREE)
@pytest.mark.parametrize('valid', (False, True))
def test_a_schedule_free_optimizer_is_swept_and_trained(held, kind, valid):
    held('schedulefree', 'sweep', 'train', 'restored')
    ends = []
    for swept in (False, True):
        torch.manual_seed(0)
        model, dl = net(), loader()
        optimizer = FREE[kind](model.parameters())
        finder = LRFinder(model, optimizer, nn.CrossEntropyLoss())
        if swept: finder.range_test(dl, dl if valid else None, num_iter=30, progress=False)
        history = fit_one_cycle(model, optimizer, nn.CrossEntropyLoss(), dl, dl, max_lr=.01, epochs=2, progress=False)
        ends.append(weights(model))
    assert equal(*ends) and not optimizer.param_groups[0]['train_mode']
    x, y = dl.dataset.tensors
    loss = nn.functional.cross_entropy(model.eval()(x), y).item()
    assert history.epochs[-1]['valid_loss'] == pytest.approx(loss, rel=1e-5)


def test_verify_with_a_schedule_free_optimizer(held):
    held('schedulefree', 'verify')
    torch.manual_seed(0)
    model = net()
    finder = LRFinder(model, schedulefree.AdamWScheduleFree(model.parameters()), nn.CrossEntropyLoss())
    finder.range_test(loader(), seed=0, progress=False).verify(loader(), seed=0, progress=False)
    assert finder.rung == 'verified'


def test_what_sets_its_own_rate_gets_a_sentence():
    model = net()
    finder = LRFinder(model, prodigyopt.Prodigy(model.parameters()), nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match='Prodigy estimates its own rate'): finder.range_test(loader(), progress=False)
    with pytest.raises(ValueError, match='this Adafactor sets its own rate, got lr=None'):
        LRFinder(model, optimization.Adafactor(model.parameters()), nn.CrossEntropyLoss())
    given = optimization.Adafactor(model.parameters(), lr=1e-3, relative_step=False, scale_parameter=False)
    assert LRFinder(model, given, nn.CrossEntropyLoss()).range_test(loader(), num_iter=20, progress=False).curve


def test_layers_of_timm_keep_their_shares(held, tmp_path):
    held('timm', 'sweep', 'restored')
    torch.manual_seed(0)
    model = timm.create_model('vit_tiny_patch16_224', num_classes=2, img_size=32, depth=2, embed_dim=48)
    optimizer = create_optimizer_v2(model, opt='adamw', lr=1e-3, layer_decay=.5)
    shares, seen = [group['lr_scale'] for group in optimizer.param_groups], tmp_path/'shares'
    assert len(set(shares)) > 2

    def note(optimizer, *rest):
        lrs = [group['lr'] for group in optimizer.param_groups]
        with seen.open('a') as f: f.write(str([round(lr/max(lrs), 6) for lr in lrs]) + '\n')
    handle = optimizer.register_step_pre_hook(note)
    before = weights(model)
    images = torch.randn(32, 3, 32, 32)
    batches = [(images, (images.mean((1, 2, 3)) > 0).long())]
    LRFinder(model, optimizer, nn.CrossEntropyLoss()).range_test(batches, num_iter=5, progress=False)
    handle.remove()
    assert set(seen.read_text().splitlines()) == {str([round(share/max(shares), 6) for share in shares])}
    assert equal(before, weights(model)) and {group['lr'] for group in optimizer.param_groups} == {1e-3}
