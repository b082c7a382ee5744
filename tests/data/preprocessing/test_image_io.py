"""Decoding of image files: modes, orientation, reduced JPEGs."""

import zlib

import numpy as np
import pytest
from helpers.image_files import disc, png, save
from PIL import Image, ImageDraw

from clipdr.data.preprocessing.image_io import decode, decode_bytes


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
    assert (save(transparent, tmp_path / "alpha.png") == rgb).all()
    assert (save(transparent, tmp_path / "alpha.tif") == rgb).all()
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


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(tmp_path, suffix, orientation):
    upright = Image.new("RGB", (48, 32))
    ImageDraw.Draw(upright).rectangle((0, 0, 23, 15), fill=(250, 0, 0))  # red top left corner
    # Orientation -> transposition that stores the image in it.
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"x.{suffix}", exif=exif, **({"quality": 95} if suffix == "jpg" else {}))
    image = decode(tmp_path / f"x.{suffix}")
    assert image.shape == (32, 48, 3)
    assert image[8, 8, 0] > 200
    assert image[24, 8, 0] < 50
    assert image[8, 40, 0] < 50
    assert decode_bytes((tmp_path / f"x.{suffix}").read_bytes(), 8)[1] == (48, 32)


def test_jpeg_is_reduced_but_not_below_the_hint(tmp_path):
    disc(1600, 1200, 550).save(tmp_path / "big.jpg")
    assert decode(tmp_path / "big.jpg").shape == (1200, 1600, 3)
    assert decode(tmp_path / "big.jpg", 150).shape == (150, 200, 3)
    assert decode(tmp_path / "big.jpg", 151).shape == (300, 400, 3)
    assert decode(tmp_path / "big.jpg", 5000).shape == (1200, 1600, 3)
