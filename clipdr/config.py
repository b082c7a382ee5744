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
from clipdr.search import SPACES
from clipdr.settings import BACKBONES, HELD_OUT, Backbone, Image, Model, Training, folder_of

SEVERAL_SOURCES = ("dg", "lodo_crossval")  # protocols that train on more than one domain


class Synthetic(Model):
    patients: int = Field(ge=10, description="patients per synthetic domain, two eyes each")
    size: int = Field(ge=64, le=2048, description="pixels, nominal side of the photographs drawn")
    seed: int = Field(ge=0, description="another seed, other patients")


class Search(Model):
    trials: int = Field(5, ge=1, description="per method; the first is the study's own setting")
    held_out: str = Field("", description="domain that the search sees nothing of; default: the first")
    seed: int = Field(0, ge=0)


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
    targets: list[str] = Field(default_factory=list, description="further domains that esdg tests; nothing trains on them")
    protocols: list[Literal["dg", "esdg", "lodo_crossval", "within"]] = Field(min_length=1)
    methods: list[str] = Field(min_length=1)
    variants: dict[str, dict] = Field(
        default_factory=dict, description="further methods by name: {method: X, and what differs from its options}"
    )
    seeds: list[int] = Field(min_length=1)
    allow_leaks: bool = Field(False, description="train although test photographs or patients are known; tables are marked LEAKY")
    image: Image
    backbone: str
    backbones: dict[str, Backbone] = Field(default_factory=dict, description="further backbones, by name")
    training: Training
    selections: list[Literal["source_val", "last", "loso", "oracle"]] = Field(
        ["source_val", "last"], description="rules of model selection; loso trains once more per source domain, oracle uses test grades"
    )
    search: Search = Field(Search(), description="of the rule `searched`")
    tuned: str = Field("", description="folder of METHOD.json as `searched` writes them; what was chosen there wins over `options`")
    options: dict[str, dict] = Field(default_factory=dict)
    reference: str = Field("clip_dr", description="method that the others are compared with; no comparison where `methods` lacks it")
    bootstrap: int = Field(ge=1, description="resamples of patients behind every interval")
    tables: list[str] = Field(description="names of clipdr.tables.TABLES")
    figures: dict[str, list[str]] = Field(
        description="names of clipdr.figures.FIGURES, or cam, each with the methods it shows; []: all; null: not drawn"
    )
    gallery: int = Field(4, ge=0, description="worst errors per domain on the page; 0 leaves all photographs out of it")
    pretrain: dict[str, dict] = Field(
        default_factory=dict, description="pre-training runs by name, for the rule `pretrained` (workflow/rules/pretrain.smk)"
    )
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
        for domain in [*self.domains, *self.targets]:
            if domain not in DOMAINS and domain not in self.own:
                raise ValueError(f"domains: {domain!r} is unknown; known are {', '.join([*DOMAINS, *self.own])}")
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
            raise ValueError(f"search: held_out: {self.search.held_out!r} is not one of the study's domains")
        if "loso" in self.selections and len(self.domains) < 3:
            raise ValueError("selections: loso leaves one source out and trains on the others: it needs three domains")
        folder = Path(__file__).parent / "methods"
        known = sorted(path.stem for path in folder.glob("[a-z]*.py") if path.stem != "base")
        for name, variant in self.variants.items():
            if name in known or not re.fullmatch("[a-z0-9_]+", name):
                raise ValueError(f"variants: {name!r} must be a new name of small letters, digits and underscores")
            if variant.get("method") not in known:
                raise ValueError(f"variants: {name}: method: {variant.get('method')!r} is unknown; known are {', '.join(known)}")
        for key, names in {"methods": self.methods, "options": self.options, "reference": [self.reference]}.items():
            for method in names:
                if method not in [*known, *self.variants]:
                    raise ValueError(f"{key}: {method!r} is unknown; known are {', '.join([*known, *self.variants])}")
        for method in self.methods:
            self.settings(method)

    @cached_property
    def towers(self) -> dict[str, Backbone]:
        """All backbones by name. One that is used as a path (with a slash) is a folder of `python -m clipdr.pretrain export`."""
        layers = [{"backbone": self.backbone}, *self.options.values(), *self.variants.values()]
        paths = dict.fromkeys(layer["backbone"] for layer in layers if "/" in layer.get("backbone", ""))
        return BACKBONES | self.backbones | {named(path): Backbone(image=f"folder/{path}") for path in paths}

    @property
    def study_backbone(self) -> str:
        """Name of the study's backbone."""
        return named(self.backbone)

    def base(self, method: str) -> str:
        """The method itself, or the one that a variant is of."""
        return self.variants.get(method, {}).get("method", method)

    def code(self, method: str) -> list[str]:
        """Files of a method's own code: its module and, through any number of imports, the modules of this package that it reads."""
        package, found, todo = Path(__file__).parent, [], [f"methods/{self.base(method)}"]
        while todo:
            module = todo.pop(0)
            if module not in found and (package / f"{module}.py").is_file():
                found.append(module)
                text = (package / f"{module}.py").read_text()
                todo += [name.replace(".", "/") for name in re.findall(r"^ *from clipdr\.([\w.]+) import", text, re.M) if name != "methods"]
                names = re.findall(r"^ *from clipdr import ([\w, ]+)", text, re.M)
                todo += [name.strip() for line in names for name in line.split(",")]
        return [f"clipdr/{module}.py" for module in found]

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
        return [f"{self.results}/search/{method}.json" for method in self.methods if method in SPACES]

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

    def runs(self, name: str, methods: list[str] | None = None, protocol: str | None = None) -> list[str]:
        """Paths of the file `name` in every run folder of the grid ("" for the folders), in the order of the tables."""
        return [
            f"{self.results}/runs/{one}/{method}/{held_out}/{seed}/{name}".rstrip("/")
            for one in self.protocols
            if one == (protocol or one)
            for method in self.methods
            if method in (methods or self.methods)
            for held_out in self.held_out(one)
            for seed in self.seeds
        ]

    def pretraining(self, name: str, seed: int) -> str:
        """What a pre-training run changes of its preset, as one line of sorted JSON, for a command line."""
        return json.dumps(self.pretrain[name].get("settings", {}) | {"seed": seed}, sort_keys=True)

    def held_out(self, protocol: str) -> list[str]:
        """What the runs of a protocol hold out, as their folders are named."""
        return [HELD_OUT[protocol].format(domain) for domain in self.domains]

    def gates(self) -> list[str]:
        """What the gate says of every fold of the study."""
        folds = [(protocol, held_out) for protocol in self.protocols for held_out in self.held_out(protocol)]
        return [f"{self.results}/gate/{protocol}/{held_out}.json" for protocol, held_out in folds]

    def shown(self, name: str, figure: str) -> list[str]:
        """Paths of `name` in the run folders that a figure shows: its methods, under the study's first protocol."""
        return self.runs(name, self.figures[figure], self.protocols[0])

    def mapped(self, name: str) -> list[str]:
        """Paths of `name` in the runs whose activation maps are shown: the methods of figures.cam, first fold and first seed."""
        protocol, seed = self.protocols[0], self.seeds[0]
        held_out = self.held_out(protocol)[0]
        methods = self.figures.get("cam", [])
        return [f"{self.results}/runs/{protocol}/{method}/{held_out}/{seed}/{name}".rstrip("/") for method in methods]

    def drawn(self) -> list[str]:
        """The figures of the study: those of all methods, or of one that it runs (none can be taken out of config.yaml's)."""
        return [name for name, methods in self.figures.items() if not methods or set(methods) & set(self.methods)]

    def further(self, protocol: str) -> list[str]:
        """Rules of selection that want a run's checkpoints; loso only where a run has several sources."""
        several = protocol in SEVERAL_SOURCES
        return [rule for rule in self.selections if rule == "oracle" or (rule == "loso" and several)]

    def sources(self, held_out: str) -> list[str]:
        """The other domains of the study."""
        return [domain for domain in self.domains if domain != held_out]

    def inner(self, protocol: str, method: str, held_out: str, seed: str) -> list[str]:
        """The curves that leave-one-source-domain-out validation of a run reads, one per source; none where it is not asked for."""
        folder = f"{self.results}/inner/{protocol}/{method}/{held_out}/{seed}"
        return [f"{folder}/{left_out}.csv" for left_out in self.sources(held_out) if "loso" in self.further(protocol)]

    def everything(self) -> list[str]:
        """All domains that a job of the study reads."""
        return list(dict.fromkeys(domain for protocol in self.protocols for domain in self.listed(protocol)))

    def listed(self, protocol: str) -> list[str]:
        """The domains that a job of a protocol may read: those of the study, and under esdg those that are only tested."""
        return [*self.domains, *self.targets] if protocol == "esdg" else self.domains

    def manifests(self, protocol: str) -> list[str]:
        return [f"{self.data}/manifests/{domain}.csv" for domain in self.listed(protocol)]

    def synthetic_domains(self) -> list[str]:
        """The domains of the study that are drawn."""
        return [domain for domain in self.everything() if domain in DOMAINS and DOMAINS[domain].synthetic]

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
        if folder := folder_of(self.towers[backbone].image):
            return [f"{folder}/{name}" for name in ("visual.json", "visual.safetensors", "heads.safetensors")]
        weights = self.towers[backbone].weights
        return [weights] if weights.endswith((".safetensors", ".pt", ".pth", ".bin")) else []

    def inputs(self, method: str, protocol: str = "dg", without: str = "") -> list[str]:
        """Files that every run of a method reads: manifests, and the stores or, where the image tower is frozen, the feature caches.

        without : a domain of which nothing is read
        """
        settings = self.settings(method)
        name = settings["backbone"]["name"]
        domains = [domain for domain in self.listed(protocol) if domain != without]
        files = [f"{self.data}/manifests/{domain}.csv" for domain in domains] + self.weights(name)
        if not settings["frozen"]:
            return files + [f"{self.data}/store/{domain}.npy" for domain in domains]
        folder = f"{self.data}/features/{name}"
        return [*files, *(f"{folder}/{domain}.npy" for domain in domains), f"{folder}/prompts.npz"]


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
            f"config: {'.'.join(map(str, e['loc']))}: {e['msg']}".replace("config: : Value error, ", "config: ") for e in error.errors()
        ]
        raise DataError("\n".join(lines)) from None
    for domain in config.everything():
        config.lists(domain)
    return config
