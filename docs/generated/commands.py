"""The commands and their options, from the parsers themselves."""

import re
from collections.abc import Iterator

import click
import typer

from fedlab.cli.app import app


def commands() -> dict[str, click.Command]:
    """Every command that ``fedlab --help`` names, in its order."""
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group)
    context = click.Context(group, info_name="fedlab")
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: each for name, each in found.items() if each is not None and not each.hidden}


def markdown() -> str:
    """Every command with its arguments and options, for the reference."""
    parts = []
    for name, command in commands().items():
        parts += [f"## `fedlab {name}`\n", f"```{{program}} fedlab {name}\n```\n"]
        parts += [f"```\n{_usage(name, command)}\n```\n", f"{_text(command.help)}\n"]
        for parameter in command.params:
            parts += _parameter(parameter)
    return "\n".join(parts)


def _usage(name: str, command: click.Command) -> str:
    pieces = command.collect_usage_pieces(click.Context(command, info_name=f"fedlab {name}"))
    return " ".join(["fedlab", name, *pieces])


def _parameter(parameter: click.Parameter) -> Iterator[str]:
    context = click.Context(click.Command("fedlab"))
    metavar = parameter.make_metavar(context)
    if getattr(parameter, "hidden", False):  # also of Typer's arguments
        return
    if isinstance(parameter, click.Option):
        value = "" if parameter.is_flag else f" {metavar}"
        name = ", ".join(f"{each}{value}" for each in (*parameter.opts, *parameter.secondary_opts))
    else:
        name = metavar.strip("[]")
    text = _text(getattr(parameter, "help", ""))
    if parameter.required:
        text += " Required."
    elif parameter.default not in (None, False, ()) and "Default" not in text:
        text += f" Default: `{str(parameter.default).lower()}`."
    yield f":::{{option}} {name}\n{text}\n:::\n"


def _text(help: str | None) -> str:
    """Help as Markdown: names of tables in brackets as code, so that they are no links."""
    paragraphs = [" ".join(each.split()) for each in (help or "").split("\n\n")]
    return re.sub(r"(?<!`)(\[\[\w+\]\])", r"`\1`", "\n\n".join(paragraphs))
