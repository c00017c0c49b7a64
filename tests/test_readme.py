"""What a reader copies from the README into a shell gives a rate; the Trainer's lines are tried in tests/neighbours"""
import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from IPython.display import Markdown

from lrfinder_nb.project.shell import write_digits

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT/'docs'))
from cells import settings  # noqa: E402


def commands(text):
    "The lines for a shell in a README that find a rate"
    blocks = re.findall(r'^```(\w*)\n(.*?)^```$', text, re.M | re.S)
    found = [block for language, block in blocks if not language and block.startswith('ml-')]
    assert len(found) == 1, found
    return found[0]


@pytest.fixture
def folder(tmp_path):
    "A folder of images where the README has one, with a few images of each class"
    write_digits(tmp_path/'data/my_dataset')
    for images in (tmp_path/'data/my_dataset').rglob('*'):
        if not images.is_dir(): continue
        for image in sorted(images.glob('*.png'))[60:]: image.unlink()
    return tmp_path


def install(bin):
    "The commands of the package in the folder `bin`, as pip writes them"
    bin.mkdir()
    for line in settings()['console_scripts'].splitlines():
        name, _, place = line.partition('=')
        module, _, function = place.partition(':')
        script = f'#!{sys.executable}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n'
        (bin/name).write_text(script)
        (bin/name).chmod(0o755)


def copied(text, folder):
    "What bash says and does with the lines as they are"
    install(folder/'bin')
    env = dict(os.environ, PATH=f"{folder/'bin'}{os.pathsep}{os.environ['PATH']}", OMP_NUM_THREADS='1')
    return subprocess.run(['bash', '-e', '-c', text], cwd=folder, env=env, capture_output=True, text=True, timeout=300)


def test_the_lines_for_the_shell_find_a_rate(folder):
    ran = copied(commands((ROOT/'README.md').read_text(encoding='utf-8')), folder)
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said[-3000:]
    found, = folder.glob('runs/lr_finder/*/suggestion.json')
    rate = json.loads(found.read_text())['lr']
    assert 1e-4 < rate < 1 and f'{rate:.1e}'[:2] in said, said[-2000:]


def test_lines_that_are_wrong_are_noticed(folder):
    lines = commands((ROOT/'README.md').read_text(encoding='utf-8'))
    ran = copied(lines.replace('data/my_dataset', 'data/other'), folder)
    assert ran.returncode != 0 and 'data/other' in ran.stdout + ran.stderr


# Numbers that were measured

def shown(code, names):
    "The value of the last line of a cell"
    body = ast.parse(code).body
    exec(compile(ast.Module(body[:-1], []), 'cell', 'exec'), names)
    return eval(compile(ast.Expression(body[-1].value), 'cell', 'eval'), names)


@pytest.mark.parametrize('name', ['index.ipynb', 'tutorials/trust.ipynb'])
def test_claims_are_those_of_the_results(name, monkeypatch):
    "What a page says of benchmarks/results is what stands there now"
    path, names = ROOT/'nbs'/name, dict(json=json, Path=Path, Markdown=Markdown)
    monkeypatch.chdir(path.parent)
    cells = [c for c in json.loads(path.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code']
    claims = [c for c in cells if 'benchmarks/results' in ''.join(c['source'])]
    assert claims
    for c in claims:
        stored = ''.join(c['outputs'][0]['data']['text/markdown'])
        assert stored == shown(''.join(c['source']), names).data, f'run python docs/run_nbs.py nbs/{name}'
