"""Augmentation of patients beyond that of `clipdr.data.augmentation`: rotation, flips, erasing.

Every random number comes from the caller, so that a batch is a function of its keys.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from clipdr.data.augmentation import DRAWS, rotated

if TYPE_CHECKING:
    from clipdr.pretrain.settings import Rules

ERASED = (0.02, 0.33)  # smallest and largest area of an erased rectangle, as a share of the image
# Positions of the uniform numbers of an eye that follow those of clipdr.data.augmentation
ROTATION, FLIP, ERASE, MIRROR = DRAWS, DRAWS + 1, slice(DRAWS + 2, DRAWS + 7), DRAWS + 7
NUMBERS = DRAWS + 8  # of an eye


def rotate_flip_erase(image: torch.Tensor, draw: np.ndarray, rules: Rules) -> torch.Tensor:
    """Rotate, flip each eye alone (`flip: upstream`) and erase rectangles.

    Args:
        image: (n, 3, S, S) float32 in [0, 1], changed in place.
        draw: (n, NUMBERS) uniform numbers in [0, 1).
        rules: Settings of the run.

    Returns:
        (n, 3, S, S) float32.
    """
    if rules.rotate:
        image = rotated(image, torch.from_numpy(rules.rotate * (2 * draw[:, ROTATION] - 1)))
    if rules.flip == "upstream":
        flipped = torch.from_numpy(draw[:, FLIP] < 0.5)[:, None, None, None]
        image = torch.where(flipped, image.flip(3), image)
    side = rules.side
    for target, (whether, share, ratio, top, left) in zip(image, draw[:, ERASE], strict=True):
        if whether < rules.erase:
            area = side * side * (ERASED[0] + (ERASED[1] - ERASED[0]) * share)
            ratio = math.exp(math.log(3.3) * (2 * ratio - 1))
            high, wide = (
                min(side, max(1, round(math.sqrt(square))))
                for square in (area * ratio, area / ratio)
            )
            top, left = int(top * (side - high + 1)), int(left * (side - wide + 1))
            target[:, top : top + high, left : left + wide] = 0
    return image


def mirrored(
    image: torch.Tensor, present: torch.Tensor, member: torch.Tensor, chosen: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mirror some patients: flip both images and exchange the eyes. Twice is the identity.

    Args:
        image: (B, 2, 3, S, S).
        present: (B, 2) bool.
        member: (3, B) bool.
        chosen: (B,) bool, the patients to mirror.

    Returns:
        image, present and member of the same shapes.
    """
    pick = chosen[:, None, None, None, None]
    image = torch.where(pick, image.flip(-1).flip(1), image)
    present = torch.where(chosen[:, None], present.flip(1), present)
    member = torch.where(chosen, member[[1, 0, 2]], member)
    return image, present, member
