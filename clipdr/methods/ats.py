"""ATS, own reading (Yang et al., 2021): student-teacher learning from perturbed images.

The student learns to keep the features of its teacher, which is a moving average of it.

Deviations: neither code nor full text was available. The losses, the generator (DDAIG's) and all
constants are a reading of the idea, and tables state this. The momentum of the teacher's average
rises to tau as in mean teachers (Tarvainen and Valpola, 2017), so that short runs have a teacher
too.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, Self

import torch
import torch.nn.functional as F

from clipdr.methods.erm import Erm
from clipdr.methods.perturbation import Generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clipdr.data.loader import Batch
    from clipdr.methods.base import Source
    from clipdr.models.backbone import Backbone
    from clipdr.models.image_tower import ImageTower


class Ats(Erm):
    """Student with a moving-average teacher; the teacher predicts.

    x' is the perturbed image, d the mean squared distance of normalised features. The losses are:

    - Student: CE(x) + CE(x') + feature_weight * d(teacher(x), student(x')).
    - Generator: CE of the teacher on x' - min(generator_weight * d(teacher(x), teacher(x')), 1).

    Args:
        backbone: Image encoder.
        strength: Largest change of a pixel, 0..1.
        tau: Momentum of the teacher, 0..1.
        feature_weight: Weight of the student's distance to the teacher's features, >= 0.
        generator_weight: Weight of the distance that the generator maximises, >= 0.
        warmup: Share of the training before the generator is trained, 0..1 (default: 3 of 100
            epochs).
        width: Channels of the generator's hidden layers.
    """

    reads = "images"
    image: ImageTower
    warm: torch.Tensor

    def __init__(
        self,
        backbone: Backbone,
        strength: float = 0.3,
        tau: float = 0.999,
        feature_weight: float = 1.0,
        generator_weight: float = 1.0,
        warmup: float = 0.03,
        width: int = 64,
    ):
        """Create student, generator and teacher."""
        super().__init__(backbone)
        self.tau, self.warmup = tau, warmup
        self.feature_weight, self.generator_weight = feature_weight, generator_weight
        self.generator = Generator(strength, width)
        self.teacher_image = deepcopy(self.image).requires_grad_(False)
        self.teacher_head = deepcopy(self.head).requires_grad_(False)
        self.register_buffer("warm", torch.tensor(False))

    def begin(self, source: Source) -> None:
        """Compute the length of the warm-up."""
        self.first = round(self.warmup * source.steps)
        self.warm.fill_(self.first == 0)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the student; the teacher stays in evaluation mode.

        The teacher's batch normalisation uses the statistics copied from the student.
        """
        super().train(mode)
        self.teacher_image.eval()
        return self

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Predict logits with the teacher, see `Method.forward`."""
        return self.teacher_head(self.teacher_image.pooled(image))

    def parameter_groups(self) -> dict[str, list[Any]]:
        """Return the parameters of the phases "generator" and "main" (the student)."""
        student = [
            parameter
            for module in (self.image, self.head)
            for parameter in module.parameters()
            if parameter.requires_grad
        ]
        return {"generator": list(self.generator.parameters()), "main": student}

    def phases(self, batch: Batch) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        """Yield the generator after the warm-up, then the student, see `Method.phases`."""
        if self.warm:
            yield "generator", self.generator_loss(batch)
        yield "main", self.loss(batch)

    def generator_loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Compute the generator's terms: keep the teacher's grade, move its features."""
        new = self.teacher_image.pooled(self.generator(batch.image))
        moved = feature_distance(self.teacher_image.pooled(batch.image), new)
        return {
            "generator_grade": F.cross_entropy(self.teacher_head(new), batch.grade),
            "generator_moved": -(self.generator_weight * moved).clamp(max=1),
        }

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Compute the student's terms "ce", "ce_perturbed" and "feature", see `Method.loss`."""
        with torch.no_grad():
            new = self.generator(batch.image)
            taught = self.teacher_image.pooled(batch.image)
        features, new_features = self.image.pooled(batch.image), self.image.pooled(new)
        return {
            "ce": F.cross_entropy(self.head(features), batch.grade),
            "ce_perturbed": F.cross_entropy(self.head(new_features), batch.grade),
            "feature": self.feature_weight * feature_distance(taught, new_features),
        }

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Update the teacher as a moving average of the student; copy its BatchNorm statistics."""
        self.warm.fill_(step >= self.first)
        tau = min(self.tau, 1 - 1 / (step + 1))
        for teacher, student in ((self.teacher_image, self.image), (self.teacher_head, self.head)):
            for average, new in zip(teacher.parameters(), student.parameters(), strict=True):
                average.lerp_(new, 1 - tau)
            for average, new in zip(teacher.buffers(), student.buffers(), strict=True):
                average.copy_(new)


def feature_distance(features: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Compute the mean squared distance of two sets of features at unit length.

    Args:
        features: (B, F) float32.
        others: (B, F) float32.

    Returns:
        Scalar in 0..4.
    """
    return (F.normalize(features, dim=1) - F.normalize(others, dim=1)).square().sum(1).mean()
