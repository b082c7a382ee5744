"""Catalogue of all tables: name -> how it is made from the scores of runs."""

from pathlib import Path

from clipdr import DataError
from clipdr.artifacts.run_folder import RunFolder, axes
from clipdr.evaluation import aggregate
from clipdr.evaluation import comparison as comparisons
from clipdr.report.tables import benchmark, clinical, comparison, notes, reproduction
from clipdr.report.tables.table import Table

TABLES = benchmark.TABLES | clinical.TABLES | comparison.COMPARISONS | reproduction.REPRODUCTIONS


def make(name: str, runs: list[Path], results: Path) -> Table:
    """Make one table of finished, scored runs.

    Args:
        name: A key of TABLES.
        runs: Run folders. Those of another protocol than the table's are left out.
        results: Folder with comparisons.csv and gate/.

    Raises:
        DataError: If the name is unknown, or a file of a run is missing.
    """
    if name not in TABLES:
        raise DataError(f"table {name!r} is unknown. Known tables: {', '.join(TABLES)}.")
    protocol = TABLES[name].keywords["protocol"]
    runs = [run for run in runs if RunFolder(run).protocol == protocol]
    if name in comparison.COMPARISONS:
        content = comparisons.read(results / "comparisons.csv", protocol)
    else:
        averages_of = benchmark.READS.get(name, benchmark.rule_averages)
        content = averages_of(
            aggregate.collect(runs), aggregate.collect_draws(runs, selection=None)
        )
    table = TABLES[name](content, **axes(runs), remarks=notes.remarks(runs))
    return notes.marked(table, notes.found(results, runs))
