"""publish(): finished run folders -> MLflow. The only file that imports mlflow; training needs neither this file nor MLflow.

Input: run folders results/runs/{protocol}/{method}/{held_out}/{seed}/ and, beside runs/, tables/, figures/, pretrain/runs/{name}/{seed}/.
Output: an SQLite database and, in mlartifacts/ beside it, the files of each MLflow run. No run names a path of this machine: the UI,
started with `--artifacts-destination` on that folder (`make ui`), serves both wherever they are moved.
"""

import csv
import hashlib
import json
import math
import os
import re
import shutil
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.progress import track as progress

from clipdr import DataError
from clipdr.data.domains import DOMAINS

SMALL = (
    "settings.json",
    "scores.csv",
    "history.csv",
    "predictions.parquet",
)  # always copied to the artifacts
WEIGHTS = "model.safetensors"
WEIGHTS_COPIED = 50 * 2**20  # bytes; larger weights are named by path and sha256 only
STUDY_FILES = ("tables/*", "figures/*.png")
# metrics of scores.csv that MLflow shows; all of them are in the artifact
SHOWN = (
    "auc",
    "accuracy",
    "macro_f1",
    "qwk",
    "mae",
    "mae_expected",
    *(f"recall_{grade}" for grade in range(5)),
)
SHOWN += ("referable_auc", "sensitivity", "specificity", "ece_2", "rps", "ece_2_t", "rps_t")
NOT_IN_A_NAME = re.compile(r"[^\w\-. /]")  # of a metric or parameter in MLflow
MAX_VALUE, MAX_NAME, MAX_METRICS, MAX_PARAMS = (
    6000,
    250,
    1000,
    100,
)  # MLflow's limits: characters, entries of one log_batch


def publish(runs, store_uri, experiment):
    """Bring MLflow up to date with the run folders; publishing twice changes nothing.

    An MLflow run is named by the path of its folder and tagged with the digest of its files: equal digests are skipped, a changed folder
    replaces its run. Tables and figures go to one run named "study". A second writer waits for the first.

    runs       : folder results/runs; only complete run folders are published
    store_uri  : "sqlite:///PATH", made if it is not there
    experiment : name of the MLflow experiment
    returns      counts: published, replaced, unchanged, incomplete

    Raises DataError on another kind of store, and on a run folder that cannot be read.
    """
    runs = Path(runs)
    if not store_uri.startswith("sqlite:///"):
        raise DataError(
            f"{store_uri}: only a database of this machine can be written; name it sqlite:///PATH"
        )
    database = Path(store_uri.removeprefix("sqlite:///"))
    database.parent.mkdir(parents=True, exist_ok=True)
    folders = sorted(path.parent for path in runs.glob("*/*/*/*/settings.json"))
    counts = dict.fromkeys(("published", "replaced", "unchanged", "incomplete"), 0)
    with _only_writer(database.with_name(f"{database.name}.lock")):
        store = _Store(store_uri, experiment, database.parent / "mlartifacts")
        console = Console(stderr=True)
        for folder in progress(
            folders, "track", console=console, transient=True, disable=not console.is_terminal
        ):
            files = [folder / name for name in (*SMALL, WEIGHTS, "provenance.json")]
            missing = not all(file.is_file() for file in files)
            counts[
                "incomplete"
                if missing
                else store.put(folder.relative_to(runs).as_posix(), files, runs, _run)
            ] += 1
        for folder in sorted(
            path.parent for path in runs.parent.glob("pretrain/runs/*/*/settings.json")
        ):
            files = [
                folder / name
                for name in ("settings.json", "history.csv", WEIGHTS, "provenance.json")
            ]
            name = folder.relative_to(runs.parent).as_posix().replace("/runs/", "/")
            missing = not all(file.is_file() for file in files)
            counts[
                "incomplete" if missing else store.put(name, files, runs.parent, _pretraining)
            ] += 1
        files = sorted(
            file
            for pattern in STUDY_FILES
            for file in runs.parent.glob(pattern)
            if file.is_file() and file.name[0] != "."
        )
        if files:
            counts[store.put("study", files, runs.parent, _study)] += 1
    return counts


class _Store:
    """The active runs of one experiment, by name."""

    def __init__(self, uri, experiment, artifacts):
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = (
            "true"  # before the import, which would otherwise send usage data
        )
        os.environ["MLFLOW_LOGGING_LEVEL"] = "WARNING"
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=uri)
        self.artifacts = artifacts
        known = self.client.get_experiment_by_name(experiment)
        # Not a folder: MLflow would store its absolute path. The UI looks for this address below its --artifacts-destination.
        location = f"mlflow-artifacts:/{NOT_IN_A_NAME.sub('_', experiment).replace('/', '_')}"
        self.experiment = (
            known.experiment_id
            if known
            else self.client.create_experiment(experiment, artifact_location=location)
        )
        if known and known.lifecycle_stage == "deleted":
            self.client.restore_experiment(self.experiment)
        self.active = {}
        token = None
        while token != "":
            page = self.client.search_runs([self.experiment], max_results=1000, page_token=token)
            for run in page:
                self.active.setdefault(run.info.run_name, []).append(run)
            token = page.token or ""

    def put(self, name, files, root, describe):
        """Publish one run unless an active one of that name has the digest of its files; returns the count it adds to."""
        digest = _digest(files, root)
        earlier = self.active.get(name, [])
        current = [run for run in earlier if run.data.tags.get("digest") == digest]
        if not current:
            self._add(name, digest, *describe(files, root))
        for run in [
            run for run in earlier if run not in current[:1]
        ]:  # changed, or left half-written by a killed process
            self.client.delete_run(run.info.run_id)
            shutil.rmtree(self._folder(run), ignore_errors=True)
        return "unchanged" if current else "replaced" if earlier else "published"

    def _add(self, name, digest, params, metrics, tags, copies, seconds):
        """Create a run and fill it; the digest comes last, so that a run that was cut short is replaced the next time."""
        from mlflow.entities import Metric, Param, RunTag

        end = round(1000 * max(file.stat().st_mtime for file in copies))
        run = self.client.create_run(
            self.experiment, start_time=end - round(1000 * seconds), run_name=name
        )
        identity = run.info.run_id
        for file in copies:
            target = self._folder(run) / file.relative_to(copies[file])
            target.parent.mkdir(parents=True, exist_ok=True)
            _place(file, target)
        metrics = [Metric(key, value, end, step) for key, value, step in metrics]
        params = [Param(key[:MAX_NAME], _cut(value)) for key, value in params.items()]
        for start in range(0, len(metrics), MAX_METRICS):
            self.client.log_batch(identity, metrics=metrics[start : start + MAX_METRICS])
        for start in range(0, len(params), MAX_PARAMS):
            self.client.log_batch(identity, params=params[start : start + MAX_PARAMS])
        self.client.log_batch(
            identity,
            tags=[RunTag(key, _cut(value)) for key, value in (tags | {"digest": digest}).items()],
        )
        self.client.set_terminated(identity, "FINISHED", end)

    def _folder(self, run):
        return self.artifacts / run.info.artifact_uri.removeprefix("mlflow-artifacts:/")


def _run(files, root):
    """Parameters, metrics, tags, files to copy and seconds of a run folder."""
    settings, scores, history, predictions, weights, provenance = files
    folder = settings.parent
    try:
        protocol, method, held_out, seed = folder.relative_to(root).parts
        facts = json.loads(provenance.read_text())
        selected, curve = _curve(history)
        values, undefined = _scores(scores)
        tags = {
            "protocol": protocol,
            "method": method,
            "held_out": held_out,
            "seed": seed,
            "synthetic": "yes"
            if (domain := DOMAINS.get(held_out.removeprefix("all_but_"))) and domain.synthetic
            else "no",
            "commit": facts["commit"] or "unknown",
            "weights": weights.relative_to(root.parent).as_posix(),
            "weights_sha256": _sha256(weights),
        }
        params = _flat(json.loads(settings.read_text()))
        seconds = float(facts["seconds"])
    except (KeyError, ValueError, AttributeError) as error:
        raise DataError(
            f"{folder}: cannot be published ({error!r}); delete the folder and run that job again"
        ) from error
    tags |= {"selected_step": selected} if selected else {}
    tags |= {"undefined": ", ".join(undefined)} if undefined else {}
    copies = [settings, scores, history, predictions] + [weights] * (
        weights.stat().st_size <= WEIGHTS_COPIED
    )
    return params, curve + values, tags, dict.fromkeys(copies, folder), seconds


def _pretraining(files, root):
    """As `_run`, of a pre-training run (clipdr.pretrain): its settings, the losses per epoch, and what was evaluated as files."""
    settings, history, weights, provenance = files
    try:
        facts, (selected, curve) = json.loads(provenance.read_text()), _curve(history)
        tags = {
            "protocol": "pretrain",
            "commit": facts["commit"] or "unknown",
            "weights": weights.relative_to(root).as_posix(),
            "weights_sha256": _sha256(weights),
            "selected_step": selected,
        }
        params, seconds = _flat(json.loads(settings.read_text())), float(facts["seconds"])
    except (KeyError, ValueError) as error:
        raise DataError(
            f"{settings.parent}: cannot be published ({error!r}); delete the folder and run that job again"
        ) from error
    copies = [settings, history, *sorted(settings.parent.glob("*.csv"))] + [weights] * (
        weights.stat().st_size <= WEIGHTS_COPIED
    )
    return params, curve, tags, dict.fromkeys(copies, settings.parent), seconds


def _study(files, root):
    """As `_run`, for the tables and figures of the whole study: files only."""
    return {}, [], {}, dict.fromkeys(files, root), 0.0


def _curve(path):
    """history.csv -> step selected ("" if none), [(column, value, step)] without undefined values."""
    rows = list(csv.DictReader(path.read_text().splitlines()))
    selected = [row["step"] for row in rows if row.get("selected") == "True"]
    columns = [column for column in (rows[0] if rows else ()) if column not in ("step", "selected")]
    points = [
        (column, _number(row[column]), int(row["step"])) for column in columns for row in rows
    ]
    return "".join(selected[-1:]), [point for point in points if point[1] is not None]


def _scores(path):
    """scores.csv -> [(metric, value, 0)] of SHOWN on the test images, [names of undefined values].

    `test/auc` is the value on all test images with the weights selected on source validation (SWAD: averaged), `test_last/auc` the last's;
    `test/auc_low` and `test/auc_high` are its interval. Where several domains are tested, `test/auc/DDR` is one of them.
    """
    rows = [
        row
        for row in csv.DictReader(path.read_text().splitlines())
        if row["split"] == "test" and row["stratum"] == "all"
    ]
    rows = [row for row in rows if row["metric"] in SHOWN]
    several = {row["domain"] for row in rows} >= {"pooled"}
    values, undefined = [], []
    for row in rows:
        part = f"/{row['domain']}" if several and row["domain"] != "pooled" else ""
        group = "test" if row["selection"] in ("source_val", "swad") else f"test_{row['selection']}"
        for suffix, column in {"": "value", "_low": "low", "_high": "high"}.items():
            name, number = f"{group}/{row['metric']}{suffix}{part}", _number(row[column])
            if number is None:
                undefined.append(name)
            else:
                values.append((name, number, 0))
    return values, undefined


def _number(text):
    """A finite number, or None: MLflow has no undefined value, and 0 would be a wrong one."""
    number = float(text or "nan")
    return number if math.isfinite(number) else None


def _place(file, target):
    """Copy a file; weights are linked where the file system can, since a second copy of all of them would fill it."""
    if file.name == WEIGHTS:
        with suppress(OSError):
            return os.link(file, target)
    shutil.copy2(file, target)


def _flat(settings, prefix=""):
    """Nested settings -> {"training.lr": value}; a list is one value, written as JSON."""
    flat = {}
    for key, value in settings.items():
        name = f"{prefix}{NOT_IN_A_NAME.sub('_', str(key))}"
        if isinstance(value, dict):
            flat |= _flat(value, f"{name}.")
        else:
            flat[name] = json.dumps(value) if isinstance(value, list) else value
    return flat


def _cut(value):
    text = str(value)
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 1]}…"


def _digest(files, root):
    """sha256 over names and contents of the files, without the weights: other weights make other predictions, and they may be large."""
    total = hashlib.sha256()
    for file in files:
        if file.name != WEIGHTS:
            total.update(f"{file.relative_to(root).as_posix()} {_sha256(file)}\n".encode())
    return total.hexdigest()


def _sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _only_writer(path):
    """Holds a lock file, waiting for another holder; the system frees it when a process ends, however it ends."""
    import fcntl

    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            print(
                f"waiting for process {file.read().strip()}, which is publishing to the same database",
                file=sys.stderr,
            )
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
