"""Sweeps of one parameter group, or of each in its turn"""
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder_nb import LRFinder, repeat
from lrfinder_nb.adapters.bound import Bound, BoundFinder

MSE = nn.functional.mse_loss


def data():
    x = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, (x[:, :1]*x[:, 1:2]).tanh()), 32, shuffle=True)


def make(kind=torch.optim.AdamW):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1))
    groups = [dict(params=model[0].parameters(), lr=1e-4), dict(params=model[2].parameters(), lr=1e-3)]
    return model, kind(groups, weight_decay=.1)


def weights(model): return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize('kind', (torch.optim.AdamW, torch.optim.SGD))
@pytest.mark.parametrize('group', (0, 1))
def test_the_others_are_at_rest_and_all_comes_back(tmp_path, kind, group):
    model, optimizer = make(kind)
    before, noted = weights(model), tmp_path/'moved'      # a file, since a list would be put back

    def note(optimizer, *rest):
        moved = [not all(map(torch.equal, layer.parameters(), begun))
                 for layer, begun in ((model[0], before[:2]), (model[2], before[2:]))]
        with noted.open('a') as f: f.write(f'{moved}\n')
    optimizer.register_step_post_hook(note)
    LRFinder(model, optimizer, MSE).range_test(data(), group=group, num_iter=20, progress=False)
    assert set(noted.read_text().splitlines()) == {str([i == group for i in range(2)])}
    assert all(map(torch.equal, before, weights(model)))
    assert [g['lr'] for g in optimizer.param_groups] == [1e-4, 1e-3]


@pytest.mark.parametrize('kw', ({}, dict(num_iter=60)))
def test_each_is_one_sweep_for_each_group(kw):
    model, optimizer = make()
    finder = LRFinder(model, optimizer, MSE)
    alone = [finder.range_test(data(), group=i, seed=0, progress=False, **kw).curve for i in range(2)]
    together = finder.range_test(data(), group='each', seed=0, progress=False, **kw)
    assert [*together._curves.values()] == alone


def test_the_rates_go_to_their_groups(tmp_path):
    model, optimizer = make()
    finder = LRFinder(model, optimizer, MSE).range_test(data(), group='each', seed=0, progress=False)
    found, noted = [suggestion.lr for suggestion in finder.suggestion], []
    optimizer.register_step_pre_hook(lambda opt, *rest: noted.append([g['lr'] for g in opt.param_groups]))
    finder.fit_one_cycle(data(), epochs=3, progress=False)
    assert [max(column) for column in zip(*noted)] == pytest.approx(found, rel=.05)
    assert found[0] != found[1] and ' | ' in repr(finder) and ' | ' in finder._repr_html_()


def test_one_group_leaves_the_others_their_own_rate():
    model, optimizer = make()
    finder, noted = LRFinder(model, optimizer, MSE).range_test(data(), group=0, seed=0, progress=False), []
    optimizer.register_step_pre_hook(lambda opt, *rest: noted.append([g['lr'] for g in opt.param_groups]))
    finder.fit_one_cycle(data(), epochs=3, progress=False)
    assert [max(column) for column in zip(*noted)] == pytest.approx([finder.suggestion.lr, 1e-3], rel=.05)


def test_verify_trains_the_group_alone(tmp_path):
    model, optimizer = make()
    finder = LRFinder(model, optimizer, MSE).range_test(data(), group=1, seed=0, progress=False)
    before, noted = weights(model), tmp_path/'lrs'

    def note(optimizer, *rest):
        with noted.open('a') as f: f.write(f"{optimizer.param_groups[0]['lr']}\n")
    optimizer.register_step_pre_hook(note)
    finder.verify(data(), seed=0, progress=False)
    assert finder.rung == 'verified' and set(noted.read_text().split()) == {'0.0'}
    assert all(map(torch.equal, before, weights(model)))


def test_a_file_remembers_the_group(tmp_path):
    model, optimizer = make()
    finder = LRFinder(model, optimizer, MSE).range_test(data(), group=1, num_iter=60, progress=False)
    finder.save(tmp_path/'sweep.json')
    other = LRFinder(*make(), MSE).load(tmp_path/'sweep.json')
    assert other.curve.ran_on['group'] == 1
    with pytest.raises(ValueError, match='whole trainings train all groups, got a sweep of group 1 alone'):
        other.verify(data(), data(), epochs=2)


def test_a_new_sweep_forgets_the_groups():
    finder = LRFinder(*make(), MSE).range_test(data(), group='each', seed=0, progress=False)
    assert isinstance(finder.suggestion, list)
    assert not isinstance(finder.range_test(data(), seed=0, progress=False).suggestion, list)


def test_a_group_without_an_answer_is_named():
    model, optimizer = make()
    model[0].requires_grad_(False)
    finder = LRFinder(model, optimizer, MSE).range_test(data(), group='each', seed=0, progress=False)
    assert finder.problem.startswith('group 0: ')


def test_repetitions_sweep_one_group():
    runs = repeat(make, MSE, data(), 2, group=1, progress=False)
    assert all(analysis.curve.ran_on['group'] == 1 for analysis in runs.runs)
    with pytest.raises(ValueError, match="repeat finds one rate, got group='each'"):
        repeat(make, MSE, data(), 2, group='each', progress=False)


def test_several_rates_are_not_written_where_there_is_room_for_one():
    model, optimizer = make()
    finder = BoundFinder(Bound(model, optimizer, MSE, train_dl=data(), write=lambda lr: 'nowhere'))
    finder.range_test(group='each', seed=0, progress=False)
    with pytest.raises(ValueError, match='apply writes one rate, got those of 2 groups'): finder.apply()
    assert finder.apply(1e-3).applied
