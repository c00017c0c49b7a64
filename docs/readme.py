"""Write README.md and its pictures from nbs/index.ipynb; `--check` only says whether they are in step.

Links and pictures are absolute, so that they work wherever the text is shown; the addresses come from settings.ini.
"""
import re
import sys

import nbformat
from cells import LINK, page, settings, split
from nbconvert import MarkdownExporter
from run_nbs import ROOT

PICTURES = 'README_files'

def absolute(target):
    "The address that a link of the notebook has in the README: on the site, or in the repository"
    ini = settings()
    if re.match(r'https?:|#', target): return target
    name, _, anchor = target.partition('#')
    path = (ROOT/name if name.startswith(PICTURES) else ROOT/'nbs'/name).resolve()
    local = path.relative_to(ROOT).as_posix()
    if path.suffix in ('.png', '.gif'):
        return f"https://raw.githubusercontent.com/{ini['user']}/{ini['repo']}/{ini['branch']}/{local}"
    if not path.exists(): raise SystemExit(f'nbs/index.ipynb: broken link to {target}')
    if path.suffix == '.ipynb': name = page(path.relative_to(ROOT/'nbs'))
    if path.parent == ROOT/'docs/pages': name = path.stem
    if path.parent == ROOT/'docs/pages' or path.suffix == '.ipynb':
        return f"{ini['doc_host']}{ini['doc_baseurl']}/{name}.html" + f'#{anchor}'*bool(anchor)
    kind = 'tree' if path.is_dir() else 'blob'
    return f"{ini['git_url']}/{kind}/{ini['branch']}/{local}"


def shown(cell):
    "(source, outputs) of a code cell as the reader sees it, or None where it is hidden"
    found, code = split(cell)
    if 'hide' in found or found.get('include') == 'false': return None
    outputs = [] if found.get('output') == 'false' else cell.outputs
    return '' if found.get('echo') == 'false' else code, outputs


def render():
    "Contents of README.md and of its pictures, by path"
    nb = nbformat.read(ROOT/'nbs/index.ipynb', 4)
    out = nbformat.v4.new_notebook(metadata={'language_info': {'name': 'python'}})
    for c in nb.cells:
        if c.cell_type == 'markdown': out.cells.append(nbformat.v4.new_markdown_cell(c.source))
        elif c.cell_type == 'code' and (s := shown(c)):
            if s[0]: out.cells.append(nbformat.v4.new_code_cell(s[0], outputs=s[1]))
            else: out.cells += [nbformat.v4.new_markdown_cell(o.data['text/markdown']) for o in s[1]]
    names = {'output_files_dir': PICTURES, 'unique_key': 'index'}
    text, res = MarkdownExporter().from_notebook_node(out, resources=names)
    text = text.replace('![png](', '![What the finder shows](')
    text = LINK.sub(lambda m: f'{m[1]}({absolute(m[2])})', text)
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
        p.parent.mkdir(exist_ok=True)
        if p in files: p.write_bytes(files[p])
        else: p.unlink()


if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
