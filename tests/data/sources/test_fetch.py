"""Fetching from a mirror: complete, interrupted, and refused where the mirror is wrong."""

import json
import resource
import signal
import subprocess
import sys
import time
import zipfile

import pytest
from helpers import http_server
from helpers.downloads import files, one_line
from helpers.paths import ROOT

from clipdr import DataError
from clipdr.data.sources import fetch


@pytest.mark.parametrize("kind", ["folder", "http"])
@pytest.mark.parametrize("name", ["IDRID", "MESSIDOR"])
def test_fetch_mirror_gives_the_publishers_layout(
    server, originals, kept, tmp_path, kind, name, capsys
):
    server.share(kept)
    raw = tmp_path / "raw"
    fetch.fetch(name, raw, str(kept) if kind == "folder" else server.url)
    assert files(raw / name) == files(originals / name)
    assert sorted(entry.name for entry in raw.iterdir()) == sorted([name, "fetch.lock.json"])
    assert "missing: " in capsys.readouterr().out  # the synthetic dataset is small
    entry = json.loads((raw / "fetch.lock.json").read_text())
    assert all(set(value) == {"sha256", "bytes", "date"} for value in entry.values())
    assert all(key.startswith(f"{name}/") for key in entry)


def test_fetch_changed_file_is_refused_by_the_lock(kept, tmp_path):
    raw = tmp_path / "raw"
    fetch.fetch("IDRID", raw, str(kept))
    for path in sorted((raw / "IDRID").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (raw / "IDRID").rmdir()
    with zipfile.ZipFile(kept / "IDRID" / "B. Disease Grading.zip", "a") as file:
        file.writestr("new.txt", "another version")
    http_server.sums(kept / "IDRID")
    with pytest.raises(
        DataError,
        match=r"was fetched before\. If you trust the new one, delete the entry in fetch\.lock",
    ) as error:
        fetch.fetch("IDRID", raw, str(kept))
    one_line(error)
    assert not (raw / "IDRID").exists()


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        ("0" * 64 + "  ../../evil\n", "leaves its folder"),
        ("0" * 64 + "  /tmp/evil\n", "is absolute"),
        ("not a checksum\n", "is not `sha256  path`"),
        ("\n", "lists no file"),
        ("0" * 64 + "  missing.zip\n", "missing.zip"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "http"])
def test_fetch_bad_list_of_a_mirror_is_refused(server, tmp_path, kind, listing, words):
    (tmp_path / "mirror/IDRID").mkdir(parents=True)
    (tmp_path / "mirror/IDRID/SHA256SUMS").write_text(listing)
    server.share(tmp_path / "mirror")
    with pytest.raises(DataError, match=words) as error:
        fetch.fetch(
            "IDRID", tmp_path / "raw", server.url if kind == "http" else str(tmp_path / "mirror")
        )
    one_line(error)
    assert files(tmp_path / "raw") == {}


@pytest.mark.parametrize("kind", ["folder", "http"])
def test_fetch_mirror_without_a_list_is_an_error(server, tmp_path, kind):
    with pytest.raises(DataError, match="SHA256SUMS"):
        fetch.fetch(
            "IDRID", tmp_path / "raw", server.url if kind == "http" else str(tmp_path / "nowhere")
        )


def test_fetch_mirror_with_wrong_bytes_is_refused(server, kept, tmp_path):
    server.share(kept)
    server.files["/IDRID/B. Disease Grading.zip"] = b"PK\3\4 other bytes"
    with pytest.raises(DataError, match="wrong bytes"):
        fetch.fetch("IDRID", tmp_path / "raw", server.url)
    assert files(tmp_path / "raw") == {}


def test_fetch_dangerous_archive_is_dropped(tmp_path):
    folder = tmp_path / "mirror/IDRID"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "a.zip", "w") as file:
        file.writestr("../evil.txt", "x")
    http_server.sums(folder)
    with pytest.raises(DataError, match="leaves its folder"):
        fetch.fetch("IDRID", tmp_path / "raw", str(tmp_path / "mirror"))
    assert files(tmp_path / "raw") == {}
    assert not (tmp_path / "raw/IDRID").exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_fetch_killed_during_a_transfer_resumes(server, originals, kept, tmp_path, share):
    """After SIGKILL nothing has its final name; the same command gives the same files."""
    server.share(kept)
    archive = "/IDRID/B. Disease Grading.zip"
    size = server.files[archive].stat().st_size
    server.faults[archive] = iter([lambda handler: handler.serve(pause=0.02)])
    raw = tmp_path / "raw"
    command = [
        sys.executable,
        "-m",
        "clipdr",
        "fetch",
        "IDRID",
        "--raw",
        str(raw),
        "--mirror",
        server.url,
    ]
    part = raw / ".fetch/IDRID/files/.B. Disease Grading.zip.part"
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        wait_for(lambda: part.exists() and part.stat().st_size >= share * size - 16_384)
        process.send_signal(signal.SIGKILL)
    assert not (raw / "IDRID").exists()
    assert not (raw / "fetch.lock.json").exists()
    had = part.stat().st_size
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert files(raw / "IDRID") == files(originals / "IDRID")
    if 0 < had < size:
        assert server.asked[-1][1]["Range"] == f"bytes={had}-"


KILLED = """
import os, signal, sys
from pathlib import Path
from clipdr.data.sources import fetch
name = sys.argv[1]
real = getattr(os, name)
count = int(sys.argv[2])
def patched(*arguments, **options):
    global count
    count -= 1
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **options)
setattr(os, name, patched)
fetch.fetch("IDRID", Path(sys.argv[3]), sys.argv[4])
"""


@pytest.mark.parametrize(
    ("call", "count"), [("rename", 1), ("rename", 2), ("replace", 1), ("replace", 2)]
)
def test_fetch_killed_before_a_rename_resumes(originals, kept, tmp_path, call, count):
    """SIGKILL before a rename: of the download, the extracted tree, the lock, the folder."""
    raw = tmp_path / "raw"
    command = [sys.executable, "-c", KILLED, call, str(count), str(raw), str(kept)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (raw / "IDRID").exists()
    fetch.fetch("IDRID", raw, str(kept))
    assert files(raw / "IDRID") == files(originals / "IDRID")
    assert sorted(entry.name for entry in raw.iterdir()) == ["IDRID", "fetch.lock.json"]


@pytest.mark.parametrize("limit", [0, 1000, 20_000])
def test_fetch_full_disk_is_one_line_and_resumes(kept, originals, tmp_path, limit):
    """No file may grow beyond `limit` bytes; without the limit the same command succeeds."""
    raw = tmp_path / "raw"
    command = [
        sys.executable,
        "-m",
        "clipdr",
        "fetch",
        "IDRID",
        "--raw",
        str(raw),
        "--mirror",
        str(kept),
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit,) * 2),
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "the disk is full" in done.stderr
    assert not (raw / "IDRID").exists()
    assert not (raw / "fetch.lock.json").exists()
    fetch.fetch("IDRID", raw, str(kept))
    assert files(raw / "IDRID") == files(originals / "IDRID")


def test_fetch_file_in_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "raw").write_text("a file")
    with pytest.raises(DataError, match="cannot be used") as error:
        fetch.fetch("IDRID", tmp_path / "raw")
    one_line(error)


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def test_fetch_second_process_is_refused(tmp_path):
    with (
        fetch._locked_folder(tmp_path),
        pytest.raises(DataError, match="another `clipdr fetch` is working"),
    ):
        fetch.fetch("IDRID", tmp_path)
