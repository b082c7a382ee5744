"""Published layout of every real dataset with synthetic images.

`build(domain, raw)` writes raw/DOMAIN/... with the folders, file names and label files of the
publisher, and raw/splits/DOMAIN_{train,crossval}.txt. It returns the rows that a reader must give.
No pixel, name or grade of a real image is in here. The images of RLDR are also in EYEPACS.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
from PIL import Image

from clipdr.data.domains import FOLDERS
from clipdr.data.synthetic import patients
from clipdr.data.synthetic.dataset import encode
from clipdr.data.synthetic.renderer import render

COLUMNS = ["image", "file", "grade", "domain", "split", "patient", "eye", "camera"]
WORDS = {"train": "train", "val": "crossval"}
STYLE = {"DDR": "SIM_APTOS", "EYEPACS": "SIM_RLDR"}  # whose style a domain without one borrows
SIDES = ("left", "right")
SIZE = 112  # pixels, nominal


@dataclass
class SplitImage:
    """One image of a split: its stem in the label file, and its paths in both layouts."""

    split: str
    number: int  # within its split, from 0
    grade: int
    stem: str = ""
    place: str = ""
    image: str = ""
    patient: str = ""
    eye: str = ""

    @property
    def key(self):
        """Number that is unique within a domain."""
        return 1 + self.number + (5000 if self.split == "val" else 0)


def build(domain, raw, count=12, seed=0, variant=0, layout="original"):
    """Generate a domain.

    Args:
        domain: A real domain.
        raw: Folder that becomes a complete `raw`.
        count: Images that the split files name, at least 10. A third of them (at least 5) is in
            crossval, and every split holds every grade.
        seed: Seed of the pixels.
        variant: 1 takes the other known spelling where there are two (DDR: the Kaggle csv;
            MESSIDOR: the renamed header).
        layout: "original" | "gdrbench" (raw/images/DOMAIN/FOLDER/FILE, no label files).

    Returns:
        DataFrame of COLUMNS, train first, in the order of the split files.
    """
    raw = Path(raw)
    held = max(5, count // 3)
    items = [SplitImage("train", n, n % 5) for n in range(count - held)] + [
        SplitImage("val", n, 2 * n % 5) for n in range(held)
    ]
    name, write = LAYOUTS[domain]
    for item in items:
        name(item)
        item.image = item.image or f"{domain}/{FOLDERS[item.grade]}/{item.place.rpartition('/')[2]}"
        where = f"images/{item.image}" if layout == "gdrbench" else f"{domain}/{item.place}"
        save(raw / where, domain, item.key, SIDES[item.key % 2], item.grade, seed)
    if layout == "original":
        write(raw / domain, items, variant)
    for split, word in WORDS.items():
        lines = "".join(f"{item.image} {item.grade}\n" for item in items if item.split == split)
        text(raw / "splits" / f"{domain}_{word}.txt", lines)
    rows = [
        (p.image, f"{domain}/{p.place}", p.grade, domain, p.split, p.patient, p.eye, "")
        for p in items
    ]
    records = pd.DataFrame(rows, columns=COLUMNS)
    if layout == "gdrbench":
        records["file"] = "images/" + records["image"]
        if domain == "DEEPDR":  # without label columns the name decides
            records["eye"] = [
                "right" if "_r" in image else "left"
                for image in records["image"].str.rpartition("/")[2]
            ]
    return records


def save(path, domain, number, side, grade, seed=0):
    """Render one eye into a file; the same numbers give the same bytes."""
    image = render(
        patients.eye(STYLE.get(domain, f"SIM_{domain}"), number, side, grade, seed), SIZE
    )[0]
    if domain == "DDR":  # its background is nearly black, not black
        image = np.maximum(image, 9)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(image, ".png" if path.suffix.lower() == ".png" else ".jpg", 90))


def text(path, content, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))


def table(path, header, rows, newline="\n"):
    """Write a csv; header None writes none."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator=newline)
    writer.writerows([*([header] if header else []), *rows])
    text(path, lines.getvalue())


def extra(folder, path, domain):
    """Write an image that no split file names."""
    save(folder / path, domain, 9000, "left", 0)


def grades(items, split=None):
    return [(item.stem, item.grade) for item in items if split in (None, item.split)]


def aptos_name(item):
    item.stem = f"{0xABC000000000 + item.key:012x}"
    item.place = f"train_images/{item.stem}.png"


def aptos(folder, items, variant):
    table(folder / "train.csv", ["id_code", "diagnosis"], grades(items))
    table(folder / "test.csv", ["id_code"], [["0005cafe0005"]])
    extra(folder, "test_images/0005cafe0005.png", "APTOS")


def eyepacs_name(item):
    patient, item.eye = str(1 + item.key // 2), SIDES[item.key % 2]
    item.patient, item.stem = patient, f"{patient}_{item.eye}"
    item.place = f"{'train' if item.split == 'train' else 'test'}/{item.stem}.jpeg"
    item.image = f"EYEPACS/Images/{item.stem}.jpeg"


def eyepacs(folder, items, variant):
    table(
        folder / "trainLabels.csv", ["image", "level"], [*grades(items, "train"), ("9000_left", 0)]
    )
    usage = [
        (*row, ("Private", "Public")[number % 2]) for number, row in enumerate(grades(items, "val"))
    ]
    table(folder / "retinopathy_solution.csv", ["image", "level", "Usage"], usage)
    extra(folder, "train/9000_left.jpeg", "EYEPACS")


def rldr_name(item):
    eyepacs_name(item)
    item.image, item.place = "", f"retinal-lesions-v20191227/images_896x896/{item.stem}.jpg"


def rldr(folder, items, variant):
    boxes = "".join(f"{item.stem}.jpg 562 436 689 566 229 382 396 553\n" for item in items)
    header = "#img odx_0 ody_0 odx_1 ody_1 fx_0 fy_0 fx_1 fy_1 \n"
    text(folder / "retinal-lesions-v20191227/od_fovea_autoloc.txt", header + boxes)
    mask(
        folder / f"retinal-lesions-v20191227/lesion_segs_896x896/{items[0].stem}/microaneurysm.png"
    )


def mask(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (SIZE, SIZE)).save(path)


def ddr_part(item):
    return "test" if item.split == "val" else ("train", "valid")[item.number // 5 % 2]


def ddr_name(item):
    item.stem = f"007-{item.key:04d}-000" if item.number % 2 else f"20170413{item.key:09d}"
    item.place = f"DR_grading/{ddr_part(item)}/{item.stem}.jpg"


def ddr(folder, items, variant):
    extra(folder, "DR_grading/train/007-9000-000.jpg", "DDR")
    if variant:
        table(
            folder / "DR_grading.csv",
            ["id_code", "diagnosis"],
            [(f"{stem}.jpg", grade) for stem, grade in grades(items)],
        )
        return
    for part in ("train", "valid", "test"):
        lines = [f"{item.stem}.jpg {item.grade}\n" for item in items if ddr_part(item) == part]
        text(
            folder / f"DR_grading/{part}.txt",
            "".join(lines) + ("007-9000-000.jpg 5\n" if part == "train" else ""),
        )
    save(
        folder / f"lesion_segmentation/train/image/{items[0].stem}.jpg", "DDR", 9001, "left", 0
    )  # the same name once more


def deepdr_name(item):
    last = item.split == "train" and item.number == 4
    patient = "56" if last else str((1 if item.split == "train" else 347) + item.number // 2)
    side = "r" if last else "lr"[item.number % 2]
    item.eye = (
        "left" if last or side == "l" else "right"
    )  # as in the original, 56_r3 carries a grade of the left eye
    item.patient, item.stem = patient, f"{patient}_{side}{3 if last else 1}"
    item.place = f"regular_fundus_images/{deepdr_part(item)}/Images/{patient}/{item.stem}.jpg"


def deepdr_part(item):
    if item.split == "val":
        return "Online-Challenge1&2-Evaluation"
    return ("regular-fundus-training", "regular-fundus-validation")[item.number // 2 % 3 == 1]


def deepdr(folder, items, variant):
    levels = ["left_eye_DR_Level", "right_eye_DR_Level", "patient_DR_Level"]
    header = [
        "patient_id",
        "image_id",
        "image_path",
        "Overall quality",
        *levels,
        "Clarity",
        "Field definition",
        "Artifact",
    ]
    for part in ("regular-fundus-training", "regular-fundus-validation"):
        rows = []
        for item in items:
            if deepdr_part(item) == part:
                # the files lie one level deeper, in Images
                path = f"\\{part}\\{item.patient}\\{item.stem}.jpg"
                level = (item.grade, "") if item.eye == "left" else ("", item.grade)
                rows.append(
                    (item.patient, item.stem, path, 0, *level, 4, 8, 8, 4)
                )  # the patient's grade is the worse eye's
        table(folder / f"regular_fundus_images/{part}/{part}.csv", header, rows)
    sheet = folder / "regular_fundus_images/Online-Challenge1&2-Evaluation/Challenge1_labels.xlsx"
    workbook = openpyxl.Workbook()
    for row in [("image_id", "DR_Level"), *grades(items, "val")]:
        workbook.active.append(row)
    workbook.save(sheet)
    empty = [(stem, "") for stem, _ in grades(items, "val")]
    table(sheet.with_name("Challenge1_upload.csv"), ["image_id", "DR_Level"], empty)
    extra(folder, "ultra-widefield_images/ultra-widefield-training/Images/1/1_l1.jpg", "DEEPDR")


def fgadr_name(item):
    item.stem = f"{item.key:04d}_{1 + item.key % 3}"
    item.place = f"Seg-set/Original_Images/{item.stem}.png"


def fgadr(folder, items, variant):
    table(
        folder / "Seg-set/DR_Seg_Grading_Label.csv",
        None,
        [(f"{stem}.png", grade) for stem, grade in grades(items)],
    )
    mask(folder / f"Seg-set/Microaneurysms_Masks/{items[0].stem}.png")


def idrid_name(item):
    """Both halves count from 001.

    Where folder and name collide, the split file has `_train` behind the name of the train half.
    """
    item.stem = f"IDRiD_{1 + item.number:03d}"
    half = "a. Training Set" if item.split == "train" else "b. Testing Set"
    item.place = f"B. Disease Grading/1. Original Images/{half}/{item.stem}.jpg"
    if item.split == "train" and item.grade == 2 * item.number % 5:
        item.image = f"IDRID/{FOLDERS[item.grade]}/{item.stem}_train.jpg"


def idrid(folder, items, variant):
    header = ["Image name", "Retinopathy grade", "Risk of macular edema "]
    folder = folder / "B. Disease Grading/2. Groundtruths"
    for split, name, empty in (
        ("train", "a. IDRiD_Disease Grading_Training Labels.csv", [""] * 9),
        ("val", TESTING, []),
    ):
        rows = [(*row, 1, *empty) for row in grades(items, split)]
        table(folder / name, [*header, *empty], rows, newline="\r\n")


TESTING = "b. IDRiD_Disease Grading_Testing Labels.csv"


def messidor_name(item):
    odd = item.number % 2
    item.stem = f"IM{item.key:06d}" if odd else f"20051020_{43000 + item.key}_0100_PP"
    item.place = f"IMAGES/{item.stem}{'.JPG' if odd else '.png'}"


def messidor(folder, items, variant):
    """The csv names images in lower case and with other extensions than the files have."""
    first = ["id_code", "diagnosis"] if variant else ["image_id", "adjudicated_dr_grade"]
    names = [
        (f"{stem.lower()}.jpg" if stem.startswith("IM") else f"{stem}.png", grade, 0, 1)
        for stem, grade in grades(items)
    ]
    ungraded = ("20060411_58550_0200_PP.png", "", "", 0)
    table(
        folder / "messidor_data.csv",
        [*first, "adjudicated_dme", "adjudicated_gradable"],
        [*names, ungraded],
    )
    extra(folder, "IMAGES/20060411_58550_0200_PP.png", "MESSIDOR")


LAYOUTS = {  # domain: function for the names of an image, and for the label files
    "APTOS": (aptos_name, aptos),
    "DEEPDR": (deepdr_name, deepdr),
    "FGADR": (fgadr_name, fgadr),
    "IDRID": (idrid_name, idrid),
    "MESSIDOR": (messidor_name, messidor),
    "RLDR": (rldr_name, rldr),
    "DDR": (ddr_name, ddr),
    "EYEPACS": (eyepacs_name, eyepacs),
}
