"""Entry point of the command line: `clipdr` and `python -m clipdr`."""

import sys

from clipdr.cli import (
    data,
    evaluation,
    model,
    multimodal,
    pretrain,
    report,
    training,
    worker_client,
)
from clipdr.cli.app import app, guarded, multimodal_app, pretrain_app

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

app.add_typer(pretrain_app, name="pretrain", rich_help_panel="Sister systems")
app.add_typer(multimodal_app, name="multimodal", rich_help_panel="Sister systems")


def main() -> None:
    """Run one command line, in the fork server of the workflow where there is one."""
    status = worker_client.ask(sys.argv[1:])
    if status is None:
        guarded(app)
    sys.exit(status)
