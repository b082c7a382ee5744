"""Paths of a study: its run folders, and the files that its jobs read and write; no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from clipdr.config.job import EXPORTED_FILES, folder_of
from clipdr.config.search_space import SPACES
from clipdr.config.study import Study

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class StudyPaths:
    """Files that the rules of a study name; pure functions of its keys.

    Attributes:
        study: The checked study.
    """

    study: Study
    # (method, protocol, domain left out) -> files: the workflow asks once per run
    _inputs: dict[tuple[str, str, str], list[str]] = field(default_factory=dict, compare=False)

    # -- run folders

    def run_folders(
        self, methods: Sequence[str] | None = None, protocol: str | None = None
    ) -> list[str]:
        """List the run folders of the study, in the order of the tables.

        Args:
            methods: Methods whose runs count. None or empty: all of the study.
            protocol: Protocol whose runs count. None: all of the study.

        Returns:
            RESULTS/runs/PROTOCOL/METHOD/HELD_OUT/SEED for every run.
        """
        study = self.study
        return [
            f"{study.results}/runs/{name}/{method}/{held_out}/{seed}"
            for name in study.protocols
            if name == (protocol or name)
            for method in study.methods
            if method in (methods or study.methods)
            for held_out in study.held_out_names(name)
            for seed in study.seeds
        ]

    def run_files(
        self, name: str, methods: Sequence[str] | None = None, protocol: str | None = None
    ) -> list[str]:
        """List the file `name` in every folder of `run_folders`."""
        return [f"{folder}/{name}" for folder in self.run_folders(methods, protocol)]

    def figure_run_folders(self, figure: str) -> list[str]:
        """List the run folders that a figure shows: its methods, under the first protocol."""
        return self.run_folders(self.study.figures[figure], self.study.protocols[0])

    def figure_run_files(self, name: str, figure: str) -> list[str]:
        """List the file `name` in every folder of `figure_run_folders`."""
        return [f"{folder}/{name}" for folder in self.figure_run_folders(figure)]

    def cam_run_folders(self) -> list[str]:
        """List the run folders of the activation maps: figures.cam, first fold, first seed."""
        study = self.study
        protocol, seed = study.protocols[0], study.seeds[0]
        held_out = study.held_out_names(protocol)[0]
        return [
            f"{study.results}/runs/{protocol}/{method}/{held_out}/{seed}"
            for method in study.figures.get("cam", [])
        ]

    def cam_run_files(self, name: str) -> list[str]:
        """List the file `name` in every folder of `cam_run_folders`."""
        return [f"{folder}/{name}" for folder in self.cam_run_folders()]

    # -- folds

    def gate_files(self) -> list[str]:
        """List the results of the leakage check, one per fold of the study."""
        return [
            f"{self.study.results}/gate/{protocol}/{held_out}.json"
            for protocol in self.study.protocols
            for held_out in self.study.held_out_names(protocol)
        ]

    def manifests(self, protocol: str) -> list[str]:
        """List the manifests that a job of a protocol reads."""
        return [
            f"{self.study.data}/manifests/{domain}.csv"
            for domain in self.study.protocol_domains(protocol)
        ]

    def inner_curves(self, protocol: str, method: str, held_out: str, seed: str) -> list[str]:
        """List the validation curves with one source domain left out that select for a run.

        Returns:
            RESULTS/inner/PROTOCOL/METHOD/HELD_OUT/SEED/LEFT_OUT.csv, one per source domain; empty
            where the rule loso does not apply.
        """
        if "loso" not in self.study.checkpoint_rules(protocol):
            return []
        folder = f"{self.study.results}/inner/{protocol}/{method}/{held_out}/{seed}"
        return [f"{folder}/{left_out}.csv" for left_out in self.study.source_domains(held_out)]

    def search_files(self) -> list[str]:
        """List the results of the search, one per method that has a search space."""
        study = self.study
        return [f"{study.results}/search/{name}.json" for name in study.methods if name in SPACES]

    # -- inputs of a training job

    def weight_files(self, backbone: str) -> list[str]:
        """List the local files that the encoders of a backbone are read from."""
        spec = self.study.all_backbones[backbone]
        if folder := folder_of(spec.image):
            return [f"{folder}/{name}" for name in EXPORTED_FILES]
        return [spec.weights] if spec.weights.endswith(WEIGHT_SUFFIXES) else []

    def training_inputs(self, method: str, protocol: str = "dg", without: str = "") -> list[str]:
        """List the data and weights that a run of a method reads.

        Args:
            method: Name of a method or variant.
            protocol: Name of a protocol.
            without: A domain of which nothing is read.

        Returns:
            Manifests, weight files, and per domain the packed images; where the image encoder is
            frozen, the feature caches instead.
        """
        key = method, protocol, without
        if key not in self._inputs:
            self._inputs[key] = self._training_inputs(method, protocol, without)
        return self._inputs[key]

    def _training_inputs(self, method: str, protocol: str, without: str) -> list[str]:
        """Compute `training_inputs`."""
        settings, data = self.study.settings(method), self.study.data
        backbone = settings["backbone"]["name"]
        domains = [name for name in self.study.protocol_domains(protocol) if name != without]
        files = [f"{data}/manifests/{domain}.csv" for domain in domains]
        files += self.weight_files(backbone)
        if not settings["frozen"]:
            return files + [f"{data}/store/{domain}.npy" for domain in domains]
        folder = f"{data}/features/{backbone}"
        return [*files, *(f"{folder}/{domain}.npy" for domain in domains), f"{folder}/prompts.npz"]
