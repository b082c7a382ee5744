"""Verbs of the multimodal system: files in, files out; heavy imports stand inside the verb. clipdr multimodal --help"""

import json
from pathlib import Path
from typing import Annotated

import typer

from clipdr.cli.app import Processes, limit_threads, multimodal_app

Folder = Annotated[Path, typer.Argument(help="Model folder: RESULTS/models/NAME/SEED.")]
Folders = Annotated[list[Path], typer.Argument(help="Model folders: RESULTS/models/NAME/SEED.")]
Data = Annotated[Path, typer.Option(help="Folder of packed eye tables (NAME.csv, NAME.npy).")]
Results = Annotated[Path, typer.Option(help="Folder of models, runs, canaries and the report.")]
Resamples = Annotated[int, typer.Option(min=0, help="Resamples of patients behind every interval.")]
HeldOut = Annotated[
    str,
    typer.Argument(help="Name of the held-out patients in run folders: BRSET, ODIR, SYNTHETIC."),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of torch.")]
DATA, RESULTS = Path("data/multimodal"), Path("results/multimodal")


@multimodal_app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="Name of the packed table to write, e.g. brset.")],
    source: Annotated[
        str,
        typer.Option(
            help="brset, mbrset, deepeyenet, odir, own (a CSV of canonical columns) or synthetic."
        ),
    ],
    table: Annotated[
        Path | None,
        typer.Option(
            help="Label file as published; for deepeyenet the folder of the three JSON files."
        ),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the photographs.")] = None,
    domains: Annotated[
        str, typer.Option(help="synthetic: domains, separated by commas.")
    ] = "SIM_DEEPDR,SIM_IDRID",
    patients: Annotated[int, typer.Option(min=10, help="synthetic: patients per domain.")] = 500,
    seed: Annotated[
        int, typer.Option(min=0, help="synthetic: another seed draws other patients.")
    ] = 0,
    size: Annotated[int, typer.Option(min=32, help="Side of the stored square in pixels.")] = 112,
    plant: Annotated[
        str,
        typer.Option(
            help="synthetic: a fault to plant, a key of cohort.PLANTS; the gates must find it."
        ),
    ] = "",
    data: Data = DATA,
    processes: Processes = 1,
):
    """Read a label file into the one eye table and pack its photographs; what cannot be used is listed in DATA/NAME_rejected.csv.

    Example: clipdr multimodal prepare brset --source brset --table labels_brset.csv --images fundus_photos --size 224
    """
    from clipdr import DataError
    from clipdr.multimodal.data import label_files, packing

    if source == "synthetic":
        eyes, rejected = packing.pack_synthetic(
            data, name, domains.split(","), patients, seed, size, plant, processes
        )
    elif source not in label_files.SOURCES or table is None or images is None:
        raise DataError(
            f"prepare: --source {source} needs --table and --images; sources are {', '.join(label_files.SOURCES)}, synthetic"
        )
    else:
        eyes = label_files.SOURCES[source](table)
        packed = packing.fundus_images(eyes, images, size, processes)
        eyes, rejected = packing.pack(eyes, packed, data, name)
    print(
        f"{name}: {len(eyes)} eyes packed, {len(rejected)} rejected (see {data / name}_rejected.csv)"
    )


@multimodal_app.command()
def train(
    folder: Folder,
    settings: Annotated[
        str,
        typer.Option(
            help="JSON of what differs from the preset; keys: clipdr/multimodal/settings.py."
        ),
    ] = "{}",
    preset: Annotated[
        str, typer.Option(help="small (2 CPU cores, minutes) or full (ViT-B/16, 224 px, a GPU).")
    ] = "small",
    name: Annotated[str, typer.Option(help="Packed eye table to train on.")] = "synthetic",
    data: Data = DATA,
    device: Device = "auto",
    threads: Threads = 1,
):
    """Train one model; the folder's last two parts are its name and its seed. A run that was cut goes on, bit for bit.

    Several processes: torchrun --nproc-per-node 2 -m clipdr.multimodal train FOLDER ...; the global batch stays the same.

    Example: clipdr multimodal train results/multimodal/models/image_only/0 --settings '{"inputs": "none"}'
    """
    limit_threads(threads)
    from clipdr.multimodal import run
    from clipdr.multimodal.settings import settings as made
    from clipdr.training import distributed

    chosen = made(json.loads(settings), preset)
    with distributed.process_group(device) as place:
        run.train(folder, chosen, int(folder.name), data, name, place)


@multimodal_app.command()
def retrieve(
    folder: Folder,
    data: Data = DATA,
    resamples: Resamples = 2000,
    device: Device = "auto",
    threads: Threads = 1,
):
    """Strict and equivalent recall of every honest mode over the whole test split, both directions, ceilings beside: retrieval.csv, .json.

    Of a model trained under `contrast: fused`: leaky.csv and .json, the published protocol under its label.
    """
    limit_threads(threads)
    from clipdr.multimodal.evaluation import score_run

    for row in score_run.retrieve(folder, data, resamples, device):
        numbers = ", ".join(
            f"R@{k} {100 * row[f'recall_{k}']:.1f} (ceiling {100 * row[f'ceiling_{k}']:.1f})"
            for k in (1, 5, 10)
        )
        print(
            f"{'LEAKY ' if row['leaky'] else ''}{row['mode']}, {row['direction']}: {numbers}, chance R@1 {100 * row['chance_1']:.2f} %"
        )


@multimodal_app.command()
def classify(
    folder: Folder,
    held_out: HeldOut,
    data: Data = DATA,
    results: Results = RESULTS,
    resamples: Resamples = 2000,
    device: Device = "auto",
    threads: Threads = 1,
):
    """Grade the test eyes on both scales: RESULTS/runs/brset_icdr and brset_sdrg; curves with a modality absent, attribution.

    A model that reads rows is scored once more with the rows of random other patients (NAME_shuffled_at_test).
    """
    limit_threads(threads)
    from clipdr.multimodal.evaluation import score_run

    score_run.classify(folder, data, results, held_out, resamples, device)


@multimodal_app.command()
def controls(
    folder: Folder,
    held_out: HeldOut,
    data: Data = DATA,
    results: Results = RESULTS,
    resamples: Resamples = 2000,
    device: Device = "auto",
    threads: Threads = 1,
):
    """Control baselines on a model's split (majority, lookup, row alone, missing flags alone) and the five canaries of the model."""
    limit_threads(threads)
    from clipdr.multimodal.evaluation import score_run

    for row in score_run.control(folder, data, results, held_out, resamples, device):
        print(
            f"{row['canary']} {row['mode']}: {'pass' if row['passed'] else 'FAIL'}: {row['detail']}"
        )


@multimodal_app.command()
def noise(
    path: Annotated[Path, typer.Argument(help="JSON file to write.")],
    steps: Annotated[
        int,
        typer.Option(min=1, help="Steps of the fused transformer; two towers take half of them."),
    ] = 600,
    pairs: Annotated[
        int,
        typer.Option(
            min=10, help="Unseen pairs of noise; 1627 is the gallery of the published protocol."
        ),
    ] = 1627,
    batch: Annotated[int, typer.Option(min=2, help="Pairs per step.")] = 128,
    threads: Threads = 1,
):
    """Show that the fused protocol retrieves independent Gaussian noise, and that two towers of the same blocks do not (4 CPU minutes)."""
    limit_threads(threads)
    from clipdr.artifacts.files import as_json, write_text
    from clipdr.multimodal.evaluation.leaky_protocol import noise_demonstration

    fused = noise_demonstration(steps, batch, pairs, fused=True)
    found = {
        "fused": fused,
        "two_towers": noise_demonstration(max(1, steps // 2), batch, pairs, fused=False),
    }
    write_text(path, as_json(found))
    print(", ".join(f"{name} R@1 {100 * one['recall_1']:.2f} %" for name, one in found.items()))


@multimodal_app.command()
def transfer(
    folder: Folder,
    other: Annotated[
        str, typer.Argument(help="Packed eye table of another data set, e.g. odir or deepeyenet.")
    ],
    data: Data = DATA,
    resamples: Resamples = 2000,
    device: Device = "auto",
    threads: Threads = 1,
):
    """Zero-shot retrieval on another data set: `dual` and `rerank`, no row, nothing tuned, ceilings beside."""
    limit_threads(threads)
    from clipdr.multimodal.evaluation import score_run

    for row in score_run.transfer(folder, data, other, resamples, device):
        ends = f"ceiling {100 * row['ceiling_1']:.1f}, chance {100 * row['chance_1']:.2f}"
        print(
            f"{row['mode']}, {row['direction']}, {row['kind']}: R@1 {100 * row['recall_1']:.2f} % ({ends})"
        )


@multimodal_app.command()
def ceilings(
    name: Annotated[str, typer.Argument(help="Packed eye table, or a label file with --source.")],
    source: Annotated[
        str,
        typer.Option(help="brset, mbrset, deepeyenet, odir or own: read NAME as that label file."),
    ] = "",
    data: Data = DATA,
    results: Results = RESULTS,
    seed: Annotated[int, typer.Option(help="Of a split by patient where the table has none.")] = 0,
):
    """The most that strict recall can reach, for any scorer of (text, photograph), by what the text says: RESULTS/ceilings_NAME.csv."""
    from clipdr.artifacts.files import as_csv, write_text
    from clipdr.multimodal.data import eye_table, label_files, splits
    from clipdr.multimodal.evaluation import recall_ceiling as counted

    eyes = label_files.SOURCES[source](name) if source else eye_table.read(data / f"{name}.csv")
    if (eyes["split"] == "").all():
        eyes = splits.split(eyes, seed)
    rows = counted.ceilings(eyes)
    write_text(results / f"ceilings_{Path(name).stem}.csv", as_csv(rows))
    for row in rows:
        print(
            f"{row['content']}, {row['part']} ({row['n']}): {row['distinct']} distinct, C_1 {100 * row['ceiling_1']:.1f} %"
        )


@multimodal_app.command()
def report(
    folders: Folders,
    held_out: HeldOut,
    data: Data = DATA,
    results: Results = RESULTS,
    photographs: Annotated[
        bool, typer.Option("--photographs/--no-photographs", help="Show retrieved photographs.")
    ] = True,
):
    """Write RESULTS/report.html, one file that opens offline, and its section.html, tables and figures. No model is loaded."""
    from clipdr.multimodal.report import page

    print(page.write(folders, held_out, data, results, photographs))
