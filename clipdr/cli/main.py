"""Entry point of the command line: `clipdr` and `python -m clipdr`."""

import sys

from clipdr.cli import data, evaluation, model, multimodal, pretrain, report, training
from clipdr.cli.app import app, guarded, multimodal_app, pretrain_app
from clipdr.cli.worker_client import ask

__all__ = [
    "app",
    "data",
    "evaluation",
    "main",
    "model",
    "multimodal",
    "pretrain",
    "report",
    "training",
]

PANELS = ("Data", "Training", "Evaluation", "Report", "Trained models")  # in the order of the help

# Commands register when their module is imported. The help shows panels in the order of the first
# command of each.
app.registered_commands.sort(
    key=lambda command: PANELS.index(str(command.rich_help_panel or PANELS[0]))
)
app.add_typer(pretrain_app, name="pretrain", rich_help_panel="Other systems")
app.add_typer(multimodal_app, name="multimodal", rich_help_panel="Other systems")


def main() -> None:
    """Run one command line, in the fork server of the workflow where there is one."""
    status = ask(sys.argv[1:])
    if status is None:
        guarded(app)
    sys.exit(status)
