"""The search for the camera's circle in a picture on a dark background.

Input: (H, W) float32, brightness. Output: the circle, or axis-parallel ellipse, that explains the edge of what is bright. Edge points
are where the brightness first rises, at several levels, seen from the four sides of the picture. Random triples of them propose
circles; the one that most points lie on is refined by least squares over those points (RANSAC; Fischler and Bolles, 1981). The draws
are seeded: same picture, same circle.
"""

from typing import NamedTuple

import numpy as np

STEPS = (
    14,
    24,
    8,
    40,
    4,
)  # grey levels above the background at which an edge is sought; dark photographs need the low ones
TRIALS = 200  # random groups of edge points, each a candidate circle
POINTS = 400  # edge points looked at per level
BINS = 120  # parts of a full turn in which an arc must show edge points
NEAR = 0.012  # an edge point within this part of the radius lies on the circle
CERTAIN, PLAUSIBLE = (
    0.95,
    0.6,
)  # scores of a circle that ends the search, and of one that is believed
SQUEEZED, GAIN = (
    0.8,
    0.05,
)  # score of an ellipse that is believed, and by how much it must beat the circle
MEMBERS = 12  # edge points without which there is no circle
SMALLEST, LARGEST = 0.25, 1.2  # plausible radius, in shorter sides of the picture
ROUND = 0.04  # an ellipse whose axes differ less is a circle


class Circle(NamedTuple):
    """A circle in pixels of the image it was found in."""

    cx: float
    cy: float
    r: float


class Fit(NamedTuple):
    """A circle in (x, y * stretch) and how well it explains the edge of the foreground."""

    score: float  # at most 1; 0.6 * part of the visible arc with edge points + 0.4 * part of the points on it - 2 * foreground outside
    arc: float  # part of a full turn that lies inside the picture
    stretch: float  # 1 for a circle
    circle: Circle


NOTHING = Fit(-1.0, 0.0, 1.0, Circle(np.nan, np.nan, np.nan))


def search(grey: np.ndarray) -> Fit | None:
    """The most convincing circle; an ellipse where it explains clearly more; None if neither is plausible."""
    base = np.percentile(grey, 1)
    edges = [(base + step, _edge_points(grey, base + step)) for step in STEPS]
    circle = _over(grey, edges, free=False)
    if circle.score >= CERTAIN:
        return circle
    ellipse = _over(grey, edges, free=True)
    if ellipse.score > max(SQUEEZED, circle.score + GAIN) and abs(ellipse.stretch - 1) > ROUND:
        return ellipse
    return circle if circle.score >= PLAUSIBLE else None


def _over(grey, edges, free) -> Fit:
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
    """(P, 2) x, y of every row's first rise above the level; a row whose foreground starts at the frame has none.

    The pixel of the rise is covered by the foreground only in part: as much as it is bright, between its neighbours outside and inside.
    """
    first = (grey > level).argmax(axis=1)
    rows = np.flatnonzero(first > 0)
    first = first[rows]
    outer, here, inner = (
        grey[rows, first - 1],
        grey[rows, first],
        grey[rows, np.minimum(first + 1, grey.shape[1] - 1)],
    )
    covered = (here - outer) / (np.maximum(inner, here) - outer)
    return np.stack([first + 1 - covered, rows + 0.5], axis=1)


def _fit(points: np.ndarray, foreground: np.ndarray, free: bool) -> Fit:
    """The circle (free: the axis-parallel ellipse) that most edge points lie on, refined by least squares over these points."""
    if len(points) < MEMBERS:
        return NOTHING
    height, width = foreground.shape
    unit, centre = max(height, width), np.array([width / 2, height / 2])
    points = (points - centre) / unit  # about [-0.5, 0.5]: well conditioned
    groups = np.random.default_rng(0).integers(0, len(points), (TRIALS, 3 + free))
    models = _solve(points[groups], free)
    shortest, longest = SMALLEST * min(height, width) / unit, LARGEST * min(height, width) / unit
    models = models[(models[:, 2] >= shortest) & (models[:, 2] <= longest)]  # NaN fails both
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
    if (
        not near.any()
        or not shortest <= r <= longest
        or abs(cx) * unit > width / 2
        or abs(cy / stretch) * unit > height / 2
    ):
        return NOTHING  # the middle of a camera's field lies inside its photograph
    angle = np.arctan2(points[near, 1] * stretch - cy, points[near, 0] - cx)
    circle = Circle(cx * unit + centre[0], cy * unit / stretch + centre[1], r * unit)
    arc, support = _arc(circle, stretch, angle, height, width)
    loss = (foreground & ~inside(circle, 1.02, stretch, height, width)).sum() / foreground.sum()
    return Fit(0.6 * support + 0.4 * near.mean() - 2 * loss, arc, stretch, circle)


def _solve(points: np.ndarray, free: bool) -> np.ndarray:
    """Least squares of x2 + q y2 + a x + b y + c = 0 (q = 1 for a circle): (..., P, 2) points -> (..., 4) cx, cy * s, r, s = sqrt(q)."""
    x, y = points[..., 0], points[..., 1]
    columns = np.stack([x, y, np.ones_like(x)] + [y * y] * free, axis=-1)
    values = -(x * x) if free else -(x * x + y * y)
    transposed = np.swapaxes(columns, -1, -2)
    normal = transposed @ columns + 1e-9 * np.eye(
        3 + free
    )  # three points in a line, or one drawn twice, stay solvable
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


def inside(circle, factor, stretch, height, width):
    """(H, W) bool: inside the circle of factor * r in (x, y * stretch)."""
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    return (x - circle.cx) ** 2 + ((y - circle.cy) * stretch) ** 2 <= (factor * circle.r) ** 2
