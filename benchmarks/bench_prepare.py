"""Preparing full-size photographs: ours against the method of GDRBench's notebook (Che et al., 2023; after EyeQ, Fu et al., 2019).

Prints images per second of both on 4752 x 3168 JPEGs (one process, one thread, pairs interleaved, median of the paired ratios), and how
well their circles agree on real photographs, if a folder of them is named. The notebook's method is written again from its description; it
needs OpenCV, which the package does not: pip install --target /somewhere opencv-python-headless; PYTHONPATH=/somewhere.

    OMP_NUM_THREADS=1 PYTHONPATH=/somewhere python benchmarks/prepare.py [--pairs 10] [--size 256] [--photographs FOLDER] [FILE ...]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from clipdr.data.preprocessing import fundus, prepare
from clipdr.data.preprocessing.image_io import decode


def notebook_circle(image: np.ndarray, corners: int = 2) -> fundus.Circle | None:
    """Steps 1-8 of the notebook: mask by threshold at half size, centre by row and column sums, radius by the mode of distances.

    corners : 2 as released (the two other dark corners of a tight crop count as retina); 4 mends that
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    half = cv2.resize(
        grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_LINEAR
    )
    half = cv2.normalize(half, None, 0, 255, cv2.NORM_MINMAX)
    mask = (half > max(0, half.mean() / 3 - 5)).astype(np.uint8)
    holes = 1 - mask
    right, bottom = mask.shape[1] - 1, mask.shape[0] - 1
    for seed in ((0, 0), (right, bottom), (right, 0), (0, bottom))[:corners]:
        if holes[seed[1], seed[0]]:
            cv2.floodFill(holes, None, seed, 0)
    mask = cv2.morphologyEx(mask + holes, cv2.MORPH_OPEN, np.ones((20, 20), np.uint8))
    if not mask.any():
        return None
    rows, columns = mask.sum(axis=1), mask.sum(axis=0)
    cy, cx = (
        np.flatnonzero(rows > 0.95 * rows.max()).mean(),
        np.flatnonzero(columns > 0.95 * columns.max()).mean(),
    )
    side = max(2 * (mask.shape[1] // 400) + 1, 3)
    edge = cv2.morphologyEx(
        mask, cv2.MORPH_GRADIENT, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    )
    y, x = np.nonzero(edge)
    if not len(x):
        return None
    counts = np.bincount(np.ceil(np.hypot(x - cx, y - cy)).astype(int))
    radius = np.flatnonzero(counts > 0.995 * counts.max())[-1]
    return fundus.Circle(2 * cx, 2 * cy, int(2 * radius))


def notebook(path: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps 1-12 at full size: photograph and mask, (S, S, 3) and (S, S) uint8."""
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    height, width = image.shape[:2]
    circle = notebook_circle(image)
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (int(circle.cx), int(circle.cy)), int(circle.r), 1, -1)
    image = image * mask[:, :, None]
    top, left, r = (
        max(0, int(circle.cy - circle.r)),
        max(0, int(circle.cx - circle.r)),
        int(circle.r),
    )
    bottom, right = top + min(height - top, 2 * r), left + min(width - left, 2 * r)
    side = max(bottom - top, right - left)
    pads = ((side - bottom + top) // 2, (side - right + left) // 2)
    square = np.zeros((side, side, 4), np.uint8)
    square[pads[0] : pads[0] + bottom - top, pads[1] : pads[1] + right - left, :3] = image[
        top:bottom, left:right
    ]
    square[pads[0] : pads[0] + bottom - top, pads[1] : pads[1] + right - left, 3] = (
        mask[top:bottom, left:right] * 255
    )
    resized = [
        Image.fromarray(part).resize((size, size), Image.Resampling.BILINEAR)
        for part in (square[:, :, :3].copy(), square[:, :, 3].copy())
    ]
    return np.asarray(resized[0]), np.asarray(resized[1])


def full_size(folder: Path, count: int) -> list[Path]:
    """Drawn photographs of 4752 x 3168 pixels with texture, as JPEGs of about 2 MB."""
    y, x = np.mgrid[:3168, :4752].astype(np.float32)
    paths = []
    for number in range(count):
        draw = np.random.default_rng(number)
        cx, cy, r = (
            2376 + draw.uniform(-100, 100),
            1584 + draw.uniform(-60, 60),
            draw.uniform(1350, 1520),
        )
        distance = np.hypot(x - cx, y - cy) / r
        texture = cv2.resize(
            draw.normal(0, 25, (400, 600)).astype(np.float32),
            (4752, 3168),
            interpolation=cv2.INTER_CUBIC,
        )
        shade = np.where(distance <= 1, 1 - 0.4 * distance**2, 0.02) * (
            1 + (texture + draw.normal(0, 6, x.shape)) / 255 * (distance <= 1)
        )
        image = (shade[:, :, None] * np.array([190, 100, 50])).clip(0, 255).astype(np.uint8)
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(image).save(paths[-1], quality=90)
    return paths


def agreement(one: fundus.Circle, two: fundus.Circle, height: int, width: int) -> float:
    """Intersection over union of two discs inside the picture."""
    a, b = fundus.inside(one, 1, 1, height, width), fundus.inside(two, 1, 1, height, width)
    return (a & b).sum() / (a | b).sum()


def circles(folder: Path) -> None:
    """Print how well our circles agree with the notebook's, as released and with all four corners seen as background."""
    paths = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    shares = {2: [], 4: []}
    for path in paths:
        image = decode(path)
        ours = fundus.find_circle(image)
        for corners, found in shares.items():
            theirs = notebook_circle(image, corners)
            if ours is not None and theirs is not None and theirs.r >= 0.25 * min(image.shape[:2]):
                found.append((agreement(ours, theirs, *image.shape[:2]), path.name))
    for corners, found in shares.items():
        values = np.array([share for share, _ in found])
        print(
            f"circles, notebook with {corners} corners: both find one on {len(values)} of {len(paths)} photographs"
        )
        low, middle, agree = np.percentile(values, 5), np.median(values), (values >= 0.97).mean()
        print(f"  IoU median {middle:.4f}, 5th percentile {low:.4f}, at least 0.97: {agree:.1%}")
        print("  least:", ", ".join(f"{name} {share:.2f}" for share, name in sorted(found)[:6]))


def speed(paths: list[Path], pairs: int, size: int) -> None:
    seconds = []
    for number in range(pairs):
        path = paths[number % len(paths)]
        start = time.process_time()
        notebook(path, size)
        middle = time.process_time()
        prepared = prepare.prepare_image(path, "EYEPACS", size)
        seconds.append((middle - start, time.process_time() - middle))
        if prepared.reason:
            raise SystemExit(f"{path}: {prepared.reason}")
    theirs, ours = (statistics.median(column) for column in zip(*seconds, strict=True))
    ratio = statistics.median(a / b for a, b in seconds)
    megabytes = sum(path.stat().st_size for path in paths) / len(paths) / 1e6
    print(
        f"prepare at {size} pixels, {pairs} pairs over {len(paths)} JPEGs of {megabytes:.1f} MB, CPU seconds of one thread:"
    )
    print(
        f"  notebook {1 / theirs:.2f} images/s, ours {1 / ours:.2f} images/s, ratio {ratio:.1f} (median of pairs)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        help="full-size JPEGs; without any, six are drawn in a temporary folder",
    )
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--size", type=int, default=256, help="side of the stored square, pixels")
    parser.add_argument(
        "--photographs",
        type=Path,
        help="folder of real photographs for the agreement of the circles",
    )
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = arguments.files or full_size(Path(folder), 6)
        for path in paths:
            prepare.prepare_image(path, "EYEPACS", arguments.size)  # imports and file cache
        speed(paths, arguments.pairs, arguments.size)
    if arguments.photographs:
        circles(arguments.photographs)


if __name__ == "__main__":
    main()
