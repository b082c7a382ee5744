"""Draws a fundus photograph. Input: an Eye; output: photograph (H, W, 3) uint8 and lesion mask (H, W) bool. Anatomy, then lesions, then the camera.

Retina coordinates: u towards the nose, v downwards, origin at the centre of the field, 1 = its radius. The optic disc is nasal of the macula, so it lies on the
right in a right eye and on the left in a left eye. Deviation from life: microaneurysms, dots, new vessels and beading are drawn about three times larger, because
benchmarks shrink the photographs to about 100 pixels, where true microaneurysms (1/10 of a vein's width) vanish.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from clipdr.findings import QUADRANTS, Findings
from clipdr.styles import STYLES, Frame, develop, frame

OVERSAMPLING = 3  # vessels are drawn this much larger, then averaged
DISC_TO_FOVEA = np.array((-0.74, 0.08))
RED, DARK, YELLOW, PALE, SCAR, PIGMENT = (
    np.array(colour, np.float32)
    for colour in ((0.42, 0.07, 0.06), (0.30, 0.04, 0.04), (1.10, 0.98, 0.42), (1.02, 0.92, 0.72), (1.0, 0.88, 0.60), (0.16, 0.09, 0.06))
)


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


@dataclass
class Canvas:
    """The retina under work: image (H, W, 3) float32, lesions (H, W) bool, its frame, and the places of disc and fovea in retina coordinates."""

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
        """Lay `colour` (3,) over the window with opacity alpha (h, w); opaque parts of a lesion enter the mask."""
        part = self.image[window]
        part += alpha[..., None] * (colour - part)
        if lesion:
            self.lesions[window] |= alpha > 0.3

    def blob(self, centre, radii, colour, rng, opacity=0.9, softness=0.35, rough=0.1, lesion=True):
        """An irregular ellipse with half axes `radii` at `centre`; softness: width of its edge in radii; rough: amplitude of its outline."""
        window, du, dv = self.window(centre, 1.4 * max(radii))
        phase, turn = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0, np.pi)
        across, along = (du * np.cos(turn) + dv * np.sin(turn)) / radii[0], (dv * np.cos(turn) - du * np.sin(turn)) / radii[1]
        angle = np.arctan2(along, across)
        wave = np.sin(2 * angle + phase[0]) + np.sin(3 * angle + phase[1]) + np.sin(5 * angle + phase[2])
        distance = np.hypot(across, along) * (1 + rough * wave)
        edge = max(softness, 1.2 / (max(radii) * self.frame.radius))
        self.cover(window, opacity * np.clip((1 - distance) / edge + 0.5, 0, 1), colour, lesion)


def paint(eye: Eye, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Photograph of an eye, and where its lesions are.

    size    : nominal side in pixels; height is size times the style's scale, width follows the style's format
    returns   photograph (H, W, 3) uint8 RGB; lesions (H, W) bool, never outside the field
    """
    rng = np.random.default_rng(eye.key)
    style = STYLES[eye.style]
    view = frame(style, size, 1 if eye.side == "right" else -1, rng)
    disc = np.array((np.clip(rng.normal(*style.disc), 0.25, 0.84), rng.normal(-0.02, 0.05)))
    fovea = disc + DISC_TO_FOVEA * rng.uniform(0.94, 1.06) + (0, rng.normal(0, 0.02))
    image = _background(view, eye, rng)
    canvas = Canvas(image, np.zeros(image.shape[:2], bool), view, disc, fovea)
    _macula(canvas, rng)
    _disc(canvas, eye, rng)
    _vessels(canvas, eye, rng)
    for draw_lesions in LESIONS:
        draw_lesions(canvas, eye.findings, rng)
    u, v = view.grid()
    canvas.lesions &= u * u + v * v < 1
    return develop(canvas.image, view, style, rng), canvas.lesions


# Anatomy -------------------------------------------------------------------------------------------------------------------------------


def _noise(view, cells, rng):
    """Smooth noise (H, W) float32, unit variance at the nodes, `cells` across the field."""
    cell = 2 * view.radius / cells
    grid = rng.standard_normal((int(view.height / cell) + 3, int(view.width / cell) + 3), np.float32)
    return np.asarray(Image.fromarray(grid).resize((view.width, view.height), Image.Resampling.BICUBIC))


def _background(view, eye, rng):
    blond, dark = np.array((0.90, 0.50, 0.27)), np.array((0.62, 0.28, 0.13))
    base = (blond + (dark - blond) * eye.pigment).astype(np.float32)
    coarse, middle = _noise(view, 5, rng), _noise(view, 16, rng)
    texture = 1 + 0.045 * coarse + 0.03 * middle + 0.03 * _noise(view, 70, rng)
    ridge = np.exp(-((_noise(view, 13, rng) + 0.6 * coarse) ** 2) / 0.10) - 0.3  # choroidal vessels: pale bands between pigment
    choroid = 0.03 + 0.22 * max(eye.tessellation - 0.3, 0)
    return base * texture[..., None] * (1 + choroid * ridge[..., None] * np.array((0.8, 1.0, 0.9), np.float32))


def _macula(canvas, rng):
    window, du, dv = canvas.window(canvas.fovea, 0.5)
    square = du * du + dv * dv
    depth = rng.uniform(0.7, 1.15)
    wide, core = np.exp(-square / 0.045) * depth, np.exp(-square / 0.0055) * depth
    for channel, (a, b) in enumerate(((0.14, 0.16), (0.26, 0.26), (0.28, 0.26))):
        canvas.image[(*window, channel)] *= (1 - a * wide) * (1 - b * core)


def _disc(canvas, eye, rng):
    radii = np.array((0.128, 0.145)) * rng.uniform(0.92, 1.08)
    window, du, dv = canvas.window(canvas.disc, 0.75)
    distance = np.hypot(du / radii[0], dv / radii[1])
    canvas.image[window] *= 1 + (rng.uniform(0.1, 0.25) * np.exp(-((distance - 1).clip(0) ** 2) / 3.5))[..., None]  # nerve fibres
    edge = np.clip((1 - distance) / 0.16 + 0.5, 0, 1)
    rim = np.array((1.05, 0.76, 0.44), np.float32) * rng.uniform(0.92, 1.05)
    nasal = np.clip(du / radii[0] + 0.2, 0, 1) * 0.18  # the nasal rim is pinker
    canvas.cover(window, 0.93 * edge, rim, lesion=False)
    canvas.image[(*window, 1)] *= 1 - nasal * edge
    cup = np.hypot((du + 0.03) / radii[0], dv / radii[1]) / eye.cup
    canvas.cover(window, 0.75 * np.clip((1 - cup) / 0.4 + 0.5, 0, 1), np.array((1.12, 1.0, 0.74), np.float32), lesion=False)


def _grow(starts, headings, lengths, bends, wiggle, rng, points=12):
    """Curves (K, points, 2) from `starts` (K, 2): the heading turns by `bends` (K,) radians along the way, plus smooth random turns."""
    turns = np.cumsum(rng.normal(0, 1, (len(starts), points - 1)), 1) * wiggle / np.sqrt(points)
    angle = headings[:, None] + bends[:, None] * np.linspace(0, 1, points - 1) + turns
    steps = np.stack((np.cos(angle), np.sin(angle)), -1) * (lengths / (points - 1))[:, None, None]
    return np.concatenate((starts[:, None], starts[:, None] + np.cumsum(steps, 1)), 1)


def _trunks(canvas, eye, rng):
    """Arcades and nasal branches of one system (arteries or veins), as (curve (40, 2), width at the disc) pairs: cubic Bezier curves with a wiggle."""
    disc, fovea = canvas.disc, canvas.fovea
    t = np.linspace(0, 1, 40)[:, None]
    for up in (-1, 1):
        arch, reach = rng.uniform(0.5, 0.68), rng.uniform(-0.75, -0.35)
        temporal = (disc, disc + (0.03, up * 0.42), fovea + (0.32, up * (arch + 0.12)), fovea + (reach, up * rng.uniform(0.3, 0.75)))
        nasal = (disc, disc + (0.1, up * 0.22), disc + (0.25, up * 0.4), disc + (rng.uniform(0.35, 0.6), up * rng.uniform(0.4, 1.0)))
        for knots, width in ((temporal, 1.0), (nasal, 0.62)):
            p = np.array(knots) + rng.normal(0, 0.025, (4, 2)) * [[0.3], [1], [1], [1]]
            curve = p[0] * (1 - t) ** 3 + 3 * p[1] * t * (1 - t) ** 2 + 3 * p[2] * t**2 * (1 - t) + p[3] * t**3
            waves = sum(rng.normal(0, 1) / k * np.sin(np.pi * k * t + rng.uniform(0, 6)) for k in (3, 5, 8, 11))
            across = np.gradient(curve, axis=0)[:, ::-1] * (1, -1)
            yield curve + waves * across * t * (0.4 + 1.6 * eye.tortuosity), width


def _tree(canvas, eye, rng):
    """One vessel system as (curve, widths) pairs, thin ones first; widths (points,) in units of the trunk's."""
    wiggle = 0.35 + 0.9 * eye.tortuosity
    trunks = list(_trunks(canvas, eye, rng))
    levels = [[(curve, width * np.linspace(1, 0.45, len(curve))) for curve, width in trunks]]
    for count, length, share in ((5, 0.42, 0.58), (2, 0.22, 0.6)):
        parents = [pair for pair in levels[-1] for _ in range(count)]
        at = rng.uniform(0.12, 0.92, len(parents))
        index = [int(a * (len(curve) - 1)) for a, (curve, _) in zip(at, parents, strict=True)]
        starts = np.array([curve[i] for i, (curve, _) in zip(index, parents, strict=True)])
        ahead = np.array([curve[min(i + 1, len(curve) - 1)] - curve[max(i - 1, 0)] for i, (curve, _) in zip(index, parents, strict=True)])
        side = rng.choice((-1, 1), len(parents))
        headings = np.arctan2(ahead[:, 1], ahead[:, 0]) + side * rng.uniform(0.45, 1.1, len(parents))
        lengths = length * rng.uniform(0.5, 1.3, len(parents))
        clear = np.hypot(*(starts - canvas.fovea).T) - 0.1  # branches stop short of the fovea
        aimed = np.cos(headings - np.arctan2(*(canvas.fovea - starts).T[::-1])) > 0.6
        lengths = np.where(aimed, np.minimum(lengths, np.maximum(clear, 0.02)), lengths)
        curves = _grow(starts, headings, lengths, -side * rng.uniform(0, 0.7, len(parents)), wiggle, rng)
        widths = [share * w[i] * np.linspace(1, 0.4, 12) for i, (_, w) in zip(index, parents, strict=True)]
        levels.append(list(zip(curves, widths, strict=True)))
    return [pair for level in reversed(levels) for pair in level]


def _beaded(curve, widths, canvas, quadrants):
    """Widths with venous beading in those quadrants: bulges a few vein widths apart, and where they are."""
    here = np.isin(_quadrant(curve), [QUADRANTS.index(name) for name in quadrants]) & (widths > 0.3)
    travelled = np.concatenate(([0], np.cumsum(np.hypot(*np.diff(curve, axis=0).T))))
    return np.where(here, widths * (1.35 + 0.75 * np.sin(2 * np.pi * travelled / 0.10)), widths), here


def _quadrant(points):
    """Index into QUADRANTS of each retina coordinate (..., 2): temporal is u < 0, superior v < 0."""
    return 2 * (points[..., 1] > 0) + (points[..., 0] > 0)


def _pen(canvas):
    view = canvas.frame
    layer = Image.new("L", (view.width * OVERSAMPLING, view.height * OVERSAMPLING))
    return layer, ImageDraw.Draw(layer)


def _stroke(pen, canvas, curve, widths, level):
    """Draw a tapering curve; widths in radii; level 0..255, lower where the line would be thinner than one oversampled pixel."""
    xy = (canvas.frame.pixels(curve) * OVERSAMPLING).astype(int)
    thick = widths * canvas.frame.radius * OVERSAMPLING
    step = 1 if thick.max() > 3.5 * OVERSAMPLING else 4
    for i in range(0, len(xy) - 1, step):
        width = thick[i]
        pen.line(
            [tuple(p) for p in xy[i : i + step + 1].tolist()],
            fill=int(level * min(1, width / 1.5)),
            width=max(1, round(width)),
            joint="curve",
        )


def _ink(layer, canvas, absorption, lesion=False, blur=0.0):
    """Darken the canvas where the layer is inked, per channel by `absorption`."""
    ink = layer.reduce(OVERSAMPLING)
    if blur:
        ink = ink.filter(ImageFilter.GaussianBlur(blur))
    ink = np.asarray(ink, np.float32) / 255
    canvas.image *= 1 - ink[..., None] * np.array(absorption, np.float32)
    if lesion:
        canvas.lesions |= ink > 0.3


def _vessels(canvas, eye, rng):
    beading = eye.findings.beading
    for width, absorption, level in (
        (0.024, (0.20, 0.50, 0.45), 235),
        (0.033, (0.40, 0.66, 0.55), 250),
    ):  # arteries; veins, darker and wider
        (layer, pen), (bulges, bulge_pen) = _pen(canvas), _pen(canvas)
        for curve, widths in _tree(canvas, eye, rng):
            here = np.zeros(len(curve), bool)
            if beading and level == 250:
                widths, here = _beaded(curve, widths, canvas, beading)
            _stroke(pen, canvas, curve, widths * width, level)
            if here.any():
                _stroke(bulge_pen, canvas, curve[here], widths[here] * width, 255)
        _ink(layer, canvas, absorption)
        if beading and level == 250:
            canvas.lesions |= np.asarray(bulges.reduce(OVERSAMPLING)) > 76


# Lesions -------------------------------------------------------------------------------------------------------------------------------


def _places(canvas, count, rng, quadrant=None, ring=(0.12, 0.9), clear_of_disc=0.2):
    """`count` retina coordinates (count, 2) inside the picture, off disc and foveola; quadrant: a name of QUADRANTS or None."""
    found = np.zeros((0, 2))
    while len(found) < count:
        radius, angle = np.sqrt(rng.uniform(ring[0] ** 2, ring[1] ** 2, 40 + 8 * count)), rng.uniform(0, 2 * np.pi, 40 + 8 * count)
        points = np.stack((radius * np.cos(angle), radius * np.sin(angle)), -1)
        keep = canvas.frame.visible(points, 0.05)
        keep &= (np.hypot(*(points - canvas.disc).T) > clear_of_disc) & (np.hypot(*(points - canvas.fovea).T) > 0.07)
        if quadrant is not None:
            keep &= _quadrant(points) == QUADRANTS.index(quadrant)
        found = np.concatenate((found, points[keep]))
    return found[:count]


def _microaneurysms(canvas, findings, rng):
    for place in _places(canvas, findings.microaneurysms, rng):
        canvas.blob(place, np.full(2, rng.uniform(0.017, 0.023)), RED, rng, opacity=0.85, rough=0.02)


def _haemorrhages(canvas, findings, rng):
    for quadrant, count in zip(QUADRANTS, findings.haemorrhages, strict=True):
        for place in _places(canvas, count, rng, quadrant):
            size = rng.uniform(0.028, 0.062)
            canvas.blob(place, (size, size * rng.uniform(0.55, 1)), DARK if rng.random() < 0.5 else RED, rng, opacity=0.88, rough=0.09)


def _exudates(canvas, findings, rng):
    for site in findings.exudates:
        if site == "macular":
            angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.2)
            centre = canvas.fovea + distance * np.array((np.cos(angle), np.sin(angle)))
        else:
            centre = _places(canvas, 1, rng, site, ring=(0.2, 0.75), clear_of_disc=0.3)[0]
        ring, start = rng.uniform(0.05, 0.12), rng.uniform(0, 2 * np.pi)
        for angle in start + rng.uniform(0, rng.uniform(2, 6.3), rng.integers(7, 18)):  # often a ring or an arc about a leak
            place = centre + ring * rng.uniform(0.7, 1.3) * np.array((np.cos(angle), np.sin(angle)))
            size = rng.uniform(0.010, 0.026)
            canvas.blob(place, (size, size * rng.uniform(0.6, 1)), YELLOW, rng, opacity=0.9, softness=0.4)


def _cotton_wool(canvas, findings, rng):
    for place in _places(canvas, findings.cotton_wool, rng, ring=(0.2, 0.8), clear_of_disc=0.25):
        size = rng.uniform(0.045, 0.08)
        canvas.blob(place, (size, size * rng.uniform(0.5, 0.8)), PALE, rng, opacity=0.72, softness=1.0, rough=0.12)


def _tangle(canvas, pen, centre, count, length, width, rng):
    """A net of fine, strongly bent vessels about `centre`."""
    starts = centre + rng.normal(0, length * 0.22, (count, 2))
    headings, bends = rng.uniform(0, 2 * np.pi, count), rng.choice((-1, 1), count) * rng.uniform(1.5, 5.5, count)
    for curve in _grow(starts, headings, length * rng.uniform(0.6, 1.6, count), bends, 1.2, rng, points=14):
        _stroke(pen, canvas, curve, np.full(len(curve), width), 255)


def _new_vessels(canvas, findings, rng):
    layer, pen = _pen(canvas)
    for quadrant in findings.irma:
        for centre in _places(canvas, 2, rng, quadrant, ring=(0.3, 0.8), clear_of_disc=0.3):
            _tangle(canvas, pen, centre, 4, 0.13, 0.011, rng)
    if findings.disc_vessels:
        _tangle(canvas, pen, canvas.disc, 26, 0.30, 0.014, rng)
    for quadrant in findings.vessels:
        _tangle(canvas, pen, _places(canvas, 1, rng, quadrant, ring=(0.35, 0.8), clear_of_disc=0.35)[0], 20, 0.24, 0.014, rng)
    if findings.irma or findings.disc_vessels or findings.vessels:
        _ink(layer, canvas, (0.35, 0.80, 0.75), lesion=True)


def _preretinal(canvas, findings, rng):
    """Boat-shaped: blood settles below a level upper edge."""
    for quadrant in findings.preretinal:
        centre = _places(canvas, 1, rng, quadrant, ring=(0.25, 0.7), clear_of_disc=0.15)[0]
        a, b = rng.uniform(0.2, 0.36), rng.uniform(0.14, 0.24)
        window, du, dv = canvas.window(centre, a)
        level = dv - rng.normal(0, 0.08) * du + 0.02 * np.sin(14 * du + rng.uniform(0, 6))
        edge = np.minimum((1 - np.hypot(du / a, dv / b)) * b, level) * canvas.frame.radius * 0.6
        canvas.cover(window, 0.93 * np.clip(edge, 0, 1), DARK * rng.uniform(0.9, 1.3))


def _vitreous(canvas, findings, rng):
    if not findings.vitreous:
        return
    cloud = _noise(canvas.frame, 4, rng) + 0.6 * _noise(canvas.frame, 9, rng)
    u, v = canvas.frame.grid()
    alpha = np.clip(0.5 * (cloud + rng.uniform(0.8, 1.6) * v + rng.uniform(-0.4, 0.2)), 0, 0.8)
    canvas.cover((slice(None), slice(None)), alpha, DARK * 1.2)


def _laser(canvas, findings, rng):
    """Scars of panretinal photocoagulation: rows of pale spots with pigment, outside the arcades."""
    if not findings.laser:
        return
    rows, columns = np.mgrid[-8:9, -8:9]
    grid = np.stack(((columns + 0.5 * (rows % 2)) * 0.135, rows * 0.12), -1).reshape(-1, 2)
    grid = grid + rng.normal(0, 0.018, grid.shape)
    off_macula = np.hypot((grid[:, 0] - canvas.fovea[0]) / 1.3, grid[:, 1] - canvas.fovea[1]) > 0.52
    keep = (
        canvas.frame.visible(grid, 0.04)
        & off_macula
        & (np.hypot(*(grid - canvas.disc).T) > 0.3)
        & (rng.random(len(grid)) < rng.uniform(0.5, 0.95))
    )
    for place in grid[keep]:
        size = rng.uniform(0.028, 0.042)
        canvas.blob(place, (size, size), SCAR, rng, opacity=rng.uniform(0.5, 0.85), softness=0.4)
        if rng.random() < 0.5:
            canvas.blob(place, (size * 0.5, size * 0.45), PIGMENT, rng, opacity=0.8, softness=0.6)


# From the deepest layer to the one nearest the lens.
LESIONS = (_laser, _exudates, _cotton_wool, _haemorrhages, _microaneurysms, _new_vessels, _preretinal, _vitreous)
