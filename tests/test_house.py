"""The rules of the house for code: lines, functions, modules and cells that a stranger can read

What is still exempt has a line under `per-file-ignores` in pyproject.toml.
"""
import ast
import io
import json
import subprocess
import sys
import tokenize
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from statistics import median, quantiles

import pytest

ROOT = Path(__file__).resolve().parent.parent
RUFF = tomllib.loads((ROOT/'pyproject.toml').read_text(encoding='utf-8'))['tool']['ruff']
EXEMPT = tuple(name for name, codes in RUFF['lint']['per-file-ignores'].items() if 'E702' in codes)
LONGEST = RUFF['line-length']
LAYERS = ('core', 'show', 'engine', 'train', 'project', 'adapters')
FOLDERS = (*(f'lrfinder_nb/{name}' for name in LAYERS), 'tests', 'benchmarks', 'docs')


def own(path):
    "Whether the rules hold for the file at `path` already"
    name = path.relative_to(ROOT).as_posix()
    if path.stem in ('__init__', '_modidx') or '.ipynb_checkpoints' in path.parts: return False
    return not any(fnmatch(name, pattern) for pattern in EXEMPT)


def written(folder): return [p for p in sorted((ROOT/folder).rglob('*.py')) if own(p)]


def lines(path):
    "Lines of a file, without the list of names that nbdev writes on one line"
    return [line for line in path.read_text(encoding='utf-8').splitlines() if not line.startswith('__all__ = ')]


def cells(path):
    """(index, source) of the code cells of the notebook at `path`

    Shell commands and magics are left out, and so is a semicolon at the very end, which hides the value of a cell.
    """
    for i, cell in enumerate(json.loads(path.read_text(encoding='utf-8'))['cells']):
        kept = [line for line in ''.join(cell['source']).splitlines() if not line.startswith(('!', '%'))]
        if cell['cell_type'] == 'code': yield i, '\n'.join(kept).rstrip().removesuffix(';')


NOTEBOOKS = [p for p in sorted((ROOT/'nbs').rglob('*.ipynb')) if own(p)]


def semicolons(code):
    "Tokens of the code that are semicolons"
    return [t for t in tokenize.generate_tokens(io.StringIO(code).readline) if t.string == ';']


def functions(code):
    "(name, number of lines) of the functions in `code`"
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [n for n in ast.walk(ast.parse(code)) if isinstance(n, kinds)]
    return [(n.name, n.end_lineno - n.lineno + 1) for n in nodes]


def test_ruff_has_no_complaint():
    call = [sys.executable, '-m', 'ruff', 'check', '-q', '--output-format', 'concise']
    found = subprocess.run(call, capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 0, found.stdout + found.stderr


def test_most_lines_are_short():
    "Of all code together, 95 lines of 100 have at most 105 characters"
    found = [len(line) for folder in FOLDERS for p in written(folder) for line in lines(p) if line.strip()]
    assert quantiles(found, n=20)[-1] <= 105


@pytest.mark.parametrize('folder', FOLDERS)
def test_no_line_is_long(folder):
    long = [(p.name, line) for p in written(folder) for line in lines(p) if len(line) > LONGEST]
    assert not long


@pytest.mark.parametrize('folder', FOLDERS)
def test_modules_and_functions_are_short(folder):
    long = {str(p.relative_to(ROOT)): len(lines(p)) for p in written(folder) if len(lines(p)) > 320}
    assert folder == 'tests' or not long
    found = [(p.name, *f) for p in written(folder) for f in functions(p.read_text(encoding='utf-8'))]
    assert not [f for f in found if f[-1] > 40]


def test_cells_have_one_statement_a_line_and_short_lines():
    wrong = []
    for path in NOTEBOOKS:
        for i, code in cells(path):
            where = f'{path.relative_to(ROOT).as_posix()}, cell {i}'
            if semicolons(code): wrong.append(f'{where}: a semicolon')
            longest = max([len(line) for line in code.splitlines() if not line.startswith('#|')], default=0)
            if longest > LONGEST: wrong.append(f'{where}: a line of {longest} characters')
    assert not wrong, '\n'.join(wrong)


def wide_comments(code):
    "Last columns of the comments in `code` that end beyond column 80; directives of a cell are no comments"
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return [t.end[1] for t in tokens if t.type == tokenize.COMMENT and t.end[1] > 80 and t.string[:2] != '#|']


def test_comments_of_cells_fit_80_columns():
    "A page of 1280 pixels shows them beside their code, without a second line"
    wrong = [(path.relative_to(ROOT).as_posix(), i, columns)
             for path in NOTEBOOKS for i, code in cells(path) if (columns := wide_comments(code))]
    assert not wrong, wrong


def test_the_median_export_cell_is_short():
    sizes = []
    for path in NOTEBOOKS:
        for _, code in cells(path):
            if not code.startswith('#| export'): continue
            if all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(code).body): continue
            sizes.append(len([line for line in code.splitlines() if not line.startswith('#|')]))
    assert not sizes or median(sizes) <= 10, sorted(sizes)


def test_the_rules_can_fail():
    assert wide_comments(f'{"x = 1":70}  # too wide') == [82] and not wide_comments(f'{"x = 1":70}  # fits')
    assert semicolons('a = 1; b = 2') and not semicolons("a = ';'  # x; y")
    assert functions('def f():\n    pass\n\nclass A:\n    def g(self): pass') == [('f', 2), ('g', 1)]
