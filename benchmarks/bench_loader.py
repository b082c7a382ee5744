"""Speed of loading: batches from the packed array against a dataset that decodes every JPEG.

Ours is `Images.batch`: order, crop, flip and conversion to float32 on a memory-mapped array of
noise. The reference opens a 512 px JPEG with Pillow and applies torchvision's RandomResizedCrop,
RandomHorizontalFlip and ToTensor per image, in a DataLoader without workers. Output: Markdown rows,
images per second of one thread (CPU seconds).

    python benchmarks/bench_loader.py [--augments clip flip shared] [--pairs 10] [--size 256]
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _harness import COLUMNS, Results, clock, paired, parser
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from clipdr.data.augmentation import AUGMENTS
from clipdr.data.loader import Images

DOMAIN = "SIM_APTOS"


def retina(size, generator):
    """Disc with shading and texture, (size, size, 3) uint8.

    As a JPEG of quality 92 it is about as large as a real fundus image of that size.
    """
    y, x = np.mgrid[:size, :size]
    distance = np.hypot(x - size / 2, y - size / 2) / (0.48 * size)
    noise = generator.normal(0, 20, (size // 8, size // 8)).astype(np.float32)
    coarse = Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)
    texture = np.asarray(coarse) + generator.normal(0, 5, (size, size))
    shade = np.where(distance <= 1, (1 - 0.4 * distance**2) * (1 + texture / 255), 0.02)
    return (shade[:, :, None] * [190, 100, 50]).clip(0, 255).astype(np.uint8)


def jpegs(folder, count, size=512):
    """Write synthetic images; return their paths and their mean size in kB."""
    paths = [Path(folder) / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(retina(size, np.random.default_rng(number))).save(path, quality=92)
    return paths, sum(path.stat().st_size for path in paths) / count / 1000


def packed_noise(folder, count, size, side, augment):
    """Images over a packed array of noise, memory-mapped as a run maps it.

    `count` squares of `size` pixels; the input of the network has `side` pixels.
    """
    generator, path = np.random.default_rng(0), Path(folder) / f"{DOMAIN}_{size}.npy"
    if not path.is_file():
        store = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.uint8, shape=(count, size, size, 3)
        )
        for square in store:
            square[:] = generator.integers(0, 256, square.shape, dtype=np.uint8)
        store.flush()
    grades = generator.integers(0, 5, count)
    frame = pd.DataFrame({"domain": DOMAIN, "row": np.arange(count), "grade": grades})
    frame[["cx", "cy", "r", "w", "h"]] = [size / 2, size / 2, size / 2, size, size]
    return Images(frame, {DOMAIN: np.load(path, mmap_mode="c")}, [DOMAIN], side, augment)


class DecodedImages(Dataset):
    """Images opened and transformed one by one: the reference."""

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
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB")), index % 5


def main():
    options = parser(__doc__)
    options.add_argument(
        "--augments", nargs="+", choices=AUGMENTS, default=["clip", "flip", "shared"]
    )
    options.add_argument("--pairs", type=int, default=10)
    options.add_argument("--images", type=int, default=1024, help="images in the packed array")
    options.add_argument("--size", type=int, default=256, help="side of the packed square, pixels")
    options.add_argument("--input", type=int, default=224, help="side of the input, pixels")
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--threads", type=int, default=1)
    arguments = options.parse_args()
    now, results = clock(arguments.threads), Results(__file__, arguments)
    side = arguments.input
    with tempfile.TemporaryDirectory() as folder:
        paths, kilobytes = jpegs(folder, 2 * arguments.batch)
        loader = DataLoader(DecodedImages(paths, side), arguments.batch, shuffle=True)
        print(
            f"reference: 512 px JPEGs of {kilobytes:.0f} kB; ours: packed array of "
            f"{arguments.size} px; both to {side} px"
        )
        results.table(*COLUMNS)
        for augment in arguments.augments:
            images = packed_noise(folder, arguments.images, arguments.size, side, augment)
            steps = iter(range(10**9))

            def ours(images=images, steps=steps):
                for _ in range(len(loader)):
                    image = images.batch(next(steps), arguments.batch, seed=0).image
                expected = (arguments.batch, 3, side, side)
                if image.shape != expected or image.dtype != torch.float32:
                    raise SystemExit(f"batch of {tuple(image.shape)}, {image.dtype}")

            seconds = paired(ours, lambda: [None for _ in loader], arguments.pairs, now, repeats=4)
            work = f"loading, augment {augment}, {arguments.size} to {side} px"
            aim = ">= 8" if augment == "clip" else "-"
            results.compare(work, seconds, aim, count=2 * arguments.batch)
    results.write()


if __name__ == "__main__":
    main()
