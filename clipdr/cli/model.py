"""Commands for trained models: class activation maps."""

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
            help="Folder of synthetic images, whose lesions are known.", show_default=False
        ),
    ] = None,
    size: Annotated[int, typer.Option(help="Size with which they were generated.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed with which they were generated.")] = 0,
    threads: Threads = 1,
) -> None:
    """Plot class activation maps on the held-out domain: figures/cam.png, .pdf, .svg and cam.csv.

    cam.csv holds two checks of the maps: the rank correlation with the map of random weights and,
    on synthetic images, the share of the map that falls on lesions.

    Example: clipdr cam results/runs/dg/{ordinal_clip,clip_dr}/APTOS/0 --domains APTOS,IDRID,RLDR
    """
    limit_threads(threads)
    from clipdr.artifacts.files import write_text
    from clipdr.inference import grad_cam
    from clipdr.report.figures import cam as cam_figure
    from clipdr.report.figures import style

    rows, images, maps = grad_cam.maps_of_runs(runs, data, domains.split(","))
    lesions = grad_cam.lesion_masks(rows, raw, images.shape[-1], size, seed) if raw else None
    numbers = grad_cam.measure(rows, maps, lesions)
    style.write(cam_figure.plot(rows, images, maps, numbers), "cam", results / "figures")
    write_text(
        results / "figures" / "cam.csv",
        numbers.to_csv(index=False, float_format="%.4f", lineterminator="\n"),
    )
    names = [f"figures/cam{suffix}" for suffix in (*style.FORMATS, ".csv")]
    receipts.write(results / "receipts" / "figures" / "cam.json", "cam", results, names)
