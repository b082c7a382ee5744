"""Reports of the toy study that the tests of this folder share."""

import pytest
from helpers.finished_study import NAMES, read_manifest, run, write


@pytest.fixture(scope="session")
def report(study):
    """The report of the toy study."""
    return write(study)


@pytest.fixture(scope="session")
def several(study):
    """A report of two protocols and its run folders: clip_dr under esdg beside the dg runs."""
    root, runs = study
    manifest = read_manifest(root / "data")
    more = [
        run(root / "results/runs/esdg/clip_dr" / f"all_but_{name}" / "0", manifest)
        for name in NAMES
    ]
    return write((root, [*runs, *more]), "several.html"), [*runs, *more]
