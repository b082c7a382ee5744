"""HTML of the report: escaped templates, offline documents, images as data URIs."""

import base64
import hashlib
import io
import re
from html import unescape

import numpy as np
import pytest
from jinja2 import UndefinedError
from markupsafe import Markup
from PIL import Image

from clipdr.report import html
from clipdr.report.tables.views import Cell, View


def decoded(uri):
    """Image of a data URI."""
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_document_without_script_allows_none():
    text = html.document("A & B", Markup("<p>x</p>"))
    assert "<title>A &amp; B</title>" in text
    assert "<script" not in text
    assert "script-src" not in text
    assert "<p>x</p>" in text


def test_document_policy_names_the_hash_of_its_script():
    text = html.document("x", Markup(""), script=True)
    script = re.search("<script>(.*?)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in unescape(text)


def test_texts_of_a_table_are_escaped():
    view = View("<b>", ["<i>"], [[Cell("<script>", "<u>")]], ["<p class=x>"])
    text = html.render("table_page.html", view=view)
    assert not re.search("<(b|i|script|u|p class=x)>", text)
    assert "&lt;script&gt;" in text


def test_value_that_a_template_lacks_is_an_error():
    with pytest.raises(UndefinedError):
        html.render("table_page.html")


def test_numeric_columns_are_marked_and_sorted_by_number():
    view = View("Caption.", ["Name", "Value"], [[Cell("a"), Cell("1.5", number=1.5)]])
    text = html.render("table_page.html", view=view)
    assert '<td data-sort="1.5" class="number">1.5</td>' in " ".join(text.split()).replace(
        "> 1", ">1"
    ).replace("5 <", "5<")
    assert "<button" not in text


def test_thumbnail_keeps_the_aspect_ratio():
    uri = html.thumbnail_uri(np.zeros((100, 50, 3), np.uint8), 20)
    assert uri.startswith("data:image/jpeg;base64,")
    assert decoded(uri).size == (10, 20)


def test_file_uri_is_the_smaller_of_png_and_jpeg(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for name, pixels, kind in (("flat", np.zeros_like(noise), "png"), ("noise", noise, "jpeg")):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        uri = html.file_uri(tmp_path / f"{name}.png")
        assert uri.startswith(f"data:image/{kind};")
        assert decoded(uri).size == (64, 64)
