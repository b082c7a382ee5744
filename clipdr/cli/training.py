"""Commands for training: a run, further rules of model selection, hyper-parameter search."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from clipdr.artifacts import receipts
from clipdr.artifacts.run_folder import RunFolder
from clipdr.cli.app import Data, Keep, Threads, app, json_object, limit_threads

command = partial(app.command, rich_help_panel="Training")


@command()
def train(
    folder: Annotated[
        Path,
        typer.Argument(help="Run folder to write: results/runs/PROTOCOL/METHOD/HELD_OUT/SEED."),
    ],
    settings: Annotated[
        str,
        typer.Option(
            help="JSON of backbone, frozen, image, training and options: all settings of the run."
        ),
    ],
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    data: Data = Path("data"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Threads = 1,
    keep: Keep = False,
) -> None:
    """Train one method with one domain held out, and predict validation and test images.

    The last four parts of the folder are protocol, method, held-out domain and seed. Rerun the same
    command to resume an interrupted run; the result is bitwise identical.
    """
    limit_threads(threads)
    from clipdr.training import run

    manifests = [data / "manifests" / f"{domain}.csv" for domain in domains.split(",")]
    key = (json_object(settings, "--settings"), *RunFolder(folder).key)
    run.train(*key, manifests=manifests, data=data, folder=folder, keep=keep, device=device)


@command()
def curve(
    path: Annotated[
        Path,
        typer.Argument(
            help="History to write: results/inner/PROTOCOL/METHOD/HELD_OUT/SEED/LEFT_OUT.csv."
        ),
    ],
    settings: Annotated[str, typer.Option(help="JSON of the run's settings, as for train.")],
    domains: Annotated[
        str,
        typer.Option(
            help="Source domains of the run, separated by commas, without the held-out domain."
        ),
    ],
    data: Data = Path("data"),
    threads: Threads = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Leave one source domain out of training and score it, for the selection rule loso."""
    limit_threads(threads)
    from clipdr.artifacts.files import write_text
    from clipdr.training import model_selection

    _, method, _, seed = RunFolder(path.parent).key
    manifests = [data / "manifests" / f"{domain}.csv" for domain in domains.split(",")]
    history = model_selection.curve(
        json_object(settings, "--settings"),
        method,
        path.stem,
        seed,
        manifests=manifests,
        data=data,
        device=device,
    )
    write_text(path, history.to_csv(index=False) if len(history) else "step\n")


@command()
def select(
    folder: Annotated[Path, typer.Argument(help="Run folder with checkpoints.safetensors.")],
    rules: Annotated[str, typer.Option(help="loso, oracle or both, separated by a comma.")],
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    inner: Annotated[
        list[Path] | None,
        typer.Option(
            help="CSV files of `clipdr curve`, one per left-out source domain (rule loso)."
        ),
    ] = None,
    data: Data = Path("data"),
    threads: Threads = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Select a checkpoint by the rules loso or oracle, and predict: selected.parquet.

    loso: leave one source domain out. oracle: uses grades of the test images, as a bound.

    The rule oracle uses the test grades: it is an upper bound, not a result.
    """
    limit_threads(threads)
    from clipdr.training import model_selection

    manifests = [data / "manifests" / f"{domain}.csv" for domain in domains.split(",")]
    curves = {path.stem: path for path in inner or []}
    model_selection.select(
        folder, rules.split(","), curves, manifests=manifests, data=data, device=device
    )
    receipts.write(
        folder / "selected.receipt.json",
        f"select {rules}",
        folder,
        ["selected.parquet", "selected.json"],
    )


@command()
def search(
    path: Annotated[Path, typer.Argument(help="File to write: results/search/METHOD.json.")],
    settings: Annotated[str, typer.Option(help="JSON of the method's settings, as for train.")],
    domains: Annotated[
        str,
        typer.Option(
            help="Source domains of one fold, separated by commas, without the held-out domain."
        ),
    ],
    trials: Annotated[
        int, typer.Option(min=1, help="Trials; the first is the study's own setting.")
    ] = 5,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the samples and of every training.")
    ] = 0,
    data: Data = Path("data"),
    threads: Threads = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Tune the learning rate and one parameter of a method on source validation images.

    The file holds every trial and the best one.
    """
    limit_threads(threads)
    from clipdr.artifacts.files import write_text
    from clipdr.training import hparam_search

    manifests = [data / "manifests" / f"{domain}.csv" for domain in domains.split(",")]
    result = hparam_search.search(
        json_object(settings, "--settings"),
        path.stem,
        seed,
        trials,
        manifests=manifests,
        data=data,
        device=device,
    )
    write_text(path, json.dumps(result, indent=1) + "\n")
