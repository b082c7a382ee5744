"""Burnt-in text is flagged, and only pixels leave a file."""

import io
import os

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageDraw, ImageFont, PngImagePlugin

from clipdr.data.domains import FOLDERS
from clipdr.data.manifest import read_manifest
from clipdr.data.preprocessing import fundus, prepare, text_detection
from clipdr.data.preprocessing.circle_detection import Circle
from clipdr.data.preprocessing.image_io import decode
from clipdr.data.synthetic.patients import eye
from clipdr.data.synthetic.renderer import render

SECRET = "Mueller-Lyer-1931"


def fundus_image(height=300, width=420, radius=140, background=2, stretch=1.0):
    y, x = np.mgrid[:height, :width] + 0.5
    distance = np.hypot((x - width / 2) * stretch, y - height / 2) / radius
    shade = (1 - 0.4 * distance**2)[:, :, None] * np.array([190, 100, 45])
    noise = np.random.default_rng(0).normal(0, 2, (height, width, 1))
    return Image.fromarray(
        (np.where((distance <= 1)[:, :, None], shade, background) + noise)
        .clip(0, 255)
        .astype(np.uint8)
    )


def write(image, words, position=(3, 3), size=11, fill=(220, 220, 220)):
    ImageDraw.Draw(image).text(position, words, font=ImageFont.load_default(size=size), fill=fill)
    return np.asarray(image)


def has_text(image):
    image = np.asarray(image)
    return text_detection.has_burnt_in_text(image, fundus.detect(image).circle)


@pytest.mark.parametrize("words", [SECRET, "12.03.1961", "ID 4711-08 L"])
@pytest.mark.parametrize("position", [(3, 3), (330, 3), (3, 285), (320, 285)])
@pytest.mark.parametrize(
    "colours", [(2, (220, 220, 220)), (2, (225, 40, 30)), (255, (30, 30, 30)), (255, (220, 40, 40))]
)
def test_text_beside_the_disc_is_detected(words, position, colours):
    background, fill = colours
    image = fundus_image(background=background)
    assert not has_text(image)
    assert has_text(write(image, words, position, fill=fill))


def test_text_is_detected_in_large_small_and_squeezed_images():
    assert has_text(write(fundus_image(2100, 2940, 980), SECRET, (20, 20), 60))
    assert has_text(write(fundus_image(150, 210, 70), "1961-03", (2, 1), 9))
    squeezed = fundus_image(300, 300, 110, stretch=0.75)
    assert fundus.detect(np.asarray(squeezed)).flag == "squeezed"
    assert not has_text(squeezed)
    assert has_text(write(squeezed, SECRET, (3, 3)))


def test_marks_that_are_no_text_are_not_flagged():
    notch = fundus_image()
    # The tooth of a camera's mask.
    ImageDraw.Draw(notch).rectangle((330, 60, 340, 70), fill=(120, 60, 30))
    assert not has_text(notch)
    side = write(fundus_image(), "L", (5, 5), 14)  # the side of the eye does not identify a patient
    assert not has_text(side)
    bars = fundus_image()
    ImageDraw.Draw(bars).rectangle((0, 0, 60, 8), fill=(200, 200, 200))
    assert not has_text(bars)
    assert not has_text(fundus_image(300, 300, 500))  # no background at all
    assert (
        text_detection.has_burnt_in_text(np.full((50, 50, 3), 120, np.uint8), Circle(25, 25, 20))
        is False
    )


def test_text_flag_is_in_the_manifest_and_in_the_summary(tmp_path, capsys):
    images = {"plain": fundus_image(), "text": Image.fromarray(write(fundus_image(), SECRET))}
    images["both"] = Image.fromarray(write(fundus_image(300, 300, 110, stretch=0.75), SECRET))
    manifest = prepared(tmp_path, {f"{name}.png": (image, {}) for name, image in images.items()})[0]
    assert dict(zip(manifest["image"].str.rpartition("/")[2], manifest["flag"], strict=True)) == {
        "plain.png": "",
        "text.png": "text",
        "both.png": "squeezed text",
    }
    assert (
        "3 images prepared, 0 rejected, 1 without a disc, 2 with burnt-in text"
        in capsys.readouterr().out
    )


def prepared(root, images, domain="SIM_APTOS"):
    """Prepare {file name: (image, options of save)}; return the manifest and all bytes written.

    The last image is in validation.
    """
    (root / "splits").mkdir()
    (root / f"images/{domain}/{FOLDERS[0]}").mkdir(parents=True)
    lines = []
    for name, (image, options) in images.items():
        image.save(root / f"images/{domain}/{FOLDERS[0]}/{name}", **options)
        lines.append(f"{domain}/{FOLDERS[0]}/{name} 0\n")
    (root / f"splits/{domain}_train.txt").write_text("".join(lines[:-1]))
    (root / f"splits/{domain}_crossval.txt").write_text(lines[-1])
    out = root / "out"
    prepare.prepare(domain, root, out / "m.csv", out / "s.npy", out / "r.csv", 96, 1)
    return read_manifest(out / "m.csv"), b"".join(
        path.read_bytes() for path in sorted(out.iterdir())
    )


def test_metadata_profiles_and_thumbnails_are_not_stored(tmp_path):
    thumbnail = io.BytesIO()
    Image.new("RGB", (64, 48), (17, 34, 51)).save(thumbnail, "JPEG")
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = exif[ExifTags.Base.Artist] = SECRET
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = SECRET.encode()
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAreaInformation] = SECRET.encode()
    exif.get_ifd(ExifTags.IFD.MakerNote)
    xmp = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{SECRET}</x:xmpmeta>".encode()
    info = PngImagePlugin.PngInfo()
    info.add_text("Patient", SECRET)
    info.add_text("Zipped", SECRET, zip=True)
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    profile = b"acsp" + SECRET.encode() * 8
    jpeg = {
        "exif": exif.tobytes() + thumbnail.getvalue(),
        "xmp": xmp,
        "comment": SECRET,
        "icc_profile": profile,
    }
    images = {
        "a.jpg": (fundus_image(), jpeg),
        "b.png": (fundus_image(), {"pnginfo": info, "exif": exif, "icc_profile": profile}),
        "c.tif": (fundus_image(), {"exif": exif, "description": SECRET}),
    }
    manifest, written = prepared(tmp_path, images)
    raw = b"".join(path.read_bytes() for path in (tmp_path / "images").rglob("*.*"))
    needles = {
        SECRET.encode(),
        SECRET.encode("utf-16-le"),
        thumbnail.getvalue()[20:80],
        b"xmpmeta",
        b"Exif\0\0",
        b"ICC_PROFILE",
    }
    assert raw.count(SECRET.encode()) >= 10
    assert thumbnail.getvalue()[20:80] in raw
    assert len(manifest) == 3
    assert not [needle for needle in needles if needle in written]
    plain = prepare.prepare_image(save(tmp_path, fundus_image()), "SIM_APTOS", 96)
    stored = np.load(tmp_path / "out/s.npy")
    assert (stored[1] == plain.image).all()  # only the pixels matter


def save(folder, image):
    image.save(folder / "plain.png")
    return folder / "plain.png"


def test_red_text_of_deepdrid_is_removed_and_flagged(tmp_path):
    flagged = 0
    for number in range(1, 13):
        # Large enough for legible letters.
        image = render(eye("SIM_DEEPDR", number, "left", 0, 0), 480)[0]
        path = tmp_path / f"{number}.jpg"
        Image.fromarray(image).save(path, quality=90)
        if fundus.has_red_text(decode(path), "DEEPDR"):
            flagged += 1
            assert "text" in prepare.prepare_image(path, "DEEPDR", 256).flag.split()
            assert not fundus.has_red_text(fundus.clean(decode(path), "DEEPDR"), "DEEPDR")
        assert not fundus.has_red_text(decode(path), "APTOS")
    assert flagged >= 5  # four of five images have text


@pytest.mark.realdata
def test_real_images_give_no_false_alarm_and_planted_text_is_detected(realdata):
    paths = sorted(
        path
        for path in (realdata / "gdrbench/images").rglob("*.*")
        if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    assert len(paths) == 1119
    alarms, planted = [], []
    for path in paths[:: 1 if os.environ.get("CLIPDR_ALL") else 6]:
        image = decode(path)
        alarms.append(has_text(image))
        height = image.shape[0]
        size = max(9, round(0.04 * height))
        if image[: size + 6, : 6 * size].max() < 40:  # a dark corner to write on
            planted.append(has_text(write(Image.fromarray(image), "4711 1961", (3, 2), size)))
    assert sum(alarms) == 0
    assert len(planted) >= 40
    assert np.mean(planted) > 0.95
