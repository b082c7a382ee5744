"""FundusAug (Che et al., 2023): simulated defects of fundus photography, per image.

Input are images, their retina masks and uniform numbers in [0, 1)
(clipdr.data.augmentation.draws). Output are images of the same shape, 0 outside of the retina.
Below, s is the side of an image in pixels (256 in the paper) and an intensity is a channel's value
in [0, 1].

Deviations from the released code: parameters are random per image and not per batch, and the blur
has an effect (the released kernel has a side of 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

RATE = 0.5  # probability of each operation
CHUNK = 8  # images changed at once on a CPU, because they fit its cache
SPOTS = (5, 10)  # fewest and most spots
# Brightness of a halo over the image's mean, and the probabilities.
BRIGHTNESS = ((1.0, 1.2, 1.5, 2.0), (0.8, 0.1, 0.05, 0.05))
# RGB of a halo, and the probabilities.
TINTS = (((251, 249, 246), (141, 238, 238), (177, 195, 147)), (0.025, 0.65, 0.325))
WIDER = 1 / 6  # of s: how much larger the outer disc of a halo of the first tint is


def fundus_aug(image: torch.Tensor, retina: torch.Tensor, draw: np.ndarray) -> torch.Tensor:
    """Apply sharpness, halo, hole, spot and blur in this order, each with probability 1/2.

    Args:
        image: (B, 3, s, s) float32 in [0, 1], not changed.
        retina: (B, 1, s, s) bool, the pixels inside the camera's field of view.
        draw: (B, DRAWS) float64 in [0, 1).

    Returns:
        (B, 3, s, s) float32 in [0, 1], 0 outside of the retina.
    """
    out = image.clone(memory_format=torch.contiguous_format)
    count = CHUNK if image.device.type == "cpu" else len(image)
    for start in range(0, len(image), count):
        rows = slice(start, start + count)
        chunk, inside, numbers = out[rows], retina[rows], draw[rows]
        first = 0
        for operation, taken in OPERATIONS.items():
            chosen = np.flatnonzero(numbers[:, first] < RATE)
            if len(chosen):
                images = [chunk[index] for index in chosen]
                changed = operation(
                    torch.stack(images),
                    torch.stack([inside[index] for index in chosen]),
                    numbers[chosen, first + 1 : first + 1 + taken],
                )
                # Several times faster than an indexed copy.
                for target, result in zip(images, changed, strict=True):
                    target.copy_(result)
            first += 1 + taken
        chunk.mul_(inside)
    return out


# Operations: f(image (N, 3, s, s), retina (N, 1, s, s), draw (N, numbers)) -> (N, 3, s, s) in
# [0, 1]. They may change `image` in place.


def sharpness(image: torch.Tensor, _retina: torch.Tensor | None, draw: np.ndarray) -> torch.Tensor:
    """Blend with a 3x3 smoothing (torchvision's adjust_sharpness) by a factor in U(0, 2).

    A factor of 0 is smooth, 1 is unchanged and 2 is sharp. Border pixels stay.

    Args:
        image: (N, 3, s, s) in [0, 1], changed in place.
        draw: (N, 1) in [0, 1).

    Returns:
        (N, 3, s, s) in [0, 1].
    """
    factor = along(2 * draw[:, 0], image)[:, None, None, None]
    columns = image[..., :-2] + image[..., 1:-1] + image[..., 2:]
    box = columns[:, :, :-2] + columns[:, :, 1:-1] + columns[:, :, 2:]
    inner = image[:, :, 1:-1, 1:-1]  # smooth: (box + 4 inner) / 13
    inner.mul_(factor + (1 - factor) * 4 / 13).addcmul_(box, (1 - factor) / 13)
    return image.clamp_(0, 1)


def halo(image: torch.Tensor, _retina: torch.Tensor | None, draw: np.ndarray) -> torch.Tensor:
    """Add a bright, tinted, blurred ring around the middle: light from outside the pupil.

    Args:
        image: (N, 3, s, s) in [0, 1], changed in place.
        draw: (N, 5) in [0, 1).

    Returns:
        (N, 3, s, s) in [0, 1].
    """
    side = image.shape[-1]
    centre = whole(draw[:, 0], side / 2 - side / 8, side / 2 + side / 8)
    reach = np.maximum(centre, side - centre)
    tint = pick(draw[:, 4], TINTS[1])
    widest = 2 * np.floor(np.sqrt(2) * reach) / side
    inner = side * (0.75 + 0.25 * draw[:, 1])
    outer = side * (1 + (widest - 1) * draw[:, 2]) + centre + np.where(tint == 0, WIDER * side, 0)
    ring = disc(side, centre, centre, outer, image) - disc(side, centre, centre, inner, image)
    ring.clamp_(min=0)
    gap = np.floor(np.abs(2 * reach - inner))
    weight = gaussian(2 * gap / 3 + 0.01, odd(gap))
    strength = along(np.array(BRIGHTNESS[0])[pick(draw[:, 3], BRIGHTNESS[1])], image) * image.mean(
        (1, 2, 3)
    )
    ring = blurred(ring * strength[:, None, None], weight, weight)
    colour = along(np.array(TINTS[0])[tint] / 255, image)
    return image.addcmul_(ring[:, None], colour[:, :, None, None]).clamp_(0, 1)


def hole(image: torch.Tensor, retina: torch.Tensor, draw: np.ndarray) -> torch.Tensor:
    """Darken a large blurred disc near the middle, except in dark images.

    An image is dark if the mean of its retina is at most 1/4.

    Args:
        image: (N, 3, s, s) in [0, 1], changed in place.
        retina: (N, 1, s, s) bool.
        draw: (N, 7) in [0, 1).

    Returns:
        (N, 3, s, s) in [0, 1].
    """
    side = image.shape[-1]
    diameter = whole(draw[:, 0], 0.4 * side, 0.9 * side)
    column = whole(draw[:, 1], side / 4, 3 * side / 4)
    row = whole(draw[:, 2], 3 * side / 8, 5 * side / 8)
    across = odd(diameter * (0.55 + 0.2 * draw[:, 3]))
    down = odd(diameter * (0.55 + 0.2 * draw[:, 4]))
    sigma = 0.8 * np.maximum(across, down)
    base, slope = along(-0.262 + 0.002 * draw[:, 5], image), along(0.05 + 0.01 * draw[:, 6], image)
    mean = (image * retina).sum((1, 2, 3)) / (image.shape[1] * retina.sum((1, 2, 3))).clamp_min(1)
    amplitude = torch.where(mean > 0.25, base - slope * mean, 0.0)
    shade = disc(side, column, row, diameter, image) * amplitude[:, None, None]
    shade = blurred(shade, gaussian(sigma, down), gaussian(sigma, across))
    return image.add_(shade[:, None]).clamp_(0, 1)


def spot(image: torch.Tensor, _retina: torch.Tensor | None, draw: np.ndarray) -> torch.Tensor:
    """Add five to ten small bright blurred discs: dust on the lens.

    Args:
        image: (N, 3, s, s) in [0, 1], changed in place.
        draw: (N, 51) in [0, 1): the number of spots, then five numbers per spot.

    Returns:
        (N, 3, s, s) in [0, 1].
    """
    side, images = image.shape[-1], len(image)
    present = np.arange(SPOTS[1]) < whole(draw[:, 0], *SPOTS)[:, None]  # (N, 10)
    draw = draw[:, 1:].reshape(images, SPOTS[1], -1)[present]  # (M, 5), one row per spot
    smallest = np.ceil(0.01 * side)
    size = whole(draw[:, 0], smallest, max(smallest, 0.05 * side))
    column, row = (whole(draw[:, axis], size + 1, side - 2 - size) for axis in (1, 2))
    sigma = 2 * (5 + 20 * size / 25)
    across, down = (odd(sigma * (0.2 + 0.05 * draw[:, axis])) for axis in (3, 4))
    amplitude = (14 / 25 + 1 - size / 25) * (1 - np.exp(-(0.5 + size / 25) * 0.3 * size / 25))
    radius = size // 2
    # From a spot's centre to where nothing of it is left.
    margin = int(radius.max() + max(across.max(), down.max()) // 2 + 1)
    width = 2 * margin + 1
    centre = np.full(len(size), margin)
    patch = disc(width, centre, centre, 2 * radius, image) * along(amplitude, image)[:, None, None]
    patch = blurred(patch, gaussian(sigma, down), gaussian(sigma, across))
    # A frame around the image takes the zeros of a patch that lie beyond it.
    wide = side + 2 * margin
    corner = (np.nonzero(present)[0] * wide + row) * wide + column
    line = np.arange(width)
    pixel = (corner[:, None, None] + line[:, None] * wide + line).astype(np.int64)  # (M, w, w)
    light = image.new_zeros(images * wide * wide).scatter_add_(
        0, torch.from_numpy(pixel).to(image.device).flatten(), patch.flatten()
    )
    light = light.view(images, 1, wide, wide)[:, :, margin:-margin, margin:-margin]
    return image.add_(light).clamp_(0, 1)


def blur(image: torch.Tensor, _retina: torch.Tensor | None, draw: np.ndarray) -> torch.Tensor:
    """Apply a Gaussian blur, sigma in U(0.1, 3) pixels, cut at two sigma: the camera out of focus.

    Args:
        image: (N, 3, s, s) in [0, 1].
        draw: (N, 1) in [0, 1).

    Returns:
        (N, 3, s, s) in [0, 1].
    """
    sigma = 0.1 + 2.9 * draw[:, 0]
    weight = along(gaussian(sigma, 2 * np.ceil(2 * sigma) + 1), image)
    return smoothed(smoothed(image, weight, 2), weight, 3)


# Operation -> how many uniform numbers it takes, in the order of the paper.
OPERATIONS = {sharpness: 1, halo: 5, hole: 7, spot: 1 + 5 * SPOTS[1], blur: 1}
DRAWS = sum(1 + numbers for numbers in OPERATIONS.values())


# Building blocks. Arrays (N,) are parameters of the images, on the CPU.


def whole(draw: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    """Map uniform numbers to whole numbers from low to high, both included.

    Args:
        draw: (N,) in [0, 1).
        low: Smallest value; rounded up.
        high: Largest value; rounded down.

    Returns:
        (N,) float64.
    """
    low, high = np.ceil(low), np.floor(high)
    return low + np.floor(draw * (high - low + 1))


def odd(length: np.ndarray) -> np.ndarray:
    """Return the odd whole numbers nearest to lengths of at least 0."""
    return 2 * np.floor(length / 2) + 1


def pick(draw: np.ndarray, probability: Sequence[float]) -> np.ndarray:
    """Map uniform numbers (N,) in [0, 1) to indices (N,) of `probability`, whose sum is 1."""
    return np.searchsorted(np.cumsum(probability)[:-1], draw, side="right")


def along(array: np.ndarray, image: torch.Tensor) -> torch.Tensor:
    """Return an array of parameters as a tensor of an image's type on its device."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(image)


def disc(
    side: int, column: np.ndarray, row: np.ndarray, diameter: np.ndarray, image: torch.Tensor
) -> torch.Tensor:
    """Return maps of discs: 1 within half a diameter of pixel (column, row), else 0.

    Args:
        side: Side of the maps in pixels.
        column: (N,) x of the centres in pixels.
        row: (N,) y of the centres in pixels.
        diameter: (N,) in pixels.
        image: Tensor that gives the type and the device.

    Returns:
        (N, side, side).
    """
    line = np.arange(side)
    x, y = along((line - column[:, None]) ** 2, image), along((line - row[:, None]) ** 2, image)
    return (x[:, None, :] + y[:, :, None] <= along(diameter**2 / 4, image)[:, None, None]).to(image)


def gaussian(sigma: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Return the weights of each image's Gaussian kernel.

    Args:
        sigma: (N,) standard deviation in pixels.
        side: (N,) odd length in pixels at which the kernel is cut.

    Returns:
        (N, K), rows sum to 1; K is the longest side.
    """
    half = int(side.max()) // 2
    offset = np.arange(-half, half + 1)
    weight = np.exp(-(offset**2) / (2 * sigma[:, None] ** 2)) * (
        np.abs(offset) <= side[:, None] // 2
    )
    return weight / weight.sum(1, keepdims=True)


def smoothed(image: torch.Tensor, weight: torch.Tensor, axis: int) -> torch.Tensor:
    """Convolve images along one axis with reflected borders; efficient for short kernels.

    Args:
        image: (N, C, H, W).
        weight: (N, K) symmetric weights of each image.
        axis: 2 (along H) or 3 (along W).

    Returns:
        (N, C, H, W).
    """
    half, side = weight.shape[1] // 2, image.shape[axis]
    padded = F.pad(image, (half, half, 0, 0) if axis == 3 else (0, 0, half, half), mode="reflect")
    weight = weight[:, half:, None, None, None]
    out = image * weight[:, 0]
    for offset in range(1, half + 1):
        out.addcmul_(
            padded.narrow(axis, half - offset, side) + padded.narrow(axis, half + offset, side),
            weight[:, offset],
        )
    return out


def blurred(shade: torch.Tensor, down: np.ndarray, across: np.ndarray) -> torch.Tensor:
    """Blur maps of one channel with reflected borders, as products with band matrices.

    For kernels of half the image, this is many times faster than a convolution.

    Args:
        shade: (N, s, s).
        down: (N, K) symmetric weights of each map along its columns.
        across: (N, K') symmetric weights of each map along its rows.

    Returns:
        (N, s, s).
    """
    return (
        band(along(down, shade), shade.shape[1])
        @ shade
        @ band(along(across, shade), shade.shape[2]).mT
    )


def band(weight: torch.Tensor, side: int) -> torch.Tensor:
    """Return the matrices that convolve a line of pixels.

    Borders are reflected without the border pixel.

    Args:
        weight: (N, K) symmetric weights, K < 2 side.
        side: Length of the line in pixels.

    Returns:
        (N, side, side).
    """
    half = weight.shape[1] // 2
    last = side - 1
    # Row w of the table starts at offset w - 2 last.
    table = F.pad(weight, (2 * last - half, 2 * last - half)).unfold(1, side, 1)
    matrix = table[:, last : last + side].flip(1)  # offset j - i
    # Offset j + i: what lies left of the line.
    matrix[:, :, 1:] += table[:, 2 * last : 2 * last + side, 1:]
    # Offset j + i - 2 last: what lies right of it.
    matrix[:, :, :-1] += table[:, :side, :-1]
    return matrix
