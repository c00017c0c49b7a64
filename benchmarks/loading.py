"""How fast images are read: this project's loader beside torchvision's ImageFolder, with the same transforms

    python benchmarks/loading.py [--images 10000] [--rounds 3]
"""
import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from lrfinder_nb.project.images import ImageFiles, to_transform
from lrfinder_nb.project.schema import Transforms

RESULT = Path(__file__).parent/'results/loading.json'


def write_jpegs(folder, n, size=96):
    "Smooth coloured images, which compress like photos"
    rng = np.random.default_rng(0)
    for i in range(n):
        path = folder/f'{i % 10}'/f'{i:05}.jpg'
        path.parent.mkdir(exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        small.resize((size, size), Image.Resampling.BICUBIC).save(path, quality=90)


def seconds(dataset):
    "Processor time of one pass over all images"
    start = time.process_time()
    for _ in DataLoader(dataset, 64): pass
    return time.process_time() - start


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--images', type=int, default=10_000)
    p.add_argument('--rounds', type=int, default=3)
    args = p.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as d:
        write_jpegs(Path(d), args.images)
        transform = to_transform([dict(name='Resize', size=[64, 64])], Transforms())
        theirs = ImageFolder(d, transform)
        names = [str(Path(path).relative_to(d)) for path, _ in theirs.samples]
        ours = ImageFiles(d, names, theirs.classes, transform)
        assert all(torch.equal(ours[i][0], theirs[i][0]) for i in range(0, args.images, max(args.images//50, 1)))
        rows = [dict(ours=seconds(ours), image_folder=seconds(theirs)) for _ in range(args.rounds)]
    ratio = median(r['ours']/r['image_folder'] for r in rows)
    found = dict(images=args.images, rounds=rows, ratio=round(ratio, 3))
    RESULT.write_text(json.dumps(found, indent=1) + '\n')
    print(f"{args.images} JPEGs: {ratio:.2f} times the processor time of ImageFolder")


if __name__ == '__main__': main()
