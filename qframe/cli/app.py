"""The root command: global options, and errors as one message and an exit code."""

from __future__ import annotations

import sys
from typing import Any

import click

from qframe import __version__
from qframe.errors import QFrameError


class Root(click.Group):
    """A group that keeps the order of its commands and prints errors without traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        _replace_unprintable()
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
            ctx.exit(130)
        except BrokenPipeError:
            # The reader has closed the pipe (`qframe list | head`); click exits silently.
            raise
        except Exception as error:
            if ctx.params["debug"]:
                raise
            raise click.ClickException(_message(error)) from error


def _message(error: Exception) -> str:
    if isinstance(error, QFrameError):
        return str(error)
    return (
        f"unexpected {type(error).__name__}: {error}\n"
        "This may be a bug in qframe. `qframe --debug COMMAND` shows the traceback."
    )


def _replace_unprintable() -> None:
    """Replace characters that the terminal cannot encode, such as a plugin's ``±``."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


@click.group(
    cls=Root,
    epilog="Exit codes: 0 when all is done, 1 for an error, 2 for wrong usage, 130 for an "
    "interrupt.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="qframe")
def main(debug: bool) -> None:
    """Train and ship Keras models in few bits.

    `qframe quickstart` shows all of it in about a minute: a binary network is built,
    trained, saved and loaded again.
    """
