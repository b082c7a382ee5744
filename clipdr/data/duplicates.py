"""Near-duplicate search: copies of one image, whatever their names.

Pairs are proposed by a fingerprint of the retina and confirmed by the correlation of aligned
pixels. Input are manifests of data/manifests/{D}.csv and packed images (N, S, S, 3) uint8. Output
are pairs of rows. At the scale of a thumbnail all retinas look alike (disc, shading, the bright
optic nerve head), so that a perceptual hash gives thousands of false pairs. The vessels differ.
Both steps therefore use the inner part of the disc with shading and local contrast divided out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from PIL import Image
from scipy import fft, ndimage

# Half the side of the compared part, in radii of the disc; rims and padded corners are alike in
# every image.
INNER = 0.75
COARSE, FINE = 32, 64  # pixels across that part, to propose and to confirm
# Pixels, standard deviation of the neighbourhood in which shading and contrast are measured.
WINDOW = 3
FLOOR = 1.5  # grey levels of local contrast below which nothing is amplified further
DARK = 8  # grey level up to which a pixel of the green channel carries no information
PROPOSE = 0.80  # correlation of fingerprints from which a pair is aligned
# Correlation of aligned pixels from which a pair is one image (benchmarks/bench_duplicates.py).
CONFIRM = 0.75
HOPELESS = 0.5  # correlation below which no finer alignment is tried
SCALES = (0.9, 0.95, 1, 1 / 0.95, 1 / 0.9)  # at which a pair is aligned
REACH = 6  # pixels of FINE that an alignment may be off
BLOCK = 2048  # fingerprints compared at a time: 16 MiB per product
FLIPS = {"": (1, 1), "h": (1, -1), "v": (-1, 1), "hv": (-1, -1)}  # steps along rows and columns
# How a copy cropped by 5 % lies on an image without a disc: (scale, shift x, shift y in half
# sides). Images with a disc are aligned by the disc.
FRAMINGS = [
    *((scale, 0.0, 0.0) for scale in (0.9, 0.95, 1 / 0.95, 1 / 0.9)),
    *(
        (scale, dx, dy)
        for scale, shift in ((0.95, 0.05), (1 / 0.95, 0.053))
        for dx, dy in product((-shift, shift), repeat=2)
    ),
]

Item = TypeVar("Item")


class View(NamedTuple):
    """Square region of a stored image.

    Attributes:
        x: x of the centre in pixels.
        y: y of the centre in pixels.
        half: Half side in pixels.
    """

    x: float
    y: float
    half: float

    def framed(self, scale: float, dx: float = 0.0, dy: float = 0.0) -> View:
        """Return the view scaled and shifted by (dx, dy) half sides."""
        return View(self.x + dx * self.half, self.y + dy * self.half, self.half * scale)


def describe_images(
    manifest: pd.DataFrame, stores: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, list[View], np.ndarray]:
    """Read every image once and return what is compared.

    Args:
        manifest: Rows of one or several domains, N in all.
        stores: {domain: (N_d, S, S, 3) uint8}.

    Returns:
        Digests of the stored pixels (N,) str, views (N,), and fingerprints
        (N, 4, COARSE^2 / 4) float32.
    """
    digests, views, prints = [], [], np.empty((len(manifest), 4, COARSE**2 // 4), np.float32)
    for index, row in enumerate(progress(list(manifest.itertuples()), "fingerprints")):
        image = stored_image(stores, row)
        digests.append(hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest())
        views.append(inner_view(row.cx, row.cy, row.r, row.flag, len(image)))
        prints[index] = fingerprint(image, views[-1])
    return np.array(digests), views, prints


def exact_pairs(manifest: pd.DataFrame, digests: np.ndarray) -> np.ndarray:
    """Return the pairs of rows whose files or stored pixels are equal.

    Args:
        manifest: N rows with the column sha256.
        digests: (N,) str digests of the stored pixels.

    Returns:
        (P, 2) int64 row numbers, first < second, sorted.
    """
    pairs = set()
    for keys in (manifest["sha256"].to_numpy(str), digests):
        for key, rows in pd.Series(range(len(manifest))).groupby(keys):
            if key and len(rows) > 1:
                pairs.update(combinations(rows, 2))
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def near_pairs(
    manifest: pd.DataFrame,
    stores: Mapping[str, np.ndarray],
    views: Sequence[View],
    prints: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the pairs of rows that hold one image.

    The copy may be renamed, re-encoded, resized, flipped, or cropped by about 5 %. Equal images are
    among the pairs.

    Args:
        manifest: Rows of one or several domains, N in all.
        stores: {domain: (N_d, S, S, 3) uint8}.
        views: (N,) as from describe_images.
        prints: (N, 4, COARSE^2 / 4) float32 fingerprints, as from describe_images.

    Returns:
        (P, 2) int64 row numbers, first < second, sorted; (P,) float64 correlations of at least
        CONFIRM; and the number of pairs that were proposed.
    """
    rows = list(manifest.itertuples())
    without_disc = [index for index, row in enumerate(rows) if row.flag]
    pairs = [propose(prints)]
    for framing in FRAMINGS if without_disc else ():
        framed = np.stack(
            [
                fingerprint(stored_image(stores, rows[index]), views[index].framed(*framing))
                for index in without_disc
            ]
        )
        pairs.append(propose(prints, np.array(without_disc), framed))
    pairs = np.unique(np.concatenate(pairs), axis=0)
    values = np.array(
        [
            aligned_correlation(
                stored_image(stores, rows[a]), views[a], stored_image(stores, rows[b]), views[b]
            )[0]
            for a, b in progress(pairs, "aligning")
        ],
        np.float64,
    )
    return pairs[values >= CONFIRM], values[values >= CONFIRM], len(pairs)


def stored_image(stores: Mapping[str, np.ndarray], row: Any) -> np.ndarray:
    """Return the stored image of a manifest's row (a named tuple), (S, S, 3) uint8."""
    return np.ascontiguousarray(stores[row.domain][row.row])


def progress(items: Iterable[Item], label: str) -> Iterable[Item]:
    """Return the items with a progress bar on stderr if that is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, label, console=console, transient=True, disable=not console.is_terminal)


def inner_view(cx: float, cy: float, r: float, flag: str, size: int) -> View:
    """Return the inner part of a disc, or of the whole square where the image has none.

    Args:
        cx: x of the disc's centre in pixels.
        cy: y of the disc's centre in pixels.
        r: Radius of the disc in pixels.
        flag: The manifest's flag; not empty where the image has no disc.
        size: Side of the stored square in pixels.
    """
    return View(size / 2, size / 2, INNER * size / 2) if flag else View(cx, cy, INNER * r)


def sample(image: np.ndarray, view: View, side: int) -> np.ndarray:
    """Resize the green channel inside a view with antialiasing; 0 outside of the image.

    Args:
        image: (S, S, 3) uint8.
        view: Region of the image.
        side: Side of the result in pixels.

    Returns:
        (side, side) float32, grey levels.
    """
    left, top = int(np.floor(view.x - view.half)), int(np.floor(view.y - view.half))
    right, bottom = int(np.ceil(view.x + view.half)), int(np.ceil(view.y + view.half))
    green = image[max(top, 0) : bottom, max(left, 0) : right, 1]
    if green.shape != (bottom - top, right - left):
        missing = [
            (max(-top, 0), max(bottom - len(image), 0)),
            (max(-left, 0), max(right - len(image), 0)),
        ]
        green = np.pad(green, missing)
    box = (
        view.x - view.half - left,
        view.y - view.half - top,
        view.x + view.half - left,
        view.y + view.half - top,
    )
    whole = Image.fromarray(np.ascontiguousarray(green)).convert("F")
    return np.asarray(whole.resize((side, side), Image.Resampling.BILINEAR, box=box))


def flatten(grey: np.ndarray, blur: float) -> np.ndarray:
    """Remove the local mean and divide by the local contrast, which leaves vessels and lesions.

    Args:
        grey: (H, W) float32, grey levels.
        blur: Pixels, standard deviation of the final smoothing, which makes two samplings of one
            image agree.

    Returns:
        (H, W) float32 with mean 0, and 0 where the image is dark.
    """
    lit = ndimage.minimum_filter((grey > DARK).astype(np.float32), 3)
    weight = ndimage.gaussian_filter(lit, WINDOW, mode="constant") + 1e-3
    detail = (grey - ndimage.gaussian_filter(grey * lit, WINDOW, mode="constant") / weight) * lit
    contrast = np.sqrt(ndimage.gaussian_filter(detail**2, WINDOW, mode="constant") / weight) + FLOOR
    flat = ndimage.gaussian_filter(detail / contrast * lit, blur, mode="constant") * lit
    return flat - flat.sum() / max(lit.sum(), 1) * lit


def fingerprint(image: np.ndarray, view: View) -> np.ndarray:
    """Return the fingerprint of a view: its flattened pixels, sorted by symmetry.

    The four quarters are even or odd along rows and columns, so that a flip changes only the signs
    of two of them.

    Args:
        image: (S, S, 3) uint8.
        view: Region of the image.

    Returns:
        (4, COARSE^2 / 4) float32 of length 1; all 0 for a dark view.
    """
    flat = flatten(sample(image, view, COARSE), 0.5)
    return parities(flat / max(np.linalg.norm(flat), 1e-6))


def parities(flat: np.ndarray) -> np.ndarray:
    """Split a square by symmetry; inner products of two squares are kept.

    (COARSE, COARSE) -> (4, COARSE^2 / 4): even, odd along columns, odd along rows, odd along both.
    """
    half, quarters = COARSE // 2, []
    upper, lower = flat[:half], flat[half:][::-1]
    for rows in (upper + lower, upper - lower):
        left, right = rows[:, :half], rows[:, half:][:, ::-1]
        quarters += [(left + right) / 2, (left - right) / 2]
    return np.stack(quarters).reshape(4, -1)


def propose(
    prints: np.ndarray, rows: np.ndarray | None = None, framed: np.ndarray | None = None
) -> np.ndarray:
    """Return the pairs that may be copies of each other, in any of four flips.

    The memory in use is a few blocks, independent of N.

    Args:
        prints: (N, 4, K) float32 fingerprints.
        rows: (M,) row numbers to compare with all; None compares all with all.
        framed: (M, 4, K) fingerprints of these rows in another framing.

    Returns:
        (P, 2) int64 row numbers, first < second, sorted, unique.
    """
    queries, pairs = prints if framed is None else framed, [np.empty((0, 2), np.int64)]
    number = np.arange(len(prints)) if rows is None else rows
    starts = range(0, len(number), BLOCK)
    for start in progress(starts, "comparing"):
        for other in range(start if framed is None else 0, len(prints), BLOCK):
            first, second = np.nonzero(
                similarity(queries[start : start + BLOCK], prints[other : other + BLOCK]) >= PROPOSE
            )
            pairs.append(np.stack([number[start + first], other + second], axis=1))
    ordered = np.sort(np.concatenate(pairs), axis=1)
    return np.unique(ordered[ordered[:, 0] < ordered[:, 1]], axis=0)


def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the largest inner product of fingerprints over the four flips of b.

    It costs as much as one product without flips.

    Args:
        a: (N, 4, K) float32.
        b: (M, 4, K) float32.

    Returns:
        (N, M) float32 in [-1, 1].
    """
    even, odd_columns, odd_rows, odd = (a[:, quarter] @ b[:, quarter].T for quarter in range(4))
    upright = even + odd_rows + np.abs(odd_columns + odd)  # as it is or flipped along columns
    return np.maximum(upright, even - odd_rows + np.abs(odd_columns - odd), out=upright)


def aligned_correlation(
    a: np.ndarray, view_a: View, b: np.ndarray, view_b: View
) -> tuple[float, str]:
    """Return the correlation of two images under the best flip, scale and shift.

    Args:
        a: First stored square, (S, S, 3) uint8.
        view_a: Region of the first image.
        b: Second stored square.
        view_b: Region of the second image.

    Returns:
        The correlation in [-1, 1], and the flip, a key of FLIPS.
    """
    still = _around(a, view_a, REACH)[REACH:-REACH, REACH:-REACH]
    turned = {
        flip: np.ascontiguousarray(still[::rows, ::columns])
        for flip, (rows, columns) in FLIPS.items()
    }
    fit = max(fit for scale in SCALES for fit in _slide(turned, b, view_b.framed(scale)))
    for step in (0.025, 0.0125):  # between the scales tried, and below a pixel
        value, flip, view = fit
        if value >= HOPELESS:
            fit = max(
                fit
                for scale in (1 - step, 1, 1 + step)
                for fit in _slide({flip: turned[flip]}, b, view.framed(scale))
            )
    return fit[:2]


def _around(image: np.ndarray, view: View, margin: int) -> np.ndarray:
    """Flatten a view and `margin` pixels around it, at FINE pixels per view."""
    side = FINE + 2 * margin
    return flatten(sample(image, view.framed(side / FINE), side), 0.7)


def _slide(
    patterns: Mapping[str, np.ndarray], image: np.ndarray, view: View
) -> list[tuple[float, str, View]]:
    """Find the best shift of each pattern {flip: (FINE, FINE)}, up to REACH pixels off a view.

    Returns correlation, flip and shifted view of each pattern.
    """
    around, shifts = _around(image, view, REACH), 2 * REACH + 1
    spectrum = fft.rfft2(around)
    energy = (
        FINE**2
        * ndimage.uniform_filter(around**2, FINE, mode="constant", origin=-FINE // 2)[
            :shifts, :shifts
        ]
    )
    fits = []
    for flip, pattern in patterns.items():
        products = fft.irfft2(spectrum * np.conj(fft.rfft2(pattern, around.shape)), around.shape)[
            :shifts, :shifts
        ]
        correlation = products / np.maximum(
            np.linalg.norm(pattern) * np.sqrt(np.maximum(energy, 0)), 1e-3
        )
        y, x = np.unravel_index(np.argmax(correlation), correlation.shape)
        dx, dy = (
            2 * (peak - REACH + _vertex(line, peak)) / FINE
            for line, peak in ((correlation[y], x), (correlation[:, x], y))
        )
        fits.append((float(correlation[y, x]), flip, view.framed(1, dx, dy)))
    return fits


def _vertex(line: np.ndarray, peak: np.intp) -> float:
    """Top of the parabola through a peak and its neighbours, in [-0.5, 0.5] from the peak.

    0 at the border.
    """
    if not 0 < peak < len(line) - 1:
        return 0.0
    before, top, after = line[peak - 1 : peak + 2]
    return float((before - after) / (2 * min(before - 2 * top + after, -1e-9)))
