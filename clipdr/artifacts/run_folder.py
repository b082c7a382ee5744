"""Run folders: results/runs/PROTOCOL/METHOD/HELD_OUT/SEED.

This is the only module that decodes the identity of a run from its path.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from clipdr import DataError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RunFolder:
    """Path of a run folder, with the identity that its last four parts name.

    Attributes:
        path: The folder.

    Raises:
        DataError: If the path has fewer than four parts, or its last part is no seed.
    """

    path: Path

    def __post_init__(self) -> None:
        """Check that the path can be a run folder."""
        object.__setattr__(self, "path", Path(self.path))
        if len(self.path.parts) < 4 or not self.path.name.isdigit():
            raise DataError(
                f"{self.path}: not a run folder. Name it PROTOCOL/METHOD/HELD_OUT/SEED, "
                "for example dg/erm/APTOS/0."
            )

    @property
    def protocol(self) -> str:
        """Protocol of the run, for example "dg"."""
        return self.path.parts[-4]

    @property
    def method(self) -> str:
        """Method or variant of the run, for example "clip_dr"."""
        return self.path.parts[-3]

    @property
    def held_out(self) -> str:
        """Held-out name: a domain, or under esdg "all_but_" and the source domain."""
        return self.path.parts[-2]

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return int(self.path.name)

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Protocol, method, held-out name and seed."""
        return self.protocol, self.method, self.held_out, self.seed

    def file(self, name: str) -> Path:
        """Path of a file of the run, for example "scores.csv"."""
        return self.path / name


class Run(NamedTuple):
    """One finished run as read from its folder.

    Attributes:
        folder: The run folder.
        protocol: Protocol, for example "dg".
        method: Method or variant, for example "clip_dr".
        held_out: Held-out name, see `RunFolder.held_out`.
        seed: Seed of the run.
        settings: Content of settings.json.
        provenance: Content of provenance.json.
        history: One row per evaluation; empty where nothing was trained.
    """

    folder: Path
    protocol: str
    method: str
    held_out: str
    seed: int
    settings: dict[str, Any]
    provenance: dict[str, Any]
    history: pd.DataFrame


def read_run(folder: Path | str) -> Run:
    """Read a finished run.

    Args:
        folder: Run folder with settings.json, provenance.json and history.csv.

    Returns:
        The run.

    Raises:
        DataError: If a file of the run is missing or damaged.
    """
    import pandas as pd

    run = RunFolder(Path(folder))
    try:
        settings, provenance = (
            json.loads(run.file(name).read_text()) for name in ("settings.json", "provenance.json")
        )
        history = pd.read_csv(run.file("history.csv"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: not a finished run ({error}). Train it again.") from None
    return Run(run.path, *run.key, settings, provenance, history)


def axes(folders: Iterable[Path | str]) -> dict[str, list[str]]:
    """List the methods and held-out names of some run folders: the rows and columns of every table.

    Args:
        folders: Run folders.

    Returns:
        {"methods": names, "domains": held-out names}, each without duplicates in the order of the
        folders.
    """
    runs = [RunFolder(Path(folder)) for folder in folders]
    return {
        "methods": list(dict.fromkeys(run.method for run in runs)),
        "domains": list(dict.fromkeys(run.held_out for run in runs)),
    }


def first_seed(folders: Iterable[Path | str]) -> list[Path]:
    """Keep the run folder of the lowest seed for each protocol, method and held-out name.

    Args:
        folders: Run folders.

    Returns:
        Run folders in the order in which their protocol, method and held-out name first occur.
    """
    lowest: dict[tuple[str, str, str], RunFolder] = {}
    for run in map(RunFolder, map(Path, folders)):
        lowest[run.key[:3]] = min(lowest.get(run.key[:3], run), run, key=lambda other: other.seed)
    return [run.path for run in lowest.values()]


def by_protocol(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Group runs by protocol, in the order of the runs.

    Args:
        runs: Runs of any protocols.

    Returns:
        Protocol -> its runs.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.protocol, []).append(run)
    return groups
