"""RET-CLIP (Du et al., 2024): one image encoder for both eyes, three image and three text heads.

Input: a batch of patients (images of both eyes, which of them are present, tokens of the report).
Output: unit vectors at three levels; the losses are those of `clipdr.pretrain.losses`. Raw image
features are never compared with text, because they are not in the trained space. (The released
single-image path did so.)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from clipdr import DataError

if TYPE_CHECKING:
    from clipdr.models.report_encoder import HuggingFaceReportEncoder, SmallReportEncoder

LEVELS = ("left", "right", "patient")
LARGEST = math.log(100)  # of the log temperatures t_x


class Aligned(NamedTuple):
    """Unit vectors in the trained space of one level; they may be compared with its texts."""

    level: str
    vector: torch.Tensor  # (N, E)


class RetClip(nn.Module):
    """Image and text encoder with a pair of heads per level.

    Args:
        image: Image encoder, (N, 3, S, S) -> (N, E); called once for both eyes.
        text: Report encoder, (N, L) tokens -> (N, width).
        width: E.
        start: First value of the three t_x; cosines are multiplied by exp(t_x).
    """

    def __init__(
        self,
        image: nn.Module,
        text: SmallReportEncoder | HuggingFaceReportEncoder,
        width: int,
        start: float,
    ) -> None:
        """Create the heads with random weights."""
        super().__init__()
        self.image, self.text, self.width = image, text, width
        self.image_heads = nn.ModuleDict(
            {
                level: nn.Linear((1 + (level == "patient")) * width, width, bias=False)
                for level in LEVELS
            }
        )
        self.text_heads = nn.ModuleDict({level: text_head(text.width, width) for level in LEVELS})
        self.log_scale = nn.Parameter(torch.full((len(LEVELS),), float(start)))

    def raw(self, image: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Encode the images of both eyes.

        Only present images pass through the encoder, so that absent ones do not enter BatchNorm.

        Args:
            image: (B, 2, 3, S, S) float32 in [0, 1].
            present: (B, 2) bool.

        Returns:
            (B, 2, E) raw features v, zeros where absent.
        """
        features = self.image(image[present])
        out = features.new_zeros(*present.shape, self.width)
        out[present] = features
        return out

    def project(self, raw: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Project raw features into the trained spaces.

        Args:
            raw: (B, 2, E) raw features.
            present: (B, 2) bool. One eye alone fills both halves of the patient's head.

        Returns:
            (3, B, E) unit vectors.
        """
        left, right = raw.unbind(1)
        both = torch.cat(
            [torch.where(present[:, :1], left, right), torch.where(present[:, 1:], right, left)], 1
        )
        vectors = {"left": left, "right": right, "patient": both}
        return torch.stack(
            [F.normalize(self.image_heads[level](vectors[level]), dim=-1) for level in LEVELS]
        )

    def report(self, token: torch.Tensor) -> torch.Tensor:
        """Encode reports, (B, T, L) int64 tokens -> (3, B, E) unit vectors; T is 1 or 3."""
        hidden = self.text(token.flatten(0, 1)).unflatten(0, token.shape[:2])  # (B, T, width)
        return torch.stack(
            [
                F.normalize(
                    self.text_heads[level](hidden[:, min(number, token.shape[1] - 1)]), dim=-1
                )
                for number, level in enumerate(LEVELS)
            ]
        )

    def forward(
        self, image: torch.Tensor, present: torch.Tensor, token: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encode a batch.

        Args:
            image: (B, 2, 3, S, S) float32 in [0, 1].
            present: (B, 2) bool.
            token: (B, T, L) int64.

        Returns:
            Unit vectors of images and of texts, both (3, B, E), and the multipliers T_x, (3,).
        """
        return (
            self.project(self.raw(image, present), present),
            self.report(token),
            self.log_scale.exp(),
        )

    @torch.no_grad()
    def clamp(self) -> None:
        """Clamp the t_x to [0, log 100], after each step."""
        self.log_scale.clamp_(0, LARGEST)

    def eyes(self, image: torch.Tensor, side: str = "unknown") -> Aligned:
        """Encode single eyes.

        Args:
            image: (N, 3, S, S) float32 in [0, 1].
            side: "left" or "right": the head of the side; "unknown": the patient's head, with the
                eye in both halves.

        Raises:
            DataError: If the side is another word.
        """
        if side not in (*LEVELS[:2], "unknown"):
            raise DataError(f"ret_clip: side is {side!r}. Use left, right or unknown.")
        slot = int(side == "right")
        level = "patient" if side == "unknown" else side
        present = torch.zeros(len(image), 2, dtype=torch.bool, device=image.device)
        present[:, slot] = True
        pair = image.new_zeros(len(image), 2, *image.shape[1:])
        pair[:, slot] = image
        return Aligned(level, self.project(self.raw(pair, present), present)[LEVELS.index(level)])


def text_head(width: int, out: int) -> nn.Sequential:
    """Create the text MLP of a level: Linear, ReLU, Linear.

    Weights are N(0, width ** -0.5), biases 0.
    """
    first, last = nn.Linear(width, width), nn.Linear(width, out)
    for layer in (first, last):
        nn.init.normal_(layer.weight, std=width**-0.5)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.ReLU(), last)


def compare(
    image: Aligned | torch.Tensor, text: Aligned | torch.Tensor, scale: float = 1.0
) -> torch.Tensor:
    """Compute cosines of image and text vectors of one level.

    Args:
        image: (N, E) image vectors; a plain tensor is refused.
        text: (M, E) text vectors; a plain tensor is refused.
        scale: Multiplier.

    Returns:
        (N, M) cosines times scale.

    Raises:
        DataError: If the vectors are of two levels, or not `Aligned`.
    """
    if not (isinstance(image, Aligned) and isinstance(text, Aligned)) or image.level != text.level:
        raise DataError(
            "ret_clip: these vectors are not comparable, they are of two levels or not projected. "
            "Use RetClip.eyes, project or report."
        )
    return scale * image.vector @ text.vector.T
