"""Healthy retina: background, macula, optic disc and vessels of a synthetic eye.

Input are an Eye and a Frame, output is a Canvas on which lesions are rendered. Retina coordinates:
u towards the nose, v downwards, origin at the centre of the field, 1 is its radius. The optic disc
is nasal of the macula, so that it lies on the right in a right eye and on the left in a left eye.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from clipdr.data.synthetic.findings import QUADRANTS, Findings

OVERSAMPLING = 3  # vessels are rendered this much larger, then averaged
DISC_TO_FOVEA = np.array((-0.74, 0.08))
BLOND, BROWN = np.array((0.90, 0.50, 0.27)), np.array((0.62, 0.28, 0.13))  # fundus colours, RGB
# Width at the disc in radii, share of RGB absorbed, opacity of the ink, whether beading is visible:
# arteries, then the darker, wider veins.
SYSTEMS: tuple[tuple[float, tuple[float, float, float], int, bool], ...] = (
    (0.021, (0.16, 0.46, 0.42), 235, False),
    (0.031, (0.32, 0.62, 0.52), 250, True),
)

Vessel = tuple[np.ndarray, np.ndarray]  # curve (P, 2) in retina coordinates, widths (P,)


@dataclass(frozen=True)
class Eye:
    """One eye to render.

    Args:
        side: "left" or "right".
        findings: Its lesions.
        style: Key of STYLES.
        key: Seeds; equal eyes with equal keys give equal images.
        cup: Cup-to-disc ratio, 0.2..0.7.
        pigment: 0 (blond) .. 1 (dark fundus).
        tessellation: Visibility of choroidal vessels, 0..1.
        tortuosity: Tortuosity of retinal vessels, 0..1.
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
    """Position of the retina in the image.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        x: x of the field's centre in pixels.
        y: y of the field's centre in pixels.
        radius: Radius of the field in pixels.
        nasal: +1 if the nose is on the right (right eye), -1 on the left.
    """

    height: int
    width: int
    x: float
    y: float
    radius: float
    nasal: int

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Map retina coordinates (..., 2) to pixel coordinates (..., 2) as x, y."""
        return np.asarray(points) * (self.nasal * self.radius, self.radius) + (self.x, self.y)

    def visible(self, points: np.ndarray, margin: float) -> np.ndarray:
        """Return which points lie inside the field and the image.

        Args:
            points: (N, 2) retina coordinates.
            margin: Smallest distance from the edges, in radii.

        Returns:
            (N,) bool.
        """
        x, y = np.moveaxis(self.pixels(points), -1, 0)
        edge = margin * self.radius
        inside = (x > edge) & (x < self.width - edge) & (y > edge) & (y < self.height - edge)
        return inside & (np.hypot(*np.moveaxis(points, -1, 0)) < 1 - margin)

    def grid(
        self, rows: slice = slice(None), columns: slice = slice(None)
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the retina coordinates u (1, w), v (h, 1) of a window of the image, float32."""
        x, y = (
            np.arange(self.width, dtype=np.float32)[columns],
            np.arange(self.height, dtype=np.float32)[rows],
        )
        return (x[None] - self.x) * np.float32(self.nasal / self.radius), (
            y[:, None] - self.y
        ) * np.float32(1 / self.radius)


@dataclass
class Canvas:
    """Retina that is being rendered.

    Args:
        image: (H, W, 3) float32, about 0..1.
        lesions: (H, W) bool lesion mask.
        frame: Position of the retina in the image.
        disc: (2,) centre of the optic disc in retina coordinates.
        fovea: (2,) fovea in retina coordinates.
    """

    image: np.ndarray
    lesions: np.ndarray
    frame: Frame
    disc: np.ndarray
    fovea: np.ndarray

    def window(
        self, centre: np.ndarray, reach: float
    ) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
        """Return a square window about a point.

        Args:
            centre: (2,) retina coordinates.
            reach: Half side in radii.

        Returns:
            Slices of rows and columns, and coordinates relative to the centre, du (1, w) and
            dv (h, 1).
        """
        x, y = self.frame.pixels(centre)
        half = reach * self.frame.radius + 1
        rows = slice(max(int(y - half), 0), max(min(int(y + half) + 1, self.frame.height), 0))
        columns = slice(max(int(x - half), 0), max(min(int(x + half) + 1, self.frame.width), 0))
        u, v = self.frame.grid(rows, columns)
        return (rows, columns), u - np.float32(centre[0]), v - np.float32(centre[1])

    def cover(
        self,
        window: tuple[slice, slice],
        alpha: np.ndarray,
        colour: np.ndarray,
        lesion: bool = True,
    ) -> None:
        """Blend a colour into a window.

        Args:
            window: Slices of rows and columns.
            alpha: (h, w) opacity in [0, 1].
            colour: (3,) RGB.
            lesion: Whether the opaque pixels are added to the lesion mask.
        """
        pixels = self.image[window]
        pixels += alpha[..., None] * (colour - pixels)
        if lesion:
            self.lesions[window] |= alpha > 0.3

    def pen(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        """Return a blank layer of OVERSAMPLING times the image's size, and its pen."""
        layer = Image.new("L", (self.frame.width * OVERSAMPLING, self.frame.height * OVERSAMPLING))
        return layer, ImageDraw.Draw(layer)

    def stroke(
        self, pen: ImageDraw.ImageDraw, curve: np.ndarray, widths: np.ndarray, opacity: int
    ) -> None:
        """Render a tapering curve on a layer.

        Args:
            pen: Pen of the layer.
            curve: (P, 2) retina coordinates.
            widths: (P,) in radii.
            opacity: 0..255; it is reduced where the line is thinner than one pixel of the layer.
        """
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

    def ink(self, layer: Image.Image, absorption: Sequence[float], lesion: bool = False) -> None:
        """Darken the image where the layer has ink.

        Args:
            layer: Layer of OVERSAMPLING times the image's size.
            absorption: (3,) share of each channel that is absorbed.
            lesion: Whether the ink is added to the lesion mask.
        """
        ink = np.asarray(layer.reduce(OVERSAMPLING), np.float32) / 255
        self.image *= 1 - ink[..., None] * np.array(absorption, np.float32)
        if lesion:
            self.lesions |= ink > 0.3


def retina(view: Frame, eye: Eye, disc: np.ndarray, rng: np.random.Generator) -> Canvas:
    """Render the eye without lesions, except venous beading, which belongs to the veins.

    Args:
        view: Position of the retina in the image.
        eye: The eye.
        disc: (2,) centre of the optic disc in retina coordinates.
        rng: Random generator.
    """
    fovea = disc + DISC_TO_FOVEA * rng.uniform(0.94, 1.06) + (0, rng.normal(0, 0.02))
    image = _background(view, eye, rng)
    canvas = Canvas(image, np.zeros(image.shape[:2], bool), view, disc, fovea)
    _macula(canvas, rng)
    _disc(canvas, eye, rng)
    _vessels(canvas, eye, rng)
    return canvas


def noise(view: Frame, cells: int, rng: np.random.Generator) -> np.ndarray:
    """Return smooth noise (H, W) float32 of unit variance at `cells` nodes across the field."""
    cell = 2 * view.radius / cells
    grid = rng.standard_normal(
        (int(view.height / cell) + 3, int(view.width / cell) + 3), np.float32
    )
    return np.asarray(
        Image.fromarray(grid).resize((view.width, view.height), Image.Resampling.BICUBIC)
    )


def quadrant(points: np.ndarray) -> np.ndarray:
    """Return the index into QUADRANTS of retina coordinates (..., 2).

    Temporal is u < 0, superior is v < 0.
    """
    return 2 * (points[..., 1] > 0) + (points[..., 0] > 0)


def grow_curves(
    starts: np.ndarray,
    headings: np.ndarray,
    lengths: np.ndarray,
    bends: np.ndarray,
    wiggle: float,
    rng: np.random.Generator,
    points: int = 12,
) -> np.ndarray:
    """Return curves whose headings turn along the way.

    Args:
        starts: (K, 2) start of each curve in retina coordinates.
        headings: (K,) heading at the start, radians.
        lengths: (K,) in radii.
        bends: (K,) radians by which the heading turns along the curve.
        wiggle: Amplitude of further, smooth random turns, radians.
        rng: Random generator.
        points: Points per curve, P.

    Returns:
        (K, P, 2) retina coordinates.
    """
    turns = np.cumsum(rng.normal(0, 1, (len(starts), points - 1)), 1) * wiggle / np.sqrt(points)
    angle = headings[:, None] + bends[:, None] * np.linspace(0, 1, points - 1) + turns
    steps = np.stack((np.cos(angle), np.sin(angle)), -1) * (lengths / (points - 1))[:, None, None]
    return np.concatenate((starts[:, None], starts[:, None] + np.cumsum(steps, 1)), 1)


def _background(view: Frame, eye: Eye, rng: np.random.Generator) -> np.ndarray:
    """Render the fundus background, (H, W, 3) float32."""
    base = (BLOND + (BROWN - BLOND) * eye.pigment).astype(np.float32)
    coarse, middle = noise(view, 5, rng), noise(view, 18, rng)
    texture = 1 + 0.045 * coarse + 0.03 * middle + 0.03 * noise(view, 70, rng)
    # Choroidal vessels: pale bands between pigment.
    ridge = np.exp(-((0.8 * noise(view, 22, rng) + 0.5 * middle) ** 2) / 0.12) - 0.35
    choroid = 0.03 + 0.20 * max(eye.tessellation - 0.3, 0) * np.clip(0.7 + 0.6 * coarse, 0, 1.5)
    return (
        base
        * texture[..., None]
        * (1 + (choroid * ridge)[..., None] * np.array((0.8, 1.0, 0.9), np.float32))
    )


def _macula(canvas: Canvas, rng: np.random.Generator) -> None:
    """Darken the macula."""
    window, du, dv = canvas.window(canvas.fovea, 0.5)
    depth = rng.uniform(0.7, 1.15)
    wide = depth * np.exp(-du * du / 0.045) * np.exp(-dv * dv / 0.045)
    core = depth * np.exp(-du * du / 0.0055) * np.exp(-dv * dv / 0.0055)
    for channel, (a, b) in enumerate(((0.14, 0.16), (0.26, 0.26), (0.28, 0.26))):
        canvas.image[(*window, channel)] *= (1 - a * wide) * (1 - b * core)


def _disc(canvas: Canvas, eye: Eye, rng: np.random.Generator) -> None:
    """Render the optic disc, its cup and the nerve fibres around it."""
    window, du, dv = canvas.window(canvas.disc, 0.75)
    # Nerve fibres.
    glow = rng.uniform(0.1, 0.25) * np.exp(-du * du / 0.09) * np.exp(-dv * dv / 0.12)
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


def _trunks(
    canvas: Canvas, eye: Eye, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, float]]:
    """Arcades and nasal trunks of one system: cubic Bezier curves with a wiggle.

    Yields pairs of a curve (40, 2) and its relative width.
    """
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


def _branches(
    canvas: Canvas,
    parents: Sequence[Vessel],
    length: float,
    share: float,
    eye: Eye,
    rng: np.random.Generator,
) -> list[Vessel]:
    """One side branch of each parent.

    It leaves at an acute angle, bends back along the parent, and stops short of the fovea.
    """
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
    curves = grow_curves(
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


def _tree(canvas: Canvas, eye: Eye, rng: np.random.Generator) -> list[Vessel]:
    """One vessel system, thin vessels first; widths are relative to the arcade's at the disc."""
    trunks = [
        (curve, width * np.linspace(1, 0.3, len(curve)))
        for curve, width in _trunks(canvas, eye, rng)
    ]
    branches = _branches(canvas, [trunk for trunk in trunks for _ in range(7)], 0.5, 0.55, eye, rng)
    twigs = _branches(
        canvas, [branch for branch in branches for _ in range(2)], 0.22, 0.6, eye, rng
    )
    return twigs + branches + trunks


def _beaded(
    curve: np.ndarray, widths: np.ndarray, quadrants: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Widths with venous beading in some quadrants, and where it is, (P,) bool.

    Bulges are a few vein widths apart.
    """
    here = np.isin(quadrant(curve), [QUADRANTS.index(name) for name in quadrants]) & (widths > 0.3)
    travelled = np.concatenate(([0], np.cumsum(np.hypot(*np.diff(curve, axis=0).T))))
    return np.where(
        here, widths * (1.35 + 0.75 * np.sin(2 * np.pi * travelled / 0.10)), widths
    ), here


def _vessels(canvas: Canvas, eye: Eye, rng: np.random.Generator) -> None:
    """Render arteries and veins; beaded segments are added to the lesion mask."""
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
