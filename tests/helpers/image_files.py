"""Small image files for the tests of decoding and preparation."""

import struct
import zlib

import numpy as np
from PIL import Image

from clipdr.data.domains import FOLDERS
from clipdr.data.preprocessing.image_io import decode
from clipdr.data.preprocessing.prepare import prepare


def disc(width=160, height=120, radius=50, shade=1.0):
    """A small Pillow image that is accepted as a fundus image."""
    y, x = np.mgrid[:height, :width] + 0.5
    distance = np.hypot(x - width / 2, y - height / 2) / radius
    colour = (shade * (1 - 0.4 * distance**2))[:, :, None] * np.array([190, 100, 45])
    return Image.fromarray(
        np.where((distance <= 1)[:, :, None], colour, 3).clip(0, 255).astype(np.uint8)
    )


def save(image, path, **options):
    """Save an image and decode the file."""
    image.save(path, **options)
    return decode(path)


def png(width, height, bits, kind, body):
    """Bytes of a PNG file with this header and this compressed body."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def broken(folder):
    """{name: (content of a broken file, word of the error)}."""
    whole = folder / "whole.jpg"
    disc(400, 300, 120).save(whole)
    data = whole.read_bytes()
    gif = folder / "x.gif"
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
    }


def layout(root, count=5, domain="SIM_APTOS"):
    """Write `count` images per split in GDRBench's layout, and return their paths."""
    (root / "splits").mkdir(parents=True)
    images = []
    for split, word in (("train", "train"), ("val", "crossval")):
        lines = []
        for number in range(count):
            grade = number % 5
            name = f"{split}{number:03d}_{('left', 'right')[number % 2]}.png"
            image = f"{domain}/{FOLDERS[grade]}/{name}"
            path = root / "images" / image
            path.parent.mkdir(parents=True, exist_ok=True)
            disc(radius=40 + number % 10, shade=0.6 + 0.02 * (number % 20)).save(path)
            lines.append(f"{image} {grade}\n")
            images.append(path)
        (root / "splits" / f"{domain}_{word}.txt").write_text("".join(lines))
    return images


def run(root, out, size=32, processes=1, domain="SIM_APTOS", **options):
    """Prepare a domain and return the paths of manifest, store and rejected list."""
    files = [out / f"{domain}.csv", out / f"{domain}.npy", out / "rejected.csv"]
    prepare(domain, root, *files, size, processes, **options)
    return files
