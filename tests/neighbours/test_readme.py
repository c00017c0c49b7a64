"""What a reader copies from the README beside a Trainer of transformers gives a rate, and a training with it"""
import re
from pathlib import Path

import pytest

MISSING = 'transformers is not installed: make test-neighbours installs it'
pytest.importorskip('transformers', reason=MISSING)

from test_transformers import trainer as small_trainer  # noqa: E402

README = Path(__file__).resolve().parents[2]/'README.md'


def lines():
    "The code of the README that takes a Trainer"
    blocks = re.findall(r'^```py\n(.*?)^```$', README.read_text(encoding='utf-8'), re.M | re.S)
    found = [block for block in blocks if 'finder_for(trainer)' in block]
    assert len(found) == 1, found
    return found[0]


def test_the_lines_for_a_trainer_find_a_rate_and_train_with_it(tmp_path):
    trainer = small_trainer(tmp_path)
    before = trainer.args.learning_rate
    names = dict(trainer=trainer)
    exec(compile(lines(), str(README), 'exec'), names)
    rate = names['finder'].suggestion.lr
    assert trainer.args.learning_rate == rate != before and 1e-6 < rate < 1
    assert trainer.state.global_step == trainer.args.max_steps
    used = [row['learning_rate'] for row in trainer.state.log_history if 'learning_rate' in row]
    assert max(used) == pytest.approx(rate)
