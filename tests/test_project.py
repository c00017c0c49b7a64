"""The tools of a project as a person at a shell uses them: the right way, and in every wrong way"""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lrfinder_nb.project.commands import main
from lrfinder_nb.project.config import load_config
from lrfinder_nb.project.splits import load_split, read_list


def draw(root, classes=('bar', 'box', 'dot'), n=20, size=12, seed=0):
    "A small data set that can be learned: a bright band whose place is the class"
    rng = np.random.default_rng(seed)
    for k, c in enumerate(classes):
        (root/c).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            x = rng.integers(0, 100, (size, size), dtype=np.uint8)
            x[k*size//len(classes):(k + 1)*size//len(classes)] += 120
            Image.fromarray(x).save(root/c/f'{i:02}.png')


@pytest.fixture
def home(tmp_path, monkeypatch):
    "A folder to work in, with images in data/shapes/raw"
    monkeypatch.chdir(tmp_path)
    for k in [k for k in os.environ if k.startswith('LRFINDER_')]: monkeypatch.delenv(k)
    draw(tmp_path/'data/shapes/raw')
    return tmp_path


def typed(line, capsys):
    "(exit status, what was said) of a command line"
    capsys.readouterr()
    status = main(line.split() if isinstance(line, str) else line)
    out = capsys.readouterr()
    return status, out.out + out.err


def ok(line, capsys):
    "What a command that must succeed said"
    status, said = typed(line, capsys)
    assert status == 0, said
    return said


def refused(line, words, capsys, status=2):
    "A command that must be refused in one sentence, and leave every file as it was"
    before = {p: p.read_bytes() for p in Path('.').rglob('*') if p.is_file() and p.name != '.lock' and p.suffix != '.log'}
    code, said = typed(line, capsys)
    last = said.strip().splitlines()[-1]
    assert code == status and words in last and 'Traceback' not in said, said
    after = {p: p.read_bytes() for p in Path('.').rglob('*') if p.is_file() and p.name != '.lock' and p.suffix != '.log'}
    assert after == before
    return last


def start(capsys, extra=''):
    "Lists and settings for the small data set"
    ok('split --raw_data data/shapes/raw --folds 5', capsys)
    ok(f'init-config data/shapes {extra}', capsys)
    return Path('configs/shapes_config.yaml')


# Splits

def test_split_writes_lists(home, capsys):
    said = ok('split --raw_data data/shapes/raw --folds 5 --test 0.1', capsys)
    assert '60 images of 3 classes' in said
    folder = home/'data/shapes/splits'
    test = read_list(folder, 'test.txt')
    assert len(test) == 6
    for k in range(5):
        train, valid = (set(read_list(folder, f'fold_{k}_{p}.txt')) for p in ('train', 'val'))
        assert not train & valid and not (train | valid) & set(test) and len(train | valid) == 54
    assert read_list(folder, 'classes.txt') == ['bar', 'box', 'dot']
    assert len(list((home/'data/shapes/raw').rglob('*.png'))) == 60


def test_split_again_keeps_places(home, capsys):
    ok('split --raw_data data/shapes/raw --folds 5', capsys)
    before = load_split('data/shapes/splits')
    old = dict(zip(before.files, before.fold_of))
    assert '60 images keep their place, 0 are new, 0 are gone' in ok('split --raw-data data/shapes/raw --folds 5', capsys)
    draw(home/'data/shapes/raw', ('bar', 'new'), 25, seed=1)
    (home/'data/shapes/raw/dot/00.png').unlink()
    said = ok('split --raw_data data/shapes/raw', capsys)
    assert '59 images keep their place, 30 are new' in said and '1 are gone' in said
    after = load_split('data/shapes/splits')
    assert all(old.get(f, k) == k for f, k in zip(after.files, after.fold_of))
    assert max(np.bincount(after.fold_of)) - min(np.bincount(after.fold_of)) <= 4


def test_split_groups(home, capsys):
    ok(['split', '--raw_data', 'data/shapes/raw', '--folds', '4', '--group', r'\w+/\d(\d)'], capsys)
    split = load_split('data/shapes/splits')
    where = {}
    for f, k in zip(split.files, split.fold_of): assert where.setdefault(f[-5], k) == k
    rows = ['file,patient'] + [f'{f.name},{i//4}' for i, f in enumerate(sorted((home/'data/shapes/raw').rglob('*.png')))]
    (home/'m.csv').write_text('\n'.join(rows))
    refused('split --raw_data data/shapes/raw --group m.csv:age --force', "has no column 'age', only file, patient", capsys)


def test_split_names_what_is_odd(home, capsys):
    raw = home/'data/shapes/raw'
    (raw/'bar/00.png').rename(raw/'bar/zero.png')
    (raw/'dot/copy.png').write_bytes((raw/'bar/zero.png').read_bytes())
    (raw/'box/broken.png').write_text('<html>')
    (raw/'empty').mkdir()
    said = ok('split --raw_data data/shapes/raw --folds 5', capsys)
    for words in ('box/broken.png (it does not begin like an image)', 'classes without images are left out: empty', 'bar/zero.png = dot/copy.png'): assert words in said


def test_split_train_and_val(home, capsys):
    draw(home/'two/train', n=6)
    draw(home/'two/val', n=3, seed=1)
    ok('split --raw_data two', capsys)
    assert all(f.startswith('val/') for f in read_list('two_splits', 'fold_0_val.txt'))
    assert len(read_list('two_splits', 'fold_0_train.txt')) == 18
    (home/'two/val/dot').rename(home/'two/val/dots')
    refused('split --raw_data two --force', 'the class dot has a folder in train/ and none in val/', capsys)


@pytest.mark.parametrize('line, words', [
    ('split --raw_data nowhere', "'nowhere' is no folder"),
    ('split --raw_data data/shapes/raw --folds 21', '--folds 21 needs 21 images of each class, and the class bar has 20'),
    ('split --raw_data data/shapes/raw --folds many', "argument --folds: invalid int value: 'many'"),
    ('split --raw_data data/shapes/raw --test 1.5', '--test must be a share in [0, 1), got 1.5'),
    ('split --raw_data data/shapes/raw --fols 5', 'no flag --fols; did you mean --folds'),
    ('split', 'required: --raw_data'),
    ('split --raw_data data/shapes/raw/bar', 'holds no images in class folders'),
    ('split --raw_data data/shapes/raw --group (', 'is no regular expression'),
])
def test_split_refuses(home, line, words, capsys): refused(line, words, capsys)


def test_split_does_not_replace_another(home, capsys):
    ok('split --raw_data data/shapes/raw --folds 5', capsys)
    refused('split --raw_data data/shapes/raw --folds 3', 'holds a split with folds 5, and 3 was asked for; pass --force', capsys)
    ok('split --raw_data data/shapes/raw --folds 3 --force', capsys)
    assert sorted(p.name for p in (home/'data/shapes/splits').glob('fold_*')) == [f'fold_{k}_{p}.txt' for k in range(3) for p in ('train', 'val')]


def test_split_of_many_names(tmp_path):
    "200,000 names in 10 seconds of one core, and 500 MB"
    for c in range(50):
        (tmp_path/f'raw/{c:02}').mkdir(parents=True)
        for i in range(4000): os.close(os.open(tmp_path/f'raw/{c:02}/{i}.png', os.O_CREAT | os.O_WRONLY))
    for d, _, names in os.walk(tmp_path/'raw'):
        for n in names:
            with open(f'{d}/{n}', 'wb', buffering=0) as f: f.write(b'\x89PNG\r\n\x1a\n' + f'{d[-2:]}{n}'.encode())
    code = f'''if 1:
        import resource, sys
        from lrfinder_nb.project.commands import main
        status = main(["split", "--raw_data", {str(tmp_path/"raw")!r}, "--folds", "5"])
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(status, used.ru_utime + used.ru_stime, used.ru_maxrss/1024)'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.splitlines()[-1].split()
    assert done[0] == '0' and float(done[1]) < 10 and float(done[2]) < 500, done


# Settings

def test_init_config_measures(home, capsys):
    said = ok('init-config data/shapes', capsys)
    assert '60 images of 3 classes' in said and 'all of 12x12 pixels' in said and 'there are no lists yet' in said
    path = home/'configs/shapes_config.yaml'
    config = load_config(path)
    assert (config.data.dataset_name, config.data.num_classes, config.data.mode, config.transforms.size) == ('shapes', 3, 'L', 12)
    lines = [l for l in path.read_text().splitlines() if l.strip() and not l.lstrip().startswith(('#', '-')) and not l.rstrip().endswith(':')]
    assert all('  # ' in l for l in lines), [l for l in lines if '  # ' not in l]
    refused('init-config data/shapes', 'is there already; pass --force', capsys)
    ok('init-config data/shapes --force --preset multi-gpu --model resnet18 --pretrained --size 64', capsys)
    config = load_config(path)
    assert (config.training.devices, config.model.architecture, config.model.weights, config.transforms.size, config.data.mode) == (4, 'resnet18', 'DEFAULT', 64, 'RGB')


@pytest.mark.parametrize('name', ['split', 'init-config'])
def test_help_is_fast(name):
    "In half a second of one core"
    code = f'import resource\nfrom lrfinder_nb.project.commands import main\ntry: main([{name!r}, "--help"])\nexcept SystemExit: pass\nimport sys\nu = resource.getrusage(resource.RUSAGE_SELF)\nprint("torch" in sys.modules, u.ru_utime + u.ru_stime)'
    out = min((subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.splitlines()[-1].split() for _ in range(3)), key=lambda o: float(o[1]))
    assert out[0] == 'False' and float(out[1]) < .5, out
