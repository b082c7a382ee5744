"""Speed of the multimodal system: a step of every loss, embedding, batches, and retrieval scores.

The preset is `small`. Eyes are synthetic and images are noise, because speed does not depend on
their content. Output: Markdown rows.

    python benchmarks/bench_multimodal.py [--batch 48] [--steps 5] [--threads 1]
"""

import tempfile
from functools import partial

import numpy as np
import torch
from _harness import Results, clock, parser, seconds_per_call

from clipdr.evaluation.retrieval import judge
from clipdr.multimodal import assembly, loop, prediction
from clipdr.multimodal.data import packing, splits, synthetic_eyes
from clipdr.multimodal.settings import make_settings

LITE0 = {"tower": "timm/tf_efficientnet_lite0", "weights": "package:efficientnet_lite0"}
TOWERS = {"ViT width 192": {}, "EfficientNet-lite0": LITE0}
GALLERY = 1627


def main():
    options = parser(__doc__)
    options.add_argument("--batch", type=int, default=48)
    options.add_argument("--steps", type=int, default=5)
    options.add_argument("--threads", type=int, default=1)
    arguments = options.parse_args()
    now, results = clock(arguments.threads), Results(__file__, arguments)
    results.table("work", "ours", "reference", "ratio", "aim")

    def measure(work, function, count, eyes):
        seconds = seconds_per_call(function, count, now)
        speed = f"{eyes / seconds:.1f} eyes/s" if eyes else f"{seconds:.1f} s"
        results.add(work, f"| {work} | {speed} | - | - | - |", seconds=seconds, eyes=eyes)

    eyes = splits.split(synthetic_eyes.synthetic("SIM_DEEPDR", 90, 0), 0)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        packing.pack(
            eyes,
            (rng.integers(0, 256, (112, 112, 3), np.uint8) for _ in range(len(eyes))),
            folder,
            "noise",
        )
        eyes, store = packing.open_pack(folder, "noise")
        for name, tower in TOWERS.items():
            setting = make_settings(tower | {"batch_size": arguments.batch, "inputs": "history"})
            model, visits, _ = assembly.assemble(eyes, store, setting, 0)
            optimizer, ones = (
                loop.build_optimizer(model),
                {scale: torch.ones(5) for scale in ("icdr", "sdrg")},
            )
            batch = visits["train"].batch(0, 0)
            for reconstruct in (False, True):
                measure(
                    f"step of {name}, 96 px, batch {arguments.batch}, "
                    f"{'with' if reconstruct else 'without'} reconstruction",
                    partial(loop.train_step, model, optimizer, batch, ones, reconstruct),
                    arguments.steps,
                    arguments.batch,
                )
            train = visits["train"]
            measure(
                f"embedding of images and clinical texts, {name}",
                partial(prediction.embed, model, train),
                1,
                len(train),
            )
            measure(
                f"batch with text variants, crop, rotation and colours, {name}",
                partial(train.batch, 1, 0),
                arguments.steps,
                arguments.batch,
            )
    score, content = rng.random((GALLERY, GALLERY)), rng.integers(0, 400, GALLERY)
    measure(
        f"scores of one direction of {GALLERY} x {GALLERY}, 2,000 resamples, 1,000 permutations",
        partial(judge, score, content, np.arange(GALLERY).astype(str)),
        1,
        0,
    )
    results.write()


if __name__ == "__main__":
    main()
