"""Decoding within limits, and the packed store: same bytes for any number of processes, whole files or none, every bad file named."""

import csv
import hashlib
import os
import signal
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pandas as pd
import pytest
from helpers.paths import REALDATA, ROOT
from PIL import Image, ImageDraw

from clipdr import DataError
from clipdr.data.domains import FOLDERS
from clipdr.data.manifest import DTYPES, open_store, read_manifest
from clipdr.data.preprocessing import fundus
from clipdr.data.preprocessing.image_io import decode, decode_bytes
from clipdr.data.preprocessing.prepare import photograph, prepare

real = pytest.mark.skipif(not REALDATA.is_dir(), reason="no real images here")


def disc(width=160, height=120, radius=50, shade=1.0):
    """A small picture that passes for a fundus photograph."""
    y, x = np.mgrid[:height, :width] + 0.5
    distance = np.hypot(x - width / 2, y - height / 2) / radius
    colour = (shade * (1 - 0.4 * distance**2))[:, :, None] * np.array([190, 100, 45])
    return Image.fromarray(
        np.where((distance <= 1)[:, :, None], colour, 3).clip(0, 255).astype(np.uint8)
    )


def layout(root, count=5, domain="SIM_APTOS"):
    """`count` photographs per split, and the paths of the train half."""
    (root / "splits").mkdir(parents=True)
    images = []
    for split, word in (("train", "train"), ("val", "crossval")):
        lines = []
        for number in range(count):
            grade = number % 5
            image = (
                f"{domain}/{FOLDERS[grade]}/{split}{number:03d}_{('left', 'right')[number % 2]}.png"
            )
            (root / "images" / image).parent.mkdir(parents=True, exist_ok=True)
            disc(radius=40 + number % 10, shade=0.6 + 0.02 * (number % 20)).save(
                root / "images" / image
            )
            lines.append(f"{image} {grade}\n")
            images.append(root / "images" / image)
        (root / "splits" / f"{domain}_{word}.txt").write_text("".join(lines))
    return images


def run(root, out, size=32, processes=1, domain="SIM_APTOS", **options):
    files = [out / f"{domain}.csv", out / f"{domain}.npy", out / "rejected.csv"]
    prepare(domain, root, *files, size, processes, **options)
    return files


def save(image, path, **options):
    image.save(path, **options)
    return decode(path)


def test_every_mode_becomes_rgb(tmp_path):
    colour = disc()
    rgb, grey = np.asarray(colour), np.asarray(colour.convert("L"))
    assert (save(colour, tmp_path / "a.png") == rgb).all()
    assert (save(colour, tmp_path / "a.tif") == rgb).all()
    assert (
        abs(save(colour, tmp_path / "a.jpg", quality=95, subsampling=0).astype(int) - rgb).mean()
        < 2
    )
    assert (
        abs(save(colour.convert("CMYK"), tmp_path / "c.jpg", quality=95).astype(int) - rgb).mean()
        < 5
    )
    assert (save(colour.convert("L"), tmp_path / "l.png") == grey[:, :, None]).all()
    assert (save(colour.convert("1"), tmp_path / "one.tif") % 255 == 0).all()
    palette = colour.convert("P", palette=Image.Palette.ADAPTIVE)
    assert (save(palette, tmp_path / "p.png") == np.asarray(palette.convert("RGB"))).all()
    transparent = colour.convert("RGBA")
    transparent.putalpha(Image.new("L", colour.size, 7))
    assert (save(transparent, tmp_path / "alpha.png") == rgb).all() and (
        save(transparent, tmp_path / "alpha.tif") == rgb
    ).all()
    assert (save(transparent.convert("LA"), tmp_path / "la.png") == grey[:, :, None]).all()
    for bits in (8, 12, 16):
        deep = Image.fromarray((grey.astype(np.uint16) << (bits - 8)) | (1 << bits >> 1))
        for name in ("deep.png", "deep.tif"):
            assert (save(deep, tmp_path / name) >> 1 == (grey | 128)[:, :, None] >> 1).all(), (
                bits,
                name,
            )


def test_sixteen_bit_colour_keeps_its_high_byte(tmp_path):
    rgb = np.asarray(disc())
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb.astype(np.uint16) * 256 + 77)
    (tmp_path / "rgb16.png").write_bytes(
        png(rgb.shape[1], rgb.shape[0], 16, 2, zlib.compress(rows))
    )
    assert (decode(tmp_path / "rgb16.png") == rgb).all()


def png(width, height, bits, kind, body):
    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(tmp_path, suffix, orientation):
    picture = Image.new("RGB", (48, 32))
    ImageDraw.Draw(picture).rectangle(
        (0, 0, 23, 15), fill=(250, 0, 0)
    )  # red corner at the top left
    back = {
        2: 0,
        3: 3,
        4: 1,
        5: 5,
        6: 2,
        7: 6,
        8: 4,
    }  # orientation -> transposition that stores it so
    stored = picture if orientation == 1 else picture.transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"x.{suffix}", exif=exif, **({"quality": 95} if suffix == "jpg" else {}))
    image = decode(tmp_path / f"x.{suffix}")
    assert image.shape == (32, 48, 3)
    assert image[8, 8, 0] > 200 and image[24, 8, 0] < 50 and image[8, 40, 0] < 50
    assert decode_bytes((tmp_path / f"x.{suffix}").read_bytes(), 8)[1] == (48, 32)


def test_a_jpeg_comes_reduced_but_never_below_the_hint(tmp_path):
    disc(1600, 1200, 550).save(tmp_path / "big.jpg")
    assert decode(tmp_path / "big.jpg").shape == (1200, 1600, 3)
    assert decode(tmp_path / "big.jpg", 150).shape == (150, 200, 3)
    assert decode(tmp_path / "big.jpg", 151).shape == (300, 400, 3)
    assert decode(tmp_path / "big.jpg", 5000).shape == (1200, 1600, 3)


def test_a_small_disc_in_a_large_picture_is_decoded_finer(tmp_path, monkeypatch):
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
    prepared = photograph(tmp_path / "far.jpg", "SIM_APTOS", 150)
    ((shape, circle),) = shapes
    assert prepared.extent == (1600, 1200)
    assert (
        shape == (300, 400, 3) and 2 * circle.r >= 150 and abs(circle.r - 80) < 1
    )  # at 150 x 200 the disc would be 80 pixels wide
    assert prepared.reason == "" and prepared.image.shape == (150, 150, 3)


def broken(tmp_path):
    whole = tmp_path / "whole.jpg"
    disc(400, 300, 120).save(whole)
    data = whole.read_bytes()
    gif = tmp_path / "x.gif"
    disc().save(gif)
    bomb = struct.pack(">IIBBBBB", 65500, 65500, 8, 2, 0, 0, 0)
    jpeg_bomb = data.replace(struct.pack(">HH", 300, 400), struct.pack(">HH", 65500, 65500), 1)
    return {
        "empty": (b"", "empty"),
        "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git-LFS"),
        "text": (b"hello", "not a JPEG"),
        "gif": (gif.read_bytes(), "not a JPEG"),
        "half": (data[: len(data) // 2], "truncated"),
        "png bomb": (png(65500, 65500, 8, 2, b"\0"), "pixels"),
        "png below Pillow's limit": (png(12000, 12000, 8, 2, b"\0"), "pixels"),
        "jpeg bomb": (jpeg_bomb, "pixels"),
        "torn png": (png(100, 100, 8, 2, zlib.compress(b"\0" * 50)), "broken"),
        "header only": (b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + bomb[:5], "broken"),
    }  # fmt: skip


def test_broken_files_are_named_not_raised(tmp_path):
    for name, (data, word) in broken(tmp_path).items():
        (tmp_path / "file").write_bytes(data)
        start = time.monotonic()
        with pytest.raises(DataError, match=word):
            decode(tmp_path / "file")
        assert word in photograph(tmp_path / "file", "SIM_APTOS", 32).reason, name
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
            prepared = photograph(tmp_path / "bad", "SIM_APTOS", 16)
            assert prepared.reason or prepared.image.shape == (16, 16, 3)


def test_manifest_store_and_rejected_list_agree(tmp_path, capsys):
    images = layout(tmp_path / "raw")
    images[1].write_bytes(b"")
    Image.new("RGB", (100, 100), (20, 60, 200)).save(images[6])
    manifest, store, rejected = run(tmp_path / "raw", tmp_path / "out")
    assert (
        capsys.readouterr().out
        == "SIM_APTOS: 8 photographs prepared, 2 rejected, 0 without a disc\n"
    )
    table = read_manifest(manifest)
    packed = open_store(store, table)
    assert list(table.columns) == list(DTYPES) and packed.shape == (8, 32, 32, 3)
    kept = [path for number, path in enumerate(images) if number not in (1, 6)]
    assert table["image"].tolist() == [
        path.relative_to(tmp_path / "raw/images").as_posix() for path in kept
    ]
    assert (
        table["row"].tolist() == list(range(8))
        and table["split"].tolist() == ["train"] * 4 + ["val"] * 4
    )
    assert table["sha256"].tolist() == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in kept
    ]
    assert table["phash"].str.fullmatch("[0-9a-f]{16}").all() and (table["flag"] == "").all()
    assert {name: str(table[name].dtype) for name in ("row", "grade", "cx", "h")} == {
        "row": "int32",
        "grade": "int8",
        "cx": "float32",
        "h": "float32",
    }
    assert table.loc[0, ["patient", "eye", "camera"]].tolist() == ["train000", "left", ""]
    assert table["width"].eq(160).all() and table["height"].eq(120).all()
    for row, path in enumerate(kept):
        assert (packed[row] == photograph(path, "SIM_APTOS", 32).image).all()
        outside = ~fundus.mask(table.loc[[row], ["cx", "cy", "r", "w", "h"]].to_numpy(), 32)[
            0, 0
        ].numpy()
        assert (packed[row][outside] == 0).all() and packed[row].any()
    with open(rejected, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["grade"], row["split"]) for row in rows] == [("1", "train"), ("1", "val")]
    assert (
        rows[0]["image"].endswith("train001_right.png")
        and "empty" in rows[0]["reason"]
        and "not a fundus" in rows[1]["reason"]
    )


def test_one_and_three_processes_write_the_same_bytes(tmp_path):
    images = layout(tmp_path / "raw", 50)
    images[7].write_bytes(b"")
    images[60].write_bytes(b"no image")
    one = [path.read_bytes() for path in run(tmp_path / "raw", tmp_path / "one", processes=1)]
    three = [path.read_bytes() for path in run(tmp_path / "raw", tmp_path / "three", processes=3)]
    again = [path.read_bytes() for path in run(tmp_path / "raw", tmp_path / "three", processes=2)]
    assert one == three == again
    assert len(np.load(tmp_path / "one/SIM_APTOS.npy")) == 98


def test_nothing_half_written_is_left_by_an_error(tmp_path):
    images = layout(tmp_path / "raw")
    files = run(tmp_path / "raw", tmp_path / "out")
    before = [path.read_bytes() for path in files]
    for path in images:
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of 10 photographs could be used"):
        run(tmp_path / "raw", tmp_path / "out")
    assert [path.read_bytes() for path in files] == before and len(
        list((tmp_path / "out").iterdir())
    ) == 3
    with pytest.raises(DataError, match="APTOS is not complete"):
        (tmp_path / "raw2").mkdir()
        layout(tmp_path / "raw2/x", domain="APTOS")
        run(tmp_path / "raw2/x", tmp_path / "out2", domain="APTOS", complete=True)
    assert not (tmp_path / "out2").exists()


def test_a_kill_leaves_no_file_under_its_final_name(tmp_path):
    layout(tmp_path / "raw", 150)
    code = (
        "from pathlib import Path; from clipdr.data.preprocessing.prepare import prepare; o = Path('out');"
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
    assert process.returncode == -signal.SIGKILL and part.exists()
    assert not [path for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")]
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["m.csv", "r.csv", "s.npy"]


def test_a_store_that_does_not_fit_its_manifest_is_refused(tmp_path):
    layout(tmp_path / "raw")
    manifest, store, _ = run(tmp_path / "raw", tmp_path / "out")
    table = read_manifest(manifest)
    with pytest.raises(DataError, match="10 entries for 9 rows"):
        open_store(store, table.iloc[:9])
    with pytest.raises(DataError, match=r"no .*none\.npy"):
        open_store(tmp_path / "none.npy", table)
    with pytest.raises(DataError, match="no manifest"):
        read_manifest(tmp_path / "none.csv")
    store.write_bytes(store.read_bytes()[:-1])
    with pytest.raises(DataError, match="not a whole array"):
        open_store(store, table)
    np.save(store, np.zeros((10, 8, 9, 3), np.uint8))
    with pytest.raises(DataError, match="is not"):
        open_store(store, table)
    pd.DataFrame({"image": ["a"]}).to_csv(manifest, index=False)
    with pytest.raises(DataError, match="prepare"):
        read_manifest(manifest)
    table["grade"] = "x"
    table.to_csv(manifest, index=False)
    with pytest.raises(DataError, match="not a manifest"):
        read_manifest(manifest)


UGLY = {
    "huge_4752x3168.jpeg": "", "dark_4752x3168.jpeg": "", "huge_aptos_original.png": "", "rgba_drive.tif": "", "gray_fundus.jpg": "",
    "overlay_contour_idrid.jpg": "", "white_background_deepdrid.jpg": "text", "cmyk_derived.jpg": "", "exif_orientation6_derived.jpg": "",
    "cropped_patch_derived.jpg": "no_disc",
    "lfs_pointer_not_an_image.png": "git-LFS", "zero_bytes_derived.jpg": "empty", "truncated_derived.jpg": "truncated",
    "palette_mask.gif": "not a JPEG", "binary_mask_1bit.tif": "not a fundus", "nonfundus_chart_rgba.png": "not a fundus",
    "nonfundus_natural.jpg": "not a fundus", "nonfundus_chest_xray_L.png": "not a fundus", "montage_rgba_fgadr.png": "not a fundus",
}  # fmt: skip


@pytest.mark.realdata
@real
@pytest.mark.parametrize("name", UGLY)
@pytest.mark.parametrize("size", [96, 512])
def test_every_ugly_file_is_handled(name, size):
    for domain in ("DEEPDR", "APTOS") if name.startswith("white") else ("APTOS",):
        prepared = photograph(REALDATA / "ugly" / name, domain, size)
        if UGLY[name] in ("", "no_disc", "text"):
            assert (prepared.reason, prepared.flag) == (
                "",
                UGLY[name],
            ) and prepared.image.shape == (size, size, 3)
        else:
            assert UGLY[name] in prepared.reason and prepared.image is None


@pytest.mark.realdata
@real
def test_no_real_photograph_is_rejected(tmp_path):
    files = [tmp_path / name for name in ("m.csv", "s.npy", "r.csv")]
    for domain in ("APTOS", "IDRID", "EYEPACS", "MESSIDOR", "RLDR"):
        prepare(domain, REALDATA / "gdrbench", *files, 64, 2)
        assert len(pd.read_csv(files[2])) == 0
        flagged = (read_manifest(files[0])["flag"] != "").sum()
        assert flagged == (
            238 if domain == "APTOS" else 0
        )  # 238 of 286 thumbnails were squeezed to a square before they reached us
