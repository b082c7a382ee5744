"""Packing: the images of an eye table as one array, DATA/NAME.npy (N, S, S, 3) uint8.

Beside it stand DATA/NAME.csv, the eye table with its column `row` set; DATA/NAME_rejected.csv, the
images that cannot be used and why; and the receipt DATA/receipts/NAME.json. Files appear whole, the
receipt last. Any number of processes writes the same bytes.
"""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.artifacts import receipts
from clipdr.artifacts.files import replacing, write_text
from clipdr.data.preprocessing.image_array import ImageArrayWriter, map_in_processes
from clipdr.multimodal.data.planted_faults import FAULTS
from clipdr.multimodal.data.synthetic_eyes import synthetic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Image = np.ndarray | str  # (S, S, 3) uint8, or the reason why there is none


class SyntheticEye(NamedTuple):
    """One eye of a synthetic domain, as `clipdr.data.synthetic.patients.eye` takes it."""

    domain: str
    patient: int
    side: str
    grade: int
    seed: int


def pack(
    eyes: pd.DataFrame, images: Iterable[Image], data: Path | str, name: str
) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """Write array, table, list of rejected images and receipt. Images are streamed to the file.

    Args:
        eyes: Eye table of N rows.
        images: One image per row, all of one size, or the reason why there is none.
        data: Folder of packed eye tables.
        name: Name of the table.

    Returns:
        The eye table as written, and the rejected images (image, reason).

    Raises:
        DataError: If no image can be used.
    """
    data, images = Path(data), iter(images)
    kept, rejected = [], []
    leading = list(_until_first_image(images))  # the size is that of the first image
    if not leading or isinstance(leading[-1], str):
        raise DataError(
            f"{name}: none of {len(eyes)} images can be used (first: {leading[0]}). "
            f"Check the folder of images."
        )
    with (
        replacing(data / f"{name}.npy") as path,
        ImageArrayWriter(path, leading[-1].shape[0], len(eyes)) as writer,
    ):
        for key, image in zip(eyes["image"], itertools.chain(leading, images), strict=True):
            kept.append(not isinstance(image, str))
            if isinstance(image, str):
                rejected.append({"image": key, "reason": image})
            else:
                writer.add(image)
    table = eyes[kept].reset_index(drop=True).assign(row=np.arange(sum(kept)))
    files = {
        f"{name}_rejected.csv": pd.DataFrame(rejected, columns=["image", "reason"]),
        f"{name}.csv": table,
    }
    for file, frame in files.items():
        write_text(data / file, frame.to_csv(index=False))
    job, size = f"multimodal prepare {name}", leading[-1].shape[0]
    names = [f"{name}.npy", *files]
    receipts.write(
        data / "receipts" / f"{name}.json",
        job,
        data,
        names,
        size=size,
        images=len(table),
        rejected=len(rejected),
    )
    return table, rejected


def _until_first_image(images: Iterator[Image]) -> Iterator[Image]:
    """Reasons before the first image, and that image."""
    for image in images:
        yield image
        if not isinstance(image, str):
            return


def fundus_images(
    eyes: pd.DataFrame, folder: Path | str, size: int, processes: int = 1
) -> Iterator[Image]:
    """Read the images of an eye table, cropped to the fundus.

    Args:
        eyes: Eye table of N rows.
        folder: Folder that the paths in column `image` are relative to.
        size: Side S of the square in pixels.
        processes: Worker processes.

    Yields:
        (S, S, 3) uint8, or why the image cannot be used: missing, unreadable, no fundus.
    """
    files = [
        (Path(folder) / image, dataset)
        for image, dataset in zip(eyes["image"], eyes["dataset"], strict=True)
    ]
    return map_in_processes(partial(_read_image, size=size), files, processes, "images")


def _read_image(file: tuple[Path, str], size: int) -> Image:
    """One image file of a data set, cropped; or why it cannot be used."""
    from clipdr.data.preprocessing.prepare import prepare_image

    path, dataset = file
    if not path.is_file():
        return "no such file"
    prepared = prepare_image(path, dataset, size)
    return prepared.reason or prepared.image


def synthetic_images(
    domains: Sequence[str], patients: int, seed: int, size: int, processes: int = 1
) -> Iterator[Image]:
    """Render the images of synthetic domains in the order of `synthetic`, cropped to the fundus.

    Args:
        domains: Synthetic domains.
        patients: Patients per domain.
        seed: Seed of the patients.
        size: Side S of the square in pixels.
        processes: Worker processes.

    Yields:
        (S, S, 3) uint8.
    """
    from clipdr.data.synthetic.patients import cohort

    eyes = [
        SyntheticEye(domain, patient.number, side, grade, seed)
        for domain in domains
        for patient in cohort(domain, patients, seed)
        for side, grade in patient.grades.items()
    ]
    return map_in_processes(partial(_render_image, size=size), eyes, processes, "images")


def _render_image(eye: SyntheticEye, size: int) -> Image:
    """One synthetic image, cropped."""
    from clipdr.data.preprocessing import fundus
    from clipdr.data.synthetic import patients, renderer

    image = renderer.render(patients.eye(*eye), size)[0]
    return fundus.crop(image, fundus.detect(image).circle, size)[0]


def pack_synthetic(
    data: Path | str,
    name: str,
    domains: Sequence[str],
    patients: int,
    seed: int,
    size: int,
    fault: str = "",
    processes: int = 1,
) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """Generate and pack the eyes of some synthetic domains.

    Args:
        data: Folder of packed eye tables.
        name: Name of the table.
        domains: Synthetic domains.
        patients: Patients per domain.
        seed: Seed of the patients.
        size: Side of the square in pixels.
        fault: A key of `FAULTS`, a fault that the sanity checks must detect; "" for none.
        processes: Worker processes.

    Returns:
        As `pack`.

    Raises:
        DataError: If the fault or a domain is unknown.
    """
    if fault and fault not in FAULTS:
        raise DataError(f"fault {fault!r} is unknown. Choose {', '.join(FAULTS)}.")
    tables = [synthetic(domain, patients, seed) for domain in domains]
    eyes = pd.concat(tables, ignore_index=True)
    eyes = FAULTS[fault](eyes, np.random.default_rng(seed)) if fault else eyes
    return pack(eyes, synthetic_images(domains, patients, seed, size, processes), data, name)
