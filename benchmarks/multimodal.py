"""Speed of the multimodal system's `small` preset: a training step of every loss, embedding the test eyes, judging a gallery.

Input: options; output: Markdown rows. Eyes are synthetic, photographs noise: speed does not depend on what they show.

    python benchmarks/multimodal.py [--batch 48] [--steps 5] [--threads 1]
"""

import argparse
import tempfile
import time

import numpy as np
import torch

from clipdr.evaluation.retrieval import judge
from clipdr.multimodal import assembly, loop, prediction
from clipdr.multimodal.data import eye_table, label_files, packing
from clipdr.multimodal.settings import settings

LITE0 = {"tower": "timm/tf_efficientnet_lite0", "weights": "package:efficientnet_lite0"}
TOWERS = {"ViT width 192": {}, "EfficientNet-lite0": LITE0}
GALLERY = 1627


def seconds(work, count):
    """CPU seconds with one thread, else wall seconds, per call; after one call to warm up."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    work()
    start = clock()
    for _ in range(count):
        work()
    return (clock() - start) / count


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    eyes = eye_table.split(label_files.synthetic("SIM_DEEPDR", 90, 0), 0)
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
            setting = settings(tower | {"batch_size": options.batch, "inputs": "history"})
            model, visits, _ = assembly.assemble(eyes, store, setting, 0)
            optimizer, ones = (
                loop.build_optimizer(model),
                {scale: torch.ones(5) for scale in ("icdr", "sdrg")},
            )
            batch = visits["train"].batch(0, 0)
            for rebuild in (False, True):
                took = seconds(
                    lambda: loop.train_step(model, optimizer, batch, ones, rebuild), options.steps
                )  # noqa: B023
                what = "with" if rebuild else "without"
                print(
                    f"| step of {name}, 96 px, batch {options.batch}, {what} rebuilding | {options.batch / took:.1f} eyes/s | - | - | - |"
                )
            took = seconds(lambda: prediction.embed(model, visits["train"]), 1)  # noqa: B023
            print(
                f"| embedding photographs and narratives, {name} | {len(visits['train']) / took:.1f} eyes/s | - | - | - |"
            )
            took = seconds(lambda: visits["train"].batch(1, 0), options.steps)  # noqa: B023
            print(
                f"| batch with wordings, crop, rotation and colours, {name} | {options.batch / took:.0f} eyes/s | - | - | - |"
            )
    score, content = rng.random((GALLERY, GALLERY)), rng.integers(0, 400, GALLERY)
    took = seconds(lambda: judge(score, content, np.arange(GALLERY).astype(str)), 1)
    print(
        f"| judging one direction of {GALLERY} x {GALLERY}, 2,000 resamples, 1,000 re-pairings | {took:.1f} s | - | - | - |"
    )


if __name__ == "__main__":
    main()
