"""DDAIG (Zhou et al., 2020): a generator perturbs images so that a domain network errs and the grade network does not; both are trained on.

Three losses per step, each with its own optimiser: the generator's, the grade network's, the domain network's. Deviations: the perturbed
image is clamped to [0, 1]; the generator's step leaves the running statistics of the other two networks alone (the public trainer lets it
move them); the warm-up is a share of the training; learning rates are the shared recipe's. With one source domain there is no domain
network: the cell is degenerate.
"""

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import nn

from clipdr.methods.erm import Erm
from clipdr.methods.perturbation import Generator, still


class Ddaig(Erm):
    """strength, width : of the Generator
    alpha  : share of the perturbed images in the grade network's loss
    warmup : share of the training in which that loss is without them (3 of 100 epochs)
    """

    reads = "photograph"

    def __init__(self, backbone, strength=0.3, alpha=0.5, warmup=0.03, width=64):
        super().__init__(backbone)
        self.alpha, self.warmup = alpha, warmup
        self.generator = Generator(strength, width)
        self.domain_image = self.domain_head = None
        self.register_buffer("warm", torch.tensor(False))

    def begin(self, source):
        """The domain network: a copy of the pretrained image tower with one output per source domain."""
        self.first = round(self.warmup * source.steps)
        self.warm.fill_(self.first == 0)
        if len(source.train.domains) > 1:
            self.domain_image = deepcopy(self.image)
            self.domain_head = nn.Linear(self.head.in_features, len(source.train.domains)).to(
                self.head.weight.device
            )

    def degenerate(self, source):
        return "one source: no domain network" if len(source.train.domains) < 2 else ""

    def networks(self):
        """{phase: modules that it trains}."""
        found = {"generator": [self.generator], "main": [self.image, self.head]}
        return found | (
            {"domain": [self.domain_image, self.domain_head]} if self.domain_head else {}
        )

    def parameter_groups(self):
        return {
            phase: [
                parameter
                for module in modules
                for parameter in module.parameters()
                if parameter.requires_grad
            ]
            for phase, modules in self.networks().items()
        }

    def domain_logits(self, image):
        return self.domain_head(self.domain_image.pooled(image))

    def phases(self, batch):
        yield "generator", self.generator_loss(batch)
        yield "main", self.loss(batch)
        if self.domain_head:
            yield (
                "domain",
                {"domain": F.cross_entropy(self.domain_logits(batch.image), batch.domain)},
            )

    def generator_loss(self, batch):
        """Keep the grade, hide the domain; neither network moves."""
        networks = self.networks()
        with still(*networks["main"], *networks.get("domain", [])):
            new = self.generator(batch.image)
            parts = {"generator_grade": F.cross_entropy(self(new), batch.grade)}
            if self.domain_head:
                parts["generator_domain"] = -F.cross_entropy(self.domain_logits(new), batch.domain)
        return parts

    def loss(self, batch):
        """The grade network's: photographs, after the warm-up also the images of the generator as it is now."""
        ce = F.cross_entropy(self(batch.image), batch.grade)
        if not self.warm:
            return {"ce": ce}
        with torch.no_grad():
            new = self.generator(batch.image)
        return {
            "ce": (1 - self.alpha) * ce,
            "ce_perturbed": self.alpha * F.cross_entropy(self(new), batch.grade),
        }

    def after_step(self, step):
        self.warm.fill_(step >= self.first)
