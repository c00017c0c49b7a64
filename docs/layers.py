"""The folders of the package in the code: what each imports, and what it loads inside methods only.

    python docs/layers.py           writes the table into CONTRIBUTING.md
    python docs/layers.py --check   says whether the table there is that of the code
"""
import ast
import re
import sys

from entries import public_names
from run_nbs import ROOT

PACKAGE, PAGE = ROOT/'lrfinder_nb', ROOT/'CONTRIBUTING.md'
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
FOLDERS = ('core', 'show', 'engine', 'train', 'project', 'adapters')
MARKED = re.compile(r'(<!-- folders: written by docs/layers.py -->\n).*?(<!-- end of folders -->)', re.S)


def homes_of(name):
    "Where a name lives that is imported from the package itself"
    return tuple(public_names(PACKAGE/'__init__.py').get(name, name).split('.'))


def imported(node, parts, inside=False):
    "(path of what is imported, whether inside a function) of the imports in the module at `parts`"
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((tuple(alias.name.split('.')), inside) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            home = parts[:len(parts) - child.level] if child.level else ()
            path = (*home, *(child.module.split('.') if child.module else ()))
            if path != (PACKAGE.name,): yield path, inside
            else: yield from ((path + homes_of(alias.name), inside) for alias in child.names)
        yield from imported(child, parts, inside or isinstance(child, FUNCTIONS))


def modules(package=PACKAGE):
    "{'folder.module': [(path of what is imported, whether inside a function)]} of the code in `package`"
    found = {}
    for path in sorted(package.rglob('*.py')):
        parts = path.relative_to(package.parent).with_suffix('').parts
        if path.parent == package or path.stem == '__init__': continue
        found['.'.join(parts[1:])] = list(imported(ast.parse(path.read_text(encoding='utf-8')), parts))
    return found


def arrows(found, inside=False):
    "{(module, module of another folder)} of the imports at the top, or of those inside functions"
    pairs = [(name, path) for name, paths in found.items() for path, deep in paths if deep == inside]
    own = {(name, '.'.join(path[1:3])) for name, path in pairs if path[0] == PACKAGE.name}
    return {(a, b) for a, b in own if a.split('.')[0] != b.split('.')[0]}


def outside(found, folder):
    "Libraries that the modules of `folder` import anywhere"
    paths = [path for name, paths in found.items() if name.startswith(folder + '.') for path, _ in paths]
    return {path[0] for path in paths} - sys.stdlib_module_names - {PACKAGE.name}


def table(found):
    "The folders, in Markdown"
    code = lambda words: ', '.join(f'`{w}`' for w in words)
    rows = []
    for folder in FOLDERS:
        own = {name for name in found if name.startswith(folder + '.')}
        if not own: continue
        down = {b.split('.')[0] for a, b in arrows(found) if a in own}
        up = sorted({b for a, b in arrows(found, inside=True) if a in own and b.split('.')[0] not in down})
        rows.append([f'`{folder}/`', code(f for f in FOLDERS if f in down) or 'none',
                     code(sorted(outside(found, folder), key=str.lower)), code(up) or 'none'])
    head = ['folder', 'folders it imports', 'libraries it imports', 'loaded inside methods only']
    return '\n'.join('| ' + ' | '.join(row) + ' |' for row in (head, ['---']*len(head), *rows)) + '\n'


def drawn():
    "CONTRIBUTING.md with the table of the code as it is"
    text, made = PAGE.read_text(encoding='utf-8'), table(modules())
    if not MARKED.search(text): raise SystemExit('CONTRIBUTING.md has no place for the table of folders')
    return MARKED.sub(lambda m: m[1] + made + m[2], text)


def main(args):
    text = drawn()
    stale = text != PAGE.read_text(encoding='utf-8')
    if '--check' in args:
        if stale: print('the table of folders in CONTRIBUTING.md is out of date; run python docs/layers.py')
        return stale
    if stale: PAGE.write_text(text, encoding='utf-8')


if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
