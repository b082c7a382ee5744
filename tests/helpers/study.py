"""The study of config.yaml as a mapping, a copy of the project, and Snakemake run in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from helpers.paths import ROOT


def config(**changes):
    """The study of config.yaml with some keys replaced."""
    return yaml.safe_load((ROOT / "config.yaml").read_text()) | changes


def copy_project(folder: Path) -> Path:
    """Copy all that the workflow needs, without files that git ignores."""
    for name in ("clipdr", "workflow", "docs", "config.yaml", "environment.yml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def snakemake(folder: Path, *arguments: str, check: bool = True) -> str:
    """Run Snakemake in a folder on two cores; return what it prints."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=environment, check=False
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
