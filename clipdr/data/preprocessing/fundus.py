"""Fundus disc: detection, crop and mask, and the test whether an image is a fundus image.

Input and output are arrays. Coordinates are continuous: pixel i covers [i, i + 1), its centre lies
at i + 0.5, x grows to the right and y downwards. A disc is (cx, cy, r, w, h) of the manifest: the
circle, and the extent of the image inside its padded square.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from clipdr.data.preprocessing.circle_detection import Circle, Fit, detect_circle, inside

if TYPE_CHECKING:
    import torch

SMALL = 320  # pixels, longest side of the copy in which the circle is sought
WHITE = 240  # grey level from which a background counts as white, because JPEG blurs its 255
TINY = 32  # pixels, shortest side of the copy that can be judged
ROUGH = 8.5  # grey levels between neighbours above which an image without a disc is no retina


class Detection(NamedTuple):
    """Field of view of an image.

    Attributes:
        circle: Circle in pixels of the image, None without a plausible one.
        flag: "" | "no_disc" | "squeezed".
        reason: Why the image is not a fundus image, "" if it may be one.
    """

    circle: Circle | None
    flag: str
    reason: str


def find_circle(image: np.ndarray) -> Circle | None:
    """Detect the circle of the camera's field of view.

    It is sought on a copy of at most SMALL pixels (clipdr.data.preprocessing.circle_detection). A
    disc cut by the frame is completed, so that the circle may reach beyond the image.

    Args:
        image: (H, W, 3) uint8.

    Returns:
        Circle in pixels of `image` with r >= 0.25 min(H, W), None without a plausible one.
    """
    return detect(image).circle


def detect(image: np.ndarray) -> Detection:
    """Detect the circle of an image and judge whether it is a fundus image.

    Args:
        image: (H, W, 3) uint8.

    Returns:
        The flag is "squeezed" where the disc is an ellipse (the sides were scaled differently) and
        "no_disc" where there is none. In both cases the circle is None and the whole image is kept.
    """
    factor = -(-max(image.shape[:2]) // SMALL)
    small = Image.fromarray(image)
    small = np.asarray(small.reduce(factor) if factor > 1 else small)
    fit = detect_circle(_foreground(small))
    reason = _judge(small, fit)
    if fit is None:
        return Detection(None, "no_disc", reason)
    if fit.stretch != 1:
        return Detection(None, "squeezed", reason)
    return Detection(Circle(*(float(value) * factor for value in fit.circle)), "", reason)


def crop(image: np.ndarray, circle: Circle | None, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Crop the disc to its bounding box, pad it to a square and resize it with antialiasing.

    Everything outside of the disc is 0.

    Args:
        image: (H, W, 3) uint8.
        circle: Circle in pixels of `image`; None keeps the whole image.
        size: Side S of the square in pixels.

    Returns:
        The square (S, S, 3) uint8, and the disc (cx, cy, r, w, h) float32 in pixels of the square.
        Without a circle, the disc covers the square.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = (
        (0, 0, width, height) if circle is None else _box(circle, height, width)
    )
    scale = size / max(right - left, bottom - top)
    # size - w and size - h are even, so that the padding is exactly centred.
    w, h = _even(scale * (right - left), size), _even(scale * (bottom - top), size)
    x, y = (size - w) // 2, (size - h) // 2
    square = np.zeros((size, size, 3), np.uint8)
    resized = Image.fromarray(image).resize(
        (w, h), Image.Resampling.BILINEAR, box=(left, top, right, bottom), reducing_gap=3.0
    )
    square[y : y + h, x : x + w] = np.asarray(resized)
    if circle is None:
        return square, np.array([size / 2, size / 2, size, w, h], np.float32)
    cx, cy = x + (circle.cx - left) * w / (right - left), y + (circle.cy - top) * h / (bottom - top)
    disc = np.array([cx, cy, circle.r * scale, w, h], np.float32)
    square[~inside(Circle(*disc[:3]), 1, 1, size, size)] = 0
    return square, disc


def mask(disc: torch.Tensor | np.ndarray, size: int) -> torch.Tensor:
    """Return which pixels are retina: inside the circle and inside the centred w x h image.

    Args:
        disc: (B, 5) float: cx, cy, r, w, h in pixels of a square of side `size`.
        size: Side S of the square in pixels.

    Returns:
        (B, 1, S, S) bool on the disc's device.
    """
    import torch

    cx, cy, r, w, h = torch.as_tensor(disc, dtype=torch.float32)[:, :, None, None].unbind(1)
    line = torch.arange(size, dtype=torch.float32, device=cx.device) + 0.5
    x, y = line[None, None, :], line[None, :, None]
    retina = (
        ((x - cx) ** 2 + (y - cy) ** 2 <= r**2)
        & ((x - size / 2).abs() <= w / 2)
        & ((y - size / 2).abs() <= h / 2)
    )
    return retina[:, None]


def clean(image: np.ndarray, domain: str) -> np.ndarray:
    """Remove the artefacts of a dataset from an image (CLEANERS).

    Args:
        image: (H, W, 3) uint8.
        domain: Name of the dataset.

    Returns:
        (H, W, 3) uint8; a new array where something was changed.
    """
    for cleaner in CLEANERS.get(domain, ()):
        image = cleaner(image)
    return image


def _white_border(image: np.ndarray) -> np.ndarray:
    """Set white that touches the image's edge to 0, with its blurred fringe.

    Saturated spots inside the retina stay.
    """
    white = _touching(image.min(axis=2) >= WHITE)
    if not white.any():
        return image
    return np.where(
        ndimage.binary_dilation(white, np.ones((3, 3)), _fringe(image))[:, :, None],
        np.uint8(0),
        image,
    )


def has_red_text(image: np.ndarray, domain: str) -> bool:
    """Return whether the cleaners of a domain would remove red letters from (H, W, 3) uint8."""
    return _red_text in CLEANERS.get(domain, ()) and _red_letters(image) is not None


def _red_text(image: np.ndarray) -> np.ndarray:
    """Set red letters to 0."""
    letters = _red_letters(image)
    if letters is None:
        return image
    image = image.copy()
    image[: letters.shape[0], : letters.shape[1]][letters] = 0
    return image


def _red_letters(image: np.ndarray) -> np.ndarray | None:
    """Red pixels on the background in the top left corner: bool of the corner's shape, or None.

    Red is R > 150 with G and B < 80. The corner is the top 15 % and left 30 %. Haemorrhages are not
    on the background.
    """
    height, width = image.shape[:2]
    corner = image[: int(0.15 * height), : int(0.30 * width)]
    letters = (corner[:, :, 0] > 150) & (corner[:, :, 1] < 80) & (corner[:, :, 2] < 80)
    if not letters.any():
        return None
    background = (corner.max(axis=2) <= 15) | (corner.min(axis=2) >= WHITE)
    component, _ = ndimage.label(
        background | ndimage.binary_dilation(letters, iterations=_fringe(image))
    )
    letters &= (component == component[0, 0]) & (component > 0)
    return letters if letters.any() else None


def _near_black(image: np.ndarray) -> np.ndarray:
    """Set background of at most 15 in every channel to 0."""
    return np.where((image.max(axis=2) <= 15)[:, :, None], np.uint8(0), image)


CLEANERS = {
    "DEEPDR": (_red_text, _white_border),
    "SIM_DEEPDR": (_red_text, _white_border),
    "DDR": (_near_black,),
}


def _fringe(image: np.ndarray) -> int:
    """Pixels over which a sharp edge is blurred by JPEG and scaling."""
    return 1 + max(image.shape[:2]) // 350


def _touching(foreground: np.ndarray) -> np.ndarray:
    """Connected components of a (H, W) bool array that touch its edge."""
    number, _ = ndimage.label(foreground)
    edge = np.unique(np.concatenate([number[0], number[-1], number[:, 0], number[:, -1]]))
    return np.isin(number, edge[edge > 0])


def _box(circle: Circle, height: int, width: int) -> tuple[int, int, int, int]:
    """Bounding box of a circle, clipped to the image: left, top, right, bottom, whole pixels."""
    left, right = max(0, round(circle.cx - circle.r)), min(width, round(circle.cx + circle.r))
    top, bottom = max(0, round(circle.cy - circle.r)), min(height, round(circle.cy + circle.r))
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _even(length: float, size: int) -> int:
    """Whole number in 1..size nearest to `length` that leaves an even rest."""
    return max(size - 2 * round((size - length) / 2), 1 if size % 2 else 2)


def _foreground(small: np.ndarray) -> np.ndarray:
    """Brightest channel, (H, W) float32; a white background becomes black.

    A background is white if at least two corners are.
    """
    grey = small.max(axis=2).astype(np.float32)
    white = small.min(axis=2) >= WHITE
    corners = (white[:4, :4], white[:4, -4:], white[-4:, :4], white[-4:, -4:])
    if sum(corner.mean() > 0.5 for corner in corners) >= 2:
        grey[_touching(white)] = 0
    return grey


def _judge(small: np.ndarray, fit: Fit | None) -> str:
    """Why an image is not a fundus image, "" if it may be one.

    A convincing disc excuses unusual colours, but not a flat or blue image.
    """
    if min(small.shape[:2]) < TINY:
        return f"not a fundus image: a side of {min(small.shape[:2])} pixels, or a strip"
    colour = (
        (small if fit is None else small[inside(fit.circle, 0.95, fit.stretch, *small.shape[:2])])
        .reshape(-1, 3)
        .astype(np.int16)
    )
    red, green, blue = colour.T
    if min(np.bincount(channel, minlength=256).max() for channel in colour.T) > 0.6 * len(colour):
        return "not a fundus image: one flat colour, as in a mask or a chart"
    if (red >= blue - 10).mean() < 0.6:
        return "not a fundus image: more blue than red"
    colourless = np.median(colour.max(axis=1) - colour.min(axis=1)) < 6
    if (
        fit is not None
        and fit.score >= (0.75 if fit.arc >= 0.25 else 0.9)
        and not (colourless and (fit.arc < 0.25 or fit.stretch != 1))
    ):
        return ""
    if colourless:
        return "not a fundus image: neither colour nor a disc"
    if ((red >= green - 8) & (green >= blue - 8)).mean() < 0.8:
        return "not a fundus image: no disc, and colours that no retina has"
    if _roughness(small) > ROUGH:
        return "not a fundus image: no single disc, and more edges than a retina has"
    return ""


def _roughness(small: np.ndarray) -> float:
    """Mean difference of neighbours in grey levels, in a copy of 96 pixels.

    It was at most 7.4 in patches of 1,119 retinas and at least 9.8 in other images.
    """
    copy = Image.fromarray(small)
    copy.thumbnail((96, 96), Image.Resampling.BOX)
    bright = np.asarray(copy).max(axis=2).astype(np.int16)
    return (np.abs(np.diff(bright, axis=0)).mean() + np.abs(np.diff(bright, axis=1)).mean()) / 2
