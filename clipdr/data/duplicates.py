"""Copies of one photograph, whatever its name: proposed by a fingerprint of the retina, confirmed by the correlation of aligned pixels.

Input: manifests of data/manifests/{D}.csv and stores (N, S, S, 3) uint8. Output: pairs of photographs.
All retinas look alike at the scale of a thumbnail (disc, shading, the bright optic nerve head), so a perceptual hash gives thousands of
false pairs; what differs are the vessels. Both steps see the inner part of the disc with shading and local contrast divided out.
"""

import hashlib
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from scipy import fft, ndimage

INNER = 0.75  # of the disc's radius: half the side of the part compared; rims and padded corners are alike in every photograph
COARSE, FINE = 32, 64  # pixels across that part: to propose, to confirm
WINDOW = (
    3  # pixels, standard deviation of the neighbourhood in which shading and contrast are measured
)
FLOOR = 1.5  # grey levels of local contrast below which nothing is amplified further
DARK = 8  # grey level up to which a pixel of the green channel carries nothing
PROPOSE = 0.80  # correlation of fingerprints from which a pair is looked at
CONFIRM = (
    0.75  # correlation of aligned pixels from which a pair is one photograph: benchmarks/leaks.py
)
HOPELESS = 0.5  # correlation below which no finer alignment is tried
SCALES = (0.9, 0.95, 1, 1 / 0.95, 1 / 0.9)  # at which a pair is aligned
REACH = 6  # pixels of FINE that an alignment may be off
BLOCK = 2048  # fingerprints compared at a time: 16 MiB per product
FLIPS = {"": (1, 1), "h": (1, -1), "v": (-1, 1), "hv": (-1, -1)}  # steps along rows and columns
# How a copy cut by 5 % lies on a photograph without a disc: (scale, shift x, shift y in half sides). Where there is a disc, it says so.
FRAMINGS = [(scale, 0.0, 0.0) for scale in (0.9, 0.95, 1 / 0.95, 1 / 0.9)]
FRAMINGS += [
    (scale, dx, dy)
    for scale, shift in ((0.95, 0.05), (1 / 0.95, 0.053))
    for dx, dy in product((-shift, shift), repeat=2)
]


class View(NamedTuple):
    """Where to look in a stored square: centre and half side, pixels."""

    x: float
    y: float
    half: float

    def framed(self, scale, dx=0.0, dy=0.0):
        return View(self.x + dx * self.half, self.y + dy * self.half, self.half * scale)


def looked_at(manifest, stores):
    """What is compared, read once: digests of the stored pixels (N,), views (N,), fingerprints (N, 4, COARSE² / 4) float32.

    manifest : rows of one or several domains;  stores : {domain: (N, S, S, 3) uint8}
    """
    digests, views, prints = [], [], np.empty((len(manifest), 4, COARSE**2 // 4), np.float32)
    for place, row in enumerate(progress(list(manifest.itertuples()), "fingerprints")):
        picture = square(stores, row)
        digests.append(hashlib.blake2b(picture, digest_size=16).hexdigest())
        views.append(view(row.cx, row.cy, row.r, row.flag, len(picture)))
        prints[place] = fingerprint(picture, views[-1])
    return np.array(digests), views, prints


def exact(manifest, digests):
    """Pairs of rows whose files or whose stored pixels are equal: (P, 2) int64, first < second, sorted."""
    found = set()
    for keys in (manifest["sha256"].to_numpy(str), digests):
        for key, places in pd.Series(range(len(manifest))).groupby(keys):
            if key and len(places) > 1:
                found.update(combinations(places, 2))
    return np.array(sorted(found), np.int64).reshape(-1, 2)


def near(manifest, stores, views, prints):
    """Pairs of rows that show one photograph: renamed, re-encoded, resized, flipped, or cut by about 5 %; equal ones among them.

    views, prints : as looked_at returns them
    returns         (P, 2) int64, first < second, sorted; (P,) float64 correlation, at least CONFIRM; the number of pairs proposed
    """
    rows = list(manifest.itertuples())
    undisced = [place for place, row in enumerate(rows) if row.flag]
    pairs = [propose(prints)]
    for framing in FRAMINGS if undisced else ():
        framed = np.stack(
            [
                fingerprint(square(stores, rows[place]), views[place].framed(*framing))
                for place in undisced
            ]
        )
        pairs.append(propose(prints, np.array(undisced), framed))
    pairs = np.unique(np.concatenate(pairs), axis=0)
    values = np.array(
        [
            agreement(square(stores, rows[a]), views[a], square(stores, rows[b]), views[b])[0]
            for a, b in progress(pairs, "aligning")
        ],
        np.float64,
    )
    return pairs[values >= CONFIRM], values[values >= CONFIRM], len(pairs)


def square(stores, row):
    """The stored photograph of a manifest's row: (S, S, 3) uint8."""
    return np.ascontiguousarray(stores[row.domain][row.row])


def progress(items, what):
    """A bar on stderr where someone looks at it."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, what, console=console, transient=True, disable=not console.is_terminal)


def view(cx, cy, r, flag, size):
    """The inner part of a disc, or of the whole square where the photograph has none."""
    return View(size / 2, size / 2, INNER * size / 2) if flag else View(cx, cy, INNER * r)


def sample(picture, where, side):
    """The green channel inside a view, resized with antialiasing; 0 outside of the picture. (side, side) float32

    picture : (S, S, 3) uint8
    """
    left, top = int(np.floor(where.x - where.half)), int(np.floor(where.y - where.half))
    right, bottom = int(np.ceil(where.x + where.half)), int(np.ceil(where.y + where.half))
    green = picture[max(top, 0) : bottom, max(left, 0) : right, 1]
    if green.shape != (bottom - top, right - left):
        missing = [
            (max(-top, 0), max(bottom - len(picture), 0)),
            (max(-left, 0), max(right - len(picture), 0)),
        ]
        green = np.pad(green, missing)
    box = (
        where.x - where.half - left,
        where.y - where.half - top,
        where.x + where.half - left,
        where.y + where.half - top,
    )
    whole = Image.fromarray(np.ascontiguousarray(green)).convert("F")
    return np.asarray(whole.resize((side, side), Image.Resampling.BILINEAR, box=box))


def flatten(grey, blur):
    """Vessels and lesions without shading: local mean removed, local contrast divided out, 0 where it is dark, mean 0. (H, W) float32

    blur : pixels, standard deviation of the final smoothing, which lets two samplings of one photograph agree
    """
    lit = ndimage.minimum_filter((grey > DARK).astype(np.float32), 3)
    weight = ndimage.gaussian_filter(lit, WINDOW, mode="constant") + 1e-3
    detail = (grey - ndimage.gaussian_filter(grey * lit, WINDOW, mode="constant") / weight) * lit
    contrast = np.sqrt(ndimage.gaussian_filter(detail**2, WINDOW, mode="constant") / weight) + FLOOR
    flat = ndimage.gaussian_filter(detail / contrast * lit, blur, mode="constant") * lit
    return flat - flat.sum() / max(lit.sum(), 1) * lit


def fingerprint(picture, where):
    """The flattened view by symmetry, (4, COARSE² / 4) float32, length 1: even or odd along rows and columns, so that a flip changes only
    the signs of two quarters. All 0 where nothing is lit."""
    flat = flatten(sample(picture, where, COARSE), 0.5)
    return parities(flat / max(np.linalg.norm(flat), 1e-6))


def parities(flat):
    """(COARSE, COARSE) -> (4, COARSE² / 4): even, odd along columns, odd along rows, odd along both; products of two are kept."""
    half, quarters = COARSE // 2, []
    upper, lower = flat[:half], flat[half:][::-1]
    for rows in (upper + lower, upper - lower):
        left, right = rows[:, :half], rows[:, half:][:, ::-1]
        quarters += [(left + right) / 2, (left - right) / 2]
    return np.stack(quarters).reshape(4, -1)


def propose(prints, rows=None, framed=None):
    """Pairs that may be copies of each other, in any of four flips; memory stays at a few blocks whatever N is.

    prints       : (N, 4, K) float32, fingerprints
    rows, framed : other framings (M, 4, K) of some rows (M,), to be compared with all; without them all are compared with all
    returns   (P, 2) int64, first < second, sorted, unique
    """
    asked, pairs = prints if framed is None else framed, [np.empty((0, 2), np.int64)]
    number = np.arange(len(prints)) if rows is None else rows
    starts = range(0, len(number), BLOCK)
    for start in progress(starts, "comparing"):
        for other in range(start if framed is None else 0, len(prints), BLOCK):
            first, second = np.nonzero(
                likeness(asked[start : start + BLOCK], prints[other : other + BLOCK]) >= PROPOSE
            )
            pairs.append(np.stack([number[start + first], other + second], axis=1))
    found = np.sort(np.concatenate(pairs), axis=1)
    return np.unique(found[found[:, 0] < found[:, 1]], axis=0)


def likeness(a, b):
    """Largest product of fingerprints over the four flips of b, at the price of one. (N, 4, K), (M, 4, K) -> (N, M) float32"""
    even, odd_columns, odd_rows, odd = (a[:, quarter] @ b[:, quarter].T for quarter in range(4))
    upright = even + odd_rows + np.abs(odd_columns + odd)  # as it is or flipped along columns
    return np.maximum(upright, even - odd_rows + np.abs(odd_columns - odd), out=upright)


def agreement(a, here, b, there):
    """Correlation of two photographs under the flip, scale and shift that fit best, and that flip.

    a, b    : stored squares (S, S, 3) uint8;  here, there : View
    returns   (-1..1, key of FLIPS)
    """
    still = _around(a, here, REACH)[REACH:-REACH, REACH:-REACH]
    turned = {
        flip: np.ascontiguousarray(still[::rows, ::columns])
        for flip, (rows, columns) in FLIPS.items()
    }
    fit = max(fit for scale in SCALES for fit in _slide(turned, b, there.framed(scale)))
    for step in (0.025, 0.0125):  # between the scales tried, and below a pixel
        value, flip, where = fit
        if value >= HOPELESS:
            fit = max(
                fit
                for scale in (1 - step, 1, 1 + step)
                for fit in _slide({flip: turned[flip]}, b, where.framed(scale))
            )
    return fit[:2]


def _around(picture, where, margin):
    """A view and `margin` pixels around it, at FINE pixels per view, flattened."""
    side = FINE + 2 * margin
    return flatten(sample(picture, where.framed(side / FINE), side), 0.7)


def _slide(patterns, picture, where):
    """For each pattern {flip: (FINE, FINE)}: its best correlation with the picture up to REACH pixels off a view, the flip, that view."""
    around, shifts = _around(picture, where, REACH), 2 * REACH + 1
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
            2 * (place - REACH + _vertex(line, place)) / FINE
            for line, place in ((correlation[y], x), (correlation[:, x], y))
        )
        fits.append((float(correlation[y, x]), flip, where.framed(1, dx, dy)))
    return fits


def _vertex(line, place):
    """Where a parabola through a peak and its neighbours has its top, -0.5..0.5 from the peak; 0 at the border."""
    if not 0 < place < len(line) - 1:
        return 0.0
    before, top, after = line[place - 1 : place + 2]
    return float((before - after) / (2 * min(before - 2 * top + after, -1e-9)))
