"""Keys of config.yaml and of workflow/studies/*.yaml, as a frozen, typed model; no torch."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from clipdr.config.job import Backbone, Image, Model, Training
from clipdr.data.domains import DOMAINS
from clipdr.methods import METHODS


class Synthetic(Model):
    """Simulated patients that `clipdr synthesize` renders."""

    patients: int = Field(ge=10, description="patients per synthetic domain, two eyes each")
    size: int = Field(ge=64, le=2048, description="nominal side of the images, in pixels")
    seed: int = Field(ge=0, description="seed of the simulated patients")


class Search(Model):
    """Budget of the hyper-parameter search."""

    trials: int = Field(
        default=5, ge=1, description="per method; the first is the study's own setting"
    )
    held_out: str = Field(
        default="", description="domain that the search never reads; default: the first"
    )
    seed: int = Field(default=0, ge=0)


class CustomDataset(Model):
    """A dataset of the user."""

    table: str = Field(
        description="CSV with the columns image, grade and optionally patient, eye, split, camera"
    )


class StudyFile(Model):
    """All keys of a study. `Study` adds what follows from them."""

    raw: str = Field(
        description="folder with splits/DOMAIN_{train,crossval}.txt and the images, in DOMAIN/ as "
        "published or in images/DOMAIN/"
    )
    own: dict[str, CustomDataset] = Field(
        default_factory=dict, description="custom datasets, by name"
    )
    tolerance: int = Field(
        default=0,
        ge=0,
        description="images per domain that may be missing, or differ from the dataset's labels",
    )
    data: str = Field(description="folder that `prepare` and `features` write to")
    results: str = Field(description="folder of runs, scores, tables and figures")
    synthetic: Synthetic
    complete: bool = Field(
        default=False,
        description="stop unless every domain holds exactly the images of the official split files",
    )
    domains: list[str] = Field(min_length=2)
    targets: list[str] = Field(
        default_factory=list, description="further domains that esdg tests; nothing trains on them"
    )
    protocols: list[Literal["dg", "esdg", "lodo_crossval", "within"]] = Field(min_length=1)
    methods: list[str] = Field(min_length=1)
    variants: dict[str, dict] = Field(
        default_factory=dict,
        description="further methods by name: {method: X, options that differ from X's}",
    )
    seeds: list[int] = Field(min_length=1)
    allow_leaks: bool = Field(
        default=False,
        description="train although test images or patients occur in training; tables say LEAKY",
    )
    image: Image
    backbone: str
    backbones: dict[str, Backbone] = Field(
        default_factory=dict, description="further backbones, by name"
    )
    training: Training
    selections: list[Literal["source_val", "last", "loso", "oracle"]] = Field(
        default=["source_val", "last"],
        description="rules of model selection; loso trains once more per source domain, oracle "
        "uses test grades",
    )
    search: Search = Field(default_factory=Search, description="of the rule `searched`")
    tuned: str = Field(
        default="",
        description="folder of METHOD.json as `searched` writes them; the options chosen there "
        "override `options`",
    )
    options: dict[str, dict] = Field(default_factory=dict, description="options per method")
    reference: str = Field(
        default="clip_dr",
        description="method that the others are compared with; no comparison if `methods` lacks it",
    )
    bootstrap: int = Field(ge=1, description="resamples of patients behind every interval")
    tables: list[str] = Field(description="names of tables (`clipdr.report.tables`)")
    figures: dict[str, list[str]] = Field(
        description="names of figures (`clipdr.report.figures`) or cam, each with its methods; "
        "[]: all methods, null: no figure"
    )
    gallery: int = Field(
        default=4,
        ge=0,
        description="worst errors per domain in the report; 0 leaves all images out of it",
    )
    pretrain: dict[str, dict] = Field(
        default_factory=dict,
        description="pre-training runs by name, for the rule `pretrained`",
    )
    multimodal: dict = Field(
        default_factory=dict, description="the multimodal study, for the rule `multimodal`"
    )
    gpu: Literal[0, 1] = Field(
        default=0, description="GPUs that a training job asks the scheduler for"
    )

    @field_validator("figures", mode="before")
    @classmethod
    def remove_null_figures(cls, figures: Any) -> Any:
        """Remove figures given as null, because a study cannot delete keys of config.yaml."""
        if not isinstance(figures, Mapping):
            return figures
        return {name: methods for name, methods in figures.items() if methods is not None}

    @model_validator(mode="after")
    def check_names(self) -> "StudyFile":
        """Refuse unknown names of domains and methods, and lists that hold a value twice."""
        self._check_domains()
        lists = {"domains": [*self.domains, *self.targets]}
        lists |= {
            key: getattr(self, key) for key in ("protocols", "methods", "seeds", "selections")
        }
        for key, values in lists.items():
            if len(set(values)) < len(values):
                raise ValueError(f"{key}: {values} holds a value twice. Remove the duplicate.")
        self._check_selection()
        self._check_methods()
        return self

    def _check_domains(self) -> None:
        """Check names of custom datasets, and that every domain is known."""
        for domain in self.own:
            if domain in DOMAINS or not re.fullmatch("(?!SIM_)[A-Z][A-Z0-9_]*", domain):
                raise ValueError(
                    f"own: {domain!r} is not a valid new name. Use capitals, digits and _, begin "
                    "with a letter but not with SIM_, and do not reuse a known name."
                )
        for domain in [*self.domains, *self.targets]:
            if domain not in DOMAINS and domain not in self.own:
                raise ValueError(
                    f"domains: {domain!r} is unknown. "
                    f"Known domains: {', '.join([*DOMAINS, *self.own])}."
                )

    def _check_selection(self) -> None:
        """Check that the search and the selection rules fit the domains."""
        if self.search.held_out and self.search.held_out not in self.domains:
            raise ValueError(
                f"search.held_out: {self.search.held_out!r} is not a domain of the study. "
                f"Choose one of {', '.join(self.domains)}."
            )
        if "loso" in self.selections and len(self.domains) < 3:
            raise ValueError(
                "selections: loso trains with one source domain left out, so it needs three "
                f"domains, not {len(self.domains)}. Add a domain or remove loso."
            )

    def _check_methods(self) -> None:
        """Check that every method and every variant's method is known."""
        known = sorted(METHODS)
        for name, variant in self.variants.items():
            if name in known or not re.fullmatch("[a-z0-9_]+", name):
                raise ValueError(
                    f"variants: {name!r} must be a new name of small letters, digits and "
                    "underscores. Rename it."
                )
            if variant.get("method") not in known:
                raise ValueError(
                    f"variants: {name}: method: {variant.get('method')!r} is unknown. "
                    f"Known methods: {', '.join(known)}."
                )
        names = {"methods": self.methods, "options": self.options, "reference": [self.reference]}
        for key, methods in names.items():
            for method in methods:
                if method not in [*known, *self.variants]:
                    raise ValueError(
                        f"{key}: {method!r} is unknown. "
                        f"Known methods: {', '.join([*known, *self.variants])}."
                    )
