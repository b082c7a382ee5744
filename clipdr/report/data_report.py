"""What the data of a study are: counts against the official ones, resolutions, rejected and flagged files, quality, and their looks.

Input: per domain a manifest, its packed store and its list of rejected files. Output in {results}/data/: counts.csv, .md, .tex,
resolutions.csv, quality.csv, samples.csv, samples_{D}.png, quality.png and index.html.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from rich.console import Console
from rich.progress import track

from clipdr import GRADES, DataError
from clipdr.artifacts.files import write_text
from clipdr.data import domains as domains_module
from clipdr.data.domains import DOMAINS
from clipdr.data.manifest import open_store, read_manifest
from clipdr.data.preprocessing import quality
from clipdr.report import data_report_html
from clipdr.report.figures import style
from clipdr.report.tables import table as table_module
from clipdr.report.tables import writers


def data_report(folder, data, manifests, photographs):
    """The data report of `clipdr data_report` as a fragment, from its tables; None where it was not made.

    folder : {results}/data;  data : folder with rejected/;  manifests : {domain: manifest};  photographs : False leaves them out
    """
    names = [
        "counts.csv",
        "quality.csv",
        "quality.png",
        *(f"samples_{name}.png" for name in manifests),
    ]
    if not all((folder / name).is_file() for name in names):
        return None
    quality = pd.read_csv(folder / "quality.csv", dtype={"domain": str})
    counted = pd.read_csv(folder / "counts.csv", dtype={"official": "Int64", "difference": "Int64"})
    parts = [
        Domain(name, manifest, None, rejected(data, name), quality[quality["domain"] == name])
        for name, manifest in manifests.items()
    ]
    table = count_table(counted)
    return Markup(
        data_report_html.fragment(table, [summary(part) for part in parts], folder, photographs)
    )


def rejected(data, name):
    """The rejected photographs of a domain; DataError where the list is missing."""
    path = data / "rejected" / f"{name}.csv"
    if not path.is_file():
        raise DataError(f"{path}: missing; run `clipdr prepare` for this domain")
    return pd.read_csv(path, keep_default_na=False)


SPLITS = ("train", "val")
SHORT = ("no DR", "mild", "moderate", "severe", "PDR")  # heads of narrow columns
FILES = (
    "index.html",
    "counts.csv",
    "counts.md",
    "counts.tex",
    "resolutions.csv",
    "quality.csv",
    "quality.png",
    "samples.csv",
)
COLUMNS = 8  # photographs per grade on a sample sheet
PANELS = {  # column of quality.measure -> title, factor, least width of the axis
    "sharpness": ("sharpness (grey levels²)", 1, 10),
    "brightness": ("mean brightness (0 to 255)", 1, 128),
    "bright_clipped": ("overexposed pixels (%)", 100, 1),
    "dark_clipped": ("underexposed pixels (%)", 100, 1),
}


class Domain(NamedTuple):
    """One domain as prepared: its name, manifest, store (N, S, S, 3) uint8, rejected files (frame), quality (quality.measure)."""

    name: str
    manifest: pd.DataFrame
    store: np.ndarray
    rejected: pd.DataFrame
    quality: pd.DataFrame


def write(domains, data, folder):
    """Write the data report of some domains into a folder, the page last; returns the names of its files.

    domains : names, in the order of every table;  data : folder with manifests/, store/ and rejected/
    Raises DataError as read_manifest and open_store do, and where there is no list of rejected files.
    """
    folder, console = Path(folder), Console(stderr=True)
    parts = [
        read(name, Path(data))
        for name in track(domains, "data report", console=console, disable=not console.is_terminal)
    ]
    table = count_table(counts(parts))
    for suffix in (".md", ".tex"):
        write_text(folder / f"counts{suffix}", writers.WRITERS[suffix](table))
    write_text(folder / "counts.csv", _csv(counts(parts)))
    write_text(folder / "resolutions.csv", _csv(pd.concat([resolutions(part) for part in parts])))
    write_text(folder / "quality.csv", _csv(pd.concat([part.quality for part in parts])))
    write_text(folder / "samples.csv", _csv(pd.concat([samples(part) for part in parts])))
    for part in parts:
        style.write(sheet(part), f"samples_{part.name}", folder, [".png"])
    style.write(quality_figure(parts), "quality", folder, [".png"])
    fragment = data_report_html.fragment(table, [summary(part) for part in parts], folder)
    write_text(folder / "index.html", data_report_html.page("Data report", fragment))
    return [*FILES, *(f"samples_{name}.png" for name in domains)]


def read(name, data):
    """One domain from its three files, and its quality."""
    manifest = read_manifest(data / "manifests" / f"{name}.csv")
    store = open_store(data / "store" / f"{name}.npy", manifest)
    try:
        rejected = pd.read_csv(data / "rejected" / f"{name}.csv", keep_default_na=False)
    except (FileNotFoundError, ValueError) as error:
        raise DataError(
            f"{data / 'rejected' / name}.csv: missing or no table ({error}); run `clipdr prepare` again"
        ) from None
    return Domain(name, manifest, store, rejected, quality.measure(manifest, store))


def official(name):
    """{split: images per grade} of the official split files, {} where there are none (a drawn or own domain)."""
    return (DOMAINS[name].counts if name in DOMAINS else None) or {}


def counts(parts):
    """domain, split, grade, images (prepared), rejected, official (NA where there is none), difference (images + rejected - official)."""
    rows = []
    for part in parts:
        for split in SPLITS:
            for grade in range(len(GRADES)):
                kept, refused = (
                    int(((frame["split"] == split) & (frame["grade"] == grade)).sum())
                    for frame in (part.manifest, part.rejected)
                )
                expected = official(part.name).get(split, [pd.NA] * len(GRADES))[grade]
                rows.append(
                    (part.name, split, grade, kept, refused, expected, kept + refused - expected)
                )
    frame = pd.DataFrame(
        rows, columns=["domain", "split", "grade", "images", "rejected", "official", "difference"]
    )
    return frame.astype({"official": "Int64", "difference": "Int64"})


def count_table(counted):
    """Domains and splits x grades, total, official total and rejected; a cell that differs from the official count says so."""
    cells = []
    for (domain, split), rows in counted.groupby(["domain", "split"], sort=False):
        found = rows["images"] + rows["rejected"]
        texts = [
            f"{images}" if pd.isna(expected) or number == expected else f"{images} (of {expected})"
            for images, number, expected in zip(
                rows["images"], found, rows["official"], strict=True
            )
        ]
        expected = rows["official"].sum(min_count=len(GRADES))
        texts += [
            f"{rows['images'].sum()}",
            "none" if pd.isna(expected) else f"{expected}",
            f"{rows['rejected'].sum()}",
        ]
        heads = [*SHORT, "Total", "Official", "Rejected"]
        cells += [
            {"method": f"{domain} {split}", "column": head, "text": text, "mark": ""}
            for head, text in zip(heads, texts, strict=True)
        ]
    names = list(dict.fromkeys(counted["domain"]))
    caption = (
        "Photographs by domain, split and grade, as prepared, beside the official split files."
    )
    if any(map(domains_module.is_synthetic, names)):
        caption = f"SYNTHETIC images: {caption}"
    notes = ["Rejected photographs could not be used; each is listed with its reason."]
    if counted["official"].isna().any():
        notes.append("none: no official split files exist.")
    return table_module.Table(
        "counts", pd.DataFrame(cells), caption, tuple(notes), "Domain and split"
    )


def resolutions(part):
    """domain, width, height (pixels of the file's picture), images; the most frequent first."""
    sizes = part.manifest.groupby(["width", "height"]).size().rename("images").reset_index()
    sizes.insert(0, "domain", part.name)
    return sizes.sort_values(["images", "width", "height"], ascending=[False, True, True])


def summary(part):
    """What the page says of one domain, as plain values; see datapage.Summary."""
    manifest, facts = part.manifest, DOMAINS.get(part.name)
    sizes = resolutions(part)
    flags = manifest["flag"].str.split().explode().dropna().value_counts()
    patients = manifest.loc[manifest["patient"] != "", "patient"].nunique()
    numbers = part.quality[quality.COLUMNS].median()
    return data_report_html.Summary(
        name=part.name,
        facts=[facts.title, facts.country, facts.camera, facts.licence]
        if facts
        else ["A data set of your own."],
        synthetic=domains_module.is_synthetic(part.name),
        images=len(manifest),
        patients=str(patients) if patients else "unknown",
        sizes=[f"{row.width} x {row.height}: {row.images}" for row in sizes.itertuples()],
        flagged=int((manifest["flag"] != "").sum()),
        flags=[f"{name}: {count}" for name, count in flags.items()],
        rejected=list(part.rejected[["image", "reason"]].itertuples(index=False, name=None)),
        measured=int(part.quality["sharpness"].notna().sum()),
        quality=[
            _printed(factor * numbers[column], 1 if factor == 1 else 2)
            for column, (_, factor, _) in PANELS.items()
        ],
    )


def samples(part):
    """domain, grade, place, image, row: up to COLUMNS photographs per grade, drawn at random, always the same for the same manifest."""
    frames = []
    for grade, rows in part.manifest.groupby("grade", sort=True):
        chosen = np.random.default_rng([*part.name.encode(), int(grade)]).permutation(len(rows))[
            :COLUMNS
        ]
        frames.append(
            rows.iloc[np.sort(chosen)][["domain", "grade", "image", "row"]].assign(
                place=range(len(chosen))
            )
        )
    return pd.concat(frames)[["domain", "grade", "place", "image", "row"]]


def sheet(part):
    """The sample sheet: one line per grade, COLUMNS photographs each; a grade with fewer leaves places empty."""
    from matplotlib.figure import Figure

    side = part.store.shape[1]
    step = side + max(side // 32, 2)  # a gap between photographs
    mosaic = np.full((len(GRADES) * step, COLUMNS * step, 3), 255, np.uint8)
    for grade, place, row in samples(part)[["grade", "place", "row"]].itertuples(index=False):
        mosaic[grade * step : grade * step + side, place * step : place * step + side] = part.store[
            row
        ]
    totals = part.manifest["grade"].value_counts()
    with style.style():
        figure = Figure(figsize=(1.5 * style.WIDTH, 4.25), layout="constrained")
        axis = figure.subplots()
        axis.imshow(mosaic[: -(step - side), : -(step - side)])
        labels = [
            f"{grade}  {name}\n{totals.get(grade, 0)} images" for grade, name in enumerate(GRADES)
        ]
        axis.set_yticks([grade * step + side / 2 for grade in range(len(GRADES))], labels)
        axis.set_xticks([])
        axis.tick_params(length=0)
        axis.grid(visible=False)
        axis.set_frame_on(False)
        style.suptitle(
            figure, [part.name], f"{part.name}, {COLUMNS} of each grade, drawn at random"
        )
    return figure


def quality_figure(parts):
    """One panel per measure of quality: box of the middle half, line at the median, whiskers from the 5th to the 95th percentile."""
    from matplotlib.figure import Figure

    names = [part.name for part in parts]
    with style.style():
        figure = Figure(
            figsize=(1.5 * style.WIDTH, 0.9 + 2 * (0.45 + 0.2 * len(parts))), layout="constrained"
        )
        axes = figure.subplots(2, 2, sharey=True)
        for axis, (column, (title, factor, least)) in zip(axes.flat, PANELS.items(), strict=True):
            values = [factor * part.quality[column].dropna().to_numpy() for part in parts]
            look = {
                "orientation": "horizontal",
                "whis": (5, 95),
                "showfliers": False,
                "widths": 0.55,
                "patch_artist": True,
            }
            boxes = axis.boxplot(
                values,
                **look,
                medianprops={"color": "black"},
                boxprops={"linewidth": 0.6},
                whiskerprops={"linewidth": 0.6},
            )
            for box in boxes["boxes"]:
                box.set_facecolor(style.COLOURS[4])
            axis.set_xlim(0, max(axis.get_xlim()[1], least))
            axis.set_xlabel(title)
            axis.set_yticks(range(1, len(names) + 1), names)
            axis.grid(axis="y", visible=False)
        axes[0, 0].invert_yaxis()
        style.suptitle(figure, names, "sharpness and exposure inside the disc, at the stored size")
    return figure


def _printed(number, decimals):
    return table_module.UNDEFINED if np.isnan(number) else f"{number:.{decimals}f}"


def _csv(frame):
    """CSV text; a file name that a spreadsheet would take for a formula is disarmed."""
    if "image" in frame:
        frame = frame.assign(image=frame["image"].map(writers.inert))
    return frame.to_csv(index=False, float_format="%.4f", lineterminator="\n")
