"""The patients table: one row per patient visit, two eyes and a report, whatever it was made from.

Input: the synthetic patients.csv, ODIR, the upstream TSV and JSONL (clipdr.pretrain.data.ret_clip_release), a CSV of one's own.
Output: data/patients/{name}.csv (columns COLUMNS, then labels and strata) and {name}.split.json. A photograph is named by its key in a
manifest of data/manifests/, its pixels lie in the packed store beside it: the graders' files, schema and code.
"""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.artifacts import receipts
from clipdr.artifacts.files import write_text
from clipdr.data.manifest import open_store, read_manifest
from clipdr.data.sources.odir import keywords, stated_grade
from clipdr.pretrain.data import report_text

GIVEN = (
    "dataset",
    "patient_id",
    "visit_id",
    "left_image",
    "right_image",
    "text",
    "language",
    "text_left",
    "text_right",
    "split",
)
COLUMNS = (*GIVEN, "side_known", "text_raw", "text_sha256", "possible_identifier")
NEEDED = ("dataset", "patient_id", "left_image", "right_image", "text", "language")
SIDES = ("left", "right")
SPLITS = ("train", "val", "test")
TENTHS = (
    "train",
    "test",
    "train",
    "train",
    "val",
    "train",
    "train",
    "test",
    "train",
    "train",
)  # of every ten patients: 70/10/20 %
ODIR_LABELS = tuple("NDGCAHMO")


def patients(table):
    """Group key of every row, the patient: (dataset, patient_id) as one string, (N,) object."""
    return (table["dataset"] + "/" + table["patient_id"]).to_numpy(object)


def check(table, where):
    """The table, or DataError naming the file and the row (2 = the first below the head)."""
    absent = [column for column in NEEDED if column not in table]
    if absent:
        raise DataError(
            f"{where}: no column {', '.join(absent)}; a patients table needs {', '.join(NEEDED)}"
        )
    table = table.reindex(
        columns=[*GIVEN, *(name for name in table if name not in GIVEN)], fill_value=""
    )
    key, split = patients(table), table["split"]
    visit = pd.Series(key) + "/" + table["visit_id"].to_numpy(object)
    several = table.groupby(key)["split"].transform("nunique") > 1
    problems = {
        "no dataset or patient_id": (table["dataset"] == "") | (table["patient_id"] == ""),
        "neither a left nor a right image": (table["left_image"] == "")
        & (table["right_image"] == ""),
        "the same file in both slots": (table["left_image"] != "")
        & (table["left_image"] == table["right_image"]),
        "a (dataset, patient_id, visit_id) that stands above already": visit.duplicated().set_axis(
            table.index
        ),
        "a split other than train, val, test": ~split.isin(["", *SPLITS]),
        "a patient in two splits": several,
    }
    for what, rows in problems.items():
        if rows.any():
            raise DataError(f"{where}, row {int(np.flatnonzero(rows)[0]) + 2}: {what}")
    return table


def read(path):
    """A patients table as `write` left it, all text, checked; row numbers of images: `resolve`."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise DataError(f"no patients table {path}: run `clipdr pretrain pairs` first") from None
    table = check(table, path)
    absent = [column for column in COLUMNS if column not in table]
    if absent or (table["split"] == "").any():
        raise DataError(
            f"{path}: not a table of `pairs` ({', '.join(absent) or 'rows without a split'}); pass it through `pairs`"
        )
    return table


def resolve(table, data):
    """Where the photographs of a table are.

    returns (rows, arrays, digests): (N, 2) int64 global row of the left and the right image, -1 absent; {first global row: (n, S, S, 3)
            uint8 store, mapped}; (N, 2) object, sha256 of the original files, "" absent
    Raises DataError where an image stands in no manifest.
    """
    keys = table[["left_image", "right_image"]].to_numpy(object)
    place, arrays, start = {"": (-1, "")}, {}, 0
    for domain in sorted({key.partition("/")[0] for key in keys.ravel() if key}):
        manifest = read_manifest(Path(data) / "manifests" / f"{domain}.csv")
        arrays[start] = open_store(Path(data) / "store" / f"{domain}.npy", manifest)
        place |= {
            image: (start + row, sha)
            for row, (image, sha) in enumerate(
                zip(manifest["image"], manifest["sha256"], strict=True)
            )
        }
        start += len(manifest)
    for row, pair in enumerate(keys):
        for key in pair:
            if key not in place:
                raise DataError(
                    f"patients table, row {row + 2}: {key} is in no manifest of {data}/manifests; prepare its photographs"
                )
    found = np.array([[place[key] for key in pair] for pair in keys], object)
    return found[..., 0].astype(np.int64), arrays, found[..., 1]


def divide(table, seed):
    """The split of every row, (N,) object: 70/10/20 % of the patients, stratified by (D, N) where the table has these columns.

    Rows that name a split keep it, all of them or none.
    """
    given = (table["split"] != "").to_numpy()
    if given.all():
        return table["split"].to_numpy(object)
    if given.any():
        raise DataError(
            f"patients table, row {int(np.flatnonzero(~given)[0]) + 2}: no split, other rows have one; give all or none"
        )
    key = pd.Series(patients(table), name="key")
    strata = (
        table[[column for column in "DN" if column in table]]
        .astype(str)
        .agg("".join, axis=1)
        .to_numpy(object)
    )
    people = (
        pd.DataFrame({"key": key, "stratum": strata}).groupby("key", sort=True)["stratum"].max()
    )
    people = people.sample(frac=1, random_state=seed).sort_values(kind="stable")
    return key.map(dict(zip(people.index, np.resize(TENTHS, len(people)), strict=True))).to_numpy(
        object
    )


def finish(table, seed, allow_identifiers=False, where="patients table"):
    """Checked, cleaned and divided: the table as it is written.

    Raises DataError as `check`, and on a report with a possible identifier unless these are allowed.
    """
    table = check(table, where).reset_index(drop=True)
    table["text_raw"] = table["text"]
    for column in ("text", "text_left", "text_right"):
        table[column] = [
            report_text.clean(text, language)
            for text, language in zip(table[column], table["language"], strict=True)
        ]
    table["text_sha256"] = table["text"].map(report_text.sha256)
    table["possible_identifier"] = [
        " ".join(dict.fromkeys(kind for text in texts for kind in report_text.identifiers(text)))
        for texts in table[["text", "text_left", "text_right"]].to_numpy(object)
    ]
    flagged = np.flatnonzero(table["possible_identifier"] != "")
    if len(flagged) and not allow_identifiers:
        kinds = table["possible_identifier"].iloc[flagged[0]]
        raise DataError(
            f"{where}, row {flagged[0] + 2}: possible identifier in the report ({kinds}); remove it, or --allow-identifiers"
        )
    if "side_known" not in table:
        table["side_known"] = "1"
    table["split"] = divide(table, seed)
    return table[[*COLUMNS, *(name for name in table if name not in COLUMNS)]]


def split_record(table, seed):
    """Who is in which split: {seed, patients: {split: [keys]}, sha256 of these lists}."""
    key = patients(table)
    lists = {split: sorted(set(key[(table["split"] == split).to_numpy()])) for split in SPLITS}
    digest = hashlib.sha256(json.dumps(lists, sort_keys=True).encode()).hexdigest()
    return {
        "seed": seed,
        "counts": {split: len(keys) for split, keys in lists.items()},
        "sha256": digest,
        "patients": lists,
    }


def write(table, path, seed):
    """Write {name}.csv and, beside it, {name}.split.json and a receipt; returns one line about them."""
    path, record = Path(path), split_record(table, seed)
    write_text(path, table.to_csv(index=False, lineterminator="\n"))
    write_text(path.with_suffix(".split.json"), json.dumps(record, indent=1) + "\n")
    receipts.write(
        path.with_suffix(".receipt.json"),
        f"pairs {path.stem}",
        path.parent,
        [path.name, f"{path.stem}.split.json"],
    )
    single = int(((table["left_image"] == "") | (table["right_image"] == "")).sum())
    counts = ", ".join(f"{number} {split}" for split, number in record["counts"].items())
    return f"{path}: {len(table)} visits ({single} with one eye), patients {counts}, split sha256 {record['sha256'][:12]}"


# Sources ---------------------------------------------------------------------------------------------------------------------------------


def synthetic(raw, suffix=""):
    """The table of `clipdr synthesize`. suffix: added to the data set's name, since a patient number means nothing without its seed."""
    drawn = pd.read_csv(Path(raw) / "patients.csv", dtype=str, keep_default_na=False)
    names = {
        "patient": "patient_id",
        "report": "text",
        "image_left": "left_image",
        "image_right": "right_image",
    }
    table = drawn.drop(columns="split").rename(columns=names)
    table.insert(0, "dataset", table.pop("domain") + suffix)
    grades = table[["grade_left", "grade_right"]].apply(pd.to_numeric).max(axis=1)
    return table.assign(
        D=(grades > 0).astype(int).astype(str),
        N=(grades == 0).astype(int).astype(str),
        grade=grades.astype(int).astype(str),
    )


def odir(raw):
    """ODIR's full_df.csv: keywords as report; labels N..O, age, sex; grade_left and grade_right from the keywords. Files below raw."""
    path = Path(raw) / "full_df.csv"
    if not path.is_file():
        raise DataError(f"no {path}: give the folder with full_df.csv and images/ as --raw")
    source = pd.read_csv(path, dtype=str, keep_default_na=False)
    table = pd.DataFrame({"dataset": "ODIR", "patient_id": source["ID"]})
    for side, title in zip(SIDES, ("Left", "Right"), strict=True):
        words = source[f"{title}-Diagnostic Keywords"].map(keywords)
        table[f"{side}_image"] = "images/" + source[f"{title}-Fundus"]
        table[f"text_{side}"] = words.map(", ".join)
        table[f"grade_{side}"] = words.map(stated_grade).astype(str).replace("-1", "")
    table["text"] = "Left eye: " + table["text_left"] + ". Right eye: " + table["text_right"] + "."
    return table.assign(
        language="en",
        age=source["Patient Age"],
        sex=source["Patient Sex"],
        **{name: source[name] for name in ODIR_LABELS},
    )


def own(path):
    """A table of one's own: columns NEEDED and any of GIVEN; photographs relative to its folder, or keys of a manifest."""
    try:
        return check(pd.read_csv(path, dtype=str, keep_default_na=False), path)
    except FileNotFoundError:
        raise DataError(f"no {path}: give the CSV of your patients as --raw") from None


def pack(table, folder, data, size, processes):
    """Prepare the photographs of a table that are files: a store and a manifest per data set; the table with keys for paths.

    A photograph that cannot be used leaves its slot empty (listed in data/rejected/{dataset}.csv), a row without any is dropped.
    """
    from clipdr.data.preprocessing import prepare

    table = table.copy()
    for dataset, part in table.groupby("dataset", sort=True):
        if not re.fullmatch(r"\w+", dataset):
            raise DataError(
                f"patients table: dataset {dataset!r} names files; use letters, digits and _ only"
            )
        files = [
            (row.Index, side, getattr(row, f"{side}_image"))
            for row in part.itertuples()
            for side in SIDES
        ]
        files = [found for found in files if found[2]]
        ids, grade = (
            part["patient_id"],
            {side: part.get(f"grade_{side}", pd.Series("", part.index)) for side in SIDES},
        )
        records = pd.DataFrame(
            {
                "image": [f"{dataset}/{file}" for _, _, file in files],
                "file": [file for _, _, file in files],
                "grade": [int(grade[side][row] or -1) for row, side, _ in files],
                "split": "",
                "patient": [ids[row] for row, _, _ in files],
                "eye": [side for _, side, _ in files],
                "camera": "",
            }
        )
        paths = [
            Path(data) / kind
            for kind in (
                f"manifests/{dataset}.csv",
                f"store/{dataset}.npy",
                f"rejected/{dataset}.csv",
            )
        ]
        rows, refused = prepare.pack(
            records.drop_duplicates("image"), dataset, Path(folder), *paths, size, processes
        )
        receipt = Path(data) / "receipts" / f"{dataset}.json"
        receipts.write(
            receipt,
            f"pairs {dataset}",
            data,
            [path.relative_to(data).as_posix() for path in paths],
            size=size,
        )
        usable = set(rows["image"])
        for row, side, file in files:
            table.loc[row, f"{side}_image"] = (
                f"{dataset}/{file}" if f"{dataset}/{file}" in usable else ""
            )
        print(f"{dataset}: {len(rows)} photographs prepared, {len(refused)} rejected")
    return table[(table["left_image"] != "") | (table["right_image"] != "")].reset_index(drop=True)
