"""Verbs of the report: predictions -> scores, comparisons, tables, figures, maps, MLflow, the page; the data report; hashes.

Files in, pure function, files out: every rule of the workflow is one of these lines.
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from clipdr.artifacts import receipts
from clipdr.artifacts.run_folder import axes
from clipdr.cli.app import Data, RunFolders, Threads, app, limit_threads

command = partial(app.command, rich_help_panel="Report")


@command()
def table(
    name: Annotated[str, typer.Argument(help="Name of a table, e.g. dg_auc.")],
    runs: RunFolders,
    results: Annotated[
        Path, typer.Option(help="Folder of results; the table goes to its tables/.")
    ] = Path("results"),
):
    """Render one table as CSV, Markdown, LaTeX and HTML."""
    from clipdr.report.tables import catalog, writers

    writers.write(catalog.make(name, runs, results), results / "tables")
    names = [f"tables/{name}{suffix}" for suffix in writers.WRITERS]
    receipts.write(
        results / "receipts" / "tables" / f"{name}.json", f"table {name}", results, names
    )


@command()
def figure(
    name: Annotated[str, typer.Argument(help="Name of a figure, e.g. similarity.")],
    runs: RunFolders,
    results: Annotated[
        Path, typer.Option(help="Folder of results; the figure goes to its figures/.")
    ] = Path("results"),
    data: Data = Path("data"),
    backbone: Annotated[
        str, typer.Option(help="Name of the backbone whose cached features are drawn (embedding).")
    ] = "demo",
):
    """Draw one figure as PNG, PDF and SVG.

    Example: clipdr figure similarity results/runs/dg/clip_dr/*/0
    """
    from clipdr.report.figures import catalog, style
    from clipdr.report.tables import notes

    module, shown = catalog.module(name), axes(runs)
    inputs = catalog.FigureInputs(runs, results, data, data / "features" / backbone)
    plotted = module.plot(module.read(inputs), **shown)
    if module.USES_METHODS:
        style.add_caution(plotted, notes.remarks(runs).caution(**shown))
    style.write(plotted, name, results / "figures")
    names = [f"figures/{name}{suffix}" for suffix in style.FORMATS]
    receipts.write(
        results / "receipts" / "figures" / f"{name}.json", f"figure {name}", results, names
    )


@command()
def track(
    results: Annotated[
        Path,
        typer.Option(
            help="Folder with runs/, tables/ and figures/; the database is its mlflow.db."
        ),
    ] = Path("results"),
    experiment: Annotated[str, typer.Option(help="MLflow experiment.")] = "clipdr",
):
    """Publish all finished runs to MLflow; at any time, and as often as you like (equal runs are skipped). To look at them: make ui"""
    from clipdr.report import tracking

    counts = tracking.publish(results / "runs", f"sqlite:///{results / 'mlflow.db'}", experiment)
    print("MLflow: " + ", ".join(f"{count} {what}" for what, count in counts.items()))


@command("data-report")
@app.command("data_report", hidden=True)
def data_report(
    domains: Annotated[
        str, typer.Argument(help="Domains of the report, separated by commas, in its order.")
    ],
    data: Data = Path("data"),
    results: Annotated[
        Path, typer.Option(help="Folder of results; the report goes to its data/.")
    ] = Path("results"),
    threads: Threads = 1,
):
    """Say what the data are: counts against the official ones, resolutions, rejected files, quality, and a sheet of samples per domain.

    Writes RESULTS/data/index.html, which needs no network, and the tables and figures it shows as files of their own.

    Example: clipdr data_report SIM_APTOS,SIM_IDRID --data data --results results
    """
    limit_threads(threads)
    from clipdr.report import data_report as datareport

    names = datareport.write(domains.split(","), data, results / "data")
    receipts.write(
        results / "receipts" / "data.json",
        "data_report",
        results,
        [f"data/{name}" for name in names],
    )


@command("report")
@app.command("page", hidden=True)
def report(
    runs: RunFolders,
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    tables: Annotated[
        str,
        typer.Option(
            help="Names of the tables to show, separated by commas; the first one is the main table."
        ),
    ] = "",
    figures: Annotated[
        str, typer.Option(help="Names of the figures to show, separated by commas.")
    ] = "",
    reference: Annotated[
        str, typer.Option(help="Method whose worst errors are shown.")
    ] = "clip_dr",
    gallery: Annotated[
        int,
        typer.Option(min=0, help="Worst errors shown per domain; 0 leaves all photographs out."),
    ] = 4,
    section: Annotated[
        list[Path] | None,
        typer.Option(help="section.json of a part of the study that has its own section."),
    ] = None,
    data: Data = Path("data"),
    results: Annotated[
        Path, typer.Option(help="Folder of results; the page is its report.html.")
    ] = Path("results"),
    deviations: Annotated[Path, typer.Option(help="List of deviations from the papers.")] = Path(
        "docs/deviations.md"
    ),
):
    """Write the report of a study: RESULTS/report.html, one file that opens without a network.

    Example: clipdr page results/runs/dg/*/*/* --domains SIM_APTOS,SIM_IDRID --tables dg,dg_auc --figures similarity
    """
    from clipdr.report.page import build as pages

    chosen = {
        "tables": [name for name in tables.split(",") if name],
        "figures": [name for name in figures.split(",") if name],
    }
    options = {
        "domains": domains.split(","),
        "data": data,
        "deviations": deviations,
        "reference": reference,
        "gallery": gallery,
    }
    size = pages.write(results / "report.html", runs, **chosen, **options, further=section or [])
    receipts.write(results / "receipts" / "page.json", "page", results, ["report.html"])
    over = (
        f": over {pages.LIMIT / 2**20:.0f} MB, mail and browsers may refuse it; lower `gallery`"
        if size > pages.LIMIT
        else ""
    )
    print(f"{results / 'report.html'}: {size / 2**20:.1f} MB{over}")
