"""Speed of a CoOp training step: cached features of the frozen encoder against encoding every step.

CLIP's RN50 with random weights, batch of 16 at 224 px. The reference follows the released code:
forward pass of the image encoder in float32 (evaluation mode, no gradient), and the text encoder
over all 77 positions. Ours: `Features.batch` on a memory-mapped feature cache and `train_step`, the
text encoder over the used positions. Images, prompts and optimiser are the same, and the two losses
are asserted to agree. The feature cache costs one forward pass per image, once per encoder; this
time is printed and not part of the step.

    python benchmarks/bench_coop.py [--pairs 10] [--batch 16] [--threads 1]
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from _harness import COLUMNS, Results, clock, paired, parser
from bench_loader import DOMAIN, packed_noise
from bench_step import RN50, plain_step, whole_image, whole_text

from clipdr.data.loader import Features
from clipdr.methods import load
from clipdr.models.backbone import Backbone
from clipdr.models.prompts import similarity
from clipdr.training.loop import OPTIMIZERS, predict, train_step

SIDE = 224


def released_loss(tower):
    """Loss of a CoOp step that runs the frozen image encoder: f(method, batch) -> scalar."""

    def loss(method, batch):
        with torch.no_grad():
            features = whole_image(tower, batch.image)
        logits = similarity(features, whole_text(method.prompts), method.scale)
        return F.cross_entropy(logits, batch.grade)

    return loss


def coop(cached):
    """CoOp on cached features with the parameters of one seed, and its optimiser."""
    torch.manual_seed(0)
    method = load("coop")(Backbone(RN50, SIDE, cached=cached)).train()
    return method, OPTIMIZERS["sgd"](method.parameter_groups()["main"], 2e-3, 0)


def main():
    options = parser(__doc__)
    options.add_argument("--pairs", type=int, default=10)
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--images", type=int, default=32, help="images with cached features")
    options.add_argument("--threads", type=int, default=1)
    arguments = options.parse_args()
    now, results = clock(arguments.threads), Results(__file__, arguments)
    with tempfile.TemporaryDirectory() as folder:
        images = packed_noise(folder, arguments.images, SIDE, SIDE, "none")
        backbone = Backbone(RN50, SIDE)
        tower, path = backbone.image.eval(), Path(folder) / "features.npy"
        cached = {"scale": np.float64(backbone.scale)} | {
            bank: features.numpy() for bank, features in backbone.banks.items()
        }
        start = now()
        np.save(path, predict(tower, images))
        per_image = (now() - start) / arguments.images
        line = f"feature cache: {per_image * 1e3:.0f} ms per image, once"
        results.add("feature cache of an image", line, seconds=per_image)
        features = Features(images.frame, {DOMAIN: np.load(path, mmap_mode="c")}, [DOMAIN])
        (ours, our_optimizer), (theirs, their_optimizer) = coop(cached), coop(cached)
        loss, batch = released_loss(tower), images.batch(0, arguments.batch, 0)
        with torch.no_grad():
            own = sum(ours.loss(features.batch(0, arguments.batch, 0)).values())
            torch.testing.assert_close(own, loss(theirs, batch), rtol=1e-4, atol=1e-4)
        steps = iter(range(10**9))
        seconds = paired(
            lambda: train_step(
                ours, {"main": our_optimizer}, features.batch(next(steps), arguments.batch, 0), 0.0
            ),
            lambda: plain_step(theirs, their_optimizer, batch, loss),
            arguments.pairs,
            now,
            repeats=3,
        )
    results.table(*COLUMNS)
    work = f"step of coop, CLIP RN50, {SIDE} px, batch {arguments.batch}"
    results.compare(work, seconds, ">= 8")
    results.write()


if __name__ == "__main__":
    main()
