"""Toy patients with a known answer: a bright spot in each eye, whose corner the report names.

Manifest, store and patients table are written as `clipdr pretrain pairs` leaves them.
"""

import numpy as np
import pandas as pd

from clipdr.data.manifest import DTYPES
from clipdr.pretrain.data import patients_table

SIDE = 32  # pixels
CORNERS = {  # (top, left) of the spot in pixels
    "upper outer": (4, 4),
    "upper inner": (4, 20),
    "lower outer": (20, 4),
    "lower inner": (20, 20),
}
PLACES = CORNERS | {"upper": (2, 12), "lower": (22, 12), "outer": (12, 2), "inner": (12, 22)}
TINY = {  # settings of a run of seconds
    "image": "timm/test_efficientnet",
    "weights": "random",
    "side": SIDE,
    "width": 16,
    "length": 64,
    "batch_size": 16,
    "epochs": 20,
    "crop": 1.0,
    "jitter": 0.0,
    "rotate": 0.0,
    "save_every": 1000,
    "lr_image": 1e-3,
}


def eye(corner, rng):
    """Return an image with a bright spot, (SIDE, SIDE, 3) uint8."""
    image = rng.normal(60, 5, (SIDE, SIDE, 3))
    top, left = PLACES[corner]
    image[top : top + 8, left : left + 8] += 150
    return image.clip(0, 255).astype(np.uint8)


def make(data, patients=48, monocular=0, visits=1, seed=0, names=tuple(CORNERS), splits=None):
    """Write manifest, store and patients table of the data set TOY.

    Args:
        data: Folder that receives manifests/, store/ and patients/.
        patients: Number of patients.
        monocular: Number of patients, the first ones, with a left eye only.
        visits: Visits per patient.
        seed: Of images and corners.
        names: Keys of `PLACES` that are sampled.
        splits: Split of each patient, or None: divided at random.

    Returns:
        Path of the patients table.
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
            sentences = []
            for side in patients_table.SIDES[: 1 if number < monocular else 2]:
                corner = names[rng.integers(len(names))]
                row[f"{side}_image"] = f"TOY/p{number}_{visit}_{side}.png"
                row[f"text_{side}"] = f"bright spot {corner}"
                row[f"spot_{side}"] = corner
                images.append((row[f"{side}_image"], f"p{number}", side, eye(corner, rng)))
                sentences.append(f"{side.capitalize()} eye: bright spot {corner}.")
            left = row["spot_left"]
            rows.append(
                row
                | {
                    "text": " ".join(sentences),
                    "N": str(int(left.startswith("upper"))),
                    "D": str(int(left.endswith("outer"))),
                }
            )
    for folder in ("manifests", "store", "patients"):
        (data / folder).mkdir(parents=True, exist_ok=True)
    np.save(data / "store" / "TOY.npy", np.stack([pixels for *_, pixels in images]))
    _write_manifest(data / "manifests" / "TOY.csv", images)
    path = data / "patients" / "toy.csv"
    table = pd.DataFrame(rows).fillna("")
    if splits is not None:
        table["split"] = np.repeat(splits, visits)
    patients_table.write(patients_table.finish(table, 0), path, 0)
    return path


def _write_manifest(path, images):
    """Write the manifest of images (key, patient, side, pixels)."""
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
        cx=16.0,
        cy=16.0,
        r=16.0,
        w=32.0,
        h=32.0,
        sha256=[f"{row:064x}" for row in range(len(images))],
    )
    manifest[list(DTYPES)].to_csv(path, index=False)
