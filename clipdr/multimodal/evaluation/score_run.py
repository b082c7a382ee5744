"""What is scored from a model folder: retrieval, both scales, controls and canaries, transfer. Predictions of both scales go to
{results}/runs/brset_{scale}/{method}/{held_out}/{seed}/ in the common format, so that scores, tables and MLflow serve them unchanged."""

import time
from itertools import product
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from clipdr.artifacts.files import as_csv, as_json, replacing, write_text
from clipdr.evaluation import scoring
from clipdr.multimodal import loop
from clipdr.multimodal.data import eye_table, packing
from clipdr.multimodal.data.loader import Visits
from clipdr.multimodal.evaluation import (
    baselines,
    grading,
    leaky_protocol,
    retrieval,
    sanity_checks,
)
from clipdr.multimodal.fusion import SCALES
from clipdr.multimodal.run import load
from clipdr.training.distributed import place
from clipdr.training.provenance import provenance

GREY, DARK = (
    12,
    20,
)  # of 255: mean difference of the channels below which a photograph is near-grey; background


class Fitted(torch.nn.Module):
    """Stands for a baseline without a network where a provenance is written."""

    chosen: ClassVar = {}


def retrieve(folder, data, resamples=2000, device="auto"):
    """retrieval.csv and .json of every honest mode on the whole test split, examples.json; of a leaky model leaky.csv and .json instead."""
    model, visits, known, device = load(folder, data, "retrieval", device)
    about = {
        "model": Path(folder).parent.name,
        "seed": known["seed"],
        "dataset": known["name"],
        "shuffle": model.setting.shuffle,
    }
    if model.setting.contrast == "fused":
        rows, stem = (
            [
                about | row
                for row in leaky_protocol.fused_paper(model, visits["test"], device, resamples)
            ],
            "leaky",
        )
    else:
        leaky_protocol.refuse_leaky(model, "retrieve")
        rows, found = retrieval.retrieval(model, visits["test"], device, resamples)
        rows, stem = [about | row for row in rows], "retrieval"
        shown = retrieval.examples(found, visits["test"])
        for one in shown:
            for item in one["items"]:
                item["row"] = int(visits["test"].eyes["row"].iloc[item["place"]])
        write_text(Path(folder) / "examples.json", as_json(shown))
    write_text(Path(folder) / f"{stem}.csv", as_csv(rows))
    write_text(Path(folder) / f"{stem}.json", as_json(rows))
    return rows


def write_run(results, found, manifest, eyes, resamples, settings, facts, history, state):
    """One run folder of the common layout: predictions, scores, draws, operating point, and further.csv. Returns the draws of the test."""
    first = found.iloc[0]
    folder = (
        Path(results)
        / "runs"
        / first["protocol"]
        / first["method"]
        / first["held_out"]
        / str(first["seed"])
    )
    scored = scoring.score(found, manifest, resamples, str(folder))
    key = {name: first[name] for name in ("protocol", "method", "held_out")} | {
        "seed": int(first["seed"])
    }
    write_text(folder / "settings.json", as_json(key | settings))
    write_text(folder / "history.csv", history)
    with replacing(folder / "model.safetensors") as path:
        save_file(state, path)
    with replacing(folder / "predictions.parquet") as path:
        found.to_parquet(path, index=False)
    write_text(folder / "provenance.json", as_json(facts))
    scoring.write(scored, folder)
    write_text(folder / "further.csv", as_csv(grading.further(found, eyes, resamples)))
    return scored.draws[f"source_val/{first['held_out']}"]


def classify(folder, data, results, held_out, resamples=2000, device="auto"):
    """Both scales of one model: run folders, curves.csv (a modality absent), attribution.csv; with rows read, shuffled_at_test too."""
    began = time.monotonic()
    model, visits, known, device = load(folder, data, "grading", device)
    leaky_protocol.refuse_leaky(model, "classify")
    name, seed = Path(folder).parent.name, known["seed"]
    if model.setting.shuffle == "rows":  # the control that has never seen a row of its own
        visits = {part: one.shuffled(seed) for part, one in visits.items()}
    history, state = (
        (Path(folder) / "history.csv").read_text(),
        load_file(Path(folder) / "grading.safetensors"),
    )
    for scale in scales(visits):
        manifest = grading.manifest(visits, scale, held_out)
        made = {name: grading.predictions(model, visits, scale, name, held_out, seed, device)}
        if model.setting.inputs != "none" and model.setting.shuffle == "none":
            other = {part: one.shuffled(seed) for part, one in visits.items()}
            method = f"{name}_shuffled_at_test"
            made[method] = grading.predictions(model, other, scale, method, held_out, seed, device)
        for found in made.values():
            facts = provenance(model, {}, device, began)
            write_run(
                results,
                found,
                manifest,
                visits["test"].eyes,
                resamples,
                {"model": known},
                facts,
                history,
                state,
            )
    write_text(Path(folder) / "curves.csv", as_csv(grading.curves(model, visits, seed, device)))
    write_text(
        Path(folder) / "attribution.csv", as_csv(grading.attribution(model, visits["test"], device))
    )


def scales(visits):
    """The scales that training, validation and test all have grades of; the other head was masked."""
    return [
        scale for scale in SCALES if all((one.grade[scale] >= 0).any() for one in visits.values())
    ]


def control(folder, data, results, held_out, resamples=2000, device="auto"):
    """Baselines of one model's split as run folders, canaries.json and .csv, missingness.json."""
    began = time.monotonic()
    model, visits, known, device = load(folder, data, "retrieval", device)
    seed, reported = known["seed"], {}
    for scale in scales(visits) if model.setting.contrast != "fused" else ():
        manifest = grading.manifest(visits, scale, held_out)
        found = baselines.baselines(visits, scale, seed)
        grade = visits["train"].grade[scale].numpy()
        share = torch.from_numpy(np.bincount(grade[grade >= 0], minlength=5).astype(np.float32))
        for name, logits in found.items():
            made = grading.frame(logits, visits, scale, name, held_out, seed)
            facts = provenance(Fitted(), {}, place("cpu"), began)
            settings = {"baseline": name, "inputs": model.setting.inputs}
            write_run(
                results,
                made,
                manifest,
                visits["test"].eyes,
                resamples,
                settings,
                facts,
                "step\n",
                {"training_counts": share},
            )
        grade = visits["test"].grade[scale].numpy()
        told = found["missingness"]["test"][grade >= 0]
        reported[scale] = {
            "auroc_any_retinopathy": baselines.any_retinopathy(told, grade[grade >= 0]),
            "n": int((grade >= 0).sum()),
        }
    rows = sanity_checks.run(model, visits["test"], seed, device)
    rows = [
        {"model": Path(folder).parent.name, "seed": seed, "leaky": model.setting.leaky} | row
        for row in rows
    ]
    write_text(Path(folder) / "missingness.json", as_json(reported))
    write_text(Path(folder) / "canaries.csv", as_csv(rows))
    write_text(Path(folder) / "canaries.json", as_json(rows))
    return rows


def transfer(folder, data, other, resamples=2000, device="auto"):
    """transfer_{other}.csv: `dual` and `rerank` of a trained model on the whole test split of another data set, no row, nothing tuned.

    A table without splits is taken whole. Narratives: findings (keywords), and the description where there is one. Where some photographs
    are near-grey (angiographies of DeepEyeNet), colour photographs are scored on their own too, and grey_{other}.csv lists the others.
    """
    model, visits, known, device = load(folder, data, "retrieval", device)
    leaky_protocol.refuse_leaky(model, "transfer")
    eyes, store = packing.open_pack(data, other)
    eyes = eyes[eyes["split"] == "test"] if (eyes["split"] == "test").any() else eyes
    grey = np.array([near_grey(store[row]) for row in eyes["row"]])
    write_text(Path(folder) / f"grey_{other}.csv", as_csv({"image": eyes["image"][grey]}))
    kinds = ("findings", "description") if (eyes["description"] != "").any() else ("findings",)
    galleries = {"all": eyes} | ({"colour": eyes[~grey]} if grey.any() and not grey.all() else {})
    rows = []
    for kind, (gallery, some) in product(kinds, galleries.items()):
        setting = model.setting.model_copy(update={"kind": kind, "inputs": "none"})
        there = packing_visits(some, store, setting, visits["train"])
        found = loop.embed(model, there, device)
        unknown = share_unknown(there)
        about = {
            "model": Path(folder).parent.name,
            "seed": known["seed"],
            "dataset": other,
            "gallery": gallery,
            "kind": kind,
            "unknown_words": unknown,
        }
        said = retrieval.transferred(model, there, found, device, resamples)
        rows += [about | row for row in said]
    write_text(Path(folder) / f"transfer_{other}.csv", as_csv(rows))
    return rows


def near_grey(photograph):
    """Whether the channels of a photograph hardly differ: an angiography. (S, S, 3) uint8"""
    lit = photograph[photograph.max(-1) > DARK].astype(np.int16)
    return bool(len(lit) == 0 or (lit.max(-1) - lit.min(-1)).mean() < GREY)


def packing_visits(eyes, store, setting, train_visits):
    """Visits of another data set under a trained model's tokenizer."""
    return Visits(
        eyes,
        store,
        setting,
        eye_table.constants(train_visits.eyes),
        train_visits.tokenizer,
        train_visits.grid,
    )


def share_unknown(visits):
    """Share of the words of some narratives that the small tokenizer does not know; NaN for another tokenizer."""
    words = [
        word
        for text in visits.texts(range(len(visits)))
        for word in getattr(visits.tokenizer, "words", lambda text: [])(text)
    ]
    known = getattr(visits.tokenizer, "ids", {})
    return float(np.mean([word not in known for word in words])) if words else float("nan")
