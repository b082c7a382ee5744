"""The study of config.yaml as a mapping."""

import yaml

from helpers.paths import ROOT


def config(**changes):
    """The study of config.yaml with some keys replaced."""
    return yaml.safe_load((ROOT / "config.yaml").read_text()) | changes
