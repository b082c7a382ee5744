"""Image files as arrays: decoded within limits, upright, RGB.

Input is a file or its bytes (JPEG, PNG or TIFF); output is (H, W, 3) uint8.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from clipdr import DataError

FORMATS = ("JPEG", "PNG", "TIFF")
# Larger images are refused from their header; the largest fundus cameras stay below half of it.
MAX_PIXELS = 100_000_000


def decode(path: str | Path, size_hint: int | None = None) -> np.ndarray:
    """Decode an image file.

    EXIF orientation is applied. An alpha channel is dropped and its colours stay. CMYK, palette,
    1-bit and grey images become RGB, and samples of more than 8 bits are shifted down to 8. Of a
    TIFF, only the first page is read.

    Args:
        path: JPEG, PNG or TIFF file.
        size_hint: Pixels. A JPEG may be reduced by 2, 4 or 8 while it is decoded, as long as its
            shorter side stays at least this long. None decodes the full size.

    Returns:
        (H, W, 3) uint8 RGB, upright.

    Raises:
        DataError: The file is unreadable, empty, truncated, of another format, or larger than
            MAX_PIXELS.
    """
    return decode_bytes(Path(path).read_bytes(), size_hint)[0]


def decode_bytes(data: bytes, size_hint: int | None) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode the bytes of an image file, as `decode` does.

    Args:
        data: Content of the file.
        size_hint: As in `decode`.

    Returns:
        (H, W, 3) uint8 RGB, and (width, height) of the upright image in the file. These are larger
        than the array where it was reduced.

    Raises:
        DataError: As in `decode`.
    """
    if not data:
        raise DataError("empty file (0 bytes)")
    if data.startswith(b"version https://git-lfs"):
        raise DataError("a git-LFS pointer instead of an image: run `git lfs pull`")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; sizes are checked below
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            raise DataError("not a JPEG, PNG or TIFF image") from None
        except Image.DecompressionBombError:
            raise DataError(f"more than {MAX_PIXELS:,} pixels") from None
        except Exception as error:  # a broken header raises many kinds of errors
            raise DataError(f"broken image ({error})") from None
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise DataError(f"{width} x {height}: more than {MAX_PIXELS:,} pixels")
        try:
            if size_hint is not None:
                image.draft("RGB", (size_hint, size_hint))
            image.load()
            quarter_turn = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            extent = (height, width) if quarter_turn else (width, height)
            return _rgb(ImageOps.exif_transpose(image)), extent
        except MemoryError:
            raise
        except Exception as error:  # as does a broken body
            raise DataError(f"broken or truncated image ({error})") from None


def _rgb(image: Image.Image) -> np.ndarray:
    """Convert a Pillow image of any mode to (H, W, 3) uint8."""
    if image.mode == "F":
        raise ValueError("floating-point samples have no known range")
    if image.mode.startswith("I"):
        samples = np.asarray(image).clip(0)
        # 12-bit samples in 16 bits keep their contrast.
        shift = max(int(samples.max()).bit_length() - 8, 0)
        return np.repeat((samples >> shift).astype(np.uint8)[:, :, None], 3, axis=2)
    return np.asarray(image.convert("RGB"))
