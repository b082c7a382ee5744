"""Receipts: written with a seal, read back, and refused after any change."""

import json

import pytest

from clipdr import DataError
from clipdr.artifacts import receipts
from clipdr.artifacts.files import digest


@pytest.fixture
def receipt(tmp_path):
    (tmp_path / "results/figures").mkdir(parents=True)
    (tmp_path / "results/figures/roc.pdf").write_bytes(b"figure")
    path = tmp_path / "results/receipts/roc.json"
    receipts.write(path, "figure roc", tmp_path / "results", ["figures/roc.pdf"], pages=1)
    return path


def test_read_returns_what_was_written(receipt, tmp_path):
    result = receipts.read(receipt)
    figure = tmp_path / "results/figures/roc.pdf"
    assert result.path == receipt
    assert result.job == "figure roc"
    assert result.files == {figure: digest(figure)}
    assert result.content["pages"] == 1
    assert "seal" not in result.content


def test_write_holds_no_absolute_path(receipt, tmp_path):
    assert str(tmp_path) not in receipt.read_text()
    assert json.loads(receipt.read_text())["folder"] == ".."


@pytest.mark.parametrize("position", [0.1, 0.5, 0.9])
def test_read_any_changed_byte_is_refused(receipt, position):
    content = bytearray(receipt.read_bytes())
    content[int(position * len(content))] ^= 1
    receipt.write_bytes(content)
    with pytest.raises(DataError, match=r"not a receipt, or changed .* run its job again") as error:
        receipts.read(receipt)
    assert "\n" not in str(error.value)
    assert str(receipt) in str(error.value)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "1", "{}", '{"job": "a"}', '{"seal": "0"}', "[" * 100_000, "\udcff"],
)
def test_read_anything_else_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match="not a receipt"):
        receipts.read(tmp_path / "a.json")


def test_read_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="not a receipt"):
        receipts.read(tmp_path / "a.json")


def test_read_sealed_content_without_files_is_refused(tmp_path):
    (tmp_path / "a.json").write_text(receipts.sealed({"job": "a", "folder": "."}))
    with pytest.raises(DataError, match="not a receipt"):
        receipts.read(tmp_path / "a.json")


def test_sealed_order_of_the_keys_does_not_matter():
    assert receipts.sealed({"a": 1, "b": 2}) == receipts.sealed({"b": 2, "a": 1})


def test_write_prepared_names_inputs_and_unused_files(tmp_path):
    for name in ("raw/images/a.png", "raw/images/notes.txt", "raw/splits/D.txt", "store/D.npy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    raw, path = tmp_path / "raw", tmp_path / "receipts/D.json"
    outputs, lists = [tmp_path / "store/D.npy"], [raw / "splits/D.txt"]
    receipts.write_prepared(path, "D", outputs, raw, {"images/a.png": None}, lists, images=1)
    result = receipts.read(path)
    assert result.job == "prepare D"
    assert result.files == {outputs[0]: digest(outputs[0])}
    assert result.content["images"] == 1
    assert result.content["raw"] == {
        "folder": "../raw",
        "files": {
            "images/a.png": digest(raw / "images/a.png"),
            "splits/D.txt": digest(lists[0]),
        },
        "folders": ["images"],
        "unused": ["images/notes.txt"],
    }


def test_list_files_skips_hidden_files_and_missing_folders(tmp_path):
    for name in ("b/2.png", "b/1.png", "b/.hidden", "b/deep/3.png", "a/4.png", "c/5.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert receipts.list_files(tmp_path, ["b", "a", "none"]) == ["a/4.png", "b/1.png", "b/2.png"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"commit": "", "device": "cpu"}', True),
        ("{}", True),
        ('{"commit": "", "seal": ""}', False),
        ('{"job": ""}', False),
        ('{"files": {}}', False),
        ("[]", False),
        ("{", False),
    ],
)
def test_is_plain_json_knows_what_was_never_a_receipt(tmp_path, content, expected):
    (tmp_path / "provenance.json").write_text(content)
    assert receipts.is_plain_json(tmp_path / "provenance.json") is expected


def test_is_plain_json_missing_file_is_not(tmp_path):
    assert not receipts.is_plain_json(tmp_path / "provenance.json")
