"""FundusAug (Che et al., 2023): faults of fundus photography drawn onto photographs, each image with its own draws.

Input: photographs, their retina and uniform numbers in [0, 1) (clipdr.data.augmentation.draws); output: photographs of the same shape, 0 outside of
the retina. s is the side of a photograph in pixels; the paper's is 256. An intensity is a channel's value in [0, 1].

Unlike the released code: parameters are drawn per image and not per batch, and the blur blurs (its kernel there has a side of 1).
"""

import numpy as np
import torch
import torch.nn.functional as F

RATE = 0.5  # probability of each operation
CHUNK = 8  # images changed at once on a CPU: they fit its cache
SPOTS = (5, 10)  # fewest and most spots
BRIGHTNESS = (
    (1.0, 1.2, 1.5, 2.0),
    (0.8, 0.1, 0.05, 0.05),
)  # of a halo over the image's mean, and their probabilities
TINTS = (
    ((251, 249, 246), (141, 238, 238), (177, 195, 147)),
    (0.025, 0.65, 0.325),
)  # RGB of a halo, and their probabilities
WIDER = 1 / 6  # of s: by so much is the outer disc of a halo of the first tint larger


def fundus_aug(image, retina, draw):
    """Sharpness, halo, hole, spot and blur in this order, each with probability 1/2, on the retina.

    image  : (B, 3, s, s) float32 in [0, 1], not changed
    retina : (B, 1, s, s) bool, the pixels inside the camera's field of view
    draw   : (B, DRAWS) float64 array in [0, 1)
    returns  (B, 3, s, s) float32 in [0, 1], 0 outside of the retina
    """
    out = image.clone(memory_format=torch.contiguous_format)
    count = CHUNK if image.device.type == "cpu" else len(image)
    for start in range(0, len(image), count):
        part, inside, numbers = (
            out[start : start + count],
            retina[start : start + count],
            draw[start : start + count],
        )
        first = 0
        for operation, taken in OPERATIONS.items():
            chosen = np.flatnonzero(numbers[:, first] < RATE)
            if len(chosen):
                pictures, retinas = (
                    [part[place] for place in chosen],
                    [inside[place] for place in chosen],
                )
                changed = operation(
                    torch.stack(pictures),
                    torch.stack(retinas),
                    numbers[chosen, first + 1 : first + 1 + taken],
                )
                for picture, new in zip(
                    pictures, changed, strict=True
                ):  # several times faster than an indexed copy
                    picture.copy_(new)
            first += 1 + taken
        part.mul_(inside)
    return out


# The operations: f(image (N, 3, s, s), retina (N, 1, s, s), draw (N, numbers)) -> (N, 3, s, s) in [0, 1]; they may change `image` in place


def sharpness(image, retina, draw):
    """Blend with a 3x3 smoothing (torchvision's adjust_sharpness) by a factor in U(0, 2): 0 smooth, 1 as it is, 2 sharp; borders stay."""
    factor = along(2 * draw[:, 0], image)[:, None, None, None]
    columns = image[..., :-2] + image[..., 1:-1] + image[..., 2:]
    box = columns[:, :, :-2] + columns[:, :, 1:-1] + columns[:, :, 2:]
    inner = image[:, :, 1:-1, 1:-1]  # smooth: (box + 4 inner) / 13
    inner.mul_(factor + (1 - factor) * 4 / 13).addcmul_(box, (1 - factor) / 13)
    return image.clamp_(0, 1)


def halo(image, retina, draw):
    """A bright blurred ring around the middle, tinted: light that does not come through the pupil."""
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


def hole(image, retina, draw):
    """A large dark blurred disc near the middle; a dark photograph (mean of the retina at most 1/4) has none."""
    side = image.shape[-1]
    diameter = whole(draw[:, 0], 0.4 * side, 0.9 * side)
    column, row = (
        whole(draw[:, 1], side / 4, 3 * side / 4),
        whole(draw[:, 2], 3 * side / 8, 5 * side / 8),
    )
    across, down = (
        odd(diameter * (0.55 + 0.2 * draw[:, 3])),
        odd(diameter * (0.55 + 0.2 * draw[:, 4])),
    )
    sigma = 0.8 * np.maximum(across, down)
    base, slope = along(-0.262 + 0.002 * draw[:, 5], image), along(0.05 + 0.01 * draw[:, 6], image)
    mean = (image * retina).sum((1, 2, 3)) / (image.shape[1] * retina.sum((1, 2, 3))).clamp_min(1)
    amplitude = torch.where(mean > 0.25, base - slope * mean, 0.0)
    shade = disc(side, column, row, diameter, image) * amplitude[:, None, None]
    return image.add_(
        blurred(shade, gaussian(sigma, down), gaussian(sigma, across))[:, None]
    ).clamp_(0, 1)


def spot(image, retina, draw):
    """Five to ten small bright blurred discs: dust on the lens."""
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
    margin = int(
        radius.max() + max(across.max(), down.max()) // 2 + 1
    )  # from a spot's centre to where nothing of it is left
    width = 2 * margin + 1
    centre = np.full(len(size), margin)
    patch = disc(width, centre, centre, 2 * radius, image) * along(amplitude, image)[:, None, None]
    patch = blurred(patch, gaussian(sigma, down), gaussian(sigma, across))
    wide = side + 2 * margin  # a frame around the image takes what a patch has beyond it: zeros
    corner = (np.nonzero(present)[0] * wide + row) * wide + column
    line = np.arange(width)
    pixel = (corner[:, None, None] + line[:, None] * wide + line).astype(
        np.int64
    )  # (M, width, width)
    light = image.new_zeros(images * wide * wide).scatter_add_(
        0, torch.from_numpy(pixel).to(image.device).flatten(), patch.flatten()
    )
    return image.add_(
        light.view(images, 1, wide, wide)[:, :, margin:-margin, margin:-margin]
    ).clamp_(0, 1)


def blur(image, retina, draw):
    """Gaussian blur, sigma in U(.1, 3) pixels, out to two sigma: the camera out of focus."""
    sigma = 0.1 + 2.9 * draw[:, 0]
    weight = along(gaussian(sigma, 2 * np.ceil(2 * sigma) + 1), image)
    return smoothed(smoothed(image, weight, 2), weight, 3)


OPERATIONS = {
    sharpness: 1,
    halo: 5,
    hole: 7,
    spot: 1 + 5 * SPOTS[1],
    blur: 1,
}  # operation -> numbers it takes, in the order of the paper
DRAWS = sum(1 + numbers for numbers in OPERATIONS.values())


# What the operations are made of. Arrays (N,) are parameters of the images, on the CPU


def whole(draw, low, high):
    """Whole numbers from low to high, both included, for draws in [0, 1); limits that are not whole are rounded inwards. (N,) float64."""
    low, high = np.ceil(low), np.floor(high)
    return low + np.floor(draw * (high - low + 1))


def odd(length):
    """The odd whole numbers nearest to lengths of at least 0."""
    return 2 * np.floor(length / 2) + 1


def pick(draw, probability):
    """(N,) index of an entry of `probability`, which sum to 1, for draws in [0, 1)."""
    return np.searchsorted(np.cumsum(probability)[:-1], draw, side="right")


def along(array, image):
    """An array of parameters as a tensor of an image's type on its device."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(image)


def disc(side, column, row, diameter, image):
    """(N, side, side) of an image's type: 1 within half a diameter of pixel (column, row), else 0."""
    line = np.arange(side)
    x, y = along((line - column[:, None]) ** 2, image), along((line - row[:, None]) ** 2, image)
    return (x[:, None, :] + y[:, :, None] <= along(diameter**2 / 4, image)[:, None, None]).to(image)


def gaussian(sigma, side):
    """(N, K) weights of each image's Gaussian of `sigma` pixels cut at `side` (odd), rows sum to 1; K is the longest side."""
    half = int(side.max()) // 2
    offset = np.arange(-half, half + 1)
    weight = np.exp(-(offset**2) / (2 * sigma[:, None] ** 2)) * (
        np.abs(offset) <= side[:, None] // 2
    )
    return weight / weight.sum(1, keepdims=True)


def smoothed(image, weight, axis):
    """(N, C, H, W) convolved along an axis with each image's own symmetric weights, (N, K), borders reflected; for short kernels."""
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


def blurred(shade, down, across):
    """Maps of one channel, (N, s, s), blurred by their own weights in each direction, (N, K), with reflected borders.

    As products with band matrices: for kernels of half the image these are many times faster than a convolution.
    """
    return (
        band(along(down, shade), shade.shape[1])
        @ shade
        @ band(along(across, shade), shade.shape[2]).mT
    )


def band(weight, side):
    """(N, K) symmetric weights -> (N, side, side) matrix that convolves a line, borders reflected without the border pixel; K < 2 side."""
    half = weight.shape[1] // 2
    last = side - 1
    table = F.pad(weight, (2 * last - half, 2 * last - half)).unfold(
        1, side, 1
    )  # row w starts at offset w - 2 last
    matrix = table[:, last : last + side].flip(1)  # offset j - i
    matrix[:, :, 1:] += table[
        :, 2 * last : 2 * last + side, 1:
    ]  # j + i: what lies left of the line
    matrix[:, :, :-1] += table[:, :side, :-1]  # j + i - 2 last: what lies right of it
    return matrix
