"""A Trainer of transformers, with a tiny model made from a configuration"""
import pytest
import torch

MISSING = 'transformers is not installed: make test-neighbours installs it'
transformers = pytest.importorskip('transformers', reason=MISSING)

from conftest import Rows, check_verify, equal, weights  # noqa: E402

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


def trainer(tmp_path, cls=None, lr=1e-3, parts=None, model=None, **kw):
    "A Trainer; `parts(model, lr)` gives further arguments of its own"
    arguments = dict(output_dir=str(tmp_path), max_steps=12, per_device_train_batch_size=8, report_to=[], use_cpu=True,
                     save_strategy='no', logging_steps=1, disable_tqdm=True, seed=3, learning_rate=lr)
    args = transformers.TrainingArguments(**arguments | kw)
    transformers.set_seed(3)
    own = (model or bert)()
    more = dict(train_dataset=Words(), eval_dataset=Words(32)) | (parts(own, lr) if parts else {})
    return (cls or transformers.Trainer)(model=own, args=args, **more)


def trained(t):
    t.train()
    return weights(t.model), [row['loss'] for row in t.state.log_history if 'loss' in row]


KINDS = [{}, dict(gradient_accumulation_steps=2), dict(bf16=True), dict(dataloader_num_workers=1),
         dict(optim='sgd', max_grad_norm=0), dict(label_smoothing_factor=.1),
         dict(gradient_checkpointing=True), dict(neftune_noise_alpha=5.), dict(full_determinism=True),
         dict(lr_scheduler_type='cosine', warmup_steps=3), dict(optim='adafactor'), dict(eval_strategy='epoch'),
         dict(dataloader_num_workers=1, dataloader_persistent_workers=True)]


class Stream(torch.utils.data.IterableDataset):
    "The same without a length"
    def __iter__(self): return iter([Words()[i] for i in range(96)])


class Uneven(torch.utils.data.Dataset):
    "Sequences of different lengths"
    def __len__(self): return 96
    def __getitem__(self, i): return dict(input_ids=torch.arange(1, 4 + i % 7), labels=torch.tensor(i % 2))


def padded(rows):
    width = max(len(row['input_ids']) for row in rows)
    ids = torch.stack([torch.nn.functional.pad(row['input_ids'], (0, width - len(row['input_ids']))) for row in rows])
    return dict(input_ids=ids, labels=torch.stack([row['labels'] for row in rows]))


def frozen():
    model = bert()
    for weight in model.bert.parameters(): weight.requires_grad_(False)
    return model


def doubled(outputs, labels, num_items_in_batch=None):
    return 2*torch.nn.functional.cross_entropy(outputs['logits'], labels)


def adam(model, lr): return torch.optim.AdamW(model.parameters(), lr)
def warming(opt): return transformers.get_linear_schedule_with_warmup(opt, 3, 12)
def one_cycle(opt, lr): return torch.optim.lr_scheduler.OneCycleLR(opt, lr, total_steps=14)


def of_two_groups(model, lr):
    "An optimizer of two groups, one at a tenth of the rate of the other, with a warm-up from nothing"
    opt = torch.optim.SGD([dict(params=model.bert.parameters(), lr=lr/10),
                           dict(params=model.classifier.parameters(), lr=lr)])
    return dict(optimizers=(opt, warming(opt)))


PARTS = {
    'iterable': lambda model, lr: dict(train_dataset=Stream()),
    'lengths': lambda model, lr: dict(train_dataset=Uneven(), data_collator=padded),
    'several to evaluate': lambda model, lr: dict(eval_dataset=dict(a=Words(16), b=Words(8))),
    'a loss': lambda model, lr: dict(compute_loss_func=doubled),
    'an optimizer': lambda model, lr: dict(optimizers=(adam(model, lr), None)),
    'a scheduler': lambda model, lr: (lambda opt: dict(optimizers=(opt, warming(opt))))(adam(model, lr)),
    'groups': of_two_groups,
}


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


@pytest.mark.parametrize('parts', PARTS.values(), ids=PARTS)
def test_trainers_with_parts_of_the_users(tmp_path, parts):
    swept = trainer(tmp_path, parts=parts, eval_strategy='epoch')
    finder = finder_for(swept).range_test(progress=False)
    finder.apply(*([2e-3] if finder.problem else []))
    a, b = trained(swept), trained(trainer(tmp_path, lr=swept.args.learning_rate, parts=parts, eval_strategy='epoch'))
    assert a[0] and a[1] == pytest.approx(b[1], rel=1e-6)
    assert all(map(torch.allclose, a[0], b[0])) and (parts is of_two_groups or equal(a[0], b[0]))


def test_a_cycle_of_torch_ends_at_the_rate_that_was_written(tmp_path):
    def cycle(model, lr):
        opt = adam(model, lr)
        return dict(optimizers=(opt, one_cycle(opt, lr)))
    swept = trainer(tmp_path, parts=cycle)
    finder_for(swept).range_test(num_iter=20, progress=False).apply(2e-2)
    a, b = trained(swept), trained(trainer(tmp_path, lr=2e-2, parts=cycle))
    assert a[1] == pytest.approx(b[1], rel=1e-4)
    assert swept.state.log_history[3]['learning_rate'] == pytest.approx(2e-2, rel=.05)


def test_the_ratios_of_groups_are_kept_in_a_warm_up_from_nothing(tmp_path):
    t = trainer(tmp_path, parts=of_two_groups)
    rates = []
    class Noting:
        def step(self, now): rates.append([group['lr'] for group in now.optimizer.param_groups])
    finder_for(t).range_test(num_iter=9, progress=False, callbacks=[Noting()])
    assert all(low == pytest.approx(high/10) for low, high in rates)


@pytest.mark.parametrize('model', [frozen, None])
def test_a_frozen_body_and_a_model_init(tmp_path, model):
    def make(lr):
        if model: return trainer(tmp_path, lr=lr, model=model)
        args = trainer(tmp_path, lr=lr).args
        transformers.set_seed(3)
        return transformers.Trainer(model_init=bert, args=args, train_dataset=Words())
    swept = make(1e-3)
    finder_for(swept).range_test(progress=False).apply(2e-2)
    a, b = trained(swept), trained(make(2e-2))
    assert a[1] == b[1] and equal(a[0], b[0])


def test_a_trainer_for_sequences_to_sequences(tmp_path):
    sizes = dict(encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
                 encoder_ffn_dim=32, decoder_ffn_dim=32)
    config = transformers.BartConfig(vocab_size=32, d_model=16, max_position_embeddings=32, **sizes)
    class Copies(torch.utils.data.Dataset):
        def __len__(self): return 96
        def __getitem__(self, i): return dict(input_ids=Words().ids[i], labels=Words().ids[i])
    def make(lr):
        args = transformers.Seq2SeqTrainingArguments(
            str(tmp_path), max_steps=8, report_to=[], use_cpu=True, save_strategy='no', logging_steps=1,
            disable_tqdm=True, seed=3, learning_rate=lr, predict_with_generate=True)
        transformers.set_seed(3)
        model = transformers.BartForConditionalGeneration(config)
        return transformers.Seq2SeqTrainer(model=model, args=args, train_dataset=Copies(), eval_dataset=Copies())
    swept = make(1e-3)
    finder = finder_for(swept).range_test(progress=False).apply()
    a, b = trained(swept), trained(make(finder.suggestion.lr))
    assert a[1] == b[1] and equal(a[0], b[0])


def test_a_step_that_has_moved_shows_before_the_sweep(tmp_path, monkeypatch):
    t = trainer(tmp_path)
    monkeypatch.delattr(transformers.Trainer, '_prepare_inputs')
    with pytest.raises(TypeError, match='does not know this transformers .*_prepare_inputs'): finder_for(t)


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
    check_verify(trainer(tmp_path))


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
