"""MLflow tracking: publishes finished run folders. The only module that imports mlflow.

Input: run folders RESULTS/runs/PROTOCOL/METHOD/HELD_OUT/SEED and, beside runs/, tables/, figures/
and pretrain/runs/NAME/SEED. Output: an SQLite database and, in mlartifacts/ beside it, the files of
each MLflow run. No run names a path of this machine: the UI, started with `--artifacts-destination`
on that folder (`make ui`), serves both wherever they are moved. Training needs neither this module
nor MLflow.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import track as progress

from clipdr import DataError
from clipdr.artifacts.files import digest
from clipdr.artifacts.run_folder import RunFolder
from clipdr.data.domains import is_synthetic
from clipdr.report import tracked_values as values

# always copied to the artifacts
SMALL = ("settings.json", "scores.csv", "history.csv", "predictions.parquet")
WEIGHTS, PROVENANCE = "model.safetensors", "provenance.json"
PRETRAINING = ("settings.json", "history.csv", WEIGHTS, PROVENANCE)
WEIGHTS_COPIED = 50 * 2**20  # bytes; larger weights are named by path and sha256 only
STUDY_FILES = ("tables/*", "figures/*.png")  # of a study; the tables as JSON too


class Record(NamedTuple):
    """Content of one MLflow run.

    Attributes:
        params: Parameters by name.
        metrics: (name, value, step) of every metric.
        tags: Tags by name.
        copies: {file: folder below which its path in the artifacts starts}.
        seconds: Time of the job.
    """

    params: Mapping[str, Any]
    metrics: Sequence[tuple[str, float, int]]
    tags: Mapping[str, Any]
    copies: Mapping[Path, Path]
    seconds: float


Describe = Callable[[Sequence[Path], Path], Record]  # files of a run, root of their names -> Record


def publish(runs: Path | str, store_uri: str, experiment: str) -> dict[str, int]:
    """Bring MLflow up to date with the run folders; publishing twice changes nothing.

    An MLflow run is named by the path of its folder and tagged with the digest of its files. Equal
    digests are skipped; a changed folder replaces its run. Tables (JSON, CSV, Markdown, LaTeX,
    HTML) and figures go to one run named "study". A second writer waits for the first.

    Args:
        runs: Folder RESULTS/runs. Only complete run folders are published.
        store_uri: "sqlite:///PATH", created if it is not there.
        experiment: Name of the MLflow experiment.

    Returns:
        Counts: published, replaced, unchanged, incomplete.

    Raises:
        DataError: If the store is of another kind, or a run folder cannot be read.
    """
    runs = Path(runs)
    if not store_uri.startswith("sqlite:///"):
        raise DataError(
            f"{store_uri}: only a database of this machine can be written. Name it sqlite:///PATH."
        )
    database = Path(store_uri.removeprefix("sqlite:///"))
    database.parent.mkdir(parents=True, exist_ok=True)
    results = runs.parent
    counts: dict[str, int] = dict.fromkeys(("published", "replaced", "unchanged", "incomplete"), 0)
    with _only_writer(database.with_name(f"{database.name}.lock")):
        store = _Store(store_uri, experiment, database.parent / "mlartifacts")

        def put(folder: Path, files: Sequence[Path], root: Path, describe: Describe) -> None:
            """Publish one folder if it is complete."""
            name = folder.relative_to(root).as_posix().replace("/runs/", "/")
            complete = all(file.is_file() for file in files)
            counts[store.put(name, files, root, describe) if complete else "incomplete"] += 1

        folders = sorted(path.parent for path in runs.glob("*/*/*/*/settings.json"))
        for folder in _progress(folders):
            files = [folder / name for name in (*SMALL, WEIGHTS, PROVENANCE)]
            put(folder, files, runs, _run)
        pretraining = results.glob("pretrain/runs/*/*/settings.json")
        for folder in sorted(path.parent for path in pretraining):
            put(folder, [folder / name for name in PRETRAINING], results, _pretraining)
        matches = (file for pattern in STUDY_FILES for file in results.glob(pattern))
        if files := sorted(file for file in matches if file.is_file() and file.name[0] != "."):
            counts[store.put("study", files, results, _study)] += 1
    return counts


class _Store:
    """The active runs of one experiment, by name."""

    def __init__(self, uri: str, experiment: str, artifacts: Path) -> None:
        """Open the database and read its runs; the experiment is created if it is not there."""
        # before the import, which would otherwise send usage data
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ["MLFLOW_LOGGING_LEVEL"] = "WARNING"
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=uri)
        self.artifacts = artifacts
        existing = self.client.get_experiment_by_name(experiment)
        if existing is None:
            # Not a folder, because MLflow would store its absolute path. The UI looks for this
            # address below its --artifacts-destination.
            name = values.NOT_IN_A_NAME.sub("_", experiment).replace("/", "_")
            location = f"mlflow-artifacts:/{name}"
            self.experiment = self.client.create_experiment(experiment, artifact_location=location)
        else:
            self.experiment = existing.experiment_id
            if existing.lifecycle_stage == "deleted":
                self.client.restore_experiment(self.experiment)
        self.active: dict[str, list[Any]] = {}
        token = None
        while token != "":
            page = self.client.search_runs([self.experiment], max_results=1000, page_token=token)
            for run in page:
                self.active.setdefault(str(run.info.run_name), []).append(run)
            token = page.token or ""

    def put(self, name: str, files: Sequence[Path], root: Path, describe: Describe) -> str:
        """Publish one run unless an active one of that name has the digest of its files.

        Returns:
            The count that it adds to.
        """
        total = _digest(files, root)
        earlier = self.active.get(name, [])
        current = [run for run in earlier if run.data.tags.get("digest") == total]
        if not current:
            self._add(name, total, describe(files, root))
        # changed runs, and those that a killed process left half-written
        for run in [run for run in earlier if run not in current[:1]]:
            self.client.delete_run(run.info.run_id)
            shutil.rmtree(self._folder(run), ignore_errors=True)
        return "unchanged" if current else "replaced" if earlier else "published"

    def _add(self, name: str, total: str, record: Record) -> None:
        """Create a run and fill it; the digest comes last, so that a cut run is replaced."""
        from mlflow.entities import Metric, Param, RunTag

        end = round(1000 * max(file.stat().st_mtime for file in record.copies))
        start = end - round(1000 * record.seconds)
        run = self.client.create_run(self.experiment, start_time=start, run_name=name)
        identity = run.info.run_id
        for file, folder in record.copies.items():
            target = self._folder(run) / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(file, target)
        metrics = [Metric(key, value, end, step) for key, value, step in record.metrics]
        params = [
            Param(key[: values.MAX_NAME], values.shortened(value))
            for key, value in record.params.items()
        ]
        for first in range(0, len(metrics), values.MAX_METRICS):
            batch = metrics[first : first + values.MAX_METRICS]
            self.client.log_batch(identity, metrics=batch)
        for first in range(0, len(params), values.MAX_PARAMS):
            self.client.log_batch(identity, params=params[first : first + values.MAX_PARAMS])
        tags = {**record.tags, "digest": total}.items()
        self.client.log_batch(
            identity, tags=[RunTag(key, values.shortened(value)) for key, value in tags]
        )
        self.client.set_terminated(identity, "FINISHED", end)

    def _folder(self, run: Any) -> Path:
        """Folder of the artifacts of a run."""
        return self.artifacts / run.info.artifact_uri.removeprefix("mlflow-artifacts:/")


def _run(files: Sequence[Path], root: Path) -> Record:
    """Record of a run folder. files: SMALL, weights and provenance."""
    settings, scores, history, predictions, weights, provenance = files
    folder = settings.parent
    try:
        run = RunFolder(folder)
        facts = json.loads(provenance.read_text())
        selected, curve = values.curve(history)
        metrics, undefined = values.scores(scores)
        tags = {
            "protocol": run.protocol,
            "method": run.method,
            "held_out": run.held_out,
            "seed": str(run.seed),
            "synthetic": "yes" if is_synthetic(run.held_out) else "no",
            "commit": facts["commit"] or "unknown",
            "weights": weights.relative_to(root.parent).as_posix(),
            "weights_sha256": digest(weights),
        }
        params = values.flat(json.loads(settings.read_text()))
        seconds = float(facts["seconds"])
    except (KeyError, ValueError, AttributeError) as error:
        raise _refusal(folder, error) from error
    tags |= {"selected_step": selected} if selected else {}
    tags |= {"undefined": ", ".join(undefined)} if undefined else {}
    copies = [settings, scores, history, predictions, *_small_weights(weights)]
    return Record(params, curve + metrics, tags, dict.fromkeys(copies, folder), seconds)


def _pretraining(files: Sequence[Path], root: Path) -> Record:
    """Record of a pre-training run: settings, losses per epoch, and its evaluations as files."""
    settings, history, weights, provenance = files
    folder = settings.parent
    try:
        facts = json.loads(provenance.read_text())
        selected, curve = values.curve(history)
        tags = {
            "protocol": "pretrain",
            "commit": facts["commit"] or "unknown",
            "weights": weights.relative_to(root).as_posix(),
            "weights_sha256": digest(weights),
            "selected_step": selected,
        }
        params = values.flat(json.loads(settings.read_text()))
        seconds = float(facts["seconds"])
    except (KeyError, ValueError) as error:
        raise _refusal(folder, error) from error
    copies = [settings, history, *sorted(folder.glob("*.csv")), *_small_weights(weights)]
    return Record(params, curve, tags, dict.fromkeys(copies, folder), seconds)


def _study(files: Sequence[Path], root: Path) -> Record:
    """Record of the tables and figures of the whole study: files only."""
    return Record({}, [], {}, dict.fromkeys(files, root), 0.0)


def _refusal(folder: Path, error: Exception) -> DataError:
    """The error for a run folder that cannot be read."""
    return DataError(
        f"{folder}: cannot be published ({error!r}). Delete the folder and run that job again."
    )


def _small_weights(weights: Path) -> list[Path]:
    """The weights file, if it is small enough to be copied."""
    return [weights] if weights.stat().st_size <= WEIGHTS_COPIED else []


def _copy(file: Path, target: Path) -> None:
    """Copy a file; link weights where the file system can, to save space."""
    if file.name == WEIGHTS:
        with suppress(OSError):
            os.link(file, target)
            return
    shutil.copy2(file, target)


def _digest(files: Sequence[Path], root: Path) -> str:
    """Compute a sha256 over names and contents of the files without the weights.

    Other weights give other predictions, and weights may be large.
    """
    total = hashlib.sha256()
    for file in files:
        if file.name != WEIGHTS:
            total.update(f"{file.relative_to(root).as_posix()} {digest(file)}\n".encode())
    return total.hexdigest()


def _progress(folders: Sequence[Path]) -> Iterator[Path]:
    """The folders, under a progress bar on a terminal."""
    console = Console(stderr=True)
    hidden = not console.is_terminal
    yield from progress(folders, "track", console=console, transient=True, disable=hidden)


@contextmanager
def _only_writer(path: Path) -> Generator[None]:
    """Hold a lock file, after another holder; the system frees it when the process ends."""
    import fcntl

    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip()
            print(
                f"waiting for process {holder}, which is publishing to the same database",
                file=sys.stderr,
            )
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
