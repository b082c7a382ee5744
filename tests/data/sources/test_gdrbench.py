"""GDRBench's split files: rows that are read, and defects that are named with their line."""

import pandas as pd
import pytest

from clipdr import DataError
from clipdr.data.domains import DOMAINS
from clipdr.data.sources import gdrbench


def layout(root, domain, train, val, files=None, newline="\n"):
    """Split files with these lines; empty files for every path that they (or `files`) name."""
    (root / "splits").mkdir(parents=True, exist_ok=True)
    for word, lines in (("train", train), ("crossval", val)):
        (root / "splits" / f"{domain}_{word}.txt").write_bytes(newline.join([*lines, ""]).encode())
    for image in [line.rpartition(" ")[0] for line in [*train, *val]] if files is None else files:
        path = root / "images" / image.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_records_are_train_first_in_file_order(tmp_path):
    root = layout(
        tmp_path,
        "RLDR",
        ["RLDR/pdr/9_right.jpg 4", "RLDR/nodr/10_left.jpg 0"],
        ["RLDR/mild_npdr/1_left.jpg 1"],
    )
    records = gdrbench.records(root, "RLDR")
    assert list(records.columns) == gdrbench.COLUMNS
    assert records.to_numpy().tolist() == [
        [
            "RLDR/pdr/9_right.jpg",
            "images/RLDR/pdr/9_right.jpg",
            4,
            "RLDR",
            "train",
            "9",
            "right",
            "",
        ],
        [
            "RLDR/nodr/10_left.jpg",
            "images/RLDR/nodr/10_left.jpg",
            0,
            "RLDR",
            "train",
            "10",
            "left",
            "",
        ],
        [
            "RLDR/mild_npdr/1_left.jpg",
            "images/RLDR/mild_npdr/1_left.jpg",
            1,
            "RLDR",
            "val",
            "1",
            "left",
            "",
        ],
    ]


def test_records_windows_line_ends_and_spaces_are_read(tmp_path):
    root = layout(
        tmp_path,
        "APTOS",
        ["\ufeffAPTOS/nodr/a b.png 0"],
        ["APTOS/pdr/c.png 4"],
        ["APTOS/nodr/a b.png", "APTOS/pdr/c.png"],
        "\r\n",
    )
    records = gdrbench.records(root, "APTOS")
    assert records["image"].tolist() == ["APTOS/nodr/a b.png", "APTOS/pdr/c.png"]
    assert records["grade"].tolist() == [0, 4]


@pytest.mark.parametrize(
    ("domain", "image", "patient", "eye"),
    [
        ("DEEPDR", "DEEPDR/nodr/347_l1.jpg", "347", "left"),
        ("DEEPDR", "DEEPDR/nodr/56_r3.jpg", "56", "right"),
        ("APTOS", "APTOS/nodr/1_left.png", "", ""),
        ("EYEPACS", "EYEPACS/Images/1_left.jpeg", "1", "left"),
        ("EYEPACS", "EYEPACS/nodr/1_left.jpeg", "1", "left"),
        ("RLDR", "RLDR/nodr/unknown.jpg", "", ""),
    ],
)
def test_records_patient_and_eye_come_from_the_name(tmp_path, domain, image, patient, eye):
    root = layout(tmp_path, domain, [f"{image} 0"], [f"{domain}/pdr/0_x.png 4"])
    first = gdrbench.records(root, domain).iloc[0]
    assert (first["patient"], first["eye"]) == (patient, eye)


FINE = "APTOS/nodr/a.png 0"
DEFECTS = {
    "missing image": (
        ["APTOS/nodr/gone.png 0", "APTOS/nodr/too.png 0", FINE],
        ["line 1", "gone.png", "2 of 4"],
    ),
    "grade 5": ([FINE, "APTOS/nodr/b.png 5"], ["line 2", "'5'", "0..4"]),
    "grade is a word": (["APTOS/nodr/b.png none"], ["line 1", "0..4"]),
    "grade is a fraction": (["APTOS/nodr/b.png 1.0"], ["line 1", "0..4"]),
    "no grade": (["APTOS/nodr/b.png"], ["line 1", "path grade"]),
    "folder contradicts": ([FINE, "", "APTOS/nodr/b.png 3"], ["line 3", "nodr", "severe_npdr"]),
    "flat folder": (["APTOS/Images/b.png 3"], ["line 1", "Images"]),
    "duplicate": ([FINE, "APTOS/nodr/b.png 0", FINE], ["line 3", "twice", "line 1"]),
    "in both splits": (
        ["APTOS/pdr/v.png 4"],
        ["crossval.txt, line 1", "twice", "train.txt, line 1"],
    ),
    "other domain": (["IDRID/nodr/b.png 0"], ["line 1", "APTOS"]),
    "no folder": (["APTOS/b.png 0"], ["line 1", "APTOS"]),
    "absolute": (["/APTOS/nodr/b.png 0"], ["line 1", "leaves"]),
    "climbs": (["APTOS/nodr/../../../b.png 0"], ["line 1", "leaves"]),
    "dots": (["APTOS/./nodr/b.png 0"], ["line 1", "leaves"]),
    "back-slashes": (["APTOS\\nodr\\b.png 0"], ["line 1", "forward slashes"]),
    "empty": ([""], ["train.txt", "empty"]),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_records_defect_is_named_with_its_line(tmp_path, name):
    train, words = DEFECTS[name]
    root = layout(
        tmp_path,
        "APTOS",
        train,
        ["APTOS/pdr/v.png 4"],
        ["APTOS/nodr/a.png", "APTOS/nodr/b.png", "APTOS/pdr/v.png"],
    )
    with pytest.raises(DataError) as caught:
        gdrbench.records(root, "APTOS")
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in ["APTOS_", *words]), message


def test_records_unreadable_split_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no split file .*APTOS_train\.txt"):
        gdrbench.records(tmp_path, "APTOS")
    layout(tmp_path, "APTOS", [FINE], ["APTOS/pdr/v.png 4"])
    (tmp_path / "splits/APTOS_crossval.txt").write_bytes(b"APTOS/pdr/\xff.png 4")
    with pytest.raises(DataError, match=r"APTOS_crossval\.txt.*UTF-8"):
        gdrbench.records(tmp_path, "APTOS")
    with pytest.raises(DataError, match=r"unknown domain 'aptos'"):
        gdrbench.records(tmp_path, "aptos")


def test_counts_are_compared_with_the_official_files(tmp_path):
    root = layout(tmp_path, "IDRID", ["IDRID/nodr/a.jpg 0"], ["IDRID/pdr/b.jpg 4"])
    records = gdrbench.records(root, "IDRID")
    report = gdrbench.counts_report(records, "IDRID")
    assert "train grade 0: 1 of 134" in report
    assert "val grade 4: 1 of 13" in report
    with pytest.raises(DataError, match="IDRID is not complete"):
        gdrbench.check_counts(records, "IDRID")
    assert gdrbench.counts_report(records, "SIM_IDRID") == ""


@pytest.mark.realdata
@pytest.mark.parametrize(
    "domain", ["APTOS", "DEEPDR", "FGADR", "IDRID", "MESSIDOR", "RLDR", "DDR", "EYEPACS"]
)
def test_official_split_files_hold_the_published_counts(realdata, domain, tmp_path):
    (tmp_path / "splits").symlink_to((realdata / "labels_original/GDRBENCH_splits").resolve())
    listed = pd.DataFrame(gdrbench.split_files(tmp_path, domain))
    gdrbench.check_counts(listed, domain)
    assert len(listed) == sum(map(sum, DOMAINS[domain].counts.values()))
    patients = {"DEEPDR": 500, "RLDR": 1505, "EYEPACS": 44351}
    assert len(
        {gdrbench.patient_and_eye(domain, image)[0] for image in listed["image"]}
    ) == patients.get(domain, 1)
