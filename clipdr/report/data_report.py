"""Data report: image counts, resolutions, rejected and flagged files, and image quality.

Input: per domain a manifest, its packed store and its list of rejected files. Output in
RESULTS/data/: counts.csv, .json, .md, .tex, resolutions.csv, quality.csv, samples.csv,
samples_DOMAIN.png, quality.png and index.html.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup
from rich.console import Console
from rich.progress import track

from clipdr import DataError
from clipdr.artifacts.files import write_text
from clipdr.data.domains import DOMAINS, is_synthetic
from clipdr.data.manifest import open_store, read_manifest
from clipdr.data.preprocessing import quality
from clipdr.report import data_report_html
from clipdr.report.data_counts import Domain, count_table, counts
from clipdr.report.data_report_figures import PANELS, quality_figure, samples, sheet
from clipdr.report.data_report_html import Summary
from clipdr.report.figures import style
from clipdr.report.tables import table, writers
from clipdr.report.tables.table import UNDEFINED

FILES = (
    "index.html",
    "counts.csv",
    "counts.json",
    "counts.md",
    "counts.tex",
    "resolutions.csv",
    "quality.csv",
    "quality.png",
    "samples.csv",
)


def write(domains: Sequence[str], data: Path, folder: Path) -> list[str]:
    """Write the data report of some domains, index.html last.

    Args:
        domains: Names, in the order of every table.
        data: Folder with manifests/, store/ and rejected/.
        folder: Folder to write to.

    Returns:
        Names of the files.

    Raises:
        DataError: As read_manifest and open_store, and if there is no list of rejected files.
    """
    folder, console = Path(folder), Console(stderr=True)
    parts = [
        read(name, Path(data))
        for name in track(domains, "data report", console=console, disable=not console.is_terminal)
    ]
    counted = counts(parts)
    of_counts = count_table(counted)
    for suffix in (".json", ".md", ".tex"):
        write_text(folder / f"counts{suffix}", writers.WRITERS[suffix](of_counts))
    write_text(folder / "counts.csv", _csv(counted))
    frames = [resolutions(part.manifest) for part in parts]
    write_text(folder / "resolutions.csv", _csv(pd.concat(frames)))
    write_text(folder / "quality.csv", _csv(pd.concat([part.quality for part in parts])))
    write_text(folder / "samples.csv", _csv(pd.concat([samples(part.manifest) for part in parts])))
    for part in parts:
        figure = sheet(part.manifest, part.store)
        style.write(figure, f"samples_{part.name}", folder, [".png"])
    figure = quality_figure({part.name: part.quality for part in parts})
    style.write(figure, "quality", folder, [".png"])
    summaries = [summary(part.manifest, part.rejected, part.quality) for part in parts]
    fragment = data_report_html.fragment(of_counts, summaries, folder)
    write_text(folder / "index.html", data_report_html.page(fragment))
    return [*FILES, *(f"samples_{name}.png" for name in domains)]


def data_report(
    folder: Path, data: Path, manifests: Mapping[str, pd.DataFrame], with_images: bool
) -> Markup | None:
    """Render a written data report as a fragment, from its files.

    Args:
        folder: RESULTS/data.
        data: Folder with rejected/.
        manifests: {domain: manifest}.
        with_images: False leaves the sample sheets out.

    Returns:
        HTML, None where a file of the data report is missing.
    """
    names = ["quality.csv", "quality.png", *(f"samples_{name}.png" for name in manifests)]
    of_counts = table.read(folder / "counts.json")
    if of_counts is None or not all((folder / name).is_file() for name in names):
        return None
    measured = pd.read_csv(folder / "quality.csv", dtype={"domain": str})
    summaries = [
        summary(manifest, rejected(data, name), measured[measured["domain"] == name])
        for name, manifest in manifests.items()
    ]
    return data_report_html.fragment(of_counts, summaries, folder, with_images)


def read(name: str, data: Path) -> Domain:
    """Read one domain from its three files, and measure its quality.

    Raises:
        DataError: As read_manifest and open_store, and if there is no list of rejected files.
    """
    manifest = read_manifest(data / "manifests" / f"{name}.csv")
    store = open_store(data / "store" / f"{name}.npy", manifest)
    return Domain(name, manifest, store, rejected(data, name), quality.measure(manifest, store))


def rejected(data: Path, name: str) -> pd.DataFrame:
    """Read the rejected files of a domain: image, grade, split, reason.

    Raises:
        DataError: If the list is missing or damaged.
    """
    path = data / "rejected" / f"{name}.csv"
    try:
        return pd.read_csv(path, keep_default_na=False)
    except (FileNotFoundError, ValueError) as error:
        raise DataError(
            f"{path}: missing or no table ({error}). Run `clipdr prepare` for this domain again."
        ) from None


def resolutions(manifest: pd.DataFrame) -> pd.DataFrame:
    """Count the sizes of the image files of a domain.

    Returns:
        Columns domain, width, height (pixels), images; the most frequent size first.
    """
    sizes = manifest.groupby(["width", "height"]).size().rename("images").reset_index()
    sizes.insert(0, "domain", str(manifest["domain"].iloc[0]))
    return sizes.sort_values(["images", "width", "height"], ascending=[False, True, True])


def summary(manifest: pd.DataFrame, rejected: pd.DataFrame, measured: pd.DataFrame) -> Summary:
    """Summarise one domain.

    Args:
        manifest: Its manifest.
        rejected: Its rejected files: image, grade, split, reason.
        measured: Its measures of quality (quality.measure).
    """
    name = str(manifest["domain"].iloc[0])
    facts = DOMAINS.get(name)
    flags = manifest["flag"].str.split().explode().dropna().value_counts()
    patients = manifest.loc[manifest["patient"] != "", "patient"].nunique()
    medians = measured[quality.COLUMNS].median()
    description = [facts.title, facts.country, facts.camera, facts.licence] if facts else []
    return Summary(
        name=name,
        facts=description or ["A custom dataset."],
        synthetic=is_synthetic(name),
        images=len(manifest),
        patients=str(patients) if patients else "unknown",
        sizes=[
            f"{width} x {height}: {images}"
            for _, width, height, images in resolutions(manifest).itertuples(index=False)
        ],
        flagged=int((manifest["flag"] != "").sum()),
        flags=[f"{flag}: {count}" for flag, count in flags.items()],
        rejected=list(rejected[["image", "reason"]].itertuples(index=False, name=None)),
        measured=int(measured["sharpness"].notna().sum()),
        quality=[
            _printed(factor * medians[column], 1 if factor == 1 else 2)
            for column, (_, factor, _) in PANELS.items()
        ],
    )


def _printed(number: float, decimals: int) -> str:
    """A number as text, n/a where it is undefined."""
    return UNDEFINED if np.isnan(number) else f"{number:.{decimals}f}"


def _csv(frame: pd.DataFrame) -> str:
    """CSV text; a file name that a spreadsheet would take for a formula is disarmed."""
    if "image" in frame:
        frame = frame.assign(image=frame["image"].map(writers.inert))
    return frame.to_csv(index=False, float_format="%.4f", lineterminator="\n")
