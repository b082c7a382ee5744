"""A toy study in which the grade is the number of bright bars."""

import numpy as np

DOMAINS = ("SIM_APTOS", "SIM_IDRID", "SIM_RLDR")
SIDE = 32


def render_toy(grade, tint, rng):
    """A (SIDE, SIDE, 3) uint8 image: a tinted square with one bright bar per grade."""
    image = np.full((SIDE, SIDE, 3), tint, np.float64) + rng.normal(0, 6, (SIDE, SIDE, 3))
    for bar in range(grade):
        image[4 + 5 * bar : 7 + 5 * bar, 4:28] += 110
    return image.clip(0, 255).astype(np.uint8)
