"""Released data format: reading, and refusal of damaged files with the line number."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from clipdr import DataError
from clipdr.pretrain.data import (
    patients_table,
    ret_clip_release,
)


def jpeg(shade, suffix="JPEG"):
    """Return an image of one colour as bytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((24, 24, 3), shade, np.uint8)).save(buffer, suffix)
    return buffer.getvalue()


def small():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


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


def test_read_returns_images_and_texts_as_written(tmp_path):
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
    patients, dropped = ret_clip_release.read(tmp_path / "up", "train", tmp_path / "out", "A")
    assert dropped == ["text gone", "image alone"]
    assert list(zip(patients["patient_id"], patients["visit_id"], strict=True)) == [
        ("p1", "7"),
        ("p1", "8"),
        ("p2", "8"),
    ]
    assert (tmp_path / "out" / patients["left_image"][0]).read_bytes() == images["p1"][0]
    assert (tmp_path / "out" / patients["right_image"][0]).read_bytes() == images["p1"][1]
    assert patients.loc[2, ["right_image", "side_known"]].tolist() == [
        "",
        "0",
    ]  # one eye, of unknown side
    assert patients_table.finish(patients, 0)["text"][0] == "左眼正常, 右眼正常"


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ("oversized", "line 2: an image of more than"),
        ("long", "line 2: longer than"),
        ("truncated", "line 2: broken"),
        ("text", "line 2: not a JPEG or PNG"),
        ("gif", "line 2: not a JPEG or PNG"),
        ("base64", "line 2: not base64"),
        ("columns", "line 2: 2 columns"),
        ("duplicate", "line 2: patient p1 is in an earlier line"),
        ("pixels", "line 2: .*more than"),
        ("json", "jsonl, line 2: not an object"),
        ("twice", "jsonl, line 2: text 1 is in an earlier line"),
    ],
)
def test_read_of_a_damaged_file_names_the_line(tmp_path, monkeypatch, attack, message):
    """Oversized, truncated, no image, wrong base64, duplicate id: refused with the line number."""
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
        with (tmp_path / "train_imgs.tsv").open("a") as file:
            file.write(lines[attack] + "\n")
    if attack == "json":
        (tmp_path / "train_texts.jsonl").write_text(json.dumps(texts[0]) + '\n{"text_id": 2\n')
    if attack == "twice":
        (tmp_path / "train_texts.jsonl").write_text((json.dumps(texts[0]) + "\n") * 2)
    monkeypatch.setattr(ret_clip_release, "MAX_BYTES", 3000)
    monkeypatch.setattr(ret_clip_release, "MAX_LINE", 12000)
    with pytest.raises(DataError, match=message):
        ret_clip_release.read(tmp_path, "train", tmp_path / "out", "A")


def test_read_of_equal_eyes_gives_one_eye_of_unknown_side(tmp_path):
    write_upstream(
        tmp_path, {"p1": (jpeg(5), jpeg(5))}, [{"text_id": 1, "text": "a", "image_ids": ["p1"]}]
    )
    patients, dropped = ret_clip_release.read(tmp_path, "train", tmp_path / "out", "A")
    assert (patients["right_image"][0], patients["side_known"][0], dropped) == ("", "0", [])
