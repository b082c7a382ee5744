"""Download of one file from a server on 127.0.0.1 that fails in many ways."""

import hashlib
import os
import subprocess
import sys
import time

import pytest
from helpers import http_server
from helpers.downloads import files, one_line
from helpers.paths import ROOT

from clipdr import DataError
from clipdr.data.sources import download

DATA = os.urandom(400_000)
SHA = hashlib.sha256(DATA).hexdigest()


def test_download_file_arrives_whole(server, tmp_path):
    server.files["/a b.zip"] = DATA
    assert download.download(f"{server.url}/a%20b.zip", tmp_path / "a.zip", SHA) == SHA
    assert files(tmp_path) == {"a.zip": DATA}


def test_download_interrupted_is_resumed_byte_identical(server, tmp_path):
    server.files["/a.zip"] = DATA
    server.faults["/a.zip"] = iter(
        [
            http_server.cut(100_000),
            http_server.cut(100_000),
            http_server.status(503),
            http_server.cut(100_000),
        ]
    )
    assert download.download(f"{server.url}/a.zip", tmp_path / "a.zip") == SHA
    assert files(tmp_path) == {"a.zip": DATA}
    assert [headers.get("Range") for _, headers in server.asked] == [
        None,
        *(f"bytes={n}00000-" for n in (1, 2, 2, 3)),
    ]


def test_download_interrupted_again_and_again_keeps_its_part(server, tmp_path):
    server.files["/a.zip"] = DATA
    server.faults["/a.zip"] = iter([http_server.cut(10_000)] * download.ATTEMPTS)
    with pytest.raises(
        DataError, match=r"Gave up after 5 attempts. 50,000 bytes are kept"
    ) as error:
        download.download(f"{server.url}/a.zip", tmp_path / "a.zip")
    one_line(error)
    assert not (tmp_path / "a.zip").exists()
    assert download.download(f"{server.url}/a.zip", tmp_path / "a.zip") == SHA
    assert server.asked[-1][1]["Range"] == "bytes=50000-"


def test_download_server_without_resume_starts_again(server, tmp_path):
    server.files["/a.zip"] = DATA
    server.faults["/a.zip"] = iter([http_server.cut(10_000, version=False)] * download.ATTEMPTS)
    with pytest.raises(
        DataError, match=r"This server cannot resume. Run the same command again to start again"
    ):
        download.download(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert download.download(f"{server.url}/a.zip", tmp_path / "a.zip") == SHA
    assert not any("Range" in headers for _, headers in server.asked)


def test_download_complete_part_is_not_requested_again(server, tmp_path):
    server.files["/a.zip"] = DATA
    (tmp_path / ".a.zip.part").write_bytes(DATA)
    (tmp_path / ".a.zip.part.tag").write_text(f'"{SHA[:16]}"')
    assert download.download(f"{server.url}/a.zip", tmp_path / "a.zip") == SHA
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "kept",
    ["another version", "no version known", "a server without ranges", "longer than the file"],
)
def test_download_part_of_another_version_is_dropped(server, tmp_path, kept):
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


def test_download_wrong_bytes_keep_nothing(server, tmp_path):
    server.files["/a.zip"] = DATA[:-1] + b"\0" if DATA[-1] else DATA[:-1] + b"\1"
    with pytest.raises(DataError, match=r"wrong bytes. Its sha256 is .* nothing was kept") as error:
        download.download(f"{server.url}/a.zip", tmp_path / "a.zip", SHA)
    one_line(error)
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    ("code", "words"), [(404, "gone"), (403, "HTTP 403"), (410, "HTTP 410"), (401, "HTTP 401")]
)
def test_download_refusal_is_final_and_one_line(server, tmp_path, code, words):
    server.faults["/a.zip"] = http_server.always(http_server.status(code))
    with pytest.raises(DataError, match=words) as error:
        download.download(f"{server.url}/a.zip", tmp_path / "a.zip", answers={404: "gone"})
    one_line(error)
    assert files(tmp_path) == {}
    assert len(server.asked) == 1


def test_download_slow_server_ends_in_bounded_time(server, tmp_path, monkeypatch):
    """One byte per 0.1 s never lets a read time out; the speed over a window is measured."""
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    server.files["/a.zip"] = DATA
    server.faults["/a.zip"] = http_server.always(http_server.slow(0.1))
    start = time.monotonic()
    with pytest.raises(DataError, match=r"bytes per second. Gave up after 2 attempts"):
        download.download(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert time.monotonic() - start < 5
    assert not (tmp_path / "a.zip").exists()


def test_download_silent_server_ends_in_bounded_time(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    server.faults["/a.zip"] = http_server.always(lambda handler: time.sleep(1.2))
    with pytest.raises(DataError, match="no response for"):
        download.download(f"{server.url}/a.zip", tmp_path / "a.zip")


def test_download_unreachable_server_is_an_error(tmp_path):
    with http_server.publisher() as gone:
        address = gone.url
    with pytest.raises(DataError, match=r"cannot be reached. Gave up after 5 attempts"):
        download.download(f"{address}/a.zip", tmp_path / "a.zip")


@pytest.mark.parametrize("address", ["htp://x/a", "http://", "nonsense"])
def test_download_bad_address_is_an_error(tmp_path, address):
    with pytest.raises(DataError, match="not an address of a file"):
        download.download(address, tmp_path / "a.zip")


def test_download_redirect_from_https_to_http_is_refused(server, tmp_path, monkeypatch):
    """The https response is simulated; it redirects to a server that must get no request."""
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
    with pytest.raises(DataError, match=r"refused. It redirects from https to http"):
        download.download("https://example.org/a.zip", tmp_path / "a.zip")
    assert server.asked == []


def test_download_endless_redirects_are_an_error(server, tmp_path):
    server.faults["/a.zip"] = http_server.always(http_server.status(302, {"Location": "/a.zip"}))
    with pytest.raises(DataError, match="more than 10 redirects"):
        download.download(f"{server.url}/a.zip", tmp_path / "a.zip")


def test_download_credentials_stay_with_their_host(server, tmp_path):
    """A redirect to another server gets no credentials."""
    with http_server.publisher() as storage:
        storage.files["/signed"] = DATA
        server.faults["/a.zip"] = http_server.always(
            http_server.status(302, {"Location": f"{storage.url}/signed?signature=s3cret"})
        )
        download.download(f"{server.url}/a.zip", tmp_path / "a.zip", SHA, auth=("me", "key"))
        assert server.asked[0][1]["Authorization"].startswith("Basic ")
        assert "Authorization" not in storage.asked[0][1]


def test_download_messages_hold_no_query_or_password(server, tmp_path):
    with http_server.publisher() as storage:
        server.faults["/a.zip"] = http_server.always(
            http_server.status(302, {"Location": f"{storage.url}/signed?signature=s3cret"})
        )
        where = server.url.replace("://", "://me:passw0rd@")
        for fault in (
            http_server.status(404),
            http_server.status(500),
            http_server.cut(10, data=DATA),
        ):
            storage.faults["/signed"] = http_server.always(fault)
            with pytest.raises(DataError) as error:
                download.download(f"{where}/a.zip?token=t0ken", tmp_path / "a.zip")
            assert not any(
                word in one_line(error) for word in ("s3cret", "passw0rd", "t0ken", "signature")
            )


FULL = """
import resource, sys
from pathlib import Path
from clipdr.data.sources import download
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
download.download(sys.argv[1], Path(sys.argv[2]))
"""


def test_download_full_disk_is_one_line_and_resumes(server, tmp_path):
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
    assert "the disk is full. Run the same command again to resume" in done.stderr.splitlines()[-1]
    assert not path.exists()
    assert download.download(address, path) == SHA


def test_download_larger_than_the_disk_is_refused(server, tmp_path, monkeypatch):
    server.files["/a.zip"] = DATA
    monkeypatch.setattr(
        download.shutil, "disk_usage", lambda _: download.shutil._ntuple_diskusage(1, 1, 1000)
    )
    with pytest.raises(DataError, match=r"0\.0 GB remain to be downloaded, and .* 0\.0 GB free"):
        download.download(f"{server.url}/a.zip", tmp_path / "a.zip")
