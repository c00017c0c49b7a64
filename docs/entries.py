"""Entries of the API: what exported code says of itself, read from the notebooks without running them."""
import ast
import io
import re
import tokenize

from cells import exported, module_of

CODE = re.compile(r'(?<![`\[}])`([A-Za-z_][\w.]*)(\(\))?`(?![`\]])')
PROPERTIES = {'property', 'cached_property'}


def comments(code):
    """{line: comment} of code

    A comment goes on in the lines below it that hold nothing else. One that begins on a line of its own is about the
    line above where it is indented further than that, and about the line below otherwise.
    """
    lines, found, last = code.splitlines(), {}, (-1, 0, 0)
    for t in tokenize.generate_tokens(io.StringIO(code).readline):
        if t.type != tokenize.COMMENT: continue
        (row, column), text = t.start, t.string.lstrip('# ')
        above = lines[row - 2] if row > 1 else ''
        if t.line[:column].strip(): about = row
        elif last[:2] == (row - 1, column):
            about = last[2]
            if about == row: about, found[row + 1] = row + 1, found.pop(row)
        else: about = row - 1 if len(above) - len(above.lstrip()) < column else row + 1
        found[about] = f'{found[about]} {text}' if about in found else text
        last = row, column, about
    return found


def parameters(f, said, method=False):
    "[(name, description)] of a function, and the description of what it returns"
    a = f.args
    plain = a.posonlyargs + a.args
    pairs = list(zip(plain, [None]*(len(plain) - len(a.defaults)) + a.defaults))[bool(method):]
    pairs += [(a.vararg, None)]*bool(a.vararg) + list(zip(a.kwonlyargs, a.kw_defaults))
    pairs += [(a.kwarg, None)]*bool(a.kwarg)
    stars = {id(a.vararg): r'\*', id(a.kwarg): r'\*\*'}
    ends = [max(p.end_lineno, d.end_lineno if d else 0) for p, d in pairs]
    out = [(stars.get(id(p), '') + p.arg, said.get(end, '')) for (p, _), end in zip(pairs, ends)]
    in_head = f.returns and f.returns.end_lineno < f.body[0].lineno
    back = said.get(f.returns.end_lineno, '') if in_head else ''
    return out, '' if any(back == s for _, s in out) else back


def default(field):
    "What a signature says after a field of a dataclass"
    value = '' if field.value is None else ast.unparse(field.value)
    if value.startswith('field('): return ' = ...' if 'default' in value else ''
    return f' = {value}' if value else ''


def decorators(f): return [ast.unparse(d).split('(')[0] for d in f.decorator_list]


def unquoted(node):
    "An annotation without the quotes around it"
    quoted = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return ast.parse(node.value, mode='eval').body if quoted else node


def signature(f, method=False):
    "Arguments and return annotation of a function, as text; `method` drops the first"
    f = ast.parse(ast.unparse(f)).body[0]
    for a in ast.walk(f.args):
        if isinstance(a, ast.arg) and a.annotation: a.annotation = unquoted(a.annotation)
    if f.returns: f.returns = unquoted(f.returns)
    if method: (f.args.posonlyargs or f.args.args).pop(0)
    return f'({ast.unparse(f.args)})' + (f' -> {ast.unparse(f.returns)}' if f.returns else '')


def names(node):
    "Public names that a top-level statement defines"
    found = []
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)): found = [node.name]
    elif isinstance(node, ast.Assign):
        targets = [e for t in node.targets for e in (t.elts if isinstance(t, ast.Tuple) else [t])]
        found = [t.id for t in targets if isinstance(t, ast.Name)]
    return [n for n in found if not n.startswith('_')]


def public_names(path):
    "{public name: module that it comes from}, in the order of `_NAMES` in the package"
    body = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.Assign)]
    table = next(n.value for n in body if ast.unparse(n.targets[0]) == '_NAMES')
    return {n: module for module, names in ast.literal_eval(table).items() for n in names}


class Code:
    "All exported code: classes, public names, and where each is documented"
    def __init__(self, notebooks, package, public, words=()):
        self.package, self.public, self.words, self.missing = package, public, dict(words), []
        self.classes, self.home, self.nodes = {}, {}, {}
        for nb in notebooks.values():
            if mod := module_of(nb): self.read(nb, mod)
        known = {n: mods[0] for n, mods in self.home.items() if len(mods) == 1}
        known |= {n: mod for n, mod in self.public.items() if (mod, n) in self.nodes}
        self.refs = {n: self.full(n, mod) for n, mod in known.items()}
        for cls, mod in known.items():
            if (mod, cls) not in self.classes: continue
            for m, *_ in self.members(cls, mod): self.refs[f'{cls}.{m.name}'] = f'{self.refs[cls]}.{m.name}'
        of_finder = [n for n in self.refs if n.startswith('LRFinder.')]
        self.refs |= {n.replace('LRFinder.', 'finder.'): self.refs[n] for n in of_finder}

    def read(self, nb, mod):
        "Note what a notebook defines"
        for found, code in exported(nb):
            said = comments(code)
            for node in ast.parse(code).body:
                if isinstance(node, ast.ClassDef): self.classes[mod, node.name] = (node, said)
                if 'exporti' in found: continue
                for name in names(node):
                    self.home.setdefault(name, []).append(mod)
                    self.nodes[mod, name] = (node, said)

    def offered(self, mod):
        "Public names of a module"
        return [n for n, m in self.public.items() if m == mod and (mod, n) in self.nodes]

    def full(self, name, mod):
        "The name to import: public ones come from the package itself"
        return f'{self.package}.{name}' if self.public.get(name) == mod else f'{self.package}.{mod}.{name}'

    def about(self, mod, name):
        "The first line that is said about a name"
        return self.doc(name, *self.nodes[mod, name], mod).split('\n')[0]

    def doc(self, name, node, said, mod=''):
        "What is said about a name: in its docstring, beside it, or in words.toml"
        plain = isinstance(node, ast.Assign)
        text = said.get(node.end_lineno, said.get(node.lineno)) if plain else ast.get_docstring(node)
        return text or self.words.get(f'{mod}.{name}') or self.words.get(name, '')

    def undescribed(self):
        "Constants that are neither private nor described"
        plain = ((mod, name, *x) for (mod, name), x in self.nodes.items() if isinstance(x[0], ast.Assign))
        return [f'{mod}.{name}' for mod, name, *x in plain if name[0] != '_' and not self.doc(name, *x, mod)]

    def found(self, cls, mod):
        "(class, comments) by its name as the module `mod` uses it; its own classes come first"
        own, public = self.classes.get((mod, cls)), self.classes.get((self.public.get(cls), cls))
        return own or public or next((c for (_, name), c in self.classes.items() if name == cls), (None, None))

    def members(self, cls, mod):
        "(function, comments) of the public methods and properties of a class and of its private bases"
        seen, todo = set(), [cls]
        while todo:
            node, said = self.found(todo.pop(0), mod)
            if node is None: continue
            for f in node.body:
                if not isinstance(f, ast.FunctionDef) or f.name.startswith('_') or f.name in seen: continue
                if any(d.endswith('.setter') for d in decorators(f)): continue
                if ast.get_docstring(f) or PROPERTIES & set(decorators(f)):
                    seen.add(f.name)
                    yield f, said
            todo += [b.id for b in node.bases if isinstance(b, ast.Name) and b.id.startswith('_')]

    def constructor(self, cls, mod):
        "(signature, [(parameter, description)]) of a class: its fields, or its own or inherited `__init__`"
        node, said = self.found(cls, mod)
        if 'dataclass' in decorators(node):
            fields = self.fields(cls, mod)
            kinds = {name: ast.unparse(unquoted(f.annotation)) for name, (f, _) in fields.items()}
            text = ', '.join(f'{name}: {kinds[name]}{default(f)}' for name, (f, _) in fields.items())
            return f'({text})', [(name, s.get(f.end_lineno, '')) for name, (f, s) in fields.items()]
        for f in node.body:
            if isinstance(f, ast.FunctionDef) and f.name == '__init__':
                return signature(f, True), parameters(f, said, True)[0]
        bases = [b.id for b in node.bases if isinstance(b, ast.Name) and self.found(b.id, mod)[0]]
        return self.constructor(bases[0], mod) if bases else ('()', [])

    def fields(self, cls, mod):
        "{name: (field, comments)} of a dataclass and of those that it inherits from"
        node, said = self.found(cls, mod)
        if node is None or 'dataclass' not in decorators(node): return {}
        bases = [b.id for b in reversed(node.bases) if isinstance(b, ast.Name)]
        found = {k: v for b in bases for k, v in self.fields(b, mod).items()}
        own = [f for f in node.body if isinstance(f, ast.AnnAssign) and 'init=False' not in ast.unparse(f)]
        return found | {f.target.id: (f, said) for f in own}

    def entry_of(self, name, node, said, mod):
        "The Python-domain entry of a function, class or constant, as MyST"
        options = [f':module: {self.full(name, mod).rsplit(".", 1)[0]}']
        inner, back = '', ''
        public = self.public.get(name) == mod
        if public: options.append(f':canonical: {self.package}.{mod}.{name}')
        if isinstance(node, ast.FunctionDef):
            (params, back), kind, sig = parameters(node, said), 'function', signature(node)
        elif isinstance(node, ast.ClassDef):
            kind, (sig, params) = 'class', self.constructor(name, mod)
            inner = ''.join(self.member(name, f, s, options[0], public) for f, s in self.members(name, mod))
        else:
            kind, sig, params, value = 'data', '', [], ast.unparse(node.value)
            if len(value) < 60: options.append(f':value: {value}')
        params, doc = self.described(name, params, public), self.doc(name, node, said, mod)
        if public and not doc: self.missing.append(name)
        head = '\n'.join([f'``````{{py:{kind}}} {name}{sig}', *options])
        return f'{head}\n\n{self.body(doc, params, back)}{inner}``````\n\n'

    def member(self, cls, f, said, module, public):
        "The entry of a method or property"
        deco = set(decorators(f))
        bound = 'staticmethod' not in deco
        (params, back), kind = parameters(f, said, bound), 'property' if PROPERTIES & deco else 'method'
        options = [module] + [f':{d}:' for d in ('classmethod', 'staticmethod') if d in deco]
        if kind == 'property' and f.returns: options.append(f':type: {ast.unparse(unquoted(f.returns))}')
        params = self.described(f'{cls}.{f.name}', params, public)
        doc = ast.get_docstring(f) or self.words.get(f'{cls}.{f.name}', '')
        if public and not doc: self.missing.append(f'{cls}.{f.name}')
        sig = '' if kind == 'property' else signature(f, bound)
        head = '\n'.join([f'`````{{py:{kind}}} {f.name}{sig}', *options])
        return f"{head}\n\n{self.body(doc, params, back)}`````\n\n"

    def described(self, name, params, public):
        "Parameters with their descriptions, of which those in words.toml come first; missing ones are noted"
        def words(p, text): return self.words.get(f'{name}({p})') or text or self.words.get(f'({p})', '')
        out = [(p, words(p.replace('\\', ''), text)) for p, text in params]
        self.missing += [f'{name}({p})' for p, text in out if public and not text]
        return out

    def body(self, doc, params, back):
        "Words of an entry, and its fields"
        fields = [f':param {p}: {self.linked(text)}' for p, text in params if text]
        if back: fields.append(f':returns: {self.linked(back)}')
        return self.linked(doc) + '\n\n' + '\n'.join(fields) + '\n\n'*bool(fields)

    def linked(self, text):
        "Markdown with `backticked` names of the library as links, outside of code blocks and headings"
        def ref(m):
            name, call = m[1], m[2] or ''
            return f'{{py:obj}}`{name}{call} <{self.refs[name]}>`' if name in self.refs else m[0]
        parts = re.split(r'(^```.*?^```$|^#.*?$)', text, flags=re.M | re.S)
        return ''.join(p if i % 2 else CODE.sub(ref, p) for i, p in enumerate(parts))
