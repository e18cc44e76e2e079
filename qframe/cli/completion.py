"""Completion of commands and their arguments in a shell."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from qframe.errors import ArgumentError

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that completes qframe's commands in a shell.

    In ~/.bashrc write: eval "$(qframe completion bash)". In ~/.zshrc the same with zsh.
    For fish: qframe completion fish > ~/.config/fish/completions/qframe.fish
    """
    completion_class = get_completion_class(shell)
    if completion_class is None:
        raise ArgumentError(f"this click completes nothing in {shell!r}; update click.")
    root = ctx.find_root().command
    click.echo(completion_class(root, {}, "qframe", "_QFRAME_COMPLETE").source())


def component_names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The components whose names, with or without the plugin, begin with a text."""
    return _names(None, incomplete)


def recipe_names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The recipes whose names begin with a text; files if no recipe matches."""
    return _names("recipe", incomplete) or [CompletionItem(incomplete, type="file")]


def _names(kind: str | None, incomplete: str) -> list[CompletionItem]:
    from qframe.registry.discovery import registry

    return [
        CompletionItem(name, help=c.summary)
        for c in registry.components(kind)
        # Names with and without the plugin: in bash a colon begins a new argument.
        for name in dict.fromkeys((c.name, c.qualified_name))
        if name.startswith(incomplete)
    ]
