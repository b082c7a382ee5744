"""Identity of a training: it follows every source file, input and setting behind it."""

import shutil

import numpy as np
import pytest
from helpers.paths import ROOT

from clipdr.training import provenance
from clipdr.training.provenance import array_stamps, identity, source_digests

COMMANDS = {  # command -> modules imported by name, files behind it
    "train": (("methods/clip_dr",), ("training/loop.py", "methods/clip_dr.py", "data/loader.py")),
    "pretrain train": ((), ("pretrain/loop.py", "pretrain/data/loader.py", "training/state.py")),
    "multimodal train": (
        (),
        ("multimodal/loop.py", "multimodal/data/loader.py", "methods/corn.py"),
    ),
}
UNRELATED = ("report/page/build.py", "inference/grad_cam.py", "methods/ddaig.py")


@pytest.fixture
def package(tmp_path):
    """A copy of the package's source files."""
    ignored = shutil.ignore_patterns("__pycache__", "checkpoints")
    shutil.copytree(ROOT / "clipdr", tmp_path / "clipdr", ignore=ignored)
    return tmp_path / "clipdr"


@pytest.mark.parametrize("command", COMMANDS)
def test_edit_behind_a_training_changes_its_identity(package, command):
    modules, behind = COMMANDS[command]

    def current():
        return identity({"lr": 1}, {}, source_digests(command, *modules, package=package))

    before = current()
    for file in UNRELATED:
        with (package / file).open("a") as stream:
            stream.write("\n# edited\n")
    assert current() == before
    for file in behind:
        text = (package / file).read_text()
        (package / file).write_text(text + "\n# edited\n")
        assert current() != before, file
        (package / file).write_text(text)
    assert current() == before


def test_two_files_of_one_base_name_both_count(package):
    digests = source_digests("multimodal train", package=package)
    loaders = [file for file in digests if file.endswith("/loader.py")]
    assert {"data/loader.py", "multimodal/data/loader.py"} == set(loaders)
    for file in loaders:
        text = (package / file).read_text()
        (package / file).write_text(text + "\n# edited\n")
        assert source_digests("multimodal train", package=package) != digests
        (package / file).write_text(text)
    assert source_digests("multimodal train", package=package) == digests


def test_each_method_counts_only_in_its_own_runs():
    erm, clip_dr = (source_digests("train", f"methods/{name}") for name in ("erm", "clip_dr"))
    assert "methods/clip_dr.py" not in erm
    assert "methods/clip_dr.py" in clip_dr


def test_identity_follows_settings_inputs_code_and_torch(monkeypatch):
    base = identity({"lr": 1}, {"a": "x"}, {"loop.py": "1"})
    assert identity({"lr": 1}, {"a": "x"}, {"loop.py": "1"}) == base
    assert identity({"lr": 2}, {"a": "x"}, {"loop.py": "1"}) != base
    assert identity({"lr": 1}, {"a": "y"}, {"loop.py": "1"}) != base
    assert identity({"lr": 1}, {"a": "x"}, {"loop.py": "2"}) != base
    monkeypatch.setattr(provenance.importlib.metadata, "version", lambda name: "another")
    assert identity({"lr": 1}, {"a": "x"}, {"loop.py": "1"}) != base


def test_stamps_follow_shape_and_time_of_an_array(tmp_path):
    import os

    path = tmp_path / "a.npy"
    np.save(path, np.zeros((3, 2)))
    stamps = array_stamps({"A": np.load(path, mmap_mode="r")})
    assert stamps["A"][0] == [3, 2]
    os.utime(path, ns=(1, 1))
    assert array_stamps({"A": np.load(path, mmap_mode="r")}) == {"A": [[3, 2], 1]}
