"""Placement of tables and figures in the sections of the report.

A table states its section in the catalogue of tables, a figure in its module (SECTION). Nothing is
placed by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clipdr.report.figures import catalog as figures
from clipdr.report.page.layout import SECTIONS
from clipdr.report.tables import catalog as tables


def table_section(name: str) -> str:
    """Section of a table.

    Raises:
        DataError: If no table has this name.
    """
    return tables.entry(name).section


def figure_section(name: str) -> str:
    """Section of a figure.

    Raises:
        DataError: If no figure has this name.
    """
    return figures.module(name).SECTION


def by_section(names: Sequence[str], section_of: Callable[[str], str]) -> dict[str, list[str]]:
    """Group names by section.

    Args:
        names: Names of tables or of figures.
        section_of: `table_section` or `figure_section`.

    Returns:
        {section: its names, in order} for every section of the report.
    """
    groups: dict[str, list[str]] = {section: [] for section in SECTIONS}
    for name in names:
        groups[section_of(name)].append(name)
    return groups


def requested_sections() -> set[str]:
    """Sections that show tables or figures of the catalogues."""
    of_tables = {entry.section for entry in tables.TABLES.values()}
    return of_tables | {figure_section(name) for name in figures.FIGURES}
