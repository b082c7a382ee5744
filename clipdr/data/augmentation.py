"""AUGMENTS: what is done to a training batch. Every draw is a function of (seed, epoch, row), whatever the batch or the number of threads.

Crops, flips and resizing are done per image on uint8 (fast, and what a loader pays for), colours for the whole batch in float32.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from clipdr.data import fundus_aug

GREY = (0.2989, 0.587, 0.114)  # torchvision's weights
DRAWS = 34  # uniform numbers per image: 7 attempts at a crop of 4 each, flip, brightness, contrast, saturation, hue, grey
VIEW = 4  # and per view of a policy with two: top, left, horizontal flip, vertical flip
ATTEMPTS = 7
JITTER = (1.0, 1.0, 1.0, 0.05)  # of GDRNet
CHUNK = 4  # images whose colours are changed at once on a CPU


@dataclass(frozen=True)
class Augment:
    """What is done to a training batch.

    scale  : smallest area of a random crop that is resized to the input, 1 is none
    flip   : probability of a horizontal flip
    jitter : half widths of the factors of brightness, contrast, saturation, and of the turn of the hue; () is none
    grey   : probability of a picture without colour
    margin : side of the picture over the network's input, where the views are cropped from it at random
    change : f(image, mask, draw) of a policy with two views: (B, 3, s, s) float32 in [0, 1], (B, 1, s, s) bool retina, (B, changes)
             float64 in [0, 1) -> (B, 3, s, s) float32 in [0, 1]. The batch's `image` is the changed view, its `twin` the one that is not
    changes : uniform numbers per image that `change` takes
    """

    scale: float = 1.0
    flip: float = 0.0
    jitter: tuple[float, ...] = ()
    grey: float = 0.0
    margin: float = 1.0
    change: Callable | None = None
    changes: int = 0

    @property
    def draws(self):
        """Uniform numbers per image."""
        return DRAWS + (2 * VIEW + self.changes if self.change else 0)


AUGMENTS = {
    "none": Augment(),
    "flip": Augment(flip=0.5),
    "clip": Augment(scale=0.7, flip=0.5),
    "shared": Augment(
        scale=0.7, flip=0.5, jitter=(0.3, 0.3, 0.3, 0.3), grey=0.1
    ),  # GDRBench's policy for every baseline
    "fundus": Augment(
        jitter=JITTER, margin=256 / 224, change=fundus_aug.fundus_aug, changes=fundus_aug.DRAWS
    ),  # GDRNet's two views
    "two_views": Augment(
        jitter=JITTER, margin=256 / 224, change=lambda image, retina, draw: image
    ),  # without FundusAug, as an ablation
}


def draws(seed, epoch, rows, count=DRAWS):
    """(B, count) float64 in [0, 1): the random numbers of each image, keyed by (seed, epoch, row). epoch: one for all, or one per row."""
    epochs = np.broadcast_to(epoch, len(rows))
    return np.stack(
        [
            np.random.default_rng((seed, int(e), int(row))).random(count)
            for e, row in zip(epochs, rows, strict=True)
        ]
    )


def two_views(picture, disc, augment, draw, side):
    """The changed and the plain view of each picture, each with its own crop and flips (GDRNet; Che et al., 2023).

    picture : (B, 3, s, s) float32 in [0, 1], s >= side;  disc : (B, 5) float32, cx, cy, r, w, h in pixels of a square of s
    draw    : (B, augment.draws) in [0, 1);  returns two (B, 3, side, side) float32 tensors
    """
    from clipdr.data.preprocessing import fundus

    retina = fundus.mask(disc.to(picture.device), picture.shape[-1])
    first, second, numbers = np.split(draw[:, DRAWS:], [VIEW, 2 * VIEW], axis=1)
    return view(augment.change(picture, retina, numbers), side, first), view(picture, side, second)


def view(batch, side, draw):
    """A random crop of `side`, a horizontal and a vertical flip at .5 each, per image: (B, 3, s, s) -> (B, 3, side, side)."""
    out = batch.new_empty(len(batch), batch.shape[1], side, side)
    room = batch.shape[-1] - side + 1
    for picture, (top, left, across, down), place in zip(batch, draw, out, strict=True):
        top, left = int(top * room), int(left * room)
        axes = [axis for axis, drawn in ((2, across), (1, down)) if drawn < 0.5]
        place.copy_(picture[:, top : top + side, left : left + side].flip(axes))
    return out


def crop_box(draw, side, scale):
    """Random box of an area in [scale, 1] and a ratio in [3/4, 4/3] (torchvision's RandomResizedCrop): top, left, height, width, pixels."""
    for attempt in range(ATTEMPTS):
        area, ratio, top, left = draw[4 * attempt : 4 * attempt + 4]
        area = (scale + (1 - scale) * area) * side * side
        ratio = math.exp(math.log(4 / 3) * (2 * ratio - 1))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if width <= side and height <= side:
            return int(top * (side - height + 1)), int(left * (side - width + 1)), height, width
    return 0, 0, side, side


def geometry(image, side, augment, draw, out):
    """One stored photograph, cropped, resized with antialiasing and flipped, into out.

    image : (S, S, 3) uint8 array;  draw : (DRAWS,) in [0, 1);  out : (3, side, side) uint8 tensor
    """
    # the batch axis is added first: only then do the strides say channels-last, which is the fast way through interpolate and into out
    picture = torch.from_numpy(image)[None].permute(0, 3, 1, 2)  # (1, 3, S, S)
    if augment.scale < 1:
        top, left, height, width = crop_box(draw, image.shape[0], augment.scale)
        picture = picture[:, :, top : top + height, left : left + width]
    if picture.shape[2:] != (side, side):
        picture = F.interpolate(picture, size=(side, side), mode="bilinear", antialias=True)
    if draw[28] < augment.flip:
        picture = picture.flip(3)
    out.copy_(picture[0])


def colour(batch, augment, draw):
    """Brightness, contrast, saturation, hue and grey of each image by its own factors, as torchvision's ColorJitter and RandomGrayscale.

    batch : (B, 3, side, side) float32 in [0, 1], changed in place;  draw : (B, DRAWS) in [0, 1)

    torchvision draws the order of the four per image; here it is fixed (brightness, contrast, saturation, hue), so that they run on
    several images at once: on a few that fit the processor's cache, on all of them elsewhere.
    """
    if not (augment.jitter or augment.grey):
        return batch
    count = CHUNK if batch.device.type == "cpu" else len(batch)
    for start in range(0, len(batch), count):
        part, numbers = batch[start : start + count], draw[start : start + count]
        part.copy_(recoloured(part.contiguous(), augment, numbers))
    return batch


def recoloured(part, augment, draw):
    """`colour` of a few images, out of place."""
    if augment.jitter:
        width = np.array(augment.jitter)
        factor = torch.from_numpy(1 + width[:3] * (2 * draw[:, 29:32] - 1)).to(part)[
            :, :, None, None, None
        ]  # (B, 3, 1, 1, 1)
        part = brightness(part, factor[:, 0])
        part = contrast(part, factor[:, 1])
        part = saturation(part, factor[:, 2])
        part = hue(part, torch.from_numpy(width[3] * (2 * draw[:, 32] - 1)).to(part)[:, None, None])
    if augment.grey:
        chosen = torch.from_numpy(draw[:, 33] < augment.grey)[:, None, None, None].to(part.device)
        part = torch.where(chosen, grey(part), part)
    return part


def grey(batch):
    """(B, 3, H, W) -> (B, 1, H, W) luminance."""
    r, g, b = batch.unbind(1)
    return (GREY[0] * r + GREY[1] * g + GREY[2] * b)[:, None]


def brightness(batch, factor):
    return (batch * factor).clamp(0, 1)


def contrast(batch, factor):
    mean = grey(batch).mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean.expand_as(batch), batch, factor).clamp(0, 1)


def saturation(batch, factor):
    return torch.lerp(grey(batch).expand_as(batch), batch, factor).clamp(0, 1)


def hue(batch, shift):
    """Turn the hue by `shift` (B, 1, 1) of a full circle, -.5..5, through HSV.

    With v the largest channel and c = v - smallest, channel n of the turned colour is v - c * clamp(2 - d, 0, 1), d the distance of
    n + 6 hue from 2 on a circle of 6.
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


def rotated(image, degrees):
    """Photographs turned about their centre, bilinear, black outside: (B, 3, S, S) float32, (B,) degrees -> (B, 3, S, S)."""
    angle = torch.deg2rad(degrees).float()
    zero = torch.zeros_like(angle)
    turn = torch.stack([angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero], 1).view(
        -1, 2, 3
    )
    return F.grid_sample(
        image, F.affine_grid(turn, list(image.shape), align_corners=False), align_corners=False
    )
