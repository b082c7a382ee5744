"""Set-up: one set of pins, the Makefile with nothing but Python and pip, the Snakemake profiles."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from helpers.paths import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
RANGES = [
    Requirement(text)
    for text in [*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra)]
]
LOCK = {
    canonicalize_name(name): version
    for name, _, version in (
        line.partition("==")
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
}
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def test_environment_yml_pins_the_locked_versions_of_the_jobs():
    *conda, pip = ENVIRONMENT["dependencies"]
    assert ENVIRONMENT["channels"] == ["conda-forge"]
    assert conda == ["python =3.11", "pip"]
    jobs = [*PROJECT["dependencies"], *EXTRAS["workflow"], *EXTRAS["tracking"], *EXTRAS["search"]]
    names = [Requirement(text).name for text in jobs]
    assert pip["pip"] == [f"{name}=={LOCK[canonicalize_name(name)]}" for name in names]


@pytest.mark.parametrize("requirement", RANGES, ids=lambda requirement: requirement.name)
def test_range_of_requirement_holds_the_installed_locked_version(requirement):
    version = LOCK[canonicalize_name(requirement.name)]
    assert version in requirement.specifier
    # torch adds its CUDA version behind a +
    assert importlib.metadata.version(requirement.name).split("+")[0] == version


def test_installed_packages_have_the_locked_versions():
    """Every locked package that is installed has the locked version."""
    for name, version in LOCK.items():
        with suppress(importlib.metadata.PackageNotFoundError):
            assert importlib.metadata.version(name).split("+")[0] == version, name


def make(*arguments, cwd=ROOT, **variables):
    """Run make without the variables of an outer make, because `make test` starts these tests."""
    outer = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    return subprocess.run(
        ["make", *arguments],
        cwd=cwd,
        env=outer | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_make_without_a_target_lists_the_targets():
    answer = make()
    assert answer.returncode == 0
    assert [line.split()[1] for line in answer.stdout.splitlines()] == [
        "help",
        "install",
        "demo",
        "lint",
        "test",
        "ui",
        "pull",
        "lock",
        "clean",
    ]


@pytest.fixture
def checkout(tmp_path):
    """A folder with the Makefile and a stand-in for python3 and its pip that record their calls."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "requirements.lock").write_text("numpy==2.0\n")
    fake = tmp_path / "bin" / "python3"
    fake.parent.mkdir()
    fake.write_text(
        f"""#!/bin/sh
case "$*" in
  *version_info*)
    exec {sys.executable} -c "import sys; sys.version_info = ($FAKE_VERSION, 0)
code = sys.argv[1]; exec(code)" "$2";;
  "-c import ensurepip") exit "$FAKE_ENSUREPIP";;
  "-m venv"*)
    for last; do :; done
    mkdir -p "$last/bin"; cp "$0" "$last/bin/python"
    echo x > "$last/bin/pip"; chmod +x "$last/bin/pip";;
esac
echo "$*" >> calls.txt
"""
    )
    fake.chmod(0o755)
    return tmp_path


INSTALL = (
    "-m pip install --disable-pip-version-check -c requirements.lock"
    " -e .[workflow,tracking,search,dev]"
)


def install(checkout, version="3, 11", ensurepip="0"):
    answer = make(
        "install",
        "PYTHON=bin/python3",
        cwd=checkout,
        FAKE_VERSION=version,
        FAKE_ENSUREPIP=ensurepip,
    )
    calls = (
        (checkout / "calls.txt").read_text().splitlines()
        if (checkout / "calls.txt").exists()
        else []
    )
    return answer, calls


def test_install_runs_pip_once_per_set_of_requirements(checkout):
    answer, calls = install(checkout)
    assert answer.returncode == 0, answer.stderr
    assert calls == ["-m venv .venv", INSTALL]
    os.utime(checkout / "pyproject.toml")  # as a fresh checkout of the same content does
    assert install(checkout)[1] == calls
    (checkout / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    assert install(checkout)[1] == [*calls, INSTALL]
    (checkout / "requirements.lock").write_text("numpy==2.1\n")
    assert install(checkout)[1] == [*calls, INSTALL, INSTALL]


def test_install_without_ensurepip_takes_the_pip_of_the_system(checkout):
    answer, calls = install(checkout, ensurepip="1")
    assert answer.returncode == 0, answer.stderr
    assert calls[:2] == [
        "-m venv --without-pip .venv",
        "-m pip --python .venv/bin/python install -q pip",
    ]


def test_old_python_gives_one_clear_line(checkout):
    answer, calls = install(checkout, version="3, 10")
    assert answer.returncode != 0
    assert not calls
    assert not (checkout / ".venv").exists()
    ours = [line for line in answer.stderr.splitlines() if not line.startswith("make")]
    assert ours == [
        "clipdr needs Python 3.11 or newer, bin/python3 is 3.10: name a newer one, as in "
        "`make demo PYTHON=python3.11`"
    ]


def test_clean_keeps_files_of_the_user(checkout):
    kept = [
        "data/raw/APTOS/a.png",
        "data/splits/APTOS_train.txt",
        "data/README.md",
        "results/README.md",
        ".venv/bin/python",
    ]
    gone = [
        "data/store/APTOS.npy",
        "data/synthetic/SIM_APTOS/a.png",
        "data/manifests/APTOS.csv",
        "results/scores.csv",
    ]
    for path in kept + gone:
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        (checkout / path).write_text("x")
    assert make("clean", cwd=checkout).returncode == 0
    assert [path for path in kept + gone if (checkout / path).exists()] == kept


def test_ci_calls_make_test_from_any_folder(tmp_path):
    """.ci/run, with a stand-in for make."""
    (tmp_path / "make").write_text('#!/bin/sh\necho "$PWD: make $*"\n')
    (tmp_path / "make").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    answer = subprocess.run(
        ["bash", ROOT / ".ci/run"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == f"{ROOT}: make test\n"
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_default_profile_ignores_the_software_environment():
    """Otherwise a run with --use-conda after one without it would repeat everything."""
    for name in ("default", "slurm"):
        profile = yaml.safe_load((ROOT / "workflow/profiles" / name / "config.yaml").read_text())
        assert sorted(profile["rerun-triggers"]) == ["code", "input", "mtime", "params"]
        assert profile["rerun-incomplete"] is True
    assert yaml.safe_load((ROOT / "workflow/profiles/default/config.yaml").read_text())[
        "resources"
    ] == {"gpu": 1}


SLURM = """#!/bin/sh
echo "$*" >> "$SBATCH_CALLS"
echo 42
"""
TOY = """
rule all:
    input: expand("out/{i}", i=range(3)), expand("out/score{i}", i=range(4))
rule score:
    output: "out/score{i}"
    log: "log/score{i}"
    shell: "touch {output} 2> {log}"
rule train:
    wildcard_constraints: i=r"\\d"
    output: "out/{i}"
    log: "log/{i}"
    resources: gpu=1
    shell: "touch {output} 2> {log}"
"""


@pytest.mark.slow
def test_slurm_profile_submits_gpu_jobs_side_by_side(tmp_path):
    """Three jobs that ask for a GPU reach sbatch at once; all scores go as one job.

    The default profile, which is read too, allows one GPU job at a time.
    """
    shutil.copytree(ROOT / "workflow/profiles", tmp_path / "workflow/profiles")
    (tmp_path / "workflow/Snakefile").write_text(TOY)
    (tmp_path / "bin").mkdir()
    for name in ("sbatch", "squeue", "sacct", "sinfo", "scontrol", "sacctmgr", "scancel"):
        (tmp_path / "bin" / name).write_text(SLURM if name == "sbatch" else "#!/bin/sh\n")
        (tmp_path / "bin" / name).chmod(0o755)
    calls = tmp_path / "calls.txt"
    environment = os.environ | {"PATH": f"{tmp_path}/bin:{PATH}", "SBATCH_CALLS": str(calls)}
    command = [sys.executable, "-m", "snakemake", "--profile", "workflow/profiles/slurm"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        for _ in range(300):
            if calls.exists() and len(calls.read_text().splitlines()) == 4:
                break
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
        process.kill()
    submitted = calls.read_text().splitlines()
    trainings = [line for line in submitted if "--gpus" in line]
    assert len(trainings) == 3
    assert len(submitted) == 4
    for line in trainings:
        assert "--gpus=1" in line
        assert "--cpus-per-task=4" in line
        assert "--mem 32000" in line
        assert "-t 720" in line


@pytest.mark.slow
def test_dry_run_of_the_slurm_profile_requests_gpus_for_training():
    """The project's workflow: every training job asks for a GPU, and few other rules do."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--profile",
        "workflow/profiles/slurm",
        "-n",
        "--forceall",
        "--nolock",
    ]
    answer = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PATH": PATH},
        capture_output=True,
        text=True,
        check=False,
    )
    output = answer.stdout + answer.stderr
    assert answer.returncode == 0, output[-2000:]
    jobs = output.replace("\nlocalrule ", "\nrule ").split("\nrule ")[1:]
    gpu = {job.split(":")[0] for job in jobs if "gpu=1" in job.split("\n[")[0]}
    assert {"train"} <= gpu <= {"train", "features"}
