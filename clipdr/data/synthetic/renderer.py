"""Renderer of synthetic fundus images: anatomy, lesions and camera.

Input is an Eye; output are the image (H, W, 3) uint8 and the lesion mask (H, W) bool. Deviation
from life: microaneurysms, dots, new vessels and beading are about three times larger. Benchmarks
shrink the images to about 100 pixels, where true microaneurysms (a tenth of the disc's rim) vanish.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import ImageDraw

from clipdr.data.synthetic.anatomy import Canvas, Eye, grow_curves, noise, quadrant, retina
from clipdr.data.synthetic.cameras import STYLES, Style, apply_camera, sample_frame
from clipdr.data.synthetic.findings import QUADRANTS, Findings

RED, DARK, YELLOW, PALE, SCAR, PIGMENT = (
    np.array(colour, np.float32)
    for colour in (
        (0.42, 0.07, 0.06),
        (0.30, 0.04, 0.04),
        (1.10, 0.98, 0.42),
        (1.02, 0.92, 0.72),
        (1.0, 0.88, 0.60),
        (0.16, 0.09, 0.06),
    )
)


def render(eye: Eye, size: int, style: Style | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Render the image of an eye.

    Args:
        eye: The eye.
        size: Nominal side in pixels. The height is size times the style's scale, the width follows
            from the style's format.
        style: Camera; None takes the eye's own.

    Returns:
        The image (H, W, 3) uint8 RGB, and the lesion mask (H, W) bool, never outside the field.
    """
    # Separate generators, so that a healthy eye with the same key has the same retina.
    camera, anatomy, disease = (np.random.default_rng((*eye.key, use)) for use in (1, 2, 3))
    style = style or STYLES[eye.style]
    view = sample_frame(style, size, 1 if eye.side == "right" else -1, camera)
    disc = np.array((np.clip(anatomy.normal(*style.disc), 0.25, 0.84), anatomy.normal(-0.02, 0.05)))
    canvas = retina(view, eye, disc, anatomy)
    for render_lesions in LESIONS:
        render_lesions(canvas, eye.findings, disease)
    u, v = view.grid()
    canvas.lesions &= u * u + v * v < 1
    return apply_camera(canvas.image, view, style, camera), canvas.lesions


def _blob(
    canvas: Canvas,
    centre: np.ndarray,
    radii: Sequence[float] | np.ndarray,
    colour: np.ndarray,
    rng: np.random.Generator,
    opacity: float = 0.9,
    softness: float = 0.35,
    rough: float = 0.05,
) -> None:
    """Render an irregular ellipse with half axes `radii`.

    softness is the width of its edge in radii, rough the amplitude of its outline.
    """
    window, du, dv = canvas.window(centre, 1.5 * max(radii))
    phase, turn = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0, np.pi)
    across, along = (
        (du * np.cos(turn) + dv * np.sin(turn)) / radii[0],
        (dv * np.cos(turn) - du * np.sin(turn)) / radii[1],
    )
    angle = np.arctan2(along, across)
    wave = (
        1.5 * np.sin(2 * angle + phase[0])
        + np.sin(3 * angle + phase[1])
        + 0.6 * np.sin(5 * angle + phase[2])
    )
    distance = np.hypot(across, along) * (1 + rough * wave)
    edge = max(softness, 1.2 / (max(radii) * canvas.frame.radius))
    canvas.cover(window, opacity * np.clip((1 - distance) / edge + 0.5, 0, 1), colour)


def _positions(
    canvas: Canvas,
    count: int,
    rng: np.random.Generator,
    within: str | None = None,
    ring: tuple[float, float] = (0.12, 0.9),
    clear_of_disc: float = 0.2,
) -> np.ndarray:
    """Sample retina coordinates (count, 2) inside the image, off disc and foveola.

    within is a name of QUADRANTS or None, ring the range of the distance from the centre.
    """
    positions = np.zeros((0, 2))
    while len(positions) < count:
        radius, angle = (
            np.sqrt(rng.uniform(ring[0] ** 2, ring[1] ** 2, 40 + 8 * count)),
            rng.uniform(0, 2 * np.pi, 40 + 8 * count),
        )
        points = np.stack((radius * np.cos(angle), radius * np.sin(angle)), -1)
        keep = canvas.frame.visible(points, 0.05)
        keep &= (np.hypot(*(points - canvas.disc).T) > clear_of_disc) & (
            np.hypot(*(points - canvas.fovea).T) > 0.07
        )
        if within is not None:
            keep &= quadrant(points) == QUADRANTS.index(within)
        positions = np.concatenate((positions, points[keep]))
    return positions[:count]


def _microaneurysms(canvas: Canvas, findings: Findings, rng: np.random.Generator) -> None:
    """Render microaneurysms as small red dots."""
    for position in _positions(canvas, findings.microaneurysms, rng):
        _blob(
            canvas,
            position,
            np.full(2, rng.uniform(0.018, 0.025)),
            RED,
            rng,
            opacity=rng.uniform(0.8, 0.95),
            softness=0.5,
            rough=0.0,
        )


def _haemorrhages(canvas: Canvas, findings: Findings, rng: np.random.Generator) -> None:
    """Render intraretinal haemorrhages as dark red blots."""
    for name, count in zip(QUADRANTS, findings.haemorrhages, strict=True):
        for position in _positions(canvas, count, rng, name):
            size = rng.uniform(0.026, 0.06)
            colour = DARK + (RED - DARK) * np.float32(rng.random())
            _blob(
                canvas,
                position,
                (size, size * rng.uniform(0.55, 1)),
                colour,
                rng,
                opacity=rng.uniform(0.65, 0.92),
                softness=0.5,
                rough=0.07,
            )


def _exudates(canvas: Canvas, findings: Findings, rng: np.random.Generator) -> None:
    """Render clusters of hard exudates, often a ring or an arc about a leak."""
    for site in findings.exudates:
        if site == "macular":
            angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.2)
            centre = canvas.fovea + distance * np.array((np.cos(angle), np.sin(angle)))
        else:
            centre = _positions(canvas, 1, rng, site, ring=(0.2, 0.75), clear_of_disc=0.3)[0]
        ring, start = rng.uniform(0.05, 0.13), rng.uniform(0, 2 * np.pi)
        for angle in start + rng.uniform(0, rng.uniform(2, 6.3), rng.integers(8, 22)):
            position = centre + ring * rng.normal(1, 0.22) * np.array(
                (np.cos(angle), np.sin(angle))
            )
            size = 0.010 + 0.020 * rng.random() ** 2
            _blob(
                canvas,
                position,
                (size, size * rng.uniform(0.5, 1)),
                YELLOW,
                rng,
                opacity=rng.uniform(0.6, 0.95),
                softness=0.5,
            )


def _cotton_wool(canvas: Canvas, findings: Findings, rng: np.random.Generator) -> None:
    """Render cotton-wool spots as pale soft patches."""
    for position in _positions(
        canvas, findings.cotton_wool, rng, ring=(0.2, 0.8), clear_of_disc=0.25
    ):
        size = rng.uniform(0.045, 0.08)
        _blob(
            canvas,
            position,
            (size, size * rng.uniform(0.5, 0.8)),
            PALE,
            rng,
            opacity=0.72,
            softness=1.0,
            rough=0.08,
        )


def _tangle(
    canvas: Canvas,
    pen: ImageDraw.ImageDraw,
    centre: np.ndarray,
    count: int,
    length: float,
    width: float,
    rng: np.random.Generator,
) -> None:
    """Render a net of fine, strongly bent vessels about `centre`."""
    starts = centre + rng.normal(0, length * 0.22, (count, 2))
    headings, bends = (
        rng.uniform(0, 2 * np.pi, count),
        rng.choice((-1, 1), count) * rng.uniform(0.8, 4.0, count),
    )
    for curve in grow_curves(
        starts, headings, length * rng.uniform(0.6, 1.6, count), bends, 1.2, rng, points=14
    ):
        canvas.stroke(pen, curve, np.full(len(curve), width), 255)


def _new_vessels(canvas: Canvas, findings: Findings, rng: np.random.Generator) -> None:
    """Render IRMA and neovascularisation of the disc and elsewhere."""
    if not (findings.irma or findings.disc_vessels or findings.vessels):
        return
    layer, pen = canvas.pen()
    for name in findings.irma:
        for centre in _positions(canvas, 2, rng, name, ring=(0.3, 0.8), clear_of_disc=0.3):
            _tangle(canvas, pen, centre, 4, 0.13, 0.010, rng)
    if findings.disc_vessels:
        _tangle(canvas, pen, canvas.disc, 38, 0.30, 0.012, rng)
    for name in findings.vessels:
        _tangle(
            canvas,
            pen,
            _positions(canvas, 1, rng, name, ring=(0.35, 0.8), clear_of_disc=0.35)[0],
            30,
            0.25,
            0.012,
            rng,
        )
    canvas.ink(layer, (0.32, 0.84, 0.78), lesion=True)


def _preretinal(canvas: Canvas, findings: Findings, rng: np.random.Generator) -> None:
    """Render boat-shaped preretinal haemorrhages: blood settles below a level upper edge."""
    for name in findings.preretinal:
        centre = _positions(canvas, 1, rng, name, ring=(0.25, 0.7), clear_of_disc=0.15)[0]
        a, b = rng.uniform(0.2, 0.36), rng.uniform(0.14, 0.24)
        window, du, dv = canvas.window(centre, a)
        level = dv - rng.normal(0, 0.08) * du + 0.02 * np.sin(14 * du + rng.uniform(0, 6))
        edge = np.minimum((1 - np.hypot(du / a, dv / b)) * b, level) * canvas.frame.radius * 0.6
        canvas.cover(window, 0.93 * np.clip(edge, 0, 1), DARK * rng.uniform(0.9, 1.3))


def _vitreous(canvas: Canvas, findings: Findings, rng: np.random.Generator) -> None:
    """Render a cloud of blood, denser below, over a fifth to a half of the image."""
    if findings.vitreous:
        cloud = (
            noise(canvas.frame, 4, rng)
            + 0.6 * noise(canvas.frame, 9, rng)
            + rng.uniform(0.8, 1.6) * canvas.frame.grid()[1]
        )
        thick = np.quantile(cloud[::4, ::4], rng.uniform(0.5, 0.8))
        canvas.cover(
            (slice(None), slice(None)), np.clip(0.5 * (cloud - thick) + 0.3, 0, 0.82), DARK * 1.2
        )


def _laser(canvas: Canvas, findings: Findings, rng: np.random.Generator) -> None:
    """Render panretinal laser scars: rows of pale spots with pigment, outside the arcades."""
    if not findings.laser:
        return
    rows, columns = np.mgrid[-8:9, -8:9]
    grid = np.stack(((columns + 0.5 * (rows % 2)) * 0.135, rows * 0.12), -1).reshape(-1, 2)
    grid = grid + rng.normal(0, 0.018, grid.shape)
    off_macula = np.hypot((grid[:, 0] - canvas.fovea[0]) / 1.3, grid[:, 1] - canvas.fovea[1]) > 0.52
    spared = (np.hypot(*(grid - canvas.disc).T) < 0.3) | (
        rng.random(len(grid)) > rng.uniform(0.5, 0.95)
    )
    keep = canvas.frame.visible(grid, 0.04) & off_macula & ~spared
    for position in grid[keep]:
        size = rng.uniform(0.028, 0.042)
        _blob(
            canvas, position, (size, size), SCAR, rng, opacity=rng.uniform(0.5, 0.85), softness=0.4
        )
        if rng.random() < 0.4:
            _blob(
                canvas,
                position + rng.normal(0, 0.006, 2),
                (size * 0.5, size * 0.4),
                PIGMENT,
                rng,
                opacity=0.8,
                softness=0.6,
            )


# From the deepest layer to the one nearest the lens.
LESIONS = (
    _laser,
    _exudates,
    _cotton_wool,
    _haemorrhages,
    _microaneurysms,
    _new_vessels,
    _preretinal,
    _vitreous,
)
