"""Photographs of an eye table -> one packed array. Output: DATA/NAME.npy (N, S, S, 3) uint8, DATA/NAME.csv the eye table, its `row` set,
DATA/NAME_rejected.csv what could not be used and why. Files appear whole; the table comes last."""

from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track

from clipdr import DataError
from clipdr.artifacts.files import replacing, write_text
from clipdr.multimodal.data import eye_table, label_files


def pack(eyes, pictures, data, name):
    """Write the array and the table. pictures: one (S, S, 3) uint8 array per row of `eyes`, or the reason why there is none."""
    kept, rejected, squares = [], [], []
    for image, picture in zip(
        eyes["image"],
        track(pictures, f"packing {name}", len(eyes), console=Console(stderr=True)),
        strict=True,
    ):
        kept.append(not isinstance(picture, str))
        if kept[-1]:
            squares.append(picture)
        else:
            rejected.append({"image": image, "reason": picture})
    if not squares:
        raise DataError(
            f"{name}: none of {len(eyes)} photographs could be used; the first: {rejected[0]['reason']}"
        )
    found = eyes[kept].reset_index(drop=True).assign(row=np.arange(len(squares)))
    data = Path(data)
    with replacing(data / f"{name}.npy") as path:
        np.save(path, np.stack(squares))
    write_text(
        data / f"{name}_rejected.csv",
        pd.DataFrame(rejected, columns=["image", "reason"]).to_csv(index=False),
    )
    write_text(data / f"{name}.csv", found.to_csv(index=False))
    return found, rejected


def photographs(eyes, folder, size):
    """Yields each photograph below a folder cut to its disc, or why it cannot be used: missing, unreadable, no fundus photograph."""
    from clipdr.data.preprocessing.prepare import photograph

    for image, dataset in zip(eyes["image"], eyes["dataset"], strict=True):
        path = Path(folder) / image
        if not path.is_file():
            yield "no such file"
            continue
        prepared = photograph(path, dataset, size)
        yield prepared.reason or prepared.image


def painted(domain, patients, seed, size):
    """Yields the photographs of a synthetic domain in the order of sources.synthetic, cut to their disc."""
    from clipdr.data.preprocessing import fundus
    from clipdr.data.synthetic import patients as people
    from clipdr.data.synthetic.renderer import paint

    for patient in people.cohort(domain, patients, seed):
        for side, grade in patient.grades.items():
            picture = paint(people.eye(domain, patient.number, side, grade, seed), size)[0]
            view = fundus.look(picture)
            yield fundus.crop(picture, view.circle, size)[0]


def synthetic(data, name, domains, patients, seed, size, plant=""):
    """Draw and pack the eyes of some synthetic domains; patients: per domain; plant: a fault of cohort.PLANTS, or none."""
    eyes = pd.concat(
        [label_files.synthetic(domain, patients, seed) for domain in domains], ignore_index=True
    )
    if plant and plant not in eye_table.PLANTS:
        raise DataError(f"plant {plant!r} is unknown; choose {', '.join(eye_table.PLANTS)}")
    eyes = eye_table.PLANTS[plant](eyes, np.random.default_rng(seed)) if plant else eyes
    return pack(
        eyes,
        (picture for domain in domains for picture in painted(domain, patients, seed, size)),
        data,
        name,
    )


def open_pack(data, name):
    """The eye table and its packed photographs, memory-mapped; DataError where they do not belong together."""
    data = Path(data)
    eyes = eye_table.read(data / f"{name}.csv")
    try:
        store = np.lib.format.open_memmap(data / f"{name}.npy", mode="c")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{data / name}.npy: no packed photographs ({error}); run `clipdr multimodal prepare`"
        ) from None
    if (
        store.dtype != np.uint8
        or store.ndim != 4
        or eyes["row"].min() < 0
        or eyes["row"].max() >= len(store)
    ):
        raise DataError(
            f"{data / name}.npy: does not belong to {name}.csv; run `clipdr multimodal prepare` again"
        )
    return eyes, store
