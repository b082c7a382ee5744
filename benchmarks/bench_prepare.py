"""Speed of the preparation of full-size images against the method of GDRBench's notebook.

The notebook is that of Che et al. (2023), after EyeQ (Fu et al., 2019), written again from its
description. Output: images per second of both on 4752 x 3168 JPEGs (one process, one thread).
If a folder of real images is named, the agreement of their circles is printed too.

The reference needs OpenCV, which the package does not. Without it only ours is measured. To install
it: pip install --target FOLDER opencv-python-headless, and set PYTHONPATH=FOLDER.

    OMP_NUM_THREADS=1 python benchmarks/bench_prepare.py [--pairs 12] [--images FOLDER] [FILE ...]
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from _harness import COLUMNS, Results, paired, parser, seconds_per_call
from PIL import Image

from clipdr.data.preprocessing import fundus, prepare
from clipdr.data.preprocessing.image_io import decode

try:
    import cv2
except ImportError:
    cv2 = None


def notebook_circle(image: np.ndarray, corners: int = 2) -> fundus.Circle | None:
    """Find the circle by steps 1-8 of the notebook.

    The mask is a threshold at half size, the centre follows from row and column sums, and the
    radius from the mode of the distances.

    Args:
        image: (H, W, 3) uint8.
        corners: 2 as released, where the two other dark corners of a tight crop count as retina; 4
            corrects that.

    Returns:
        The circle, or None.
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
    """Prepare by steps 1-12 at full size: image (S, S, 3) and mask (S, S), both uint8."""
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    height, width = image.shape[:2]
    circle = notebook_circle(image)
    if circle is None:
        raise SystemExit(f"{path}: the notebook finds no circle")
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
    """Write synthetic images of 4752 x 3168 pixels with texture, as JPEGs of about 2 MB."""
    y, x = np.mgrid[:3168, :4752].astype(np.float32)
    paths = []
    for number in range(count):
        rng = np.random.default_rng(number)
        cx, cy, r = (
            2376 + rng.uniform(-100, 100),
            1584 + rng.uniform(-60, 60),
            rng.uniform(1350, 1520),
        )
        distance = np.hypot(x - cx, y - cy) / r
        coarse = Image.fromarray(rng.normal(0, 25, (400, 600)).astype(np.float32))
        texture = np.asarray(coarse.resize((4752, 3168), Image.Resampling.BICUBIC))
        shade = np.where(distance <= 1, 1 - 0.4 * distance**2, 0.02) * (
            1 + (texture + rng.normal(0, 6, x.shape)) / 255 * (distance <= 1)
        )
        image = (shade[:, :, None] * np.array([190, 100, 50])).clip(0, 255).astype(np.uint8)
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(image).save(paths[-1], quality=90)
    return paths


def agreement(one: fundus.Circle, two: fundus.Circle, height: int, width: int) -> float:
    """Intersection over union of two discs inside the image."""
    a, b = fundus.inside(one, 1, 1, height, width), fundus.inside(two, 1, 1, height, width)
    return (a & b).sum() / (a | b).sum()


def circles(folder: Path, results: Results) -> None:
    """Compare our circles with the notebook's, as released and with four background corners."""
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
        if not len(values):
            print(f"circles, notebook with {corners} corners: no image on which both find one")
            continue
        low, middle, agree = np.percentile(values, 5), np.median(values), (values >= 0.97).mean()
        work = f"circles, notebook with {corners} corners"
        line = (
            f"{work}: both find one on {len(values)} of {len(paths)} images\n"
            f"  IoU median {middle:.4f}, 5th percentile {low:.4f}, at least 0.97: {agree:.1%}\n"
            f"  least: {', '.join(f'{name} {share:.2f}' for share, name in sorted(found)[:6])}"
        )
        results.add(work, line, images=len(values), iou_median=middle, iou_5=low, share_97=agree)


def speed(paths: list[Path], pairs: int, size: int, results: Results) -> None:
    """Measure both ways, or ours alone without OpenCV."""
    ours, theirs = ([paths[number % len(paths)] for number in range(pairs + 1)] for _ in range(2))
    ours, theirs = iter(ours), iter(theirs)

    def own():
        path = next(ours)
        if reason := prepare.prepare_image(path, "EYEPACS", size).reason:
            raise SystemExit(f"{path}: {reason}")

    work = f"prepare, 4752x3168 JPEG to {size} px"
    megabytes = sum(path.stat().st_size for path in paths) / len(paths) / 1e6
    print(f"{len(paths)} JPEGs of {megabytes:.1f} MB, CPU seconds of one thread")
    results.table(*COLUMNS)
    if cv2 is None:
        seconds = seconds_per_call(own, pairs, time.process_time)
        line = f"| {work} | {1 / seconds:.1f} images/s | skipped: OpenCV is missing | - | >= 8 |"
        results.add(work, line, ours_seconds=seconds)
        return
    seconds = paired(own, lambda: notebook(next(theirs), size), pairs, time.process_time)
    results.compare(work, seconds, ">= 8", count=1)


def main() -> None:
    options = parser(__doc__)
    options.add_argument(
        "files", nargs="*", type=Path, help="full-size JPEGs; default: six synthetic images"
    )
    options.add_argument("--pairs", type=int, default=12)
    options.add_argument("--size", type=int, default=256, help="side of the packed square, pixels")
    options.add_argument(
        "--images", type=Path, help="folder of real images, for the agreement of the circles"
    )
    arguments = options.parse_args()
    if cv2 is None and arguments.images:
        options.error("--images needs OpenCV; see the text above")
    if cv2 is not None:
        cv2.setNumThreads(1)
    results = Results(__file__, arguments)
    with tempfile.TemporaryDirectory() as folder:
        paths = arguments.files or full_size(Path(folder), 6)
        speed(paths, arguments.pairs, arguments.size, results)
    if arguments.images:
        circles(arguments.images, results)
    results.write()


if __name__ == "__main__":
    main()
