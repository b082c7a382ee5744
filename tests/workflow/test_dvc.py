"""The two DVC stages with a stand-in for Snakemake, and a real clone that has nothing to run."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.paths import ROOT

from clipdr.report.figures.catalog import FIGURES, FROM_MODELS

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PLOTS = yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)
# Writes its arguments and what it finds of earlier results, then the outputs.
SNAKEMAKE = """#!/bin/sh
echo "$* runs=$(ls results/runs 2>/dev/null | wc -l)" >> calls.txt
for name in synthetic manifests store rejected receipts; do
  mkdir -p data/$name; echo x > data/$name/x
done
for last; do true; done
[ "$last" = prepared ] && exit
for name in data gate runs receipts tables figures; do mkdir -p results/$name; done
mkdir -p data/features
cp config.yaml results/runs/$(cat config.yaml)
echo dg > results/tables/dg_auc.csv
echo method,auc > results/scores.csv
echo image > results/leaks.csv
echo protocol > results/comparisons.csv
echo page > results/report.html
cp figure.png results/figures/similarity.png
cp figure.png results/figures/scores_by_domain.png
echo '{"dg": {"clip_dr": {"auc": 0.5}}}' > results/summary.json
"""
DATA_OUTS = [f"data/{name}" for name in ("synthetic", "manifests", "store", "rejected", "receipts")]
RESULTS_OUTS = [
    "data/features",
    *(
        f"results/{name}"
        for name in (
            "data",
            "leaks.csv",
            "gate",
            "runs",
            "receipts",
            "scores.csv",
            "comparisons.csv",
        )
    ),
]
RESULTS_OUTS += [f"results/{name}" for name in ("tables", "figures", "report.html", "summary.json")]
FIRST = ["--cores all prepared runs=0", "--cores all runs=0"]


class Checkout:
    """A git repository with the project's DVC files; no conda, network or user settings."""

    def __init__(self, root):
        self.root = root
        path = f"{root / '.bin'}:/usr/bin:/bin"
        self.environment = {
            "PATH": path,
            "HOME": str(root / ".home"),
            "DVC_SITE_CACHE_DIR": str(root / ".site"),
            "LANG": "C.UTF-8",
        }
        self.environment |= {
            "http_proxy": "http://127.0.0.1:9",
            "https_proxy": "http://127.0.0.1:9",
        }
        (root / ".bin").mkdir(exist_ok=True)
        for name in ("AUTHOR", "COMMITTER"):
            self.environment |= {
                f"GIT_{name}_NAME": "test",
                f"GIT_{name}_EMAIL": "test@example.org",
            }

    def run(self, *command):
        return subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def git(self, *arguments):
        answer = self.run("git", *arguments)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def dvc(self, *arguments):
        answer = self.run(sys.executable, "-m", "dvc", *arguments)
        assert answer.returncode == 0, answer.stderr + answer.stdout
        return answer.stdout

    def install(self):
        """The stand-in for snakemake, where the stage looks for the real one."""
        script = self.root / ".venv/bin/snakemake"
        script.parent.mkdir(parents=True)
        script.write_text(SNAKEMAKE)
        script.chmod(0o755)

    def calls(self):
        return (self.root / "calls.txt").read_text().splitlines()


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A checkout after the first `dvc repro`, everything committed."""
    root = tmp_path_factory.mktemp("origin")
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", "environment.yml"):
        shutil.copy(ROOT / name, root)
    (root / ".dvc").mkdir()
    for name in ("config", ".gitignore", "plots.html"):
        shutil.copy(ROOT / ".dvc" / name, root / ".dvc")
    for path, content in {
        "config.yaml": b"one",
        "clipdr/a.py": b"1",
        "workflow/Snakefile": b"",
        "figure.png": PNG,
    }.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(content)
    with (root / ".gitignore").open("a") as file:
        file.write("/.bin/\n/.home/\n/.site/\n/calls.txt\n")
    checkout = Checkout(root)
    checkout.install()
    checkout.git("init", "-q")
    checkout.git("add", "-A")
    checkout.git("commit", "-qm", "start")
    checkout.dvc("repro")
    checkout.git("add", "dvc.lock")
    checkout.git("commit", "-qm", "first run")
    return checkout


@pytest.fixture
def checkout(origin, tmp_path):
    """A copy of `origin` that a test may change."""
    shutil.copytree(origin.root, tmp_path / "copy", symlinks=True)
    return Checkout(tmp_path / "copy")


def test_stages_name_existing_files():
    dependencies = {dependency for stage in STAGES.values() for dependency in stage["deps"]}
    assert [
        name for name in dependencies if not (ROOT / name).exists() and name not in DATA_OUTS
    ] == []
    plotted = [name for name in FIGURES if name not in FROM_MODELS]
    assert [f"results/figures/{name}.png" for name in plotted] == PLOTS
    outputs = {name: stage["outs"] + stage.get("metrics", []) for name, stage in STAGES.items()}
    assert {name: [next(iter(one)) for one in outs] for name, outs in outputs.items()} == {
        "data": DATA_OUTS,
        "benchmark": RESULTS_OUTS,
    }
    assert all(
        options["persist"] for outs in outputs.values() for one in outs for options in one.values()
    )


def test_no_rule_calls_dvc():
    """DVC outside, Snakemake inside: twelve jobs that call dvc at once fail on its lock."""
    files = [
        path
        for path in (ROOT / "workflow").rglob("*")
        if path.name == "Snakefile" or path.suffix in (".smk", ".py")
    ]
    assert files
    for path in files:
        code = re.sub(r"#.*", "", path.read_text())
        assert not re.search(r"\bdvc\b", code), path
    for path in (ROOT / "clipdr").rglob("*.py"):
        assert not re.search(r"import dvc|from dvc|[\"']dvc[\"' ]", path.read_text()), path


def test_repro_runs_once_and_leaves_a_clean_tree(origin):
    assert origin.calls() == FIRST
    assert origin.dvc("repro").count("didn't change") == 2
    assert origin.calls() == FIRST
    assert origin.git("status", "--short") == ""
    assert "up to date" in origin.dvc("status")
    assert "benchmark" in origin.dvc("stage", "list")
    assert "benchmark" in origin.dvc("dag")


def test_changed_config_keeps_the_trained_runs(checkout):
    """Without `persist` DVC would erase results/runs before the second run."""
    (checkout.root / "config.yaml").write_text("two")
    checkout.dvc("repro")
    assert checkout.calls()[2:] == ["--cores all prepared runs=1", "--cores all runs=1"]
    assert {path.name for path in (checkout.root / "results/runs").iterdir()} == {"one", "two"}


def test_compiled_files_are_no_change_but_code_is(checkout):
    (checkout.root / "clipdr/__pycache__").mkdir()
    (checkout.root / "clipdr/__pycache__/a.cpython-311.pyc").write_bytes(b"compiled")
    assert "didn't change" in checkout.dvc("repro")
    (checkout.root / "clipdr/a.py").write_text("2")
    checkout.dvc("repro")
    assert len(checkout.calls()) == 4


def test_conda_is_used_where_there_is_one(checkout):
    conda = checkout.root / ".bin/conda"
    conda.write_text("#!/bin/sh\n")
    conda.chmod(0o755)
    checkout.dvc("repro", "--force")
    assert checkout.calls()[2:] == [
        "--cores all --use-conda prepared runs=1",
        "--cores all --use-conda runs=1",
    ]


def test_metrics_and_plots_show_without_a_network(checkout):
    assert json.loads(checkout.dvc("metrics", "show", "--json"))[""]["data"] == {
        "results/summary.json": {"data": {"dg": {"clip_dr": {"auc": 0.5}}}}
    }
    page = Path(checkout.dvc("plots", "show").strip().removeprefix("file://"))
    assert page == checkout.root / "results/plots/index.html"
    text = page.read_text()
    images = re.findall(r'<img src="([^"]+)"', text)
    assert [(page.parent / image).read_bytes() for image in images] == [PNG, PNG]
    assert "<script" not in text
    assert "http" not in text
    assert checkout.git("status", "--short") == ""


def test_push_and_pull_through_a_folder(checkout, tmp_path):
    """Another clone gets the results of the first, byte for byte, and has nothing to run."""
    checkout.dvc("remote", "add", "--local", "--default", "store", str(tmp_path / "store"))
    checkout.dvc("push")
    checkout.git("clone", "-q", ".", str(tmp_path / "clone"))
    clone = Checkout(tmp_path / "clone")
    clone.dvc("remote", "add", "--local", "--default", "store", str(tmp_path / "store"))
    clone.dvc("pull")
    for name in (
        "runs/one",
        "scores.csv",
        "tables/dg_auc.csv",
        "figures/similarity.png",
        "summary.json",
    ):
        assert (clone.root / "results" / name).read_bytes() == (
            checkout.root / "results" / name
        ).read_bytes()
    assert all((clone.root / name / "x").is_file() for name in DATA_OUTS)
    assert clone.dvc("repro").count("didn't change") == 2


def test_prepared_data_can_be_pulled_alone(checkout, tmp_path):
    checkout.dvc("remote", "add", "--local", "--default", "store", str(tmp_path / "store"))
    checkout.dvc("push")
    checkout.git("clone", "-q", ".", str(tmp_path / "clone"))
    clone = Checkout(tmp_path / "clone")
    clone.dvc("remote", "add", "--local", "--default", "store", str(tmp_path / "store"))
    clone.dvc("pull", "data")
    assert (clone.root / "data/store/x").is_file()
    assert not (clone.root / "results").exists()


def test_images_of_the_user_are_tracked_by_a_pointer_in_git(checkout):
    """`dvc add data/raw/APTOS` writes a pointer for git; the images stay out of git."""
    image = checkout.root / "data/raw/APTOS/a.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(PNG)
    (checkout.root / "data/raw/fetch.lock.json").write_text("{}")
    checkout.dvc("add", "data/raw/APTOS")
    checkout.git("add", "-A")
    listed = [
        name
        for name in checkout.git("ls-files", "data").splitlines()
        if not name.endswith(".gitignore")
    ]
    assert listed == ["data/raw/APTOS.dvc", "data/raw/fetch.lock.json"]


@pytest.mark.nightly
def test_clone_that_pulled_has_nothing_to_run(tmp_path):
    """The real workflow, small: after repro, push, clone and `make pull` there is nothing to do."""
    origin = tmp_path / "origin"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, listed):
        (origin / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, origin / name)
    study, smoke = (
        yaml.safe_load((ROOT / name).read_text())
        for name in ("config.yaml", "workflow/studies/smoke.yaml")
    )
    folders = {"raw": "data/synthetic", "data": "data", "results": "results"}
    study |= smoke | {
        "training": study["training"] | smoke["training"],
        "methods": ["zero_shot"],
        **folders,
    }
    (origin / "config.yaml").write_text(
        yaml.safe_dump(study | {"figures": {"similarity": ["zero_shot"], "scores_by_domain": []}})
    )

    def ready(root):
        """A checkout whose environment is the one of the tests, and whose modules are its own."""
        (root / ".venv").symlink_to(Path(sys.prefix))
        (root / ".git/info/exclude").write_text("/.venv\n/.bin\n/.home\n/.site\n")
        checkout = Checkout(root)
        checkout.environment |= {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        return checkout

    subprocess.run(["git", "init", "-q", str(origin)], check=True)
    first = ready(origin)
    first.dvc("repro")
    first.git("add", "-A")
    first.git("commit", "-qm", "results")
    first.dvc("remote", "add", "--local", "--default", "store", str(tmp_path / "store"))
    first.dvc("push")
    again = first.run(str(origin / ".venv/bin/snakemake"), "--cores", "1", "-n")
    assert "Nothing to be done" in again.stdout + again.stderr

    subprocess.run(["git", "clone", "-q", str(origin), str(tmp_path / "clone")], check=True)
    clone = ready(tmp_path / "clone")
    clone.dvc("remote", "add", "--local", "--default", "store", str(tmp_path / "store"))
    pulled = clone.run("make", "-o", "install", "pull")
    assert pulled.returncode == 0, pulled.stdout + pulled.stderr
    again = clone.run(str(clone.root / ".venv/bin/snakemake"), "--cores", "1", "-n")
    assert "Nothing to be done" in again.stdout + again.stderr
    assert clone.dvc("repro").count("didn't change") == 2
    assert clone.git("status", "--short") == ""
    assert (clone.root / "results/mlflow.db").is_file()
