"""Speed of a pre-training step: what the loop adds to the bare forward and backward pass, and what a second process gives.

loop  : `Visits.batch` and `training.train_step` (three levels, temperatures, clipping, AdamW) on drawn patients with two eyes, against
        forward and backward of the image tower alone on a batch in memory: ratio = bare / loop, the share of the loop that is bare.
        Images per second of one thread; CPU seconds are counted.
two   : the same step by two processes of one thread each (gloo, gathered negatives, half of the batch each), against one process with
        one thread; wall seconds, so run it on a machine that does nothing else. BatchNorm frozen, as it must be on a CPU.

Input: options; output: Markdown rows.

    OMP_NUM_THREADS=1 python benchmarks/pretrain.py [loop] [two] [--pairs 5] [--batch 16] [--side 96] [--image timm/tf_efficientnet_lite0]
"""

import argparse
import resource
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from clipdr.data.manifest import DTYPES
from clipdr.pretrain import loop as training
from clipdr.pretrain import run
from clipdr.pretrain.data import patients_table
from clipdr.pretrain.settings import rules

REPORT = "Left eye: moderate non-proliferative diabetic retinopathy, drusen {}. Right eye: normal fundus, cataract {}."


def cohort(data, patients, side):
    """A packed store of noise and its patients table."""
    rng = np.random.default_rng(0)
    for folder in ("store", "manifests"):
        (data / folder).mkdir(parents=True)
    np.save(
        data / "store" / "NOISE.npy",
        rng.integers(0, 256, (2 * patients, side, side, 3), dtype=np.uint8),
    )
    blank = {name: "" if kind is str else 0 for name, kind in DTYPES.items()}
    manifest = pd.DataFrame(
        [blank | {"image": f"NOISE/{row}.png", "row": row} for row in range(2 * patients)]
    )
    manifest.to_csv(data / "manifests" / "NOISE.csv", index=False)
    rows = [
        {
            "dataset": "NOISE",
            "patient_id": str(row),
            "left_image": f"NOISE/{2 * row}.png",
            "right_image": f"NOISE/{2 * row + 1}.png",
        }
        | {"text": REPORT.format(row % 7, row % 5), "language": "en", "split": "train"}
        for row in range(patients)
    ]
    return patients_table.finish(pd.DataFrame(rows), 0)


def prepared(arguments, folder, **changes):
    """Model, visits, settings and optimiser."""
    settings = rules(
        "small",
        {
            "image": arguments.image,
            "weights": "random",
            "side": arguments.side,
            "batch_size": arguments.batch,
        }
        | changes,
    )
    table = cohort(Path(folder), arguments.batch, arguments.side)
    model, _ = run.build(settings, run.training_texts(table))
    return (
        model,
        run.visits(table, "train", folder, settings, model.text),
        settings,
        torch.optim.AdamW(training.groups(model, settings)),
    )


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def loop(arguments):
    """CPU seconds of the loop's step and of the bare passes, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        model, visits, settings, optimizer = prepared(arguments, folder)
        scaler, rows, seen = (
            torch.amp.GradScaler("cpu", enabled=False),
            np.arange(arguments.batch),
            [],
        )
        image = visits.batch(rows).image.flatten(0, 1)

        def whole():
            training.train_step(model, model, optimizer, scaler, visits.batch(rows, 0, 0), settings)

        def bare():
            model.image.train()
            model.image(image).sum().backward()
            model.zero_grad()

        for turn in range(arguments.pairs + 1):
            spent = []
            for step in (whole, bare):
                began = cpu()
                step()
                spent.append(cpu() - began)
            if turn:  # the first pays for the allocator
                seen.append(spent)
    seen = np.array(seen)
    rate, share = 2 * arguments.batch / np.median(seen[:, 0]), np.median(seen[:, 1] / seen[:, 0])
    what = f"loop, {arguments.image}, {arguments.side} px, {arguments.batch} patients"
    print(f"| {what} | {rate:.1f} images/s per core | bare / loop {share:.2f} |")


def work(rank, world, arguments, folder, out):
    """One process of `two`: median wall seconds of a step, from rank 0."""
    warnings.filterwarnings("ignore", message=".*all_gather.*")
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world)
    inner, visits, settings, optimizer = prepared(arguments, f"{folder}/{rank}", freeze_norm=True)
    model = DistributedDataParallel(inner, broadcast_buffers=False) if world > 1 else inner
    scaler, share, seen = torch.amp.GradScaler("cpu", enabled=False), arguments.batch // world, []
    for _ in range(arguments.pairs + 1):
        began = time.perf_counter()
        batch = visits.batch(np.arange(rank * share, (rank + 1) * share), 0, 0)
        training.train_step(model, inner, optimizer, scaler, batch, settings)
        seen.append(time.perf_counter() - began)
    if rank == 0:
        out.put(float(np.median(seen[1:])))
    if world > 1:
        dist.destroy_process_group()


def two(arguments):
    found, context = {}, mp.get_context("spawn")
    for world in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            out = context.SimpleQueue()
            mp.spawn(work, (world, arguments, folder, out), nprocs=world)
            found[world] = out.get()
    rate = 2 * arguments.batch / found[2]
    print(
        f"| two processes, {arguments.image}, {arguments.side} px | {rate:.1f} images/s | one / two {found[1] / found[2]:.2f} |"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=["loop"], help="loop, two")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--image", default="timm/tf_efficientnet_lite0")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for part in chosen.parts:
        {"loop": loop, "two": two}[part](chosen)
