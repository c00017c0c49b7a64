"""nbdev notebooks become pages for Sphinx and myst-nb. Nothing is run: outputs are those stored, and API entries are read from the exported code itself."""
import ast
import io
import json
import re
import tokenize
import tomllib
from configparser import ConfigParser
from os.path import relpath
from pathlib import Path

import nbformat
from run_nbs import ROOT, changed

DIRECTIVE = re.compile(r'^#\s*\|\s*([\w-]+)\s*:?\s*(.*?)\s*$')
KNOWN = {'default_exp', 'export', 'exports', 'exporti', 'hide', 'eval', 'echo', 'output', 'include', 'code-fold', 'code-summary', 'fig-alt'}
LINK = re.compile(r'(!?\[[^\]]*\])\(([^)\s]+)\)')
CODE = re.compile(r'(?<![`\[}])`([A-Za-z_][\w.]*)(\(\))?`(?![`\]])')
IMG = re.compile(r'<img\b[^>]*>')
FIRST = {'tutorials': ('quickstart', 'explore', 'variation', 'mixup', 'batch_size', 'train', 'finetune'), 'guide': ('how_it_works', 'read_a_curve', 'choose', 'when', 'troubleshooting')}


class Faults(Exception):
    "All that is wrong with the notebooks, one line each"


def settings(root=ROOT):
    "The section of settings.ini"
    ini = ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    return ini['DEFAULT']


def page(path):
    "Name of the page of the notebook at `path`, relative to nbs: modules lie in the folders of api/ and lose their number"
    stem = re.sub(r'^\d+_', '', path.stem)
    return (Path('api')/path.parent/stem if stem != path.stem else path.with_suffix('')).as_posix()


def split(cell):
    "({directive: value}, code) of a code cell"
    lines, found = cell.source.splitlines(), {}
    while lines and (m := DIRECTIVE.match(lines[0])): found[m[1]] = m[2]; lines.pop(0)
    return found, '\n'.join(lines).strip()


# What exported code says about itself

def comments(code):
    "{line: comment} of code"
    return {t.start[0]: t.string.lstrip('# ') for t in tokenize.generate_tokens(io.StringIO(code).readline) if t.type == tokenize.COMMENT}


def parameters(f, said, method=False):
    "[(name, description)] of a function, and the description of what it returns"
    a = f.args
    defaults = [None]*(len(a.posonlyargs + a.args) - len(a.defaults)) + a.defaults
    pairs = list(zip(a.posonlyargs + a.args, defaults))[bool(method):] + [(a.vararg, None)]*bool(a.vararg) + list(zip(a.kwonlyargs, a.kw_defaults)) + [(a.kwarg, None)]*bool(a.kwarg)
    stars = {id(a.vararg): r'\*', id(a.kwarg): r'\*\*'}
    last = f.body[0].lineno
    out = [(stars.get(id(p), '') + p.arg, said.get(max(p.end_lineno, d.end_lineno if d else 0), '')) for p, d in pairs]
    back = said.get(f.returns.end_lineno, '') if f.returns and f.returns.end_lineno < last else ''
    return out, back if not any(back and back == s for _, s in out) else ''


def default(f):
    "What a signature says after a field of a dataclass"
    value = '' if f.value is None else ast.unparse(f.value)
    if value.startswith('field('): return ' = ...' if 'default' in value else ''
    return f' = {value}' if value else ''


def decorators(f): return [ast.unparse(d).split('(')[0] for d in f.decorator_list]


def unquoted(node): return ast.parse(node.value, mode='eval').body if isinstance(node, ast.Constant) and isinstance(node.value, str) else node


def signature(f, method=False):
    "Arguments and return annotation of a function, as text; `method` drops the first"
    f = ast.parse(ast.unparse(f)).body[0]
    for a in [x for x in ast.walk(f.args) if isinstance(x, ast.arg) and x.annotation]: a.annotation = unquoted(a.annotation)
    if f.returns: f.returns = unquoted(f.returns)
    if method: (f.args.posonlyargs or f.args.args).pop(0)
    return f"({ast.unparse(f.args)})" + (f" -> {ast.unparse(f.returns)}" if f.returns else '')


class Code:
    "All exported code: classes, public names, and where each is documented"
    def __init__(self, notebooks, package, public, words=()):
        self.package, self.public, self.words, self.classes, self.home, self.missing = package, public, dict(words), {}, {}, []
        for nb in notebooks.values():
            mod = module_of(nb)
            for c in nb.cells:
                found, code = split(c) if c.cell_type == 'code' else ({}, '')
                if not mod or not {'export', 'exports', 'exporti'} & found.keys(): continue
                said = comments(code)
                for node in ast.parse(code).body:
                    if isinstance(node, ast.ClassDef): self.classes[node.name] = (node, said)
                    if 'exporti' in found: continue
                    for name in names(node): self.home.setdefault(name, []).append(mod)
        self.refs = {n: self.full(n, mods[0]) for n, mods in self.home.items() if n in public or len(mods) == 1}
        for cls in [n for n in self.refs if n in self.classes]:
            for m, *_ in self.members(cls): self.refs[f'{cls}.{m.name}'] = f'{self.refs[cls]}.{m.name}'
        for name in [n for n in self.refs if n.startswith('LRFinder.')]: self.refs['finder.' + name[9:]] = self.refs[name]

    def full(self, name, mod):
        "The name to import: public ones come from the package itself"
        return f'{self.package}.{name}' if name in self.public else f'{self.package}.{mod}.{name}'

    def members(self, cls):
        "(function, comments) of the public methods and properties of a class and of its private bases"
        seen, todo = set(), [cls]
        while todo:
            node, said = self.classes.get(todo.pop(0), (None, None))
            if node is None: continue
            for f in node.body:
                if not isinstance(f, ast.FunctionDef) or f.name.startswith('_') or f.name in seen or any(d.endswith('.setter') for d in decorators(f)): continue
                if ast.get_docstring(f) or {'property', 'cached_property'} & set(decorators(f)): seen.add(f.name); yield f, said
            todo += [b.id for b in node.bases if isinstance(b, ast.Name) and b.id.startswith('_')]

    def constructor(self, cls):
        "(signature, [(parameter, description)]) of a class: its fields, or its own or inherited `__init__`"
        node, said = self.classes[cls]
        if 'dataclass' in decorators(node):
            fields = self.fields(cls)
            return '(' + ', '.join(f'{f.target.id}: {ast.unparse(unquoted(f.annotation))}{default(f)}' for f, _ in fields.values()) + ')', [(name, s.get(f.end_lineno, '')) for name, (f, s) in fields.items()]
        for f in node.body:
            if isinstance(f, ast.FunctionDef) and f.name == '__init__': return signature(f, True), parameters(f, said, True)[0]
        base = next((b.id for b in node.bases if isinstance(b, ast.Name) and b.id in self.classes), None)
        return self.constructor(base) if base else ('()', [])

    def fields(self, cls):
        "{name: (field, comments)} of a dataclass and of those that it inherits from"
        node, said = self.classes.get(cls, (None, None))
        if node is None or 'dataclass' not in decorators(node): return {}
        found = {k: v for b in reversed(node.bases) if isinstance(b, ast.Name) for k, v in self.fields(b.id).items()}
        return found | {f.target.id: (f, said) for f in node.body if isinstance(f, ast.AnnAssign) and 'init=False' not in ast.unparse(f)}

    def entry(self, node, said, mod):
        "The Python-domain entry of a function, class or constant, as MyST"
        out = ''
        for name in names(node):
            options, doc = [f':module: {self.full(name, mod).rsplit(".", 1)[0]}'], ''
            if name in self.public: options.append(f':canonical: {self.package}.{mod}.{name}')
            if isinstance(node, ast.FunctionDef):
                (params, back), kind, sig = parameters(node, said), 'function', signature(node)
            elif isinstance(node, ast.ClassDef): kind, (sig, params), back = 'class', self.constructor(name), ''
            else:
                value = ast.unparse(node.value)
                kind, sig, params, back, doc = 'data', '', [], '', said.get(node.end_lineno, '')
                if len(value) < 60: options.append(f':value: {value}')
            if kind != 'data': doc = ast.get_docstring(node) or ''
            params, doc = self.described(name, params), doc or self.words.get(name, '')
            if name in self.public and not doc: self.missing.append(name)
            inner = ''.join(self.member(name, f, s, options[0]) for f, s in self.members(name)) if kind == 'class' else ''
            out += f'``````{{py:{kind}}} {name}{sig}\n' + '\n'.join(options) + '\n\n' + self.body(doc, params, back) + inner + '``````\n\n'
        return out

    def member(self, cls, f, said, module):
        (params, back), deco = parameters(f, said, 'staticmethod' not in decorators(f)), set(decorators(f))
        kind = 'property' if {'property', 'cached_property'} & deco else 'method'
        options = [module] + [f':{d}:' for d in ('classmethod', 'staticmethod') if d in deco] + ([f':type: {ast.unparse(unquoted(f.returns))}'] if kind == 'property' and f.returns else [])
        params = self.described(f'{cls}.{f.name}', params)
        sig = '' if kind == 'property' else signature(f, 'staticmethod' not in deco)
        return f'`````{{py:{kind}}} {f.name}{sig}\n' + '\n'.join(options) + '\n\n' + self.body(ast.get_docstring(f) or '', params, back) + '`````\n\n'

    def described(self, name, params):
        "Parameters with their descriptions; those of public names that have none are noted"
        words = lambda p: self.words.get(f'{name}({p})') or self.words.get(f'({p})', '')
        out = [(p, text or words(p.replace(chr(92), ''))) for p, text in params]
        if name.split('.')[0] in self.public: self.missing += [f'{name}({p})' for p, text in out if not text]
        return out

    def body(self, doc, params, back):
        fields = [f':param {p}: {self.linked(text)}' for p, text in params if text] + ([f':returns: {self.linked(back)}'] if back else [])
        return self.linked(doc) + '\n\n' + '\n'.join(fields) + '\n\n' * bool(fields)

    def linked(self, text):
        "Markdown with `backticked` names of the library as links, outside of code blocks and headings"
        def ref(m): return f'{{py:obj}}`{m[1]}{m[2] or ""} <{self.refs[m[1]]}>`' if m[1] in self.refs else m[0]
        parts = re.split(r'(^```.*?^```$|^#.*?$)', text, flags=re.M | re.S)
        return ''.join(p if i % 2 else CODE.sub(ref, p) for i, p in enumerate(parts))


def names(node):
    "Public names that a top-level statement defines"
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)): found = [node.name]
    elif isinstance(node, ast.Assign): found = [t.id for target in node.targets for t in (target.elts if isinstance(target, ast.Tuple) else [target]) if isinstance(t, ast.Name)]
    else: found = []
    return [n for n in found if not n.startswith('_')]


def module_of(nb): return next((split(c)[0]['default_exp'] for c in nb.cells if c.cell_type == 'code' and 'default_exp' in split(c)[0]), None)


# One notebook

class Notebook:
    "What is wrong with a notebook, and its page"
    def __init__(self, path, nb, site): self.path, self.nb, self.site, self.mod = path, nb, site, module_of(nb)

    def fault(self, i, what): self.site.faults.append(f'{self.path.as_posix()}, cell {i}: {what}')

    def title(self):
        "(title, description) from the first cell; nbdev would drop any other line of it"
        lines = [l for l in self.nb.cells[0].source.splitlines() if l.strip()] if self.nb.cells else []
        if not lines or not lines[0].startswith('# '): self.fault(0, 'must start with "# title"'); return self.path.stem, ''
        for l in lines[1:]:
            if not re.match(r'> |- [\w-]+:', l): self.fault(0, f'this line of the title cell would be lost: {l[:60]!r}')
        if not any(l.startswith('> ') for l in lines): self.fault(0, 'has no "> description"')
        return lines[0][2:].strip(), ' '.join(l[2:] for l in lines if l.startswith('> '))

    def check(self):
        stale = changed(self.nb)
        for i, c in enumerate(self.nb.cells):
            if c.cell_type != 'code': continue
            found, code = split(c)
            for d in found.keys() - KNOWN: self.fault(i, f'unknown directive {d!r}; known are {", ".join(sorted(KNOWN))}')
            for d, v in found.items():
                if d in ('eval', 'echo', 'output', 'include', 'code-fold') and v not in ('true', 'false', 'show'): self.fault(i, f'{d} must be true or false, got {v!r}')
            for o in c.outputs:
                if o.output_type == 'error': self.fault(i, f'ended in {o.ename}')
                if o.get('name') == 'stderr': self.fault(i, 'wrote to stderr')
        if stale is not None: self.fault(stale, f'was changed, added or removed and not executed; run python docs/run_nbs.py nbs/{self.path.as_posix()}')

    def cells(self):
        "The cells of the page"
        title, about = self.title()
        yield markdown(f'# {title}\n\n{{.lead}}\n{self.site.code.linked(about)}', 'title')
        for i, c in enumerate(self.nb.cells[1:], 1):
            if c.cell_type == 'markdown': yield markdown(self.site.markdown(c.source, self.site.nbs/self.path, f'{self.path.as_posix()}, cell {i}'), f'c{i}')
            elif c.cell_type == 'code': yield from self.code_cells(i, c)

    def code_cells(self, i, c):
        found, code = split(c)
        if 'hide' in found or 'default_exp' in found or found.get('include') == 'false': return
        outputs = [self.output(i, o, found, code, f'c{i}o{k}') for k, o in enumerate(c.outputs)] if found.get('output') != 'false' else []
        if {'export', 'exports', 'exporti'} & found.keys():
            nodes, said = ast.parse(code).body, comments(code)
            entries = '' if 'exporti' in found else ''.join(self.site.code.entry(n, said, self.mod) for n in nodes)
            if all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in nodes): return
            if entries and 'exports' not in found: yield markdown(entries, f'a{i}')
            yield source(code, outputs, f'c{i}', fold='' if 'exports' in found else 'Source')
            if entries and 'exports' in found: yield markdown(entries, f'a{i}')
        elif found.get('echo') == 'false':
            for k, o in enumerate(outputs):
                text = o.get('data', {}).get('text/markdown')
                if text: yield markdown(self.site.markdown(text, self.site.nbs/self.path, f'{self.path.as_posix()}, cell {i}'), f'c{i}o{k}')
                else: yield source(code, [o], f'c{i}o{k}', tags=['remove-input'])
        else: yield source(code, outputs, f'c{i}', fold=found.get('code-summary', 'Code') if found.get('code-fold') in ('true', 'show') else '')

    def output(self, i, o, found, code, uid):
        "An output as it goes on the page: a picture has words, and an SVG takes the colours of the page"
        o = nbformat.from_dict(json.loads(json.dumps(o)))
        data = o.get('data', {})
        if 'image/png' in data:
            alt = found.get('fig-alt') or next((alt for key, alt in self.site.alts.get(self.path.as_posix(), {}).items() if key in code), '')
            if not alt: self.fault(i, 'a picture without words: add a line "#| fig-alt: what it shows"')
            src, dark = data['image/png'].replace('\n', ''), ' dark' if 'dark_background' in code else ''
            o.data = {'text/html': f'<img class="plot{dark}" alt="{escape(alt)}" src="data:image/png;base64,{src}"/>'}
        elif 'image/svg+xml' in data:
            if 'aria-label=""' in data['image/svg+xml'] or 'aria-label' not in data['image/svg+xml']: self.fault(i, 'an SVG without aria-label')
            o.data = {'text/html': '<div class="svg">' + data['image/svg+xml'].replace('lrx-clip', uid + '-clip') + '</div>'}
        elif 'text/html' in data:
            for img in IMG.findall(data['text/html']):
                if not re.search(r'alt="[^"]+"', img): self.fault(i, 'an <img> without alt text')
            data['text/html'] = re.sub(r'<table(?: border="1")?', '<table', data['text/html'])
            o.data = {'text/html': data['text/html']}
        return o


def escape(s): return s.replace('&', '&amp;').replace('"', '&quot;').replace('<', '&lt;')
def markdown(text, uid): return nbformat.v4.new_markdown_cell(text, id=uid)


def source(code, outputs, uid, fold='', tags=()):
    "A code cell, folded behind the word `fold`"
    meta = {'tags': [*tags, *(['hide-input'] if fold else [])]}
    if fold: meta['mystnb'] = dict(code_prompt_show=fold, code_prompt_hide=fold)
    return nbformat.v4.new_code_cell(code, outputs=outputs, metadata=meta, id=uid)


# The site

class Site:
    "All pages, written under `dst` where they changed"
    def __init__(self, dst, root=ROOT, nbs=None):
        self.root, self.dst, self.ini, self.faults, self.about, self.written = root, Path(dst), settings(root), [], {}, set()
        self.nbs = nbs or root/self.ini['nbs_path']
        files = [f for f in sorted(self.nbs.rglob('*.ipynb')) if '.ipynb_checkpoints' not in f.parts]
        self.notebooks = {f.relative_to(self.nbs): nbformat.read(f, 4) for f in files}
        self.pages = {f: page(f.relative_to(self.nbs)) for f in files}
        self.own = sorted((root/'docs/pages').glob('*.md'))
        self.pages |= {f: f.stem for f in self.own}
        self.pages |= {root/'CHANGELOG.md': 'changelog', root/'CONTRIBUTING.md': 'contributing', root/'benchmarks/results': 'benchmarks', root/'benchmarks': 'benchmarks'}
        words = tomllib.loads((root/'docs/words.toml').read_text())
        self.alts = words['pictures']
        self.modules = {m: p for p, nb in self.notebooks.items() if (m := module_of(nb))}
        self.code = Code(self.notebooks, self.ini['lib_path'], public_names(root/self.ini['lib_path']/'__init__.py'), words['parameters'])

    def markdown(self, text, base, where):
        "Markdown with links that hold on the site: to its pages, or to the repository"
        def to(m):
            path, _, anchor = m[2].partition('#')
            if not path or re.match(r'[a-z]+:', path): return m[0]
            target = (base.parent/path).resolve()
            if target in self.pages:
                here = self.pages.get(base, 'index')
                return f"{m[1]}({relpath(self.pages[target], Path(here).parent)}.{'ipynb' if target.suffix == '.ipynb' else 'md'}{'#' + anchor if anchor else ''})"
            if target.exists() and target.is_relative_to(self.root):
                return f"{m[1]}({self.ini['git_url'].replace('%(user)s', self.ini['user'])}/{'tree' if target.is_dir() else 'blob'}/{self.ini['branch']}/{target.relative_to(self.root).as_posix()})"
            self.faults.append(f'{where}: broken link to {m[2]}'); return m[0]
        if re.search(r'!\[\s*\]', text): self.faults.append(f'{where}: a picture without words')
        parts = re.split(r'(^```.*?^```$)', text, flags=re.M | re.S)
        return self.code.linked(''.join(p if i % 2 else LINK.sub(to, p) for i, p in enumerate(parts)))

    def write(self, name, text):
        p = self.dst/name
        self.written.add(p); p.parent.mkdir(parents=True, exist_ok=True)
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
        for path, nb in self.notebooks.items():
            n = Notebook(path, nb, self)
            n.check()
            out = nbformat.v4.new_notebook(metadata={'kernelspec': dict(name='python3', display_name='Python 3', language='python')}, cells=list(n.cells()))
            name = page(path)
            self.about[name] = n.title()
            if name == 'index': out.cells = self.front(out.cells, fill)
            self.write(f'{name}.ipynb', nbformat.writes(out))
        for f in self.own: self.write_md(f.stem, re.sub(r'\{\{ (\w+) \}\}', lambda m: fill(m[1]), f.read_text()), f)
        for f, about in ((self.root/'CHANGELOG.md', 'What changed, version by version'), (self.root/'CONTRIBUTING.md', 'How the project is built, changed and checked')):
            self.write_md(self.pages[f], f.read_text().replace('\n', f'\n\n> {about}\n', 1), f)
        self.write_md('api/index', self.api(), self.root/'docs/pages/api.md')
        if self.code.missing: self.faults.append(f'without a description: {", ".join(dict.fromkeys(self.code.missing))}')
        for p in self.dst.rglob('*'):
            if p.is_file() and p not in self.written: p.unlink()
        if self.faults: raise Faults('\n'.join(dict.fromkeys(self.faults)))

    def front(self, cells, fill):
        "The front page: the tool you can try before the section on commands, and the table of contents"
        at = next((i for i, c in enumerate(cells) if c.source.startswith('## Two commands')), len(cells))
        return cells[:at] + [markdown('## Try it in the page\n\n' + fill('tryit'), 'tryit')] + cells[at:] + [markdown(self.toc(), 'toc')]

    def toc(self):
        def under(folder):
            found = [p for p in (page(n) for n in self.notebooks) if p.startswith(folder + '/')]
            order = [f'{folder}/{n}' for n in FIRST[folder]]
            return sorted(found, key=lambda p: (order.index(p) if p in order else 99, p))
        groups = {'Get started': [*under('tutorials')[:1], 'try'], 'Tutorials': under('tutorials')[1:], 'Guide': under('guide'), 'Reference': ['api/index', 'comparison', 'benchmarks'], 'Project': ['changelog', 'contributing']}
        return '\n\n'.join(f'```{{toctree}}\n:hidden:\n:caption: {k}\n\n' + '\n'.join(v) + '\n```' for k, v in groups.items() if v)

    def api(self):
        "The page of all public names, and the list of the modules"
        first = lambda node: (ast.get_docstring(node) or '').split('\n')[0]
        docs = {}
        for nb in self.notebooks.values():
            for c in nb.cells:
                found, code = split(c) if c.cell_type == 'code' else ({}, '')
                if not {'export', 'exports'} & found.keys(): continue
                said = comments(code)
                for n in ast.parse(code).body:
                    for name in names(n): docs.setdefault((module_of(nb), name), first(n) if not isinstance(n, ast.Assign) else said.get(n.end_lineno, ''))
        out = [f"# API\n\n> Every public name of {self.ini['lib_path']}, by module, each with all its parameters\n\nThe names in the tables are imported from `{self.ini['lib_path']}` itself. Each module is a page of its own: the lesson in which it is written, with its smaller parts.\n"]
        for mod, path in self.modules.items():
            title, about = Notebook(path, self.notebooks[path], self).title()
            rows = [f"| {{py:obj}}`{n} <{self.code.refs[n]}>` | {docs[mod, n].replace('|', chr(92) + '|')} |" for n in sorted(self.code.public) if mod in self.code.home.get(n, []) and n in self.code.refs]
            out.append(f'## {{doc}}`{title} </{page(path)}>`\n\n{about}\n' + ('\n| name | what it is |\n|---|---|\n' + '\n'.join(rows) + '\n' if rows else ''))
        return '\n'.join(out) + '\n```{toctree}\n:hidden:\n\n' + '\n'.join('/' + page(path) for path in self.modules.values()) + '\n```\n'


def public_names(path):
    "The names that the package offers, read from its `_NAMES`"
    tree = ast.parse(path.read_text())
    table = next(n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == '_NAMES')
    return {n for names in ast.literal_eval(table).values() for n in names}
