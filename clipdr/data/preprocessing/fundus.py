"""The fundus disc: clean a photograph, find its circle, crop it, mask it, and say when a picture is no fundus photograph.

Input and output are arrays, no files. Coordinates are continuous: pixel i covers [i, i + 1), its centre lies at i + 0.5, x grows to the
right, y downwards. A disc is cx, cy, r, w, h of the manifest: the circle, and the extent of the picture inside its padded square.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from clipdr.data.preprocessing.circle_detection import Circle, Fit, inside, search

SMALL = 320  # pixels, longest side of the copy in which the circle is sought
WHITE = (
    240  # grey level from which a background counts as white; JPEG blurs the 255 it was drawn with
)
TINY = 32  # pixels, shortest side of the copy of SMALL in which anything can be judged
ROUGH = 8.5  # grey levels between neighbours above which a picture without a disc is no retina


class View(NamedTuple):
    """What a picture shows: its circle or None, flag ("" | "no_disc" | "squeezed"), reason ("" or why it is no fundus photograph)."""

    circle: Circle | None
    flag: str
    reason: str


def find_circle(image: np.ndarray) -> Circle | None:
    """The circle of the camera's field of view, None without a plausible one.

    Sought on a copy of at most SMALL pixels (clipdr.data.preprocessing.circle_detection). A disc cut by the frame is completed: the circle may reach beyond the picture.

    image   : (H, W, 3) uint8
    returns   pixels of `image`, r >= 0.25 min(H, W)
    """
    return look(image).circle


def look(image: np.ndarray) -> View:
    """Circle, flag and verdict of a picture.

    image   : (H, W, 3) uint8
    returns   flag "squeezed" where the disc is an ellipse (sides scaled apart), "no_disc" where there is none; both keep the whole picture
    """
    factor = -(-max(image.shape[:2]) // SMALL)
    small = Image.fromarray(image)
    small = np.asarray(small.reduce(factor) if factor > 1 else small)
    fit = search(_foreground(small))
    reason = _judge(small, fit)
    if fit is None:
        return View(None, "no_disc", reason)
    if fit.stretch != 1:
        return View(None, "squeezed", reason)
    return View(Circle(*(float(value) * factor for value in fit.circle)), "", reason)


def crop(image: np.ndarray, circle: Circle | None, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The disc, cut to its bounding box, padded to a square and resized with antialiasing; everything outside it is 0.

    image   : (H, W, 3) uint8
    circle  : in pixels of `image`; None keeps the whole picture
    size    : S, pixels
    returns   (S, S, 3) uint8, and the disc (cx, cy, r, w, h) float32 in pixels of that square; without a circle, one that covers the square
    """
    height, width = image.shape[:2]
    left, top, right, bottom = (
        (0, 0, width, height) if circle is None else _box(circle, height, width)
    )
    scale = size / max(right - left, bottom - top)
    # size - w and size - h are even: the padding is exactly centred
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


def mask(disc, size: int):
    """Which pixels are retina: inside the circle and inside the centred w x h picture.

    disc    : (B, 5) float tensor or array, cx, cy, r, w, h in pixels of a square of `size`
    returns   (B, 1, S, S) bool tensor, on the disc's device
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
    """A photograph without the quirks of its data set (CLEANERS); a new array where something was changed. (H, W, 3) uint8, both."""
    for cleaner in CLEANERS.get(domain, ()):
        image = cleaner(image)
    return image


def _white_border(image):
    """White that touches the picture's edge -> 0, with the fringe that JPEG and scaling mix; saturated spots inside the retina stay."""
    white = _touching(image.min(axis=2) >= WHITE)
    if not white.any():
        return image
    return np.where(
        ndimage.binary_dilation(white, np.ones((3, 3)), _fringe(image))[:, :, None],
        np.uint8(0),
        image,
    )


def red_text(image: np.ndarray, domain: str) -> bool:
    """Whether the cleaners of a domain would remove red letters from a photograph. (H, W, 3) uint8."""
    return _red_text in CLEANERS.get(domain, ()) and _red_letters(image) is not None


def _red_text(image):
    """Red letters -> 0."""
    letters = _red_letters(image)
    if letters is None:
        return image
    image = image.copy()
    image[: letters.shape[0], : letters.shape[1]][letters] = 0
    return image


def _red_letters(image):
    """Red (R > 150, G and B < 80) in the top 15 % and left 30 % where it stands on the background, haemorrhages left out.

    Bool of that corner's shape; None without any.
    """
    height, width = image.shape[:2]
    corner = image[: int(0.15 * height), : int(0.30 * width)]
    letters = (corner[:, :, 0] > 150) & (corner[:, :, 1] < 80) & (corner[:, :, 2] < 80)
    if not letters.any():
        return None
    background = (corner.max(axis=2) <= 15) | (corner.min(axis=2) >= WHITE)
    part, _ = ndimage.label(
        background | ndimage.binary_dilation(letters, iterations=_fringe(image))
    )
    letters &= (part == part[0, 0]) & (part > 0)
    return letters if letters.any() else None


def _near_black(image):
    """Background of at most 15 in every channel -> 0."""
    return np.where((image.max(axis=2) <= 15)[:, :, None], np.uint8(0), image)


CLEANERS = {
    "DEEPDR": (_red_text, _white_border),
    "SIM_DEEPDR": (_red_text, _white_border),
    "DDR": (_near_black,),
}


def _fringe(image):
    """Pixels over which a drawn edge is blurred."""
    return 1 + max(image.shape[:2]) // 350


def _touching(part: np.ndarray) -> np.ndarray:
    """The connected parts of a (H, W) bool array that touch its edge."""
    number, _ = ndimage.label(part)
    edge = np.unique(np.concatenate([number[0], number[-1], number[:, 0], number[:, -1]]))
    return np.isin(number, edge[edge > 0])


def _box(circle, height, width):
    """Bounding box of a circle, clipped to the picture: left, top, right, bottom, whole pixels."""
    left, right = max(0, round(circle.cx - circle.r)), min(width, round(circle.cx + circle.r))
    top, bottom = max(0, round(circle.cy - circle.r)), min(height, round(circle.cy + circle.r))
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _even(length, size):
    """The whole number nearest to `length` in 1..size that leaves an even rest."""
    return max(size - 2 * round((size - length) / 2), 1 if size % 2 else 2)


def _foreground(small: np.ndarray) -> np.ndarray:
    """(H, W) float32, the brightest channel; a white background (at least two white corners) is painted black."""
    grey = small.max(axis=2).astype(np.float32)
    white = small.min(axis=2) >= WHITE
    corners = (white[:4, :4], white[:4, -4:], white[-4:, :4], white[-4:, -4:])
    if sum(corner.mean() > 0.5 for corner in corners) >= 2:
        grey[_touching(white)] = 0
    return grey


def _judge(small: np.ndarray, fit: Fit | None) -> str:
    """Why a picture is no fundus photograph, "" if it may be one. A convincing disc excuses odd colours, but no flat or blue picture."""
    if min(small.shape[:2]) < TINY:
        return f"not a fundus photograph: a side of {min(small.shape[:2])} pixels, or a strip"
    colour = (
        (small if fit is None else small[inside(fit.circle, 0.95, fit.stretch, *small.shape[:2])])
        .reshape(-1, 3)
        .astype(np.int16)
    )
    red, green, blue = colour.T
    if min(np.bincount(channel, minlength=256).max() for channel in colour.T) > 0.6 * len(colour):
        return "not a fundus photograph: one flat colour, as in a mask or a chart"
    if (red >= blue - 10).mean() < 0.6:
        return "not a fundus photograph: more blue than red"
    colourless = np.median(colour.max(axis=1) - colour.min(axis=1)) < 6
    if (
        fit is not None
        and fit.score >= (0.75 if fit.arc >= 0.25 else 0.9)
        and not (colourless and (fit.arc < 0.25 or fit.stretch != 1))
    ):
        return ""
    if colourless:
        return "not a fundus photograph: neither colour nor a disc"
    if ((red >= green - 8) & (green >= blue - 8)).mean() < 0.8:
        return "not a fundus photograph: no disc, and colours that no retina has"
    if _roughness(small) > ROUGH:
        return "not a fundus photograph: no single disc, and more edges than a retina has"
    return ""


def _roughness(small: np.ndarray) -> float:
    """Mean grey level difference of neighbours in a copy of 96 pixels; patches of 1,119 retinas at most 7.4, other photographs from 9.8."""
    copy = Image.fromarray(small)
    copy.thumbnail((96, 96), Image.Resampling.BOX)
    bright = np.asarray(copy).max(axis=2).astype(np.int16)
    return (np.abs(np.diff(bright, axis=0)).mean() + np.abs(np.diff(bright, axis=1)).mean()) / 2
