"""The tools of a project as a person at a shell uses them: the right way, and in every wrong way"""
import importlib.util
import io
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from lrfinder_nb import LRFinder, SmallCNN, load_curve, load_history, set_seed
from lrfinder_nb.project.commands import main
from lrfinder_nb.project.config import load_config, set_value
from lrfinder_nb.project.evidence import load_found
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


def contents(folder):
    "The bytes of each file below a folder, but for locks and logs"
    files = [path for path in Path(folder).rglob('*') if path.is_file()]
    return {path: path.read_bytes() for path in files if path.name != '.lock' and path.suffix != '.log'}


def python(code):
    "The words of the last line that a fresh interpreter prints"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()


COMMAND = [sys.executable, '-m', 'lrfinder_nb.project.commands']


def interrupted(line, words, times=1):
    "What a command said after it was stopped by Ctrl-C, once it had said `words`"
    process = subprocess.Popen([*COMMAND, *line], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for said in process.stdout:
        if words in said: break
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(.02)
    rest = process.stdout.read()
    assert process.wait(60) == 1 and 'Traceback' not in rest, rest
    return rest


def refused(line, words, capsys, status=2):
    "A command that must be refused in one sentence, and leave every file as it was"
    before = contents('.')
    code, said = typed(line, capsys)
    last = said.strip().splitlines()[-1]
    assert code == status and words in last and 'Traceback' not in said, said
    assert contents('.') == before
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
    said = ok('split --raw-data data/shapes/raw --folds 5', capsys)
    assert '60 images keep their place, 0 are new, 0 are gone' in said
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
    names = [path.name for path in sorted((home/'data/shapes/raw').rglob('*.png'))]
    rows = [f'{name},{i//4}' for i, name in enumerate(names)]
    (home/'m.csv').write_text('\n'.join(['file,patient', *rows]))
    words = "has no column 'age', only file, patient"
    refused('split --raw_data data/shapes/raw --group m.csv:age --force', words, capsys)


def test_split_names_what_is_odd(home, capsys):
    raw = home/'data/shapes/raw'
    (raw/'bar/00.png').rename(raw/'bar/zero.png')
    (raw/'dot/copy.png').write_bytes((raw/'bar/zero.png').read_bytes())
    (raw/'box/broken.png').write_text('<html>')
    (raw/'empty').mkdir()
    (raw/'bar/photo.heic').write_text('')
    (raw/'bar/gone.png').symlink_to('nowhere')
    (raw/'bar/circle').symlink_to(raw)
    said = ok('split --raw_data data/shapes/raw --folds 5', capsys)
    assert '61 images of 3 classes' in said and 'INFO     | other files are left alone: 1 .heic' in said
    assert 'bar/gone.png (its link leads nowhere)' in said
    assert 'box/broken.png (it does not begin like an image)' in said
    assert 'classes without images are left out: empty' in said
    assert 'bar/zero.png = dot/copy.png' in said


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
    ('split --raw_data data/shapes/raw --folds 21',
     '--folds 21 needs 21 images of each class, and the class bar has 20'),
    ('split --raw_data data/shapes/raw --folds many', "argument --folds: invalid int value: 'many'"),
    ('split --raw_data data/shapes/raw --test 1.5', '--test must be a share in [0, 1), got 1.5'),
    ('split --raw_data data/shapes/raw --fols 5', 'no flag --fols; did you mean --folds'),
    ('split', 'required: --raw_data'),
    ('split --raw_data data/shapes/raw/bar', 'holds no images in class folders, only 20 .png; expected a layout'),
    ('split --raw_data data/shapes', "images of one class only (raw); did you mean 'data/shapes/raw'?"),
    ('split --raw_data data/shapes/raw --group (', 'is no regular expression'),
    (['split', '--raw_data', ''], 'the name of the folder is empty'),
    ('split --raw_data data/shapes/raw --folds 1 --valid 0', '--valid 0 holds out 0 of 60 images'),
    ('split --raw_data data/shapes/raw --folds 1 --valid 0.99', '--valid 0.99 holds out 60 of 60 images'),
    ('split --raw_data data/shapes/raw --test 0.001', '--test 0.001 holds out 1 of 60 images, and each of 3 classes'),
    ('split --raw_data data/shapes/raw --test 0.9', '--test 0.9 leaves 2 of 20 images of the class bar'),
    ('split --raw_data data/shapes/raw --group blank.csv:patient', "'bar/00.png' has no value in 'blank.csv'"),
    ('split --raw_data data/shapes/raw --group twice.csv:patient', "has two values of patient for 'bar/00.png'"),
    ('split --raw_data parts', "'parts' holds labels/ beside the parts of a data set (train, val); move labels/ away"),
    ('init-config data/shapes --model resnet81', "there is no model 'resnet81'; did you mean resnet18?"),
    ('init-config data/shapes --model simple_cnn --pretrained', 'simple_cnn has none'),
    (['init-config', ''], 'the name of the folder is empty'),
])
def test_split_and_init_config_refuse(home, line, words, capsys):
    rows = [f"{path.relative_to('data/shapes/raw')},{i//4 or ''}\n"
            for i, path in enumerate(sorted(Path('data/shapes/raw').rglob('*.png')))]
    Path('blank.csv').write_text(''.join(['file,patient\n', *rows]))
    Path('twice.csv').write_text(''.join(['file,patient\n', *rows, 'bar/00.png,99\n']))
    draw(home/'parts/train')
    draw(home/'parts/val')
    Path('parts/labels').mkdir()
    refused(line, words, capsys)


def test_split_does_not_replace_another(home, capsys):
    ok('split --raw_data data/shapes/raw --folds 5', capsys)
    words = 'holds a split with folds 5, and 3 was asked for; pass --force'
    refused('split --raw_data data/shapes/raw --folds 3', words, capsys)
    ok('split --raw_data data/shapes/raw --folds 3 --force', capsys)
    names = sorted(path.name for path in (home/'data/shapes/splits').glob('fold_*'))
    assert names == [f'fold_{k}_{part}.txt' for k in range(3) for part in ('train', 'val')]


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
        # ru_maxrss begins with that of the parent
        high = next(l.split()[1] for l in open("/proc/self/status") if l.startswith("VmHWM"))
        print(status, used.ru_utime + used.ru_stime, int(high)/1024)'''
    done = python(code)
    assert done[0] == '0' and float(done[1]) < 10 and float(done[2]) < 500, done


# Settings

def test_a_command_that_is_advised_can_be_copied(home, capsys):
    "Also where a name holds a space"
    draw(home/'data/my shapes/raw')
    said = ok(['init-config', 'data/my shapes'], capsys)
    line = next(l.split('ml-')[1] for l in said.splitlines() if 'ml-split' in l)
    ok(shlex.split(line), capsys)
    assert load_split('data/my shapes/splits')
    said = ok(['lr-finder', '--config', 'configs/my shapes_config.yaml', '--num_iter', '30', '--end_lr', '1'], capsys)
    assert "ml-train --config 'configs/my shapes_config.yaml' --lr" in said


def test_init_config_measures(home, capsys):
    said = ok('init-config data/shapes', capsys)
    assert '60 images of 3 classes' in said and 'all of 12x12 pixels' in said and 'there are no lists yet' in said
    path = home/'configs/shapes_config.yaml'
    config = load_config(path)
    data = config.data
    assert (data.dataset_name, data.num_classes, data.mode, config.transforms.size) == ('shapes', 3, 'L', 12)
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.rstrip().endswith(':')]
    lines = [line for line in lines if not line.lstrip().startswith(('#', '-'))]
    assert lines and not [line for line in lines if '  # ' not in line]
    refused('init-config data/shapes', 'is there already; pass --force', capsys)
    ok('init-config data/shapes --force --preset multi-gpu --model resnet18 --pretrained --size 64', capsys)
    config = load_config(path)
    assert (config.model.architecture, config.model.weights) == ('resnet18', 'DEFAULT')
    assert (config.training.devices, config.transforms.size, config.data.mode) == (4, 64, 'RGB')


@pytest.mark.parametrize('name', ['split', 'init-config', 'lr-finder', 'train'])
def test_help_is_fast(name):
    "In half a second of one core"
    code = f'''if 1:
        import resource, sys
        from lrfinder_nb.project.commands import main
        try: main([{name!r}, "--help"])
        except SystemExit: pass
        used = resource.getrusage(resource.RUSAGE_SELF)
        print("torch" in sys.modules, used.ru_utime + used.ru_stime)'''
    heavy, seconds = min((python(code) for _ in range(3)), key=lambda words: float(words[1]))
    assert heavy == 'False' and float(seconds) < .5, seconds


# The sweep

FOLDER = Path('runs/lr_finder/shapes')
QUICK = ['--num_iter', '40', '--batch_size', '8', '--device', 'cpu']


def test_finder_says_and_writes(home, capsys):
    config = start(capsys)
    said = ok(['lr-finder', '--config', str(config), *QUICK], capsys)
    assert 'Starting Learning Rate Finder' in said and 'Testing learning rates from 1e-07 to 10' in said
    assert 'Using 40 iterations with exponential growth' in said and 'LR: 1.00e-07 | Loss: ' in said
    assert 'SUCCESS  | Suggested learning rate: ' in said
    assert 'SUCCESS  | Saved plot to runs/lr_finder/shapes/lr_finder.png' in said
    names = {'lr_finder.png', 'curve.json', 'suggestion.json', 'config.yaml', 'lr_finder.log'}
    assert {path.name for path in FOLDER.iterdir()} - {'.lock'} == names
    assert load_config(FOLDER/'config.yaml').lr_finder.num_iter == 40       # the settings as they were used
    ok(['lr-finder', '--config', str(config), *QUICK, '--seed', '7'], capsys)
    assert len(list((FOLDER/'earlier').glob('*/suggestion.json'))) == 1     # the first one is kept


def test_finder_is_the_finder(home, capsys):
    "Bit for bit the suggestion of the same sweep in Python, whoever reads the images"
    config = start(capsys)
    for extra, clip in (([], None), (['--num_workers', '2'], None), (['--set', 'training.clip=0.01'], .01)):
        ok(['lr-finder', '--config', str(config), *QUICK, *extra], capsys)
        found = load_found(FOLDER/'suggestion.json')
        c = load_config(config)
        mean, std = c.transforms.mean, c.transforms.std
        to_float = v2.ToDtype(torch.float32, scale=True)
        to_tensor = v2.Compose([v2.Grayscale(), v2.ToImage(), to_float, v2.Normalize(mean, std)])
        everything = ImageFolder('data/shapes/raw', to_tensor)
        number = {os.path.relpath(path, 'data/shapes/raw'): i for i, (path, _) in enumerate(everything.samples)}
        train = Subset(everything, [number[f] for f in read_list('data/shapes/splits', 'fold_0_train.txt')])
        dl = DataLoader(train, 8, shuffle=True, generator=torch.Generator())
        set_seed(42, dl)
        model = SmallCNN(1, 3)
        opt = torch.optim.AdamW(model.parameters())
        finder = LRFinder(model, opt, nn.CrossEntropyLoss(), clip=clip)
        finder.range_test(dl, num_iter=40, seed=42, progress=False)
        assert np.array_equal(finder.curve.losses, load_curve(FOLDER/'curve.json').losses)
        assert finder.suggestion.lr == found.lr and finder.suggestion.interval == found.interval


def test_finder_chooses_the_range_and_verifies(home, capsys):
    config = start(capsys)
    said = ok(f'lr-finder --config {config} --batch-size 8 --device cpu --verify --write', capsys)
    assert 'coarse to fine' in said and 'Training shortly at rates around' in said
    lr = load_found(FOLDER/'suggestion.json').lr
    assert load_config(config).optimizer.lr == float(f'{lr:.3g}')
    assert '# highest learning rate' in config.read_text()      # the comments are there still


def test_finder_runs_and_mixup(home, capsys):
    config = start(capsys)
    line = ['lr-finder', '--config', str(config), *QUICK, '--runs', '3', '--use-mixup', '--set', 'training.clip=1']
    said = ok(line, capsys)
    for words in ('Mean:', 'Median:', 'Geometric Mean:', 'Range (max/min):', 'Confidence:'): assert words in said
    assert 'Without MixUp:' in said and 'MixUp changes the rate by a factor of' in said
    assert {'curve.json', 'curve_1.json', 'curve_2.json'} <= {p.name for p in FOLDER.iterdir()}


def test_finder_without_memory(home, capsys):
    config = start(capsys)
    (home/'nets.py').write_text('''if 1:
        from lrfinder_nb import SmallCNN
        class Greedy(SmallCNN):
            def forward(self, x):
                if len(x) > 8: raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
                return super().forward(x)
        def greedy(num_classes, in_channels): return Greedy(in_channels, num_classes)''')
    line = f'lr-finder --config {config} --num_iter 40 --device cpu --batch_size 32'
    line += ' --set model.architecture=nets.py:greedy'
    refused(line, 'out of memory on cpu with batches of 32; try --batch_size 16, or --find_batch_size', capsys, 1)
    words = 'out of memory on cpu with batches of 32; try --batch_size 16'
    refused(line + ' --runs 2', words, capsys, 1)
    code, said = typed(line.replace('lr-finder', 'train').replace('--num_iter 40', '--lr 0.01'), capsys)
    assert code == 1 and said.splitlines()[-1].startswith(f'ml-train: {words}'), said
    said = ok(line + ' --find-batch-size --write', capsys)
    assert 'trying 16' in said and 'trying 8' in said and load_config(config).training.batch_size == 8


@pytest.mark.parametrize('flags, words', [
    ('--rule minimun', "lr_finder.rule must be one of minimum, basin, steepest, balanced, valley, slide, "
                       "got 'minimun'; did you mean minimum?"),
    ('--start_lr 1 --end_lr 0.1', 'lr_finder.start_lr must be below end_lr'),
    ('--end_lr 1e-9', 'lr_finder.start_lr must be below end_lr, got 1e-07 and 1e-09'),
    ('--start_lr fast', "--start_lr must be a number above 0 or null, got 'fast'"),
    ('--batch_size 0', '--batch_size must be a whole number above 0, got 0'),
    ('--beta 1', 'lr_finder.beta must be below 1'),
    ('--diverge_threshold 1', 'lr_finder.diverge_threshold must be above 1'),
    ('--fold 9', "fold 9 is not in 'data/shapes/splits'; the folds there are 0 to 4"),
    ('--device tpu', "--device must be auto or cpu or cuda or mps, got 'tpu'"),
    ('--optimizer lion', "--optimizer must be adamw or adam or sgd or rmsprop, got 'lion'"),
    ('--set trainin.clip=1', '--set trainin.clip: there is no key trainin.clip; did you mean training.clip?'),
    ('--set training.clip', '--set needs KEY=VALUE'),
    ('--set =3', "--set needs KEY=VALUE, got '=3'"),
    ('--set training=3', '--set training: training is a section with keys of its own; set one of them, such as'),
    ('--set optimizer.lr=null', '--set optimizer.lr must be a number above 0 or auto, got null'),
    ('--set transforms.train=null', 'each entry text or a name with arguments, got null'),
    ('--seed 4294967296', '--seed must be a whole number from 0 up to 2**32 - 1, got 4294967296'),
    ('--use_mixup maybe', "--use_mixup must be true or false, got 'maybe'"),
    ('-fold 1', 'no flag -fold; did you mean --fold?'),
    ('--devices 0', '--devices must be a whole number above 0, got 0'),
    ('--set model.type=custom', 'model.custom_architecture is empty'),
    ('--set model.architecture=nets.py', "'nets.py' names a file and no function in it"),
    ('--set model.architecture=nets.py:broken', "'nets.py:broken' failed (ZeroDivisionError: division by zero)"),
    ('--set model.architecture=nets.py:silent', "nets.py:silent does not take images of 1 channels and 12x12 pixels "
                                                "(AssertionError)"),
    ('--set model.architecture=wrong.py:net', "'wrong.py' cannot be run (SyntaxError: "),
    ('--itrations 5', 'no flag --itrations'),
    ('--set model.architecture=resnet81 --set data.mode=RGB', "there is no model 'resnet81'"),
    ('--set model.architecture=resnet18', 'set data.mode to RGB'),
    ('--set data.num_classes=10', 'data.num_classes is 10, and the lists'),
    ('--set data.data_dir=data', "name 60 images that are not in 'data', such as"),
    ('--set data.splits_dir=nowhere', "there are no lists in 'nowhere'"),
    ('--set transforms.mean=[0.1,0.2]', 'transforms.mean has 2 numbers'),
    ('--set transforms.train=[Flop]', "has no transform 'Flop'"),
])
def test_finder_refuses(home, flags, words, capsys):
    config = start(capsys)
    Path('wrong.py').write_text('def net(:')
    Path('nets.py').write_text('''if 1:
        from torch import nn
        class Silent(nn.Linear):
            def forward(self, x): assert False
        def broken(): return 1/0
        def silent(num_classes): return Silent(2, num_classes)''')
    refused(f'lr-finder --config {config} {flags}', words, capsys)


@pytest.mark.parametrize('text, words', [
    ('training: {batch_size: [', 'is no valid YAML in line 1'),
    ('', 'holds no settings'),
    ('- 1', 'holds no settings'),
    ('training: 3', "bad.yaml': training is a section with keys of its own, got 3"),
    ('trainig:\n  lr: 1', "bad.yaml': there is no key trainig"),
    ('optimizer:\n  lr: "fast"', "bad.yaml': optimizer.lr must be a number above 0 or auto, got 'fast'"),
    ('optimizer:\n  lr: -1', "optimizer.lr must be a number above 0 or auto, got -1"),
    ('seed: 1\nseed: 2', 'has the key seed twice, the second time in line 2'),
    ('a: !!python/object/apply:os.system ["touch owned"]', 'is no valid YAML'),
    ('\x00', 'is no valid YAML'),
])
def test_bad_settings(home, text, words, capsys):
    start(capsys)
    (home/'bad.yaml').write_text(text)
    refused('lr-finder --config bad.yaml', words, capsys)
    assert not (home/'owned').exists()


def test_a_misspelt_flag_that_is_needed(home, capsys):
    refused('lr-finder --confg x.yaml', 'no flag --confg; did you mean --config?', capsys)
    refused('split --raw-dat x', 'no flag --raw_dat; did you mean --raw_data?', capsys)


def test_what_is_typed_is_read_by_its_type(home, capsys, monkeypatch):
    "A name of digits is a name, and a switch that the file turns on can be turned off"
    config = start(capsys)
    config.write_text(set_value(config.read_text(), 'lr_finder.use_mixup', True))
    line = f'lr-finder --config {config} --print_config'
    assert "output_dir: '2024' " in ok(f'{line} --output_dir 2024', capsys)
    monkeypatch.setenv('LRFINDER_DATA__DATA_DIR', '007')
    said = ok(f'{line} --use-mixup false --set model.weights=null', capsys)
    assert "data_dir: '007' " in said and 'use_mixup: false ' in said and 'weights: null ' in said


def test_write_is_tried_before_the_sweep(home, capsys, monkeypatch):
    config = start(capsys)
    line = f'lr-finder --config {config} --write'
    right = config.read_text()
    start_of, end_of = right.index('optimizer:'), right.index('# How the rate changes')
    config.write_text(f'{right[:start_of]}optimizer:\n{right[end_of:]}')
    refused(line, 'optimizer.lr cannot be set in', capsys)
    config.write_text(right)
    monkeypatch.setattr('os.access', lambda path, mode: False)
    refused(line, f"--write cannot change '{config}', which is write-protected", capsys)
    assert not FOLDER.exists()


def test_lists_that_somebody_edited(home, capsys):
    config = start(capsys)
    folder = home/'data/shapes/splits'
    train, valid = folder/'fold_0_train.txt', folder/'fold_0_val.txt'
    right, line = train.read_bytes(), f'lr-finder --config {config} --num_iter 40 --device cpu'
    train.write_bytes(right + valid.read_bytes()[:11])
    refused(line, '1 images are in both lists of fold 0', capsys)
    train.write_bytes(b'')
    refused(line, "the list 'fold_0_train.txt' in 'data/shapes/splits' is empty", capsys)
    train.write_bytes(right.replace(b'\n', b'\r\n'))
    ok(line, capsys)
    valid.write_bytes(b'')
    refused(line, "the list 'fold_0_val.txt' in 'data/shapes/splits' is empty", capsys)
    (folder/'classes.txt').unlink()
    refused(line, "cannot read the list 'data/shapes/splits/classes.txt' (No such file or directory)", capsys)


def test_a_reader_that_goes(home, capsys):
    "The command goes on without a word, and its lines are in the log file"
    config = start(capsys)
    line = [*COMMAND, 'lr-finder', '--config', str(config), *QUICK]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert 'Starting Learning Rate Finder' in process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(60) == 0 and said == '', said
    assert 'Suggested learning rate' in (FOLDER/'lr_finder.log').read_text()


def test_environment(home, capsys, monkeypatch):
    config = start(capsys)
    monkeypatch.setenv('LRFINDER_TRAINING__BATCH_SIZE', '16')
    assert '  batch_size: 16 ' in ok(f'lr-finder --config {config} --print_config', capsys)
    assert '  batch_size: 4 ' in ok(f'lr-finder --config {config} --print_config --batch-size 4', capsys)
    monkeypatch.setenv('LRFINDER_TRAINING__BATCH_SIZE', 'many')
    words = "the environment's LRFINDER_TRAINING__BATCH_SIZE must be a whole number above 0, got 'many'"
    refused(f'lr-finder --config {config}', words, capsys)


def test_two_runs_at_once(home, capsys):
    config = start(capsys)
    FOLDER.mkdir(parents=True)
    words = "another run is writing into 'runs/lr_finder/shapes'"
    with FileLock(FOLDER/'.lock', timeout=0):
        refused(f'lr-finder --config {config} --num_iter 40', words, capsys)


def test_no_permission(home, capsys):
    config = start(capsys)
    (home/'file').write_text('')
    words = "cannot make the folder 'file/lr_finder/shapes' (Not a directory)"
    refused(f'lr-finder --config {config} --num_iter 40 --output_dir file', words, capsys, 1)


def test_disk_full(home, capsys, monkeypatch):
    config = start(capsys)
    ok(['lr-finder', '--config', str(config), *QUICK], capsys)
    before = (FOLDER/'suggestion.json').read_bytes()
    def full(*args, **kw): raise OSError(28, 'No space left on device')
    monkeypatch.setattr('lrfinder_nb.project.search.write_all', full)
    code, said = typed(['lr-finder', '--config', str(config), *QUICK], capsys)
    assert code == 1 and 'the disk is full; make room' in said and 'Traceback' not in said
    assert (FOLDER/'suggestion.json').read_bytes() == before


def test_disk_full_behind_another_error(home, capsys, monkeypatch):
    "torch says something else when the disk is full while it writes a checkpoint"
    config = start(capsys)
    def full(*args, **kw):
        try: raise OSError(28, 'No space left on device')
        except OSError: raise RuntimeError('[enforce fail at inline_container.cc:672] . unexpected pos')
    monkeypatch.setattr('torch.save', full)
    code, said = typed(['train', '--config', str(config), *SHORT], capsys)
    assert code == 1 and said.splitlines()[-1].startswith('ml-train: the disk is full; make room'), said


def test_ctrl_c(home, capsys):
    "A sweep that is interrupted leaves the older answer"
    config = start(capsys)
    ok(['lr-finder', '--config', str(config), *QUICK], capsys)
    before = contents(FOLDER)
    line = ['lr-finder', '--config', str(config), '--num_iter', '100000', '--device', 'cpu',
            '--set', 'lr_finder.diverge_threshold=.inf']
    assert 'stopped by Ctrl-C' in interrupted(line, 'LR: ')
    assert 'stopped by Ctrl-C' in interrupted(line, 'LR: ', 100)      # by somebody who is impatient
    assert contents(FOLDER) == before


def test_ctrl_c_between_runs(home, capsys):
    "Several sweeps that were stopped have no answer, however many were done"
    config = start(capsys)
    (home/'nets.py').write_text('''if 1:
        import os, signal
        from lrfinder_nb import SmallCNN
        def net(num_classes, in_channels):
            with open('made', 'a') as f: f.write('x')
            if os.path.getsize('made') == 6: os.kill(os.getpid(), signal.SIGINT)
            return SmallCNN(in_channels, num_classes)''')
    line = [*COMMAND, 'lr-finder', '--config', str(config), *QUICK, '--runs', '20',
            '--set', 'model.architecture=nets.py:net']
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == 'ml-lr-finder: stopped by Ctrl-C\n', done.stderr
    assert not (FOLDER/'suggestion.json').exists()


def test_debug_shows_where(home, capsys):
    start(capsys)
    with pytest.raises(Exception, match='cannot read settings'):
        main(['lr-finder', '--config', 'nowhere.yaml', '--debug'])


# The training

RUN = Path('runs/train/shapes/fold_0')
SHORT = ['--lr', '0.01', '--num_epochs', '2', '--batch_size', '16', '--device', 'cpu']


def test_train_writes(home, capsys):
    config = start(capsys)
    said = ok(['train', '--config', str(config), *SHORT], capsys)
    assert 'Starting training of simple_cnn on fold 0' in said
    assert 'Epoch 2/2 | train loss' in said and 'SUCCESS  | Best epoch' in said
    names = {'best.safetensors', 'last.safetensors', 'checkpoint_0.pt', 'history.json', 'history.png',
             'report.json', 'report.txt', 'confusion.png', 'config.yaml', 'train.log'}
    assert names <= {path.name for path in RUN.iterdir()}
    assert len(load_history(RUN/'history.json')) == 2 and 'precision' in (RUN/'report.txt').read_text()
    with safe_open(RUN/'best.safetensors', 'pt') as f: facts = f.metadata()
    assert json.loads(facts['classes']) == ['bar', 'box', 'dot']
    matrix = json.loads((RUN/'report.json').read_text())['confusion']
    assert np.sum(matrix) == 12 and [sum(r) for r in matrix] == [4, 4, 4]
    ok(['train', '--config', str(config), *SHORT], capsys)
    assert len(list((RUN/'earlier').glob('*/best.safetensors'))) == 1      # the first training is kept


def test_train_resumes_bit_for_bit(home, capsys):
    config = start(capsys)
    line = ['train', '--config', str(config), *SHORT, '--num_epochs', '6']
    ok([*line, '--output_dir', 'whole'], capsys)
    assert 'go on with the same command and --resume' in interrupted(line, 'Epoch 2/6')
    before = (RUN/'best.safetensors').read_bytes()
    refused([*line, '--resume', '--lr', '0.02'], 'has the rate 0.01, and 0.02 was asked for', capsys)
    for change, words in ((['--batch_size', '8'], 'training.batch_size was 16 and is 8'),
                          (['--num_epochs', '9'], 'training.num_epochs was 6 and is 9'),
                          (['--set', 'transforms.train=[RandomHorizontalFlip]'], 'transforms.train was []')):
        refused([*line, '--resume', *change], f'was begun with other settings: {words}', capsys)
    assert before == (RUN/'best.safetensors').read_bytes()
    ok([*line, '--resume'], capsys)
    whole = Path('whole')/RUN.relative_to('runs')
    for name in ('last', 'best'):
        one, other = (load_file(d/f'{name}.safetensors') for d in (RUN, whole))
        assert all(torch.equal(v, other[k]) for k, v in one.items())
    assert load_history(RUN/'history.json').losses == load_history(whole/'history.json').losses


def test_train_auto(home, capsys):
    config = start(capsys)
    train = ['train', '--config', str(config), *SHORT, '--lr', 'auto', '--batch_size', '8']
    words = "there is no suggestion in 'runs/lr_finder/shapes/suggestion.json'; run ml-lr-finder first"
    refused(train, words, capsys)
    ok(['lr-finder', '--config', str(config), *QUICK], capsys)
    assert f"highest rate {load_found(FOLDER/'suggestion.json').lr:.2e}" in ok(train, capsys)
    for change, words in ((['--batch_size', '16'], 'batch_size was 8 and is 16'),
                          (['--optimizer', 'sgd'], 'optimizer was adamw and is sgd'),
                          (['--set', 'transforms.train=[RandomHorizontalFlip]'], 'transforms.train was')):
        refused([*train, *change], f'was found for something else: {words}', capsys)
    Path('nets.py').write_text('from lrfinder_nb import SmallCNN\ndef net(): return SmallCNN(1, 3)\n')
    own = ['--set', 'model.architecture=nets.py:net']
    ok(['lr-finder', '--config', str(config), *QUICK, *own], capsys)
    refused([*train, *own, '--set', 'training.clip=1'], 'for something else: clip was None and is 1.0', capsys)
    Path('nets.py').write_text('from lrfinder_nb import SmallCNN\ndef net(): return SmallCNN(1, 3, width=4)\n')
    refused([*train, *own], 'was found for something else: model was nets.py:net (', capsys)
    ok(['lr-finder', '--config', str(config), *QUICK], capsys)
    ok('split --raw_data data/shapes/raw --folds 4 --force', capsys)
    refused(train, 'was found for something else: the lists of images are others', capsys)


def test_train_all_folds(home, capsys):
    config = start(capsys)
    said = ok(['train', '--config', str(config), *SHORT, '--fold', 'all', '--num_epochs', '1'], capsys)
    assert 'Accuracy over 5 folds:' in said
    assert len(json.loads(Path('runs/train/shapes/folds.json').read_text())['folds']) == 5
    line = ['train', '--config', str(config), *SHORT, '--fold', 'all', '--export', 'm.pt2']
    refused(line, '--export is for one fold', capsys)


def test_train_in_stages(home, capsys):
    config = start(capsys)
    stages = [dict(train='head', epochs=1), dict(train='all', epochs=2, lr='auto')]
    config.write_text(set_value(config.read_text(), 'stages', stages))
    line = f'train --config {config} --device cpu --batch_size 8'
    code, said = typed(f'{line} --set lr_finder.num_iter=12', capsys)
    assert code == 1 and 'the sweep for the stage all gave no rate: only 0 of 12 points' in said.splitlines()[-1]
    said = ok(f'{line} --set lr_finder.num_iter=45 --resume', capsys)
    assert 'Sweeping the rate for all' in said and 'Using 45 iterations' in said and 'Epoch 1/3' not in said
    said = ok(line, capsys)
    assert 'Training head for 1 epochs' in said and 'Sweeping the rate for all' in said
    assert 'Training all for 2 epochs' in said and 'Epoch 1/3' in said and 'Epoch 3/3' in said
    history = load_history(RUN/'history.json')
    assert len(history) == 3
    if importlib.util.find_spec('tensorboard'):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        board = EventAccumulator(str(RUN/'tensorboard')).Reload()
        assert [scalar.step for scalar in board.Scalars('loss')] == list(range(len(history.lrs)))
        assert [scalar.value for scalar in board.Scalars('epoch')] == [1, 2, 3]
    assert 'Sweeping' not in ok(f'{line} --resume', capsys)
    for stages, words in (('[{train: heads}]', "the model has no part 'heads'"),
                          ('[{tran: head}]', 'stages[0] has an unknown key tran; did you mean train'),
                          ('[{lr: fast}]', "stages[0].lr must be a number above 0 or auto, got 'fast'")):
        line = ['train', '--config', str(config), '--set', f'stages={stages}', '--output_dir', 'other']
        refused(line, words, capsys)


@pytest.mark.parametrize('name', ['steplr', 'cosine', 'constant'])
def test_train_schedules(home, capsys, name):
    config = start(capsys)
    schedule = ['--set', f'scheduler.name={name}', '--set', 'scheduler.step_size=1']
    ok(['train', '--config', str(config), *SHORT, *schedule], capsys)
    lrs = load_history(RUN/'history.json').lrs
    assert lrs[0] == .01 and len(lrs) == 6
    right = dict(steplr=np.allclose(lrs[3:], .001), constant=set(lrs) == {.01}, cosine=np.allclose(lrs[3], .005))
    assert right[name]


def test_export(home, capsys):
    config = start(capsys)
    ok(['train', '--config', str(config), *SHORT, '--export', 'model.pt2'], capsys)
    said = torch.export.load('model.pt2').module()(torch.zeros(3, 1, 12, 12))
    model = SmallCNN(1, 3).eval()
    model.load_state_dict(load_file(RUN/'best.safetensors'))
    assert torch.allclose(said, model(torch.zeros(3, 1, 12, 12)), atol=1e-5)
    line = ['train', '--config', str(config), *SHORT, '--export', 'model.tflite']
    refused(line, '--export must end in .onnx or .pt2', capsys)


def test_export_onnx(home, capsys):
    onnx = pytest.importorskip('onnx.reference')
    pytest.importorskip('onnxscript')
    config = start(capsys)
    ok(['train', '--config', str(config), *SHORT, '--export', 'model.onnx'], capsys)
    session = onnx.ReferenceEvaluator('model.onnx')
    x = np.random.default_rng(0).normal(size=(3, 1, 12, 12)).astype(np.float32)
    model = SmallCNN(1, 3).eval()
    model.load_state_dict(load_file(RUN/'best.safetensors'))
    said, = session.run(None, {session.input_names[0]: x})
    assert np.allclose(said, model(torch.from_numpy(x)).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize('change, words', [
    ('transforms.train=[{name: RandomCrop, size: 40}]', "transforms.train cannot take the image 'bar/"),
    ('transforms.valid=[MixUp]', "transforms.valid cannot take the image 'bar/"),
    ('transforms.train=[{name: RandomResize, min_size: 8, max_size: 30}]', 'gives images of different sizes'),
    ('training.amp=fp16', "training.amp: amp='fp16' needs an accelerator"),
    ('model.weights=nowhere.pth', "there is no file 'nowhere.pth'"),
    ('transforms.size=16', 'gives images of 12x12 pixels, and transforms.size is 16; set that to 12'),
    ('transforms.train=[{size: 3}]'.replace(' ', ''), "{'size:3': None} has no name; write for example"),
    ('data.data_dir=elsewhere', "there is no folder 'elsewhere' in '"),
    ('stages=[{train: head, lr: .inf}]', 'stages[0].lr must be a number above 0 or auto, got inf'),
    ('model.architecture=nets.py:two', 'must give one number for each of 3 classes'),
])
def test_what_cannot_be_trained_moves_no_results(home, capsys, change, words):
    "It is refused before the older results are put aside, and before a sweep begins"
    config = start(capsys)
    Path('nets.py').write_text("from torch import nn\ndef two(): return nn.Sequential(nn.Flatten(), nn.Linear(144, 2))")
    ok(['train', '--config', str(config), *SHORT], capsys)
    refused(['train', '--config', str(config), *SHORT, '--set', change], words, capsys)
    assert 'Older results' not in (RUN/'train.log').read_text()
    said = refused(['lr-finder', '--config', str(config), *QUICK, '--set', change], words, capsys)
    assert said.startswith('ml-lr-finder: ')


def test_a_schedule_that_cannot_be_moves_no_results(home, capsys):
    config = start(capsys)
    line = ['train', '--config', str(config), *SHORT]
    ok(line, capsys)
    refused([*line, '--set', 'scheduler.div_factor=0.5'], 'scheduler.div_factor must be at least 1, got 0.5', capsys)


def test_one_image_and_batch_normalisation(home, capsys):
    "An error of the library for a wrong kind of thing is one sentence, too"
    config = start(capsys, '--model resnet18 --size 32')
    code, said = typed(['train', '--config', str(config), *SHORT, '--batch_size', '1'], capsys)
    assert code == 1 and said.splitlines()[-1].startswith('ml-train: the batch holds one sample'), said
    assert '--debug' not in said


def test_a_training_may_begin_with_the_best_weights_of_the_last(home, capsys):
    config = start(capsys)
    ok(['train', '--config', str(config), *SHORT], capsys)
    ok(['train', '--config', str(config), *SHORT, '--set', f'model.weights={RUN}/best.safetensors'], capsys)
    losses = [load_history(path).losses[0] for path in (RUN/'history.json', *RUN.glob('earlier/*/history.json'))]
    assert losses[0] < losses[1]


def test_timm(home, capsys, monkeypatch):
    "A model of timm by name; where its weights cannot be had, one sentence says where they are"
    def create_model(name, num_classes, in_chans, pretrained, img_size=12):
        if pretrained: raise ConnectionError('no network')
        if img_size != 12: raise AssertionError('Window size\nis odd')
        return SmallCNN(in_chans, num_classes)
    source = SimpleNamespace(hf_hub_id='timm/tiny.a1', url='', fixed_input_size=True)
    def get_pretrained_cfg(name):
        if name == 'tiny.b2': raise RuntimeError('Invalid pretrained tag (b2) for tiny.')
        return source
    timm = SimpleNamespace(list_models=lambda: ['tiny'], create_model=create_model,
                           get_pretrained_cfg=get_pretrained_cfg)
    monkeypatch.setitem(sys.modules, 'timm', timm)
    config = start(capsys)
    line = ['train', '--config', str(config), *SHORT, '--set', 'model.architecture=timm:tiny']
    ok(line, capsys)
    words = 'timm:tiny cannot be had (no network); fetch them from https://huggingface.co/timm/tiny.a1'
    refused([*line, '--set', 'model.weights=DEFAULT'], words, capsys, 1)
    refused([*line[:-1], 'model.architecture=timm:tony'], "timm has no model 'tony'; did you mean tiny?", capsys)
    words = "timm has no weights 'tiny.b2' (Invalid pretrained tag (b2) for tiny.); see timm.list_pretrained()"
    refused([*line[:-1], 'model.architecture=timm:tiny.b2'], words, capsys)
    resized = ['--set', 'transforms.size=16', *(f'--set=transforms.{side}=[{{name: Resize, size: [16, 16]}}]'
                                                 for side in ('train', 'valid'))]
    words = 'timm:tiny cannot be made for images of 1 channels and 16x16 pixels (Window size); change transforms.size'
    refused([*line, *resized], words, capsys)
    monkeypatch.setitem(sys.modules, 'timm', None)
    refused(line, 'needs timm, which is not installed', capsys)


def test_diverging_training(home, capsys):
    config = start(capsys)
    code, said = typed(['train', '--config', str(config), *SHORT, '--lr', '1e30'], capsys)
    assert code == 1 and 'Traceback' not in said and 'lower max_lr' in said


def test_corrupt_images(home, capsys):
    config = start(capsys)
    victim = Path('data/shapes/raw')/read_list('data/shapes/splits', 'fold_0_train.txt')[0]
    victim.write_bytes(victim.read_bytes()[:60])
    line = ['train', '--config', str(config), *SHORT]
    for workers in ('0', '2'):
        code, said = typed([*line, '--num_workers', workers], capsys)
        assert code == 1 and f"the image '{victim}' cannot be read" in said.splitlines()[-1] and 'Traceback' not in said
    for workers in ('0', '2'):      # named once, whoever reads it, and in the log as well
        (RUN/'train.log').unlink()
        ok([*line, '--set', 'data.on_corrupt=skip', '--num_workers', workers], capsys)
        words = f"WARNING  | the image '{victim}' cannot be read and is skipped"
        assert (RUN/'train.log').read_text().count(words) == 1
    victim.unlink()
    refused([*line, '--output_dir', 'x'], 'name 1 images that are not in', capsys)


def test_two_processes(home, capsys):
    "Two gloo processes train one model, each with its share, and one of them writes"
    config = start(capsys)
    env = dict(os.environ, PYTHONPATH=str(Path(main.__code__.co_filename).parents[2]), OMP_NUM_THREADS='1')
    again = partial(subprocess.run, capture_output=True, text=True, env=env)
    line = [*COMMAND, 'train', '--config', str(config), *SHORT, '--devices', '2']
    done = again(line)
    assert done.returncode == 0, done.stderr
    assert '2 devices x 16 images = 32 images for one step' in done.stdout
    assert done.stdout.count('Starting training') == 1
    assert len(load_history(RUN/'history.json').lrs) == 2*2      # 48 images, 24 in each process
    done = again([*line, '--lr', 'auto'])
    assert done.returncode == 2 and 'Traceback' not in done.stderr, done.stderr      # that of the processes
    assert done.stderr.startswith('ml-train: there is no suggestion in'), done.stderr
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2']
    done = again([*torchrun, *COMMAND[1:], 'lr-finder', '--config', str(config), *QUICK])
    assert done.returncode == 0 and done.stdout.count('Suggested learning rate') == 1, done.stderr


def test_a_signal_reaches_all_processes(home, capsys):
    "Also one that is sent to the command alone, as a scheduler does; the training can be gone on with"
    config = start(capsys)
    line = ['train', '--config', str(config), *SHORT, '--num_epochs', '200', '--devices', '2']
    rest = interrupted(line, 'Epoch 2/200')
    assert 'go on with the same command and --resume' in rest and 'Epoch 200/200' not in rest
    assert rest.strip().endswith('ml-train: stopped by Ctrl-C')
    assert 'of another training' not in interrupted([*line, '--resume'], 'Epoch 4/200')


def test_two_machines(home, capsys):
    "The command line for several machines, with two torchrun on one of them: one model, and one of them writes"
    config = start(capsys)
    env = dict(os.environ, PYTHONPATH=str(Path(main.__code__.co_filename).parents[2]), OMP_NUM_THREADS='1')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '1', '--nnodes', '2',
                '--rdzv_backend', 'c10d', '--rdzv_endpoint', f'127.0.0.1:{port}']
    line = [*torchrun, *COMMAND[1:], 'train', '--config', str(config), *SHORT]
    machines = [subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
                for _ in range(2)]
    said = [machine.communicate(timeout=120) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    lines = ''.join(out for out, _ in said)
    assert lines.count('2 devices x 16 images = 32 images for one step') == 1
    assert lines.count('Saved weights, history and report') == 1
    assert len(load_history(RUN/'history.json').lrs) == 2*2


# The guide, line by line

GUIDE = '''
split --raw_data data/my_dataset/raw --folds 5
init-config data/my_dataset
lr-finder --config configs/my_dataset_config.yaml
train --config configs/my_dataset_config.yaml --lr 0.002
lr-finder --config configs/my_config.yaml --start_lr 1e-6 --end_lr 1e-1
lr-finder --config configs/my_config.yaml --num_iter 50
lr-finder --config configs/my_config.yaml --diverge_threshold 2.0
lr-finder --config configs/my_config.yaml --beta 0.9
lr-finder --config configs/my_config.yaml --fold 2
lr-finder --config configs/my_config.yaml --start_lr 1e-7 --end_lr 1 --num_iter 200 \\
    --beta 0.95 --diverge_threshold 3.0 --fold 1
lr-finder --config configs/sgd_config.yaml
train --config configs/transfer_config.yaml --lr 0.0001 --num_epochs 3
lr-finder --config configs/transfer_unfreeze_config.yaml
train --config configs/transfer_unfreeze_config.yaml --lr 0.0005 --num_epochs 2
lr-finder --config configs/custom_config.yaml --num_iter 150
train --config configs/steplr_config.yaml --num_epochs 1
lr-finder --config configs/my_config.yaml --start_lr 1e-9 --end_lr 1e-2
lr-finder --config configs/my_config.yaml --batch_size 16
lr-finder --config configs/my_config.yaml --device cpu
lr-finder --config configs/my_config.yaml --beta 0.99 --num_iter 200 --batch_size 64
lr-finder --config configs/my_config.yaml --diverge_threshold 6.0 --end_lr 10.0
lr-finder --config configs/my_config.yaml --runs 5 --num_iter 40
lr-finder --config configs/my_config.yaml --use-mixup --num_iter 40
lr-finder --config configs/my_config.yaml --batch-size 32 --runs 3 --num_iter 40
'''.replace('\\\n', '').split('\n')[1:-1]
VARIANTS = dict(
    my={}, sgd={'optimizer.name': 'sgd'},
    transfer={'stages': [dict(train='head')]}, transfer_unfreeze={'stages': [dict(train='last_stage')]},
    custom={'model.type': 'custom', 'model.custom_architecture': 'simple_cnn', 'deterministic': True},
    steplr={'scheduler.name': 'steplr', 'scheduler.step_size': 10, 'scheduler.gamma': .1})


def test_the_guide(home, capsys):
    "Each command line of the guide succeeds, or says that the sweep holds no rate and what to change"
    (home/'data/shapes').rename(home/'data/my_dataset')
    for line in GUIDE[:2]: ok(line, capsys)
    first = Path('configs/my_dataset_config.yaml').read_text()
    for name, changes in VARIANTS.items():
        text = set_value(set_value(first, 'training.batch_size', 8), 'training.num_epochs', 2)
        for k, v in changes.items(): text = set_value(text, k, v)
        Path(f'configs/{name}_config.yaml').write_text(text)
    for line in GUIDE[2:]:
        code, said = typed(line, capsys)
        advice = any(word in said.splitlines()[-1] for word in ('raise', 'lower', 'check'))
        assert code == 0 or code == 1 and advice, f'{line}\n{said}'
    assert Path('runs/lr_finder/my_dataset/lr_finder.png').exists()


FLAGS = {
    'split': 'raw_data folds test valid seed group splits force debug',
    'init-config': 'preset model pretrained size output force debug',
    'lr-finder': 'config start_lr end_lr num_iter beta diverge_threshold skip_start skip_end rule fold batch_size '
                 'device runs use_mixup seed optimizer set verify write find_batch_size print_config devices debug',
    'train': 'config lr num_epochs fold resume export devices batch_size device seed optimizer set print_config debug'}


@pytest.mark.parametrize('name, flags', FLAGS.items())
def test_help_names_every_flag(name, flags, capsys):
    with pytest.raises(SystemExit) as e: main([name, '--help'])
    said = capsys.readouterr().out
    assert e.value.code == 0 and all(f'--{f}' in said for f in flags.split())


def test_quick_start(tmp_path):
    "The four commands on the digits: at least 98 % on each of five folds, in under three minutes of processor time"
    code = f'''if 1:
        import resource
        from lrfinder_nb.project.shell import quick_start
        status = quick_start({str(tmp_path)!r})
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(status, used.ru_utime + used.ru_stime)'''
    done = python(code)
    assert done[0] == '0' and float(done[1]) < 180, done
    folds = json.loads((tmp_path/'runs/train/digits/folds.json').read_text())['folds']
    assert len(folds) == 5 and min(r['accuracy'] for r in folds) >= .98, folds


# As users would

def test_odd_files_and_names(home, capsys):
    config = start(capsys)
    refused('lr-finder --config configs', 'Is a directory', capsys)
    Path('utf16.yaml').write_bytes(config.read_text().encode('utf-16'))
    refused('lr-finder --config utf16.yaml', 'it is not text', capsys)
    line = f'train --config {config} --lr 0.01 --set data.dataset_name=../evil'
    refused(line, '--set data.dataset_name must be text', capsys)
    refused(f'train --config {config} --lr nan', "--lr must be a number above 0 or auto, got 'nan'", capsys)
    refused(f'train --config {config} --lr 0.01 --export nowhere/m.pt2', 'is in a folder that does not exist', capsys)
    refused('split --raw_data data/shapes/raw --seed -3 --splits other', '--seed must be a whole number from 0', capsys)
    refused('init-config data/shapes --size 0 --output other.yaml', '--size must be a whole number above 0', capsys)
    refused(f'lr-finder --config {config} extra', "does not know what 'extra' is for", capsys)


def test_names_of_classes_in_any_letters(home, capsys):
    "Also those that are no UTF-8, or would be formulas in a picture"
    raw = home/'data/shapes/raw'
    for old, new in (('bar', '$5 to $10_'), ('box', '\u732b \'a\' "b"'), ('dot', os.fsdecode(b'caf\xe9'))):
        (raw/old).rename(raw/new)
    config = start(capsys)
    said = ok(['train', '--config', str(config), *SHORT], capsys)
    assert 'The picture lacks letters that its font does not have' in said
    text = (RUN/'report.txt').read_text(encoding='utf-8')
    assert '$5 to $10_' in text and '\u732b' in text and 'caf\ufffd' in text
    ok('split --raw_data data/shapes/raw', capsys)


def test_a_console_that_cannot_say_everything(home, capsys, monkeypatch):
    (home/'data/shapes/raw/bar').rename(home/'data/shapes/raw/a\xe4r')
    for output in (None, io.TextIOWrapper(io.BytesIO(), 'ascii')):
        monkeypatch.setattr('sys.stdout', output)
        assert main('split --raw_data data/shapes/raw --folds 5'.split()) == 0
        assert main('init-config data/shapes --force'.split()) == 0
    output.flush()
    assert rb'from 20 (a\xe4r)' in output.buffer.getvalue()


def test_a_warning_of_another_library_is_one_line_and_once(home, capsys):
    config = start(capsys)
    Path('nets.py').write_text('''if 1:
        import warnings
        from lrfinder_nb import SmallCNN
        class Warns(SmallCNN):
            def forward(self, x):
                with warnings.catch_warnings(): warnings.simplefilter('always')
                warnings.warn('this is\\n  not wise')
                return super().forward(x)
        def net(num_classes, in_channels): return Warns(in_channels, num_classes)''')
    said = ok(['train', '--config', str(config), *SHORT, '--set', 'model.architecture=nets.py:net'], capsys)
    assert said.count('WARNING  | this is not wise\n') == 1 == said.count('not wise')


def test_a_command_in_another_folder(home, capsys, monkeypatch):
    config = start(capsys)
    (home/'other').mkdir()
    monkeypatch.chdir(home/'other')
    words = f"there is no folder 'data/shapes/raw' in '{home}/other'; run the command where its paths begin"
    refused(f'lr-finder --config ../{config}', words, capsys)


def test_windows_line_ends_stay(home, capsys):
    config = start(capsys)
    Path('crlf.yaml').write_bytes(config.read_bytes().replace(b'\n', b'\r\n'))
    ok(['lr-finder', '--config', 'crlf.yaml', *QUICK, '--write'], capsys)
    body = Path('crlf.yaml').read_bytes()
    assert body.count(b'\r\n') == body.count(b'\n') == config.read_bytes().count(b'\n')
    assert load_config('crlf.yaml').optimizer.lr != load_config(config).optimizer.lr
