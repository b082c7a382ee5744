"""TODO"""

import io

import numpy as np
from PIL import Image

from clipdr import DataError
from clipdr.artifacts.run_folder import RunFolder, first_seed
from clipdr.data.manifest import open_store
from clipdr.evaluation import predictions, schema
from clipdr.evaluation.predictions import tested
from clipdr.report.page.images import uri

THUMBNAIL = 192  # pixels, largest side of a photograph in the gallery


ERROR_COLUMNS = ["selection", "split", "image", "grade", *schema.PROBABILITIES, "expected_grade"]


def errors(runs, manifests, store, count):
    """{protocol: {held-out domain: worst test photographs, as dicts}}, |expected grade - grade| from large to small, ties by name.

    runs  : of one method, of which the lowest seed is read;  manifests : {domain: manifest};  store : folder of the packed photographs
    count : per domain, 0 for none
    """
    found = {}
    for folder in first_seed([run.folder for run in runs]) if count else ():
        rows = tested(predictions.read(folder / "predictions.parquet", ERROR_COLUMNS))
        rows = rows.assign(error=(rows["expected_grade"] - rows["grade"]).abs()).sort_values(
            ["error", "image"], ascending=[False, True]
        )
        worst = [_error(row, manifests, store) for row in rows.head(count).to_dict("records")]
        run = RunFolder(folder)
        found.setdefault(run.protocol, {})[run.held_out] = worst
    return found


def _error(row, manifests, store):
    domain = row["image"].partition("/")[0]
    place = (
        manifests[domain].index[manifests[domain]["image"] == row["image"]]
        if domain in manifests
        else []
    )
    if len(place) != 1:
        raise DataError(
            f"{row['image']}: predicted, but not in the manifest of {domain}; train that run again"
        )
    image = Image.fromarray(
        np.asarray(open_store(store / f"{domain}.npy", manifests[domain])[place[0]])
    )
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    shares = [float(row[column]) for column in schema.PROBABILITIES]
    return {
        "image": row["image"],
        "source": uri("jpeg", buffer.getvalue()),
        "grade": int(row["grade"]),
        "predicted": int(np.argmax(shares)),
        "expected": float(row["expected_grade"]),
        "shares": shares,
    }
