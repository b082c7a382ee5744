"""The patients table: sources, cleaning, splits, and the upstream format under attack (RET-R12, RET-R13)."""

import base64
import io
import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clipdr import DataError
from clipdr.data.sources.odir import keywords
from clipdr.evaluation.retrieval import ceiling, contents
from clipdr.pretrain.data import patients_table, report_text, ret_clip_release
from clipdr.pretrain.model import floor

WORDS = [
    "left",
    "right",
    "OD",
    "OS",
    "no",
    "not",
    "without",
    "NPDR",
    "C/D",
    "0.4",
    "\uff0c",
    ",",
    ".",
    " ",
    "macula",
    "\u200b",
    "\u3002",
    "左",
    "右",
    "无",
]
TEXTS = st.one_of(st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join), st.text(max_size=40))


def jpeg(shade, suffix="JPEG"):
    """A photograph of one colour as bytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((24, 24, 3), shade, np.uint8)).save(buffer, suffix)
    return buffer.getvalue()


@given(TEXTS)
def test_cleaning_is_idempotent(text):
    assert report_text.clean(report_text.clean(text)) == report_text.clean(text)


@given(st.lists(st.sampled_from([word for word in WORDS if word.strip()]), max_size=14))
def test_cleaning_keeps_side_words_and_negations(words):
    cleaned = report_text.clean(" ".join(words)).lower()
    for word, sense in {
        "left": ("left", "os"),
        "right": ("right", "od"),
        "no": ("no",),
        "not": ("not",),
        "without": ("without",),
    }.items():
        wanted = sum(one.lower() in sense for one in words)
        assert (
            len([one for one in cleaned.replace(",", " ").replace(".", " ").split() if one == word])
            == wanted
        )
    assert cleaned.count("左") == words.count("左") and cleaned.count("无") == words.count("无")


def test_cleaning_expands_and_unifies():
    assert report_text.clean("OD: mild NPDR\uff0cC/D 0.4 ,,  od ok") == (
        "right eye: mild non-proliferative diabetic retinopathy, cup-to-disc ratio 0.4, od ok"
    )
    assert report_text.clean("ODYSSEY PDRs") == "ODYSSEY PDRs"


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("id 1234567", ["number"]),
        ("seen 2019-03-04", ["date"]),
        ("a.b@c.org", ["e-mail"]),
        ("C/D 0.4", []),
    ],
)
def test_possible_identifiers_are_found(text, kinds):
    assert report_text.identifiers(text) == kinds


@given(TEXTS)
def test_swapping_sides_twice_is_the_identity(text):
    cleaned = report_text.clean(text.replace("İ", "I"))
    assert report_text.swap_sides(report_text.swap_sides(cleaned)) == cleaned


def table(**columns):
    rows = {
        "dataset": "A",
        "patient_id": ["1", "2", "3"],
        "left_image": ["a", "b", ""],
        "right_image": ["c", "", "d"],
        "text": "x",
        "language": "en",
    }
    return pd.DataFrame(rows | columns)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"left_image": ["a", "b", ""], "right_image": ["c", "", ""]}, "row 4: neither"),
        ({"left_image": ["a", "b", "d"]}, "row 4: the same file"),
        (
            {"patient_id": ["1", "2", "2"]},
            "row 4: a .dataset, patient_id, visit_id. that stands above",
        ),
        ({"split": ["train", "dev", "test"]}, "row 3: a split other than"),
        (
            {
                "patient_id": ["1", "2", "2"],
                "visit_id": ["", "a", "b"],
                "split": ["train", "val", "test"],
            },
            "row 3: a patient in two splits",
        ),
        ({"split": ["train", "", "test"]}, "row 3: no split"),
        ({"text": ["x", "y 20200101", "z"]}, "row 3: possible identifier"),
    ],
)
def test_a_wrong_table_names_its_row(columns, message):
    with pytest.raises(DataError, match=message):
        patients_table.finish(table(**columns), 0)


def test_splits_are_by_patient_stratified_and_sealed():
    many = pd.DataFrame(
        {
            "patient_id": [str(i // 2) for i in range(400)],
            "visit_id": [str(i % 2) for i in range(400)],
        }
    )
    many = many.assign(
        dataset="A",
        left_image=[f"i{i}" for i in range(400)],
        right_image="",
        text="x",
        language="en",
    )
    many["D"] = [str(int(i // 2 < 60)) for i in range(400)]
    done = patients_table.finish(many, 3)
    record = patients_table.split_record(done, 3)
    assert record["counts"] == {"train": 140, "val": 20, "test": 40}
    assert done.groupby("patient_id")["split"].nunique().max() == 1
    sick = done[done["D"] == "1"].drop_duplicates("patient_id")["split"].value_counts()
    assert dict(sick) == {"train": 42, "test": 12, "val": 6}
    assert (
        record["sha256"]
        == patients_table.split_record(patients_table.finish(many, 3), 3)["sha256"]
        != patients_table.split_record(patients_table.finish(many, 4), 4)["sha256"]
    )


def write_upstream(folder, images, texts, split="train"):
    """The upstream format as its own script writes it: URL-safe base64."""
    folder.mkdir(exist_ok=True)
    lines = [
        "\t".join([patient, *(base64.urlsafe_b64encode(eye).decode() for eye in eyes)])
        for patient, eyes in images.items()
    ]
    (folder / f"{split}_imgs.tsv").write_text("\n".join(lines) + "\n")
    (folder / f"{split}_texts.jsonl").write_text(
        "".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8"
    )


def test_the_upstream_format_goes_round(tmp_path):
    images = {
        "p1": (jpeg(10), jpeg(20, "PNG")),
        "p2": (jpeg(30), jpeg(30)),
        "alone": (jpeg(1), jpeg(2)),
    }
    texts = [
        {"text_id": 7, "text": "左眼正常\uff0c右眼正常", "image_ids": ["p1", "gone"]},
        {"text_id": 8, "text": "b", "image_ids": ["p1", "p2"]},
    ]
    write_upstream(tmp_path / "up", images, texts)
    found, dropped = ret_clip_release.read(tmp_path / "up", "train", tmp_path / "out", "A")
    assert dropped == ["text gone", "image alone"]
    assert list(zip(found["patient_id"], found["visit_id"], strict=True)) == [
        ("p1", "7"),
        ("p1", "8"),
        ("p2", "8"),
    ]
    assert (tmp_path / "out" / found["left_image"][0]).read_bytes() == images["p1"][0]
    assert (tmp_path / "out" / found["right_image"][0]).read_bytes() == images["p1"][1]
    assert found.loc[2, ["right_image", "side_known"]].tolist() == [
        "",
        "0",
    ]  # one eye, of unknown side
    assert patients_table.finish(found, 0)["text"][0] == "左眼正常, 右眼正常"


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ("oversized", "line 2: a photograph of more than"),
        ("long", "line 2: longer than"),
        ("truncated", "line 2: broken"),
        ("text", "line 2: not a JPEG or PNG"),
        ("gif", "line 2: not a JPEG or PNG"),
        ("base64", "line 2: not base64"),
        ("columns", "line 2: 2 columns"),
        ("duplicate", "line 2: patient p1 stands above"),
        ("pixels", "line 2: .*more than"),
        ("json", "jsonl, line 2: not an object"),
        ("twice", "jsonl, line 2: text 1 stands above"),
    ],
)
def test_r13_the_reader_refuses_attacks(tmp_path, monkeypatch, attack, message):
    """RET-R13: oversized, truncated, non-image, wrong base64, duplicate id: refused with the line's number."""
    good, texts = (
        jpeg(50),
        [
            {"text_id": 1, "text": "a", "image_ids": ["p1"]},
            {"text_id": 2, "text": "b", "image_ids": ["p1"]},
        ],
    )
    write_upstream(tmp_path, {"p1": (good, jpeg(60))}, texts)
    gif = io.BytesIO()
    Image.new("L", (8, 8)).save(gif, "GIF")
    bad = {
        "oversized": jpeg(1, "PNG") + b"0" * 4000,
        "truncated": good[: len(good) // 2],
        "text": b"<html>",
        "gif": gif.getvalue(),
    }
    encoded = {name: base64.b64encode(content).decode() for name, content in bad.items()}
    plain = base64.b64encode(good).decode()
    lines = {
        "long": "p2\t" + "A" * 20000,
        "base64": f"p2\t{plain}\t*&^%",
        "columns": f"p2\t{plain}",
        "duplicate": f"p1\t{plain}\t{plain}",
    }
    lines |= {name: f"p2\t{plain}\t{text}" for name, text in encoded.items()}
    if attack == "pixels":
        monkeypatch.setattr("clipdr.data.preprocessing.image_io.MAX_PIXELS", 500)
        monkeypatch.setitem(lines, "pixels", f"p2\t{plain}\t{plain}")
        (tmp_path / "train_imgs.tsv").write_text(
            "p1\t" + "\t".join([base64.b64encode(small()).decode()] * 2) + "\n"
        )
    if attack in lines:
        with open(tmp_path / "train_imgs.tsv", "a") as file:
            file.write(lines[attack] + "\n")
    if attack == "json":
        (tmp_path / "train_texts.jsonl").write_text(json.dumps(texts[0]) + '\n{"text_id": 2\n')
    if attack == "twice":
        (tmp_path / "train_texts.jsonl").write_text((json.dumps(texts[0]) + "\n") * 2)
    monkeypatch.setattr(ret_clip_release, "MAX_BYTES", 3000)
    monkeypatch.setattr(ret_clip_release, "MAX_LINE", 12000)
    with pytest.raises(DataError, match=message):
        ret_clip_release.read(tmp_path, "train", tmp_path / "out", "A")


def small():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_r13_equal_eyes_are_one_eye_of_unknown_side(tmp_path):
    write_upstream(
        tmp_path, {"p1": (jpeg(5), jpeg(5))}, [{"text_id": 1, "text": "a", "image_ids": ["p1"]}]
    )
    found, dropped = ret_clip_release.read(tmp_path, "train", tmp_path / "out", "A")
    assert (found["right_image"][0], found["side_known"][0], dropped) == ("", "0", [])


def test_r12_the_floor_of_the_onehot_loss_by_hand():
    """RET-R12: four texts in groups of 2, 1, 1: (2 log 2) / 4; all equal: log 4; and no loss of any vectors is below it."""
    from clipdr.pretrain.model import onehot, same_text

    content = torch.tensor([3, 5, 3, 9])
    assert floor(content) == pytest.approx(2 * np.log(2) / 4, abs=1e-12)
    assert floor(torch.zeros(4, dtype=torch.int64)) == pytest.approx(np.log(4), abs=1e-12)
    vectors = torch.eye(3)[
        [0, 1, 0, 2]
    ]  # equal texts, equal vectors: the best there can be, at a large multiplier
    for loss in (onehot, same_text):
        assert float(loss(vectors, vectors, torch.tensor(100.0), content)) == pytest.approx(
            floor(content), abs=1e-6
        )


@pytest.mark.realdata
def test_r12_the_ceilings_of_odir(realdata):
    """RET-R12: the four rows of the specification's section 12, to 0.1 %."""
    odir = patients_table.odir(realdata / "odir")
    side = {
        name: odir[f"text_{name}"].map(lambda text: tuple(sorted(keywords(text))))
        for name in patients_table.SIDES
    }
    both = list(zip(side["left"], side["right"], strict=True))
    rows = {
        "both": (both, 153, (19.1, 38.6, 49.4)),
        "people": (list(zip(both, odir["age"], odir["sex"], strict=True)), 602, (75.3, 98.5, 100)),
        "left": (side["left"], 44, (5.5, 17.5, 26.0)),
        "right": (side["right"], 44, (5.5, 16.9, 26.5)),
    }
    for values, distinct, expected in rows.values():
        content = contents(values)
        assert content.max() + 1 == distinct
        assert [100 * ceiling(content, k) for k in (1, 5, 10)] == pytest.approx(expected, abs=0.06)


@pytest.mark.realdata
def test_odir_is_read_as_described(realdata):
    odir = patients_table.finish(patients_table.odir(realdata / "odir"), 0)
    assert odir["split"].value_counts().to_dict() == {"train": 560, "test": 160, "val": 80}
    assert odir[list(patients_table.ODIR_LABELS)].astype(int).sum().tolist() == [
        196,
        400,
        26,
        50,
        28,
        32,
        33,
        177,
    ]
    grades = pd.concat([odir["grade_left"], odir["grade_right"]]).value_counts().to_dict()
    assert grades == {"0": 962, "2": 393, "1": 213, "3": 21, "": 11}
