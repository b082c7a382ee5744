"""Camera styles of the synthetic domains, and the camera that applies them.

Input is a retina (float RGB array), output is its image (uint8 RGB). STYLES imitates visible
properties of the real datasets: format and crop, colour cast, illumination, blur, notch, burnt-in
text and compression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from clipdr.data.synthetic.anatomy import Frame

WHITE, BLACK = (1.0, 1.0, 1.0), (0.008, 0.006, 0.005)


@dataclass(frozen=True)
class Format:
    """Image format.

    Args:
        aspect: Width / height.
        radius: Radius of the field in heights; above 0.5 the field is cut above and below.
        centre: Centre of the field in widths and heights.
    """

    aspect: float
    radius: float
    centre: tuple[float, float] = (0.5, 0.5)


@dataclass(frozen=True)
class Style:
    """Camera of one domain.

    Ranges are (low, high), distributions are (mean, standard deviation). Lengths are in radii of
    the field.

    Args:
        suffix: File type, ".png" or ".jpg".
        formats: Formats in use, with their shares.
        gain: RGB gain.
        quality: Range of the JPEG quality, 1..95; unused for PNG.
        scale: Image height over the nominal size.
        tint: Standard deviation of the gain from image to image.
        saturation: 1 keeps the colours.
        exposure: Range of the brightness factor.
        gamma: Distribution of the exponent; below 1 gives brighter shadows.
        vignette: Range of the light lost at the rim.
        slope: Range of the strength of a linear illumination gradient.
        blur: Range of the Gaussian sigma.
        noise: Standard deviation of the sensor noise.
        haze: (share of images, strength) of bluish light at the rim.
        ghost: Share of images with a pale reflection near the centre.
        notch: Share of images with a notch in the rim, upper right.
        white: Share of images with a white border.
        text: Share of images with red text, top left.
        disc: Distribution of the horizontal position of the optic disc.
    """

    suffix: str
    formats: tuple[tuple[Format, float], ...]
    gain: tuple[float, float, float]
    quality: tuple[int, int] = (90, 95)
    scale: float = 1.0
    tint: float = 0.05
    saturation: float = 1.0
    exposure: tuple[float, float] = (0.85, 1.1)
    gamma: tuple[float, float] = (1.0, 0.05)
    vignette: tuple[float, float] = (0.15, 0.35)
    slope: tuple[float, float] = (0.0, 0.15)
    blur: tuple[float, float] = (0.002, 0.006)
    noise: float = 0.010
    haze: tuple[float, float] = (0.0, 0.0)
    ghost: float = 0.0
    notch: float = 0.0
    white: float = 0.0
    text: float = 0.0
    disc: tuple[float, float] = (0.54, 0.06)


STYLES = {
    "APTOS": Style(
        suffix=".png",
        formats=((Format(1.33, 0.60), 0.5), (Format(1.5, 0.46), 0.3), (Format(1.05, 0.495), 0.2)),
        gain=(0.98, 0.92, 0.62),
        tint=0.09,
        exposure=(0.6, 1.1),
        gamma=(1.0, 0.1),
        slope=(0.0, 0.35),
        blur=(0.003, 0.012),
        haze=(0.2, 0.5),
        ghost=0.1,
        notch=0.7,
        disc=(0.62, 0.14),
    ),
    "DEEPDR": Style(
        suffix=".jpg",
        formats=((Format(1.29, 0.535), 1.0),),
        gain=(1.12, 1.20, 1.08),
        quality=(80, 92),
        scale=1.1,
        saturation=0.85,
        exposure=(0.9, 1.15),
        gamma=(0.9, 0.06),
        vignette=(0.05, 0.2),
        slope=(0.05, 0.3),
        blur=(0.003, 0.008),
        ghost=0.25,
        white=0.25,
        text=0.8,
        disc=(0.55, 0.16),
    ),
    "FGADR": Style(
        suffix=".png",
        formats=((Format(1.0, 0.498), 0.75), (Format(1.0, 0.53), 0.25)),
        gain=(0.92, 0.98, 0.80),
        tint=0.08,
        saturation=1.05,
        exposure=(0.85, 1.15),
        gamma=(1.15, 0.08),
        vignette=(0.1, 0.3),
        blur=(0.001, 0.004),
        noise=0.016,
        disc=(0.52, 0.10),
    ),
    "IDRID": Style(
        suffix=".jpg",
        formats=((Format(1.5, 0.597, (0.465, 0.5)), 1.0),),
        gain=(1.10, 0.96, 0.45),
        quality=(90, 95),
        tint=0.05,
        saturation=1.15,
        exposure=(0.85, 1.1),
        vignette=(0.1, 0.3),
        slope=(0.0, 0.12),
        blur=(0.002, 0.005),
        notch=1.0,
        disc=(0.66, 0.10),
    ),
    "MESSIDOR": Style(
        suffix=".jpg",
        formats=((Format(1.5, 0.485), 0.6), (Format(1.0, 0.485), 0.4)),
        gain=(1.08, 0.78, 0.52),
        quality=(92, 95),
        tint=0.06,
        saturation=1.15,
        exposure=(0.6, 1.05),
        gamma=(1.1, 0.08),
        vignette=(0.2, 0.45),
        slope=(0.0, 0.3),
        blur=(0.002, 0.006),
        haze=(0.15, 0.35),
        ghost=0.3,
        notch=1.0,
        disc=(0.52, 0.05),
    ),
    "RLDR": Style(
        suffix=".jpg",
        formats=((Format(1.0, 0.56), 0.55), (Format(1.0, 0.465), 0.45)),
        gain=(0.95, 0.95, 0.85),
        quality=(60, 85),
        scale=0.9,
        tint=0.10,
        saturation=0.75,
        exposure=(0.75, 1.1),
        gamma=(1.0, 0.1),
        vignette=(0.2, 0.5),
        slope=(0.0, 0.25),
        blur=(0.004, 0.009),
        noise=0.012,
        haze=(0.5, 0.5),
        ghost=0.2,
        notch=0.4,
        disc=(0.60, 0.14),
    ),
}


def sample_frame(style: Style, size: int, nasal: int, rng: np.random.Generator) -> Frame:
    """Sample a frame of nominal side `size` pixels in one of the style's formats.

    Args:
        style: Camera.
        size: Nominal side in pixels.
        nasal: +1 for a right eye, -1 for a left eye.
        rng: Random generator.
    """
    shares = [share for _, share in style.formats]
    form = style.formats[rng.choice(len(shares), p=shares)][0]
    height = round(size * style.scale)
    width = round(height * form.aspect)
    shift = rng.normal(0, 0.006, 2)
    radius = height * form.radius * (1 + rng.normal(0, 0.008))
    return Frame(
        height,
        width,
        width * (form.centre[0] + shift[0]),
        height * (form.centre[1] + shift[1]),
        radius,
        nasal,
    )


def apply_camera(
    retina: np.ndarray, frame: Frame, style: Style, rng: np.random.Generator
) -> np.ndarray:
    """Return the image of a retina: light, colour, rim, border, blur, noise and text.

    Args:
        retina: (H, W, 3) float32, about 0..1.
        frame: Position of the retina in the image.
        style: Camera.
        rng: Random generator.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    u, v = frame.grid()
    rho = np.hypot(u, v)
    exposed = _colour(retina * _light(u, v, rho, style, rng)[..., None], style, rng)
    if rng.random() < style.haze[0]:
        angle, strength = rng.uniform(0, 2 * np.pi), style.haze[1] * rng.uniform(0.4, 1)
        side = (
            np.clip(rho - 0.35 + 0.35 * (u * np.cos(angle) + v * np.sin(angle)), 0, 1) ** 2
            * strength
        )
        exposed += side[..., None] * (np.array((0.55, 0.75, 0.85), np.float32) - exposed)
    if rng.random() < style.ghost:
        x, y = rng.normal(0, 0.12, 2)
        glow = np.exp(-((u - x) ** 2 + (v - y) ** 2) / rng.uniform(0.003, 0.012)) * rng.uniform(
            0.15, 0.4
        )
        exposed += glow[..., None] * np.array((0.6, 0.6, 0.7), np.float32)
    inside = np.clip((1 - rho) * frame.radius + 0.5, 0, 1)
    if rng.random() < style.notch:
        inside = np.maximum(inside, _notch(u * frame.nasal, v))
    border = np.array(WHITE if rng.random() < style.white else BLACK, np.float32)
    exposed = border + inside[..., None] * (exposed - border)
    blur = rng.uniform(*style.blur) * frame.radius
    image = Image.fromarray(np.uint8(np.clip(exposed, 0, 1) * 255 + 0.5)).filter(
        ImageFilter.GaussianBlur(blur)
    )
    grain = rng.standard_normal((frame.height, frame.width, 1), np.float32) * (
        style.noise * 255 * inside[..., None] + 0.5
    )
    image = Image.fromarray(np.uint8(np.clip(np.asarray(image) + grain, 0, 255)))
    if rng.random() < style.text:
        _write(image, frame, rng)
    return np.asarray(image)


def _light(
    u: np.ndarray, v: np.ndarray, rho: np.ndarray, style: Style, rng: np.random.Generator
) -> np.ndarray:
    """Illumination of the retina, (H, W): exposure, vignette and a linear gradient."""
    angle = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(*style.slope) * (u * np.cos(angle) + v * np.sin(angle))
    return (
        rng.uniform(*style.exposure)
        * (1 - rng.uniform(*style.vignette) * np.minimum(rho, 1.2) ** 3)
        * (1 + slope)
    )


def _colour(image: np.ndarray, style: Style, rng: np.random.Generator) -> np.ndarray:
    """Colour cast, saturation and tone curve of an image, (H, W, 3) float32.

    The curve is looked up in a table, which is much faster than powers of every pixel.
    """
    cast: np.ndarray = (1024 * np.array(style.gain) * (1 + rng.normal(0, style.tint, 3))).astype(
        np.float32
    )
    total = image[..., 0] * cast[0] + image[..., 1] * cast[1] + image[..., 2] * cast[2]
    grey = np.float32((1 - style.saturation) / 3) * total
    tone = (np.arange(2048) / 1024) ** max(rng.normal(*style.gamma), 0.6)
    glare = np.maximum(tone - 0.8, 0)
    # The film's shoulder: highlights roll off towards 1.
    curve = (tone - 5 * glare**2 / (1 + 5 * glare)).astype(np.float32)
    return curve[
        np.clip(image * (cast * np.float32(style.saturation)) + grey[..., None], 0, 2047).astype(
            np.int16
        )
    ]


def _notch(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Coverage 0..1 of a small square tooth on the upper right of the rim, (H, W)."""
    along, across = (x - y) / np.sqrt(2), (x + y) / np.sqrt(2)
    return ((np.abs(across) < 0.035) & (along > 0.95) & (along < 1.05)).astype(np.float32)


def _write(image: Image.Image, frame: Frame, rng: np.random.Generator) -> None:
    """Write an examination number, the side of the eye and a date in the top left corner."""
    font = ImageFont.load_default(size=max(6, round(frame.height * 0.028)))
    date = f"20{rng.integers(16, 20)}-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}"
    text = f"{rng.integers(1, 30):02d} {'R' if frame.nasal > 0 else 'L'}\n{date}"
    ImageDraw.Draw(image).multiline_text((2, 1), text, fill=(225, 40, 30), font=font, spacing=1)
