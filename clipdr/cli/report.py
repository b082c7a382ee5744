"""Commands of the report: tables, figures, data report, HTML report, MLflow.

Each command reads files of a study and writes files, with a receipt. Every rule of the workflow is
one of these lines.
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
    name: Annotated[str, typer.Argument(help="Name of a table, for example dg_auc.")],
    runs: RunFolders,
    results: Annotated[
        Path, typer.Option(help="Folder of results; the table goes to its tables/.")
    ] = Path("results"),
) -> None:
    """Write one table as JSON, CSV, Markdown, LaTeX and HTML.

    Example: clipdr table dg_auc results/runs/dg/*/*/*
    """
    from clipdr.report.tables import catalog, writers

    writers.write(catalog.make(name, runs, results), results / "tables")
    names = [f"tables/{name}{suffix}" for suffix in writers.WRITERS]
    receipt = results / "receipts" / "tables" / f"{name}.json"
    receipts.write(receipt, f"table {name}", results, names)


@command()
def figure(
    name: Annotated[str, typer.Argument(help="Name of a figure, for example similarity.")],
    runs: RunFolders,
    results: Annotated[
        Path, typer.Option(help="Folder of results; the figure goes to its figures/.")
    ] = Path("results"),
    data: Data = Path("data"),
    backbone: Annotated[
        str,
        typer.Option(help="Name of the backbone whose cached features are plotted (embedding)."),
    ] = "demo",
) -> None:
    """Plot one figure as PNG, PDF and SVG.

    Example: clipdr figure similarity results/runs/dg/clip_dr/*/0
    """
    from clipdr.report.figures import catalog, style
    from clipdr.report.tables import notes

    module, shown_axes = catalog.module(name), axes(runs)
    inputs = catalog.FigureInputs(runs, results, data, data / "features" / backbone)
    plotted = module.plot(module.read(inputs), **shown_axes)
    if module.USES_METHODS:
        style.add_caution(plotted, notes.remarks(runs).caution(**shown_axes))
    style.write(plotted, name, results / "figures")
    names = [f"figures/{name}{suffix}" for suffix in style.FORMATS]
    receipt = results / "receipts" / "figures" / f"{name}.json"
    receipts.write(receipt, f"figure {name}", results, names)


@command()
def track(
    results: Annotated[
        Path,
        typer.Option(
            help="Folder with runs/, tables/ and figures/; the database is its mlflow.db."
        ),
    ] = Path("results"),
    experiment: Annotated[str, typer.Option(help="MLflow experiment.")] = "clipdr",
) -> None:
    """Publish all finished runs to MLflow; unchanged runs are skipped.

    To browse them: make ui
    """
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
) -> None:
    """Write the data report: counts, resolutions, rejected files, quality and sample images.

    Writes RESULTS/data/index.html, which opens offline, and its tables and figures as files of
    their own. Counts are set beside the official ones.

    Example: clipdr data-report SIM_APTOS,SIM_IDRID --data data --results results
    """
    limit_threads(threads)
    from clipdr.report import data_report as report_module

    names = report_module.write(domains.split(","), data, results / "data")
    files = [f"data/{name}" for name in names]
    receipts.write(results / "receipts" / "data.json", "data_report", results, files)


@command("report")
@app.command("page", hidden=True)
def report(
    runs: RunFolders,
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    tables: Annotated[
        str,
        typer.Option(
            help="Names of the tables, separated by commas; the first one is the main table."
        ),
    ] = "",
    figures: Annotated[str, typer.Option(help="Names of the figures, separated by commas.")] = "",
    reference: Annotated[
        str, typer.Option(help="Method whose largest errors are shown.")
    ] = "clip_dr",
    gallery: Annotated[
        int,
        typer.Option(min=0, help="Images with the largest errors per domain; 0 shows no images."),
    ] = 4,
    section: Annotated[
        list[Path] | None,
        typer.Option(help="section.json of a further section, for example of pre-training."),
    ] = None,
    data: Data = Path("data"),
    results: Annotated[
        Path, typer.Option(help="Folder of results; the report is its report.html.")
    ] = Path("results"),
    deviations: Annotated[
        Path, typer.Option(help="Markdown file that lists the deviations from the papers.")
    ] = Path("docs/deviations.md"),
) -> None:
    """Write the report of a study: RESULTS/report.html, one file that opens offline.

    Example: clipdr report results/runs/dg/*/*/* --domains SIM_APTOS,SIM_IDRID --tables dg,dg_auc
    --figures similarity
    """
    from clipdr.report.page import build

    size = build.write(
        results / "report.html",
        runs,
        tables=[name for name in tables.split(",") if name],
        figures=[name for name in figures.split(",") if name],
        domains=domains.split(","),
        data=data,
        deviations=deviations,
        reference=reference,
        gallery=gallery,
        further=section or [],
    )
    receipts.write(results / "receipts" / "page.json", "page", results, ["report.html"])
    over = ""
    if size > build.LIMIT:
        limit = f"{build.LIMIT / 2**20:.0f} MB"
        over = f": over {limit}, mail and browsers may refuse it. Lower `gallery`."
    print(f"{results / 'report.html'}: {size / 2**20:.1f} MB{over}")
