"""`clipdr fetch`: a data set into data/raw/{D}, from its publisher, a mirror, or what the user put there by hand.

Input: a name of DOMAINS or `splits`. Output: data/raw/{D} in the publisher's own layout, or data/raw/splits; and data/raw/fetch.lock.json
with the sha256 of every file that was downloaded: recorded on first use, verified ever after. All work is done in data/raw/.fetch/, so
that a run that is cut leaves nothing half-written under a final name, and the next one goes on where it was.
"""

import fcntl
import filecmp
import json
import os
import re
import shutil
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from pathlib import Path
from urllib.parse import quote

from clipdr import DataError
from clipdr.artifacts.files import digest, write_text
from clipdr.data.domains import SPLITS, SPLITS_PAGE
from clipdr.data.sources import archive, catalog
from clipdr.data.sources.archive_formats import Refused
from clipdr.data.sources.download import copy, download, shown

STAGING, LOCK, SUMS = ".fetch", "fetch.lock.json", "SHA256SUMS"
FIRST = re.compile(
    r"\.(zip|tar|tgz|tar\.(gz|bz2|xz)|7z|rar|(zip|7z)\.0*1)$", re.I
)  # an archive, or the first of its parts
FURTHER = re.compile(r"\.(z\d\d+|(zip|7z)\.\d{2,4})$", re.I)  # a part that is opened with the first


def fetch(name: str, raw: Path, mirror: str = "") -> None:
    """Have a data set; prints what was done, and for one that must be had by hand, what to do.

    name   : a real data set, or "splits" for GDRBench's 16 split files
    raw    : the user's folder, data/raw
    mirror : folder or http(s) address with {D}/SHA256SUMS and the files it lists, in place of every remote

    Raises DataError, one line: not complete yet, refused, missing or wrong at the server, broken or dangerous archive, full disk.
    """
    raw = Path(raw)
    with _alone(raw):
        if name == "splits":
            _splits(raw, mirror)
            return
        domain, now = catalog.known(name), catalog.state(name, raw)
        if now.files and not now.complete(domain.total):
            given = [
                path
                for path in sorted((raw / name).iterdir())
                if path.is_file() and FIRST.search(path.name)
            ]
            _unpack(dict.fromkeys(given, ((), 0)), raw / STAGING / name, raw / name)
            shutil.rmtree(raw / STAGING / name, ignore_errors=True)
        elif not now.files and (mirror or (domain.sources and not now.complete(domain.total))):
            _place(
                name, raw, _from_mirror(name, raw, mirror) if mirror else _from_publisher(name, raw)
            )
            lacks = catalog.state(name, raw).missing
            print(
                f"{name}: fetched into {raw / name}; {'it lacks ' + '; '.join(lacks) if lacks else 'complete'}"
            )
            return
        _report(name, raw)


def _report(name, raw):
    """Say that a data set is complete and what comes next; else how to go on, and DataError."""
    domain, now = catalog.known(name), catalog.state(name, raw)
    print("\n".join(catalog.instructions(name, raw)))
    if now.complete(domain.total):
        return
    lacks = (
        f"{raw / name} lacks {'; '.join(now.missing)}"
        if now.files
        else f"there is nothing in {raw / name}"
    )
    if domain.sources:
        raise DataError(f"{lacks}; add them, or move the folder away and fetch again")
    raise DataError(f"{name} is not complete: {lacks}; the steps are above")


def _from_publisher(name, raw) -> dict[str, Path]:
    """Download the sources of a domain; {name of a file: where it is staged}."""
    domain = catalog.known(name)
    answers = {
        404: f"not there any more (HTTP 404); look at {domain.page}, or take it from a mirror (--mirror)"
    }
    auth = None
    if domain.access == "kaggle":
        auth = _kaggle(name, raw)
        answers[401] = (
            "Kaggle does not accept your token (HTTP 401); make a new one at kaggle.com, Settings, API"
        )
        answers[403] = (
            f"Kaggle refuses (HTTP 403): log in, open {domain.rules} and accept the rules there, then run the same command again"
        )
    locked, files = _locked(raw), {}
    for source in domain.sources:
        print(f"{name}: {source.file} from {shown(source.url)}", flush=True)
        files[source.file] = _staged(
            name,
            source.file,
            source.url,
            raw,
            _expected(name, source.file, source.sha256, locked),
            auth,
            answers,
        )
    return files


def _from_mirror(name, raw, mirror) -> dict[str, Path]:
    """Bring every file that a mirror lists for a domain; {path of a file: where it is staged}."""
    remote = bool(re.match(r"https?://", mirror))
    base = f"{mirror.rstrip('/')}/{name}"
    where = f"{shown(base) if remote else base}/{SUMS}"
    answers = {
        404: f"not in the mirror (HTTP 404); it must hold {name}/{SUMS} and the files listed there (docs/datasets.md)"
    }
    try:
        listing = (
            _fetched(f"{base}/{SUMS}", raw / STAGING / SUMS, answers) if remote else Path(where)
        ).read_text("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"no {where}: the mirror must list its files there (docs/datasets.md, Without a network)"
        ) from None
    (raw / STAGING / SUMS).unlink(missing_ok=True)
    sums, locked, files = _sums(listing, where), _locked(raw), {}
    print(
        f"{name}: {len(sums)} file{'s' * (len(sums) > 1)} from {shown(base) if remote else base}",
        flush=True,
    )
    for file, sha256 in sums.items():
        source = f"{base}/{quote(file)}" if remote else Path(base) / file
        files[file] = _staged(
            name, file, source, raw, _expected(name, file, sha256, locked), None, answers
        )
    return files


def _fetched(url, path, answers):
    download(url, path, answers=answers)
    return path


def _sums(listing, where) -> dict[str, str]:
    """{path: sha256} of a SHA256SUMS file."""
    found = {}
    for number, row in enumerate(listing.splitlines(), start=1):
        if row.strip():
            match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)", row.rstrip())
            if not match:
                raise DataError(
                    f"{where}, line {number}: {row[:40]!r} is not `sha256  path`; make the list with sha256sum"
                )
            if problem := archive.safe(match[2]):
                raise DataError(f"{where}, line {number}: refused: the path {match[2]!r} {problem}")
            found[match[2]] = match[1].lower()
    if not found:
        raise DataError(f"{where}: it lists no file")
    return found


def _staged(name, file, source, raw, sha256, auth, answers) -> Path:
    """One file in the staging folder, brought there unless a run that was cut did so already."""
    path = raw / STAGING / name / "files" / file
    if path.is_file() and (not sha256 or digest(path) == sha256):
        return path
    if isinstance(source, Path):
        copy(source, path, sha256)
    else:
        download(source, path, sha256, auth, answers)
    return path


def _locked(raw) -> dict:
    """{"{D}/{file}": {"sha256", "bytes", "date"}} of all that was ever fetched into `raw`."""
    try:
        return json.loads((raw / LOCK).read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise DataError(
            f"{raw / LOCK}: not JSON any more; put it back from a backup, or delete it to trust what comes next"
        ) from None


def _expected(name, file, sha256, locked) -> str:
    """sha256 that a file must have, "" where nothing is known; DataError where what is offered is not what was fetched before."""
    before = locked.get(f"{name}/{file}", {}).get("sha256", "")
    if sha256 and before and sha256 != before:
        raise DataError(
            f"{name}/{file}: sha256 {sha256[:12]}... is offered, {before[:12]}... was fetched before; if you trust the new one, "
            f"delete the entry in {LOCK}"
        )
    return sha256 or before


def _place(name, raw, files):
    """Unpack what was brought, lock the checksums, give the whole folder its name, and clear the staging folder."""
    staging, whole = raw / STAGING / name, raw / STAGING / name / "whole"
    sums = {
        f"{name}/{file}": {"sha256": digest(path), "bytes": path.stat().st_size}
        for file, path in files.items()
    }
    sources = {source.file: (source.keep, source.strip) for source in catalog.known(name).sources}
    try:
        _unpack(
            {
                path: sources.get(file, ((), 0))
                for file, path in files.items()
                if FIRST.search(file)
            },
            staging,
            whole,
        )
    except Refused:
        shutil.rmtree(staging)  # else the next run would take the same bytes again
        raise
    for file, path in files.items():
        if not FIRST.search(file) and not FURTHER.search(file):
            _merge(path, whole / file)
    today = date.today().isoformat()
    entries = {file: entry | {"date": today} for file, entry in sums.items()} | _locked(raw)
    write_text(raw / LOCK, json.dumps(entries, indent=1, sort_keys=True) + "\n")
    _merge(whole, raw / name)
    shutil.rmtree(staging)


def _unpack(archives, staging, into):
    """Unpack archives into one folder. An archive that a run which was cut has unpacked is known by its digest.

    archives : {path: (patterns to keep, leading folders to strip)}
    """
    trees = []
    for path, (keep, strip) in archives.items():
        trees.append(staging / "unpacked" / digest(path)[:16])
        if not trees[-1].exists():
            archive.extract(archive.volumes(path), trees[-1], keep, strip)
    for tree in trees:
        _merge(tree, into)


def _merge(source, target):
    """Move a file or a folder's content; what is there with equal content stays, another content is refused."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(source, target)
    elif source.is_dir() and target.is_dir():
        for entry in sorted(source.iterdir()):
            _merge(entry, target / entry.name)
    elif source.is_dir() or target.is_dir() or not filecmp.cmp(source, target, shallow=False):
        raise DataError(
            f"{target} is there already, with other content; move it away and run the same command again"
        )


def _splits(raw, mirror):
    """GDRBench's 16 split files; every one is the official one, whatever the mirror says."""
    for source in SPLITS:
        path = raw / "splits" / source.file
        if path.is_file() and digest(path) != source.sha256:
            raise DataError(
                f"{path} is not GDRBench's; move it away, then run the same command again"
            )
    wanted = [source for source in SPLITS if not (raw / "splits" / source.file).is_file()]
    answers = {
        404: f"not there any more (HTTP 404); look at {SPLITS_PAGE}, or take it from a mirror (--mirror)"
    }
    for source in wanted:
        place = f"{mirror.rstrip('/')}/splits/{source.file}" if mirror else source.url
        here = place if re.match(r"https?://", place) else Path(place)
        staged = _staged("splits", source.file, here, raw, source.sha256, None, answers)
        _merge(staged, raw / "splits" / source.file)
    shutil.rmtree(raw / STAGING / "splits", ignore_errors=True)
    print(
        f"splits: {len(SPLITS)} files in {raw / 'splits'}, {len(wanted)} of them new, all as GDRBench published them"
    )


def _kaggle(name, raw):
    """Credentials for Kaggle, in the form that `requests` takes; found where Kaggle's own tools look for them, never shown."""
    from kagglehub.config import get_kaggle_credentials

    try:
        found = get_kaggle_credentials()
    except (ValueError, OSError):
        raise DataError(
            "~/.kaggle/kaggle.json is not as Kaggle writes it; make a new token at kaggle.com, Settings, API"
        ) from None
    if not found:
        print("\n".join(catalog.instructions(name, raw)))
        raise DataError(
            f"{name} comes from Kaggle, and there is no token of yours; the steps are above"
        )
    if found.api_key:
        return lambda request: (
            request.headers.update(Authorization=f"Bearer {found.api_key}") or request
        )
    return found.username, found.key


@contextmanager
def _alone(raw):
    """Hold the folder against a second `fetch`; the system lets go when the process ends, however it ends."""
    with ExitStack() as stack:
        try:
            raw.mkdir(parents=True, exist_ok=True)
            place = os.open(raw, os.O_RDONLY)
            stack.callback(os.close, place)
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise DataError(f"another `clipdr fetch` is working in {raw}; wait for it") from None
        except OSError as error:
            raise DataError(
                f"cannot work in {raw}: {archive.reason(error)}; the same command goes on where it stopped"
            ) from None
        with suppress(OSError):
            (raw / STAGING).rmdir()  # where nothing is left in it
