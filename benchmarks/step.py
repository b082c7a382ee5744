"""Speed of a CLIP-DR training step: what the loop adds to the bare step, and ours against the released way on CLIP's RN50.

demo : a step of the loop (`Images.batch`, learning rate, `train_step`, `after_step`) against forward + backward + optimiser written by
       hand, same model (clip_dr on the demo tower), on a batch that lies in memory. Ratio: ours / bare, not a speed-up.
rn50 : a step on a batch in memory, random weights. Released way: both towers in float32, contiguous, the text tower over all 77
       positions, ranking loss one sample at a time. Ours: image tower under bf16 autocast, channels_last, text tower in float32 over
       the used positions. Both with the release's settings (random tokens, mask "zero", no smoothing); the two losses are asserted to
       agree in float32 before anything is timed.

Input: options; output: Markdown rows.

    python benchmarks/step.py [demo] [rn50] [--pairs 10] [--batch 16] [--threads 1 for demo, 2 for rn50]
"""

import argparse
import tempfile

import torch
import torch.nn.functional as F
from load import stored
from losses import clock, paired, rank_by_sample, row

from clipdr.config.job import BACKBONES, Training
from clipdr.data.augmentation import AUGMENTS
from clipdr.data.loader import Batch
from clipdr.methods import load
from clipdr.methods.base import Source
from clipdr.methods.losses import text_to_image_kl
from clipdr.models.backbone import Backbone
from clipdr.models.prompts import similarity
from clipdr.training.loop import OPTIMIZERS, set_rate, train_step

POSITIONS = 77  # that the released code runs the text tower over
RN50 = {"image": "open_clip/RN50-quickgelu", "weights": "random", "text": "own"}
RATE = 1e-6  # of learning: nothing is to be fitted here
RELEASE = {"prompts": "tokens", "mask": "zero", "smooth": False}


def drawn(batch_size, side):
    """A Batch of noise with every grade in it."""
    generator = torch.Generator().manual_seed(0)
    image, grade = (
        torch.rand(batch_size, 3, side, side, generator=generator),
        torch.arange(batch_size) % 5,
    )
    return Batch(
        image, grade, torch.zeros(batch_size, dtype=torch.int64), torch.zeros(batch_size, 5)
    )


def whole_text(prompts):
    """Text features (5, D) with the sentences padded to all positions and the tower run over all of them, as released."""
    tower, embedded = prompts.tower, prompts.embedded()
    hidden = F.pad(embedded, (0, 0, 0, POSITIONS - embedded.shape[1])) + tower.positional_embedding
    hidden = tower.ln_final(tower.transformer(hidden, attn_mask=tower.attn_mask))
    return hidden[torch.arange(len(hidden)), prompts.length - 1] @ tower.text_projection


def whole_image(tower, image):
    """Image features (B, D) in float32 and contiguous memory, as released."""
    return tower.trunk((image - tower.mean) / tower.std)


def released_loss(method, batch):
    logits = similarity(
        whole_image(method.image, batch.image), whole_text(method.prompts), method.scale
    )
    return (
        F.cross_entropy(logits, batch.grade)
        + text_to_image_kl(logits, batch.grade)
        + rank_by_sample(logits, batch.grade)
    )


def own_loss(method, batch):
    return sum(method.loss(batch).values())


def hand_written(method, optimizer, batch, loss):
    """The bare training step. Gradients are freed after the forward pass: before it, the step took up to 15 % longer (page faults)."""
    total = loss(method, batch)
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    optimizer.step()


def demo(arguments, now):
    rules = {
        "optimizer": "radam",
        "lr": RATE,
        "weight_decay": 0,
        "schedule": "cosine",
        "augment": "flip",
        "evaluations": 1,
    }
    training = Training(epochs=1, batch_size=arguments.batch, **rules)
    for augment in arguments.augments:
        with tempfile.TemporaryDirectory() as folder:
            images = stored(folder, arguments.images, arguments.side, arguments.side, augment)
            torch.manual_seed(0)
            method = load("clip_dr")(Backbone(BACKBONES["demo"].model_dump(), arguments.side))
            per_epoch = len(images) // training.batch_size
            method.begin(Source(images, images, per_epoch, per_epoch))
            optimizers = {
                name: OPTIMIZERS["radam"](group, RATE, 0)
                for name, group in method.parameter_groups().items()
            }
            steps = iter(range(10**9))
            batch = images.batch(0, training.batch_size, 0)
            method.train()

            def ours(
                images=images,
                method=method,
                optimizers=optimizers,
                steps=steps,
                per_epoch=per_epoch,
            ):
                step = next(steps)
                set_rate(optimizers, training, step, 10**9, per_epoch)
                train_step(
                    method,
                    optimizers,
                    images.batch(step, training.batch_size, 0),
                    training.clip_norm,
                )
                method.after_step(step + 1)

            def bare(method=method, optimizers=optimizers, batch=batch):
                hand_written(method, optimizers["main"], batch, own_loss)

            seconds = paired(ours, bare, arguments.pairs, now)
        work = f"step of clip_dr, demo tower, {arguments.side} px, batch {arguments.batch}, augment {augment}"
        row(work, seconds, "<= 1.10", cost=True)


def rn50(arguments, now):
    torch.manual_seed(0)
    batch = drawn(arguments.batch, 224)
    methods = {}
    for way, precision in (("released", "fp32"), ("fp32", "fp32"), ("ours", "bf16")):
        torch.manual_seed(0)
        methods[way] = load("clip_dr")(Backbone(RN50, 224, precision=precision), **RELEASE).train()
    with torch.no_grad():
        torch.testing.assert_close(
            own_loss(methods.pop("fp32"), batch),
            released_loss(methods["released"], batch),
            rtol=1e-4,
            atol=1e-4,
        )
    optimizers = {
        way: OPTIMIZERS["radam"](method.parameter_groups()["main"], RATE, 0)
        for way, method in methods.items()
    }
    seconds = paired(
        lambda: train_step(methods["ours"], {"main": optimizers["ours"]}, batch, 0.0),
        lambda: hand_written(methods["released"], optimizers["released"], batch, released_loss),
        arguments.pairs,
        now,
    )
    row(f"step of clip_dr, CLIP RN50, 224 px, batch {arguments.batch}", seconds, ">= 2")


PARTS = {"demo": (demo, 1), "rn50": (rn50, 2)}  # function, threads unless --threads says otherwise


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{' or '.join(PARTS)}; default: both"
    )
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument(
        "--threads", type=int, help="default: 1 for demo (CPU seconds), 2 for rn50 (wall seconds)"
    )
    parser.add_argument(
        "--augments", nargs="+", choices=AUGMENTS, default=["flip", "shared"], help="demo only"
    )
    parser.add_argument(
        "--side",
        type=int,
        default=128,
        help="demo only: side of the stored square and of the input, pixels",
    )
    parser.add_argument(
        "--images", type=int, default=512, help="demo only: photographs in the store"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"{sorted(unknown)[0]!r} is no part; use {' or '.join(PARTS)}")
    for part in arguments.parts or PARTS:
        function, threads = PARTS[part]
        function(arguments, clock(arguments.threads or threads))


if __name__ == "__main__":
    main()
