"""Packing: bytes of the array, rejected images, receipt, bounded memory."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from clipdr import DataError
from clipdr.artifacts import receipts
from clipdr.data.preprocessing import fundus
from clipdr.data.preprocessing.prepare import prepare_image
from clipdr.data.synthetic import patients, renderer
from clipdr.multimodal.data import eye_table, packing
from clipdr.multimodal.data.synthetic_eyes import synthetic

DOMAIN, SIDE = "SIM_DEEPDR", 48


def rendered(count, seed, size):
    """Images of a synthetic domain, one after the other: the reference of every packing."""
    return [
        renderer.render(patients.eye(DOMAIN, patient.number, side, grade, seed), size)[0]
        for patient in patients.cohort(DOMAIN, count, seed)
        for side, grade in patient.grades.items()
    ]


@pytest.fixture(scope="module")
def eyes():
    return synthetic(DOMAIN, 40, 0)


@pytest.fixture(scope="module")
def folder(eyes, tmp_path_factory):
    """Image files of the eyes; the second is no image and the third is missing."""
    folder = tmp_path_factory.mktemp("images")
    for number, (name, image) in enumerate(zip(eyes["image"], rendered(40, 0, 96), strict=True)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if number == 1:
            path.write_text("no image")
        elif number != 2:
            Image.fromarray(image).save(path, quality=95)
    return folder


def stacked(images, path):
    """Bytes that `np.save` writes for all images at once."""
    np.save(path, np.stack(images))
    return path.read_bytes()


@pytest.mark.parametrize("processes", [1, 2])
def test_synthetic_array_equals_the_stacked_images(tmp_path, processes):
    table, rejected = packing.pack_synthetic(
        tmp_path, "syn", [DOMAIN], 40, 3, SIDE, processes=processes
    )
    images = [
        fundus.crop(image, fundus.detect(image).circle, SIDE)[0] for image in rendered(40, 3, SIDE)
    ]
    assert (tmp_path / "syn.npy").read_bytes() == stacked(images, tmp_path / "all.npy")
    assert list(table["row"]) == list(range(len(images)))
    assert rejected == []


@pytest.mark.parametrize("processes", [1, 2])
def test_array_of_files_equals_the_stacked_images(eyes, folder, tmp_path, processes):
    images = packing.fundus_images(eyes, folder, SIDE, processes)
    table, rejected = packing.pack(eyes, images, tmp_path, "files")
    names = [name for number, name in enumerate(eyes["image"]) if number not in (1, 2)]
    squares = [prepare_image(folder / name, "SYNTHETIC", SIDE).image for name in names]
    assert (tmp_path / "files.npy").read_bytes() == stacked(squares, tmp_path / "all.npy")
    assert list(table["image"]) == names
    assert [row["image"] for row in rejected] == list(eyes["image"][1:3])
    assert rejected[1]["reason"] == "no such file"
    written = pd.read_csv(tmp_path / "files_rejected.csv")
    assert written.to_dict("records") == rejected
    opened, store = eye_table.open_pack(tmp_path, "files")
    assert len(opened) == len(store) == len(names)


def test_receipt_names_the_files(eyes, tmp_path):
    images = (np.full((8, 8, 3), 7, np.uint8) for _ in range(len(eyes)))
    packing.pack(eyes, images, tmp_path, "toy")
    receipt = receipts.read(tmp_path / "receipts" / "toy.json")
    assert receipt.job == "multimodal prepare toy"
    files = {path.relative_to(tmp_path).as_posix() for path in receipt.files}
    assert files == {"toy.npy", "toy.csv", "toy_rejected.csv"}
    assert receipt.content["images"] == len(eyes)


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """An array of 24 MB is streamed: less than 4 MB are allocated at any time."""
    count, side = 500, 128
    eyes = pd.DataFrame({"image": [f"{number}.png" for number in range(count)]})
    images = (np.full((side, side, 3), number % 256, np.uint8) for number in range(count))
    tracemalloc.start()
    packing.pack(eyes, images, tmp_path, "large")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "large.npy").stat().st_size > 24e6
    assert peak < 4e6


def test_no_usable_image_is_an_error_and_writes_nothing(eyes, tmp_path):
    with pytest.raises(DataError, match=r"none of \d+ images can be used \(first: no such file\)"):
        packing.pack(eyes, packing.fundus_images(eyes, tmp_path, SIDE), tmp_path / "out", "none")
    assert not list((tmp_path / "out").glob("*"))


def test_interrupted_packing_leaves_no_file(eyes, tmp_path):
    def broken():
        yield np.zeros((8, 8, 3), np.uint8)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        packing.pack(eyes, broken(), tmp_path, "cut")
    assert not list(tmp_path.iterdir())


def test_images_of_different_sizes_are_refused(eyes, tmp_path):
    sizes = iter([8, 9])
    images = (np.zeros((size, size, 3), np.uint8) for size in sizes)
    with pytest.raises(ValueError, match="of shape"):
        packing.pack(eyes.head(2), images, tmp_path, "mixed")


def test_unknown_fault_is_refused(tmp_path):
    with pytest.raises(DataError, match="fault 'none_such' is unknown"):
        packing.pack_synthetic(tmp_path, "x", [DOMAIN], 20, 0, SIDE, fault="none_such")
