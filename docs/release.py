"""Is the package ready to be released? Builds it and tries it as a user gets it, far from the repository.

    python docs/release.py
"""
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from email import message_from_bytes
from pathlib import Path

from cells import settings
from entries import public_names
from run_nbs import ROOT

PACKAGE = settings()['lib_path']
ALL = f'import {PACKAGE} as p; [getattr(p, n) for n in p.__all__]; print(p.__name__, p.__version__)'


def step(name): print(f'\n== {name}', flush=True)


def call(*args, cwd=ROOT, **env):
    "Run a program; what it prints is shown where it fails"
    clean = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'VIRTUAL_ENV')}
    ran = subprocess.run([*map(str, args)], cwd=cwd, env=clean | env, capture_output=True, text=True)
    if ran.returncode: raise SystemExit(f'{" ".join(map(str, args))} failed:\n{ran.stdout[-4000:]}{ran.stderr[-4000:]}')
    return ran.stdout


def tree():
    "Files of the package in the repository"
    found = (p for p in (ROOT/PACKAGE).rglob('*') if p.is_file() and '__pycache__' not in p.parts)
    return {p.relative_to(ROOT).as_posix() for p in found}


def check_contents(wheel):
    "Every file of the package is in the wheel, the metadata are complete, and data of others have their licence"
    with zipfile.ZipFile(wheel) as z:
        held = {n for n in z.namelist() if not n.split('/')[0].endswith('.dist-info')}
        notice = z.read(next(n for n in z.namelist() if n.endswith('NOTICE'))).decode()
        meta = message_from_bytes(z.read(next(n for n in z.namelist() if n.endswith('METADATA'))))
    if held != tree(): raise SystemExit(f'the wheel and the tree differ: {sorted(held ^ tree())}')
    for name in ('Name', 'Version', 'Summary', 'License-Expression', 'Requires-Python'):
        if not meta[name]: raise SystemExit(f'the metadata have no {name}')
    data = {n for n in held if Path(n).suffix in ('.npz', '.csv', '.png', '.json')}
    if missing := {n for n in data if n not in notice}: raise SystemExit(f'NOTICE has no licence of {sorted(missing)}')
    return meta['Version'], len(held)


def examples():
    "The Python code of the README, block by block"
    return re.findall(r'^```python\n(.*?)^```', (ROOT/'README.md').read_text(encoding='utf-8'), re.M | re.S)


def commands():
    "Names of the commands that the package installs"
    return [line.split('=')[0].strip() for line in settings()['console_scripts'].splitlines() if '=' in line]


def check_use(python, folder):
    "In an environment without the repository: the names, the commands, the demo, the examples of the README"
    print(call(python, '-c', ALL, cwd=folder).strip())
    for name in commands(): call(Path(python).parent/name, '--help', cwd=folder)
    print(f'{len(commands())} commands say what they do')
    print(call(python, '-m', f'{PACKAGE}.project.demo', cwd=folder).strip().splitlines()[-1])
    (folder/'examples.py').write_text('\n'.join(examples()), encoding='utf-8')
    call(python, 'examples.py', cwd=folder, MPLBACKEND='Agg')
    print(f'{len(examples())} examples of the README run')


def check_types(python, folder):
    "Pyright in its basic mode knows the public names and accepts the examples of the README"
    names = sorted(public_names(ROOT/PACKAGE/'__init__.py'))
    lines = [f'from {PACKAGE} import {", ".join(names)}', *(f'reveal_type({n})' for n in names)]
    (folder/'names.py').write_text('\n'.join(lines))
    pyright = sys.executable, '-m', 'pyright', '--pythonpath', python
    call(*pyright, 'examples.py', cwd=folder)
    said = call(*pyright, 'names.py', cwd=folder)
    known = re.findall(r'Type of "(\w+)" is (?!"Unknown")', said)
    if missing := set(names) - set(known): raise SystemExit(f'pyright does not know {sorted(missing)}:\n{said[-3000:]}')
    print(f'pyright knows all {len(names)} public names')


def main():
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        step('sdist and wheel')
        call(sys.executable, '-m', 'build', '--outdir', work/'dist')
        wheel, = (work/'dist').glob('*.whl')
        call(sys.executable, '-m', 'twine', 'check', '--strict', *(work/'dist').iterdir())
        version, files = check_contents(wheel)
        print(f'version {version}, {files} files')
        step('a fresh environment')
        call(sys.executable, '-m', 'venv', work/'env')
        python, folder = work/'env/bin/python', work/'away'
        folder.mkdir()
        call(python, '-m', 'pip', 'install', '-q', '-c', ROOT/'constraints.txt', wheel)
        check_use(python, folder)
        step('types')
        check_types(python, folder)
    print('\nready to be released')


if __name__ == '__main__': main()
