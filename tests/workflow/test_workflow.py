"""The smoke study end to end: all files, no second run, kills, edits and leakage."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from helpers.study import copy_project, snakemake

from clipdr.report.figures.catalog import FIGURES

SMOKE = ["--configfile", "workflow/studies/smoke.yaml"]
# jobs that run again when scores change
REPORTING = {"table": 5, "figure": 9, "cam": 1, "report": 1, "track": 1}
RUNS = [
    f"{method}/{domain}/0"
    for method in ("zero_shot", "linear_probe", "clip_dr")
    for domain in ("SIM_APTOS", "SIM_IDRID", "SIM_RLDR")
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project, so that the results of the tests are their own."""
    return copy_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def finished(project):
    snakemake(project, *SMOKE)
    return project


def jobs(text):
    """{rule: number of jobs} of a dry run."""
    lines = [line.split() for line in text.splitlines()]
    return {
        words[0]: int(words[1])
        for words in lines
        if len(words) == 2
        and words[0].isidentifier()
        and words[1].isdigit()
        and words[0] != "total"
    }


def test_smoke_study_makes_every_file(finished):
    results = finished / "results" / "smoke"
    for run in RUNS:
        names = {path.name for path in (results / "runs" / "dg" / run).iterdir()}
        assert names == {
            "settings.json",
            "provenance.json",
            "history.csv",
            "predictions.parquet",
            "model.safetensors",
            "scores.csv",
            "draws.npz",
            "operating.json",
            "scores.receipt.json",
        }
    scores = pd.read_csv(results / "scores.csv")
    assert len(scores.groupby(["method", "held_out"])) == len(RUNS)
    summary = json.loads((results / "summary.json").read_text())
    assert set(summary["dg"]) == {"zero_shot", "linear_probe", "clip_dr"}
    for name in ("dg.csv", "dg.md", "dg.tex", "dg_auc.csv", "dg_auc.md", "dg_auc.tex"):
        assert "SYNTHETIC" in (results / "tables" / name).read_text()
    assert "SYNTHETIC" in (results / "tables" / "dg_auc.html").read_text()
    for name in FIGURES:
        for suffix in ("png", "pdf", "svg"):
            assert (results / "figures" / f"{name}.{suffix}").stat().st_size > 5000
    assert (results / "mlflow.db").is_file()
    comparisons = pd.read_csv(results / "comparisons.csv")
    assert set(comparisons.method) == {"zero_shot", "linear_probe"}
    assert set(comparisons.reference) == {"clip_dr"}
    assert set(comparisons.held_out) == {"SIM_APTOS", "SIM_IDRID", "SIM_RLDR", "average"}


def test_second_run_does_nothing(finished):
    assert "Nothing to be done" in snakemake(finished, *SMOKE)


def test_jobs_ran_in_the_interpreter_that_ran_snakemake(finished):
    provenance = json.loads(
        (finished / "results/smoke/runs/dg/clip_dr/SIM_APTOS/0/provenance.json").read_text()
    )
    assert provenance["prefix"] == sys.prefix


@pytest.mark.parametrize(
    ("file", "reruns"),
    [
        (
            "clipdr/methods/clip_dr.py",
            {"train": 3, "score": 3, "collect": 1, "compare": 1} | REPORTING,
        ),
        ("clipdr/report/tables/benchmark.py", {"table": 5, "report": 1, "track": 1}),
        (
            "clipdr/report/figures/style.py",
            {"figure": 9, "cam": 1, "data_report": 1, "report": 1, "track": 1},
        ),
        # one figure and what contains it; nothing is trained
        (
            "clipdr/report/figures/roc.py",
            {"figure": 1, "report": 1, "track": 1},
        ),
        ("clipdr/evaluation/similarity.py", {"figure": 2, "report": 1, "track": 1}),
        ("clipdr/inference/grad_cam.py", {"cam": 1, "report": 1, "track": 1}),
        ("clipdr/report/tables/clinical.py", {"table": 5, "report": 1, "track": 1}),
        ("clipdr/report/tracking.py", {"track": 1}),
        (
            "clipdr/data/duplicates.py",
            {"leaks": 1, "gate": 3, "train": 9, "score": 9, "collect": 1, "compare": 1} | REPORTING,
        ),
        (
            "clipdr/data/splits.py",
            {"gate": 3, "train": 9, "score": 9, "collect": 1, "compare": 1} | REPORTING,
        ),
        (
            "clipdr/evaluation/metrics.py",
            {"train": 9, "score": 9, "collect": 1, "compare": 1} | REPORTING,
        ),
        (
            "clipdr/data/preprocessing/prepare.py",
            {
                "prepare": 3,
                "data_report": 1,
                "leaks": 1,
                "gate": 3,
                "features": 3,
                "train": 9,
                "score": 9,
                "collect": 1,
                "compare": 1,
            }
            | REPORTING,
        ),
    ],
)
def test_edit_reruns_only_what_depends_on_it(finished, file, reruns):
    path = finished / file
    original, times = path.read_text(), path.stat()
    try:
        path.write_text(original + "\n# an edit\n")
        assert {
            rule: count
            for rule, count in jobs(snakemake(finished, *SMOKE, "-n")).items()
            if rule != "all"
        } == reruns
    finally:
        path.write_text(original)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_option_of_one_method_reruns_that_method(finished):
    text = snakemake(finished, *SMOKE, "-n", "--config", "options={clip_dr: {max_rank: 1}}")
    assert jobs(text)["train"] == 3


def test_protocols_and_rules_of_selection_are_jobs_of_their_own(project):
    """Dry run: 3 domains, a method and a variant of it.

    Every dg run has 2 curves with one source domain left out, and every run one selection.
    """
    values = [
        "protocols=[dg,esdg]",
        "selections=[source_val,last,loso,oracle]",
        "tables=[dg,esdg,esdg_targets,selection]",
    ]
    values += [
        "methods=[clip_dr,copy]",
        "variants={copy: {method: clip_dr}}",
        "results=results/more",
    ]
    count = jobs(snakemake(project, *SMOKE, "-n", "--config", *values))
    wanted = {"train": 12, "curve": 12, "select": 12, "score": 12, "table": 4}
    assert {rule: count[rule] for rule in wanted} == wanted


def test_search_is_optional_and_reads_nothing_of_the_held_out_domain(project):
    text = snakemake(
        project, "searched", *SMOKE, "-n", "--config", "results=results/none", "data=data/none"
    )
    assert jobs(text)["search"] == 1
    assert "train" not in jobs(text)
    assert jobs(text)["prepare"] == 2
    assert "SIM_APTOS.npy" not in text


def test_allowing_leaks_repeats_the_leakage_check(finished):
    counts = jobs(snakemake(finished, *SMOKE, "-n", "--config", "allow_leaks=true"))
    assert counts["gate"] == 3
    assert "leaks" not in counts


def test_study_with_leakage_stops_before_training_with_a_message(finished, tmp_path):
    """A test image is a copy of a training image: a message, and neither fold is trained."""
    folder = tmp_path / "leaking"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns(".snakemake", "results"))
    images = folder / "data" / "smoke" / "synthetic" / "images"
    copied, replaced = (
        next((images / domain).rglob("[!.]*.*")) for domain in ("SIM_APTOS", "SIM_IDRID")
    )
    replaced.write_bytes(copied.read_bytes())
    shutil.rmtree(folder / "data" / "smoke" / "manifests")
    printed = snakemake(folder, *SMOKE, check=False)
    assert "training or validation and test share 1 pair (1 exact)" in printed
    for held_out in ("SIM_APTOS", "SIM_IDRID"):
        assert not list((folder / "results").glob(f"smoke/runs/dg/*/{held_out}/0/settings.json"))


def test_study_killed_at_any_moment_resumes_to_the_same_scores(finished, tmp_path):
    """SIGKILL of Snakemake and its jobs at several moments, then the same command: equal scores."""
    folder = tmp_path / "killed"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns(".snakemake", "results"))
    shutil.rmtree(folder / "data" / "smoke" / "features")
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--rerun-incomplete", *SMOKE]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    kills = 0
    for seconds in (6, 11, 17, 23):
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        time.sleep(seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        snakemake(folder, "--unlock", *SMOKE, check=False)
    assert kills >= 2
    snakemake(folder, "--rerun-incomplete", *SMOKE)
    for name in [
        "scores.csv",
        "summary.json",
        "tables/dg.csv",
        *(f"runs/dg/{run}/predictions.parquet" for run in RUNS),
    ]:
        assert (finished / "results/smoke" / name).read_bytes() == (
            folder / "results/smoke" / name
        ).read_bytes(), name
    assert not list((folder / "results").rglob(".*.part*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "methods=[clip_rd]"], "clip_rd"),
        (["--config", "domains=[APTOS,IDRID]", "raw=nowhere"], "nowhere/splits/APTOS_train.txt"),
        (["--config", "image={siez: 64}"], "siez"),
    ],
)
def test_wrong_study_stops_at_once_with_its_reason(project, arguments, message):
    done = snakemake(project, "-n", *arguments, check=False)
    assert message in done
    assert "Traceback" not in done


def test_report_of_snakemake_contains_tables_and_figures(finished, tmp_path):
    command = [
        sys.executable,
        "-m",
        "snakemake",
        *SMOKE,
        "--report",
        str(tmp_path / "report.html"),
    ]  # as the README says, without --cores
    subprocess.run(command, cwd=finished, capture_output=True, check=True)
    page = (tmp_path / "report.html").read_text()
    assert "dg_auc.csv" in page
    assert "dg_auc.html" in page
    assert "similarity.png" in page
    assert "roc.png" in page
    assert "cam.png" in page


@pytest.mark.realdata
def test_real_images_take_the_same_way(project, realdata):
    """Three real domains and a tiny encoder: runs and tables that are not called synthetic."""
    values = [
        "methods=[erm,clip_dr]",
        f"raw={realdata / 'gdrbench'}",
        "domains=[IDRID,MESSIDOR,APTOS]",
        "data=data/real",
        "results=results/real",
    ]
    snakemake(
        project,
        *SMOKE,
        "--config",
        *values,
        "figures={similarity: [clip_dr], scores_by_domain: []}",
    )
    results = project / "results" / "real"
    scores = pd.read_csv(results / "scores.csv")
    test = scores[
        (scores.split == "test") & (scores.metric == "auc") & (scores.selection == "source_val")
    ]
    assert dict(zip(test.domain, test.n, strict=False)) == {
        "IDRID": 282,
        "MESSIDOR": 271,
        "APTOS": 286,
    }
    assert set(test.unit) == {"image"}
    assert test.value.between(0, 1).all()
    for name in ("dg.md", "dg_auc.tex"):
        text = (results / "tables" / name).read_text()
        assert "SYNTHETIC" not in text
        assert "by image: interval too narrow" in text
    assert (
        sum(
            len(pd.read_csv(path))
            for path in (project / "data" / "real" / "rejected").glob("*.csv")
        )
        == 0
    )
