"""A toy cohort with a known answer, packed as `pairs` leaves it: a bright spot in each eye, whose corner the report names."""

import numpy as np
import pandas as pd

from clipdr.data.manifest import DTYPES
from clipdr.pretrain.data import patients_table

SIDE = 32
CORNERS = {
    "upper outer": (4, 4),
    "upper inner": (4, 20),
    "lower outer": (20, 4),
    "lower inner": (20, 20),
}

PLACES = CORNERS | {"upper": (2, 12), "lower": (22, 12), "outer": (12, 2), "inner": (12, 22)}


def eye(corner, rng):
    """(SIDE, SIDE, 3) uint8."""
    picture = rng.normal(60, 5, (SIDE, SIDE, 3))
    top, left = PLACES[corner]
    picture[top : top + 8, left : left + 8] += 150
    return picture.clip(0, 255).astype(np.uint8)


def make(data, patients=48, monocular=0, visits=1, seed=0, names=tuple(CORNERS), splits=None):
    """Write manifest, store and patients table of TOY; returns the table's path.

    monocular : so many of the first patients have a left eye only;  names : of PLACES;  splits : (patients,) or None, drawn
    """
    rng, images, rows = np.random.default_rng(seed), [], []
    for number in range(patients):
        for visit in range(visits):
            row = {
                "dataset": "TOY",
                "patient_id": f"p{number}",
                "visit_id": str(visit),
                "language": "en",
                "left_image": "",
                "right_image": "",
            }
            said = []
            for side in patients_table.SIDES[: 1 if number < monocular else 2]:
                corner = names[rng.integers(len(names))]
                row[f"{side}_image"] = f"TOY/p{number}_{visit}_{side}.png"
                row[f"text_{side}"] = f"bright spot {corner}"
                row[f"spot_{side}"] = corner
                images.append((row[f"{side}_image"], f"p{number}", side, eye(corner, rng)))
                said.append(f"{side.capitalize()} eye: bright spot {corner}.")
            left = row["spot_left"]
            rows.append(
                row
                | {
                    "text": " ".join(said),
                    "N": str(int(left.startswith("upper"))),
                    "D": str(int(left.endswith("outer"))),
                }
            )
    for folder in ("manifests", "store", "patients"):
        (data / folder).mkdir(parents=True, exist_ok=True)
    np.save(data / "store" / "TOY.npy", np.stack([picture for *_, picture in images]))
    manifest = pd.DataFrame(
        [{"image": image, "patient": patient, "eye": side} for image, patient, side, _ in images]
    )
    manifest = manifest.assign(
        row=range(len(images)),
        domain="TOY",
        grade=-1,
        split="",
        camera="",
        flag="",
        phash="",
        width=SIDE,
        height=SIDE,
    )
    manifest = manifest.assign(
        cx=16.0,
        cy=16.0,
        r=16.0,
        w=32.0,
        h=32.0,
        sha256=[f"{row:064x}" for row in range(len(images))],
    )
    manifest[list(DTYPES)].to_csv(data / "manifests" / "TOY.csv", index=False)
    path = data / "patients" / "toy.csv"
    table = pd.DataFrame(rows).fillna("")
    if splits is not None:
        table["split"] = np.repeat(splits, visits)
    patients_table.write(patients_table.finish(table, 0), path, 0)
    return path
