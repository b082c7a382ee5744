"""DDAIG (Zhou et al., 2020): a generator perturbs images to hide the domain and keep the grade.

Each step has three losses with their own optimisers: the generator's, the grade network's and the
domain network's.

Deviations: The perturbed image is clamped to [0, 1]. The generator's step leaves the running
statistics of the other two networks unchanged (the public trainer updates them). The warm-up is a
share of the training. Learning rates are those of the shared recipe.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from clipdr.methods.erm import Erm
from clipdr.methods.perturbation import Generator, without_updates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clipdr.data.loader import Batch
    from clipdr.methods.base import Source
    from clipdr.models.backbone import Backbone
    from clipdr.models.image_tower import ImageTower


class Ddaig(Erm):
    """ERM on images and their perturbations x'.

    The losses are:

    - Generator: CE(grade of x') - CE(domain of x').
    - Grade network: (1 - alpha) CE(x) + alpha CE(x'); CE(x) alone in the warm-up.
    - Domain network: CE(domain of x).

    On one source domain there is no domain network, and the method is degenerate.

    Args:
        backbone: Image encoder.
        strength: Largest change of a pixel, 0..1.
        alpha: Share of the perturbed images in the grade network's loss, 0..1.
        warmup: Share of the training without perturbed images in that loss, 0..1 (default: 3 of 100
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
        alpha: float = 0.5,
        warmup: float = 0.03,
        width: int = 64,
    ):
        """Create head and generator; `begin` creates the domain network."""
        super().__init__(backbone)
        self.alpha, self.warmup = alpha, warmup
        self.generator = Generator(strength, width)
        self.domain_image: ImageTower | None = None
        self.domain_head: nn.Linear | None = None
        self.register_buffer("warm", torch.tensor(False))

    def begin(self, source: Source) -> None:
        """Create the domain network: a copy of the encoder with one output per source domain."""
        self.first = round(self.warmup * source.steps)
        self.warm.fill_(self.first == 0)
        if len(source.train.domains) > 1:
            self.domain_image = deepcopy(self.image)
            self.domain_head = nn.Linear(self.head.in_features, len(source.train.domains)).to(
                self.head.weight.device
            )

    def degenerate(self, source: Source) -> str:
        """Return why the method is degenerate: one source domain."""
        return "one source domain: no domain network" if len(source.train.domains) < 2 else ""

    def networks(self) -> dict[str, list[nn.Module]]:
        """Return {phase: modules that it trains}."""
        networks: dict[str, list[nn.Module]] = {
            "generator": [self.generator],
            "main": [self.image, self.head],
        }
        if self.domain_image and self.domain_head:
            networks["domain"] = [self.domain_image, self.domain_head]
        return networks

    def parameter_groups(self) -> dict[str, list[Any]]:
        """Return the parameters of the phases "generator", "main" and "domain"."""
        return {
            phase: [
                parameter
                for module in modules
                for parameter in module.parameters()
                if parameter.requires_grad
            ]
            for phase, modules in self.networks().items()
        }

    def domain_loss(self, image: torch.Tensor, domain: torch.Tensor) -> torch.Tensor | None:
        """Compute the cross-entropy of the domain network, None on one source domain.

        Args:
            image: (B, 3, S, S) float32 in [0, 1].
            domain: (B,) int64, index of the source domain.
        """
        if self.domain_image is None or self.domain_head is None:
            return None
        return F.cross_entropy(self.domain_head(self.domain_image.pooled(image)), domain)

    def phases(self, batch: Batch) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        """Yield generator, grade network and domain network, see `Method.phases`."""
        yield "generator", self.generator_loss(batch)
        yield "main", self.loss(batch)
        domain = self.domain_loss(batch.image, batch.domain)
        if domain is not None:
            yield "domain", {"domain": domain}

    def generator_loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Compute the generator's terms: keep the grade, hide the domain.

        The other networks do not change.
        """
        networks = self.networks()
        with without_updates(*networks["main"], *networks.get("domain", [])):
            new = self.generator(batch.image)
            terms = {"generator_grade": F.cross_entropy(self(new), batch.grade)}
            domain = self.domain_loss(new, batch.domain)
            if domain is not None:
                terms["generator_domain"] = -domain
        return terms

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Compute the grade network's terms "ce" and, after the warm-up, "ce_perturbed"."""
        ce = F.cross_entropy(self(batch.image), batch.grade)
        if not self.warm:
            return {"ce": ce}
        with torch.no_grad():
            new = self.generator(batch.image)
        return {
            "ce": (1 - self.alpha) * ce,
            "ce_perturbed": self.alpha * F.cross_entropy(self(new), batch.grade),
        }

    def after_step(self, step: int) -> None:
        """End the warm-up when its steps are done."""
        self.warm.fill_(step >= self.first)
