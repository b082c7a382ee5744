"""Commands of RET-CLIP pre-training: `clipdr pretrain ...`.

A command reads its arguments, calls one function and writes the result. Heavy imports stand inside
the commands, so that `--help` is fast.
"""

from pathlib import Path
from typing import Annotated

import typer

from clipdr.artifacts import receipts
from clipdr.cli.app import Threads, json_object, limit_threads, pretrain_app

Data = Annotated[Path, typer.Option(help="Folder with manifests/ and store/ of the images.")]
Pairs = Annotated[Path, typer.Option(help="Patients table that `pairs` wrote.")]
RunFolder = Annotated[Path, typer.Argument(help="Run folder that `train` wrote.")]
Out = Annotated[
    Path | None,
    typer.Option(help="File or folder to write. Default: in the run folder.", show_default=False),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Labels = Annotated[str, typer.Option(help="0/1 columns of the table, separated by commas.")]
ODIR_LABELS = "N,D,G,C,A,H,M,O"


@pretrain_app.command()
def pairs(
    source: Annotated[str, typer.Argument(help="synthetic | odir | upstream | own | practice")],
    raw: Annotated[
        Path,
        typer.Option(
            help="Folder of the source. own: the CSV itself. practice: folder that receives the "
            "synthetic images."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Table to write, for example data/patients/odir.csv.")],
    data: Data = Path("data"),
    size: Annotated[int, typer.Option(min=32, help="Side of the packed square in pixels.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    name: Annotated[
        str,
        typer.Option(
            help="upstream: name of the data set. synthetic: suffix of the domains' names."
        ),
    ] = "",
    language: Annotated[str, typer.Option(help="upstream: language of the reports.")] = "zh",
    patients: Annotated[int, typer.Option(min=10, help="practice: number of patients.")] = 1000,
    people: Annotated[
        int, typer.Option(help="practice: seed of the patients, 1000 or more.")
    ] = 5000,
    allow_identifiers: Annotated[
        bool, typer.Option("--allow-identifiers", help="Keep reports with a possible identifier.")
    ] = False,
    processes: Annotated[
        int, typer.Option(min=1, help="Worker processes. They do not change the result.")
    ] = 1,
) -> None:
    """Write the patients table: one visit per row (two eyes, report), split by patient.

    Example: clipdr pretrain pairs odir --raw data/raw/ODIR --size 96 --out data/patients/odir.csv
    """
    from clipdr.pretrain.data import patient_sources, patients_table

    table = patient_sources.make_table(
        source,
        raw,
        data,
        size=size,
        name=name,
        language=language,
        patients=patients,
        people=people,
        processes=processes,
    )
    table = patients_table.finish(table, seed, allow_identifiers, str(raw))
    print(patients_table.write(table, out, seed))


@pretrain_app.command("train")
@pretrain_app.command("pretrain", hidden=True)
def train(
    folder: Annotated[
        Path, typer.Argument(help="Run folder to write: results/pretrain/runs/NAME/SEED.")
    ],
    pairs: Pairs,
    data: Data = Path("data"),
    preset: Annotated[
        str, typer.Option(help="small (a laptop), scratch (small, without weights), paper (GPUs).")
    ] = "small",
    settings: Annotated[
        str,
        typer.Option(
            help='JSON of what differs from the preset, for example {"epochs": 2, "seed": 1}.'
        ),
    ] = "{}",
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Pre-train an image and a text encoder.

    Rerun the same command to resume an interrupted run; the result is bitwise identical. Several
    processes: torchrun --nproc_per_node=2 -m clipdr pretrain train ...

    Example: clipdr pretrain train results/pretrain/runs/odir/0 --pairs data/patients/odir.csv
    """
    from clipdr.pretrain.settings import rules

    changes = json_object(settings, "--settings")
    chosen = rules(preset, changes)
    limit_threads(threads)
    from clipdr.pretrain import run
    from clipdr.training import distributed

    with distributed.process_group(device) as torch_device:
        line = run.train(folder, pairs, data, chosen, torch_device)
    if line:
        print(line)


@pretrain_app.command()
def export(
    run: RunFolder,
    out: Annotated[Path, typer.Argument(help="Backbone folder to write.")],
    name: Annotated[str, typer.Option(help="Name in visual.json.")] = "ret_clip",
    half: Annotated[
        bool, typer.Option("--half", help="Tensors in float16: half the size.")
    ] = False,
) -> None:
    """Write a backbone folder for the grading methods.

    In config.yaml, `backbone: FOLDER` (with a slash in it) makes every grading method build on it.
    """
    limit_threads(1)
    from clipdr.config.job import EXPORTED_FILES
    from clipdr.pretrain import backbone_folder

    backbone_folder.export(run, out, name, half)
    receipts.write(out / "receipt.json", f"export {name}", out, list(EXPORTED_FILES))
    print(f"{out}: {sum((out / file).stat().st_size for file in EXPORTED_FILES) / 2**20:.1f} MB")


@pretrain_app.command()
def probe(
    run: RunFolder,
    pairs: Pairs,
    data: Data = Path("data"),
    labels: Labels = ODIR_LABELS,
    out: Out = None,
    threads: Threads = 1,
) -> None:
    """Fit a linear probe on frozen features of both eyes.

    Trained weights are compared with those training started from and with random ones.
    """
    limit_threads(threads)
    from clipdr.pretrain.data import patients_table
    from clipdr.pretrain.evaluation import linear_probe

    table = patients_table.read(pairs)
    rows, draws = linear_probe.probe_run(run, table, data, labels.split(","))
    linear_probe.write(out or run / "probes.csv", rows, draws)


@pretrain_app.command()
def finetune(
    run: RunFolder,
    pairs: Pairs,
    data: Data = Path("data"),
    labels: Labels = ODIR_LABELS,
    protocol: Annotated[
        str, typer.Option(help="linear (frozen image encoder) or full (image encoder trained).")
    ] = "full",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Default: the protocol's own.", show_default=False)
    ] = None,
    lr_tower: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Learning rate of the image encoder. Default: the protocol's own.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Out = None,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Fine-tune a classifier on both eyes: the head alone, or with the image encoder.

    The epoch is chosen on validation and the test split is scored once.
    """
    limit_threads(threads)
    from clipdr.artifacts.files import write_text
    from clipdr.pretrain.data import patients_table
    from clipdr.pretrain.evaluation.finetune import finetune_run
    from clipdr.training.distributed import resolve_device

    rows, history = finetune_run(
        run,
        patients_table.read(pairs),
        data,
        labels.split(","),
        protocol,
        epochs=epochs,
        lr_tower=lr_tower,
        seed=seed,
        device=resolve_device(device),
    )
    path = out or run / f"finetune_{protocol}.csv"
    write_text(path, rows.to_csv(index=False, lineterminator="\n"))
    write_text(
        path.with_name(f"{path.stem}_history.csv"), history.to_csv(index=False, lineterminator="\n")
    )


@pretrain_app.command()
def retrieve(
    run: RunFolder,
    pairs: Pairs,
    data: Data = Path("data"),
    split: Annotated[str, typer.Option(help="Rows that are query and gallery.")] = "test",
    visit: Annotated[str, typer.Option(help="Only visits of this visit_id.")] = "",
    permute: Annotated[
        int | None,
        typer.Option(
            help="Sanity check: pair the reports at random, with this seed.", show_default=False
        ),
    ] = None,
    out: Out = None,
    threads: Threads = 1,
) -> None:
    """Score cross-modal retrieval for the left eye, the right eye and the patient.

    Recall stands beside its upper bound, chance and a null band.
    """
    limit_threads(threads)
    from clipdr.artifacts.files import write_text
    from clipdr.pretrain.data import patients_table
    from clipdr.pretrain.evaluation import retrieval

    table = patients_table.read(pairs)
    rows, examples = retrieval.retrieve_run(run, table, data, split, visit, permute)
    path = out or run / "retrieval.csv"
    write_text(path, rows.to_csv(index=False, lineterminator="\n"))
    if permute is None:
        retrieval.write_examples(path.with_name("examples.json"), examples, data)


@pretrain_app.command()
def zeroshot(
    run: RunFolder,
    pairs: Pairs,
    data: Data = Path("data"),
    labels: Labels = ODIR_LABELS,
    language: Annotated[str, typer.Option(help="Language of the prompts: en or zh.")] = "en",
    single: Annotated[
        str,
        typer.Option(
            help="Head of a single eye: side (the eye's own), patient, or both (their mean logit)."
        ),
    ] = "patient",
    shots: Annotated[
        str,
        typer.Option(
            help="Patients per class of the few-shot adapters, separated by commas. Empty: none."
        ),
    ] = "1,5,10",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the few-shot patients.")] = 42,
    out: Out = None,
    threads: Threads = 1,
) -> None:
    """Predict findings from prompts, for both eyes and for single eyes.

    With a few examples per class, adapters then predict diabetic retinopathy (label D).
    """
    limit_threads(threads)
    from clipdr.artifacts.files import write_text
    from clipdr.pretrain.data import patients_table
    from clipdr.pretrain.evaluation import prompted

    zero, few = prompted.prompt_run(
        run,
        patients_table.read(pairs),
        data,
        labels.split(","),
        language,
        single,
        [int(count) for count in shots.split(",") if count],
        seed,
    )
    path = out or run / "zeroshot.csv"
    write_text(path, zero.to_csv(index=False, lineterminator="\n"))
    write_text(
        path.with_name("fewshot.csv"),
        few.to_csv(index=False, lineterminator="\n") if len(few) else "method\n",
    )


@pretrain_app.command()
def report(
    results: Annotated[
        Path,
        typer.Argument(
            help="Folder of results; tables/ and figures/ of its pretrain/ are written."
        ),
    ] = Path("results"),
    data: Data = Path("data"),
) -> None:
    """Collect all evaluated runs into tables and figures for the report.

    Writes RESULTS/pretrain/probes.csv, retrieval.csv, tables/, figures/ and section.json.
    """
    from clipdr.pretrain import report

    written = report.report(results, data)
    tables, figures = len(written["tables"]), len(written["figures"])
    print(f"{results}/pretrain: {tables} tables, {figures} figures")
