"""Download of one file over HTTP: resumed, retried, bounded in time, and checked by sha256.

A file appears whole or not at all. What has arrived is kept beside it as `.NAME.part`, so that the
next call resumes. The package pooch does not resume, waits without limit for a server that sends a
byte per second, and follows redirects to http. No message holds a query, a user, a password or a
token: addresses are printed without them, and messages of other libraries are not printed.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from clipdr import DataError
from clipdr.artifacts.files import digest
from clipdr.data.sources.archive import reason

if TYPE_CHECKING:
    import requests

ATTEMPTS = 5  # in a row without progress
WAIT = 1.0  # seconds before the second attempt; doubled before each further attempt
LONGEST_WAIT = 60.0
CONNECT = 15.0  # seconds
STALL = 30.0  # seconds without a byte, and the time over which the speed is measured
SLOW = 1000  # bytes per second; less counts as no response
PROGRESS = 1_000_000  # bytes that make an attempt count as progress
REDIRECTS = 10
CHUNK = 1 << 18
TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}

# (user, password), or a function that adds credentials to a prepared request
Auth = tuple[str, str] | Callable[[Any], Any] | None


class TransferInterruptedError(Exception):
    """A transfer ended early and may be tried again.

    Args:
        cause: What happened, in words.
        wait: Seconds that the server asks to wait.
    """

    def __init__(self, cause: str, wait: float = 0) -> None:
        """Create the error."""
        super().__init__(cause)
        self.wait = wait


def download(
    url: str,
    path: Path,
    sha256: str = "",
    auth: Auth = None,
    answers: Mapping[int, str] | None = None,
) -> str:
    """Download a file.

    Args:
        url: http or https address.
        path: File to write.
        sha256: Expected digest, hexadecimal; "" if it is unknown.
        auth: (user, password), or a callable as `requests` takes it. It is sent to the host of
            `url` only.
        answers: HTTP status (401, 403 or 404) -> what it means and what to do.

    Returns:
        sha256 of the file.

    Raises:
        DataError: If the server refuses, has no such file, or redirects from https to http. If the
            bytes are wrong; nothing is kept. If the disk is full, or the server stalls or breaks
            off ATTEMPTS times; what has arrived is kept.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    failures, where = 0, public_url(url)
    while True:
        before = _size(part)
        try:
            _attempt(url, part, bool(sha256), auth, answers or {})
            break
        except TransferInterruptedError as error:
            failures = 1 if _size(part) - before >= PROGRESS else failures + 1
            if failures == ATTEMPTS:
                kept = f"{_size(part):,} bytes are kept. Run the same command again to resume."
                if not sha256 and not _read(_validator(part)):
                    kept = "This server cannot resume. Run the same command again to start again."
                raise DataError(
                    f"{where}: {error}. Gave up after {ATTEMPTS} attempts. {kept}"
                ) from None
            time.sleep(min(max(error.wait, WAIT * 2 ** (failures - 1)), LONGEST_WAIT))
        except OSError as error:
            raise DataError(
                f"{where}: cannot write {part}: {reason(error)}. "
                "Run the same command again to resume."
            ) from None
    return accept(part, path, sha256, where)


def copy(source: Path, path: Path, sha256: str = "") -> str:
    """Copy a file of a mirror that is a folder.

    Args:
        source: File of the mirror.
        path: File to write.
        sha256: Expected digest, hexadecimal; "" if it is unknown.

    Returns:
        sha256 of the file.

    Raises:
        DataError: If the file is missing, cannot be copied, or has wrong bytes. Nothing is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        shutil.copyfile(source, part)
    except FileNotFoundError:
        raise DataError(
            f"{source}: missing in the mirror, although its SHA256SUMS lists it. Put it there."
        ) from None
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(
            f"{source}: cannot be copied to {part}: {reason(error)}. Run the same command again."
        ) from None
    return accept(part, path, sha256, str(source))


def accept(part: Path, path: Path, sha256: str, where: str) -> str:
    """Give a complete file its final name if its digest is right, and delete it if not.

    Args:
        part: Complete file under its temporary name.
        path: Final name.
        sha256: Expected digest, hexadecimal; "" if it is unknown.
        where: Origin of the file for messages.

    Returns:
        sha256 of the file.

    Raises:
        DataError: If the digest differs from the expected one.
    """
    actual = digest(part)
    _validator(part).unlink(missing_ok=True)
    if sha256 and actual != sha256:
        part.unlink()
        raise DataError(
            f"{where}: wrong bytes. Its sha256 is {actual[:12]}..., expected {sha256[:12]}...; "
            "nothing was kept. Run the same command again, or use another mirror."
        )
    part.replace(path)
    return actual


def public_url(url: str) -> str:
    """Return an address that may be printed: without user, password, query and fragment."""
    address = urlsplit(url)
    return urlunsplit((address.scheme, address.netloc.rpartition("@")[2], address.path, "", ""))


def _attempt(url: str, part: Path, checked: bool, auth: Auth, answers: Mapping[int, str]) -> None:
    """Resume a partial file to its end, or raise TransferInterruptedError."""
    import requests
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    start = _resumable(part, checked)
    headers = {"Accept-Encoding": "identity", "User-Agent": "clipdr"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator := _read(_validator(part)):
            headers["If-Range"] = validator
    try:
        with requests.Session() as session, _request(session, url, headers, auth) as response:
            total = _prepare(response, part, start, public_url(url), answers)
            if total != start or not start:
                _receive(response, part, total, public_url(url))
    except requests.exceptions.SSLError:
        raise DataError(
            f"{public_url(url)}: its certificate is not valid. If a proxy is in between, set "
            "REQUESTS_CA_BUNDLE to its certificate."
        ) from None
    except (
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidSchema,
        requests.exceptions.MissingSchema,
    ):
        raise DataError(
            f"{public_url(url)}: not an address of a file. Write http:// or https:// and a host."
        ) from None
    except (requests.exceptions.Timeout, ReadTimeoutError):
        raise TransferInterruptedError(f"no response for {STALL:.0f} s") from None
    except requests.exceptions.ConnectionError:
        raise TransferInterruptedError("cannot be reached") from None
    except (requests.exceptions.RequestException, HTTPError):
        raise TransferInterruptedError("the transfer broke off") from None


def _request(
    session: requests.Session, url: str, headers: Mapping[str, str], auth: Auth
) -> requests.Response:
    """Return the first response that is no redirect.

    Credentials stay with the first host. A redirect from https to http is an error.
    """
    current = url
    for _ in range(REDIRECTS):
        same_host = urlsplit(current)[:2] == urlsplit(url)[:2]
        response = session.get(
            current,
            headers=headers,
            auth=auth if same_host else None,
            stream=True,
            allow_redirects=False,
            timeout=(CONNECT, STALL),
        )
        if not response.is_redirect:
            return response
        response.close()
        target = urljoin(current, response.headers["Location"])
        if urlsplit(current).scheme == "https" and urlsplit(target).scheme != "https":
            raise DataError(
                f"{public_url(url)}: refused. It redirects from https to "
                f"{urlsplit(target).scheme}, where anyone could change the bytes. Use a mirror."
            )
        current = target
    raise DataError(f"{public_url(url)}: more than {REDIRECTS} redirects. Check the address.")


def _prepare(
    response: requests.Response, part: Path, start: int, where: str, answers: Mapping[int, str]
) -> int | None:
    """Check a response and make the partial file fit it.

    Returns the total number of bytes of the file, or None where the server does not state it.
    """
    status = response.status_code
    if status in TRY_AGAIN:
        wait = response.headers.get("Retry-After", "0")
        raise TransferInterruptedError(
            f"the server is busy (HTTP {status})", float(wait) if wait.isdecimal() else 0
        )
    content_range = response.headers.get("Content-Range", "")
    if status == 416:  # no bytes after those on disk
        if content_range == f"bytes */{start}":
            return start
        part.unlink(missing_ok=True)
        raise TransferInterruptedError("the file has changed on the server")
    if status not in (200, 206):
        raise DataError(f"{where}: {answers.get(status, f'the server returns HTTP {status}')}.")
    if status == 206 and not content_range.startswith(f"bytes {start}-"):
        part.unlink(missing_ok=True)
        raise TransferInterruptedError("the server sends another range than requested")
    if status == 200:  # from the start: the server cannot resume, or its file has changed
        part.unlink(missing_ok=True)
        start = 0
        _validator(part).write_text(_tag(response.headers))
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else None
    free = shutil.disk_usage(part.parent).free
    if total and total - start > free:
        raise DataError(
            f"{where}: {(total - start) / 1e9:.1f} GB remain to be downloaded, and {part.parent} "
            f"has {free / 1e9:.1f} GB free. Free some space."
        )
    return total


def _receive(response: requests.Response, part: Path, total: int | None, where: str) -> None:
    """Append the content to a file; raise TransferInterruptedError if it is too short or slow."""
    with part.open("ab") as file, _progress_bar(where, total, file.tell()) as advance:
        window, received, size = time.monotonic(), 0, file.tell()
        while chunk := response.raw.read1(CHUNK, decode_content=False):
            file.write(chunk)
            size += len(chunk)
            received += len(chunk)
            advance(len(chunk))
            elapsed = time.monotonic() - window
            if elapsed >= STALL:
                if received < SLOW * elapsed:
                    raise TransferInterruptedError(
                        f"only {received / elapsed:.0f} bytes per second"
                    )
                window, received = time.monotonic(), 0
        file.flush()
        os.fsync(file.fileno())
    if total is not None and size != total:
        raise TransferInterruptedError(f"broke off after {size:,} of {total:,} bytes")


def _resumable(part: Path, checked: bool) -> int:
    """Return the number of bytes to resume from.

    A partial file without a validator is deleted, unless the sha256 of the whole is checked.
    """
    if _size(part) and not checked and not _read(_validator(part)):
        part.unlink()
    return _size(part)


def _tag(headers: Mapping[str, str]) -> str:
    """Return what identifies the server's version of a file: a strong ETag, else its date."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _validator(part: Path) -> Path:
    """Return the path of the file that holds the tag of a partial file."""
    return part.with_name(f"{part.name}.tag")


def _read(path: Path) -> str:
    """Return the text of a file, "" if it is missing."""
    return path.read_text() if path.is_file() else ""


def _size(path: Path) -> int:
    """Return the size of a file in bytes, 0 if it is missing."""
    return path.stat().st_size if path.is_file() else 0


@contextmanager
def _progress_bar(where: str, total: int | None, done: int) -> Generator[Callable[[int], None]]:
    """Show a progress bar on a terminal; yield a function that advances it by some bytes."""
    from rich import progress as bars
    from rich.console import Console

    console = Console(stderr=True)
    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    )
    hidden = not console.is_terminal
    with bars.Progress(*columns, console=console, disable=hidden, transient=True) as progress:
        task = progress.add_task(where.rpartition("/")[2], total=total, completed=done)
        yield lambda count: progress.advance(task, count)
