"""What the page shows beside tables: figures, similarity matrices as numbers, the worst errors with their photographs, the data report.

Input: {results}/figures/ and {results}/data/, predictions of the runs, manifests and stores. Output: plain values for the template.
"""

import base64
from pathlib import Path
from typing import NamedTuple

from PIL import Image

VECTOR = 300 * 2**10  # bytes: a larger SVG is shown as PNG
PHOTOGRAPHS = ("cam",)  # figures that show some photographs, not numbers over all of them
UNCOUNTED = (
    *PHOTOGRAPHS,
    "embedding",
    "training",
)  # figures that say themselves what they are of: not of all test photographs
WORDS = {  # figure -> what it shows, with units
    "scores_by_domain": "Scores (%) on each held-out domain and their mean, with 95 % bootstrap intervals over patients.",
    "similarity": "Mean cosine of the test photographs of each true grade with the text of each grade, averaged over the held-out domains.",
    "similarity_by_domain": "Mean cosine of the test photographs of each true grade with the text of each grade, per held-out domain.",
    "differences": "Paired differences (points of 100) from the reference method on shared resamples of patients, with 95 % intervals.",
    "confusion": "Photographs by true grade (rows) and most probable grade (columns), in % of the row, over the held-out domains.",
    "reliability": "Share of photographs with grade >= k (%) against the predicted probability (%), before and after the temperature.",
    "roc": "ROC of referable DR (grade >= 2): sensitivity (%) against 1 - specificity (%), with the threshold frozen on source validation.",
    "training": "Loss and AUC (%) on source validation at every evaluation; the chosen checkpoint is marked.",
    "cam": "Grad-CAM of the logit of the true grade on the same photographs, one per grade, with the map of random weights as a check.",
    "embedding": "Image features of the frozen tower in two dimensions (t-SNE, no unit), by grade and by domain, and the grades' texts.",
}


class Figure(NamedTuple):
    """A figure of the page: data URI (None where the file is missing), pixels, alternative text, caption."""

    name: str
    source: str | None
    width: int
    height: int
    alt: str
    caption: str


def figure(folder, name, count):
    """A figure of `clipdr figure` -> Figure. count: how many photographs its numbers are of, in words"""
    said = WORDS.get(name, f"{name.replace('_', ' ').capitalize()}.")
    return picture(folder, name, said, said if name in UNCOUNTED else f"{said} {count}")


def picture(folder, name, alt, caption):
    """{name}.svg of a folder where it is there and small, else {name}.png, with its words -> Figure; without source if there is none."""
    png, svg = (Path(folder) / f"{name}{suffix}" for suffix in (".png", ".svg"))
    if not png.is_file():
        return Figure(name, None, 0, 0, alt, caption)
    with Image.open(png) as image:
        width, height = image.size
    vector = svg.is_file() and svg.stat().st_size <= VECTOR
    return Figure(
        name,
        uri("svg+xml", svg.read_bytes()) if vector else uri("png", png.read_bytes()),
        width,
        height,
        alt,
        caption,
    )


def uri(kind, content):
    """Bytes of a picture as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
