"""A study: config.yaml, checked, with the complete settings of every job.

Only the Snakefile reads config.yaml. It checks the file here and passes each job its settings as
JSON. The paths of a study are those of `clipdr.config.paths`. Imports no torch.
"""

import json
import re
import shlex
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr, ValidationError, model_validator

from clipdr import DataError
from clipdr.config.job import BACKBONES, Backbone, Training
from clipdr.config.search_space import SPACES
from clipdr.config.study_file import StudyFile
from clipdr.data.domains import DOMAINS
from clipdr.data.protocols import HELD_OUT, SEVERAL_SOURCES


class Study(StudyFile):
    """A checked study, and the domains, methods and settings that follow from its keys."""

    # (method, with tuned options) -> settings as JSON: the workflow asks once per run
    _settings_json: dict[tuple[str, bool], str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def check_settings(self) -> "Study":
        """Refuse options that do not make complete settings, for every method of the study."""
        for method in self.methods:
            self.settings_json(method)
        return self

    # -- domains

    @cached_property
    def all_domains(self) -> list[str]:
        """All domains that any job of the study reads."""
        domains = [domain for name in self.protocols for domain in self.protocol_domains(name)]
        return list(dict.fromkeys(domains))

    @cached_property
    def synthetic_domains(self) -> list[str]:
        """The domains of the study that `clipdr synthesize` renders."""
        return [name for name in self.all_domains if name in DOMAINS and DOMAINS[name].synthetic]

    def protocol_domains(self, protocol: str) -> list[str]:
        """List the domains that a job of a protocol may read: under esdg also those only tested."""
        return [*self.domains, *self.targets] if protocol == "esdg" else self.domains

    def source_domains(self, held_out: str) -> list[str]:
        """List the domains of the study other than `held_out`."""
        return [domain for domain in self.domains if domain != held_out]

    def held_out_names(self, protocol: str) -> list[str]:
        """List what the runs of a protocol hold out, as their folders are named."""
        return [HELD_OUT[protocol].format(domain) for domain in self.domains]

    def image_lists(self, domain: str) -> list[str]:
        """List the files that name the images of a domain.

        Args:
            domain: Name of a domain of the study.

        Returns:
            The two split files of GDRBench, or the table of a custom dataset.

        Raises:
            DataError: If a file is missing that no rule makes. Only synthetic domains are made.
        """
        if domain in self.own:
            table = self.own[domain].table
            if not Path(table).is_file():
                raise DataError(
                    f"config: own.{domain}.table: there is no {table}. Name the CSV of your images."
                )
            return [table]
        files = [f"{self.raw}/splits/{domain}_{split}.txt" for split in ("train", "crossval")]
        for file in [] if DOMAINS[domain].synthetic else files:
            if not Path(file).is_file():
                raise DataError(
                    f"config: raw: there is no {file}. {self.raw!r} must hold GDRBench's "
                    f"splits/{domain}_{{train,crossval}}.txt and the images, in {domain}/ as "
                    f"published or in images/{domain}/. Set another folder with --config raw=PATH."
                )
        return files

    def prepare_options(self, domain: str) -> str:
        """Return the options of `clipdr prepare` for a domain, as text for a command line."""
        options = f"--size {self.image.size} --tolerance {self.tolerance}"
        if self.complete:
            options += " --complete"
        if domain in self.own:
            options += f" --table {shlex.quote(self.own[domain].table)}"
        return options

    # -- figures and rules of selection

    @cached_property
    def figure_names(self) -> list[str]:
        """Names of the figures that show all methods, or at least one method of the study."""
        return [
            name
            for name, methods in self.figures.items()
            if not methods or set(methods) & set(self.methods)
        ]

    def checkpoint_rules(self, protocol: str) -> list[str]:
        """List the rules of selection that need a run's checkpoints.

        Args:
            protocol: Name of a protocol. loso applies only where a run has several source domains.
        """
        several = protocol in SEVERAL_SOURCES
        return [
            rule for rule in self.selections if rule == "oracle" or (rule == "loso" and several)
        ]

    # -- backbones

    @cached_property
    def all_backbones(self) -> dict[str, Backbone]:
        """All backbones by name; a path (with a slash) is a folder of `clipdr pretrain export`."""
        layers = [{"backbone": self.backbone}, *self.options.values(), *self.variants.values()]
        paths = dict.fromkeys(
            layer["backbone"] for layer in layers if "/" in layer.get("backbone", "")
        )
        exported = {backbone_name(path): Backbone(image=f"folder/{path}") for path in paths}
        return BACKBONES | self.backbones | exported

    @property
    def default_backbone(self) -> str:
        """Name of the backbone of methods that set none."""
        return backbone_name(self.backbone)

    def backbone_json(self, backbone: str) -> str:
        """Return a backbone by name as one line of sorted JSON, for a command line."""
        return json.dumps(
            {"name": backbone, **self.all_backbones[backbone].model_dump()}, sort_keys=True
        )

    # -- methods and their settings

    def base_method(self, method: str) -> str:
        """Return the method that a variant changes, or the method itself."""
        return self.variants.get(method, {}).get("method", method)

    def method_module(self, method: str) -> str:
        """Return the module of a method's code, below the package and without suffix."""
        return f"methods/{self.base_method(method)}"

    def settings(self, method: str, tuned: bool = True) -> dict[str, Any]:
        """Merge the layers of a method's options into complete settings.

        The layers, from weak to strong: options.METHOD, the tuned options, the variant itself and
        options.VARIANT. The last two exist for a variant only.

        Args:
            method: Name of a method or variant.
            tuned: Whether options chosen by the search count.

        Returns:
            The keys backbone, frozen, image, training and options; for a variant also variant_of.

        Raises:
            ValueError: If the backbone is unknown, the training rules are invalid, or the tuned
                options are missing.
        """
        options: dict[str, Any] = {}
        base = self.base_method(method)
        chosen = self._tuned_options(base) if tuned else {}
        own = self.options.get(method, {}) if method in self.variants else {}
        for layer in (self.options.get(base, {}), chosen, self.variants.get(method, {}), own):
            options |= layer | {"training": options.get("training", {}) | layer.get("training", {})}
        variant = {"variant_of": options.pop("method")} if "method" in options else {}
        name = backbone_name(options.pop("backbone", self.backbone))
        if name not in self.all_backbones:
            raise ValueError(
                f"backbone: {name!r} is unknown. Known backbones: {', '.join(self.all_backbones)}."
            )
        training = Training(**(self.training.model_dump() | options.pop("training", {})))
        return variant | {
            "backbone": {"name": name, **self.all_backbones[name].model_dump()},
            "frozen": bool(options.pop("frozen", False)),
            "image": {"size": self.image.size, "input": self.image.side},
            "training": training.model_dump(),
            "options": options,
        }

    def settings_json(self, method: str, tuned: bool = True) -> str:
        """Return `settings` as one line of sorted JSON, for a command line."""
        key = method, tuned
        if key not in self._settings_json:
            self._settings_json[key] = json.dumps(self.settings(method, tuned), sort_keys=True)
        return self._settings_json[key]

    def pretrain_settings_json(self, name: str, seed: int | str) -> str:
        """Return what a pre-training run changes of its preset, as one line of sorted JSON."""
        settings = self.pretrain[name].get("settings", {}) | {"seed": int(seed)}
        return json.dumps(settings, sort_keys=True)

    def _tuned_options(self, method: str) -> dict[str, Any]:
        """Options that the search chose; none without `tuned` or for a method without a space."""
        if not self.tuned or method not in SPACES:
            return {}
        path = Path(self.tuned) / f"{method}.json"
        if not path.is_file():
            raise ValueError(f"tuned: there is no {path}. Run `snakemake searched` first.")
        return json.loads(path.read_text())["chosen"]


def backbone_name(backbone: str) -> str:
    """Return a backbone's name; a path becomes a name that can stand in a file name."""
    return re.sub("[^a-z0-9]+", "_", backbone.lower()).strip("_") if "/" in backbone else backbone


def read_study(mapping: Mapping[str, Any]) -> Study:
    """Check a study and that the files that list its images exist.

    Args:
        mapping: Keys as Snakemake merges them from config.yaml, --configfile and --config.

    Raises:
        DataError: If a key is wrong, with one line per wrong key that names it, or if a file that
            lists images is missing.
    """
    try:
        study = Study(**mapping)
    except ValidationError as error:
        lines = [
            f"config: {'.'.join(map(str, item['loc']))}: {item['msg']}".replace(
                "config: : Value error, ", "config: "
            )
            for item in error.errors()
        ]
        raise DataError("\n".join(lines)) from None
    for domain in study.all_domains:
        study.image_lists(domain)
    return study
