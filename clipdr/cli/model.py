"""TODO"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from clipdr.artifacts import receipts
from clipdr.cli.app import Data, RunFolders, Threads, app, limit_threads

command = partial(app.command, rich_help_panel="Trained models")


@command()
def cam(
    runs: RunFolders,
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    data: Data = Path("data"),
    results: Annotated[
        Path, typer.Option(help="Folder of results; the maps go to its figures/.")
    ] = Path("results"),
    raw: Annotated[
        Path | None,
        typer.Option(
            help="Folder of drawn photographs, whose lesions are known.", show_default=False
        ),
    ] = None,
    size: Annotated[int, typer.Option(help="Size that they were drawn with.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed that they were drawn with.")] = 0,
    threads: Threads = 1,
):
    """Draw class activation maps of some methods on the domain that they held out: figures/cam.png, .pdf, .svg and cam.csv.

    Beside them stands what tells a map from a decoration: its rank correlation with the map of random weights and, on drawn photographs,
    the share of it that falls on lesions.

    Example: clipdr cam results/runs/dg/{ordinal_clip,clip_dr}/APTOS/0 --domains APTOS,IDRID,MESSIDOR
    """
    limit_threads(threads)
    from clipdr.artifacts.files import write_text
    from clipdr.inference import grad_cam as maps
    from clipdr.report.figures import cam as cam_figure
    from clipdr.report.figures import style

    rows, images, found = maps.compute(runs, data, domains.split(","))
    drawn = maps.lesions(rows, raw, images.shape[-1], size, seed) if raw else None
    numbers = maps.measure(rows, found, drawn)
    style.write(cam_figure.plot(rows, images, found, numbers), "cam", results / "figures")
    write_text(
        results / "figures" / "cam.csv",
        numbers.to_csv(index=False, float_format="%.4f", lineterminator="\n"),
    )
    names = [f"figures/cam{suffix}" for suffix in (*style.FORMATS, ".csv")]
    receipts.write(results / "receipts" / "figures" / "cam.json", "cam", results, names)
