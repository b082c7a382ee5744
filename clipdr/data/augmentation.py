"""Augmentation policies of training batches, and the operations they are made of.

Every random number is a function of (seed, epoch, row), independent of the batch and of the number
of threads. Crops, flips and resizing run per image on uint8, colours on several images in float32,
because this is the fastest order on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from clipdr.data import fundus_aug

if TYPE_CHECKING:
    from collections.abc import Sequence

LUMINANCE = (0.2989, 0.587, 0.114)  # torchvision's weights of R, G, B
ATTEMPTS = 7  # at a random crop, of 4 numbers each
GDRNET_JITTER = (1.0, 1.0, 1.0, 0.05)
CHUNK = 4  # images whose colours are changed at once on a CPU

# Which of an image's uniform numbers decides what.
CROPS = slice(0, 4 * ATTEMPTS)
FLIP = 28
FACTORS = slice(29, 32)  # brightness, contrast, saturation
HUE = 32
GREY = 33
DRAWS = 34  # uniform numbers per image of a policy with one view
VIEW = 4  # further numbers per view of a policy with two: top, left, horizontal flip, vertical flip

Change = Callable[[torch.Tensor, torch.Tensor, np.ndarray], torch.Tensor]


@dataclass(frozen=True)
class Augment:
    """One augmentation policy.

    Args:
        scale: Smallest area of a random crop that is resized to the input, as a share of the image.
            1 is no crop.
        flip: Probability of a horizontal flip.
        jitter: Half widths of the factors of brightness, contrast and saturation, and of the turn
            of the hue in full circles. () is no jitter.
        grey: Probability that an image loses its colour.
        margin: Side of the image over the network's input, from which the views of a policy with
            two are cropped at random.
        change: Function (image, retina, draw) of a policy with two views. image is (B, 3, s, s)
            float32 in [0, 1], retina (B, 1, s, s) bool, draw (B, changes) float64 in [0, 1). It
            returns (B, 3, s, s) float32 in [0, 1]. A batch's `image` is the changed view, its
            `second_view` the unchanged one.
        changes: Number of uniform numbers per image that `change` takes.
    """

    scale: float = 1.0
    flip: float = 0.0
    jitter: tuple[float, ...] = ()
    grey: float = 0.0
    margin: float = 1.0
    change: Change | None = None
    changes: int = 0

    @property
    def draws(self) -> int:
        """Number of uniform numbers per image."""
        return DRAWS + (2 * VIEW + self.changes if self.change else 0)


def _unchanged(image: torch.Tensor, _retina: torch.Tensor, _draw: np.ndarray) -> torch.Tensor:
    """Return the image: the `change` of a policy with two plain views."""
    return image


AUGMENTS = {
    "none": Augment(),
    "flip": Augment(flip=0.5),
    "clip": Augment(scale=0.7, flip=0.5),
    # GDRBench's policy for every baseline.
    "shared": Augment(scale=0.7, flip=0.5, jitter=(0.3, 0.3, 0.3, 0.3), grey=0.1),
    # GDRNet's two views.
    "fundus": Augment(
        jitter=GDRNET_JITTER,
        margin=256 / 224,
        change=fundus_aug.fundus_aug,
        changes=fundus_aug.DRAWS,
    ),
    # The same without FundusAug, as an ablation.
    "two_views": Augment(jitter=GDRNET_JITTER, margin=256 / 224, change=_unchanged),
}


def draws(
    seed: int, epoch: int | np.ndarray, rows: Sequence[int] | np.ndarray, count: int = DRAWS
) -> np.ndarray:
    """Draw the uniform numbers of each image, keyed by (seed, epoch, row).

    Args:
        seed: Seed of the run.
        epoch: One epoch for all images, or one per image (B,).
        rows: (B,) row number of each image.
        count: Numbers per image.

    Returns:
        (B, count) float64 in [0, 1).
    """
    epochs = np.broadcast_to(epoch, len(rows))
    return np.stack(
        [
            np.random.default_rng((seed, int(e), int(row))).random(count)
            for e, row in zip(epochs, rows, strict=True)
        ]
    )


def two_views(
    image: torch.Tensor, disc: torch.Tensor, augment: Augment, draw: np.ndarray, side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make the changed and the plain view of each image (GDRNet; Che et al., 2023).

    Each view has its own crop and flips.

    Args:
        image: (B, 3, s, s) float32 in [0, 1], s >= side.
        disc: (B, 5) float32: cx, cy, r, w, h in pixels of a square of side s.
        augment: Policy with two views.
        draw: (B, augment.draws) in [0, 1).
        side: Side of the views in pixels.

    Returns:
        The changed and the plain view, each (B, 3, side, side) float32.
    """
    from clipdr.data.preprocessing import fundus

    if augment.change is None:
        raise ValueError("augment: the policy has one view. Give a policy with `change`.")
    retina = fundus.mask(disc.to(image.device), image.shape[-1])
    first, second, numbers = np.split(draw[:, DRAWS:], [VIEW, 2 * VIEW], axis=1)
    return view(augment.change(image, retina, numbers), side, first), view(image, side, second)


def view(batch: torch.Tensor, side: int, draw: np.ndarray) -> torch.Tensor:
    """Crop and flip each image at random; either flip has probability 1/2.

    Args:
        batch: (B, 3, s, s).
        side: Side of the crop in pixels, at most s.
        draw: (B, 4) in [0, 1): top, left, horizontal flip, vertical flip.

    Returns:
        (B, 3, side, side) of the batch's type.
    """
    out = batch.new_empty(len(batch), batch.shape[1], side, side)
    room = batch.shape[-1] - side + 1
    for image, (top, left, across, down), target in zip(batch, draw, out, strict=True):
        top, left = int(top * room), int(left * room)
        axes = [axis for axis, number in ((2, across), (1, down)) if number < 0.5]
        target.copy_(image[:, top : top + side, left : left + side].flip(axes))
    return out


def crop_box(draw: np.ndarray, side: int, scale: float) -> tuple[int, int, int, int]:
    """Draw the box of a random crop (torchvision's RandomResizedCrop).

    Args:
        draw: (at least 28,) in [0, 1), four numbers per attempt.
        side: Side of the image in pixels.
        scale: Smallest area as a share of the image; the ratio of the sides is in [3/4, 4/3].

    Returns:
        Top, left, height and width in pixels; the whole image if no attempt fits.
    """
    for attempt in range(ATTEMPTS):
        area, ratio, top, left = draw[CROPS][4 * attempt : 4 * attempt + 4]
        area = (scale + (1 - scale) * area) * side * side
        ratio = math.exp(math.log(4 / 3) * (2 * ratio - 1))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if width <= side and height <= side:
            return int(top * (side - height + 1)), int(left * (side - width + 1)), height, width
    return 0, 0, side, side


def geometry(
    image: np.ndarray, side: int, augment: Augment, draw: np.ndarray, out: torch.Tensor
) -> None:
    """Crop one stored image, resize it with antialiasing, flip it and write it into `out`.

    Args:
        image: (S, S, 3) uint8.
        side: Side of the output in pixels.
        augment: Policy; its `scale` and `flip` are applied.
        draw: (at least DRAWS,) in [0, 1).
        out: (3, side, side) uint8, overwritten.
    """
    # The batch axis is added before the permutation. Only then do the strides mean channels-last,
    # which is the fast path through interpolate and into `out`.
    pixels = torch.from_numpy(image)[None].permute(0, 3, 1, 2)  # (1, 3, S, S)
    if augment.scale < 1:
        top, left, height, width = crop_box(draw, image.shape[0], augment.scale)
        pixels = pixels[:, :, top : top + height, left : left + width]
    if pixels.shape[2:] != (side, side):
        pixels = F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
    if draw[FLIP] < augment.flip:
        pixels = pixels.flip(3)
    out.copy_(pixels[0])


def colour(batch: torch.Tensor, augment: Augment, draw: np.ndarray) -> torch.Tensor:
    """Change brightness, contrast, saturation and hue of each image, and make some grey.

    The operations are those of torchvision's ColorJitter and RandomGrayscale, with each image's own
    factors. Deviation: torchvision draws the order of the four per image. Here it is fixed, so that
    several images can be changed at once: a few that fit the cache on a CPU, all of them elsewhere.

    Args:
        batch: (B, 3, side, side) float32 in [0, 1], changed in place.
        augment: Policy; its `jitter` and `grey` are applied.
        draw: (B, at least DRAWS) in [0, 1).

    Returns:
        The batch.
    """
    if not (augment.jitter or augment.grey):
        return batch
    count = CHUNK if batch.device.type == "cpu" else len(batch)
    for start in range(0, len(batch), count):
        images, numbers = batch[start : start + count], draw[start : start + count]
        images.copy_(recoloured(images.contiguous(), augment, numbers))
    return batch


def recoloured(images: torch.Tensor, augment: Augment, draw: np.ndarray) -> torch.Tensor:
    """Apply `colour` to a few images, out of place."""
    if augment.jitter:
        width = np.array(augment.jitter)
        factor = torch.from_numpy(1 + width[:3] * (2 * draw[:, FACTORS] - 1)).to(images)
        factor = factor[:, :, None, None, None]  # (B, 3, 1, 1, 1)
        images = brightness(images, factor[:, 0])
        images = contrast(images, factor[:, 1])
        images = saturation(images, factor[:, 2])
        shift = torch.from_numpy(width[3] * (2 * draw[:, HUE] - 1)).to(images)
        images = hue(images, shift[:, None, None])
    if augment.grey:
        chosen = torch.from_numpy(draw[:, GREY] < augment.grey)[:, None, None, None]
        images = torch.where(chosen.to(images.device), grey(images), images)
    return images


def grey(batch: torch.Tensor) -> torch.Tensor:
    """Return the luminance, (B, 3, H, W) -> (B, 1, H, W)."""
    r, g, b = batch.unbind(1)
    return (LUMINANCE[0] * r + LUMINANCE[1] * g + LUMINANCE[2] * b)[:, None]


def brightness(batch: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Multiply each image (B, 3, H, W) in [0, 1] by its factor (B, 1, 1, 1)."""
    return (batch * factor).clamp(0, 1)


def contrast(batch: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Scale each image (B, 3, H, W) in [0, 1] about its mean luminance, by factor (B, 1, 1, 1)."""
    mean = grey(batch).mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean.expand_as(batch), batch, factor).clamp(0, 1)


def saturation(batch: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Scale each pixel of (B, 3, H, W) in [0, 1] about its luminance, by factor (B, 1, 1, 1)."""
    return torch.lerp(grey(batch).expand_as(batch), batch, factor).clamp(0, 1)


def hue(batch: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Turn the hue of each image, through HSV.

    With v the largest channel and c = v - smallest, channel n of the turned colour is
    v - c * clamp(2 - d, 0, 1). Here d is the distance of n + 6 hue from 2 on a circle of 6.

    Args:
        batch: (B, 3, H, W) in [0, 1].
        shift: (B, 1, 1) share of a full circle, in [-0.5, 0.5].

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    r, g, b = batch.unbind(1)
    value = torch.maximum(torch.maximum(r, g), b)
    chroma = value - torch.minimum(torch.minimum(r, g), b)
    safe = torch.where(chroma == 0, 1.0, chroma)
    sector = (
        torch.where(r == value, g - b, torch.where(g == value, b - r + 2 * safe, r - g + 4 * safe))
        / safe
    )
    turned = sector / 6 + shift
    out = torch.empty_like(batch)
    for channel, n in enumerate((5, 3, 1)):
        away = turned + (n - 2) / 6
        share = away.sub_(away.round()).abs_().mul_(-6).add_(2).clamp_(0, 1)
        torch.addcmul(value, share, chroma, value=-1, out=out[:, channel])
    return out


def rotated(image: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """Rotate images about their centre, bilinear, with black outside.

    Args:
        image: (B, 3, S, S) float32.
        degrees: (B,) angle of each image.

    Returns:
        (B, 3, S, S) float32.
    """
    angle = torch.deg2rad(degrees).float()
    zero = torch.zeros_like(angle)
    turn = torch.stack([angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero], 1).view(
        -1, 2, 3
    )
    return F.grid_sample(
        image, F.affine_grid(turn, list(image.shape), align_corners=False), align_corners=False
    )
