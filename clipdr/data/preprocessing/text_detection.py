"""Burnt-in text: names, dates and numbers that stand on the background beside the disc.

Input: a photograph as it was decoded, before any cleaning, and its circle; output: whether a line of text stands beside the disc. Text on
the retina itself is not sought, nor text in a picture whose background is neither dark nor white.
"""

import numpy as np
from PIL import Image
from scipy import ndimage

from clipdr.data.preprocessing.circle_detection import Circle, inside

LONGEST = 1000  # pixels, longest side of the copy that is searched; letters of 1 % of it are then 10 pixels high
DARK, WHITE = 60, 225  # grey levels up to which and from which a corner counts as background
CONTRAST, FAINT = (
    60,
    15,
)  # grey levels between background and letters, and between background and the darkest retina
RIM = 1.06  # radii of the circle beyond which nothing belongs to the disc
TALLEST = 0.12  # of the picture's height: a line of text is no taller
STROKES = 4  # strokes beside each other, at least, in the busiest row of a line: "R" and "08" have fewer, dates and names more


def burnt_in(image: np.ndarray, circle: Circle | None) -> bool:
    """Whether a line of text stands on the background of a photograph.

    image  : (H, W, 3) uint8
    circle : of the disc, in pixels of `image`; None: all that is connected with the largest bright part counts as retina
    """
    factor = -(-max(image.shape[:2]) // LONGEST)
    small = np.asarray(Image.fromarray(image).reduce(factor)) if factor > 1 else image
    height, width = small.shape[:2]
    contrast = _contrast(small)
    if contrast is None:
        return False
    ink = contrast > CONTRAST
    if circle is not None:
        ink &= ~inside(Circle(*(value / factor for value in circle)), RIM, 1, height, width)
    else:
        part, count = ndimage.label(contrast > FAINT, np.ones((3, 3)))
        if count:
            ink &= part != 1 + np.argmax(np.bincount(part.ravel())[1:])
    if ink.sum() < 4 * STROKES:
        return False
    gap = max(2, round(0.015 * height))  # letters of one line stand nearer than twice this
    lines, _ = ndimage.label(
        ndimage.binary_dilation(ink, np.ones((1, 2 * gap + 1))), np.ones((3, 3))
    )
    return any(
        _reads(ink[box] & (lines[box] == number), height)
        for number, box in enumerate(ndimage.find_objects(lines), start=1)
    )


def _contrast(small):
    """(H, W) grey levels by which each pixel stands out from the background; None without a dark or white background."""
    corners = np.stack([small[:6, :6], small[:6, -6:], small[-6:, :6], small[-6:, -6:]])
    if np.sum(np.median(corners.min(axis=3), axis=(1, 2)) >= WHITE) >= 2:
        return 255 - small.min(axis=2).astype(np.int16)
    level = np.median(corners.max(axis=3), axis=(1, 2)).min()
    return small.max(axis=2) - np.int16(level) if level <= DARK else None


def _reads(ink, height):
    """Whether a connected group of ink is a line of text: low, wider than tall, of several strokes beside each other."""
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    tall, wide = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    if not 4 <= tall <= TALLEST * height or wide < 1.5 * tall:
        return False
    strokes = (np.diff(ink.astype(np.int8), axis=1, prepend=0) == 1).sum(axis=1)
    return (
        strokes.max() >= STROKES
        and (strokes >= STROKES - 1).sum() >= max(2, 0.3 * tall)
        and ink[rows[0] :, columns[0] :].mean() > 0.1
    )
