"""Turns the errors that users can do something about into a line on stderr and an exit code."""

import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec

import typer

from tidemill.runtime.expected_errors import is_expected

P = ParamSpec("P")
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def report_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Wrap a verb: expected errors end with their text, unexpected ones with a traceback; -v shows it for both."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            # Whoever read our stdout is gone (`| head`): nothing more to say, and nothing to flush at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(EXIT_FAILED) from None
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:  # noqa: BLE001  # the last place before the user
            if kwargs.get("verbose") or not is_expected(error):
                traceback.print_exc()
            else:
                typer.echo(f"error: {error}", err=True)
            raise typer.Exit(EXIT_FAILED) from None

    return wrapped
