"""Speed of a pre-training step: cost of the loop, and gain of a second process.

loop: `Visits.batch` and `train_step` (three levels, temperatures, clipping, AdamW) on
    synthetic patients with two eyes, against forward and backward pass of the image encoder alone
    on a batch in memory. The ratio is bare / loop. Images per second of one thread (CPU seconds).
two: the same step by two processes of one thread each (gloo, gathered negatives, half of the batch
    each), against one process with one thread. Wall seconds are measured, so run it on a machine
    that does nothing else. BatchNorm is frozen, as it must be on a CPU.

Output: Markdown rows.

    OMP_NUM_THREADS=1 python benchmarks/bench_pretrain.py [loop] [two] [--pairs 5] [--batch 16]
"""

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
from _harness import Results, parser
from torch.nn.parallel import DistributedDataParallel

from clipdr.data.manifest import DTYPES
from clipdr.pretrain import gradients, run
from clipdr.pretrain.data import patients_table
from clipdr.pretrain.settings import rules

REPORT = (
    "Left eye: moderate non-proliferative diabetic retinopathy, drusen {}. "
    "Right eye: normal fundus, cataract {}."
)


def cohort(data, patients, side):
    """Write a packed array of noise; return its patients table."""
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
        torch.optim.AdamW(gradients.parameter_groups(model, settings)),
    )


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def loop(arguments, results):
    """Measure CPU seconds of the step of the loop and of the bare passes, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        model, visits, settings, optimizer = prepared(arguments, folder)
        scaler, rows, seen = (
            torch.amp.GradScaler("cpu", enabled=False),
            np.arange(arguments.batch),
            [],
        )
        image = visits.batch(rows).image.flatten(0, 1)

        def whole():
            gradients.train_step(
                model, model, optimizer, scaler, visits.batch(rows, 0, 0), settings
            )

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
            if turn:  # the first includes the allocation of memory
                seen.append(spent)
    seen = np.array(seen)
    rate, share = 2 * arguments.batch / np.median(seen[:, 0]), np.median(seen[:, 1] / seen[:, 0])
    work = f"loop, {arguments.image}, {arguments.side} px, {arguments.batch} patients"
    line = f"| {work} | {rate:.1f} images/s per core | bare / loop {share:.2f} |"
    results.add(work, line, images_per_second=rate, ratio=share)


def run_process(rank, world, arguments, folder, out):
    """Run one process of `two`; rank 0 sends the median wall seconds of a step."""
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
        gradients.train_step(model, inner, optimizer, scaler, batch, settings)
        seen.append(time.perf_counter() - began)
    if rank == 0:
        out.put(float(np.median(seen[1:])))
    if world > 1:
        dist.destroy_process_group()


def two(arguments, results):
    seconds, context = {}, mp.get_context("spawn")
    for world in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            out = context.SimpleQueue()
            mp.spawn(run_process, (world, arguments, folder, out), nprocs=world)
            seconds[world] = out.get()
    rate, ratio = 2 * arguments.batch / seconds[2], seconds[1] / seconds[2]
    work = f"two processes, {arguments.image}, {arguments.side} px"
    line = f"| {work} | {rate:.1f} images/s | one / two {ratio:.2f} |"
    results.add(work, line, images_per_second=rate, ratio=ratio)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("parts", nargs="*", default=["loop"], help="loop, two")
    options.add_argument("--pairs", type=int, default=5)
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--side", type=int, default=96)
    options.add_argument("--image", default="timm/tf_efficientnet_lite0")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    results = Results(__file__, arguments)
    results.table("work", "ours", "ratio")
    for part in arguments.parts:
        {"loop": loop, "two": two}[part](arguments, results)
    results.write()
