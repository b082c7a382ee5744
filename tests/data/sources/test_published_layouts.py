"""Published layouts: same rows as from GDRBench's layout, and every defect is named."""

import shutil
from collections import Counter

import pandas as pd
import pytest
from helpers.raw_layouts import LAYOUTS, build, save, text

from clipdr import DataError
from clipdr.data.domains import DOMAINS
from clipdr.data.manifest import read_manifest
from clipdr.data.preprocessing.prepare import prepare
from clipdr.data.sources import gdrbench, published_layouts


def run(raw, domain, **options):
    out = raw / "out"
    prepare(
        domain,
        raw,
        out / f"{domain}.csv",
        out / f"{domain}.npy",
        out / "rejected" / f"{domain}.csv",
        48,
        1,
        **options,
    )
    return out


@pytest.mark.parametrize("variant", [0, 1])
@pytest.mark.parametrize("domain", LAYOUTS)
def test_read_published_layout_gives_the_expected_rows(tmp_path, domain, variant):
    expected = build(domain, tmp_path, variant=variant)
    reading = gdrbench.read(tmp_path, domain)
    pd.testing.assert_frame_equal(reading.records, expected, check_dtype=False)
    assert reading.problems.empty
    assert reading.extra == (domain in ("APTOS", "EYEPACS", "DDR", "MESSIDOR"))
    assert all(path.is_file() for path in reading.lists)
    assert len(reading.lists) == 2 + len(published_layouts.label_files(tmp_path / domain, domain))


@pytest.mark.parametrize("domain", LAYOUTS)
def test_both_layouts_prepare_the_same_pixels(tmp_path, domain):
    build(domain, tmp_path / "original")
    build(domain, tmp_path / "gdrbench", layout="gdrbench")
    one, two = (
        gdrbench.records(tmp_path / name, domain).drop(columns=["file", "eye"])
        for name in ("original", "gdrbench")
    )
    pd.testing.assert_frame_equal(one, two)
    stores = [run(tmp_path / name, domain) / f"{domain}.npy" for name in ("original", "gdrbench")]
    assert stores[0].read_bytes() == stores[1].read_bytes()
    assert (
        read_manifest(tmp_path / f"original/out/{domain}.csv")["image"].tolist()
        == one["image"].tolist()
    )


def test_records_idrid_images_of_one_name_stay_apart(tmp_path):
    records = build("IDRID", tmp_path)
    stems = records["file"].str.rpartition("/")[2]
    assert stems.duplicated().any()
    assert records["image"].str.contains("_train.jpg").any()
    read = gdrbench.records(tmp_path, "IDRID").set_index("image")
    for row in records.itertuples():
        half = "a. Training Set" if row.split == "train" else "b. Testing Set"
        assert half in read.loc[row.image, "file"]
        assert read.loc[row.image, "grade"] == row.grade


def test_records_deepdrid_eye_comes_from_the_column(tmp_path):
    build("DEEPDR", tmp_path)
    records = gdrbench.records(tmp_path, "DEEPDR").set_index("patient")
    assert records.loc["56", "image"].endswith("56_r3.jpg")
    assert records.loc["56", "eye"] == "left"
    assert set(records.loc["1", "eye"]) == {"left", "right"}


def test_prepare_missing_images_above_tolerance_are_refused(tmp_path, capsys):
    build("APTOS", tmp_path)
    for path in sorted((tmp_path / "APTOS/train_images").iterdir())[:3]:
        path.unlink()
    with pytest.raises(DataError) as caught:
        run(tmp_path, "APTOS", tolerance=2)
    message = str(caught.value)
    assert "\n" not in message
    assert "3 of 12" in message
    assert "3 missing" in message
    assert "APTOS_train.txt, line 1" in message
    listed = pd.read_csv(tmp_path / "out/rejected/APTOS_splits.csv")
    assert listed["problem"].tolist() == ["missing"] * 3
    assert listed["image"].str.startswith("APTOS/").all()
    assert "APTOS_splits.csv" in message
    assert not (tmp_path / "out/APTOS.csv").exists()
    manifest = read_manifest(run(tmp_path, "APTOS", tolerance=3) / "APTOS.csv")
    assert len(manifest) == 9
    assert "Tolerated (tolerance: 3)" in capsys.readouterr().out
    build("APTOS", tmp_path)
    assert len(read_manifest(run(tmp_path, "APTOS") / "APTOS.csv")) == 12
    assert not (tmp_path / "out/rejected/APTOS_splits.csv").exists()


def test_read_other_grade_is_reported_and_split_file_wins(tmp_path):
    expected = build("APTOS", tmp_path)
    path = tmp_path / "APTOS/train.csv"
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([lines[0], lines[1][:-1] + "3", lines[2] + ".0", *lines[4:], ""])
    )  # 0 -> 3; 1 -> 1.0; the third left out
    reading = gdrbench.read(tmp_path, "APTOS")
    first, third = reading.problems.to_dict("records")
    assert (first["problem"], first["split_grade"], first["original_grade"]) == ("grade", 0, 3)
    assert "APTOS_train.txt, line 1" in first["where"]
    assert "train.csv, line 2" in first["where"]
    assert (third["problem"], third["image"]) == ("ungraded", expected["image"][2])
    assert reading.records["grade"].tolist() == expected["grade"].tolist()
    with pytest.raises(DataError, match=r"1 grade .*, 1 ungraded"):
        gdrbench.records(tmp_path, "APTOS", tolerance=1)


def test_labels_grade_5_of_ddr_is_no_grade(tmp_path):
    build("DDR", tmp_path)
    labels = published_layouts.labels(tmp_path / "DDR", "DDR")
    assert labels["", "007-9000-000"].grade is None
    assert Counter(label.grade for label in labels.values())[None] == 1


def test_records_duplicate_layouts_or_images_are_refused(tmp_path):
    build("FGADR", tmp_path)
    shutil.copytree(tmp_path / "FGADR/Seg-set/Original_Images", tmp_path / "FGADR/copy")
    with pytest.raises(DataError, match=r"may be .* or .*Keep one"):
        gdrbench.records(tmp_path, "FGADR")
    build("FGADR", tmp_path, layout="gdrbench")
    with pytest.raises(DataError, match="in both"):
        gdrbench.records(tmp_path, "FGADR")
    shutil.rmtree(tmp_path / "images")
    shutil.rmtree(tmp_path / "FGADR")
    with pytest.raises(DataError, match="no images of FGADR"):
        gdrbench.records(tmp_path, "FGADR")


def test_records_masks_and_circular_links_are_ignored(tmp_path):
    records = build("DDR", tmp_path)
    (tmp_path / "DDR/DR_grading/again").symlink_to(tmp_path / "DDR")
    save(tmp_path / "DDR/__MACOSX/DR_grading/train/._x.jpg", "DDR", 1, "left", 0)
    assert gdrbench.records(tmp_path, "DDR")["file"].tolist() == records["file"].tolist()


DEFECTS = {
    "no file": ("APTOS", "train.csv", None, ["no label file of APTOS", "train.csv"]),
    "other columns": ("APTOS", "train.csv", "id,grade\na,1\n", ["line 1", "id_code", "diagnosis"]),
    "empty": ("APTOS", "train.csv", "", ["line 1", "id_code"]),
    "short row": ("APTOS", "train.csv", "id_code,diagnosis\na,1\nb\n", ["line 3", "'b'"]),
    "no name": ("APTOS", "train.csv", "id_code,diagnosis\n,1\n", ["line 2", "lacks a name"]),
    "grade 7": ("APTOS", "train.csv", "id_code,diagnosis\na,7\n", ["line 2", "'7'", "0..4"]),
    "grade 5 outside DDR": (
        "EYEPACS",
        "trainLabels.csv",
        "image,level\n1_left,5\n",
        ["line 2", "'5'"],
    ),
    "word": (
        "MESSIDOR",
        "messidor_data.csv",
        "image_id,adjudicated_dr_grade\nx.png,mild\n",
        ["line 2", "'mild'"],
    ),
    "two grades": (
        "APTOS",
        "train.csv",
        "id_code,diagnosis\na,1\nb,2\nA,2\n",
        ["line 4", "grade 2", "1 in", "line 2"],
    ),
    "both eyes": (
        "DEEPDR",
        "regular-fundus-training.csv",
        "image_id,left_eye_DR_Level,right_eye_DR_Level\n1_l1,0,1\n",
        ["line 2", "'0' and '1'"],
    ),
    "bytes": ("FGADR", "DR_Seg_Grading_Label.csv", "0001_1.png,\u00e9", ["not UTF-8"]),
    "no sheet": ("DEEPDR", "Challenge1_labels.xlsx", "image_id,DR_Level", ["not a readable xlsx"]),
    "blank line": ("DDR", "train.txt", "a.jpg 0\n\nb.jpg\n", ["line 3", "'b.jpg'"]),
    "headerless grade": (
        "FGADR",
        "DR_Seg_Grading_Label.csv",
        "0001_1.png,2,x\n0002_1.png,\n0003_1.png,9\n",
        ["line 3", "'9'"],
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_labels_malformed_file_is_named_with_its_line(tmp_path, name):
    domain, file, content, words = DEFECTS[name]
    if content is not None:
        text(tmp_path / file, content, "latin-1")
    with pytest.raises(DataError) as caught:
        published_layouts.labels(tmp_path, domain)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_labels_blanks_quotes_and_byte_order_mark_are_read(tmp_path):
    text(tmp_path / "train.csv", '\ufeffDIAGNOSIS,ID_CODE\r\n 2 ,"a"\r\n\r\n4.0,b.PNG\r\n,c\r\n')
    grades = {
        stem: label.grade
        for (_, stem), label in published_layouts.labels(tmp_path, "APTOS").items()
    }
    assert grades == {"a": 2, "b": 4, "c": None}


HALVES = ("a. IDRiD_Disease Grading_Training", "b. IDRiD_Disease Grading_Testing")
ORIGINAL = {  # domain: {published name: file of the collection}
    "APTOS": {"train.csv": "APTOS2019/train.csv"},
    "EYEPACS": {"trainLabels.csv": "EYEPACS/trainLabels.csv"},
    "IDRID": {f"{half} Labels.csv": f"IDRID/{half} Labels.csv" for half in HALVES},
    "MESSIDOR": {"messidor_data.csv": "MESSIDOR2/messidor_data.csv"},
    "DDR": {"DR_grading.csv": "DDR/DR_grading.csv"},
    "FGADR": {"DR_Seg_Grading_Label.csv": "FGADR/DR_Seg_Grading_Label.RECONSTRUCTED.csv"},
    "DEEPDR": {
        "regular-fundus-training.csv": "DEEPDRID/regular-fundus-training.EXCERPT.csv",
        "Challenge1_upload.csv": "DEEPDRID/Challenge1_upload.EXCERPT.csv",
    },
    "RLDR": {"od_fovea_autoloc.txt": "RLDR/od_fovea_autoloc.txt"},
}
GRADED = {
    "APTOS": 3662,
    "EYEPACS": 35126,
    "IDRID": 516,
    "MESSIDOR": 1744,
    "DDR": 12522,
    "FGADR": 1842,
    "DEEPDR": 32,
    "RLDR": 0,
}


def published(realdata, folder, domain, files=None):
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in (files or ORIGINAL[domain]).items():
        (folder / name).symlink_to((realdata / "labels_original" / file).resolve())
    return published_layouts.labels(folder, domain)


@pytest.mark.realdata
@pytest.mark.parametrize("domain", ORIGINAL)
def test_real_label_files_agree_with_the_split_files(realdata, tmp_path, domain):
    labels = published(realdata, tmp_path / domain, domain)
    assert (
        sum(label.grade is not None for label in labels.values()) == GRADED[domain] == len(labels)
    )
    (tmp_path / "splits").symlink_to((realdata / "labels_original/GDRBENCH_splits").resolve())
    listed = {
        published_layouts.image_key(domain, line.split, line.image): line
        for line in gdrbench.split_files(tmp_path, domain)
    }
    assert len(listed) == sum(map(sum, DOMAINS[domain].counts.values()))
    both = [key for key in listed if key in labels]
    assert all(listed[key].grade == labels[key].grade for key in both)
    unlisted = {
        "EYEPACS": 2,
        "DDR": 1,
    }  # gdrbench: five and one are in no split; three of EyePACS's five are in the test half
    assert len(both) == GRADED[domain] - unlisted.get(domain, 0)
    if domain == "RLDR":
        names = (
            (realdata / "labels_original/RLDR/od_fovea_autoloc.txt").read_text().splitlines()[1:]
        )
        assert {published_layouts.image_key(domain, "", line.split()[0]) for line in names} == set(
            listed
        )


@pytest.mark.realdata
def test_real_excerpt_of_ddr_is_read(realdata, tmp_path):
    labels = published(
        realdata, tmp_path / "DDR", "DDR", {"train.txt": "DDR/train.EXCERPT_as_quoted.txt"}
    )
    mirror = published(realdata, tmp_path / "mirror", "DDR")
    assert len(labels) == 13
    assert published_layouts.disagreements(labels, mirror) == []
    assert set(labels) < set(mirror)


@pytest.mark.realdata
def test_real_kaggle_mirror_of_idrid_differs_in_27_grades(realdata, tmp_path):
    official = published(realdata, tmp_path / "official", "IDRID")
    mirror = published(
        realdata, tmp_path / "mirror", "IDRID", {"idrid_labels.csv": "IDRID/idrid_labels.csv"}
    )
    assert len(mirror) == 455
    assert set(mirror) < set(official)
    assert len(published_layouts.disagreements(official, mirror)) == 27


@pytest.mark.realdata
def test_real_kaggle_mirror_of_idrid_is_refused(realdata, tmp_path):
    """Empty images; the mirror's grades and the official split files are real."""
    (tmp_path / "splits").symlink_to((realdata / "labels_original/GDRBENCH_splits").resolve())
    published(realdata, tmp_path / "IDRID", "IDRID", {"idrid_labels.csv": "IDRID/idrid_labels.csv"})
    for line in gdrbench.split_files(tmp_path, "IDRID"):
        half = "Training" if line.split == "train" else "Testing"
        path = tmp_path / f"IDRID/{half} Set" / line.image.rpartition("/")[2].replace("_train", "")
        path.parent.mkdir(exist_ok=True)
        path.touch()
    reading = gdrbench.read(tmp_path, "IDRID")
    assert len(reading.records) == 516
    assert reading.problems["problem"].value_counts().to_dict() == {
        "ungraded": 61,
        "grade": 27,
    }
    with pytest.raises(DataError, match="88 of 516"):
        gdrbench.records(tmp_path, "IDRID")
