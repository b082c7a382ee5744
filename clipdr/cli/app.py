"""The application: groups of commands, shared options, and the end of a command on bad input."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import clipdr
from clipdr import DataError


def application(name: str, text: str) -> typer.Typer:
    """Create a group of commands with the look of all commands here.

    Args:
        name: Name of the group.
        text: Top of its --help, Markdown.
    """
    return typer.Typer(
        name=name,
        help=text,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )


app = application(
    "clipdr",
    "CLIP-style grading of diabetic retinopathy, from fundus images to the tables of a paper.\n\n"
    "The whole study runs with `snakemake --cores all`. These commands are its steps, "
    "to be used one at a time. CONTRIBUTING.md explains the words (run, fold, domain, ...).",
)
pretrain_app = application(
    "pretrain",
    "RET-CLIP: pre-train an image and a text encoder on both eyes of a patient and the report, "
    "then evaluate them.\n\n"
    "Order: `pairs` (patients table), `train`, `export` (a backbone that every grading method can "
    "use). `report` collects what the other commands evaluate.",
)
multimodal_app = application(
    "multimodal",
    "Multimodal transformer: grade DR on two scales and retrieve, from image, clinical text and "
    "structured data of an eye.\n\n"
    "Order: `prepare`, `train`, then the evaluations. `report` collects them.",
)

Domain = Annotated[
    str,
    typer.Argument(
        help="Name of a data set, for example APTOS or SIM_APTOS (see `clipdr datasets`)."
    ),
]
Processes = Annotated[
    int, typer.Option(min=1, help="Worker processes. The result does not depend on their number.")
]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads of torch.")]
Data = Annotated[Path, typer.Option(help="Folder with manifests/, store/ and features/.")]
Keep = Annotated[
    bool,
    typer.Option(
        "--keep",
        help="Also write checkpoints.safetensors, for selection rules that need every checkpoint.",
    ),
]
RawFolder = Annotated[
    Path, typer.Option(help="Folder of the downloaded data: one folder per data set, and splits/.")
]
RunFolders = Annotated[
    list[Path], typer.Argument(help="Run folders: results/runs/PROTOCOL/METHOD/HELD_OUT/SEED.")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"clipdr {clipdr.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Options of `clipdr` itself; the help text is that of `app`."""


def guarded(application: typer.Typer) -> None:
    """Run an application; bad input ends it with one line on stderr and exit status 2."""
    try:
        application(prog_name=application.info.name)
    except DataError as error:
        print(f"{application.info.name}: {error}", file=sys.stderr)
        sys.exit(2)


def json_object(text: str, option: str) -> dict[str, Any]:
    """Parse the value of an option as a JSON object.

    Args:
        text: Value on the command line.
        option: Name of the option, for the message.

    Raises:
        DataError: If the text is not a JSON object.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise DataError(f"{option}: not JSON ({error}). Give an object, in quotes.") from None
    if not isinstance(content, dict):
        raise DataError(f"{option}: {text!r} is not a JSON object. Write {{...}}, in quotes.")
    return content


def limit_threads(count: int) -> None:
    """Limit torch to `count` CPU threads. Call it before torch is imported."""
    os.environ.setdefault("OMP_NUM_THREADS", str(count))
    # Large memory pages for torch: a new batch causes fewer page faults.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    import torch

    torch.set_num_threads(count)
