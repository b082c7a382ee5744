"""The verbs of the image-report pre-training: files in, pure function, files out; heavy imports stand inside the verb."""

import json
from pathlib import Path
from typing import Annotated

import typer

from clipdr import DataError
from clipdr.artifacts import receipts
from clipdr.cli.app import Threads, limit_threads, pretrain_app

Data = Annotated[Path, typer.Option(help="Folder with manifests/ and store/ of the photographs.")]
Pairs = Annotated[Path, typer.Option(help="Patients table that `pairs` wrote.")]
RunFolder = Annotated[Path, typer.Argument(help="Run folder that `pretrain` wrote.")]
Out = Annotated[
    Path | None,
    typer.Option(help="File or folder to write; default: in the run folder.", show_default=False),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Labels = Annotated[str, typer.Option(help="0/1 columns of the table, separated by commas.")]
ODIR = "N,D,G,C,A,H,M,O"


@pretrain_app.command()
def pairs(
    source: Annotated[str, typer.Argument(help="synthetic | odir | upstream | own | practice")],
    raw: Annotated[
        Path,
        typer.Option(
            help="Folder of the source; own: the CSV itself; practice: folder to paint into."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Table to write, e.g. data/patients/odir.csv.")],
    data: Data = Path("data"),
    size: Annotated[int, typer.Option(min=32, help="Side of the packed square in pixels.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Of the split.")] = 0,
    name: Annotated[
        str,
        typer.Option(
            help="upstream: name of the data set; synthetic: added to the domains' names."
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
        int, typer.Option(min=1, help="Worker processes; the result does not depend on it.")
    ] = 1,
):
    """Make a patients table: two eyes and a report per row, split by patient, photographs packed for training.

    Example: clipdr pretrain pairs odir --raw data/raw/ODIR --size 96 --out data/patients/odir.csv
    """
    from clipdr.pretrain.data import patients_table as tables

    if source == "synthetic":
        table = tables.synthetic(raw, name)
    elif source == "odir":
        table = tables.pack(tables.odir(raw), raw, data, size, processes)
    elif source == "own":
        table = tables.pack(tables.own(raw), raw.parent, data, size, processes)
    elif source == "practice":
        from clipdr.pretrain.data import synthetic_patients

        table = synthetic_patients.draw(raw, data, patients, size, people)
    elif source == "upstream":
        table = _upstream(raw, data, size, name or "RET", language, processes)
    else:
        raise DataError(
            f"pairs: source {source!r} is unknown; known are synthetic, odir, upstream, own, practice"
        )
    print(tables.write(tables.finish(table, seed, allow_identifiers, str(raw)), out, seed))


def _upstream(raw, data, size, dataset, language, processes):
    import pandas as pd

    from clipdr.pretrain.data import patients_table as tables
    from clipdr.pretrain.data import ret_clip_release

    parts, folder = [], data / "upstream" / dataset
    for split in tables.SPLITS:
        if (raw / f"{split}_imgs.tsv").is_file():
            part, dropped = ret_clip_release.read(raw, split, folder, dataset, language)
            parts.append(part)
            for line in dropped:
                print(f"{split}: {line} has no counterpart and was left out")
    if not parts:
        raise DataError(f"{raw}: no train_imgs.tsv, val_imgs.tsv or test_imgs.tsv")
    return tables.pack(pd.concat(parts, ignore_index=True), folder, data, size, processes)


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
        typer.Option(help='JSON of what differs from the preset, e.g. {"epochs": 2, "seed": 1}.'),
    ] = "{}",
    device: Device = "auto",
    threads: Threads = 1,
):
    """Train. A run that was cut goes on where it was, bit for bit. Several processes: torchrun --nproc_per_node=2 -m clipdr.pretrain ...

    Example: clipdr pretrain train results/pretrain/runs/odir/0 --pairs data/patients/odir.csv
    """
    from clipdr.pretrain.settings import rules

    try:
        changes = json.loads(settings)
    except ValueError as error:
        raise DataError(f"pretrain: --settings is no JSON ({error})") from None
    chosen = rules(preset, changes)
    limit_threads(threads)
    from clipdr.pretrain import run as jobs
    from clipdr.training import distributed as processes

    with processes.joined(device) as place:
        line = jobs.run(folder, pairs, data, chosen, place)
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
):
    """Write a backbone folder: in config.yaml, `backbone: FOLDER` (with a slash in it) makes every grading method build on it."""
    limit_threads(1)
    from clipdr.models.exported import FILES
    from clipdr.pretrain import run as jobs

    jobs.export(run, out, name, half)
    receipts.write(out / "receipt.json", f"export {name}", out, list(FILES))
    print(f"{out}: {sum((out / file).stat().st_size for file in FILES) / 2**20:.1f} MB")


@pretrain_app.command()
def probe(
    run: RunFolder,
    pairs: Pairs,
    data: Data = Path("data"),
    labels: Labels = ODIR,
    out: Out = None,
    threads: Threads = 1,
):
    """Fast probe: logistic regression on frozen features of both eyes; trained weights against those it started with and random ones."""
    limit_threads(threads)
    import numpy as np

    from clipdr.artifacts.files import replacing, write_text
    from clipdr.pretrain import run as jobs
    from clipdr.pretrain.data import patients_table as tables
    from clipdr.pretrain.evaluation import linear_probe as probing

    table, features = tables.read(pairs), {}
    for weights in probing.WEIGHTS:
        model, rules = jobs.load(run, weights)
        found = jobs.embed(model, table, data, rules)
        features[weights] = probing.both_eyes(found.raw, found.present)
    rows, draws = probing.probe(features, table, labels.split(","), f"test/{rules.seed}")
    path = out or run / "probes.csv"
    with replacing(path.with_suffix(".npz")) as temporary:
        np.savez(
            temporary,
            **{
                f"{network}/{metric}": values
                for network, one in draws.items()
                for metric, values in one.items()
            },
        )
    write_text(path, rows.to_csv(index=False, lineterminator="\n"))


@pretrain_app.command()
def finetune(
    run: RunFolder,
    pairs: Pairs,
    data: Data = Path("data"),
    labels: Labels = ODIR,
    protocol: Annotated[str, typer.Option(help="linear (frozen tower) or full.")] = "full",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Default: the protocol's own.", show_default=False)
    ] = None,
    lr_tower: Annotated[
        float | None, typer.Option(min=0, help="Default: the protocol's own.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Out = None,
    device: Device = "auto",
    threads: Threads = 1,
):
    """Train a head on both eyes, or the tower with it; the epoch is chosen on validation and the test split scored once."""
    limit_threads(threads)
    from dataclasses import replace

    import pandas as pd

    from clipdr.artifacts.files import write_text
    from clipdr.pretrain import run as jobs
    from clipdr.pretrain.data import patients_table as tables
    from clipdr.pretrain.evaluation import finetune as tuning
    from clipdr.pretrain.evaluation import linear_probe as probing
    from clipdr.training import distributed as processes

    if protocol not in tuning.PROTOCOLS:
        raise DataError(
            f"finetune: protocol {protocol!r} is unknown; known are {', '.join(tuning.PROTOCOLS)}"
        )
    changes = {
        key: value
        for key, value in {"epochs": epochs, "lr_tower": lr_tower}.items()
        if value is not None
    }
    table, (model, rules), names = tables.read(pairs), jobs.load(run), labels.split(",")
    rows, history = tuning.finetune(
        model,
        table,
        data,
        rules,
        names,
        replace(tuning.PROTOCOLS[protocol], **changes),
        seed=seed,
        device=processes.place(device),
    )
    split = table["split"].to_numpy(object)
    found, _ = probing.scored(
        probing.findings(table, names), rows, split, tables.patients(table), names
    )
    oracle = {
        "metric": "oracle_upstream",
        "value": max(row["test_auroc_unused"] for row in history),
    }
    rows = pd.DataFrame([*found, oracle]).assign(
        protocol=protocol, seed=seed, n=int((split == "test").sum())
    )
    path = out or run / f"finetune_{protocol}.csv"
    write_text(path, rows.to_csv(index=False, lineterminator="\n"))
    curve = pd.DataFrame(history).drop(columns="test_auroc_unused")
    write_text(
        path.with_name(f"{path.stem}_history.csv"), curve.to_csv(index=False, lineterminator="\n")
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
        typer.Option(help="Control: pair the reports anew with this seed.", show_default=False),
    ] = None,
    out: Out = None,
    threads: Threads = 1,
):
    """Find the report of both eyes and the eyes of a report, at the three levels, beside ceiling, chance and null band."""
    limit_threads(threads)
    import pandas as pd

    from clipdr.artifacts.files import write_text
    from clipdr.pretrain import run as jobs
    from clipdr.pretrain.data import patients_table as tables
    from clipdr.pretrain.evaluation import retrieval

    table, (model, rules) = tables.read(pairs), jobs.load(run)
    chosen = (
        (table["split"] == split)
        & (table["text"] != "")
        & ((table["visit_id"] == visit) | (visit == ""))
    )
    table = table[chosen].reset_index(drop=True)
    found, patient = jobs.embed(model, table, data, rules), tables.patients(table)
    rows = retrieval.levels_retrieved(
        found.image, found.text, found.member, found.content, patient, permute
    )
    path = out or run / "retrieval.csv"
    write_text(path, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
    if permute is None:
        retrieval.write(found, table, data, path.with_name("examples.json"))


@pretrain_app.command()
def zeroshot(
    run: RunFolder,
    pairs: Pairs,
    data: Data = Path("data"),
    labels: Labels = ODIR,
    language: Annotated[str, typer.Option(help="Of the prompts: en or zh.")] = "en",
    single: Annotated[
        str,
        typer.Option(
            help="One eye at a time by the head of its side, the patient's, or both (mean logit)."
        ),
    ] = "patient",
    shots: Annotated[
        str,
        typer.Option(
            help="Patients per class of the few-shot adapters, separated by commas; empty: none."
        ),
    ] = "1,5,10",
    seed: Annotated[int, typer.Option(min=0, help="Of the shots.")] = 42,
    out: Out = None,
    threads: Threads = 1,
):
    """Answer findings from prompts alone, from both eyes and from single eyes; then with a few examples per class (D yes or no)."""
    limit_threads(threads)
    from clipdr.artifacts.files import write_text
    from clipdr.pretrain import run as jobs
    from clipdr.pretrain.data import patients_table as tables
    from clipdr.pretrain.evaluation import prompted

    table, (model, rules) = tables.read(pairs), jobs.load(run)
    zero, few = prompted.answer(
        model,
        rules,
        table,
        data,
        labels.split(","),
        language,
        single,
        [int(k) for k in shots.split(",") if k],
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
):
    """Collect all evaluated runs: RESULTS/pretrain/probes.csv, retrieval.csv, tables and figures for the report."""
    from clipdr.pretrain import report as exhibits

    made = exhibits.report(results, data)
    print(f"{results}/pretrain: {len(made['tables'])} tables, {len(made['figures'])} figures")
