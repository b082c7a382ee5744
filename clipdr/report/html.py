"""HTML of the report: templates, the one style sheet, and images as data URIs.

The report of a study, the data report, the report of the multimodal system and the HTML files of
tables are all rendered here, from clipdr/report/templates/. Every text is escaped; a document makes
no request and runs no script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

TEMPLATES = Path(__file__).parent / "templates"
QUALITY = 85  # of a JPEG


def render(template: str, folder: Path | None = None, **content: Any) -> Markup:
    """Render a template.

    Args:
        template: File name of the template.
        folder: Further folder of templates, for a sister system; the shared ones can be imported
            there too.
        **content: Values by name. A value that the template uses but that is absent is an error.

    Returns:
        HTML in which every text is escaped, unless it is Markup.
    """
    folders = [TEMPLATES] if folder is None else [folder, TEMPLATES]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return Markup(environment.get_template(template).render(**content))


def document(title: str, body: Markup, *, script: bool = False) -> str:
    """Make a whole HTML file that opens offline.

    Args:
        title: Title of the window.
        body: Content of the body.
        script: Whether page.js is included.

    Returns:
        HTML. Its policy allows data URIs, its own style, and the one script whose hash it names.
    """
    code = _source("page.js") if script else ""
    policy = ["default-src 'none'", "img-src data:", "style-src 'unsafe-inline'"]
    if code:
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        policy.append(f"script-src 'sha256-{digest}'")
    policy += ["base-uri 'none'", "form-action 'none'"]
    text = render(
        "document.html",
        title=title,
        body=body,
        style=Markup(_source("page.css")),
        script=Markup(code),
        policy="; ".join(policy),
    )
    return str(text)


def data_uri(kind: str, content: bytes) -> str:
    """Encode an image file as a data URI.

    Args:
        kind: Media type after "image/", for example "png" or "svg+xml".
        content: Bytes of the file.
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def thumbnail_uri(pixels: np.ndarray, side: int) -> str:
    """Encode an image of a store as the data URI of a small JPEG.

    Args:
        pixels: Image (H, W, 3), uint8.
        side: Largest side of the result in pixels.
    """
    image = Image.fromarray(np.asarray(pixels))
    image.thumbnail((side, side))
    return data_uri("jpeg", _jpeg(image))


def file_uri(path: Path | str) -> str:
    """Encode a PNG file as a data URI: as JPEG or PNG, whichever is smaller."""
    with Image.open(path) as image:
        jpeg = _jpeg(image.convert("RGB"))
    png = Path(path).read_bytes()
    return data_uri("jpeg", jpeg) if len(jpeg) <= len(png) else data_uri("png", png)


def _jpeg(image: Image.Image) -> bytes:
    """Bytes of an image as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _source(name: str) -> str:
    """Text of a file of TEMPLATES."""
    return (TEMPLATES / name).read_text(encoding="utf-8")
