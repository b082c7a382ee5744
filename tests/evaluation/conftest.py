"""A simulated manifest and the scored runs of a small study."""

import pytest
from helpers.simulated_runs import SIZES, manifest_of, predict

from clipdr.evaluation.scoring import score, write


@pytest.fixture(scope="module")
def manifest():
    return manifest_of(SIZES)


@pytest.fixture(scope="module")
def study(manifest, tmp_path_factory):
    """Folders of 2 methods, 3 held-out domains and 2 seeds; erm lacks seed 1 on SIM_RLDR."""
    folders = []
    for method, skill in (("erm", 1.0), ("clip_dr", 3.0)):
        for held_out in SIZES:
            for seed in (0, 1):
                if (method, held_out, seed) != ("erm", "SIM_RLDR", 1):
                    folder = (
                        tmp_path_factory.getbasetemp()
                        / "runs"
                        / "dg"
                        / method
                        / held_out
                        / str(seed)
                    )
                    folder.mkdir(parents=True)
                    write(
                        score(
                            predict(manifest, [held_out], method, seed, skill=skill), manifest, 60
                        ),
                        folder,
                    )
                    folders.append(folder)
    return folders
