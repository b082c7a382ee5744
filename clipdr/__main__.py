"""The verbs: files in, pure function, files out. Every rule of the workflow is one of these lines; heavy imports stand inside the verb."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from clipdr import DataError
from clipdr.domains import DOMAINS

app = typer.Typer(
    name="clipdr",
    help="CLIP-style grading of diabetic retinopathy, from fundus photographs to the tables of a paper.\n\n"
    "The whole study runs with `snakemake --cores all`; these are its steps, to be used one at a time.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

Domain = Annotated[str, typer.Argument(help="Name of a data set, e.g. APTOS or SIM_APTOS (see clipdr/domains.py).")]
Processes = Annotated[int, typer.Option(min=1, help="Worker processes; the result does not depend on it.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of torch.")]
Data = Annotated[Path, typer.Option(help="Folder with manifests/, store/ and features/.")]
RunFolders = Annotated[list[Path], typer.Argument(help="Run folders: results/runs/PROTOCOL/METHOD/HELD_OUT/SEED.")]


def axes(runs):
    """Methods and held-out domains of run folders, in their order: rows and columns of every table."""
    return {"methods": list(dict.fromkeys(run.parts[-3] for run in runs)), "domains": list(dict.fromkeys(run.parts[-2] for run in runs))}


def entry(table, kind, name):
    """One entry of a table of functions; DataError naming the known ones."""
    if name not in table:
        raise DataError(f"{kind} {name!r} is unknown; known are {', '.join(table)}")
    return table[name]


def threads_of(count):
    """Limit torch to `count` threads, before and after its import."""
    os.environ.setdefault("OMP_NUM_THREADS", str(count))
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch's large pages: a fresh batch costs less in page faults
    import torch

    torch.set_num_threads(count)


@app.command()
def synthesize(
    raw: Annotated[Path, typer.Argument(help="Folder to write: images/, splits/ and patients.csv.")],
    domains: Annotated[str, typer.Option(help="Names of synthetic domains, separated by commas.")] = ",".join(
        d for d in DOMAINS if DOMAINS[d].synthetic
    ),
    patients: Annotated[int, typer.Option(min=10, help="Patients per domain, two eyes each.")] = 80,
    size: Annotated[int, typer.Option(min=64, help="Nominal side of the photographs in pixels.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other patients.")] = 0,
    processes: Processes = 1,
):
    """Draw a synthetic multi-hospital benchmark in GDRBench's folder layout, with patients and reports.

    Example: python -m clipdr synthesize data/synthetic --patients 20
    """
    from clipdr import synthetic

    synthetic.write(raw, domains.split(","), patients, size, seed, processes)


@app.command()
def prepare(
    domain: Domain,
    raw: Annotated[
        Path, typer.Option(help="Folder in GDRBench's layout: images/DOMAIN/GRADE/FILE and splits/DOMAIN_{train,crossval}.txt.")
    ],
    data: Data = Path("data"),
    size: Annotated[int, typer.Option(min=32, help="Side of the stored square in pixels.")] = 256,
    complete: Annotated[
        bool, typer.Option("--complete", help="Stop unless the domain holds just the images of the official split files.")
    ] = False,
    processes: Processes = 1,
):
    """Decode, crop to the fundus and pack the photographs of one domain: one uint8 array and one manifest.

    Writes DATA/manifests/DOMAIN.csv, DATA/store/DOMAIN.npy and DATA/rejected/DOMAIN.csv (what could not be used, and why).

    Example: python -m clipdr prepare IDRID --raw data/raw --size 256
    """
    from clipdr import store

    paths = (data / "manifests" / f"{domain}.csv", data / "store" / f"{domain}.npy", data / "rejected" / f"{domain}.csv")
    store.prepare(domain, raw, *paths, size, processes, complete)


@app.command()
def features(
    domain: Domain,
    backbone: Annotated[str, typer.Option(help="JSON of a backbone: name, image, weights, text.")],
    side: Annotated[int, typer.Option(help="Side of the network's input in pixels.")],
    data: Data = Path("data"),
    threads: Threads = 1,
):
    """Run a frozen image tower once over the packed photographs of a domain: DATA/features/BACKBONE/DOMAIN.npy."""
    threads_of(threads)
    from clipdr.features import cache_features

    cache_features(json.loads(backbone), side, domain, data)


@app.command()
def prompts(
    backbone: Annotated[str, typer.Option(help="JSON of a backbone: name, image, weights, text.")],
    side: Annotated[int, typer.Option(help="Side of the network's input in pixels.")],
    data: Data = Path("data"),
    threads: Threads = 1,
):
    """Run a frozen text tower once over the prompt banks: DATA/features/BACKBONE/prompts.npz."""
    threads_of(threads)
    from clipdr.features import cache_prompts

    cache_prompts(json.loads(backbone), side, data)


@app.command()
def train(
    folder: Annotated[Path, typer.Argument(help="Run folder to write: results/runs/PROTOCOL/METHOD/HELD_OUT/SEED.")],
    settings: Annotated[str, typer.Option(help="JSON of backbone, frozen, image, training and options: the whole of what matters.")],
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    data: Data = Path("data"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Threads = 1,
):
    """Train one method with one domain held out, and predict its validation and test images.

    The folder's name says which: its last four parts are the protocol, the method, the held-out domain and the seed.
    A run that was cut is resumed.
    """
    threads_of(threads)
    from clipdr import runs

    protocol, method, held_out, seed = folder.parts[-4:]
    manifests = [data / "manifests" / f"{domain}.csv" for domain in domains.split(",")]
    runs.run(json.loads(settings), protocol, method, held_out, int(seed), manifests=manifests, data=data, folder=folder, device=device)


@app.command()
def score(
    folder: Annotated[Path, typer.Argument(help="Run folder with predictions.parquet.")],
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    data: Data = Path("data"),
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples of patients behind every interval.")] = 2000,
):
    """Score the predictions of one run: scores.csv, draws.npz and operating.json beside them."""
    from clipdr import evaluate, predictions
    from clipdr.manifest import read_manifests

    path = folder / "predictions.parquet"
    manifest = read_manifests([data / "manifests" / f"{domain}.csv" for domain in domains.split(",")])
    evaluate.write(evaluate.score(predictions.read(path), manifest, bootstrap, str(path)), folder)


@app.command()
def collect(
    runs: RunFolders,
    results: Annotated[Path, typer.Option(help="Folder to write scores.csv and summary.json to.")] = Path("results"),
):
    """Gather the scores of all runs: RESULTS/scores.csv, and RESULTS/summary.json for `dvc metrics show`."""
    from clipdr import evaluate
    from clipdr.files import write_text

    scores = evaluate.collect(runs)
    write_text(results / "scores.csv", scores.to_csv(index=False, lineterminator="\n"))
    write_text(results / "summary.json", json.dumps(evaluate.summary(scores), indent=1, allow_nan=False) + "\n")


@app.command()
def compare(
    runs: RunFolders,
    reference: Annotated[str, typer.Option(help="Method that all others are compared with.")] = "clip_dr",
    results: Annotated[Path, typer.Option(help="Folder to write comparisons.csv to.")] = Path("results"),
):
    """Compare every method with a reference method, paired by resample and corrected for their number: RESULTS/comparisons.csv."""
    from clipdr import compare, evaluate
    from clipdr.files import write_text

    comparisons = compare.compare(evaluate.collect(runs), evaluate.collect_draws(runs), reference)
    write_text(results / "comparisons.csv", comparisons.to_csv(index=False, lineterminator="\n"))


@app.command()
def table(
    name: Annotated[str, typer.Argument(help="Name of a table, e.g. dg_auc.")],
    runs: RunFolders,
    results: Annotated[Path, typer.Option(help="Folder of results; the table goes to its tables/.")] = Path("results"),
):
    """Render one table as CSV, Markdown and LaTeX."""
    from clipdr import evaluate, tables

    averages = evaluate.average(evaluate.collect(runs), evaluate.collect_draws(runs))
    tables.write(entry(tables.TABLES, "table", name)(averages, **axes(runs)), results / "tables")


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help="Name of a figure, e.g. similarity.")],
    runs: RunFolders,
    results: Annotated[Path, typer.Option(help="Folder of results; the figure goes to its figures/.")] = Path("results"),
):
    """Draw one figure as PNG and PDF."""
    from clipdr import evaluate, figures, predictions

    draw = entry(figures.FIGURES, "figure", name)
    if figures.READS[name] == "predictions":
        content = (predictions.read(run / "predictions.parquet", figures.SIMILARITY_COLUMNS) for run in runs)
    else:
        content = evaluate.average(evaluate.collect(runs), evaluate.collect_draws(runs))
    figures.write(draw(content, **axes(runs)), name, results / "figures")


@app.command()
def track(
    results: Annotated[Path, typer.Option(help="Folder with runs/, tables/ and figures/; the database is its mlflow.db.")] = Path(
        "results"
    ),
    experiment: Annotated[str, typer.Option(help="MLflow experiment.")] = "clipdr",
):
    """Publish all finished runs to MLflow; at any time, and as often as you like (equal runs are skipped). To look at them: make ui"""
    from clipdr import track as tracking

    counts = tracking.publish(results / "runs", f"sqlite:///{results / 'mlflow.db'}", experiment)
    print("MLflow: " + ", ".join(f"{count} {what}" for what, count in counts.items()))


def main():
    """Run a verb; bad input is one line on stderr and exit status 2."""
    try:
        app()
    except DataError as error:
        print(f"clipdr: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
