"""Photographs as arrays: decoded within limits, upright, RGB. Input: a file or its bytes; output: (H, W, 3) uint8."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from clipdr import DataError

FORMATS = ("JPEG", "PNG", "TIFF")
MAX_PIXELS = 100_000_000  # a larger picture is refused from its header; the largest fundus cameras stay below half of it


def decode(path: Path, size_hint: int | None = None) -> np.ndarray:
    """A photograph as (H, W, 3) uint8 RGB, upright.

    EXIF orientation is applied, an alpha channel is dropped (its colours stay), CMYK, palette, 1-bit and grey pictures become RGB,
    samples of more than 8 bits are shifted down to 8. Only the first page of a TIFF is read.

    size_hint : pixels; a JPEG may come reduced (by 2, 4 or 8, while decoding), its shorter side at least this long. None: full size
    Raises DataError: unreadable, empty, truncated, not a JPEG, PNG or TIFF file, or more than MAX_PIXELS.
    """
    return decode_bytes(Path(path).read_bytes(), size_hint)[0]


def decode_bytes(data: bytes, size_hint: int | None) -> tuple[np.ndarray, tuple[int, int]]:
    """As `decode`, from a file's bytes; and width and height of the file's picture, upright: larger where the array was reduced."""
    if not data:
        raise DataError("empty file (0 bytes)")
    if data.startswith(b"version https://git-lfs"):
        raise DataError("a git-LFS pointer, not the photograph: fetch it with `git lfs pull`")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; sizes are checked below
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            raise DataError("not a JPEG, PNG or TIFF image") from None
        except Image.DecompressionBombError:
            raise DataError(f"more than {MAX_PIXELS:,} pixels") from None
        except Exception as error:  # a broken header raises many kinds of error
            raise DataError(f"broken image ({error})") from None
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise DataError(f"{width} x {height}: more than {MAX_PIXELS:,} pixels")
        try:
            if size_hint is not None:
                image.draft("RGB", (size_hint, size_hint))
            image.load()
            quarter_turn = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            return _rgb(ImageOps.exif_transpose(image)), (height, width) if quarter_turn else (
                width,
                height,
            )
        except MemoryError:
            raise
        except Exception as error:  # so does a broken body
            raise DataError(f"broken or truncated image ({error})") from None


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode == "F":
        raise ValueError("floating-point samples have no known range")
    if image.mode.startswith("I"):
        samples = np.asarray(image).clip(0)
        shift = max(
            int(samples.max()).bit_length() - 8, 0
        )  # 12-bit samples in 16 bits keep their contrast
        return np.repeat((samples >> shift).astype(np.uint8)[:, :, None], 3, axis=2)
    return np.asarray(image.convert("RGB"))
