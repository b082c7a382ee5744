"""Preparation: same bytes for any number of processes, complete files or none.

Every bad file is named and listed.
"""

import csv
import hashlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from helpers.image_files import broken, disc, layout, run
from helpers.paths import REALDATA, ROOT
from PIL import Image

from clipdr import DataError
from clipdr.data.manifest import DTYPES, open_store, read_manifest
from clipdr.data.preprocessing import fundus
from clipdr.data.preprocessing.image_io import decode
from clipdr.data.preprocessing.prepare import prepare, prepare_image

real = pytest.mark.skipif(not REALDATA.is_dir(), reason="no real images here")


def test_small_disc_in_a_large_image_is_decoded_finer(tmp_path, monkeypatch):
    disc(1600, 1200, 320).save(tmp_path / "far.jpg", quality=95)
    shapes = []
    crop = fundus.crop
    monkeypatch.setattr(
        fundus,
        "crop",
        lambda image, circle, size: (
            shapes.append((image.shape, circle)) or crop(image, circle, size)
        ),
    )
    prepared = prepare_image(tmp_path / "far.jpg", "SIM_APTOS", 150)
    ((shape, circle),) = shapes
    assert prepared.extent == (1600, 1200)
    # At 150 x 200 the disc would be 80 pixels wide.
    assert shape == (300, 400, 3)
    assert 2 * circle.r >= 150
    assert abs(circle.r - 80) < 1
    assert prepared.reason == ""
    assert prepared.image.shape == (150, 150, 3)


def test_broken_files_are_rejected_with_a_reason(tmp_path):
    for name, (data, word) in broken(tmp_path).items():
        (tmp_path / "file").write_bytes(data)
        start = time.monotonic()
        with pytest.raises(DataError, match=word):
            decode(tmp_path / "file")
        assert word in prepare_image(tmp_path / "file", "SIM_APTOS", 32).reason, name
        assert time.monotonic() - start < 2, name


def test_mutated_files_never_raise(tmp_path):
    draw = np.random.default_rng(0)
    for suffix in ("jpg", "png", "tif"):
        disc().save(tmp_path / f"x.{suffix}")
        data = np.frombuffer((tmp_path / f"x.{suffix}").read_bytes(), np.uint8)
        for _ in range(60):
            bad = data.copy()
            bad[draw.integers(0, min(len(bad), 600), 6)] = draw.integers(0, 256, 6)
            (tmp_path / "bad").write_bytes(bad.tobytes())
            prepared = prepare_image(tmp_path / "bad", "SIM_APTOS", 16)
            assert prepared.reason or prepared.image.shape == (16, 16, 3)


def test_manifest_store_and_rejected_list_agree(tmp_path, capsys):
    images = layout(tmp_path / "raw")
    images[1].write_bytes(b"")
    Image.new("RGB", (100, 100), (20, 60, 200)).save(images[6])
    manifest, store, rejected = run(tmp_path / "raw", tmp_path / "out")
    assert capsys.readouterr().out == "SIM_APTOS: 8 images prepared, 2 rejected, 0 without a disc\n"
    table = read_manifest(manifest)
    packed = open_store(store, table)
    assert list(table.columns) == list(DTYPES)
    assert packed.shape == (8, 32, 32, 3)
    kept = [path for number, path in enumerate(images) if number not in (1, 6)]
    assert table["image"].tolist() == [
        path.relative_to(tmp_path / "raw/images").as_posix() for path in kept
    ]
    assert table["row"].tolist() == list(range(8))
    assert table["split"].tolist() == ["train"] * 4 + ["val"] * 4
    assert table["sha256"].tolist() == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in kept
    ]
    assert table["phash"].str.fullmatch("[0-9a-f]{16}").all()
    assert (table["flag"] == "").all()
    assert {name: str(table[name].dtype) for name in ("row", "grade", "cx", "h")} == {
        "row": "int32",
        "grade": "int8",
        "cx": "float32",
        "h": "float32",
    }
    assert table.loc[0, ["patient", "eye", "camera"]].tolist() == ["train000", "left", ""]
    assert table["width"].eq(160).all()
    assert table["height"].eq(120).all()
    for row, path in enumerate(kept):
        assert (packed[row] == prepare_image(path, "SIM_APTOS", 32).image).all()
        outside = ~fundus.mask(table.loc[[row], ["cx", "cy", "r", "w", "h"]].to_numpy(), 32)[
            0, 0
        ].numpy()
        assert (packed[row][outside] == 0).all()
        assert packed[row].any()
    with rejected.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["grade"], row["split"]) for row in rows] == [("1", "train"), ("1", "val")]
    assert rows[0]["image"].endswith("train001_right.png")
    assert "empty" in rows[0]["reason"]
    assert "not a fundus" in rows[1]["reason"]


def test_one_and_three_processes_write_the_same_bytes(tmp_path):
    images = layout(tmp_path / "raw", 50)
    images[7].write_bytes(b"")
    images[60].write_bytes(b"no image")
    one = [path.read_bytes() for path in run(tmp_path / "raw", tmp_path / "one", processes=1)]
    three = [path.read_bytes() for path in run(tmp_path / "raw", tmp_path / "three", processes=3)]
    again = [path.read_bytes() for path in run(tmp_path / "raw", tmp_path / "three", processes=2)]
    assert one == three == again
    assert len(np.load(tmp_path / "one/SIM_APTOS.npy")) == 98


def test_error_leaves_no_incomplete_file(tmp_path):
    images = layout(tmp_path / "raw")
    files = run(tmp_path / "raw", tmp_path / "out")
    before = [path.read_bytes() for path in files]
    for path in images:
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of 10 images could be used"):
        run(tmp_path / "raw", tmp_path / "out")
    assert [path.read_bytes() for path in files] == before
    assert len(list((tmp_path / "out").iterdir())) == 3
    (tmp_path / "raw2").mkdir()
    layout(tmp_path / "raw2/x", domain="APTOS")
    with pytest.raises(DataError, match=r"APTOS.*not complete"):
        run(tmp_path / "raw2/x", tmp_path / "out2", domain="APTOS", complete=True)
    assert not (tmp_path / "out2").exists()


def test_kill_leaves_no_file_under_its_final_name(tmp_path):
    layout(tmp_path / "raw", 150)
    code = (
        "from pathlib import Path; from clipdr.data.preprocessing.prepare import prepare; "
        "o = Path('out');"
        "prepare('SIM_APTOS', Path('raw'), o / 'm.csv', o / 's.npy', o / 'r.csv', 64, 1)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    part = tmp_path / "out/.s.npy.part"
    deadline = time.monotonic() + 60
    while (
        not (part.exists() and part.stat().st_size > 20 * 64 * 64 * 3)
        and time.monotonic() < deadline
    ):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert part.exists()
    assert not [path for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")]
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["m.csv", "r.csv", "s.npy"]


UGLY = {
    "huge_4752x3168.jpeg": "",
    "dark_4752x3168.jpeg": "",
    "huge_aptos_original.png": "",
    "rgba_drive.tif": "",
    "gray_fundus.jpg": "",
    "overlay_contour_idrid.jpg": "",
    "white_background_deepdrid.jpg": "text",
    "cmyk_derived.jpg": "",
    "exif_orientation6_derived.jpg": "",
    "cropped_patch_derived.jpg": "no_disc",
    "lfs_pointer_not_an_image.png": "git-LFS",
    "zero_bytes_derived.jpg": "empty",
    "truncated_derived.jpg": "truncated",
    "palette_mask.gif": "not a JPEG",
    "binary_mask_1bit.tif": "not a fundus",
    "nonfundus_chart_rgba.png": "not a fundus",
    "nonfundus_natural.jpg": "not a fundus",
    "nonfundus_chest_xray_L.png": "not a fundus",
    "montage_rgba_fgadr.png": "not a fundus",
}


@pytest.mark.realdata
@real
@pytest.mark.parametrize("name", UGLY)
@pytest.mark.parametrize("size", [96, 512])
def test_real_unusual_file_is_handled(name, size):
    for domain in ("DEEPDR", "APTOS") if name.startswith("white") else ("APTOS",):
        prepared = prepare_image(REALDATA / "ugly" / name, domain, size)
        if UGLY[name] in ("", "no_disc", "text"):
            assert (prepared.reason, prepared.flag) == ("", UGLY[name])
            assert prepared.image.shape == (size, size, 3)
        else:
            assert UGLY[name] in prepared.reason
            assert not prepared.image.size


@pytest.mark.realdata
@real
def test_no_real_fundus_image_is_rejected(tmp_path):
    files = [tmp_path / name for name in ("m.csv", "s.npy", "r.csv")]
    for domain in ("APTOS", "IDRID", "EYEPACS", "MESSIDOR", "RLDR"):
        prepare(domain, REALDATA / "gdrbench", *files, 64, 2)
        assert len(pd.read_csv(files[2])) == 0
        flagged = (read_manifest(files[0])["flag"] != "").sum()
        # 238 of 286 thumbnails of APTOS had been squeezed to a square before.
        assert flagged == (238 if domain == "APTOS" else 0)
