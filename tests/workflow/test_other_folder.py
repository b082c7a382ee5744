"""The Snakefile of a repository, started in another folder that holds data and results."""

import pytest
from helpers.paths import ROOT
from helpers.study import copy_project, snakemake

TARGETS = ["results/smoke/leaks.csv", "data/smoke/features/tiny/prompts.npz"]


def arguments(repository, folder, *targets):
    smoke = repository / "workflow/studies/smoke.yaml"
    snakefile = repository / "workflow/Snakefile"
    start = ["-s", str(snakefile), "--directory", str(folder), "--configfile", str(smoke)]
    return [*targets, *start]


def test_dry_run_reads_config_code_and_profile_of_the_repository(tmp_path):
    text = snakemake(tmp_path, *arguments(ROOT, tmp_path), "-n")
    assert f"workflow specific profile {ROOT}/workflow/profiles/default" in text
    assert f"{ROOT}/config.yaml" in text
    assert f"{ROOT}/clipdr/evaluation/scoring.py" in text
    assert f"{ROOT}/docs/deviations.md" in text


def test_config_of_the_folder_wins_over_that_of_the_repository(tmp_path):
    text = (ROOT / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("reference: clip_dr", "reference: clip_rd"))
    done = snakemake(tmp_path, *arguments(ROOT, tmp_path), "-n", check=False)
    assert "reference: 'clip_rd' is unknown" in done


@pytest.mark.slow
def test_jobs_import_the_package_of_the_repository_and_run_once(tmp_path):
    """A copy of the repository, so that an installed package cannot stand in for it."""
    repository, folder = tmp_path / "repository", tmp_path / "my study"
    repository.mkdir()
    folder.mkdir()
    copy_project(repository)
    with (repository / "clipdr/__init__.py").open("a") as package:
        package.write("\nimport pathlib\npathlib.Path('package.txt').write_text(__file__)\n")
    snakemake(tmp_path, *arguments(repository, folder, *TARGETS))
    assert (folder / "package.txt").read_text() == str(repository / "clipdr/__init__.py")
    assert all((folder / target).is_file() for target in TARGETS)
    assert not (repository / "results").exists()
    again = snakemake(tmp_path, *arguments(repository, folder, *TARGETS), "-n")
    assert "Nothing to be done" in again
