"""A Trainer of transformers, with a tiny model made from a configuration"""
import pytest
import torch

MISSING = 'transformers is not installed: make test-neighbours installs it'
transformers = pytest.importorskip('transformers', reason=MISSING)

from conftest import Rows, equal, weights  # noqa: E402

from lrfinder_nb import finder_for  # noqa: E402


class Words(torch.utils.data.Dataset):
    "Short sequences whose class is whether token 5 is in them"
    def __init__(self, n=96):
        g = torch.Generator().manual_seed(0)
        self.ids = torch.randint(1, 30, (n, 10), generator=g)
    def __len__(self): return len(self.ids)
    def __getitem__(self, i): return dict(input_ids=self.ids[i], labels=(self.ids[i] == 5).any().long())


def bert():
    config = transformers.BertConfig(vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                     intermediate_size=32, max_position_embeddings=16)
    return transformers.BertForSequenceClassification(config)


def trainer(tmp_path, cls=None, lr=1e-3, **kw):
    arguments = dict(output_dir=str(tmp_path), max_steps=12, per_device_train_batch_size=8, report_to=[], use_cpu=True,
                     save_strategy='no', logging_steps=1, disable_tqdm=True, seed=3, learning_rate=lr)
    args = transformers.TrainingArguments(**arguments | kw)
    transformers.set_seed(3)
    return (cls or transformers.Trainer)(model=bert(), args=args, train_dataset=Words(), eval_dataset=Words(32))


def trained(t):
    t.train()
    return weights(t.model), [row['loss'] for row in t.state.log_history if 'loss' in row]


KINDS = [{}, dict(gradient_accumulation_steps=2), dict(bf16=True), dict(dataloader_num_workers=1),
         dict(optim='sgd', max_grad_norm=0), dict(label_smoothing_factor=.1)]


@pytest.mark.parametrize('kw', KINDS)
def test_training_after_the_sweep_is_that_with_the_rate_set_by_hand(tmp_path, held, kw):
    held('transformers', 'sweep', 'train', 'restored')
    swept = trainer(tmp_path, **kw)
    finder = finder_for(swept).range_test(progress=False)
    if finder.problem: finder.apply(2e-3)
    else: finder.apply()
    a = trained(swept)
    b = trained(trainer(tmp_path, lr=swept.args.learning_rate, **kw))
    assert a[1] == b[1] and equal(a[0], b[0])


def test_a_sweep_leaves_no_trace(tmp_path):
    swept = trainer(tmp_path)
    rng, noticed = torch.get_rng_state(), len(swept.accelerator._dataloaders)
    finder_for(swept).range_test(progress=False).verify(progress=False)
    assert torch.equal(rng, torch.get_rng_state()) and swept.optimizer is None
    assert len(swept.accelerator._dataloaders) == noticed
    a = trained(swept)
    b = trained(trainer(tmp_path))
    assert a[1] == b[1] and equal(a[0], b[0])


def test_verify_short_and_whole(tmp_path, held):
    held('transformers', 'verify')
    t = trainer(tmp_path)
    before = weights(t.model)
    finder = finder_for(t).range_test(progress=False).verify(progress=False)
    assert finder.trials and finder.rung == 'verified'
    finder.verify(epochs=1, most=2, progress=False)
    assert equal(before, weights(t.model)) and len(finder.trials.trainings) == 2


def test_a_subclass_with_its_own_loss_and_counts(tmp_path):
    class Own(transformers.Trainer):
        def __init__(self, *args, **kw):
            super().__init__(*args, **kw)
            self._metrics = dict(train=dict(calls=[]))
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            self._metrics['train']['calls'].append(1)
            outputs = model(input_ids=inputs['input_ids'])
            loss = torch.nn.functional.cross_entropy(outputs.logits, inputs['labels'])
            return (loss, outputs) if return_outputs else loss
    t = trainer(tmp_path, Own)
    finder = finder_for(t).range_test(num_iter=20, progress=False)
    assert len(finder.curve) and t._metrics == dict(train=dict(calls=[]))


def test_an_optimizer_of_the_users_and_one_of_an_earlier_training(tmp_path):
    t = trainer(tmp_path)
    opt = torch.optim.SGD([dict(params=t.model.bert.parameters(), lr=1e-4),
                           dict(params=t.model.classifier.parameters(), lr=1e-3)])
    t.optimizer = opt
    finder = finder_for(t).range_test(progress=False).apply(1e-2)
    assert [g['lr'] for g in opt.param_groups] == [pytest.approx(1e-3), 1e-2] and 'trainer.optimizer' in finder.applied
    again = trainer(tmp_path)
    again.train()
    after = weights(again.model)
    finder_for(again).range_test(num_iter=20, progress=False)
    assert equal(after, weights(again.model))


def test_what_cannot_be_swept_gets_a_sentence(tmp_path):
    t = trainer(tmp_path)
    t.train_dataset = None
    with pytest.raises(ValueError, match='no train set.*train_dataset='): finder_for(t)
    t.train_dataset = Words()
    del t.args
    said = r"does not know this transformers \([\d.]+\): .*no attribute 'args'"
    with pytest.raises(TypeError, match=said): finder_for(t)


def test_rows_are_those_of_the_other_tests(): assert len(Rows()) == 192
