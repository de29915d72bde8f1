"""The commands ``fedlab data``: the data sets, and fetching one before a run."""

from __future__ import annotations

from typing import Annotated

import typer

from fedlab.cli.list import list_plugins
from fedlab.core.consoles import console

data = typer.Typer(no_args_is_help=False, help="List data sets, or fetch one.")


@data.callback(invoke_without_command=True)
def list_datasets(context: typer.Context) -> None:
    """List the data sets that a scenario can name, as `fedlab list datasets` does."""
    if context.invoked_subcommand is None:
        list_plugins("datasets")


@data.command()
def get(
    source: Annotated[
        str, typer.Argument(help="Data set as in data.source, such as cifar10 or hf:NAME.")
    ],
    root: Annotated[
        str,
        typer.Option("--root", help="Folder for data sets of torchvision, as data.root."),
    ] = "~/.cache/fedlab",
    label_by: Annotated[
        str | None, typer.Option(help="Column of hf:NAME with the labels, as data.label_by.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side in pixels of hf:NAME's pictures, as data.image_size.")
    ] = None,
) -> None:
    """Download a data set, unless it is there, and check that it can be read.

    Scenarios with `data.source` SOURCE then run without a network.
    """
    from fedlab.data import load

    found = load(source, root=root, download=True, label_by=label_by, image_size=image_size)
    console.print(repr(found), highlight=False)
