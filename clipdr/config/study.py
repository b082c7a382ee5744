"""config.yaml as a frozen, typed model, and the complete settings of one job; its files are those of clipdr.config.paths. Imports no torch.

Only the Snakefile reads config.yaml: it validates it here and hands every job its complete slice as JSON.
"""

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from clipdr import DataError
from clipdr.config.job import BACKBONES, Backbone, Image, Model, Training
from clipdr.config.paths import Grid
from clipdr.config.search_space import SPACES
from clipdr.data.domains import DOMAINS
from clipdr.methods import METHODS


class Synthetic(Model):
    patients: int = Field(ge=10, description="patients per synthetic domain, two eyes each")
    size: int = Field(ge=64, le=2048, description="pixels, nominal side of the photographs drawn")
    seed: int = Field(ge=0, description="another seed, other patients")


class Search(Model):
    trials: int = Field(5, ge=1, description="per method; the first is the study's own setting")
    held_out: str = Field(
        "", description="domain that the search sees nothing of; default: the first"
    )
    seed: int = Field(0, ge=0)


class Own(Model):
    table: str = Field(
        description="CSV of a data set of one's own: image,grade[,patient,eye,split,camera] (docs/own_data.md)"
    )


class Config(Grid, Model):
    raw: str = Field(
        description="folder with splits/DOMAIN_{train,crossval}.txt and photographs: DOMAIN/ as published, or images/DOMAIN/"
    )
    own: dict[str, Own] = Field(default_factory=dict, description="data sets of one's own, by name")
    tolerance: int = Field(
        0,
        ge=0,
        description="photographs per domain that may be missing, or graded otherwise by its own labels",
    )
    data: str = Field(description="folder of what `prepare` and `features` make")
    results: str = Field(description="folder of runs, scores, tables and figures")
    synthetic: Synthetic
    complete: bool = Field(
        False,
        description="stop unless every domain holds just the images of the official split files",
    )
    domains: list[str] = Field(min_length=2)
    targets: list[str] = Field(
        default_factory=list, description="further domains that esdg tests; nothing trains on them"
    )
    protocols: list[Literal["dg", "esdg", "lodo_crossval", "within"]] = Field(min_length=1)
    methods: list[str] = Field(min_length=1)
    variants: dict[str, dict] = Field(
        default_factory=dict,
        description="further methods by name: {method: X, and what differs from its options}",
    )
    seeds: list[int] = Field(min_length=1)
    allow_leaks: bool = Field(
        False,
        description="train although test photographs or patients are known; tables are marked LEAKY",
    )
    image: Image
    backbone: str
    backbones: dict[str, Backbone] = Field(
        default_factory=dict, description="further backbones, by name"
    )
    training: Training
    selections: list[Literal["source_val", "last", "loso", "oracle"]] = Field(
        ["source_val", "last"],
        description="rules of model selection; loso trains once more per source domain, oracle uses test grades",
    )
    search: Search = Field(Search(), description="of the rule `searched`")
    tuned: str = Field(
        "",
        description="folder of METHOD.json as `searched` writes them; what was chosen there wins over `options`",
    )
    options: dict[str, dict] = Field(default_factory=dict)
    reference: str = Field(
        "clip_dr",
        description="method that the others are compared with; no comparison where `methods` lacks it",
    )
    bootstrap: int = Field(ge=1, description="resamples of patients behind every interval")
    tables: list[str] = Field(description="names of clipdr.report.tables.benchmark.TABLES")
    figures: dict[str, list[str]] = Field(
        description="names of clipdr.report.figures.style.FIGURES, or cam, each with the methods it shows; []: all; null: not drawn"
    )
    gallery: int = Field(
        4,
        ge=0,
        description="worst errors per domain on the page; 0 leaves all photographs out of it",
    )
    pretrain: dict[str, dict] = Field(
        default_factory=dict,
        description="pre-training runs by name, for the rule `pretrained` (workflow/rules/pretrain.smk)",
    )
    multimodal: dict = Field(
        default_factory=dict,
        description="the multimodal study, for the rule `multimodal` (workflow/rules/multimodal.smk)",
    )
    gpu: Literal[0, 1] = Field(0, description="GPUs that a training job asks the scheduler for")

    @field_validator("figures", mode="before")
    @classmethod
    def leave_out(cls, figures):
        """A study can only add to the mapping of config.yaml; it takes a figure away by null."""
        return (
            {name: methods for name, methods in figures.items() if methods is not None}
            if isinstance(figures, dict)
            else figures
        )

    @model_validator(mode="after")
    def check_names(self):
        for domain in self.own:
            if domain in DOMAINS or not re.fullmatch("(?!SIM_)[A-Z][A-Z0-9_]*", domain):
                raise ValueError(
                    f"own: {domain!r}: use capitals, digits and _, begin with a letter but not with SIM_, and take a new name"
                )
        for domain in [*self.domains, *self.targets]:
            if domain not in DOMAINS and domain not in self.own:
                raise ValueError(
                    f"domains: {domain!r} is unknown; known are {', '.join([*DOMAINS, *self.own])}"
                )
        for key, values in (
            ("domains", [*self.domains, *self.targets]),
            *((key, getattr(self, key)) for key in ("protocols", "methods", "seeds", "selections")),
        ):
            if len(set(values)) < len(values):
                raise ValueError(f"{key}: {values} holds a value twice")
        self.check_methods()
        return self

    def check_methods(self):
        if self.search.held_out and self.search.held_out not in self.domains:
            raise ValueError(
                f"search: held_out: {self.search.held_out!r} is not one of the study's domains"
            )
        if "loso" in self.selections and len(self.domains) < 3:
            raise ValueError(
                "selections: loso leaves one source out and trains on the others: it needs three domains"
            )
        known = sorted(METHODS)
        for name, variant in self.variants.items():
            if name in known or not re.fullmatch("[a-z0-9_]+", name):
                raise ValueError(
                    f"variants: {name!r} must be a new name of small letters, digits and underscores"
                )
            if variant.get("method") not in known:
                raise ValueError(
                    f"variants: {name}: method: {variant.get('method')!r} is unknown; known are {', '.join(known)}"
                )
        for key, names in {
            "methods": self.methods,
            "options": self.options,
            "reference": [self.reference],
        }.items():
            for method in names:
                if method not in [*known, *self.variants]:
                    raise ValueError(
                        f"{key}: {method!r} is unknown; known are {', '.join([*known, *self.variants])}"
                    )
        for method in self.methods:
            self.settings(method)

    @cached_property
    def towers(self) -> dict[str, Backbone]:
        """All backbones by name. One that is used as a path (with a slash) is a folder of `clipdr pretrain export`."""
        layers = [{"backbone": self.backbone}, *self.options.values(), *self.variants.values()]
        paths = dict.fromkeys(
            layer["backbone"] for layer in layers if "/" in layer.get("backbone", "")
        )
        return (
            BACKBONES
            | self.backbones
            | {named(path): Backbone(image=f"folder/{path}") for path in paths}
        )

    @property
    def study_backbone(self) -> str:
        """Name of the study's backbone."""
        return named(self.backbone)

    def base(self, method: str) -> str:
        """The method itself, or the one that a variant is of."""
        return self.variants.get(method, {}).get("method", method)

    def module(self, method: str) -> str:
        """Module of a method's own code, below the package and without suffix."""
        return f"methods/{self.base(method)}"

    def chosen(self, method: str) -> dict:
        """The layer of options that the search chose for a method; none without `tuned`, or for a method that has no search space."""
        if not self.tuned or method not in SPACES:
            return {}
        path = Path(self.tuned) / f"{method}.json"
        if not path.is_file():
            raise ValueError(f"tuned: there is no {path}; run `snakemake searched` first")
        return json.loads(path.read_text())["chosen"]

    def searched(self) -> list[str]:
        """What the search writes: one file per method of the study that has a search space."""
        return [
            f"{self.results}/search/{method}.json" for method in self.methods if method in SPACES
        ]

    def settings(self, method: str, tuned: bool = True) -> dict:
        """Complete settings of one method: `training` and the layers of its options merged, its backbone, its own options.

        Layers, the later one wins: options.METHOD, what the search chose (tuned); of a variant also what it says, and options.VARIANT.
        """
        options, base = {}, self.base(method)
        found = self.chosen(base) if tuned else {}
        own = self.options.get(method, {}) if method in self.variants else {}
        for layer in (self.options.get(base, {}), found, self.variants.get(method, {}), own):
            options |= layer | {"training": options.get("training", {}) | layer.get("training", {})}
        variant = {"variant_of": options.pop("method")} if "method" in options else {}
        name = named(options.pop("backbone", self.backbone))
        if name not in self.towers:
            raise ValueError(f"backbone: {name!r} is unknown; known are {', '.join(self.towers)}")
        training = Training(**(self.training.model_dump() | options.pop("training", {})))
        return variant | {
            "backbone": {"name": name, **self.towers[name].model_dump()},
            "frozen": bool(options.pop("frozen", False)),
            "image": {"size": self.image.size, "input": self.image.side},
            "training": training.model_dump(),
            "options": options,
        }

    def job(self, method: str, tuned: bool = True) -> str:
        """The settings of one method as one line of sorted JSON, for a command line."""
        return json.dumps(self.settings(method, tuned), sort_keys=True)


def named(backbone: str) -> str:
    """A backbone's name; of a path, a name made of it that can stand in a file name."""
    return re.sub("[^a-z0-9]+", "_", backbone.lower()).strip("_") if "/" in backbone else backbone


def read_study(mapping: dict) -> Config:
    """Config of a mapping, as Snakemake merges it from config.yaml, --configfile and --config.

    Raises DataError: one line per wrong key, naming it.
    """
    try:
        config = Config(**mapping)
    except ValidationError as error:
        lines = [
            f"config: {'.'.join(map(str, e['loc']))}: {e['msg']}".replace(
                "config: : Value error, ", "config: "
            )
            for e in error.errors()
        ]
        raise DataError("\n".join(lines)) from None
    for domain in config.everything():
        config.lists(domain)
    return config
