"""Speed of a CoOp training step: cached features of the frozen image tower against the released way, which runs the tower every step.

CLIP's RN50 with random weights, batch of 16 at 224 px. Released way: image tower forward in float32 (evaluation mode, no gradient) and
the text tower over all 77 positions. Ours: `Features.batch` on a memory-mapped cache and `train_step`, the text tower over the used
positions. Same images, prompts and optimiser; the two losses are asserted to agree before anything is timed. Computing the cache costs
each photograph one forward pass, once per tower: it is printed, not timed in the step.

    python benchmarks/coop.py [--pairs 10] [--batch 16] [--threads 1]
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from load import DOMAIN, stored
from losses import clock, paired, row
from step import RN50, hand_written, whole_image, whole_text

from clipdr.data.loader import Features
from clipdr.methods import load
from clipdr.models.backbone import Backbone
from clipdr.models.prompts import similarity
from clipdr.training.loop import OPTIMIZERS, predict, train_step

SIDE = 224


def released_loss(tower):
    """Loss of a CoOp step that runs the frozen image tower: f(method, batch of photographs) -> scalar."""

    def loss(method, batch):
        with torch.no_grad():
            features = whole_image(tower, batch.image)
        return F.cross_entropy(
            similarity(features, whole_text(method.prompts), method.scale), batch.grade
        )

    return loss


def coop(cached):
    """CoOp on cached features, its parameters drawn from one seed, and its optimiser."""
    torch.manual_seed(0)
    method = load("coop")(Backbone(RN50, SIDE, cached=cached)).train()
    return method, OPTIMIZERS["sgd"](method.parameter_groups()["main"], 2e-3, 0)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument(
        "--images", type=int, default=32, help="photographs whose features are cached"
    )
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    now = clock(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        images = stored(folder, arguments.images, SIDE, SIDE, "none")
        backbone = Backbone(RN50, SIDE)
        tower = backbone.image.eval()
        cached = {"scale": np.float64(backbone.scale)} | {
            bank: features.numpy() for bank, features in backbone.banks.items()
        }
        start = now()
        np.save(Path(folder) / "features.npy", predict(tower, images))
        print(f"cache: {(now() - start) / arguments.images * 1e3:.0f} ms a photograph, once")
        features = Features(
            images.frame, {DOMAIN: np.load(Path(folder) / "features.npy", mmap_mode="c")}, [DOMAIN]
        )
        (ours, our_optimizer), (theirs, their_optimizer) = coop(cached), coop(cached)
        loss, photographs = released_loss(tower), images.batch(0, arguments.batch, 0)
        with torch.no_grad():
            own = sum(ours.loss(features.batch(0, arguments.batch, 0)).values())
            torch.testing.assert_close(own, loss(theirs, photographs), rtol=1e-4, atol=1e-4)
        steps = iter(range(10**9))
        seconds = paired(
            lambda: train_step(
                ours, {"main": our_optimizer}, features.batch(next(steps), arguments.batch, 0), 0.0
            ),
            lambda: hand_written(theirs, their_optimizer, photographs, loss),
            arguments.pairs,
            now,
            repeats=3,
        )
    row(f"step of coop, CLIP RN50, {SIDE} px, batch {arguments.batch}", seconds, ">= 8")


if __name__ == "__main__":
    main()
