"""Verbs of training: a run, the curves and choices of further rules of selection, the search of settings.

Files in, pure function, files out: every rule of the workflow is one of these lines.
"""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from clipdr.artifacts import receipts
from clipdr.artifacts.run_folder import RunFolder
from clipdr.cli.app import Data, Keep, Threads, app, limit_threads

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
            help="JSON of backbone, frozen, image, training and options: the whole of what matters."
        ),
    ],
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    data: Data = Path("data"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Threads = 1,
    keep: Keep = False,
):
    """Train one method with one domain held out, and predict its validation and test images.

    The folder's name says which: its last four parts are the protocol, the method, the held-out domain and the seed.
    A run that was cut is resumed.
    """
    limit_threads(threads)
    from clipdr.training import run

    manifests = [data / "manifests" / f"{domain}.csv" for domain in domains.split(",")]
    key = (json.loads(settings), *RunFolder(folder).key)
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
            help="The source domains of the run, separated by commas: not the one it holds out."
        ),
    ],
    data: Data = Path("data"),
    threads: Threads = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
):
    """Train on all source domains of a run but one, and score that one as often as the run scores source validation."""
    limit_threads(threads)
    from clipdr.artifacts.files import write_text
    from clipdr.training import model_selection

    _, method, _, seed = RunFolder(path.parent).key
    manifests = [data / "manifests" / f"{domain}.csv" for domain in domains.split(",")]
    history = model_selection.curve(
        json.loads(settings), method, path.stem, seed, manifests=manifests, data=data, device=device
    )
    write_text(path, history.to_csv(index=False) if len(history) else "step\n")


@command()
def select(
    folder: Annotated[Path, typer.Argument(help="Run folder with checkpoints.safetensors.")],
    rules: Annotated[str, typer.Option(help="loso, oracle or both, separated by a comma.")],
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    inner: Annotated[
        list[Path] | None, typer.Option(help="Curves of the left-out source domains, for loso.")
    ] = None,
    data: Data = Path("data"),
    threads: Threads = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
):
    """Choose among a run's checkpoints by further rules, and predict: selected.parquet beside the predictions. oracle uses test grades."""
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
            help="The source domains of one fold, separated by commas: not the one it holds out."
        ),
    ],
    trials: Annotated[
        int, typer.Option(min=1, help="Trials; the first is the study's own setting.")
    ] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws and of every training.")] = 0,
    data: Data = Path("data"),
    threads: Threads = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
):
    """Try learning rates and one parameter of a method by source validation alone, and write down every trial and the best."""
    limit_threads(threads)
    from clipdr.artifacts.files import write_text
    from clipdr.training.hparam_search import search as tried

    manifests = [data / "manifests" / f"{domain}.csv" for domain in domains.split(",")]
    result = tried(
        json.loads(settings), path.stem, seed, trials, manifests=manifests, data=data, device=device
    )
    write_text(path, json.dumps(result, indent=1) + "\n")
