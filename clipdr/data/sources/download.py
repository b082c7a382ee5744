"""One file over HTTP, whole or not at all: resumed, retried, bounded in time, checked.

Input: an address. Output: a file, and its sha256. What has arrived stays beside it as `.NAME.part`, so that the next call goes on there.
(pooch, the usual choice, does not resume, waits for ever on a server that sends a byte per second, and follows redirects to http.)
No message holds a query, a user, a password or a token: addresses are shown without them, texts of other libraries are not shown.
"""

import os
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin, urlsplit, urlunsplit

from clipdr import DataError
from clipdr.artifacts.files import digest
from clipdr.data.sources.archive import reason

ATTEMPTS = 5  # in a row without progress
WAIT = 1.0  # seconds before the second attempt; doubled before each further one
LONGEST_WAIT = 60.0
CONNECT = 15.0  # seconds
STALL = 30.0  # seconds without a byte, and the time over which the speed is judged
SLOW = 1000  # bytes per second; less counts as no answer
PROGRESS = 1_000_000  # bytes that make an attempt count as progress
REDIRECTS = 10
CHUNK = 1 << 18
TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}


class Interrupted(Exception):
    """A transfer ended early and may be tried again; `wait`: seconds that the server asks for."""

    def __init__(self, cause: str, wait: float = 0):
        super().__init__(cause)
        self.wait = wait


def download(
    url: str, path: Path, sha256: str = "", auth=None, answers: dict[int, str] | None = None
) -> str:
    """Fetch `url` into `path`.

    sha256  : what it must be, hexadecimal; "" where it is not known
    auth    : (user, password) or a callable as `requests` takes it; only ever sent to the host of `url`
    answers : {HTTP status: what it means and what to do}, for 401, 403, 404
    returns   sha256 of the file

    Raises DataError: refused or missing at the server, a redirect from https to http, wrong bytes (nothing is kept), a full disk, a server
    that stalls or breaks off ATTEMPTS times (what has arrived is kept).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    failures, where = 0, shown(url)
    while True:
        before = _size(part)
        try:
            _attempt(url, part, bool(sha256), auth, answers or {})
            break
        except Interrupted as error:
            failures = 1 if _size(part) - before >= PROGRESS else failures + 1
            if failures == ATTEMPTS:
                kept = f"{_size(part):,} bytes are kept: the same command goes on there"
                if not sha256 and not _read(_validator(part)):
                    kept = "this server cannot resume: the same command starts again"
                raise DataError(
                    f"{where}: {error}; given up after {ATTEMPTS} attempts; {kept}"
                ) from None
            time.sleep(min(max(error.wait, WAIT * 2 ** (failures - 1)), LONGEST_WAIT))
        except OSError as error:
            raise DataError(
                f"{where}: cannot write {part}: {reason(error)}; the same command goes on where it stopped"
            ) from None
    return accept(part, path, sha256, where)


def copy(source: Path, path: Path, sha256: str = "") -> str:
    """The same from a file of a mirror that is a folder; returns its sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        shutil.copyfile(source, part)
    except FileNotFoundError:
        raise DataError(
            f"{source}: not in the mirror, though its SHA256SUMS lists it; put it there"
        ) from None
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(f"{source}: cannot copy it to {part}: {reason(error)}") from None
    return accept(part, path, sha256, str(source))


def accept(part: Path, path: Path, sha256: str, where: str) -> str:
    """Give a complete file its final name if it is what it must be; delete it and raise DataError if not."""
    found = digest(part)
    _validator(part).unlink(missing_ok=True)
    if sha256 and found != sha256:
        part.unlink()
        raise DataError(
            f"{where}: wrong bytes: sha256 {found[:12]}... for {sha256[:12]}...; nothing was kept"
        )
    os.replace(part, path)
    return found


def shown(url: str) -> str:
    """An address as it may be printed: without user, password, query and fragment."""
    address = urlsplit(url)
    return urlunsplit((address.scheme, address.netloc.rpartition("@")[2], address.path, "", ""))


def _attempt(url, part, checked, auth, answers):
    """Go on with a partial file to its end, or raise Interrupted."""
    import requests
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    start = _resumable(part, checked)
    headers = {"Accept-Encoding": "identity", "User-Agent": "clipdr"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator := _read(_validator(part)):
            headers["If-Range"] = validator
    try:
        with requests.Session() as session, _answer(session, url, headers, auth) as response:
            total = _begin(response, part, start, shown(url), answers)
            if total != start or not start:
                _receive(response, part, total, shown(url))
    except requests.exceptions.SSLError:
        raise DataError(
            f"{shown(url)}: its certificate is not valid; is a proxy in between? (REQUESTS_CA_BUNDLE names its own)"
        ) from None
    except (
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidSchema,
        requests.exceptions.MissingSchema,
    ):
        raise DataError(
            f"{shown(url)}: not an address of a file; write http:// or https:// and a host"
        ) from None
    except (requests.exceptions.Timeout, ReadTimeoutError):
        raise Interrupted(f"no answer for {STALL:.0f} s") from None
    except requests.exceptions.ConnectionError:
        raise Interrupted("cannot be reached") from None
    except (requests.exceptions.RequestException, HTTPError):
        raise Interrupted("broke off") from None


def _answer(session, url, headers, auth):
    """The first answer that is no redirect. Credentials stay with the first host; https never falls back to http."""
    here = url
    for _ in range(REDIRECTS):
        same = urlsplit(here)[:2] == urlsplit(url)[:2]
        response = session.get(
            here,
            headers=headers,
            auth=auth if same else None,
            stream=True,
            allow_redirects=False,
            timeout=(CONNECT, STALL),
        )
        if not response.is_redirect:
            return response
        response.close()
        there = urljoin(here, response.headers["Location"])
        if urlsplit(here).scheme == "https" and urlsplit(there).scheme != "https":
            raise DataError(
                f"{shown(url)}: refused: it redirects from https to {urlsplit(there).scheme}, where anyone could change the bytes"
            )
        here = there
    raise DataError(f"{shown(url)}: more than {REDIRECTS} redirects")


def _begin(response, part, start, where, answers):
    """Judge the answer and make the partial file fit it; returns the total number of bytes, or None where it is not told."""
    status = response.status_code
    if status in TRY_AGAIN:
        wait = response.headers.get("Retry-After", "0")
        raise Interrupted(
            f"the server is busy (HTTP {status})", float(wait) if wait.isdecimal() else 0
        )
    if status == 416:  # nothing behind what we have
        if response.headers.get("Content-Range", "") == f"bytes */{start}":
            return start
        part.unlink(missing_ok=True)
        raise Interrupted("the file has changed on the server")
    if status not in (200, 206):
        raise DataError(f"{where}: {answers.get(status, f'the server answers HTTP {status}')}")
    if status == 206 and not response.headers.get("Content-Range", "").startswith(
        f"bytes {start}-"
    ):
        part.unlink(missing_ok=True)
        raise Interrupted("the server sends another piece than asked for")
    if status == 200:  # from the beginning: the server cannot resume, or its file has changed
        part.unlink(missing_ok=True)
        start = 0
        _validator(part).write_text(_tag(response.headers))
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else None
    free = shutil.disk_usage(part.parent).free
    if total and total - start > free:
        raise DataError(
            f"{where}: {(total - start) / 1e9:.1f} GB are to come, and {part.parent} has {free / 1e9:.1f} GB free"
        )
    return total


def _receive(response, part, total, where):
    """Append what comes. Raises Interrupted where it is too little or too slow."""
    with open(part, "ab") as file, _bar(where, total, file.tell()) as advance:
        window, received, size = time.monotonic(), 0, file.tell()
        while chunk := response.raw.read1(CHUNK, decode_content=False):
            file.write(chunk)
            size += len(chunk)
            received += len(chunk)
            advance(len(chunk))
            elapsed = time.monotonic() - window
            if elapsed >= STALL:
                if received < SLOW * elapsed:
                    raise Interrupted(f"only {received / elapsed:.0f} bytes per second")
                window, received = time.monotonic(), 0
        file.flush()
        os.fsync(file.fileno())
    if total is not None and size != total:
        raise Interrupted(f"broke off after {size:,} of {total:,} bytes")


def _resumable(part, checked):
    """Bytes to go on from: those of a part that the server can recognise (or whose end is checked), else none."""
    if _size(part) and not checked and not _read(_validator(part)):
        part.unlink()
    return _size(part)


def _tag(headers):
    """What identifies the server's version of a file: a strong ETag, else its date."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _validator(part):
    return part.with_name(f"{part.name}.tag")


def _read(path):
    return path.read_text() if path.is_file() else ""


def _size(path):
    return path.stat().st_size if path.is_file() else 0


@contextmanager
def _bar(where, total, done):
    """A function that moves a progress bar on by some bytes; it shows on a terminal only."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as progress:
        task = progress.add_task(where.rpartition("/")[2], total=total, completed=done)
        yield lambda count: progress.advance(task, count)
