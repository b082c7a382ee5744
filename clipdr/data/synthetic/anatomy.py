"""The healthy retina. Input: an Eye and a Frame; output: a Canvas with background, macula, disc and vessels, and pens to draw lesions with.

Retina coordinates: u towards the nose, v downwards, origin at the centre of the field, 1 = its radius. The optic disc is nasal of the
macula, so it lies on the right in a right eye and on the left in a left eye.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from clipdr.data.synthetic.findings import QUADRANTS, Findings

OVERSAMPLING = 3  # vessels are drawn this much larger, then averaged
DISC_TO_FOVEA = np.array((-0.74, 0.08))
BLOND, BROWN = np.array((0.90, 0.50, 0.27)), np.array((0.62, 0.28, 0.13))  # fundus colours, RGB
# Width at the disc in radii, share of RGB absorbed, opacity of the ink, whether beading shows: arteries, then the darker, wider veins.
SYSTEMS = ((0.021, (0.16, 0.46, 0.42), 235, False), (0.031, (0.32, 0.62, 0.52), 250, True))


@dataclass(frozen=True)
class Eye:
    """One eye to be photographed.

    side         : "left" or "right"
    findings     : its lesions
    style        : key of STYLES
    key          : seed words; equal eyes with equal keys give equal photographs
    cup          : cup-to-disc ratio, 0.2..0.7
    pigment      : 0 (blond) .. 1 (dark fundus)
    tessellation : visibility of choroidal vessels, 0..1
    tortuosity   : of retinal vessels, 0..1
    """

    side: str
    findings: Findings
    style: str
    key: tuple[int, ...]
    cup: float = 0.4
    pigment: float = 0.5
    tessellation: float = 0.3
    tortuosity: float = 0.3


@dataclass(frozen=True)
class Frame:
    """Where the retina lies in the picture.

    height, width : of the picture, pixels
    x, y, radius  : centre and radius of the field, pixels
    nasal         : +1 nose on the right (right eye), -1 on the left
    """

    height: int
    width: int
    x: float
    y: float
    radius: float
    nasal: int

    def pixels(self, points):
        """Retina coordinates (..., 2) -> pixel coordinates (..., 2) as x, y."""
        return np.asarray(points) * (self.nasal * self.radius, self.radius) + (self.x, self.y)

    def visible(self, points, margin):
        """(N, 2) retina coordinates -> (N,) bool: inside the field and the picture, `margin` (in radii) from their edges."""
        x, y = np.moveaxis(self.pixels(points), -1, 0)
        edge = margin * self.radius
        inside = (x > edge) & (x < self.width - edge) & (y > edge) & (y < self.height - edge)
        return inside & (np.hypot(*np.moveaxis(points, -1, 0)) < 1 - margin)

    def grid(self, rows=slice(None), columns=slice(None)):
        """Retina coordinates u (1, w), v (h, 1) of a window of the picture, float32."""
        x, y = (
            np.arange(self.width, dtype=np.float32)[columns],
            np.arange(self.height, dtype=np.float32)[rows],
        )
        return (x[None] - self.x) * np.float32(self.nasal / self.radius), (
            y[:, None] - self.y
        ) * np.float32(1 / self.radius)


@dataclass
class Canvas:
    """The retina under work: image (H, W, 3) float32, lesions (H, W) bool, frame; disc and fovea in retina coordinates."""

    image: np.ndarray
    lesions: np.ndarray
    frame: Frame
    disc: np.ndarray
    fovea: np.ndarray

    def window(self, centre, reach):
        """Slices of the square of half side `reach` about `centre`, and its coordinates relative to `centre`, du (1, w) and dv (h, 1)."""
        x, y = self.frame.pixels(centre)
        half = reach * self.frame.radius + 1
        rows = slice(max(int(y - half), 0), max(min(int(y + half) + 1, self.frame.height), 0))
        columns = slice(max(int(x - half), 0), max(min(int(x + half) + 1, self.frame.width), 0))
        u, v = self.frame.grid(rows, columns)
        return (rows, columns), u - np.float32(centre[0]), v - np.float32(centre[1])

    def cover(self, window, alpha, colour, lesion=True):
        """Lay `colour` (3,) over the window with opacity alpha (h, w); the opaque part of a lesion enters the mask."""
        part = self.image[window]
        part += alpha[..., None] * (colour - part)
        if lesion:
            self.lesions[window] |= alpha > 0.3

    def pen(self):
        """A blank layer in OVERSAMPLING times the picture's size, and what draws on it."""
        layer = Image.new("L", (self.frame.width * OVERSAMPLING, self.frame.height * OVERSAMPLING))
        return layer, ImageDraw.Draw(layer)

    def stroke(self, pen, curve, widths, opacity):
        """Draw a tapering curve (P, 2) with widths (P,) in radii; opacity 0..255, less where the line is thinner than one drawn pixel."""
        xy = [tuple(p) for p in (self.frame.pixels(curve) * OVERSAMPLING).astype(int).tolist()]
        thick = widths * self.frame.radius * OVERSAMPLING
        step = 1 if thick.max() > 3.5 * OVERSAMPLING else 4
        for i in range(0, len(xy) - 1, step):
            pen.line(
                xy[i : i + step + 1],
                fill=int(opacity * min(1, thick[i] / 1.5)),
                width=max(1, round(thick[i])),
                joint="curve",
            )

    def ink(self, layer, absorption, lesion=False):
        """Darken the picture where the layer is inked, by the share `absorption` (3,) of each channel; a lesion enters the mask."""
        ink = np.asarray(layer.reduce(OVERSAMPLING), np.float32) / 255
        self.image *= 1 - ink[..., None] * np.array(absorption, np.float32)
        if lesion:
            self.lesions |= ink > 0.3


def retina(view: Frame, eye: Eye, disc: np.ndarray, rng: np.random.Generator) -> Canvas:
    """The eye without lesions, save venous beading, which is a way of drawing veins. disc: its centre (2,) in retina coordinates."""
    fovea = disc + DISC_TO_FOVEA * rng.uniform(0.94, 1.06) + (0, rng.normal(0, 0.02))
    image = _background(view, eye, rng)
    canvas = Canvas(image, np.zeros(image.shape[:2], bool), view, disc, fovea)
    _macula(canvas, rng)
    _disc(canvas, eye, rng)
    _vessels(canvas, eye, rng)
    return canvas


def noise(view: Frame, cells: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise (H, W) float32, unit variance at the nodes, `cells` nodes across the field."""
    cell = 2 * view.radius / cells
    grid = rng.standard_normal(
        (int(view.height / cell) + 3, int(view.width / cell) + 3), np.float32
    )
    return np.asarray(
        Image.fromarray(grid).resize((view.width, view.height), Image.Resampling.BICUBIC)
    )


def quadrant(points: np.ndarray) -> np.ndarray:
    """Index into QUADRANTS of retina coordinates (..., 2): temporal is u < 0, superior v < 0."""
    return 2 * (points[..., 1] > 0) + (points[..., 0] > 0)


def grow(starts, headings, lengths, bends, wiggle, rng, points=12):
    """Curves (K, points, 2) from `starts` (K, 2): each heading turns by `bends` (K,) radians along the way, plus smooth random turns."""
    turns = np.cumsum(rng.normal(0, 1, (len(starts), points - 1)), 1) * wiggle / np.sqrt(points)
    angle = headings[:, None] + bends[:, None] * np.linspace(0, 1, points - 1) + turns
    steps = np.stack((np.cos(angle), np.sin(angle)), -1) * (lengths / (points - 1))[:, None, None]
    return np.concatenate((starts[:, None], starts[:, None] + np.cumsum(steps, 1)), 1)


def _background(view, eye, rng):
    base = (BLOND + (BROWN - BLOND) * eye.pigment).astype(np.float32)
    coarse, middle = noise(view, 5, rng), noise(view, 18, rng)
    texture = 1 + 0.045 * coarse + 0.03 * middle + 0.03 * noise(view, 70, rng)
    ridge = (
        np.exp(-((0.8 * noise(view, 22, rng) + 0.5 * middle) ** 2) / 0.12) - 0.35
    )  # choroidal vessels: pale bands between pigment
    choroid = 0.03 + 0.20 * max(eye.tessellation - 0.3, 0) * np.clip(0.7 + 0.6 * coarse, 0, 1.5)
    return (
        base
        * texture[..., None]
        * (1 + (choroid * ridge)[..., None] * np.array((0.8, 1.0, 0.9), np.float32))
    )


def _macula(canvas, rng):
    window, du, dv = canvas.window(canvas.fovea, 0.5)
    depth = rng.uniform(0.7, 1.15)
    wide = depth * np.exp(-du * du / 0.045) * np.exp(-dv * dv / 0.045)
    core = depth * np.exp(-du * du / 0.0055) * np.exp(-dv * dv / 0.0055)
    for channel, (a, b) in enumerate(((0.14, 0.16), (0.26, 0.26), (0.28, 0.26))):
        canvas.image[(*window, channel)] *= (1 - a * wide) * (1 - b * core)


def _disc(canvas, eye, rng):
    window, du, dv = canvas.window(canvas.disc, 0.75)
    glow = (
        rng.uniform(0.1, 0.25) * np.exp(-du * du / 0.09) * np.exp(-dv * dv / 0.12)
    )  # nerve fibres
    canvas.image[window] *= 1 + glow[..., None]
    radii = np.array((0.128, 0.145), np.float32) * np.float32(rng.uniform(0.92, 1.08))
    window, du, dv = canvas.window(canvas.disc, 0.2)
    edge = np.clip((1 - np.hypot(du / radii[0], dv / radii[1])) / 0.16 + 0.5, 0, 1)
    rim = np.array((1.05, 0.76, 0.44), np.float32) * np.float32(rng.uniform(0.92, 1.05))
    nasal = np.clip(du / radii[0] + 0.2, 0, 1) * 0.18  # the nasal rim is pinker
    canvas.cover(window, 0.93 * edge, rim, lesion=False)
    canvas.image[(*window, 1)] *= 1 - nasal * edge
    cup = np.hypot((du + 0.03) / radii[0], dv / radii[1]) / np.float32(eye.cup)
    canvas.cover(
        window,
        0.75 * np.clip((1 - cup) / 0.4 + 0.5, 0, 1),
        np.array((1.12, 1.0, 0.74), np.float32),
        lesion=False,
    )


def _trunks(canvas, eye, rng):
    """Arcades and nasal trunks of one system, (curve (40, 2), relative width) pairs: cubic Bezier curves with a wiggle."""
    disc, fovea = canvas.disc, canvas.fovea
    t = np.linspace(0, 1, 40)[:, None]
    for up in (-1, 1):
        arch, end = rng.uniform(0.52, 0.72), (rng.uniform(-0.95, -0.35), up * rng.uniform(0.3, 0.9))
        temporal = (
            (0, 0),
            (0.03, up * 0.45),
            fovea - disc + (rng.uniform(0.2, 0.4), up * (arch + 0.12)),
            fovea - disc + end,
        )
        nasal = (
            (0, 0),
            (0.1, up * 0.22),
            (0.25, up * 0.4),
            (rng.uniform(0.35, 0.6), up * rng.uniform(0.4, 1.0)),
        )
        for knots, width in ((temporal, 1.0), (nasal, 0.6)):
            p = disc + np.array(knots) + rng.normal(0, 0.03, (4, 2)) * [[0.3], [1], [1], [1]]
            curve = (
                p[0] * (1 - t) ** 3
                + 3 * p[1] * t * (1 - t) ** 2
                + 3 * p[2] * t**2 * (1 - t)
                + p[3] * t**3
            )
            waves = sum(
                rng.normal(0, 1) / k * np.sin(np.pi * k * t + rng.uniform(0, 6))
                for k in (3, 5, 8, 11)
            )
            across = np.gradient(curve, axis=0)[:, ::-1] * (1, -1)
            yield curve + waves * across * t * (0.4 + 1.6 * eye.tortuosity), width


def _branches(canvas, parents, length, share, eye, rng):
    """One side branch of each (curve, widths) parent: leaves at an acute angle, bends back along it, and stops short of the fovea."""
    at = rng.uniform(0.05, 0.95, len(parents)) ** 0.75
    index = [int(a * (len(curve) - 2)) for a, (curve, _) in zip(at, parents, strict=True)]
    starts = np.array([curve[i] for i, (curve, _) in zip(index, parents, strict=True)])
    ahead = np.array([curve[i + 1] for i, (curve, _) in zip(index, parents, strict=True)]) - starts
    side = rng.choice((-1, 1), len(parents))
    headings = np.arctan2(ahead[:, 1], ahead[:, 0]) + side * rng.uniform(0.4, 1.0, len(parents))
    lengths = length * rng.uniform(0.5, 1.4, len(parents))
    gap = canvas.fovea - starts
    lengths = np.where(
        np.cos(headings - np.arctan2(gap[:, 1], gap[:, 0])) > 0.6,
        np.minimum(lengths, np.maximum(np.hypot(*gap.T) - 0.1, 0.02)),
        lengths,
    )
    curves = grow(
        starts,
        headings,
        lengths,
        -side * rng.uniform(0, 0.7, len(parents)),
        0.35 + 0.9 * eye.tortuosity,
        rng,
    )
    widths = [
        share * w[i] * np.linspace(1, 0.35, 12) for i, (_, w) in zip(index, parents, strict=True)
    ]
    return list(zip(curves, widths, strict=True))


def _tree(canvas, eye, rng):
    """One vessel system as (curve, widths) pairs, thin ones first; widths (P,) relative to the arcade's at the disc."""
    trunks = [
        (curve, width * np.linspace(1, 0.3, len(curve)))
        for curve, width in _trunks(canvas, eye, rng)
    ]
    branches = _branches(canvas, [trunk for trunk in trunks for _ in range(7)], 0.5, 0.55, eye, rng)
    twigs = _branches(
        canvas, [branch for branch in branches for _ in range(2)], 0.22, 0.6, eye, rng
    )
    return twigs + branches + trunks


def _beaded(curve, widths, quadrants):
    """Widths with venous beading in those quadrants, bulges a few vein widths apart; and where they are, (P,) bool."""
    here = np.isin(quadrant(curve), [QUADRANTS.index(name) for name in quadrants]) & (widths > 0.3)
    travelled = np.concatenate(([0], np.cumsum(np.hypot(*np.diff(curve, axis=0).T))))
    return np.where(
        here, widths * (1.35 + 0.75 * np.sin(2 * np.pi * travelled / 0.10)), widths
    ), here


def _vessels(canvas, eye, rng):
    for width, absorption, opacity, venous in SYSTEMS:
        layer, pen = canvas.pen()
        beads = []
        for curve, widths in _tree(canvas, eye, rng):
            if venous and eye.findings.beading:
                widths, here = _beaded(curve, widths, eye.findings.beading)
                beads += [(curve[here], widths[here] * width)] if here.sum() > 1 else []
            canvas.stroke(pen, curve, widths * width, opacity)
        canvas.ink(layer, absorption)
        if beads:
            layer, pen = canvas.pen()
            for curve, widths in beads:
                canvas.stroke(pen, curve, widths, 255)
            canvas.lesions |= np.asarray(layer.reduce(OVERSAMPLING)) > 76
