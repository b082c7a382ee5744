"""A toy study with a known answer: the grade is the number of bright bars."""

import numpy as np

DOMAINS = ("SIM_APTOS", "SIM_IDRID", "SIM_RLDR")
SIDE = 32


def draw(grade, tint, rng):
    """A (SIDE, SIDE, 3) uint8 picture: a tinted disc with one bright bar per grade."""
    picture = np.full((SIDE, SIDE, 3), tint, np.float64) + rng.normal(0, 6, (SIDE, SIDE, 3))
    for bar in range(grade):
        picture[4 + 5 * bar : 7 + 5 * bar, 4:28] += 110
    return picture.clip(0, 255).astype(np.uint8)
