"""Classifier on the features of both eyes, and the two protocols of fine-tuning it.

`linear` trains a linear head on the frozen image encoder, `full` trains the encoder with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from clipdr import DataError

if TYPE_CHECKING:
    from clipdr.pretrain.data.loader import Patients, Visits
    from clipdr.pretrain.model import RetClip


@dataclass(frozen=True)
class Protocol:
    """Settings of fine-tuning; the augmentation is that of `settings.Rules`.

    Attributes:
        lr_head: Learning rate of the head.
        decay_head: Weight decay of the head.
        betas_head: AdamW's betas of the head.
        lr_tower: Learning rate of the image encoder; 0 freezes it.
        decay_tower: Weight decay of the encoder's matrices.
        batch_size: Patients of a batch.
        epochs: Passes over the training split.
        crop: Smallest area of a random crop, as a share.
        jitter: Half width of the colour factors.
        rotate: Largest rotation in degrees.
        erase: Probability of an erased rectangle.
        vertical: Probability that both eyes are flipped upside down.
    """

    lr_head: float
    decay_head: float
    betas_head: tuple[float, float]
    lr_tower: float = 0.0
    decay_tower: float = 0.0
    batch_size: int = 16
    epochs: int = 50
    crop: float = 0.8
    jitter: float = 0.0
    rotate: float = 0.0
    erase: float = 0.2
    vertical: float = 0.5


PROTOCOLS = {
    "linear": Protocol(1e-3, 0.01, (0.9, 0.99)),
    "full": Protocol(
        1e-3, 0.0, (0.9, 0.999), 2e-6, 0.02, epochs=100, crop=0.6, jitter=0.1, rotate=15, erase=0.1
    ),
}


class BothEyes(nn.Module):
    """Linear classifier on the features of both eyes; one eye alone fills both halves.

    Args:
        model: Pre-trained network, whose image encoder gives the features.
        count: Number of findings C.
    """

    def __init__(self, model: RetClip, count: int) -> None:
        """Create the head, (2E) -> (C)."""
        super().__init__()
        self.model, self.head = model, nn.Linear(2 * model.width, count)

    def forward(self, batch: Patients) -> torch.Tensor:
        """Return (B, C) logits of the findings."""
        left, right = self.model.raw(batch.image, batch.present).unbind(1)
        there = batch.present[..., None]
        return self.head(
            torch.cat(
                [torch.where(there[:, 0], left, right), torch.where(there[:, 1], right, left)], 1
            )
        )


def protocol_of(name: str, epochs: int | None = None, lr_tower: float | None = None) -> Protocol:
    """Return a protocol of `PROTOCOLS`, with the values changed that are not None.

    Raises:
        DataError: If no protocol has this name.
    """
    if name not in PROTOCOLS:
        raise DataError(
            f"finetune: no protocol is named {name!r}. Use one of {', '.join(PROTOCOLS)}."
        )
    changes = {"epochs": epochs, "lr_tower": lr_tower}
    return replace(
        PROTOCOLS[name], **{key: value for key, value in changes.items() if value is not None}
    )


def parameter_groups(network: BothEyes, protocol: Protocol) -> list[dict[str, Any]]:
    """Return AdamW's parameter groups: the head, and where it is trained the image encoder.

    Vectors of the encoder have no weight decay. Everything else is frozen.
    """
    groups: list[dict[str, Any]] = [
        {
            "params": network.head.parameters(),
            "lr": protocol.lr_head,
            "weight_decay": protocol.decay_head,
            "betas": protocol.betas_head,
        }
    ]
    network.model.requires_grad_(False)
    if protocol.lr_tower:
        network.model.image.requires_grad_(True)
        for decays in (True, False):
            parameters = [
                parameter
                for parameter in network.model.image.parameters()
                if (parameter.ndim >= 2) == decays
            ]
            groups.append(
                {
                    "params": parameters,
                    "lr": protocol.lr_tower,
                    "weight_decay": protocol.decay_tower * decays,
                    "betas": (0.9, 0.98),
                }
            )
    return groups


def flip_upside_down(batch: Patients, share: float, key: tuple[int, ...]) -> Patients:
    """Flip both eyes of randomly chosen patients vertically; `key` seeds the choice."""
    chosen = torch.from_numpy(np.random.default_rng(key).random(len(batch.image)) < share)[
        :, None, None, None, None
    ]
    return batch._replace(image=torch.where(chosen, batch.image.flip(-2), batch.image))


@torch.no_grad()
def predict(
    network: BothEyes, visits: Visits, device: str | torch.device, count: int = 64
) -> np.ndarray:
    """Return (N, C) float64 probabilities of all visits without augmentation, in chunks."""
    network.eval()
    batches = [
        visits.batch(np.arange(start, min(start + count, len(visits)))).to(device)
        for start in range(0, len(visits), count)
    ]
    return torch.cat([network(batch).double().sigmoid().cpu() for batch in batches]).numpy()
