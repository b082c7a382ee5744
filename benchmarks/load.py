"""Speed of loading: batches from the memory-mapped store against a Dataset that decodes and transforms a JPEG per image.

Ours is `Images.batch` (order, crop, flip, conversion to float32; pixels of the store are drawn noise). The reference opens a 512 px JPEG
with Pillow and applies torchvision's RandomResizedCrop, RandomHorizontalFlip and ToTensor per image, in a DataLoader without workers.
Input: options; output: Markdown rows, images/s of one thread (CPU seconds). Pixels are drawn in a temporary folder.

    python benchmarks/load.py [--augments clip flip shared] [--pairs 10] [--size 256] [--input 224]
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from losses import clock, paired, row
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from clipdr.data.augmentation import AUGMENTS
from clipdr.data.loader import Images

DOMAIN = "SIM_APTOS"


def retina(size, draw):
    """Disc with shading and texture, (size, size, 3) uint8; as a JPEG of quality 92 about as large as a real photograph of that size."""
    y, x = np.mgrid[:size, :size]
    distance = np.hypot(x - size / 2, y - size / 2) / (0.48 * size)
    coarse = Image.fromarray(draw.normal(0, 20, (size // 8, size // 8)).astype(np.float32))
    texture = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)) + draw.normal(
        0, 5, (size, size)
    )
    shade = np.where(distance <= 1, (1 - 0.4 * distance**2) * (1 + texture / 255), 0.02)
    return (shade[:, :, None] * [190, 100, 50]).clip(0, 255).astype(np.uint8)


def jpegs(folder, count, size=512):
    """Paths of drawn photographs, and their mean size in kB."""
    paths = [Path(folder) / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(retina(size, np.random.default_rng(number))).save(path, quality=92)
    return paths, sum(path.stat().st_size for path in paths) / count / 1000


def stored(folder, count, size, side, augment):
    """Images over a store of drawn noise in folder, memory-mapped as a run maps it: count squares of `size`, network input `side`."""
    draw, path = np.random.default_rng(0), Path(folder) / f"{DOMAIN}_{size}.npy"
    if not path.is_file():
        store = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.uint8, shape=(count, size, size, 3)
        )
        for square in store:
            square[:] = draw.integers(0, 256, square.shape, dtype=np.uint8)
        store.flush()
    frame = pd.DataFrame(
        {"domain": DOMAIN, "row": np.arange(count), "grade": draw.integers(0, 5, count)}
    )
    frame[["cx", "cy", "r", "w", "h"]] = [size / 2, size / 2, size / 2, size, size]
    return Images(frame, {DOMAIN: np.load(path, mmap_mode="c")}, [DOMAIN], side, augment)


class Decoded(Dataset):
    """A JPEG opened and transformed per image: the reference way."""

    def __init__(self, paths, side):
        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(side),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
            ]
        )

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with Image.open(self.paths[index]) as picture:
            return self.transform(picture.convert("RGB")), index % 5


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--augments", nargs="+", choices=AUGMENTS, default=["clip", "flip", "shared"]
    )
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--images", type=int, default=1024, help="photographs in the store")
    parser.add_argument("--size", type=int, default=256, help="side of the stored square, pixels")
    parser.add_argument(
        "--input", type=int, default=224, help="side of the network's input, pixels"
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    now = clock(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        paths, kilobytes = jpegs(folder, 2 * arguments.batch)
        loader = DataLoader(Decoded(paths, arguments.input), arguments.batch, shuffle=True)
        print(
            f"reference: 512 px JPEGs of {kilobytes:.0f} kB; ours: store of {arguments.size} px; both to {arguments.input} px"
        )
        for augment in arguments.augments:
            images, step = (
                stored(folder, arguments.images, arguments.size, arguments.input, augment),
                iter(range(10**9)),
            )

            def ours(images=images, step=step):
                for _ in range(len(loader)):
                    batch = images.batch(next(step), arguments.batch, seed=0)
                if (
                    batch.image.shape != (arguments.batch, 3, arguments.input, arguments.input)
                    or batch.image.dtype != torch.float32
                ):
                    raise SystemExit(f"batch of {tuple(batch.image.shape)}, {batch.image.dtype}")

            seconds = paired(ours, lambda: [None for _ in loader], arguments.pairs, now, repeats=4)
            work = f"loading, augment {augment}, {arguments.size} to {arguments.input} px"
            row(work, seconds, ">= 8" if augment == "clip" else "-", count=2 * arguments.batch)


if __name__ == "__main__":
    main()
