"""Synthetic datasets: layout, determinism, table of patients, lesion masks."""

import csv
import hashlib
import re

import pytest
from PIL import Image

from clipdr import DataError
from clipdr.data.domains import FOLDERS
from clipdr.data.synthetic import dataset
from clipdr.data.synthetic.patients import COLUMNS

DOMAINS = ["SIM_IDRID", "SIM_APTOS"]
PATIENTS, SIZE, SEED = 12, 96, 7


def digests(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    dataset.write(root, DOMAINS, PATIENTS, SIZE, SEED, 1)
    return root


@pytest.fixture(scope="module")
def rows(study):
    with (study / "patients.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_same_bytes_with_two_processes_and_in_another_order(study, tmp_path):
    dataset.write(tmp_path, DOMAINS[::-1], PATIENTS, SIZE, SEED, 2)
    one, two = digests(study), digests(tmp_path)
    for files in (one, two):
        files.pop("patients.csv")  # rows follow the order of the domains
    assert one == two
    assert len(one) > 2 * PATIENTS


def test_another_seed_replaces_all_images(tmp_path):
    dataset.write(tmp_path, ["SIM_IDRID"], 6, 64, 1, 1)
    first = digests(tmp_path / "images")
    dataset.write(tmp_path, ["SIM_IDRID"], 6, 64, 2, 1)
    second = digests(tmp_path / "images")
    listed = {
        line.split()[0]
        for path in (tmp_path / "splits").iterdir()
        for line in path.read_text().splitlines()
    }
    assert set(second) == listed
    assert not set(first.values()) & set(second.values())


def test_layout_equals_gdrbenchs(study):
    suffix = {"SIM_IDRID": ".jpg", "SIM_APTOS": ".png"}
    for domain in DOMAINS:
        lines = [
            line
            for split in ("train", "crossval")
            for line in (study / "splits" / f"{domain}_{split}.txt").read_text().splitlines()
        ]
        assert len(lines) == len(set(lines)) > PATIENTS
        for line in lines:
            path, grade = line.rsplit(" ", 1)
            assert re.fullmatch(
                rf"{domain}/{FOLDERS[int(grade)]}/p\d{{4}}_(left|right)\{suffix[domain]}", path
            )
            with Image.open(study / "images" / path) as image:
                assert image.mode == "RGB"
                assert min(image.size) >= 0.85 * SIZE
    assert not list(study.rglob("*.part"))


def test_table_agrees_with_the_split_files(study, rows):
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == PATIENTS * len(DOMAINS)
    listed = {}
    for domain in DOMAINS:
        for split, name in dataset.SPLITS.items():
            for line in (study / "splits" / f"{domain}_{name}.txt").read_text().splitlines():
                path, grade = line.rsplit(" ", 1)
                listed[path] = (split, grade)
    recorded = {
        row[f"image_{side}"]: (row["split"], row[f"grade_{side}"])
        for row in rows
        for side in ("left", "right")
        if row[f"image_{side}"]
    }
    assert recorded == listed
    for row in rows:
        for side in ("left", "right"):
            assert (
                bool(row[f"text_{side}"]) == bool(row[f"image_{side}"]) == bool(row[f"sdrg_{side}"])
            )
            assert row[f"text_{side}"] in row["report"]


GOOD = {"domains": ["SIM_APTOS"], "patients": 2, "size": 64, "seed": 0, "processes": 1}


@pytest.mark.parametrize(
    "bad",
    [
        {"domains": ["APTOS"]},
        {"domains": ["SIM_X"]},
        {"patients": 0},
        {"size": 8},
        {"seed": -1},
        {"processes": 0},
    ],
)
def test_invalid_arguments_are_refused_before_writing(tmp_path, bad):
    with pytest.raises(DataError, match="synthetic"):
        dataset.write(tmp_path, **(GOOD | bad))
    assert not list(tmp_path.iterdir())


def test_lesion_mask_of_a_written_image_has_its_size(study, rows):
    for row in rows:
        for side in ("left", "right"):
            if row[f"image_{side}"]:
                mask = dataset.lesion_mask(row[f"image_{side}"], SIZE, SEED)
                with Image.open(study / "images" / row[f"image_{side}"]) as image:
                    assert mask.shape == image.size[::-1]
                assert mask.any() == (int(row[f"grade_{side}"]) > 0)
    for bad in ("SIM_APTOS/p0001_left.png", "SIM_APTOS/pdr/one.png", "APTOS/pdr/p0001_left.png"):
        with pytest.raises(DataError, match="synthetic"):
            dataset.lesion_mask(bad, SIZE, SEED)
