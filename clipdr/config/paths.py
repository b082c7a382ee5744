"""The grid of a study: which runs there are, and which files every job reads and writes. Imports no torch.

Input: the keys of config.Config, of which Grid is a part. Output: paths and options, as the workflow's rules take them.
"""

import json
import shlex
from pathlib import Path

from clipdr import DataError
from clipdr.config.job import folder_of
from clipdr.data.domains import DOMAINS
from clipdr.data.protocols import HELD_OUT, SEVERAL_SOURCES


class Grid:
    """Methods of config.Config that name runs and files: pure functions of its keys, towers and settings."""

    def runs(
        self, name: str, methods: list[str] | None = None, protocol: str | None = None
    ) -> list[str]:
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
        folds = [
            (protocol, held_out)
            for protocol in self.protocols
            for held_out in self.held_out(protocol)
        ]
        return [f"{self.results}/gate/{protocol}/{held_out}.json" for protocol, held_out in folds]

    def shown(self, name: str, figure: str) -> list[str]:
        """Paths of `name` in the run folders that a figure shows: its methods, under the study's first protocol."""
        return self.runs(name, self.figures[figure], self.protocols[0])

    def mapped(self, name: str) -> list[str]:
        """Paths of `name` in the runs whose activation maps are shown: the methods of figures.cam, first fold and first seed."""
        protocol, seed = self.protocols[0], self.seeds[0]
        held_out = self.held_out(protocol)[0]
        methods = self.figures.get("cam", [])
        return [
            f"{self.results}/runs/{protocol}/{method}/{held_out}/{seed}/{name}".rstrip("/")
            for method in methods
        ]

    def drawn(self) -> list[str]:
        """The figures of the study: those of all methods, or of one that it runs (none can be taken out of config.yaml's)."""
        return [
            name
            for name, methods in self.figures.items()
            if not methods or set(methods) & set(self.methods)
        ]

    def further(self, protocol: str) -> list[str]:
        """Rules of selection that want a run's checkpoints; loso only where a run has several sources."""
        several = protocol in SEVERAL_SOURCES
        return [
            rule for rule in self.selections if rule == "oracle" or (rule == "loso" and several)
        ]

    def sources(self, held_out: str) -> list[str]:
        """The other domains of the study."""
        return [domain for domain in self.domains if domain != held_out]

    def inner(self, protocol: str, method: str, held_out: str, seed: str) -> list[str]:
        """The curves that leave-one-source-domain-out validation of a run reads, one per source; none where it is not asked for."""
        folder = f"{self.results}/inner/{protocol}/{method}/{held_out}/{seed}"
        return [
            f"{folder}/{left_out}.csv"
            for left_out in self.sources(held_out)
            if "loso" in self.further(protocol)
        ]

    def everything(self) -> list[str]:
        """All domains that a job of the study reads."""
        return list(
            dict.fromkeys(domain for protocol in self.protocols for domain in self.listed(protocol))
        )

    def listed(self, protocol: str) -> list[str]:
        """The domains that a job of a protocol may read: those of the study, and under esdg those that are only tested."""
        return [*self.domains, *self.targets] if protocol == "esdg" else self.domains

    def manifests(self, protocol: str) -> list[str]:
        return [f"{self.data}/manifests/{domain}.csv" for domain in self.listed(protocol)]

    def synthetic_domains(self) -> list[str]:
        """The domains of the study that are drawn."""
        return [
            domain
            for domain in self.everything()
            if domain in DOMAINS and DOMAINS[domain].synthetic
        ]

    def lists(self, domain: str) -> list[str]:
        """The files that say which photographs a domain has: GDRBench's two split files, or the table of a data set of one's own.

        Raises DataError where they are missing and nothing can make them: synthetic domains are drawn, others are the user's.
        """
        if domain in self.own:
            table = self.own[domain].table
            if not Path(table).is_file():
                raise DataError(
                    f"config: own.{domain}.table: there is no {table}; name the CSV of your photographs (docs/own_data.md)"
                )
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
        options = f"--size {self.image.size} --tolerance {self.tolerance}" + (
            " --complete" if self.complete else ""
        )
        return options + (
            f" --table {shlex.quote(self.own[domain].table)}" if domain in self.own else ""
        )

    def tower(self, backbone: str) -> str:
        """One backbone as a line of sorted JSON, for a command line."""
        return json.dumps({"name": backbone, **self.towers[backbone].model_dump()}, sort_keys=True)

    def weights(self, backbone: str) -> list[str]:
        """The local files that a backbone's towers are read from."""
        if folder := folder_of(self.towers[backbone].image):
            return [
                f"{folder}/{name}"
                for name in ("visual.json", "visual.safetensors", "heads.safetensors")
            ]
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
