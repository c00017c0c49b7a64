"""What CONTRIBUTING promises to those who change the library, done in a copy of the repository"""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
NEEDED = 'nbs', 'lrfinder_nb', 'settings.ini', 'pyproject.toml'
USE = '''
import numpy as np
from lrfinder_nb import LossCurve, RULES, analyse
x = np.linspace(-7, 1, 100)
curve = LossCurve(10**x, 2.3 - 2/(1 + np.exp(-4*(x + 2.5))) + .5*10**(2*(x + .5)))
cautious, default = analyse(curve, rule='cautious').suggestion, analyse(curve).suggestion
assert cautious.lr < default.lr and 'cautious' in RULES and cautious.interval[0] < cautious.lr
print(cautious.why)
'''


def recipe():
    "(lines of the section that adds a rule, the notebook it names, the code it shows)"
    section = re.search(r'## Add a suggestion rule\n(.*?)\n## ', (ROOT/'CONTRIBUTING.md').read_text(), re.S)[1]
    notebook = re.search(r'`(nbs/\S+\.ipynb)`', section)[1]
    code = re.search(r'```python\n(.*?)\n```', section, re.S)[1]
    return [line for line in section.splitlines() if line.strip()], notebook, code


def modules(top): return {p.relative_to(top): p.read_bytes() for p in (top/'lrfinder_nb').rglob('*.py')}


def run(*command, cwd):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    env = {**os.environ, 'PYTHONPATH': str(cwd), 'PATH': path}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_stranger_adds_a_rule_by_editing_one_notebook(tmp_path):
    lines, notebook, code = recipe()
    assert len(lines) <= 10
    for name in NEEDED:
        copy = shutil.copytree if (ROOT/name).is_dir() else shutil.copy
        copy(ROOT/name, tmp_path/name)
    nb = nbformat.read(tmp_path/notebook, 4)
    nb.cells += [nbformat.v4.new_markdown_cell('Some like it slow.'), nbformat.v4.new_code_cell(code)]
    nbformat.write(nb, tmp_path/notebook)
    run('nbdev_export', cwd=tmp_path)
    assert 'a tenth of' in run(sys.executable, '-c', USE, cwd=tmp_path)
    before, after = modules(ROOT), modules(tmp_path)
    changed = {str(p) for p in after if before.get(p) != after[p]}
    assert changed == {'lrfinder_nb/core/rules.py', 'lrfinder_nb/_modidx.py'}
