"""Commands of the evaluation: score, collect, compare, verify."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from clipdr.artifacts import receipts
from clipdr.cli.app import Data, RunFolders, app

command = partial(app.command, rich_help_panel="Evaluation")


@command()
def score(
    folder: Annotated[Path, typer.Argument(help="Run folder with predictions.parquet.")],
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    data: Data = Path("data"),
    bootstrap: Annotated[
        int, typer.Option(min=0, help="Resamples of patients behind every interval.")
    ] = 2000,
    also: Annotated[
        list[str] | None,
        typer.Option(help="Further files of predictions in the folder: selected.parquet."),
    ] = None,
) -> None:
    """Score the predictions of one run: scores.csv, draws.npz and operating.json beside them."""
    import pandas as pd

    from clipdr.data.manifest import read_manifests
    from clipdr.evaluation import predictions, scoring

    path = folder / "predictions.parquet"
    manifest = read_manifests(
        [data / "manifests" / f"{domain}.csv" for domain in domains.split(",")]
    )
    content = pd.concat(
        [predictions.read(folder / name) for name in (path.name, *(also or []))], ignore_index=True
    )
    scoring.write(scoring.score(content, manifest, bootstrap, str(path)), folder)
    receipts.write(
        folder / "scores.receipt.json",
        "score",
        folder,
        ["scores.csv", "draws.npz", "operating.json"],
    )


@command()
def collect(
    runs: RunFolders,
    results: Annotated[
        Path, typer.Option(help="Folder to write scores.csv and summary.json to.")
    ] = Path("results"),
) -> None:
    """Collect the scores of all runs into RESULTS/scores.csv.

    Also writes RESULTS/summary.json for `dvc metrics show`.
    """
    from clipdr.artifacts.files import write_text
    from clipdr.evaluation import aggregate

    scores = aggregate.collect(runs)
    write_text(results / "scores.csv", scores.to_csv(index=False, lineterminator="\n"))
    write_text(
        results / "summary.json",
        json.dumps(aggregate.summary(scores), indent=1, allow_nan=False) + "\n",
    )
    receipts.write(
        results / "receipts" / "collect.json", "collect", results, ["scores.csv", "summary.json"]
    )


@command()
def compare(
    runs: RunFolders,
    reference: Annotated[
        str, typer.Option(help="Method that all others are compared with.")
    ] = "clip_dr",
    results: Annotated[Path, typer.Option(help="Folder to write comparisons.csv to.")] = Path(
        "results"
    ),
) -> None:
    """Compare every method with a reference method: RESULTS/comparisons.csv.

    Differences are paired by resample, and p-values are corrected for the number of methods.
    """
    from clipdr.artifacts.files import write_text
    from clipdr.evaluation import aggregate, comparison

    comparisons = comparison.compare(
        aggregate.collect(runs), aggregate.collect_draws(runs), reference
    )
    write_text(results / "comparisons.csv", comparisons.to_csv(index=False, lineterminator="\n"))
    receipts.write(results / "receipts" / "compare.json", "compare", results, ["comparisons.csv"])


@command("verify")
def verify_files(
    data: Data = Path("data"),
    results: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results"),
    raw: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the images, if it is not the one they were prepared from.",
            show_default=False,
        ),
    ] = None,
    with_raw: Annotated[
        bool, typer.Option("--with-raw/--no-raw", help="Hash the images too.")
    ] = True,
) -> None:
    """Hash every file again and compare with the sha256 in the receipts.

    Checks images, prepared data, runs, scores, tables and figures. Prints one line per damaged,
    missing or unexpected file; the exit status is 1 if there is any. DVC and Snakemake compare
    sizes and times instead.

    Example: clipdr verify --data data/smoke --results results/smoke
    """
    from clipdr.artifacts import verify

    problems, count = verify.verify(data, results, raw, with_raw)
    for problem in problems:
        print(problem)
    print(f"verify: {count} files hashed, {len(problems)} problems", file=sys.stderr)
    raise typer.Exit(bool(problems))
