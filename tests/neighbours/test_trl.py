"SFTTrainer of TRL, a subclass of Trainer with its own batches, loss and counts, also with LoRA"
import pytest

MISSING = 'trl is not installed: make test-neighbours installs it'
trl = pytest.importorskip('trl', reason=MISSING)
peft = pytest.importorskip('peft', reason=MISSING)

import torch  # noqa: E402
import transformers  # noqa: E402
from conftest import check_verify, equal, weights  # noqa: E402
from datasets import Dataset, disable_progress_bars  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402

from lrfinder_nb import finder_for  # noqa: E402

disable_progress_bars()
WORDS = [f'w{i}' for i in range(29)]


def tokenizer():
    "A tokenizer of thirty-two words, made here"
    numbers = {word: i for i, word in enumerate(['<pad>', '<eos>', '<unk>', *WORDS])}
    made = Tokenizer(models.WordLevel(numbers, unk_token='<unk>'))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token='<pad>', eos_token='<eos>',
                                                unk_token='<unk>')


def texts(n, seed=0):
    "Each word is followed by the next one"
    g = torch.Generator().manual_seed(seed)
    starts = torch.randint(0, 29, (n,), generator=g).tolist()
    return Dataset.from_list([dict(text=' '.join(WORDS[(i + k) % 29] for k in range(4 + i % 7))) for i in starts])


def sft(tmp_path, lr=1e-3, lora=False, **kw):
    sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                 num_key_value_heads=2, max_position_embeddings=64)
    config = transformers.LlamaConfig(vocab_size=32, pad_token_id=0, eos_token_id=1, **sizes)
    transformers.set_seed(3)
    args = trl.SFTConfig(str(tmp_path), max_steps=8, per_device_train_batch_size=4, report_to=[], use_cpu=True,
                         save_strategy='no', logging_steps=1, disable_tqdm=True, seed=3, learning_rate=lr,
                         max_length=32, bf16=False, **kw)
    own = dict(peft_config=peft.LoraConfig(r=4, target_modules=['q_proj', 'v_proj'])) if lora else {}
    return trl.SFTTrainer(model=transformers.LlamaForCausalLM(config), args=args, train_dataset=texts(64),
                          eval_dataset=texts(16, 1), processing_class=tokenizer(), **own)


def trained(t):
    t.train()
    return weights(t.model), [row['loss'] for row in t.state.log_history if 'loss' in row]


KINDS = [{}, dict(gradient_accumulation_steps=2), dict(packing=True), dict(lora=True)]


@pytest.mark.parametrize('kw', KINDS)
def test_training_after_the_sweep_is_that_with_the_rate_set_by_hand(tmp_path, held, kw):
    held('trl', 'sweep', 'train', 'restored')
    if kw.get('lora'): held('peft', 'sweep', 'train', 'restored')
    swept = sft(tmp_path, **kw)
    before = weights(swept.model)
    finder = finder_for(swept).range_test(progress=False)
    assert equal(before, weights(swept.model)) and not any(swept._metrics['train'].values())
    finder.apply(*([2e-3] if finder.problem else []))
    a, b = trained(swept), trained(sft(tmp_path, lr=swept.args.learning_rate, **kw))
    assert a[1] == b[1] and equal(a[0], b[0])


def test_verify(tmp_path, held):
    held('trl', 'verify')
    check_verify(sft(tmp_path))
