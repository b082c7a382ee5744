"""Run folders: identity decoded from the path, reading of finished runs, and grouping."""

import json
from pathlib import Path

import pandas as pd
import pytest

from clipdr import DataError
from clipdr.artifacts.run_folder import Run, RunFolder, axes, by_protocol, first_seed, read_run


def test_run_folder_identity_is_decoded_from_the_path():
    run = RunFolder(Path("results/runs/esdg/clip_dr/all_but_APTOS/12"))
    assert run.protocol == "esdg"
    assert run.method == "clip_dr"
    assert run.held_out == "all_but_APTOS"
    assert run.seed == 12
    assert run.key == ("esdg", "clip_dr", "all_but_APTOS", 12)


def test_run_folder_text_path_is_accepted():
    assert RunFolder("dg/erm/APTOS/0") == RunFolder(Path("dg/erm/APTOS/0"))


def test_run_folder_parents_do_not_matter():
    short, long = RunFolder(Path("dg/erm/APTOS/0")), RunFolder(Path("/a/7/b/dg/erm/APTOS/0"))
    assert short.key == long.key
    assert short != long


def test_run_folder_file_is_a_path_inside():
    assert RunFolder(Path("dg/erm/APTOS/0")).file("scores.csv") == Path("dg/erm/APTOS/0/scores.csv")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "0",
        "erm/APTOS/0",
        "dg/erm/APTOS",
        "runs/dg/erm/APTOS/seed0",
        "runs/dg/erm/APTOS/-1",
        "runs/dg/erm/APTOS/0/scores.csv",
    ],
)
def test_run_folder_bad_path_is_refused(path):
    with pytest.raises(DataError, match=r"not a run folder\. Name it PROTOCOL/METHOD") as error:
        RunFolder(Path(path))
    assert "\n" not in str(error.value)
    assert str(Path(path)) in str(error.value)


def test_run_folder_is_immutable():
    run = RunFolder(Path("dg/erm/APTOS/0"))
    with pytest.raises(AttributeError):
        run.path = Path("dg/erm/APTOS/1")


def finished(root, seed=0):
    """Write the files of a finished run that `read_run` reads."""
    folder = root / "runs/dg/erm/APTOS" / str(seed)
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(json.dumps({"frozen": True}))
    (folder / "provenance.json").write_text(json.dumps({"device": "cpu"}))
    (folder / "history.csv").write_text("epoch,loss\n1,0.5\n2,0.25\n")
    return folder


def test_read_run_returns_identity_and_contents(tmp_path):
    folder = finished(tmp_path, 3)
    run = read_run(str(folder))
    assert run.folder == folder
    assert (run.protocol, run.method, run.held_out, run.seed) == ("dg", "erm", "APTOS", 3)
    assert run.settings == {"frozen": True}
    assert run.provenance == {"device": "cpu"}
    assert run.history["loss"].tolist() == [0.5, 0.25]


@pytest.mark.parametrize("name", ["settings.json", "provenance.json", "history.csv"])
@pytest.mark.parametrize("damage", ["missing", "empty"])
def test_read_run_missing_or_empty_file_is_an_error(tmp_path, name, damage):
    folder = finished(tmp_path)
    (folder / name).unlink()
    if damage == "empty":
        (folder / name).write_text("")
    with pytest.raises(DataError, match=r"not a finished run .*Train it again"):
        read_run(folder)


def test_read_run_folder_with_a_bad_name_is_an_error(tmp_path):
    with pytest.raises(DataError, match="not a run folder"):
        read_run(tmp_path / "runs")


FOLDERS = [
    "runs/dg/erm/APTOS/2",
    "runs/dg/clip_dr/IDRID/10",
    "runs/dg/erm/APTOS/0",
    "runs/esdg/erm/APTOS/1",
    "runs/dg/clip_dr/IDRID/9",
    "runs/dg/erm/IDRID/5",
]


def test_axes_are_in_order_of_first_appearance():
    assert axes(FOLDERS) == {"methods": ["erm", "clip_dr"], "domains": ["APTOS", "IDRID"]}
    assert axes([]) == {"methods": [], "domains": []}


def test_first_seed_keeps_the_lowest_number_and_the_order():
    expected = [
        "runs/dg/erm/APTOS/0",
        "runs/dg/clip_dr/IDRID/9",  # 9 < 10 as numbers, not as text
        "runs/esdg/erm/APTOS/1",
        "runs/dg/erm/IDRID/5",
    ]
    assert first_seed(FOLDERS) == [Path(path) for path in expected]
    assert first_seed(iter(FOLDERS)) == [Path(path) for path in expected]


def test_by_protocol_groups_in_the_order_of_the_runs():
    runs = [Run(Path(path), *RunFolder(Path(path)).key, {}, {}, pd.DataFrame()) for path in FOLDERS]
    groups = by_protocol(runs)
    assert list(groups) == ["dg", "esdg"]
    assert [run.seed for run in groups["dg"]] == [2, 10, 0, 9, 5]
    assert [run.folder for run in groups["esdg"]] == [Path("runs/esdg/erm/APTOS/1")]
    assert by_protocol([]) == {}
