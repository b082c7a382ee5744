"""Speed of FundusAug on a batch against a loop over the images with torchvision's operations.

Both read the same random numbers and are asserted to agree before anything is measured. The
reference follows section "FundusAug" of Che et al. (2023) as it stands: discs by their equation,
every blur by torchvision's gaussian_blur, spots one by one. The released code is faster than that
loop, because it draws one set of parameters per batch. Output: a Markdown row, images per second of
one thread (CPU seconds).

    python benchmarks/bench_fundus_aug.py [--size 256] [--batch 16] [--pairs 5]
"""

import math

import numpy as np
import torch
from _harness import COLUMNS, Results, clock, paired, parser
from torchvision.transforms.v2 import functional as T

from clipdr.data.fundus_aug import DRAWS, fundus_aug


def whole(draw, low, high):
    """A whole number from low to high, both included."""
    return low + int(draw * (high - low + 1))


def odd(length):
    length = math.floor(length)
    return length + 1 - length % 2


def pick(draw, values, probabilities):
    for value, probability in zip(values, probabilities, strict=True):
        draw -= probability
        if draw < 0:
            return value
    return values[-1]


def disc(side, column, row, diameter):
    """(1, side, side) float32, 1 inside."""
    y, x = np.mgrid[:side, :side]
    return torch.from_numpy(
        ((x - column) ** 2 + (y - row) ** 2 <= (diameter / 2) ** 2).astype(np.float32)
    )[None]


def sharpness(image, _retina, u):
    return T.adjust_sharpness(image, 2 * u[0])


def halo(image, _retina, u):
    s = image.shape[-1]
    c = whole(u[0], math.ceil(s / 2 - s / 8), math.floor(s / 2 + s / 8))
    a = s * (0.75 + 0.25 * u[1])
    w = 2 * math.floor(math.sqrt(2) * max(c, s - c)) / s
    factor = pick(u[3], (1, 1.2, 1.5, 2), (0.8, 0.1, 0.05, 0.05))
    tint = pick(u[4], ((251, 249, 246), (141, 238, 238), (177, 195, 147)), (0.025, 0.65, 0.325))
    outer = s * (1 + u[2] * (w - 1)) + c + (s / 6 if tint[0] == 251 else 0)
    ring = image.mean() * factor * (disc(s, c, c, outer) * (1 - disc(s, c, c, a)))
    g = math.floor(abs(2 * max(c, s - c) - a))
    ring = T.gaussian_blur(ring, odd(g), 2 * g / 3 + 0.01)
    return (image + ring * torch.tensor(tint)[:, None, None] / 255).clamp(0, 1)


def hole(image, retina, u):
    s = image.shape[-1]
    diameter = whole(u[0], math.ceil(0.4 * s), math.floor(0.9 * s))
    column = whole(u[1], math.ceil(s / 4), math.floor(3 * s / 4))
    row = whole(u[2], math.ceil(3 * s / 8), math.floor(5 * s / 8))
    sides = [odd(diameter * (0.55 + 0.2 * u[axis])) for axis in (3, 4)]
    mean = image[retina.expand_as(image)].mean()
    if mean <= 0.25:
        return image
    amplitude = -0.262 + 0.002 * u[5] - (0.05 + 0.01 * u[6]) * mean
    sigma = 0.8 * max(sides)
    return (
        image + T.gaussian_blur(amplitude * disc(s, column, row, diameter), sides, [sigma, sigma])
    ).clamp(0, 1)


def spot(image, _retina, u):
    s = image.shape[-1]
    for number in range(whole(u[0], 5, 10)):
        v = u[1 + 5 * number : 6 + 5 * number]
        r = whole(v[0], math.ceil(0.01 * s), max(math.ceil(0.01 * s), math.floor(0.05 * s)))
        column, row = (whole(draw, r + 1, s - 1 - (r + 1)) for draw in v[1:3])
        sigma = 2 * (5 + 20 * r / 25)
        sides = [odd(sigma * (1 / 5 + draw * (1 / 4 - 1 / 5))) for draw in v[3:5]]
        k, beta, d = 14 / 25 + 1 - r / 25, 0.5 + r / 25, 0.3 * r / 25
        light = k * (1 - math.exp(-beta * d)) * disc(s, column, row, 2 * (r // 2))
        image = (image + T.gaussian_blur(light, sides, [sigma, sigma])).clamp(0, 1)
    return image


def blur(image, _retina, u):
    sigma = 0.1 + 2.9 * u[0]
    return T.gaussian_blur(image, 2 * math.ceil(2 * sigma) + 1, sigma)


OPERATIONS = ((sharpness, 1), (halo, 5), (hole, 7), (spot, 51), (blur, 1))


def by_image(image, retina, draw):
    """FundusAug of one image: (3, s, s) float32, (1, s, s) bool, (DRAWS,) in [0, 1)."""
    for operation, count in OPERATIONS:
        if draw[0] < 0.5:
            image = operation(image, retina, draw[1 : 1 + count])
        draw = draw[1 + count :]
    return image * retina


def main():
    options = parser(__doc__)
    options.add_argument("--size", type=int, default=256, help="side of an image, pixels")
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--pairs", type=int, default=5)
    arguments = options.parse_args()
    now, side, results = clock(1), arguments.size, Results(__file__, arguments)
    generator = np.random.default_rng(0)
    image = (
        torch.from_numpy(generator.random((arguments.batch, 3, side, side), np.float32)) * 0.6 + 0.1
    )
    retina = disc(side, side / 2, side / 2, side)[None].bool().expand(arguments.batch, -1, -1, -1)
    image, draw = image * retina, generator.random((arguments.batch, DRAWS))

    def reference():
        return torch.stack([by_image(*one) for one in zip(image, retina, draw, strict=True)])

    torch.testing.assert_close(fundus_aug(image, retina, draw), reference(), rtol=0, atol=2e-5)
    seconds = paired(
        lambda: fundus_aug(image, retina, draw), reference, arguments.pairs, now, repeats=4
    )
    results.table(*COLUMNS)
    work = f"FundusAug, batch {arguments.batch} at {side} px"
    results.compare(work, seconds, ">= 8", count=arguments.batch)
    results.write()


if __name__ == "__main__":
    main()
