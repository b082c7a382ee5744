"""Deviations from the papers: docs/deviations.md as a fragment of the report."""

from __future__ import annotations

from pathlib import Path

from markdown_it import MarkdownIt
from markupsafe import Markup

REGION = (
    '<div class="wide" tabindex="0" role="region" aria-label="Table of deviations"><table>',
    "</table></div>",
)


def read(path: Path) -> Markup | None:
    """Render a Markdown file, None where it is missing or empty."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return rendered(text) if text else None


def rendered(text: str) -> Markup:
    """Render Markdown without its title, headings one level lower; raw HTML in it stays text."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    titles = [
        index
        for index, token in enumerate(tokens)
        if token.type == "heading_open" and token.tag == "h1"
    ]
    tokens = [
        token
        for index, token in enumerate(tokens)
        if not any(start <= index <= start + 2 for start in titles)
    ]
    for token in tokens:
        if token.type.startswith("heading"):
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
    html = markdown.renderer.render(tokens, markdown.options, {})
    return Markup(html.replace("<table>", REGION[0]).replace("</table>", REGION[1]))
