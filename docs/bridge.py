"""nbdev notebooks become pages for Sphinx and myst-nb. Nothing is run: the outputs are those stored there."""
import ast
import json
import re
import tomllib
from os.path import relpath
from pathlib import Path

import nbformat
from cells import EXPORTS, LINK, escape, markdown, module_of, page, raw, settings, source, split
from entries import Code, comments, names, public_names
from run_nbs import ROOT, changed

SWITCHES = {'eval', 'echo', 'output', 'include', 'code-fold'}
KNOWN = {'default_exp', *EXPORTS, *SWITCHES, 'hide', 'code-summary', 'fig-alt'}
IMG = re.compile(r'<img\b[^>]*>')
FIRST = {      # the reader's order; others follow by name
    'tutorials': ('quickstart', 'explore', 'trust', 'variation', 'mixup', 'batch_size', 'train', 'finetune',
                  'shell', 'optuna'),
    'recipes': ('plain_loop', 'trainer', 'lightning', 'fastai', 'timm', 'accelerate', 'precision', 'gpus', 'validation',
                'groups', 'again', 'gans', 'memory', 'shell', 'notebooks'),
    'guide': ('how_it_works', 'read_a_curve', 'choose', 'when', 'transformers', 'troubleshooting')}
FOLDERS = {
    'engine': 'Sweep a model', 'train': 'Train with the rate', 'show': 'Pictures and sliders',
    'core': 'From losses to a rate', 'project': 'Data, models and commands', 'adapters': 'Other libraries'}
START = ('LRFinder', 'repeat', 'fit_one_cycle', 'LRExplorer', 'analyse')


class Faults(Exception):
    "All that is wrong with the notebooks, one line each"


# One notebook

def drawn(output): return {'image/png', 'image/svg+xml', 'text/html'} & output.get('data', {}).keys()


class Notebook:
    "What is wrong with a notebook, and its page"
    def __init__(self, path, nb, site):
        self.path, self.nb, self.site, self.mod, self.code = path, nb, site, module_of(nb), site.code

    def where(self, i): return f'{self.path.as_posix()}, cell {i}'

    def fault(self, i, what): self.site.faults.append(f'{self.where(i)}: {what}')

    def title(self):
        "(title, description) from the first cell; nbdev would drop any other line of it"
        lines = [l for l in self.nb.cells[0].source.splitlines() if l.strip()] if self.nb.cells else []
        if not lines or not lines[0].startswith('# '):
            self.fault(0, 'must start with "# title"')
            return self.path.stem, ''
        for l in lines[1:]:
            if re.match(r'> |- [\w-]+:', l): continue
            self.fault(0, f'this line of the title cell would be lost: {l[:60]!r}')
        about = ' '.join(l[2:] for l in lines if l.startswith('> '))
        if not about: self.fault(0, 'has no "> description"')
        title = lines[0][2:].strip()
        shared = [m for m in self.site.modules if m.split('.')[-1] == title]
        return self.mod if len(shared) > 1 and self.mod in shared else title, about

    def check(self):
        "Note what is wrong with directives and stored outputs"
        for i, c in enumerate(self.nb.cells):
            if c.cell_type != 'code': continue
            found, code = split(c)
            known = ', '.join(sorted(KNOWN))
            for d in found.keys() - KNOWN: self.fault(i, f'unknown directive {d!r}; known are {known}')
            for d in found.keys() & SWITCHES:
                if found[d] in ('true', 'false', 'show'): continue
                self.fault(i, f'{d} must be true or false, got {found[d]!r}')
            for o in c.outputs:
                if o.output_type == 'error': self.fault(i, f'ended in {o.ename}')
                if o.get('name') == 'stderr': self.fault(i, 'wrote to stderr')
            if self.described(found, code) and not any(drawn(o) for o in c.outputs):
                self.fault(i, 'has words for a picture and shows none')
        if (stale := changed(self.nb)) is not None:
            self.fault(stale, 'was changed, added or removed and not executed; '
                              f'run python docs/run_nbs.py nbs/{self.path.as_posix()}')

    def described(self, found, code):
        "Whether there are words for a picture of a cell: beside it, or in words.toml for the cells that plot"
        known = self.site.alts.get(self.path.as_posix(), {})
        return 'fig-alt' in found or any(key in code and key.endswith('plot()') for key in known)

    def cells(self):
        "The cells of the page: the title, what users call, and the lesson"
        title, about = self.title()
        yield markdown(f'# {title}\n\n{{.lead}}\n{self.code.linked(about)}', 'title')
        for name in self.offered():
            node, said = self.code.nodes[self.mod, name]
            yield markdown(self.code.entry_of(name, node, said, self.mod), f'e-{name}')
        if self.offered(): yield markdown('---', 'lesson')
        for i, c in enumerate(self.nb.cells[1:], 1):
            if c.cell_type == 'markdown': yield markdown(self.text(c.source, i), f'c{i}')
            elif c.cell_type == 'code': yield from self.code_cells(i, c)

    def offered(self):
        "Public names of the module: those that are called first, other functions, and the rest"
        plain = lambda n: isinstance(self.code.nodes[self.mod, n][0], ast.FunctionDef)
        return sorted(self.code.offered(self.mod), key=lambda n: (n not in START, not plain(n)))

    def text(self, words, i): return self.site.markdown(words, self.site.nbs/self.path, self.where(i))

    def code_cells(self, i, c):
        found, code = split(c)
        if 'hide' in found or 'default_exp' in found or found.get('include') == 'false': return
        stored = c.outputs if found.get('output') != 'false' else []
        outputs = [self.output(i, o, found, code, f'c{i}o{k}') for k, o in enumerate(stored)]
        if EXPORTS & found.keys(): yield from self.exported(i, found, code, outputs)
        elif found.get('echo') == 'false':
            for k, o in enumerate(outputs):
                text = o.get('data', {}).get('text/markdown')
                if text: yield markdown(self.text(text, i), f'c{i}o{k}')
                else: yield source(code, [o], f'c{i}o{k}', tags=['remove-input'])
        else:
            folded = found.get('code-fold') in ('true', 'show')
            yield source(code, outputs, f'c{i}', fold=found.get('code-summary', 'Code') if folded else '')

    def exported(self, i, found, code, outputs):
        "Cells of the page for a cell of the module: internals are folded, public names have entries on top"
        nodes, said = ast.parse(code).body, comments(code)
        if all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in nodes): return
        own = [] if 'exporti' in found else [(name, n) for n in nodes for name in names(n)]
        inner = [(name, n) for name, n in own if name not in self.offered()]
        entries = ''.join(self.code.entry_of(name, n, said, self.mod) for name, n in inner)
        if 'exports' in found:
            yield source(code, outputs, f'c{i}')
            if entries: yield markdown(entries, f'a{i}')
        elif not entries: yield source(code, outputs, f'c{i}', fold=self.label('Source', own))
        else:
            summary = f'<summary>{self.summary(inner, said)}</summary>'
            yield markdown(raw(f'<details class="internal">{summary}') + '\n' + entries, f'a{i}')
            yield source(code, [], f'c{i}')
            yield markdown(raw('</details>'), f'z{i}')
            if outputs: yield source(code, outputs, f'o{i}', tags=['remove-input'])

    def label(self, word, own): return f"{word} of {', '.join(name for name, _ in own)}" if own else word

    def summary(self, inner, said):
        "What stands before a folded entry: the names, and the first line of what is said about the first"
        about = re.sub('`([^`]*)`', r'<code>\1</code>', escape(self.code.doc(*inner[0], said, self.mod).split('\n')[0]))
        return ', '.join(f'<code>{name}</code>' for name, _ in inner) + (f': {about}' if about else '')

    def output(self, i, o, found, code, uid):
        "An output as it goes on the page: a picture has words, and an SVG takes the colours of the page"
        o = nbformat.from_dict(json.loads(json.dumps(o)))
        data = o.get('data', {})
        if 'image/png' in data: o.data = {'text/html': self.png(i, data['image/png'], found, code)}
        elif 'image/svg+xml' in data:
            svg = data['image/svg+xml']
            if 'aria-label=""' in svg or 'aria-label' not in svg: self.fault(i, 'an SVG without aria-label')
            o.data = {'text/html': '<div class="svg">' + svg.replace('lrx-clip', uid + '-clip') + '</div>'}
        elif 'text/html' in data:
            for img in IMG.findall(data['text/html']):
                if not re.search(r'alt="[^"]+"', img): self.fault(i, 'an <img> without alt text')
            o.data = {'text/html': re.sub(r'<table(?: border="1")?', '<table', data['text/html'])}
        return o

    def png(self, i, data, found, code):
        "A picture of matplotlib with its words"
        known = self.site.alts.get(self.path.as_posix(), {})
        alt = found.get('fig-alt') or next((alt for key, alt in known.items() if key in code), '')
        if not alt: self.fault(i, 'a picture without words: add a line "#| fig-alt: what it shows"')
        src, dark = data.replace('\n', ''), ' dark' if 'dark_background' in code else ''
        return f'<img class="plot{dark}" alt="{escape(alt)}" src="data:image/png;base64,{src}"/>'


# The site

class Site:
    "All pages, written under `dst` where they changed"
    def __init__(self, dst, root=ROOT, nbs=None):
        self.root, self.dst, self.ini = root, Path(dst), settings(root)
        self.faults, self.about, self.written = [], {}, set()
        self.nbs = nbs or root/self.ini['nbs_path']
        files = [f for f in sorted(self.nbs.rglob('*.ipynb')) if '.ipynb_checkpoints' not in f.parts]
        self.notebooks = {f.relative_to(self.nbs): nbformat.read(f, 4) for f in files}
        self.own = sorted((root/'docs/pages').glob('*.md'))
        self.pages = {f: page(f.relative_to(self.nbs)) for f in files} | {f: f.stem for f in self.own}
        self.pages |= {root/'CHANGELOG.md': 'changelog', root/'CONTRIBUTING.md': 'contributing'}
        self.pages[root/'docs/pages/api.md'] = 'api/index'
        self.pages |= {root/'benchmarks/results': 'benchmarks', root/'benchmarks': 'benchmarks'}
        words = tomllib.loads((root/'docs/words.toml').read_text())
        self.alts = words['pictures']
        self.modules = {m: p for p, nb in self.notebooks.items() if (m := module_of(nb))}
        package = self.ini['lib_path']
        public = public_names(root/package/'__init__.py')
        self.code = Code(self.notebooks, package, public, words['parameters'] | words['members'] | words['constants'])

    def address(self, target):
        kind, name = 'tree' if target.is_dir() else 'blob', target.relative_to(self.root).as_posix()
        return f"{self.ini['git_url']}/{kind}/{self.ini['branch']}/{name}"

    def markdown(self, text, base, where):
        "Markdown with links that hold on the site: to its pages, or to the repository"
        def to(m):
            path, _, anchor = m[2].partition('#')
            if not path or re.match(r'[a-z]+:', path): return m[0]
            target = (base.parent/path).resolve()
            if target.suffix in ('.gif', '.png') and target.exists(): return f'{m[1]}({self.picture(target)})'
            if target in self.pages:
                near = relpath(self.pages[target], Path(self.pages.get(base, 'index')).parent)
                ending = '.ipynb' if target.suffix == '.ipynb' else '.md'
                return f"{m[1]}({near}{ending}{f'#{anchor}' if anchor else ''})"
            if target.exists() and target.is_relative_to(self.root):
                return f'{m[1]}({self.address(target)})'
            self.faults.append(f'{where}: broken link to {m[2]}')
            return m[0]
        if re.search(r'!\[\s*\]', text): self.faults.append(f'{where}: a picture without words')
        parts = re.split(r'(^```.*?^```$)', text, flags=re.M | re.S)
        return self.code.linked(''.join(p if i % 2 else LINK.sub(to, p) for i, p in enumerate(parts)))

    def picture(self, path):
        "Where the pages find a copy of a picture of the repository"
        p = self.dst/'pictures'/path.name
        self.written.add(p)
        p.parent.mkdir(parents=True, exist_ok=True)
        p.write_bytes(path.read_bytes())
        return f'/pictures/{path.name}'

    def write(self, name, text):
        p = self.dst/name
        self.written.add(p)
        p.parent.mkdir(parents=True, exist_ok=True)
        if not p.exists() or p.read_text() != text: p.write_text(text)

    def write_md(self, name, text, base):
        "A page of Markdown: its title, its description, and the rest with links"
        title = re.search(r'^# (.+)$', text, re.M)
        about = re.search(r'^> (.+)$', text, re.M)
        self.about[name] = (title[1], about[1] if about else '')
        if about: text = text.replace(about[0], '{.lead}\n' + about[1], 1)
        self.write(f'{name}.md', self.markdown(text, base, base.relative_to(self.root).as_posix()))

    def stage(self, fill):
        "Write all pages; `fill` makes the text for each {{ name }} in docs/pages. Raises `Faults`"
        for path, nb in self.notebooks.items(): self.write_nb(path, nb, fill)
        for f in self.own:
            self.write_md(f.stem, re.sub(r'\{\{ (\w+) \}\}', lambda m: fill(m[1]), f.read_text()), f)
        about = {'CHANGELOG.md': 'What changed, version by version',
                 'CONTRIBUTING.md': 'How the project is built, changed and checked'}
        for f, words in ((self.root/name, words) for name, words in about.items()):
            self.write_md(self.pages[f], f.read_text().replace('\n', f'\n\n> {words}\n', 1), f)
        self.write_md('api/index', self.api(), self.root/'docs/pages/api.md')
        missing = ', '.join(dict.fromkeys(self.code.missing))
        if missing: self.faults.append(f'without a description: {missing}')
        for p in self.dst.rglob('*'):
            if p.is_file() and p not in self.written: p.unlink()
        if self.faults: raise Faults('\n'.join(dict.fromkeys(self.faults)))

    def write_nb(self, path, nb, fill):
        "The page of a notebook"
        notebook, name = Notebook(path, nb, self), page(path)
        notebook.check()
        cells = list(notebook.cells())
        self.about[name] = notebook.title()
        kernel = dict(name='python3', display_name='Python 3', language='python')
        if name == 'index': cells = self.front(cells, fill)
        lexer = dict(name='python', pygments_lexer='ipython3')      # knows lines that begin with ! and %%
        out = nbformat.v4.new_notebook(metadata={'kernelspec': kernel, 'language_info': lexer}, cells=cells)
        self.write(f'{name}.ipynb', nbformat.writes(out))

    def front(self, cells, fill):
        "The front page: the tool you can try before the table of pages, and the table of contents"
        at = next((i for i, c in enumerate(cells) if c.source.startswith('## Which page')), len(cells))
        tool = markdown('## Try it in the page\n\n' + fill('tryit'), 'tryit')
        return cells[:at] + [tool] + cells[at:] + [markdown(self.toc(), 'toc')]

    def under(self, folder):
        "Pages of a folder in the reader's order"
        found = [p for p in (page(n) for n in self.notebooks) if p.startswith(folder + '/')]
        order = [f'{folder}/{n}' for n in FIRST.get(folder, ())]
        return sorted(found, key=lambda p: (order.index(p) if p in order else len(order), p))

    def toc(self):
        first, *tutorials = self.under('tutorials')
        groups = {
            'Get started': [first, 'try'], 'Tutorials': tutorials,
            'Recipes': self.under('recipes'), 'Guide': self.under('guide'),
            'Reference': ['api/index', 'comparison', 'benchmarks', 'hosts'],
            'Project': ['map', 'contributing', 'changelog']}
        tree = lambda k, v: f'```{{toctree}}\n:hidden:\n:caption: {k}\n\n' + '\n'.join(v) + '\n```'
        return '\n\n'.join(tree(k, v) for k, v in groups.items() if v)

    def table(self, names):
        "Public names and what they are"
        rows = []
        for n in names:
            about = self.code.about(self.code.public[n], n).replace('|', r'\|')
            rows.append(f'| {{py:obj}}`{n} <{self.code.refs[n]}>` | {about} |')
        return '\n| name | what it is |\n|---|---|\n' + '\n'.join(rows) + '\n' if rows else ''

    def api(self):
        "The page of all public names: those that are called first, and the modules by folder"
        package = self.ini['lib_path']
        out = [f'# API\n\n> Every public name of {package}, by module, each with all its parameters\n\n'
               f'All names are imported from `{package}` itself. Each module is a page of its own: what users '
               'call comes first, then the lesson in which the module is written, with its inner parts folded.\n',
               '## Where to begin\n' + self.table(n for n in START if n in self.code.refs)]
        order = []
        for folder, words in FOLDERS.items():
            mods = [m for m in self.modules if m.split('.')[0] == folder]
            offered = {m: set(self.code.offered(m)) for m in mods}
            mods.sort(key=lambda m: (not offered[m] & set(START), not offered[m]))
            if mods: out.append(f'## {words}\n')
            for m in mods: out.append(self.module(m))
            order += ['/' + page(self.modules[m]) for m in mods]
        return '\n'.join(out) + '\n```{toctree}\n:hidden:\n\n' + '\n'.join(order) + '\n```\n'

    def module(self, mod):
        "A module in the page of all public names"
        path = self.modules[mod]
        title, about = Notebook(path, self.notebooks[path], self).title()
        head = f'### {{doc}}`{title} </{page(path)}>`\n\n{about}\n'
        return head + self.table(sorted(self.code.offered(mod)))
