"""Every real data set's original layout, drawn: folders, file names, label files with their quirks, and split files like the official ones.

`build(domain, raw)` writes raw/DOMAIN/... and raw/splits/DOMAIN_{train,crossval}.txt and returns the rows that a reader must give.
Photographs are painted by clipdr's own painter; no pixel, name or grade of a real one is in here. RLDR's photographs are also EYEPACS's.
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
from clipdr.data.synthetic.dataset import encode
from clipdr.data.synthetic.patients import eye as drawn_eye
from clipdr.data.synthetic.renderer import paint

COLUMNS = ["image", "file", "grade", "domain", "split", "patient", "eye", "camera"]
WORDS = {"train": "train", "val": "crossval"}
STYLE = {"DDR": "SIM_APTOS", "EYEPACS": "SIM_RLDR"}  # whose style a domain without one borrows
SIDES = ("left", "right")
SIZE = 112  # pixels, nominal


@dataclass
class Photo:
    """One photograph of a split: its name in the label file, where its bytes lie below raw/DOMAIN, its path in the split file."""

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
        """Another number for every photograph of a domain."""
        return 1 + self.number + (5000 if self.split == "val" else 0)


def build(domain, raw, count=12, seed=0, variant=0, layout="original"):
    """Draw a domain.

    raw     : folder that becomes a complete `raw`
    count   : photographs that the split files name, at least 10, a third of them (at least 5) in crossval; every split holds every grade
    variant : 1 takes the other known spelling where there are two (DDR: the Kaggle csv; MESSIDOR: the renamed header)
    layout  : "original" | "gdrbench" (raw/images/DOMAIN/FOLDER/FILE, no label files)
    returns   DataFrame of COLUMNS, train first, in the order of the split files
    """
    raw = Path(raw)
    held = max(5, count // 3)
    photos = [Photo("train", n, n % 5) for n in range(count - held)] + [
        Photo("val", n, 2 * n % 5) for n in range(held)
    ]
    name, write = LAYOUTS[domain]
    for photo in photos:
        name(photo)
        photo.image = (
            photo.image or f"{domain}/{FOLDERS[photo.grade]}/{photo.place.rpartition('/')[2]}"
        )
        where = f"images/{photo.image}" if layout == "gdrbench" else f"{domain}/{photo.place}"
        save(raw / where, domain, photo.key, SIDES[photo.key % 2], photo.grade, seed)
    if layout == "original":
        write(raw / domain, photos, variant)
    for split, word in WORDS.items():
        lines = "".join(
            f"{photo.image} {photo.grade}\n" for photo in photos if photo.split == split
        )
        text(raw / "splits" / f"{domain}_{word}.txt", lines)
    rows = [
        (p.image, f"{domain}/{p.place}", p.grade, domain, p.split, p.patient, p.eye, "")
        for p in photos
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
    """Paint one eye into a file; the same numbers give the same bytes."""
    photograph = paint(
        drawn_eye(STYLE.get(domain, f"SIM_{domain}"), number, side, grade, seed), SIZE
    )[0]
    if domain == "DDR":  # its background is nearly black, not black
        photograph = np.maximum(photograph, 9)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(photograph, ".png" if path.suffix.lower() == ".png" else ".jpg", 90))


def text(path, content, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))


def table(path, header, rows, newline="\n"):
    """A csv; header None writes none."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator=newline)
    writer.writerows([*([header] if header else []), *rows])
    text(path, lines.getvalue())


def extra(folder, place, domain):
    """A photograph that no split names."""
    save(folder / place, domain, 9000, "left", 0)


def grades(photos, split=None):
    return [(photo.stem, photo.grade) for photo in photos if split in (None, photo.split)]


def aptos_name(photo):
    photo.stem = f"{0xABC000000000 + photo.key:012x}"
    photo.place = f"train_images/{photo.stem}.png"


def aptos(folder, photos, variant):
    table(folder / "train.csv", ["id_code", "diagnosis"], grades(photos))
    table(folder / "test.csv", ["id_code"], [["0005cafe0005"]])
    extra(folder, "test_images/0005cafe0005.png", "APTOS")


def eyepacs_name(photo):
    patient, photo.eye = str(1 + photo.key // 2), SIDES[photo.key % 2]
    photo.patient, photo.stem = patient, f"{patient}_{photo.eye}"
    photo.place = f"{'train' if photo.split == 'train' else 'test'}/{photo.stem}.jpeg"
    photo.image = f"EYEPACS/Images/{photo.stem}.jpeg"


def eyepacs(folder, photos, variant):
    table(
        folder / "trainLabels.csv", ["image", "level"], [*grades(photos, "train"), ("9000_left", 0)]
    )
    usage = [
        (*row, ("Private", "Public")[number % 2])
        for number, row in enumerate(grades(photos, "val"))
    ]
    table(folder / "retinopathy_solution.csv", ["image", "level", "Usage"], usage)
    extra(folder, "train/9000_left.jpeg", "EYEPACS")


def rldr_name(photo):
    eyepacs_name(photo)
    photo.image, photo.place = "", f"retinal-lesions-v20191227/images_896x896/{photo.stem}.jpg"


def rldr(folder, photos, variant):
    boxes = "".join(f"{photo.stem}.jpg 562 436 689 566 229 382 396 553\n" for photo in photos)
    header = "#img odx_0 ody_0 odx_1 ody_1 fx_0 fy_0 fx_1 fy_1 \n"
    text(folder / "retinal-lesions-v20191227/od_fovea_autoloc.txt", header + boxes)
    mask(
        folder / f"retinal-lesions-v20191227/lesion_segs_896x896/{photos[0].stem}/microaneurysm.png"
    )


def mask(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (SIZE, SIZE)).save(path)


def ddr_part(photo):
    return "test" if photo.split == "val" else ("train", "valid")[photo.number // 5 % 2]


def ddr_name(photo):
    photo.stem = f"007-{photo.key:04d}-000" if photo.number % 2 else f"20170413{photo.key:09d}"
    photo.place = f"DR_grading/{ddr_part(photo)}/{photo.stem}.jpg"


def ddr(folder, photos, variant):
    extra(folder, "DR_grading/train/007-9000-000.jpg", "DDR")
    if variant:
        table(
            folder / "DR_grading.csv",
            ["id_code", "diagnosis"],
            [(f"{stem}.jpg", grade) for stem, grade in grades(photos)],
        )
        return
    for part in ("train", "valid", "test"):
        lines = [f"{photo.stem}.jpg {photo.grade}\n" for photo in photos if ddr_part(photo) == part]
        text(
            folder / f"DR_grading/{part}.txt",
            "".join(lines) + ("007-9000-000.jpg 5\n" if part == "train" else ""),
        )
    save(
        folder / f"lesion_segmentation/train/image/{photos[0].stem}.jpg", "DDR", 9001, "left", 0
    )  # the same name once more


def deepdr_name(photo):
    last = photo.split == "train" and photo.number == 4
    patient = "56" if last else str((1 if photo.split == "train" else 347) + photo.number // 2)
    side = "r" if last else "lr"[photo.number % 2]
    photo.eye = (
        "left" if last or side == "l" else "right"
    )  # as in the original, 56_r3 carries a grade of the left eye
    photo.patient, photo.stem = patient, f"{patient}_{side}{3 if last else 1}"
    photo.place = f"regular_fundus_images/{deepdr_part(photo)}/Images/{patient}/{photo.stem}.jpg"


def deepdr_part(photo):
    if photo.split == "val":
        return "Online-Challenge1&2-Evaluation"
    return ("regular-fundus-training", "regular-fundus-validation")[photo.number // 2 % 3 == 1]


def deepdr(folder, photos, variant):
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
        for photo in photos:
            if deepdr_part(photo) == part:
                path = f"\\{part}\\{photo.patient}\\{photo.stem}.jpg"  # without the level Images that is on disk
                level = (photo.grade, "") if photo.eye == "left" else ("", photo.grade)
                rows.append(
                    (photo.patient, photo.stem, path, 0, *level, 4, 8, 8, 4)
                )  # the patient's grade is the worse eye's
        table(folder / f"regular_fundus_images/{part}/{part}.csv", header, rows)
    sheet = folder / "regular_fundus_images/Online-Challenge1&2-Evaluation/Challenge1_labels.xlsx"
    workbook = openpyxl.Workbook()
    for row in [("image_id", "DR_Level"), *grades(photos, "val")]:
        workbook.active.append(row)
    workbook.save(sheet)
    empty = [(stem, "") for stem, _ in grades(photos, "val")]
    table(sheet.with_name("Challenge1_upload.csv"), ["image_id", "DR_Level"], empty)
    extra(folder, "ultra-widefield_images/ultra-widefield-training/Images/1/1_l1.jpg", "DEEPDR")


def fgadr_name(photo):
    photo.stem = f"{photo.key:04d}_{1 + photo.key % 3}"
    photo.place = f"Seg-set/Original_Images/{photo.stem}.png"


def fgadr(folder, photos, variant):
    table(
        folder / "Seg-set/DR_Seg_Grading_Label.csv",
        None,
        [(f"{stem}.png", grade) for stem, grade in grades(photos)],
    )
    mask(folder / f"Seg-set/Microaneurysms_Masks/{photos[0].stem}.png")


def idrid_name(photo):
    """Both halves count from 001; where folder and name collide, the split file has `_train` behind the one of the train half."""
    photo.stem = f"IDRiD_{1 + photo.number:03d}"
    half = "a. Training Set" if photo.split == "train" else "b. Testing Set"
    photo.place = f"B. Disease Grading/1. Original Images/{half}/{photo.stem}.jpg"
    if photo.split == "train" and photo.grade == 2 * photo.number % 5:
        photo.image = f"IDRID/{FOLDERS[photo.grade]}/{photo.stem}_train.jpg"


def idrid(folder, photos, variant):
    header = ["Image name", "Retinopathy grade", "Risk of macular edema "]
    folder = folder / "B. Disease Grading/2. Groundtruths"
    for split, name, empty in (
        ("train", "a. IDRiD_Disease Grading_Training Labels.csv", [""] * 9),
        ("val", TESTING, []),
    ):
        rows = [(*row, 1, *empty) for row in grades(photos, split)]
        table(folder / name, [*header, *empty], rows, newline="\r\n")


TESTING = "b. IDRiD_Disease Grading_Testing Labels.csv"


def messidor_name(photo):
    odd = photo.number % 2
    photo.stem = f"IM{photo.key:06d}" if odd else f"20051020_{43000 + photo.key}_0100_PP"
    photo.place = f"IMAGES/{photo.stem}{'.JPG' if odd else '.png'}"


def messidor(folder, photos, variant):
    """The csv names the photographs in lower case and with other extensions than the disk does."""
    first = ["id_code", "diagnosis"] if variant else ["image_id", "adjudicated_dr_grade"]
    names = [
        (f"{stem.lower()}.jpg" if stem.startswith("IM") else f"{stem}.png", grade, 0, 1)
        for stem, grade in grades(photos)
    ]
    ungraded = ("20060411_58550_0200_PP.png", "", "", 0)
    table(
        folder / "messidor_data.csv",
        [*first, "adjudicated_dme", "adjudicated_gradable"],
        [*names, ungraded],
    )
    extra(folder, "IMAGES/20060411_58550_0200_PP.png", "MESSIDOR")


LAYOUTS = {  # domain: names of a photograph, label files of all of them
    "APTOS": (aptos_name, aptos),
    "DEEPDR": (deepdr_name, deepdr),
    "FGADR": (fgadr_name, fgadr),
    "IDRID": (idrid_name, idrid),
    "MESSIDOR": (messidor_name, messidor),
    "RLDR": (rldr_name, rldr),
    "DDR": (ddr_name, ddr),
    "EYEPACS": (eyepacs_name, eyepacs),
}
