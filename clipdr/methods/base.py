"""Method: the contract between a way of grading and the one training loop."""

import math
from typing import NamedTuple

import torch.nn.functional as F
from torch import nn

from clipdr import DataError
from clipdr.data.loader import Rows


class Source(NamedTuple):
    """What a method may see before the first step: the source domains' training and validation rows, the steps of an epoch and of all."""

    train: Rows
    val: Rows
    steps_per_epoch: int
    steps: int


class Method(nn.Module):
    """A way of grading. Constructor: (backbone, **options); the keywords with their defaults are the list of hyper-parameters.

    reads  : "image" (photographs, or features where the image tower is frozen) | "feature" (features of the frozen tower only)
             | "photograph" (never features: it changes pixels, trains the tower or looks inside it)
    scale  : multiplier of the cosine in the logits; NaN where the logits are no similarities
    sampler, average : of `training`, which the method needs; they hold where the study leaves these at none (recorded in settings.json)
    chosen : what was chosen on the source domains besides the weights, by name (reported with the run)
    """

    reads = "image"
    scale = math.nan
    sampler = "none"
    average = "none"

    def __init__(self, backbone):
        super().__init__()
        if backbone.cached and self.reads == "photograph":
            name = type(self).__module__.rpartition(".")[2]
            raise DataError(
                f"{name} reads photographs, not features of a frozen image tower: set options.{name}.frozen to false"
            )
        self.image = backbone.image
        self.chosen = {}

    def begin(self, source):
        """Called once before training with the Source of the fold: counts, closed-form solutions, choices on source validation."""

    def forward(self, image):
        """(B, 3, S, S) float32 in [0, 1], or (B, D) features -> (B, 5) logits. Never sees a grade."""
        raise NotImplementedError

    def loss(self, batch):
        """The parts of the loss of a Batch by name, each weighted; the loss is their sum."""
        return {"ce": F.cross_entropy(self(batch.image), batch.grade)}

    def phases(self, batch):
        """Generator of (parameter group, parts of its loss); each is stepped before the generator goes on."""
        yield "main", self.loss(batch)

    def parameter_groups(self):
        """{phase: parameters that its optimiser trains}; empty where nothing is trained (0 steps).

        Parameters, or torch's groups of them, whose key `pace` (default 1) is their share of the learning rate.
        """
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return {"main": trained} if trained else {}

    def after_step(self, step):
        """Called after each optimiser step; step: number of steps done."""

    def restarts(self, step):
        """Whether the optimisers forget their state (momentum, moments) after this many steps: the loss has changed."""
        return False

    def degenerate(self, source):
        """Why this method is not itself on a Source, in a few words for the tables ("" where it is): a part of it vanishes there."""
        return ""
