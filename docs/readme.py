"""Write README.md and its pictures from nbs/index.ipynb; `--check` only says whether they are in step."""
import base64
import re
import sys
from configparser import ConfigParser
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent
PICTURES = 'README_files'
OPTION = re.compile(r'^#\|\s*([\w-]+)(?::\s*(\S+))?\s*$')

TWIN = re.compile(r'<div class="lrx-\d+"><img alt="([^"]*)"[^>]*base64,([^"]+)"/><p>[^<]*</p></div>')


def picture(m, outputs):
    "The explorer's picture as a file beside the README, since pages strip pictures in the text"
    name = f'{PICTURES}/explorer_{sum("explorer" in n for n in outputs)}.svg'
    outputs[name] = base64.b64decode(m[2])
    return f'![{m[1]}]({name})'


def shown(cell):
    "(source, outputs) of a code cell as the reader sees it, or None where it is hidden"
    options, lines = {}, cell.source.splitlines()
    while lines and (m := OPTION.match(lines[0])): options[m[1]] = m[2]; lines.pop(0)
    if 'hide' in options or options.get('include') == 'false': return None
    return ('' if options.get('echo') == 'false' else '\n'.join(lines).strip()), [] if options.get('output') == 'false' else cell.outputs


def render():
    "Contents of README.md and of its pictures, by path"
    ini = ConfigParser(delimiters=['='])
    ini.read(ROOT/'settings.ini', encoding='utf-8')
    nb, out = nbformat.read(ROOT/'nbs/index.ipynb', 4), nbformat.v4.new_notebook(metadata={'language_info': {'name': 'python'}})
    for c in nb.cells:
        if c.cell_type == 'markdown': out.cells.append(nbformat.v4.new_markdown_cell(c.source))
        elif c.cell_type == 'code' and (s := shown(c)):
            if s[0]: out.cells.append(nbformat.v4.new_code_cell(s[0], outputs=s[1]))
            else: out.cells += [nbformat.v4.new_markdown_cell(o.data['text/markdown']) for o in s[1]]
    text, res = MarkdownExporter().from_notebook_node(out, resources={'output_files_dir': PICTURES, 'unique_key': 'index'})
    text = re.sub(r'\]\((?!https?:|#|README_files)([\w./-]+\.ipynb)', r'](nbs/\1', text)       # notebooks lie one folder down from here
    text = re.sub(r'\]\(\.\./', '](', text)
    text = TWIN.sub(lambda m: picture(m, res['outputs']), text)
    text = text.replace('![png](', '![What the finder shows](')
    head, body = text.lstrip().split('\n', 1)
    text = f"{head}\n\n<!-- Written from nbs/index.ipynb by docs/readme.py: edit the notebook. -->\n{body}"
    text = re.sub(r'\n{3,}', '\n\n', '\n'.join(l.rstrip() for l in text.strip().splitlines())) + '\n'
    return {ROOT/'README.md': text.encode()} | {ROOT/name: data for name, data in res['outputs'].items()}


def main(args):
    files = render()
    stale = [p for p, data in files.items() if not p.exists() or p.read_bytes() != data]
    stale += [p for p in (ROOT/PICTURES).glob('*') if p not in files]
    if '--check' in args:
        for p in stale: print(f'{p.relative_to(ROOT)} is out of date; run python docs/readme.py')
        return bool(stale)
    for p in stale:
        if p in files: p.parent.mkdir(exist_ok=True); p.write_bytes(files[p])
        else: p.unlink()


if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
