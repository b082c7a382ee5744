"""Atomic writing, digests, and JSON and CSV text."""

import hashlib
import json

import numpy as np
import pytest

from clipdr.artifacts.files import as_csv, as_json, digest, replacing, write_text


def test_as_json_undefined_numbers_become_null():
    content = {"a": float("nan"), "b": [float("inf"), (-float("inf"), 1.5)], "c": np.float32("nan")}
    assert json.loads(as_json(content)) == {"a": None, "b": [None, [None, 1.5]], "c": None}


def test_as_json_numpy_scalars_become_plain_numbers():
    content = {"count": np.int64(3), "share": np.float64(0.25), "flag": np.bool_(True)}
    text = as_json(content)
    assert json.loads(text) == {"count": 3, "share": 0.25, "flag": True}
    assert json.loads(text)["flag"] is True


def test_as_json_text_has_indent_and_final_line_feed():
    assert as_json({"a": [1, "é"]}) == '{\n "a": [\n  1,\n  "\\u00e9"\n ]\n}\n'


def test_as_json_unknown_object_is_refused():
    with pytest.raises(TypeError):
        as_json({"a": object()})


def test_as_csv_rows_and_columns_give_the_same_text():
    rows = [{"image": "a", "grade": 0}, {"image": "b", "grade": 4}]
    assert as_csv(rows) == as_csv({"image": ["a", "b"], "grade": [0, 4]})
    assert as_csv(rows) == "image,grade\na,0\nb,4\n"


def test_as_csv_missing_number_is_an_empty_cell():
    assert as_csv([{"a": 1.0}, {"a": float("nan")}]) == 'a\n1.0\n""\n'


def test_replacing_success_gives_the_file_its_name(tmp_path):
    path = tmp_path / "new" / "folder" / "array.npy"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".npy"
        assert temporary.name.startswith(".")
        temporary.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert [entry.name for entry in path.parent.iterdir()] == ["array.npy"]


def interrupt(path, error):
    """Write half a file, then fail."""
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise error


def test_replacing_failure_keeps_the_old_file(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="interrupted"):
        interrupt(path, RuntimeError("interrupted"))
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["scores.csv"]


def test_replacing_failure_leaves_no_file(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        interrupt(tmp_path / "a.txt", KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []


def test_replacing_block_without_output_is_an_error(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "old"


def test_replacing_overwrites_what_a_killed_process_left(tmp_path):
    (tmp_path / ".a.part.txt").write_text("half of a killed process")
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_write_text_is_utf8_with_line_feeds(tmp_path):
    write_text(tmp_path / "a.txt", "é\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\nb\n"


def test_write_text_that_cannot_be_encoded_keeps_the_old_file(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.txt", "new \ud800")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("content", [b"", b"abc", bytes(3_000_000)])
def test_digest_is_the_sha256_of_the_content(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert digest(tmp_path / "a") == hashlib.sha256(content).hexdigest()
    assert digest(str(tmp_path / "a")) == digest(tmp_path / "a")


def test_digest_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        digest(tmp_path / "a")
