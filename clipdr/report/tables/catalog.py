"""Catalogue of all tables: protocol, section of the report, and how each is made from runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clipdr import DataError
from clipdr.artifacts.run_folder import RunFolder, axes
from clipdr.report.tables import benchmark, clinical, comparison, notes, reproduction
from clipdr.report.tables.table import Entry, Table

TABLES: dict[str, Entry] = (
    benchmark.TABLES | clinical.TABLES | comparison.TABLES | reproduction.TABLES
)


def entry(name: str) -> Entry:
    """Look up a table.

    Raises:
        DataError: If the name is unknown.
    """
    if name not in TABLES:
        raise DataError(f"table {name!r} is unknown. Known tables: {', '.join(TABLES)}.")
    return TABLES[name]


def make(name: str, runs: Sequence[Path], results: Path) -> Table:
    """Make one table of finished, scored runs.

    Args:
        name: A key of TABLES.
        runs: Run folders. Those of another protocol than the table's are left out.
        results: Folder with comparisons.csv and gate/.

    Raises:
        DataError: If the name is unknown, or a file of a run is missing.
    """
    table = entry(name)
    folders = [run for run in runs if RunFolder(run).protocol == table.protocol]
    content = table.read(folders, results)
    result = table.make(content, **axes(folders), remarks=notes.remarks(folders))
    return notes.with_leakage(result, notes.leakage_verdicts(results, folders))
