"""What the tools of the site share: settings, names of pages, directives of cells, cells of a page."""
import re
from configparser import ConfigParser
from pathlib import Path

import nbformat
from run_nbs import ROOT

DIRECTIVE = re.compile(r'^#\s*\|\s*([\w-]+)\s*:?\s*(.*?)\s*$')
LINK = re.compile(r'(!?\[[^\]]*\])\(([^)\s]+)\)')
EXPORTS = {'export', 'exports', 'exporti'}
EXPORTED = re.compile(r'^\d+[a-z]?_')


def settings(root=ROOT):
    "The section of settings.ini"
    ini = ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    return ini['DEFAULT']


def page(path):
    "Name of the page of the notebook at `path` in nbs/: modules lie in the folders of api/ without numbers"
    stem = EXPORTED.sub('', path.stem)
    return (Path('api')/path.parent/stem if stem != path.stem else path.with_suffix('')).as_posix()


def split(cell):
    "({directive: value}, code) of a code cell"
    lines, found = cell.source.splitlines(), {}
    while lines and (m := DIRECTIVE.match(lines[0])):
        found[m[1]] = m[2]
        lines.pop(0)
    return found, '\n'.join(lines).strip()


def exported(nb):
    "(directives, code) of each cell of a notebook that goes into its module"
    found = (split(c) for c in nb.cells if c.cell_type == 'code')
    return [(directives, code) for directives, code in found if EXPORTS & directives.keys()]


def module_of(nb):
    "Name of the module that a notebook exports, or None"
    found = (split(c)[0] for c in nb.cells if c.cell_type == 'code')
    return next((d['default_exp'] for d in found if 'default_exp' in d), None)


def escape(s): return s.replace('&', '&amp;').replace('"', '&quot;').replace('<', '&lt;')


def markdown(text, uid): return nbformat.v4.new_markdown_cell(text, id=uid)


def raw(html): return f'```{{raw}} html\n{html}\n```\n'


def source(code, outputs, uid, fold='', tags=()):
    "A code cell, folded behind the words `fold`"
    meta = {'tags': [*tags, *(['hide-input'] if fold else [])]}
    if fold: meta['mystnb'] = dict(code_prompt_show=fold, code_prompt_hide=fold)
    return nbformat.v4.new_code_cell(code, outputs=outputs, metadata=meta, id=uid)
