"""Detection of the camera's circular field of view on a dark background.

Input is the brightness of an image, (H, W) float32. Output is the circle, or axis-parallel ellipse,
that explains the edge of the bright foreground. Edge points are the first rises of the brightness,
at several levels, seen from the four sides of the image. Random triples of them propose circles.
The circle with most points is refined by least squares over these points (RANSAC; Fischler and
Bolles, 1981). The random numbers are seeded, so that the same image gives the same circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Grey levels above the background at which an edge is sought; dark images need the low ones.
STEPS = (14, 24, 8, 40, 4)
TRIALS = 200  # random groups of edge points, each a candidate circle
POINTS = 400  # edge points used per level
BINS = 120  # bins of a full turn in which an arc must have edge points
NEAR = 0.012  # an edge point within this share of the radius lies on the circle
CERTAIN = 0.95  # score of a circle that ends the search
PLAUSIBLE = 0.6  # lowest score of a circle that is accepted
SQUEEZED = 0.8  # lowest score of an ellipse that is accepted
GAIN = 0.05  # lowest gain of its score over the circle's
MEMBERS = 12  # fewest edge points of a circle
SMALLEST, LARGEST = 0.25, 1.2  # plausible radius, in shorter sides of the image
ROUND = 0.04  # an ellipse whose axes differ less is a circle


class Circle(NamedTuple):
    """Circle in pixels of the image in which it was detected."""

    cx: float
    cy: float
    r: float


class Fit(NamedTuple):
    """Circle in (x, y * stretch), and how well it explains the edge of the foreground.

    Attributes:
        score: At most 1: 0.6 * share of the visible arc with edge points + 0.4 * share of the edge
            points on the circle - 2 * share of the foreground outside.
        arc: Share of a full turn that lies inside the image.
        stretch: 1 for a circle.
        circle: The circle.
    """

    score: float
    arc: float
    stretch: float
    circle: Circle


NOTHING = Fit(-1.0, 0.0, 1.0, Circle(np.nan, np.nan, np.nan))


def detect_circle(grey: np.ndarray) -> Fit | None:
    """Return the best circle, or an ellipse where it explains clearly more of the edge.

    Args:
        grey: (H, W) float32 brightness in grey levels, dark background.

    Returns:
        The fit in pixels of `grey`; None if no circle or ellipse is plausible.
    """
    base = np.percentile(grey, 1)
    edges = [(base + step, _edge_points(grey, base + step)) for step in STEPS]
    circle = _best_fit(grey, edges, free=False)
    if circle.score >= CERTAIN:
        return circle
    ellipse = _best_fit(grey, edges, free=True)
    if ellipse.score > max(SQUEEZED, circle.score + GAIN) and abs(ellipse.stretch - 1) > ROUND:
        return ellipse
    return circle if circle.score >= PLAUSIBLE else None


def _best_fit(grey: np.ndarray, edges: Sequence[tuple[np.floating, np.ndarray]], free: bool) -> Fit:
    """Best fit over the levels; `edges` are levels and their edge points."""
    best = NOTHING
    for level, points in edges:
        best = max(best, _fit(points, grey > level, free), key=lambda fit: fit.score)
        if best.score >= CERTAIN:
            break
    return best


def _edge_points(grey: np.ndarray, level: np.floating) -> np.ndarray:
    """Edge points (P, 2) x, y seen from the four sides of the image, P about POINTS at most."""
    height, width = grey.shape
    left = _crossings(grey, level)
    right = _crossings(grey[:, ::-1], level) * (-1, 1) + (width, 0)
    top = _crossings(grey.T, level)[:, ::-1]
    bottom = _crossings(grey[::-1].T, level)[:, ::-1] * (1, -1) + (0, height)
    points = np.concatenate([left, right, top, bottom])
    return points[:: len(points) // POINTS + 1]


def _crossings(grey: np.ndarray, level: np.floating) -> np.ndarray:
    """First rise above the level of every row, (P, 2) x, y.

    A row whose foreground starts at the frame has none. The pixel of the rise is partly covered by
    the foreground: its coverage is its brightness between its outer and inner neighbours.
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
    """Circle (free: axis-parallel ellipse) on most edge points, refined by least squares."""
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
        return NOTHING  # the middle of the field of view lies inside the image
    angle = np.arctan2(points[near, 1] * stretch - cy, points[near, 0] - cx)
    circle = Circle(cx * unit + centre[0], cy * unit / stretch + centre[1], r * unit)
    arc, support = _arc(circle, stretch, angle, height, width)
    loss = (foreground & ~inside(circle, 1.02, stretch, height, width)).sum() / foreground.sum()
    return Fit(0.6 * support + 0.4 * near.mean() - 2 * loss, arc, stretch, circle)


def _solve(points: np.ndarray, free: bool) -> np.ndarray:
    """Least squares of x^2 + q y^2 + a x + b y + c = 0, where q = 1 for a circle.

    (..., P, 2) points -> (..., 4) cx, cy * s, r, s = sqrt(q).
    """
    x, y = points[..., 0], points[..., 1]
    columns = np.stack([x, y, np.ones_like(x)] + [y * y] * free, axis=-1)
    values = -(x * x) if free else -(x * x + y * y)
    transposed = np.swapaxes(columns, -1, -2)
    # The constant keeps three points in a line, or one point sampled twice, solvable.
    normal = transposed @ columns + 1e-9 * np.eye(3 + free)
    unknown = np.linalg.solve(normal, transposed @ values[..., None])[..., 0]
    with np.errstate(invalid="ignore"):
        s = np.sqrt(unknown[..., 3]) if free else np.ones(unknown.shape[:-1])
        cx, cy = -unknown[..., 0] / 2, -unknown[..., 1] / (2 * s)
        return np.stack([cx, cy, np.sqrt(cx * cx + cy * cy - unknown[..., 2]), s], axis=-1)


def _near(points: np.ndarray, model: np.ndarray) -> np.ndarray:
    """Whether points lie on the circle, within NEAR of its radius: (..., P) bool, False for NaN."""
    cx, cy, r, stretch = np.moveaxis(model, -1, 0)[..., None]
    with np.errstate(invalid="ignore"):
        return np.abs(np.hypot(points[:, 0] - cx, points[:, 1] * stretch - cy) - r) < NEAR * r


def _arc(
    circle: Circle, stretch: float, angle: np.ndarray, height: int, width: int
) -> tuple[float, float]:
    """Share of a full turn inside the image, and share of that arc near an edge point's angle."""
    turn = 2 * np.pi * np.arange(BINS) / BINS
    x, y = circle.cx + circle.r * np.cos(turn), circle.cy + circle.r * np.sin(turn) / stretch
    visible = (x > 1.5) & (x < width - 1.5) & (y > 1.5) & (y < height - 1.5)
    hit = np.bincount(np.rint(angle / (2 * np.pi) * BINS).astype(int) % BINS, minlength=BINS) > 0
    hit |= np.roll(hit, 1) | np.roll(hit, -1)
    return visible.mean(), (hit & visible).sum() / max(visible.sum(), 1)


def inside(circle: Circle, factor: float, stretch: float, height: int, width: int) -> np.ndarray:
    """Return which pixels lie inside a circle.

    Args:
        circle: Circle in (x, y * stretch).
        factor: Factor of its radius.
        stretch: 1 for a circle.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        (height, width) bool.
    """
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    return (x - circle.cx) ** 2 + ((y - circle.cy) * stretch) ** 2 <= (factor * circle.r) ** 2
