"""Base class of all methods: the interface that the training loop calls."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch.nn.functional as F
from torch import nn

from clipdr import DataError
from clipdr.data.loader import Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from clipdr.data.loader import Batch
    from clipdr.models.backbone import Backbone


class Source(NamedTuple):
    """Data and budget that a method may use before the first step.

    The held-out domain is not part of it.

    Attributes:
        train: Training rows of the source domains.
        val: Validation rows of the source domains.
        steps_per_epoch: Training steps of an epoch.
        steps: Training steps of the whole run.
    """

    train: Rows
    val: Rows
    steps_per_epoch: int
    steps: int


class Method(nn.Module):
    """Base class of the grading methods.

    The keyword arguments of a subclass, with their defaults, are the hyper-parameters of the
    method.

    Args:
        backbone: Image encoder, text encoder and scale of their cosine.

    Raises:
        DataError: If the method reads images and the backbone returns cached features.

    Attributes:
        reads: What the method reads. "any": images, or cached features where the image encoder is
            frozen. "features": only cached features. "images": only images, because it changes
            pixels, trains the image encoder or uses its layers.
        scale: Multiplier of the cosine in the logits; NaN where the logits are not similarities.
        sampler: Setting `training.sampler` that the method needs, used where the study leaves it at
            "none".
        average: Setting `training.average` that the method needs, used where the study leaves it at
            "none".
        image: Image encoder.
        chosen: Choices made on the source domains besides the weights, by name; recorded with the
            run.
    """

    reads: ClassVar[str] = "any"
    scale: float = math.nan
    sampler: ClassVar[str] = "none"
    average: ClassVar[str] = "none"

    def __init__(self, backbone: Backbone):
        """Take over the image encoder of the backbone."""
        super().__init__()
        if backbone.cached and self.reads == "images":
            name = type(self).__module__.rpartition(".")[2]
            raise DataError(
                f"{name}: the method reads images, not cached features of a frozen encoder. "
                f"Set options.{name}.frozen to false."
            )
        self.image = backbone.image
        self.chosen: dict[str, Any] = {}

    def begin(self, source: Source) -> None:
        """Prepare for training; called once before the first step.

        Subclasses count images, compute closed-form solutions, or choose a setting on source
        validation.

        Args:
            source: Data and budget of the fold.
        """

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Predict logits. Grades are never an input.

        Args:
            image: (B, 3, S, S) float32 in [0, 1], or cached features (B, D) float32.

        Returns:
            Logits (B, 5) float32.
        """
        raise NotImplementedError

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Compute the loss of a batch; the default is cross-entropy.

        Args:
            batch: Training images with grades and domains.

        Returns:
            Weighted terms of the loss by name, scalars. The loss is their sum.
        """
        return {"ce": F.cross_entropy(self(batch.image), batch.grade)}

    def phases(self, batch: Batch) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        """Yield (phase, terms of its loss).

        The loop steps the phase's optimiser before it asks for the next phase.

        Args:
            batch: Training images with grades and domains.
        """
        yield "main", self.loss(batch)

    def parameter_groups(self) -> dict[str, list[Any]]:
        """Return the trained parameters of each phase.

        Returns:
            {phase: parameters, or dictionaries as torch's optimisers take them}; empty if nothing
            is trained (0 steps). The key `lr_multiplier` of such a dictionary (default 1)
            multiplies the learning rate of its parameters.
        """
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return {"main": trained} if trained else {}

    def after_step(self, step: int) -> None:
        """Update the method's own state; called after each optimiser step.

        Args:
            step: Number of finished steps.
        """

    def restarts(self, step: int) -> bool:  # noqa: ARG002  (for subclasses)
        """Return whether the optimisers drop momentum and moments after this step.

        This is useful where the loss changes.

        Args:
            step: Number of finished steps.
        """
        return False

    def degenerate(self, source: Source) -> str:  # noqa: ARG002  (for subclasses)
        """Return why the method is degenerate on a source: a component has no effect there.

        Args:
            source: Data and budget of the fold.

        Returns:
            A short reason for the tables, which do not rank such a cell; "" where the method is
            complete.
        """
        return ""
