"""Commands of the multimodal system. Heavy imports stand inside each command."""

from pathlib import Path
from typing import Annotated

import typer

from clipdr.cli.app import Processes, Threads, json_object, limit_threads, multimodal_app

Folder = Annotated[Path, typer.Argument(help="Model folder: RESULTS/models/NAME/SEED.")]
Folders = Annotated[list[Path], typer.Argument(help="Model folders: RESULTS/models/NAME/SEED.")]
Data = Annotated[Path, typer.Option(help="Folder of packed eye tables (NAME.csv, NAME.npy).")]
Results = Annotated[
    Path, typer.Option(help="Folder of models, runs, sanity checks and the report.")
]
Resamples = Annotated[int, typer.Option(min=0, help="Resamples of patients behind each interval.")]
HeldOut = Annotated[
    str,
    typer.Argument(help="Name of the test patients in run folders: BRSET, ODIR or SYNTHETIC."),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
DATA, RESULTS = Path("data/multimodal"), Path("results/multimodal")


@multimodal_app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="Name of the packed table to write, e.g. brset.")],
    source: Annotated[
        str,
        typer.Option(
            help="brset, mbrset, deepeyenet, odir, custom (a CSV of canonical columns) or "
            "synthetic."
        ),
    ],
    table: Annotated[
        Path | None,
        typer.Option(
            help="Label file as published; for deepeyenet the folder of its three JSON files."
        ),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images.")] = None,
    domains: Annotated[
        str, typer.Option(help="synthetic: domains, separated by commas.")
    ] = "SIM_DEEPDR,SIM_IDRID",
    patients: Annotated[int, typer.Option(min=10, help="synthetic: patients per domain.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="synthetic: seed of the patients.")] = 0,
    size: Annotated[int, typer.Option(min=32, help="Side of the stored square in pixels.")] = 112,
    plant: Annotated[
        str,
        typer.Option(
            help="synthetic: a fault to plant, which the leakage checks must detect "
            "(plant_missingness_leak, plant_identifier_in_text or duplicate_captions)."
        ),
    ] = "",
    data: Data = DATA,
    processes: Processes = 1,
) -> None:
    """Read a label file as an eye table and pack its images.

    DATA/NAME_rejected.csv lists the images that cannot be used.

    Example: clipdr multimodal prepare brset --source brset --table labels_brset.csv --images
    fundus_photos --size 224
    """
    from clipdr import DataError
    from clipdr.multimodal.data import label_files, packing

    if source == "synthetic":
        eyes, rejected = packing.pack_synthetic(
            data, name, domains.split(","), patients, seed, size, plant, processes
        )
    elif source not in label_files.SOURCES or table is None or images is None:
        raise DataError(
            f"prepare: --source {source!r} needs --table and --images. "
            f"Sources are {', '.join(label_files.SOURCES)} and synthetic."
        )
    else:
        eyes = label_files.SOURCES[source](table)
        arrays = packing.fundus_images(eyes, images, size, processes)
        eyes, rejected = packing.pack(eyes, arrays, data, name)
    print(
        f"{name}: {len(eyes)} eyes packed, {len(rejected)} rejected "
        f"(see {data / name}_rejected.csv)"
    )


@multimodal_app.command()
def train(
    folder: Folder,
    settings: Annotated[
        str,
        typer.Option(
            help="JSON of the values that differ from the preset; keys: "
            "clipdr/multimodal/settings.py."
        ),
    ] = "{}",
    preset: Annotated[
        str, typer.Option(help="small (2 CPU cores, minutes) or full (ViT-B/16, 224 px, a GPU).")
    ] = "small",
    name: Annotated[str, typer.Option(help="Packed eye table to train on.")] = "synthetic",
    data: Data = DATA,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Train one model into RESULTS/models/NAME/SEED.

    Run the same command again to resume an interrupted training; the result is bitwise identical.

    Several processes share the global batch: torchrun --nproc-per-node 2 -m clipdr multimodal
    train FOLDER

    Example: clipdr multimodal train results/multimodal/models/image_only/0 --settings
    '{"inputs": "none"}'
    """
    limit_threads(threads)
    from clipdr.multimodal import run
    from clipdr.multimodal.settings import make_settings
    from clipdr.training import distributed

    setting = make_settings(json_object(settings, "--settings"), preset)
    with distributed.process_group(device) as process_device:
        run.train(folder, setting, int(folder.name), data, name, process_device)


@multimodal_app.command()
def retrieve(
    folder: Folder,
    data: Data = DATA,
    resamples: Resamples = 2000,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Score cross-modal retrieval of one model, with its upper bound: retrieval.csv and .json.

    The gallery is the whole test split, in both directions. Strict and caption-equivalent recall
    are written for every unimodal mode. A model trained under `contrast: fused` gets leaky.csv and
    leaky.json instead: the published protocol, labelled LEAKY.
    """
    limit_threads(threads)
    from clipdr.multimodal.evaluation import score_run

    for row in score_run.retrieve(folder, data, resamples, device):
        recalls = ", ".join(
            f"R@{k} {100 * row[f'recall_{k}']:.1f} (upper bound {100 * row[f'ceiling_{k}']:.1f})"
            for k in (1, 5, 10)
        )
        label = "LEAKY " if row["leaky"] else ""
        chance = f"chance R@1 {100 * row['chance_1']:.2f} %"
        print(f"{label}{row['mode']}, {row['direction']}: {recalls}, {chance}")


@multimodal_app.command()
def classify(
    folder: Folder,
    held_out: HeldOut,
    data: Data = DATA,
    results: Results = RESULTS,
    resamples: Resamples = 2000,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Grade the test eyes on the scales ICDR and SDRG.

    Writes run folders below RESULTS/runs/brset_icdr and brset_sdrg, for every data set.

    The model folder gets curves.csv (a modality absent) and attribution.csv. A model that reads
    structured data is also scored with that of random other patients (NAME_shuffled_at_test).
    """
    limit_threads(threads)
    from clipdr.multimodal.evaluation import score_run

    score_run.classify(folder, data, results, held_out, resamples, device)


@multimodal_app.command("sanity-checks")
@multimodal_app.command("controls", hidden=True)
def sanity_checks(
    folder: Folder,
    held_out: HeldOut,
    data: Data = DATA,
    results: Results = RESULTS,
    resamples: Resamples = 2000,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Run the five sanity checks of a model, and the baselines on its split.

    The baselines see no image: majority, lookup of findings, structured data alone, missing flags
    alone. The model folder gets sanity_checks.csv and missingness.json.
    """
    limit_threads(threads)
    from clipdr.multimodal.evaluation import score_run

    for row in score_run.check_model(folder, data, results, held_out, resamples, device):
        print(
            f"{row['check']} {row['mode']}: {'pass' if row['passed'] else 'FAIL'}: {row['detail']}"
        )


@multimodal_app.command()
def noise(
    path: Annotated[Path, typer.Argument(help="JSON file to write.")],
    steps: Annotated[
        int,
        typer.Option(min=1, help="Steps of the fused transformer; two encoders take half of them."),
    ] = 600,
    pairs: Annotated[
        int,
        typer.Option(
            min=10, help="Unseen pairs of noise; 1627 is the gallery of the published protocol."
        ),
    ] = 1627,
    batch: Annotated[int, typer.Option(min=2, help="Pairs per step.")] = 128,
    threads: Threads = 1,
) -> None:
    """Show that the leaky fused protocol retrieves even random noise (4 CPU-minutes).

    Two encoders of the same blocks stay at chance.
    """
    limit_threads(threads)
    from clipdr.artifacts.files import as_json, write_text
    from clipdr.multimodal.evaluation.leaky_protocol import compare_on_noise

    results = compare_on_noise(steps, batch, pairs)
    write_text(path, as_json(results))
    print(", ".join(f"{name} R@1 {100 * row['recall_1']:.2f} %" for name, row in results.items()))


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
) -> None:
    """Score zero-shot retrieval on another data set, with its upper bound: transfer_OTHER.csv.

    The modes are `dual` and `rerank`. No structured data is read and nothing is tuned.
    """
    limit_threads(threads)
    from clipdr.multimodal.evaluation.transfer import transfer as score_transfer

    for row in score_transfer(folder, data, other, resamples, device):
        bounds = f"upper bound {100 * row['ceiling_1']:.1f}, chance {100 * row['chance_1']:.2f}"
        recall = f"R@1 {100 * row['recall_1']:.2f} %"
        print(f"{row['mode']}, {row['direction']}, {row['kind']}: {recall} ({bounds})")


@multimodal_app.command("upper-bounds")
@multimodal_app.command("ceilings", hidden=True)
def upper_bounds(
    name: Annotated[str, typer.Argument(help="Packed eye table, or a label file with --source.")],
    source: Annotated[
        str,
        typer.Option(
            help="brset, mbrset, deepeyenet, odir or custom: read NAME as that label file."
        ),
    ] = "",
    data: Data = DATA,
    results: Results = RESULTS,
    seed: Annotated[
        int, typer.Option(help="Seed of a split by patient where the table has none.")
    ] = 0,
) -> None:
    """Compute the largest strict recall that any method can reach, given equal texts.

    Writes RESULTS/upper_bounds_NAME.csv.
    """
    from clipdr.artifacts.files import as_csv, write_text
    from clipdr.multimodal.evaluation.recall_bound import upper_bounds_of

    rows = upper_bounds_of(name, source, data, seed)
    write_text(results / f"upper_bounds_{Path(name).stem}.csv", as_csv(rows))
    for row in rows:
        print(
            f"{row['content']}, {row['part']} ({row['n']}): {row['distinct']} distinct, "
            f"C_1 {100 * row['ceiling_1']:.1f} %"
        )


@multimodal_app.command()
def report(
    folders: Folders,
    held_out: HeldOut,
    data: Data = DATA,
    results: Results = RESULTS,
    images: Annotated[
        bool,
        typer.Option(
            "--images/--no-images",
            "--photographs/--no-photographs",
            help="Show retrieved images.",
        ),
    ] = True,
) -> None:
    """Write RESULTS/report.html, one file that opens offline; no model is loaded.

    Beside it: section.json for the report of the whole study, tables and figures.
    """
    from clipdr.multimodal.report import page

    print(page.write(folders, held_out, data, results, images))
