"""fetch: by publisher, by mirror and by hand, against a publisher on 127.0.0.1 that fails in every way; no network."""

import dataclasses
import hashlib
import json
import os
import resource
import secrets
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from helpers import http_server as mirror
from helpers import raw_layouts as layouts
from helpers.paths import ROOT

from clipdr import DataError
from clipdr.data.domains import REAL, SPLITS
from clipdr.data.sources import catalog, download, fetch

DATA = os.urandom(400_000)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server():
    with mirror.publisher() as running:
        yield running


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Short waits, and no user's own tokens."""
    monkeypatch.setattr(download, "WAIT", 0.01)
    monkeypatch.setattr(download, "STALL", 0.5)
    monkeypatch.setattr(download, "CONNECT", 0.5)
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


# --- one file -------------------------------------------------------------------------------------------------------------------------


def test_a_file_arrives_whole(server, tmp_path):
    server.files["/a b.zip"] = DATA
    assert download.download(f"{server.url}/a%20b.zip", tmp_path / "a.zip", SHA) == SHA
    assert files(tmp_path) == {"a.zip": DATA}


def test_a_cut_transfer_is_resumed_and_byte_identical(server, tmp_path):
    server.files["/a.zip"] = DATA
    server.faults["/a.zip"] = iter(
        [mirror.cut(100_000), mirror.cut(100_000), mirror.status(503), mirror.cut(100_000)]
    )
    assert download.download(f"{server.url}/a.zip", tmp_path / "a.zip") == SHA
    assert files(tmp_path) == {"a.zip": DATA}
    assert [headers.get("Range") for _, headers in server.asked] == [
        None,
        *(f"bytes={n}00000-" for n in (1, 2, 2, 3)),
    ]


def test_a_transfer_that_is_cut_for_ever_is_given_up_and_kept_for_the_next_call(server, tmp_path):
    server.files["/a.zip"] = DATA
    server.faults["/a.zip"] = iter([mirror.cut(10_000)] * download.ATTEMPTS)
    with pytest.raises(
        DataError, match=r"given up after 5 attempts; 50,000 bytes are kept"
    ) as error:
        download.download(f"{server.url}/a.zip", tmp_path / "a.zip")
    one_line(error)
    assert not (tmp_path / "a.zip").exists()
    assert download.download(f"{server.url}/a.zip", tmp_path / "a.zip") == SHA
    assert server.asked[-1][1]["Range"] == "bytes=50000-"


def test_a_server_that_cannot_resume_is_asked_for_the_whole_file_again(server, tmp_path):
    server.files["/a.zip"] = DATA
    server.faults["/a.zip"] = iter([mirror.cut(10_000, version=False)] * download.ATTEMPTS)
    with pytest.raises(DataError, match="this server cannot resume: the same command starts again"):
        download.download(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert download.download(f"{server.url}/a.zip", tmp_path / "a.zip") == SHA
    assert not any("Range" in headers for _, headers in server.asked)


def test_an_end_that_arrived_before_the_kill_is_not_fetched_again(server, tmp_path):
    server.files["/a.zip"] = DATA
    (tmp_path / ".a.zip.part").write_bytes(DATA)
    (tmp_path / ".a.zip.part.tag").write_text(f'"{SHA[:16]}"')
    assert download.download(f"{server.url}/a.zip", tmp_path / "a.zip") == SHA
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "kept",
    ["another version", "no version known", "a server without ranges", "longer than the file"],
)
def test_what_was_kept_is_dropped_where_it_may_not_fit(server, tmp_path, kept):
    server.files["/a.zip"] = DATA
    part = tmp_path / ".a.zip.part"
    part.write_bytes(b"x" * (500_000 if kept == "longer than the file" else 1000))
    if kept == "another version":
        (tmp_path / ".a.zip.part.tag").write_text('"another"')
    elif kept != "no version known":
        (tmp_path / ".a.zip.part.tag").write_text(f'"{SHA[:16]}"')
    if kept == "a server without ranges":
        server.faults["/a.zip"] = iter([lambda handler: handler.serve(ranges=False)])
    assert download.download(f"{server.url}/a.zip", tmp_path / "a.zip") == SHA
    assert files(tmp_path) == {"a.zip": DATA}


def test_wrong_bytes_are_refused_and_nothing_is_kept(server, tmp_path):
    server.files["/a.zip"] = DATA[:-1] + b"\0" if DATA[-1] else DATA[:-1] + b"\1"
    with pytest.raises(DataError, match=r"wrong bytes: sha256 .* nothing was kept") as error:
        download.download(f"{server.url}/a.zip", tmp_path / "a.zip", SHA)
    one_line(error)
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    ("code", "says"), [(404, "gone"), (403, "HTTP 403"), (410, "HTTP 410"), (401, "HTTP 401")]
)
def test_a_refusal_is_final_and_one_line(server, tmp_path, code, says):
    server.faults["/a.zip"] = mirror.always(mirror.status(code))
    with pytest.raises(DataError, match=says) as error:
        download.download(f"{server.url}/a.zip", tmp_path / "a.zip", answers={404: "gone"})
    one_line(error)
    assert files(tmp_path) == {} and len(server.asked) == 1


def test_a_slow_server_is_given_up_in_bounded_time(server, tmp_path, monkeypatch):
    """One byte every 0.1 s never lets a read time out; the speed over a window does."""
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    server.files["/a.zip"] = DATA
    server.faults["/a.zip"] = mirror.always(mirror.slow(0.1))
    start = time.monotonic()
    with pytest.raises(DataError, match="bytes per second; given up after 2 attempts"):
        download.download(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert time.monotonic() - start < 5
    assert not (tmp_path / "a.zip").exists()


def test_a_silent_server_is_given_up_in_bounded_time(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    server.faults["/a.zip"] = mirror.always(lambda handler: time.sleep(1.2))
    with pytest.raises(DataError, match="no answer for"):
        download.download(f"{server.url}/a.zip", tmp_path / "a.zip")


def test_a_server_that_is_not_there(tmp_path):
    with mirror.publisher() as gone:
        address = gone.url
    with pytest.raises(DataError, match="cannot be reached; given up after 5 attempts"):
        download.download(f"{address}/a.zip", tmp_path / "a.zip")


@pytest.mark.parametrize("address", ["htp://x/a", "http://", "nonsense"])
def test_no_address(tmp_path, address):
    with pytest.raises(DataError, match="not an address of a file"):
        download.download(address, tmp_path / "a.zip")


def test_https_never_falls_back_to_http(server, tmp_path, monkeypatch):
    """The https answer is made up: what it redirects to is a real server, and must not be asked."""
    import requests

    server.files["/a.zip"] = DATA
    real = requests.Session.get

    def get(session, url, **options):
        if not url.startswith("https://"):
            return real(session, url, **options)
        answer = requests.Response()
        answer.status_code, answer.headers["Location"] = 302, f"{server.url}/a.zip"
        answer.raw = type(
            "Raw", (), {"close": lambda self: None, "release_conn": lambda self: None}
        )()
        return answer

    monkeypatch.setattr(requests.Session, "get", get)
    with pytest.raises(DataError, match="refused: it redirects from https to http"):
        download.download("https://example.org/a.zip", tmp_path / "a.zip")
    assert server.asked == []


def test_endless_redirects(server, tmp_path):
    server.faults["/a.zip"] = mirror.always(mirror.status(302, {"Location": "/a.zip"}))
    with pytest.raises(DataError, match="more than 10 redirects"):
        download.download(f"{server.url}/a.zip", tmp_path / "a.zip")


def test_credentials_stay_with_their_host(server, tmp_path):
    """A redirect to another port (here: another server) gets none."""
    with mirror.publisher() as storage:
        storage.files["/signed"] = DATA
        server.faults["/a.zip"] = mirror.always(
            mirror.status(302, {"Location": f"{storage.url}/signed?signature=s3cret"})
        )
        download.download(f"{server.url}/a.zip", tmp_path / "a.zip", SHA, auth=("me", "key"))
        assert server.asked[0][1]["Authorization"].startswith("Basic ")
        assert "Authorization" not in storage.asked[0][1]


def test_no_message_shows_a_query_or_a_password(server, tmp_path):
    with mirror.publisher() as storage:
        server.faults["/a.zip"] = mirror.always(
            mirror.status(302, {"Location": f"{storage.url}/signed?signature=s3cret"})
        )
        where = server.url.replace("://", "://me:passw0rd@")
        for fault in (mirror.status(404), mirror.status(500), mirror.cut(10, data=DATA)):
            storage.faults["/signed"] = mirror.always(fault)
            with pytest.raises(DataError) as error:
                download.download(f"{where}/a.zip?token=t0ken", tmp_path / "a.zip")
            assert not any(
                word in one_line(error) for word in ("s3cret", "passw0rd", "t0ken", "signature")
            )


FULL = """
import resource, sys
from pathlib import Path
from clipdr import download
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
download.download(sys.argv[1], Path(sys.argv[2]))
"""


def test_a_full_disk_is_one_line_and_resumes_when_there_is_room(server, tmp_path):
    server.files["/a.zip"] = DATA
    address, path = f"{server.url}/a.zip", tmp_path / "a.zip"
    done = subprocess.run(
        [sys.executable, "-c", FULL, address, path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert (
        "the disk is full; the same command goes on where it stopped"
        in done.stderr.splitlines()[-1]
    )
    assert not path.exists()
    assert download.download(address, path) == SHA


def test_more_than_the_disk_holds_is_refused_before_it_comes(server, tmp_path, monkeypatch):
    server.files["/a.zip"] = DATA
    monkeypatch.setattr(
        download.shutil, "disk_usage", lambda _: download.shutil._ntuple_diskusage(1, 1, 1000)
    )
    with pytest.raises(DataError, match=r"0.0 GB are to come, and .* 0.0 GB free"):
        download.download(f"{server.url}/a.zip", tmp_path / "a.zip")


# --- a data set from a mirror ---------------------------------------------------------------------------------------------------------


def pack(folder, path):
    """A zip of a folder's content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for entry in sorted(Path(folder).rglob("*")):
            if entry.is_file():
                file.write(entry, entry.relative_to(folder).as_posix())
    return path


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """All eight domains in their original layouts, drawn."""
    raw = tmp_path_factory.mktemp("originals")
    for name in REAL:
        layouts.build(name, raw)
    return raw


@pytest.fixture
def kept(originals, tmp_path):
    """A mirror with one zipped data set (IDRID) and one of loose files (MESSIDOR)."""
    folder = tmp_path / "mirror"
    pack(originals / "IDRID", folder / "IDRID" / "B. Disease Grading.zip")
    for path, content in files(originals / "MESSIDOR").items():
        (folder / "MESSIDOR" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "MESSIDOR" / path).write_bytes(content)
    for name in ("IDRID", "MESSIDOR"):
        mirror.sums(folder / name)
    return folder


@pytest.mark.parametrize("kind", ["folder", "http"])
@pytest.mark.parametrize("name", ["IDRID", "MESSIDOR"])
def test_a_mirror_gives_the_publishers_layout(
    server, originals, kept, tmp_path, kind, name, capsys
):
    server.share(kept)
    raw = tmp_path / "raw"
    fetch.fetch(name, raw, str(kept) if kind == "folder" else server.url)
    assert files(raw / name) == files(originals / name)
    assert sorted(entry.name for entry in raw.iterdir()) == sorted([name, "fetch.lock.json"])
    assert "it lacks" in capsys.readouterr().out  # the drawn set is small
    entry = json.loads((raw / "fetch.lock.json").read_text())
    assert all(set(value) == {"sha256", "bytes", "date"} for value in entry.values())
    assert all(key.startswith(f"{name}/") for key in entry)


def test_the_lock_is_verified_ever_after(kept, tmp_path):
    raw = tmp_path / "raw"
    fetch.fetch("IDRID", raw, str(kept))
    for path in sorted((raw / "IDRID").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (raw / "IDRID").rmdir()
    with zipfile.ZipFile(kept / "IDRID" / "B. Disease Grading.zip", "a") as file:
        file.writestr("new.txt", "another version")
    mirror.sums(kept / "IDRID")
    with pytest.raises(
        DataError,
        match=r"was fetched before; if you trust the new one, delete the entry in fetch.lock.json",
    ) as error:
        fetch.fetch("IDRID", raw, str(kept))
    one_line(error)
    assert not (raw / "IDRID").exists()


@pytest.mark.parametrize(
    ("listing", "says"),
    [
        ("0" * 64 + "  ../../evil\n", "climbs out"),
        ("0" * 64 + "  /tmp/evil\n", "is absolute"),
        ("not a checksum\n", "is not `sha256  path`"),
        ("\n", "lists no file"),
        ("0" * 64 + "  missing.zip\n", "missing.zip"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "http"])
def test_a_bad_list_of_a_mirror(server, tmp_path, kind, listing, says):
    (tmp_path / "mirror/IDRID").mkdir(parents=True)
    (tmp_path / "mirror/IDRID/SHA256SUMS").write_text(listing)
    server.share(tmp_path / "mirror")
    with pytest.raises(DataError, match=says) as error:
        fetch.fetch(
            "IDRID", tmp_path / "raw", server.url if kind == "http" else str(tmp_path / "mirror")
        )
    one_line(error)
    assert files(tmp_path / "raw") == {}


@pytest.mark.parametrize("kind", ["folder", "http"])
def test_a_mirror_without_a_list(server, tmp_path, kind):
    with pytest.raises(DataError, match="SHA256SUMS"):
        fetch.fetch(
            "IDRID", tmp_path / "raw", server.url if kind == "http" else str(tmp_path / "nowhere")
        )


def test_a_mirror_with_wrong_bytes(server, kept, tmp_path):
    server.share(kept)
    server.files["/IDRID/B. Disease Grading.zip"] = b"PK\3\4 other bytes"
    with pytest.raises(DataError, match="wrong bytes"):
        fetch.fetch("IDRID", tmp_path / "raw", server.url)
    assert files(tmp_path / "raw") == {}


def test_a_dangerous_archive_of_a_mirror_is_dropped(tmp_path):
    folder = tmp_path / "mirror/IDRID"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "a.zip", "w") as file:
        file.writestr("../evil.txt", "x")
    mirror.sums(folder)
    with pytest.raises(DataError, match="climbs out of its folder"):
        fetch.fetch("IDRID", tmp_path / "raw", str(tmp_path / "mirror"))
    assert files(tmp_path / "raw") == {} and not (tmp_path / "raw/IDRID").exists()


# --- killed in the middle -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_killed_in_the_middle_of_a_transfer(server, originals, kept, tmp_path, share):
    """SIGKILL while the archive comes: nothing under a final name; the same command goes on and gives the same files."""
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
    assert not (raw / "IDRID").exists() and not (raw / "fetch.lock.json").exists()
    had = part.stat().st_size
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert files(raw / "IDRID") == files(originals / "IDRID")
    if 0 < had < size:
        assert server.asked[-1][1]["Range"] == f"bytes={had}-"


KILLED = """
import os, signal, sys
from pathlib import Path
from clipdr import fetch
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
def test_killed_while_it_gives_names(originals, kept, tmp_path, call, count):
    """SIGKILL just before a rename: of the download, the unpacked tree, the lock, the whole folder."""
    raw = tmp_path / "raw"
    command = [sys.executable, "-c", KILLED, call, str(count), str(raw), str(kept)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (raw / "IDRID").exists()
    fetch.fetch("IDRID", raw, str(kept))
    assert files(raw / "IDRID") == files(originals / "IDRID")
    assert sorted(entry.name for entry in raw.iterdir()) == ["IDRID", "fetch.lock.json"]


@pytest.mark.parametrize("limit", [0, 1000, 20_000])
def test_a_full_disk_at_the_command_line(kept, originals, tmp_path, limit):
    """No file may grow beyond `limit` bytes: one line, status 2, nothing under a final name; with room the same command ends well."""
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
    assert done.stderr.count("\n") == 1 and "the disk is full" in done.stderr
    assert not (raw / "IDRID").exists() and not (raw / "fetch.lock.json").exists()
    fetch.fetch("IDRID", raw, str(kept))
    assert files(raw / "IDRID") == files(originals / "IDRID")


def test_a_folder_that_cannot_be_one(tmp_path):
    (tmp_path / "raw").write_text("a file")
    with pytest.raises(DataError, match="cannot work in") as error:
        fetch.fetch("IDRID", tmp_path / "raw")
    one_line(error)


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def test_two_at_once_are_kept_apart(tmp_path):
    with (
        fetch._alone(tmp_path),
        pytest.raises(DataError, match="another `clipdr fetch` is working"),
    ):
        fetch.fetch("IDRID", tmp_path)


# --- from the publishers --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def published(server, originals, monkeypatch, tmp_path):
    """APTOS, DDR, DEEPDR and EYEPACS as their publishers pack them; Kaggle redirects to a signed address, with the right token only."""
    token = secrets.token_hex(20)
    monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    monkeypatch.setenv("HOME", str(tmp_path))
    packed = tmp_path / "packed"
    contents = {
        "APTOS": {
            "aptos2019-blindness-detection.zip": pack(originals / "APTOS", packed / "aptos.zip")
        },
        "DDR": {"ddrdataset.zip": pack(originals / "DDR", packed / "ddr.zip")},
        "EYEPACS": {},
    }
    deepdrid = packed / "deepdrid.zip"
    with zipfile.ZipFile(deepdrid, "w") as file:
        for path in sorted((originals / "DEEPDR").rglob("*")):
            if path.is_file():
                file.write(
                    path, f"DeepDRiD-0657068/{path.relative_to(originals / 'DEEPDR').as_posix()}"
                )
    with zipfile.ZipFile(packed / "trainLabels.csv.zip", "w") as file:
        file.write(originals / "EYEPACS/trainLabels.csv", "trainLabels.csv")
    contents["EYEPACS"]["trainLabels.csv.zip"] = packed / "trainLabels.csv.zip"
    for half, parts in (("train", 5), ("test", 7)):
        with zipfile.ZipFile(packed / f"{half}.zip", "w") as file:
            for path in sorted((originals / "EYEPACS" / half).iterdir()):
                file.write(path, f"{half}/{path.name}")
        data = (packed / f"{half}.zip").read_bytes()
        step = len(data) // parts + 1
        for number in range(parts):
            contents["EYEPACS"][f"{half}.zip.{number + 1:03d}"] = data[
                number * step : (number + 1) * step
            ]

    def kaggle(file):
        def answer(handler):
            right = handler.headers.get("Authorization") == f"Bearer {token}"
            handler.answer(
                302, {"Location": f"/storage/{file}?X-Goog-Signature=s1gned"}
            ) if right else handler.answer(401)

        return answer

    for name in ("APTOS", "DDR", "DEEPDR", "EYEPACS"):
        sources = tuple(
            dataclasses.replace(s, url=f"{server.url}/{name}/{s.file}") for s in REAL[name].sources
        )
        monkeypatch.setitem(REAL, name, dataclasses.replace(REAL[name], sources=sources))
    server.files["/DEEPDR/DeepDRiD.zip"] = deepdrid
    for name, held in contents.items():
        assert set(held) == {source.file for source in REAL[name].sources}
        for file, content in held.items():
            server.files[f"/storage/{file}"] = content
            server.faults[f"/{name}/{file}"] = mirror.always(kaggle(file))
    return token


@pytest.mark.parametrize("name", ["APTOS", "DDR", "DEEPDR", "EYEPACS"])
def test_from_the_publisher(published, originals, tmp_path, name, capfd):
    raw = tmp_path / "raw"
    fetch.fetch(name, raw)
    left_out = {"test.csv", "retinopathy_solution.csv"} | {
        f"test_images/{p.name}" for p in (originals / name).glob("test_images/*")
    }
    expected = {
        k: v
        for k, v in files(originals / name).items()
        if k not in left_out and not k.startswith("ultra-widefield")
    }
    assert files(raw / name) == expected
    said = "".join(capfd.readouterr()) + "".join(p.read_text() for p in raw.glob("*.json"))
    assert published not in said and "s1gned" not in said


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (403, "competitions/aptos2019-blindness-detection/rules and accept the rules"),
        (401, "token"),
        (404, "not there any more"),
        (500, "busy"),
    ],
)
def test_what_kaggle_may_answer(published, server, tmp_path, code, says, capfd):
    file = REAL["APTOS"].sources[0].file
    server.faults[f"/APTOS/{file}"] = mirror.always(mirror.status(code))
    with pytest.raises(DataError, match=says) as error:
        fetch.fetch("APTOS", tmp_path / "raw")
    assert published not in one_line(error) + "".join(capfd.readouterr())
    assert not (tmp_path / "raw/APTOS").exists()


def test_without_a_token_kaggle_is_not_asked(published, server, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    monkeypatch.setattr(
        "kagglehub.config.DEFAULT_KAGGLE_CREDENTIALS_FOLDER", str(tmp_path / "none")
    )
    with pytest.raises(DataError, match="there is no token of yours; the steps are above"):
        fetch.fetch("APTOS", tmp_path / "raw")
    assert "Make an API token" in capsys.readouterr().out
    assert server.asked == []


def test_kaggles_older_file_of_user_and_key(published, server, tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    key = secrets.token_hex(16)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "kaggle.json").write_text(json.dumps({"username": "me", "key": key}))
    with pytest.raises(
        DataError, match="does not accept your token"
    ) as error:  # this Kaggle wants the other kind
        fetch.fetch("APTOS", tmp_path / "raw")
    assert server.asked[0][1]["Authorization"].startswith("Basic ")
    assert key not in one_line(error) + "".join(capfd.readouterr())
    (tmp_path / "kaggle.json").write_text("{broken " + key)
    with pytest.raises(DataError, match="not as Kaggle writes it") as error:
        fetch.fetch("APTOS", tmp_path / "raw")
    assert key not in one_line(error) + "".join(capfd.readouterr())


def test_a_login_page_in_place_of_an_archive_is_not_kept(published, server, tmp_path):
    server.files["/storage/ddrdataset.zip"] = b"<html>please log in</html>"
    with pytest.raises(DataError, match="no zip or tar archive"):
        fetch.fetch("DDR", tmp_path / "raw")
    assert files(tmp_path / "raw") == {}


def test_a_part_that_came_before_a_failure_is_not_fetched_again(published, server, tmp_path):
    server.faults["/EYEPACS/test.zip.003"], good = (
        mirror.always(mirror.status(404)),
        server.faults["/EYEPACS/test.zip.003"],
    )
    with pytest.raises(DataError):
        fetch.fetch("EYEPACS", tmp_path / "raw")
    server.faults["/EYEPACS/test.zip.003"] = good
    server.asked.clear()
    fetch.fetch("EYEPACS", tmp_path / "raw")
    assert [path for path, _ in server.asked if "/storage/" not in path] == [
        f"/EYEPACS/test.zip.{n:03d}" for n in (3, 4, 5, 6, 7)
    ]


# --- by hand, splits, the rest --------------------------------------------------------------------------------------------------------


def test_by_hand_nothing_there(tmp_path, capsys):
    with pytest.raises(DataError, match="FGADR is not complete: there is nothing in") as error:
        fetch.fetch("FGADR", tmp_path / "raw")
    one_line(error)
    said = capsys.readouterr().out
    assert (
        REAL["FGADR"].page in said
        and str(tmp_path / "raw" / "FGADR") in said
        and "(now: 0)" in said
    )
    assert files(tmp_path / "raw") == {}


@pytest.mark.parametrize("name", ["FGADR", "IDRID", "MESSIDOR", "RLDR"])
def test_by_hand_packed(originals, tmp_path, name, capsys, small):
    """What the user was given lies packed in the folder: fetch unpacks it, keeps it, and says what comes next."""
    folder = tmp_path / "raw" / name
    folder.mkdir(parents=True)
    if name == "MESSIDOR":
        data = pack(originals / name / "IMAGES", tmp_path / "IMAGES.zip").read_bytes()
        for number in range(4):
            step = len(data) // 4 + 1
            (folder / f"IMAGES.zip.{number + 1:03d}").write_bytes(
                data[number * step : (number + 1) * step]
            )
        (folder / "messidor_data.csv").write_bytes(
            (originals / name / "messidor_data.csv").read_bytes()
        )
    elif name == "RLDR":
        with tarfile.open(folder / "retinal-lesions.tar.gz", "w:gz") as file:
            file.add(originals / name, ".")
    else:
        pack(originals / name, folder / "given.zip")
    fetch.fetch(name, tmp_path / "raw")
    assert f"{name} is complete" in capsys.readouterr().out
    before = files(folder)
    assert {Path(path).name for path in files(originals / name)} <= {
        Path(path).name for path in before
    }
    fetch.fetch(name, tmp_path / "raw")
    assert files(folder) == before
    assert not (tmp_path / "raw/.fetch").exists()


@pytest.fixture
def small(originals, monkeypatch):
    """Every need counts what the drawn sets hold."""
    for name, domain in list(REAL.items()):
        found = catalog.state(name, originals).found
        assert all(count for _, count in found), name  # the patterns fit the layouts
        needs = tuple(dataclasses.replace(need, count=count) for need, count in found)
        monkeypatch.setitem(REAL, name, dataclasses.replace(domain, needs=needs))


def test_by_hand_a_part_is_missing(originals, tmp_path, small):
    folder = tmp_path / "raw/FGADR"
    pack(originals / "FGADR", folder / "given.zip")
    (folder / "given.zip").write_bytes((folder / "given.zip").read_bytes()[:-500])
    with pytest.raises(DataError, match=r"given\.zip: broken archive") as error:
        fetch.fetch("FGADR", tmp_path / "raw")
    one_line(error)
    assert list(files(folder)) == ["given.zip"]
    (folder / "given.zip").unlink()
    some = sorted(files(originals / "FGADR").items())[:3]
    for path, content in some:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    with pytest.raises(DataError, match=r"lacks \d+ of 12 images"):
        fetch.fetch("FGADR", tmp_path / "raw")


def test_by_hand_another_file_is_not_overwritten(originals, tmp_path, small):
    folder = tmp_path / "raw/FGADR"
    pack(originals / "FGADR", folder / "given.zip")
    mine = folder / "Seg-set/DR_Seg_Grading_Label.csv"
    mine.parent.mkdir()
    mine.write_text("my own grades")
    with pytest.raises(DataError, match="is there already, with other content"):
        fetch.fetch("FGADR", tmp_path / "raw")
    assert mine.read_text() == "my own grades"


def test_by_hand_7z_names_the_command(tmp_path):
    (tmp_path / "FGADR").mkdir()
    (tmp_path / "FGADR" / "Seg-set.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(90))
    with pytest.raises(DataError, match="7z x -o"):
        fetch.fetch("FGADR", tmp_path)


def test_the_processed_layout_is_enough(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        REAL,
        "APTOS",
        dataclasses.replace(
            REAL["APTOS"], counts={"train": (8, 0, 0, 0, 0), "val": (4, 0, 0, 0, 0)}
        ),
    )
    layouts.build("APTOS", tmp_path, layout="gdrbench")
    fetch.fetch("APTOS", tmp_path)
    assert "APTOS is complete. Next: python -m clipdr prepare APTOS" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "says"), [("SIM_APTOS", "synthesize"), ("NOWHERE", "use one of APTOS")]
)
def test_names_that_cannot_be_fetched(tmp_path, name, says):
    with pytest.raises(DataError, match=says):
        fetch.fetch(name, tmp_path)


@pytest.fixture
def official(originals, monkeypatch):
    """The drawn split files take the place of the official ones."""
    shas = {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (originals / "splits").iterdir()
    }
    fixed = tuple(dataclasses.replace(source, sha256=shas[source.file]) for source in SPLITS)
    monkeypatch.setattr(fetch, "SPLITS", fixed)


@pytest.mark.parametrize("kind", ["folder", "http"])
def test_splits_from_a_mirror(server, originals, official, tmp_path, kind):
    server.share(originals / "splits", "/splits")
    raw = tmp_path / "raw"
    for _ in range(2):  # the second finds them all
        fetch.fetch("splits", raw, str(originals) if kind == "folder" else server.url)
        assert files(raw) == {f"splits/{k}": v for k, v in files(originals / "splits").items()}
    assert len(server.asked) == (16 if kind == "http" else 0)


def test_splits_of_a_mirror_that_are_not_the_official_ones(originals, tmp_path):
    with pytest.raises(DataError, match="wrong bytes"):
        fetch.fetch("splits", tmp_path / "raw", str(originals))
    assert not (tmp_path / "raw/splits").exists()


def test_a_split_file_of_ones_own_is_not_overwritten(originals, official, tmp_path):
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/APTOS_train.txt").write_text("mine\n")
    with pytest.raises(DataError, match=r"APTOS_train\.txt is not GDRBench's"):
        fetch.fetch("splits", tmp_path, str(originals))
    assert (tmp_path / "splits/APTOS_train.txt").read_text() == "mine\n"


@pytest.mark.realdata
def test_the_fixed_checksums_are_those_of_the_official_files(realdata):
    folder = realdata / "labels_original/GDRBENCH_splits"
    assert {source.file: source.sha256 for source in SPLITS} == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.txt")
    }


# --- end to end -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_from_a_mirror_to_prepared_data_for_all_eight(server, originals, official, tmp_path):
    """fetch all eight and the splits from an http mirror, then prepare each: every photograph that the splits name is prepared."""
    import pandas as pd
    from typer.testing import CliRunner

    from clipdr.cli.main import app

    for name in REAL:
        pack(originals / name, tmp_path / "mirror" / name / f"{name}.zip")
        mirror.sums(tmp_path / "mirror" / name)
    server.share(tmp_path / "mirror")
    server.share(originals / "splits", "/splits")
    raw, data = tmp_path / "raw", tmp_path / "data"
    for name in [*REAL, "splits"]:
        run(CliRunner(), app, "fetch", name, "--raw", raw, "--mirror", server.url)
    for name in REAL:
        run(CliRunner(), app, "prepare", name, "--raw", raw, "--data", data, "--size", 64)
        listed = sum(
            len((originals / f"splits/{name}_{word}.txt").read_text().splitlines())
            for word in ("train", "crossval")
        )
        assert len(pd.read_csv(data / "manifests" / f"{name}.csv")) == listed == 12


def run(runner, app, *arguments):
    done = runner.invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
