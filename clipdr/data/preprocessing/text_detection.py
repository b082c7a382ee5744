"""Detection of burnt-in text: names, dates and numbers on the background beside the disc.

Input is an image as it was decoded, before any cleaning, and its circle. Text on the retina is not
sought, nor text in an image whose background is neither dark nor white.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from clipdr.data.preprocessing.circle_detection import Circle, inside

# Pixels, longest side of the copy that is searched; letters of 1 % of it are then 10 pixels high.
LONGEST = 1000
DARK, WHITE = 60, 225  # grey levels up to which and from which a corner counts as background
CONTRAST = 60  # grey levels between background and letters
FAINT = 15  # grey levels between background and the darkest retina
RIM = 1.06  # radii of the circle beyond which nothing belongs to the disc
TALLEST = 0.12  # of the image's height: a line of text is no taller
# Fewest strokes beside each other in the busiest row of a line. "R" and "08" have fewer, dates and
# names have more.
STROKES = 4


def has_burnt_in_text(image: np.ndarray, circle: Circle | None) -> bool:
    """Return whether a line of text stands on the background of an image.

    Args:
        image: (H, W, 3) uint8.
        circle: Circle of the disc in pixels of `image`. None: everything connected with the largest
            bright component counts as retina.
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
        component, count = ndimage.label(contrast > FAINT, np.ones((3, 3)))
        if count:
            ink &= component != 1 + np.argmax(np.bincount(component.ravel())[1:])
    if ink.sum() < 4 * STROKES:
        return False
    gap = max(2, round(0.015 * height))  # letters of one line stand nearer than twice this
    lines, _ = ndimage.label(
        ndimage.binary_dilation(ink, np.ones((1, 2 * gap + 1))), np.ones((3, 3))
    )
    return any(
        _is_text_line(ink[box] & (lines[box] == number), height)
        for number, box in enumerate(ndimage.find_objects(lines), start=1)
    )


def _contrast(small: np.ndarray) -> np.ndarray | None:
    """Grey levels between each pixel and the background, (H, W) int16.

    None without a dark or white background.
    """
    corners = np.stack([small[:6, :6], small[:6, -6:], small[-6:, :6], small[-6:, -6:]])
    if np.sum(np.median(corners.min(axis=3), axis=(1, 2)) >= WHITE) >= 2:
        return 255 - small.min(axis=2).astype(np.int16)
    level = np.median(corners.max(axis=3), axis=(1, 2)).min()
    return small.max(axis=2) - np.int16(level) if level <= DARK else None


def _is_text_line(ink: np.ndarray, height: int) -> bool:
    """Whether connected ink is a line of text: low, wider than tall, of several strokes."""
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
