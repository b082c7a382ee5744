"""What the page shows beside tables: figures, similarity matrices as numbers, the worst errors with their photographs, the data report.

Input: {results}/figures/ and {results}/data/, predictions of the runs, manifests and stores. Output: plain values for the template.
"""

import base64
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from PIL import Image

from clipdr import GRADES, DataError, datapage, datareport, predictions
from clipdr.figures import first_seed, tested
from clipdr.manifest import open_store, read_manifest
from clipdr.printed import cell
from clipdr.similarities import COLUMNS, falling_rows, limits, mean, similarity_matrix, wrong_order

THUMBNAIL = 192  # pixels, largest side of a photograph in the gallery
VECTOR = 300 * 2**10  # bytes: a larger SVG is shown as PNG
PHOTOGRAPHS = ("cam",)  # figures that show some photographs, not numbers over all of them
UNCOUNTED = (*PHOTOGRAPHS, "embedding", "training")  # figures that say themselves what they are of: not of all test photographs
ERROR_COLUMNS = ["selection", "split", "image", "grade", *predictions.PROBABILITIES, "expected_grade"]
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
    return Figure(name, uri("svg+xml", svg.read_bytes()) if vector else uri("png", png.read_bytes()), width, height, alt, caption)


def uri(kind, content):
    """Bytes of a picture as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def by_protocol(runs):
    """{protocol: its runs}, in the order of the runs."""
    return {protocol: [run for run in runs if run.protocol == protocol] for protocol in dict.fromkeys(run.protocol for run in runs)}


def similarities(runs):
    """{protocol: similarity matrices} of every protocol that has any, as `matrices_of` gives them."""
    found = {protocol: matrices_of(part) for protocol, part in by_protocol(runs).items()}
    return {protocol: groups for protocol, groups in found.items() if groups}


def matrices_of(runs):
    """Similarity matrices of the methods with texts that were run on all held-out domains, the mean over domains first, lowest seed.

    runs    : of one protocol
    returns [{held_out, matrices: [{method, wrong, pairs, falling, rows: [{grade, photographs, cells: [{text, share, say, true}]}]}]}];
            share: 0..1 within the range of all matrices shown; [] where no method has texts
    """
    found, held = {}, list(dict.fromkeys(run.held_out for run in runs))
    for folder in first_seed([run.folder for run in runs]):
        rows = predictions.read(folder / "predictions.parquet", COLUMNS)
        matrix, (method, held_out) = similarity_matrix(rows), folder.parts[-3:-1]
        if matrix is not None:
            found.setdefault(method, {})[held_out] = matrix, np.bincount(tested(rows)["grade"], minlength=len(GRADES))
    found = {method: {name: parts[name] for name in held} for method, parts in found.items() if set(parts) == set(held)}
    if not found:
        return []
    title = f"mean of {len(held)} {'source' if runs[0].protocol == 'esdg' else 'held-out'} domains"
    for parts in found.values():
        parts[title] = mean({name: part[0] for name, part in parts.items()}), np.sum([part[1] for part in parts.values()], axis=0)
    ends = limits([part[0] for parts in found.values() for part in parts.values()])
    return [
        {"held_out": name, "matrices": [_matrix(method, name, *parts[name], ends) for method, parts in found.items()]}
        for name in [title, *held]
    ]


def _matrix(method, held_out, matrix, counts, ends):
    low, high = ends
    rows = []
    for grade, line in enumerate(matrix):
        cells = []
        for text, value in enumerate(line):
            printed = cell(value, 3).text
            say = f"{method}, {held_out}: true grade {grade} ({GRADES[grade]}), text of grade {text} ({GRADES[text]}): "
            say += f"mean cosine {printed}; n = {int(counts[grade]):,} photographs"
            share = 0.0 if np.isnan(value) or high == low else float((value - low) / (high - low))
            cells.append({"text": printed, "share": round(share, 3), "say": say, "true": grade == text})
        rows.append({"grade": grade, "photographs": int(counts[grade]), "cells": cells})
    (wrong, pairs), (falling, whole) = wrong_order(matrix), falling_rows(matrix)
    return {"method": method, "wrong": wrong, "pairs": pairs, "falling": falling, "whole": whole, "rows": rows}


def errors(runs, manifests, store, count):
    """{protocol: {held-out domain: worst test photographs, as dicts}}, |expected grade - grade| from large to small, ties by name.

    runs  : of one method, of which the lowest seed is read;  manifests : {domain: manifest};  store : folder of the packed photographs
    count : per domain, 0 for none
    """
    found = {}
    for folder in first_seed([run.folder for run in runs]) if count else ():
        rows = tested(predictions.read(folder / "predictions.parquet", ERROR_COLUMNS))
        rows = rows.assign(error=(rows["expected_grade"] - rows["grade"]).abs()).sort_values(["error", "image"], ascending=[False, True])
        worst = [_error(row, manifests, store) for row in rows.head(count).to_dict("records")]
        found.setdefault(folder.parts[-4], {})[folder.parts[-2]] = worst
    return found


def _error(row, manifests, store):
    domain = row["image"].partition("/")[0]
    place = manifests[domain].index[manifests[domain]["image"] == row["image"]] if domain in manifests else []
    if len(place) != 1:
        raise DataError(f"{row['image']}: predicted, but not in the manifest of {domain}; train that run again")
    image = Image.fromarray(np.asarray(open_store(store / f"{domain}.npy", manifests[domain])[place[0]]))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    shares = [float(row[column]) for column in predictions.PROBABILITIES]
    return {
        "image": row["image"],
        "source": uri("jpeg", buffer.getvalue()),
        "grade": int(row["grade"]),
        "predicted": int(np.argmax(shares)),
        "expected": float(row["expected_grade"]),
        "shares": shares,
    }


def data_report(folder, data, manifests, photographs):
    """The data report of `clipdr data_report` as a fragment, from its tables; None where it was not made.

    folder : {results}/data;  data : folder with rejected/;  manifests : {domain: manifest};  photographs : False leaves them out
    """
    names = ["counts.csv", "quality.csv", "quality.png", *(f"samples_{name}.png" for name in manifests)]
    if not all((folder / name).is_file() for name in names):
        return None
    quality = pd.read_csv(folder / "quality.csv", dtype={"domain": str})
    counted = pd.read_csv(folder / "counts.csv", dtype={"official": "Int64", "difference": "Int64"})
    parts = [
        datareport.Domain(name, manifest, None, rejected(data, name), quality[quality["domain"] == name])
        for name, manifest in manifests.items()
    ]
    table = datareport.count_table(counted)
    return Markup(datapage.fragment(table, [datareport.summary(part) for part in parts], folder, photographs))


def rejected(data, name):
    """The rejected photographs of a domain; DataError where the list is missing."""
    path = data / "rejected" / f"{name}.csv"
    if not path.is_file():
        raise DataError(f"{path}: missing; run `clipdr prepare` for this domain")
    return pd.read_csv(path, keep_default_na=False)


def read_data(data, domains):
    """{domain: manifest}."""
    return {name: read_manifest(data / "manifests" / f"{name}.csv") for name in domains}
