"""Implementation of `clipdr fetch`: bring a dataset into data/raw from its publisher or a mirror.

A dataset that must be requested is unpacked from the files that the user placed by hand. Output:
data/raw/{D} in the publisher's own layout, or data/raw/splits; and data/raw/fetch.lock.json with
the sha256 of every downloaded file, which is recorded on first use and verified afterwards. All
work is done in data/raw/.fetch/. An interrupted run therefore leaves nothing half-written under a
final name, and the next run resumes it.
"""

from __future__ import annotations

import fcntl
import filecmp
import json
import os
import re
import shutil
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

from clipdr import DataError
from clipdr.artifacts.files import digest, write_text
from clipdr.data.domains import SPLITS, SPLITS_PAGE
from clipdr.data.sources import archive, catalog
from clipdr.data.sources.archive_limits import RefusedArchiveError
from clipdr.data.sources.download import Auth, copy, download, public_url

STAGING, LOCK, SUMS = ".fetch", "fetch.lock.json", "SHA256SUMS"
# an archive, or the first of its volumes
FIRST = re.compile(r"\.(zip|tar|tgz|tar\.(gz|bz2|xz)|7z|rar|(zip|7z)\.0*1)$", re.IGNORECASE)
# a volume that is opened with the first
FURTHER = re.compile(r"\.(z\d\d+|(zip|7z)\.\d{2,4})$", re.IGNORECASE)
GONE = "no longer there (HTTP 404). Look at {page}, or take it from a mirror (--mirror)"

Layout = tuple[tuple[str, ...], int]  # patterns of members to keep, leading folders to strip


def fetch(name: str, raw: Path, mirror: str = "") -> None:
    """Bring a dataset into the raw folder, and print what was done or what to do by hand.

    Args:
        name: A real dataset, or "splits" for the 16 split files of GDRBench.
        raw: Folder of raw data, data/raw.
        mirror: Folder or http(s) address with {D}/SHA256SUMS and the files it lists. It replaces
            every remote.

    Raises:
        DataError: If the dataset is not complete yet. If a file is refused, missing or wrong at the
            server. If an archive is broken or dangerous, or the disk is full.
    """
    raw = Path(raw)
    with _locked_folder(raw):
        if name == "splits":
            _fetch_splits(raw, mirror)
            return
        domain, state = catalog.real_domain(name), catalog.state(name, raw)
        complete = state.complete(domain.total)
        if state.files and not complete:
            given = [
                path
                for path in sorted((raw / name).iterdir())
                if path.is_file() and FIRST.search(path.name)
            ]
            _unpack(dict.fromkeys(given, ((), 0)), raw / STAGING / name, raw / name)
            shutil.rmtree(raw / STAGING / name, ignore_errors=True)
        elif not state.files and (mirror or (domain.sources and not complete)):
            files = _from_mirror(name, raw, mirror) if mirror else _from_publisher(name, raw)
            _install(name, raw, files)
            missing = catalog.state(name, raw).missing
            result = f"missing: {'; '.join(missing)}" if missing else "complete"
            print(f"{name}: fetched into {raw / name}; {result}")
            return
        _report(name, raw)


def _report(name: str, raw: Path) -> None:
    """Print the next steps; raise DataError unless the dataset is complete."""
    domain, state = catalog.real_domain(name), catalog.state(name, raw)
    print("\n".join(catalog.instructions(name, raw)))
    if state.complete(domain.total):
        return
    missing = f"{raw / name} is empty or missing"
    if state.files:
        missing = f"{raw / name} lacks {'; '.join(state.missing)}"
    if domain.sources:
        raise DataError(f"{name}: {missing}. Add them, or move the folder away and fetch again.")
    raise DataError(f"{name} is not complete: {missing}. Follow the steps above.")


def _from_publisher(name: str, raw: Path) -> dict[str, Path]:
    """Download the sources of a domain; return the staged path of every file."""
    domain = catalog.real_domain(name)
    answers = {404: GONE.format(page=domain.page)}
    auth = None
    if domain.access == "kaggle":
        auth = _kaggle(name, raw)
        answers[401] = (
            "Kaggle does not accept your token (HTTP 401). Make a new one at kaggle.com, Settings, "
            "API"
        )
        answers[403] = (
            f"Kaggle refuses (HTTP 403). Log in, open {domain.rules} and accept the rules there, "
            "then run the same command again"
        )
    lock, files = _read_lock(raw), {}
    for source in domain.sources:
        print(f"{name}: {source.file} from {public_url(source.url)}", flush=True)
        sha256 = _expected(name, source.file, source.sha256, lock)
        files[source.file] = _stage(name, source.file, source.url, raw, sha256, auth, answers)
    return files


def _from_mirror(name: str, raw: Path, mirror: str) -> dict[str, Path]:
    """Bring every file that a mirror lists for a domain; return the staged path of every file."""
    remote = _is_remote(mirror)
    base = f"{mirror.rstrip('/')}/{name}"
    where = public_url(base) if remote else base
    answers = {
        404: f"not in the mirror (HTTP 404). It must hold {name}/{SUMS} and the files listed there "
        "(docs/datasets.md)"
    }
    listing = raw / STAGING / SUMS if remote else Path(base) / SUMS
    try:
        if remote:
            download(f"{base}/{SUMS}", listing, answers=answers)
        sums = _parse_sums(listing.read_text("utf-8", "replace"), f"{where}/{SUMS}")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{where}/{SUMS}: no such file. The mirror must list its files there "
            "(docs/datasets.md, Without a network)."
        ) from None
    finally:
        (raw / STAGING / SUMS).unlink(missing_ok=True)
    lock, files = _read_lock(raw), {}
    print(f"{name}: {len(sums)} file{'s' * (len(sums) > 1)} from {where}", flush=True)
    for file, sha256 in sums.items():
        source = f"{base}/{quote(file)}" if remote else Path(base) / file
        sha256 = _expected(name, file, sha256, lock)
        files[file] = _stage(name, file, source, raw, sha256, None, answers)
    return files


def _is_remote(mirror: str) -> bool:
    """Return whether a mirror is an address rather than a folder."""
    return bool(re.match(r"https?://", mirror))


def _parse_sums(listing: str, where: str) -> dict[str, str]:
    """Parse a SHA256SUMS file; return the sha256 of every path."""
    sums = {}
    for number, line in enumerate(listing.splitlines(), start=1):
        if not line.strip():
            continue
        match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)", line.rstrip())
        if not match:
            raise DataError(
                f"{where}, line {number}: {line[:40]!r} is not `sha256  path`. Make the list with "
                "sha256sum."
            )
        if problem := archive.path_problem(match[2]):
            raise DataError(
                f"{where}, line {number}: refused. The path {match[2]!r} {problem}. Correct the "
                "list."
            )
        sums[match[2]] = match[1].lower()
    if not sums:
        raise DataError(f"{where}: it lists no file. Make the list with sha256sum.")
    return sums


def _stage(
    name: str,
    file: str,
    source: str | Path,
    raw: Path,
    sha256: str,
    auth: Auth,
    answers: Mapping[int, str],
) -> Path:
    """Bring one file into the staging folder, unless an interrupted run has done so already."""
    path = raw / STAGING / name / "files" / file
    if path.is_file() and (not sha256 or digest(path) == sha256):
        return path
    if isinstance(source, Path):
        copy(source, path, sha256)
    else:
        download(source, path, sha256, auth, answers)
    return path


def _read_lock(raw: Path) -> dict[str, dict[str, Any]]:
    """Read {"{D}/{file}": {"sha256", "bytes", "date"}} of every file ever fetched into `raw`."""
    try:
        return json.loads((raw / LOCK).read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise DataError(
            f"{raw / LOCK}: not JSON. Restore it from a backup, or delete it to trust the next "
            "download."
        ) from None


def _expected(name: str, file: str, sha256: str, lock: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the sha256 that a file must have, "" if it is unknown.

    Raises DataError where the offered file is not the one that was fetched before.
    """
    before = lock.get(f"{name}/{file}", {}).get("sha256", "")
    if sha256 and before and sha256 != before:
        raise DataError(
            f"{name}/{file}: sha256 {sha256[:12]}... is offered, but {before[:12]}... was fetched "
            f"before. If you trust the new one, delete the entry in {LOCK}."
        )
    return sha256 or before


def _install(name: str, raw: Path, files: Mapping[str, Path]) -> None:
    """Unpack staged files, lock their digests, name the whole folder, and clear the staging."""
    staging, whole = raw / STAGING / name, raw / STAGING / name / "whole"
    sums = {
        f"{name}/{file}": {"sha256": digest(path), "bytes": path.stat().st_size}
        for file, path in files.items()
    }
    layouts: dict[str, Layout] = {
        source.file: (source.keep, source.strip) for source in catalog.real_domain(name).sources
    }
    archives: dict[Path, Layout] = {
        path: layouts.get(file, ((), 0)) for file, path in files.items() if FIRST.search(file)
    }
    try:
        _unpack(archives, staging, whole)
    except RefusedArchiveError:
        shutil.rmtree(staging)  # otherwise the next run would use the same bytes again
        raise
    for file, path in files.items():
        if not FIRST.search(file) and not FURTHER.search(file):
            _merge(path, whole / file)
    today = date.today().isoformat()
    entries = {file: entry | {"date": today} for file, entry in sums.items()} | _read_lock(raw)
    write_text(raw / LOCK, json.dumps(entries, indent=1, sort_keys=True) + "\n")
    _merge(whole, raw / name)
    shutil.rmtree(staging)


def _unpack(archives: Mapping[Path, Layout], staging: Path, into: Path) -> None:
    """Unpack archives into one folder; what an interrupted run has unpacked is used again."""
    trees = []
    for path, (keep, strip) in archives.items():
        trees.append(staging / "unpacked" / digest(path)[:16])
        if not trees[-1].exists():
            archive.extract(archive.volumes(path), trees[-1], keep, strip)
    for tree in trees:
        _merge(tree, into)


def _merge(source: Path, target: Path) -> None:
    """Move a file or the content of a folder.

    An existing file of equal content stays; other content raises DataError.
    """
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    elif source.is_dir() and target.is_dir():
        for entry in sorted(source.iterdir()):
            _merge(entry, target / entry.name)
    elif source.is_dir() or target.is_dir() or not filecmp.cmp(source, target, shallow=False):
        raise DataError(
            f"{target}: it exists with other content. Move it away and run the same command again."
        )


def _fetch_splits(raw: Path, mirror: str) -> None:
    """Fetch the 16 split files of GDRBench; each must be the official file, also from a mirror."""
    for source in SPLITS:
        path = raw / "splits" / source.file
        if path.is_file() and digest(path) != source.sha256:
            raise DataError(
                f"{path} is not the file of GDRBench. Move it away, then run the same command "
                "again."
            )
    missing = [source for source in SPLITS if not (raw / "splits" / source.file).is_file()]
    answers = {404: GONE.format(page=SPLITS_PAGE)}
    for source in missing:
        address = f"{mirror.rstrip('/')}/splits/{source.file}" if mirror else source.url
        origin = address if _is_remote(address) else Path(address)
        staged = _stage("splits", source.file, origin, raw, source.sha256, None, answers)
        _merge(staged, raw / "splits" / source.file)
    shutil.rmtree(raw / STAGING / "splits", ignore_errors=True)
    print(
        f"splits: {len(SPLITS)} files in {raw / 'splits'}, {len(missing)} of them new, all as "
        "GDRBench published them"
    )


def _kaggle(name: str, raw: Path) -> Auth:
    """Read Kaggle credentials where Kaggle's own tools look for them; never print them."""
    from kagglehub.config import get_kaggle_credentials

    try:
        credentials = get_kaggle_credentials()
    except (ValueError, OSError):
        raise DataError(
            "~/.kaggle/kaggle.json: not as Kaggle writes it. Make a new token at kaggle.com, "
            "Settings, API."
        ) from None
    if not credentials:
        print("\n".join(catalog.instructions(name, raw)))
        raise DataError(
            f"{name}: it comes from Kaggle, and you have no Kaggle token. Follow the steps above."
        )
    if not credentials.api_key:
        return credentials.username, credentials.key

    def authorize(request: Any) -> Any:
        request.headers.update(Authorization=f"Bearer {credentials.api_key}")
        return request

    return authorize


@contextmanager
def _locked_folder(raw: Path) -> Generator[None]:
    """Lock the raw folder against a second `fetch`; the system unlocks it when the process ends."""
    with ExitStack() as stack:
        try:
            raw.mkdir(parents=True, exist_ok=True)
            handle = os.open(raw, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise DataError(
                f"{raw}: another `clipdr fetch` is working in it. Wait for it to end."
            ) from None
        except OSError as error:
            raise DataError(
                f"{raw}: cannot be used: {archive.reason(error)}. Run the same command again to "
                "resume."
            ) from None
        with suppress(OSError):
            (raw / STAGING).rmdir()  # if it is empty
