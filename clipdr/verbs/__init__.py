"""What all verbs of the command line share: the app, the options that several take, and how they read them.

The verbs: data, fitting and reporting; `clipdr.__main__` brings them together. Heavy imports stand inside the verb.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from clipdr import DataError


def application(name, said):
    """A typer app of verbs, as all of this package look and behave. said: the top of its --help"""
    return typer.Typer(
        name=name, help=said, no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False
    )


app = application(
    "clipdr",
    "CLIP-style grading of diabetic retinopathy, from fundus photographs to the tables of a paper.\n\n"
    "The whole study runs with `snakemake --cores all`; these are its steps, to be used one at a time.",
)

Domain = Annotated[str, typer.Argument(help="Name of a data set, e.g. APTOS or SIM_APTOS (see clipdr/domains.py).")]
Processes = Annotated[int, typer.Option(min=1, help="Worker processes; the result does not depend on it.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of torch.")]
Data = Annotated[Path, typer.Option(help="Folder with manifests/, store/ and features/.")]
Keep = Annotated[bool, typer.Option("--keep", help="Write checkpoints.safetensors too, for rules of selection that need them.")]
RawFolder = Annotated[Path, typer.Option(help="Folder of the user's data: one folder per data set, and splits/.")]
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
