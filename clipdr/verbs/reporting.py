"""Verbs of the report: predictions -> scores, comparisons, tables, figures, maps, MLflow, the page; the data report; hashes.

Files in, pure function, files out: every rule of the workflow is one of these lines.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from clipdr import receipts
from clipdr.verbs import Data, RunFolders, Threads, app, axes, entry, threads_of


@app.command()
def score(
    folder: Annotated[Path, typer.Argument(help="Run folder with predictions.parquet.")],
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    data: Data = Path("data"),
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples of patients behind every interval.")] = 2000,
    also: Annotated[list[str] | None, typer.Option(help="Further files of predictions in the folder: selected.parquet.")] = None,
):
    """Score the predictions of one run: scores.csv, draws.npz and operating.json beside them."""
    import pandas as pd

    from clipdr import predictions, scoring
    from clipdr.manifest import read_manifests

    path = folder / "predictions.parquet"
    manifest = read_manifests([data / "manifests" / f"{domain}.csv" for domain in domains.split(",")])
    content = pd.concat([predictions.read(folder / name) for name in (path.name, *(also or []))], ignore_index=True)
    scoring.write(scoring.score(content, manifest, bootstrap, str(path)), folder)
    receipts.write(folder / "scores.receipt.json", "score", folder, ["scores.csv", "draws.npz", "operating.json"])


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
    receipts.write(results / "receipts" / "collect.json", "collect", results, ["scores.csv", "summary.json"])


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
    receipts.write(results / "receipts" / "compare.json", "compare", results, ["comparisons.csv"])


@app.command()
def table(
    name: Annotated[str, typer.Argument(help="Name of a table, e.g. dg_auc.")],
    runs: RunFolders,
    results: Annotated[Path, typer.Option(help="Folder of results; the table goes to its tables/.")] = Path("results"),
):
    """Render one table as CSV, Markdown, LaTeX and HTML."""
    from clipdr import clinical, compare, compared, evaluate, leakage, tables

    make = entry(tables.TABLES | clinical.TABLES | compared.COMPARISONS | compared.REPRODUCTIONS, "table", name)
    runs = [run for run in runs if run.parts[-4] == make.keywords["protocol"]]
    if name in compared.COMPARISONS:
        content = compare.read(results / "comparisons.csv", make.keywords["protocol"])
    else:
        content = tables.READS.get(name, tables.rule_averages)(evaluate.collect(runs), evaluate.collect_draws(runs, selection=None))
    made = make(content, **axes(runs), remarks=tables.remarks(runs))
    tables.write(leakage.marked(made, leakage.found(results, runs)), results / "tables")
    names = [f"tables/{name}{suffix}" for suffix in tables.WRITERS]
    receipts.write(results / "receipts" / "tables" / f"{name}.json", f"table {name}", results, names)


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help="Name of a figure, e.g. similarity.")],
    runs: RunFolders,
    results: Annotated[Path, typer.Option(help="Folder of results; the figure goes to its figures/.")] = Path("results"),
    data: Data = Path("data"),
    backbone: Annotated[str, typer.Option(help="Name of the backbone whose cached features are drawn (embedding).")] = "demo",
):
    """Draw one figure as PNG, PDF and SVG.

    Example: python -m clipdr figure similarity results/runs/dg/clip_dr/*/0
    """
    from clipdr import figures, footnotes

    module, shown = figures.module(name), axes(runs)
    content = module.read(figures.Place(runs, results, data, data / "features" / backbone))
    drawn = module.draw(content, **shown)
    if name != "embedding":  # features of the frozen tower know no method
        figures.cautioned(drawn, footnotes.remarks(runs).caution(**shown))
    figures.write(drawn, name, results / "figures")
    names = [f"figures/{name}{suffix}" for suffix in figures.FORMATS]
    receipts.write(results / "receipts" / "figures" / f"{name}.json", f"figure {name}", results, names)


@app.command()
def cam(
    runs: RunFolders,
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    data: Data = Path("data"),
    results: Annotated[Path, typer.Option(help="Folder of results; the maps go to its figures/.")] = Path("results"),
    raw: Annotated[Path | None, typer.Option(help="Folder of drawn photographs, whose lesions are known.", show_default=False)] = None,
    size: Annotated[int, typer.Option(help="Size that they were drawn with.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed that they were drawn with.")] = 0,
    threads: Threads = 1,
):
    """Draw class activation maps of some methods on the domain that they held out: figures/cam.png, .pdf, .svg and cam.csv.

    Beside them stands what tells a map from a decoration: its rank correlation with the map of random weights and, on drawn photographs,
    the share of it that falls on lesions.

    Example: python -m clipdr cam results/runs/dg/{ordinal_clip,clip_dr}/APTOS/0 --domains APTOS,IDRID,MESSIDOR
    """
    threads_of(threads)
    from clipdr import cam as maps
    from clipdr import figures
    from clipdr.files import write_text
    from clipdr.plots.cam import draw

    rows, images, found = maps.compute(runs, data, domains.split(","))
    drawn = maps.lesions(rows, raw, images.shape[-1], size, seed) if raw else None
    numbers = maps.measure(rows, found, drawn)
    figures.write(draw(rows, images, found, numbers), "cam", results / "figures")
    write_text(results / "figures" / "cam.csv", numbers.to_csv(index=False, float_format="%.4f", lineterminator="\n"))
    names = [f"figures/cam{suffix}" for suffix in (*figures.FORMATS, ".csv")]
    receipts.write(results / "receipts" / "figures" / "cam.json", "cam", results, names)


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


@app.command("data_report")
def data_report(
    domains: Annotated[str, typer.Argument(help="Domains of the report, separated by commas, in its order.")],
    data: Data = Path("data"),
    results: Annotated[Path, typer.Option(help="Folder of results; the report goes to its data/.")] = Path("results"),
    threads: Threads = 1,
):
    """Say what the data are: counts against the official ones, resolutions, rejected files, quality, and a sheet of samples per domain.

    Writes RESULTS/data/index.html, which needs no network, and the tables and figures it shows as files of their own.

    Example: python -m clipdr data_report SIM_APTOS,SIM_IDRID --data data --results results
    """
    threads_of(threads)
    from clipdr import datareport

    names = datareport.write(domains.split(","), data, results / "data")
    receipts.write(results / "receipts" / "data.json", "data_report", results, [f"data/{name}" for name in names])


@app.command()
def page(
    runs: RunFolders,
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    tables: Annotated[str, typer.Option(help="Names of the tables to show, separated by commas; the first one is the main table.")] = "",
    figures: Annotated[str, typer.Option(help="Names of the figures to show, separated by commas.")] = "",
    reference: Annotated[str, typer.Option(help="Method whose worst errors are shown.")] = "clip_dr",
    gallery: Annotated[int, typer.Option(min=0, help="Worst errors shown per domain; 0 leaves all photographs out.")] = 4,
    section: Annotated[list[Path] | None, typer.Option(help="section.json of a part of the study that has its own section.")] = None,
    data: Data = Path("data"),
    results: Annotated[Path, typer.Option(help="Folder of results; the page is its report.html.")] = Path("results"),
    deviations: Annotated[Path, typer.Option(help="List of deviations from the papers.")] = Path("docs/deviations.md"),
):
    """Write the report of a study: RESULTS/report.html, one file that opens without a network.

    Example: python -m clipdr page results/runs/dg/*/*/* --domains SIM_APTOS,SIM_IDRID --tables dg,dg_auc --figures similarity
    """
    from clipdr import page as pages

    chosen = {"tables": [name for name in tables.split(",") if name], "figures": [name for name in figures.split(",") if name]}
    options = {"domains": domains.split(","), "data": data, "deviations": deviations, "reference": reference, "gallery": gallery}
    size = pages.write(results / "report.html", runs, **chosen, **options, further=section or [])
    receipts.write(results / "receipts" / "page.json", "page", results, ["report.html"])
    over = f": over {pages.LIMIT / 2**20:.0f} MB, mail and browsers may refuse it; lower `gallery`" if size > pages.LIMIT else ""
    print(f"{results / 'report.html'}: {size / 2**20:.1f} MB{over}")


@app.command()
def verify(
    data: Data = Path("data"),
    results: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results"),
    raw: Annotated[
        Path | None, typer.Option(help="Folder of the photographs, if it is not the one they were prepared from.", show_default=False)
    ] = None,
    with_raw: Annotated[bool, typer.Option("--with-raw/--no-raw", help="Hash the photographs too.")] = True,
):
    """Hash every file again and compare with the receipts: photographs, prepared data, runs, scores, tables, figures.

    One line per damaged, missing or unexpected file; exit status 1 if there is any. DVC and Snakemake trust sizes and times instead.

    Example: python -m clipdr verify --data data/smoke --results results/smoke
    """
    from clipdr import verify as verifying

    problems, count = verifying.verify(data, results, raw, with_raw)
    for problem in problems:
        print(problem)
    print(f"verify: {count} files hashed, {len(problems)} problems", file=sys.stderr)
    raise typer.Exit(bool(problems))
