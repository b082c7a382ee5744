"""The fundus disc: clean a photograph, find its circle, crop it, mask it, and say when a picture is no fundus photograph.

Input and output are arrays, no files. Coordinates are continuous: pixel i covers [i, i + 1), its centre lies at i + 0.5, x grows to the
right, y downwards. A disc is cx, cy, r, w, h of the manifest: the circle, and the extent of the picture inside its padded square.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

SMALL = 320  # pixels, longest side of the copy in which the circle is sought
STEPS = (14, 24, 8, 40, 4)  # grey levels above the background at which an edge is sought; dark photographs need the low ones
WHITE = 240  # grey level from which a background counts as white
TRIALS = 200  # random groups of edge points, each a candidate circle
POINTS = 400  # edge points looked at per level
BINS = 120  # parts of a full turn in which an arc must show edge points
NEAR = 0.012  # an edge point within this part of the radius lies on the circle
CERTAIN, PLAUSIBLE = 0.95, 0.6  # scores of a fit that ends the search, and of one that is believed
GAIN = 0.05  # an ellipse must beat the circle by this score
MEMBERS = 12  # edge points without which there is no circle
SMALLEST, LARGEST = 0.25, 1.2  # plausible radius, in shorter sides of the picture
ROUGH = 8.5  # grey levels between neighbours above which a picture without a disc is no retina
ROUND = 0.03  # an ellipse whose axes differ less is a circle


class Circle(NamedTuple):
    """A circle in pixels of the image it was found in."""

    cx: float
    cy: float
    r: float


class Fit(NamedTuple):
    """A circle in (x, y * stretch) and how well it explains the edge of the foreground; all but circle and stretch in [0, 1]."""

    score: float
    arc: float  # part of a full turn that lies inside the picture
    stretch: float  # 1 for a circle
    circle: Circle


NOTHING = Fit(-1.0, 0.0, 1.0, Circle(np.nan, np.nan, np.nan))


class View(NamedTuple):
    """What a picture shows: its circle or None, flag ("" | "no_disc" | "squeezed"), reason ("" or why it is no fundus photograph)."""

    circle: Circle | None
    flag: str
    reason: str


def find_circle(image: np.ndarray) -> Circle | None:
    """The circle of the camera's field of view, None without a plausible one.

    Edge points of the foreground at several grey levels, on a copy of at most SMALL pixels; the circle most of them agree on, out of random
    triples, then least squares over those that agree. A disc cut by the frame is completed: the circle may reach beyond the picture.

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
    fit = _best(_foreground(small))
    reason = _judge(small, fit)
    if fit is None or fit.circle.r < SMALLEST * min(small.shape[:2]):
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
    left, top, right, bottom = (0, 0, width, height) if circle is None else _box(circle, height, width)
    scale = size / max(right - left, bottom - top)
    w, h = (
        _even(scale * (right - left), size),
        _even(scale * (bottom - top), size),
    )  # size - w and size - h are even: padding is exactly centred
    x, y = (size - w) // 2, (size - h) // 2
    square = np.zeros((size, size, 3), np.uint8)
    resized = Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR, box=(left, top, right, bottom), reducing_gap=3.0)
    square[y : y + h, x : x + w] = np.asarray(resized)
    if circle is None:
        return square, np.array([size / 2, size / 2, size, w, h], np.float32)
    cx, cy = x + (circle.cx - left) * w / (right - left), y + (circle.cy - top) * h / (bottom - top)
    disc = np.array([cx, cy, circle.r * scale, w, h], np.float32)
    square[~_ellipse(Circle(*disc[:3]), 1, 1, size, size)] = 0
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
    inside = ((x - cx) ** 2 + (y - cy) ** 2 <= r**2) & ((x - size / 2).abs() <= w / 2) & ((y - size / 2).abs() <= h / 2)
    return inside[:, None]


def clean(image: np.ndarray, domain: str) -> np.ndarray:
    """A photograph without the quirks of its data set (CLEANERS); a new array where something was changed. (H, W, 3) uint8, both."""
    for cleaner in CLEANERS.get(domain, ()):
        image = cleaner(image)
    return image


def _white_border(image):
    """White that touches the picture's edge -> 0; saturated spots inside the retina stay. 250, not 255: scaled JPEG decoding rounds."""
    return np.where(_touching((image >= 250).all(axis=2))[:, :, None], np.uint8(0), image)


def _red_text(image):
    """Red letters (R > 150, G and B < 80) in the top 15 % and left 30 % -> 0."""
    height, width = image.shape[:2]
    image = image.copy()
    corner = image[: int(0.15 * height), : int(0.30 * width)]
    corner[(corner[:, :, 0] > 150) & (corner[:, :, 1] < 80) & (corner[:, :, 2] < 80)] = 0
    return image


def _near_black(image):
    """Background of at most 15 in every channel -> 0."""
    return np.where((image.max(axis=2) <= 15)[:, :, None], np.uint8(0), image)


CLEANERS = {
    "DEEPDR": (_white_border, _red_text),
    "SIM_DEEPDR": (_white_border, _red_text),
    "DDR": (_near_black,),
}


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


def _ellipse(circle, factor, stretch, height, width):
    """(H, W) bool: inside the circle of factor * r in (x, y * stretch)."""
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    return (x - circle.cx) ** 2 + ((y - circle.cy) * stretch) ** 2 <= (factor * circle.r) ** 2


def _foreground(small: np.ndarray) -> np.ndarray:
    """(H, W) float32, the brightest channel; a white background (at least two white corners) is painted black."""
    grey = small.max(axis=2).astype(np.float32)
    white = small.min(axis=2) >= WHITE
    corners = (white[:4, :4], white[:4, -4:], white[-4:, :4], white[-4:, -4:])
    if sum(corner.mean() > 0.5 for corner in corners) >= 2:
        grey[_touching(white)] = 0
    return grey


def _best(grey: np.ndarray) -> Fit | None:
    """The most convincing circle; an ellipse where it explains clearly more; None if neither is plausible."""
    base = np.percentile(grey, 1)
    edges = [(base + step, _edge_points(grey, base + step)) for step in STEPS]
    circle = _search(grey, edges, free=False)
    if circle.score >= CERTAIN:
        return circle
    ellipse = _search(grey, edges, free=True)
    best = ellipse if ellipse.score > circle.score + GAIN and abs(ellipse.stretch - 1) > ROUND else circle
    return best if best.score >= PLAUSIBLE else None


def _search(grey, edges, free) -> Fit:
    best = NOTHING
    for level, points in edges:
        best = max(best, _fit(points, grey > level, free), key=lambda fit: fit.score)
        if best.score >= CERTAIN:
            break
    return best


def _edge_points(grey: np.ndarray, level: float) -> np.ndarray:
    """(P, 2) x, y where the foreground begins, seen from the left, right, top and bottom of the picture; at most POINTS or so."""
    height, width = grey.shape
    left = _crossings(grey, level)
    right = _crossings(grey[:, ::-1], level) * (-1, 1) + (width, 0)
    top = _crossings(grey.T, level)[:, ::-1]
    bottom = _crossings(grey[::-1].T, level)[:, ::-1] * (1, -1) + (0, height)
    points = np.concatenate([left, right, top, bottom])
    return points[:: len(points) // POINTS + 1]


def _crossings(grey, level):
    """(P, 2) x, y of every row's first rise above the level, between pixels; a row whose foreground starts at the frame has none."""
    foreground = grey > level
    first = foreground.argmax(axis=1)
    rows = np.flatnonzero(first > 0)
    first = first[rows]
    below, above = grey[rows, first - 1], grey[rows, first]
    return np.stack([first - 0.5 + (level - below) / (above - below), rows + 0.5], axis=1)


def _fit(points: np.ndarray, foreground: np.ndarray, free: bool) -> Fit:
    """The circle (free: the axis-parallel ellipse) that most edge points lie on, refined by least squares over these points."""
    if len(points) < MEMBERS:
        return NOTHING
    height, width = foreground.shape
    unit, centre = max(height, width), np.array([width / 2, height / 2])
    points = (points - centre) / unit  # about [-0.5, 0.5]: well conditioned
    groups = np.random.default_rng(0).integers(0, len(points), (TRIALS, 3 + free))
    models = _solve(points[groups], free)
    models = models[(models[:, 2] > 0.1) & (models[:, 2] * unit < LARGEST * min(height, width))]  # NaN fails both
    if not len(models):
        return NOTHING
    model = models[_near(points, models).sum(axis=1).argmax()]
    for _ in range(3):
        near = _near(points, model)
        if near.sum() < MEMBERS:
            return NOTHING
        model = _solve(points[near], free)
    cx, cy, r, stretch = model
    near = _near(points, model)
    if not near.any():
        return NOTHING
    angle = np.arctan2(points[near, 1] * stretch - cy, points[near, 0] - cx)
    circle = Circle(cx * unit + centre[0], cy * unit / stretch + centre[1], r * unit)
    arc, support = _arc(circle, stretch, angle, height, width)
    loss = (foreground & ~_ellipse(circle, 1.02, stretch, height, width)).sum() / foreground.sum()
    return Fit(0.6 * support + 0.4 * near.mean() - 2 * loss, arc, stretch, circle)


def _solve(points: np.ndarray, free: bool) -> np.ndarray:
    """Least squares of x2 + q y2 + a x + b y + c = 0 (q = 1 for a circle): (..., P, 2) points -> (..., 4) cx, cy * s, r, s = sqrt(q)."""
    x, y = points[..., 0], points[..., 1]
    columns = np.stack([x, y, np.ones_like(x)] + [y * y] * free, axis=-1)
    values = -(x * x) if free else -(x * x + y * y)
    transposed = np.swapaxes(columns, -1, -2)
    normal = transposed @ columns + 1e-9 * np.eye(3 + free)  # three points in a line, or one drawn twice, stay solvable
    unknown = np.linalg.solve(normal, transposed @ values[..., None])[..., 0]
    with np.errstate(invalid="ignore"):
        s = np.sqrt(unknown[..., 3]) if free else np.ones(unknown.shape[:-1])
        cx, cy = -unknown[..., 0] / 2, -unknown[..., 1] / (2 * s)
        return np.stack([cx, cy, np.sqrt(cx * cx + cy * cy - unknown[..., 2]), s], axis=-1)


def _near(points, model):
    """(..., P) bool: the point lies on the circle, within NEAR of its radius; False for a model of NaN."""
    cx, cy, r, stretch = np.moveaxis(model, -1, 0)[..., None]
    with np.errstate(invalid="ignore"):
        return np.abs(np.hypot(points[:, 0] - cx, points[:, 1] * stretch - cy) - r) < NEAR * r


def _arc(circle, stretch, angle, height, width):
    """(part of the full turn inside the picture, part of that arc within one bin of an edge point's angle)."""
    turn = 2 * np.pi * np.arange(BINS) / BINS
    x, y = circle.cx + circle.r * np.cos(turn), circle.cy + circle.r * np.sin(turn) / stretch
    visible = (x > 1.5) & (x < width - 1.5) & (y > 1.5) & (y < height - 1.5)
    hit = np.bincount(np.rint(angle / (2 * np.pi) * BINS).astype(int) % BINS, minlength=BINS) > 0
    hit |= np.roll(hit, 1) | np.roll(hit, -1)
    return visible.mean(), (hit & visible).sum() / max(visible.sum(), 1)


def _judge(small: np.ndarray, fit: Fit | None) -> str:
    """Why a picture is no fundus photograph, "" if it may be one. A convincing disc excuses odd colours, but no flat or blue picture."""
    colour = (small if fit is None else small[_ellipse(fit.circle, 0.95, fit.stretch, *small.shape[:2])]).reshape(-1, 3).astype(np.int16)
    red, green, blue = colour.T
    if min(np.bincount(channel, minlength=256).max() for channel in colour.T) > 0.6 * len(colour):
        return "not a fundus photograph: one flat colour, as in a mask or a chart"
    if (red >= blue - 10).mean() < 0.6:
        return "not a fundus photograph: more blue than red"
    colourless = np.median(colour.max(axis=1) - colour.min(axis=1)) < 6
    if fit is not None and fit.score >= (0.75 if fit.arc >= 0.25 else 0.9) and not (colourless and (fit.arc < 0.25 or fit.stretch != 1)):
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
