"""config.yaml as a frozen, typed model; the grid of runs; the complete settings of one job. Imports no torch.

Only the Snakefile reads config.yaml: it validates it here and hands every job its complete slice as JSON.
"""

import json
import re
import shlex
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from clipdr import DataError
from clipdr.domains import DOMAINS
from clipdr.settings import BACKBONES, Backbone, Image, Model, Training


class Synthetic(Model):
    patients: int = Field(ge=10, description="patients per synthetic domain, two eyes each")
    size: int = Field(ge=64, le=2048, description="pixels, nominal side of the photographs drawn")
    seed: int = Field(ge=0, description="another seed, other patients")


class Own(Model):
    table: str = Field(description="CSV of a data set of one's own: image,grade[,patient,eye,split,camera] (docs/own_data.md)")


class Config(Model):
    raw: str = Field(description="folder with splits/DOMAIN_{train,crossval}.txt and photographs: DOMAIN/ as published, or images/DOMAIN/")
    own: dict[str, Own] = Field(default_factory=dict, description="data sets of one's own, by name")
    tolerance: int = Field(0, ge=0, description="photographs per domain that may be missing, or graded otherwise by its own labels")
    data: str = Field(description="folder of what `prepare` and `features` make")
    results: str = Field(description="folder of runs, scores, tables and figures")
    synthetic: Synthetic
    complete: bool = Field(False, description="stop unless every domain holds just the images of the official split files")
    domains: list[str] = Field(min_length=2)
    protocols: list[Literal["dg"]] = Field(min_length=1)
    methods: list[str] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    allow_leaks: bool = Field(False, description="train although test photographs or patients are known; tables are marked LEAKY")
    image: Image
    backbone: str
    backbones: dict[str, Backbone] = Field(default_factory=dict, description="further backbones, by name")
    training: Training
    options: dict[str, dict] = Field(default_factory=dict)
    reference: str = Field("clip_dr", description="method that the others are compared with; no comparison where `methods` lacks it")
    bootstrap: int = Field(ge=1, description="resamples of patients behind every interval")
    tables: list[str] = Field(description="names of clipdr.tables.TABLES")
    figures: dict[str, list[str]] = Field(
        description="names of clipdr.figures.FIGURES, or cam, each with the methods it shows; []: all; null: not drawn"
    )
    gallery: int = Field(4, ge=0, description="worst errors per domain on the page; 0 leaves all photographs out of it")
    gpu: Literal[0, 1] = Field(0, description="GPUs that a training job asks the scheduler for")

    @field_validator("figures", mode="before")
    @classmethod
    def leave_out(cls, figures):
        """A study can only add to the mapping of config.yaml; it takes a figure away by null."""
        return {name: methods for name, methods in figures.items() if methods is not None} if isinstance(figures, dict) else figures

    @model_validator(mode="after")
    def check_names(self):
        for domain in self.own:
            if domain in DOMAINS or not re.fullmatch("(?!SIM_)[A-Z][A-Z0-9_]*", domain):
                raise ValueError(f"own: {domain!r}: use capitals, digits and _, begin with a letter but not with SIM_, and take a new name")
        for domain in self.domains:
            if domain not in DOMAINS and domain not in self.own:
                raise ValueError(f"domains: {domain!r} is unknown; known are {', '.join([*DOMAINS, *self.own])}")
        for key in ("domains", "protocols", "methods", "seeds"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ValueError(f"{key}: {values} holds a value twice")
        folder = Path(__file__).parent / "methods"
        known = sorted(path.stem for path in folder.glob("[a-z]*.py") if path.stem != "base")
        for key, names in {"methods": self.methods, "options": self.options, "reference": [self.reference]}.items():
            for method in names:
                if method not in known:
                    raise ValueError(f"{key}: {method!r} is unknown; known are {', '.join(known)}")
        for method in self.methods:
            self.settings(method)
        return self

    @cached_property
    def towers(self) -> dict[str, Backbone]:
        return BACKBONES | self.backbones

    def settings(self, method: str) -> dict:
        """Complete settings of one method: `training` and `options.METHOD.training` merged, its backbone, its own options."""
        options = dict(self.options.get(method, {}))
        name = options.pop("backbone", self.backbone)
        if name not in self.towers:
            raise ValueError(f"backbone: {name!r} is unknown; known are {', '.join(self.towers)}")
        training = Training(**(self.training.model_dump() | options.pop("training", {})))
        return {
            "backbone": {"name": name, **self.towers[name].model_dump()},
            "frozen": bool(options.pop("frozen", False)),
            "image": {"size": self.image.size, "input": self.image.side},
            "training": training.model_dump(),
            "options": options,
        }

    def job(self, method: str) -> str:
        """The settings of one method as one line of sorted JSON, for a command line."""
        return json.dumps(self.settings(method), sort_keys=True)

    def runs(self, name: str, methods: list[str] | None = None) -> list[str]:
        """Paths of the file `name` in every run folder of the grid ("" for the folders), in the order of the tables."""
        return [
            f"{self.results}/runs/{protocol}/{method}/{domain}/{seed}/{name}".rstrip("/")
            for protocol in self.protocols
            for method in self.methods
            if method in (methods or self.methods)
            for domain in self.domains
            for seed in self.seeds
        ]

    def synthetic_domains(self) -> list[str]:
        """The domains of the study that are drawn."""
        return [domain for domain in self.domains if domain in DOMAINS and DOMAINS[domain].synthetic]

    def lists(self, domain: str) -> list[str]:
        """The files that say which photographs a domain has: GDRBench's two split files, or the table of a data set of one's own.

        Raises DataError where they are missing and nothing can make them: synthetic domains are drawn, others are the user's.
        """
        if domain in self.own:
            table = self.own[domain].table
            if not Path(table).is_file():
                raise DataError(f"config: own.{domain}.table: there is no {table}; name the CSV of your photographs (docs/own_data.md)")
            return [table]
        files = [f"{self.raw}/splits/{domain}_{part}.txt" for part in ("train", "crossval")]
        for file in files:
            if not DOMAINS[domain].synthetic and not Path(file).is_file():
                raise DataError(
                    f"config: raw: there is no {file}; {self.raw} must hold GDRBench's splits/{domain}_{{train,crossval}}.txt and the "
                    f"photographs, in {domain}/ as published or in images/{domain}/ (another folder: --config raw=PATH)"
                )
        return files

    def prepare_options(self, domain: str) -> str:
        """What `prepare` of a domain depends on, as options of its command line."""
        options = f"--size {self.image.size} --tolerance {self.tolerance}" + (" --complete" if self.complete else "")
        return options + (f" --table {shlex.quote(self.own[domain].table)}" if domain in self.own else "")

    def tower(self, backbone: str) -> str:
        """One backbone as a line of sorted JSON, for a command line."""
        return json.dumps({"name": backbone, **self.towers[backbone].model_dump()}, sort_keys=True)

    def weights(self, backbone: str) -> list[str]:
        """The local files that a backbone's towers are read from."""
        weights = self.towers[backbone].weights
        return [weights] if weights.endswith((".safetensors", ".pt", ".pth", ".bin")) else []

    def inputs(self, method: str) -> list[str]:
        """Files that every run of a method reads: manifests, and the stores or, where the image tower is frozen, the feature caches."""
        settings = self.settings(method)
        name = settings["backbone"]["name"]
        files = [f"{self.data}/manifests/{domain}.csv" for domain in self.domains] + self.weights(name)
        if not settings["frozen"]:
            return files + [f"{self.data}/store/{domain}.npy" for domain in self.domains]
        folder = f"{self.data}/features/{name}"
        return [*files, *(f"{folder}/{domain}.npy" for domain in self.domains), f"{folder}/prompts.npz"]


def read_study(mapping: dict) -> Config:
    """Config of a mapping, as Snakemake merges it from config.yaml, --configfile and --config.

    Raises DataError: one line per wrong key, naming it.
    """
    try:
        config = Config(**mapping)
    except ValidationError as error:
        lines = [
            f"config: {'.'.join(map(str, e['loc']))}: {e['msg']}".replace("config: : Value error, ", "config: ") for e in error.errors()
        ]
        raise DataError("\n".join(lines)) from None
    for domain in config.domains:
        config.lists(domain)
    return config
