"""Speed of a training step: cost of the loop, and CLIP-DR on CLIP's RN50 against the released way.

demo: a step of the loop (`Images.batch`, learning rate, `train_step`, `after_step`) against forward
    pass, backward pass and optimiser by hand, with the same model (clip_dr on the demo encoder) and
    a batch in memory. The ratio is ours / bare, not a speed-up.
rn50: a step on a batch in memory, random weights. Released way: both encoders in float32 and
    contiguous, the text encoder over all 77 positions, ranking loss one sample at a time. Ours:
    image encoder under bf16 autocast and channels_last, text encoder in float32 over the used
    positions. Both with the settings of the release (random tokens, mask "zero", no smoothing). The
    two losses are asserted to agree in float32.

Output: Markdown rows.

    python benchmarks/bench_step.py [demo] [rn50] [--pairs 10] [--batch 16] [--threads N]
"""

import tempfile

import torch
import torch.nn.functional as F
from _harness import COLUMNS, Results, clock, paired, parser
from bench_loader import packed_noise
from bench_ranking_loss import rank_by_sample

from clipdr.config.job import BACKBONES, Training
from clipdr.data.augmentation import AUGMENTS
from clipdr.data.loader import Batch
from clipdr.methods import load
from clipdr.methods.base import Source
from clipdr.methods.losses import text_to_image_kl
from clipdr.models.backbone import Backbone
from clipdr.models.prompts import similarity
from clipdr.training.loop import OPTIMIZERS, set_rate, train_step

POSITIONS = 77  # over which the released code runs the text encoder
RN50 = {"image": "open_clip/RN50-quickgelu", "weights": "random", "text": "own"}
RATE = 1e-6  # learning rate; nothing is fitted here
RELEASE = {"prompts": "tokens", "mask": "zero", "smooth": False}


def noise_batch(count, side):
    """A Batch of noise with every grade."""
    image = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    grade, domain = torch.arange(count) % 5, torch.zeros(count, dtype=torch.int64)
    return Batch(image, grade, domain, torch.zeros(count, 5))


def whole_text(prompts):
    """Text features (5, D) of sentences padded to all positions, as released."""
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


def plain_step(method, optimizer, batch, loss):
    """Do a training step without the loop.

    Gradients are freed after the forward pass. Before it, the step took up to 15 % longer (page
    faults).
    """
    total = loss(method, batch)
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    optimizer.step()


def demo(arguments, now, results):
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
            images = packed_noise(folder, arguments.images, arguments.side, arguments.side, augment)
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
                plain_step(method, optimizers["main"], batch, own_loss)

            seconds = paired(ours, bare, arguments.pairs, now)
        work = f"step of clip_dr, demo encoder, {arguments.side} px, batch {arguments.batch}"
        results.compare(f"{work}, augment {augment}", seconds, "<= 1.10", cost=True)


def rn50(arguments, now, results):
    torch.manual_seed(0)
    batch = noise_batch(arguments.batch, 224)
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
        lambda: plain_step(methods["released"], optimizers["released"], batch, released_loss),
        arguments.pairs,
        now,
    )
    work = f"step of clip_dr, CLIP RN50, 224 px, batch {arguments.batch}"
    results.compare(work, seconds, ">= 2")


PARTS = {"demo": (demo, 1), "rn50": (rn50, 2)}  # function, threads unless --threads says otherwise


def main():
    options = parser(__doc__)
    options.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{' or '.join(PARTS)}; default: both"
    )
    options.add_argument("--pairs", type=int, default=10)
    options.add_argument("--batch", type=int, default=16)
    options.add_argument(
        "--threads", type=int, help="default: 1 for demo (CPU seconds), 2 for rn50 (wall seconds)"
    )
    options.add_argument(
        "--augments", nargs="+", choices=AUGMENTS, default=["flip", "shared"], help="demo only"
    )
    options.add_argument(
        "--side",
        type=int,
        default=128,
        help="demo only: side of the packed square and of the input, pixels",
    )
    options.add_argument(
        "--images", type=int, default=512, help="demo only: images in the packed array"
    )
    arguments = options.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        options.error(f"{sorted(unknown)[0]!r} is unknown; use {' or '.join(PARTS)}")
    results = Results(__file__, arguments)
    results.table(*COLUMNS)
    for part in arguments.parts or PARTS:
        function, threads = PARTS[part]
        function(arguments, clock(arguments.threads or threads), results)
    results.write()


if __name__ == "__main__":
    main()
