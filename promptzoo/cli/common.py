"""What the commands share: exit codes, errors as one line, JSON, tables, progress."""
from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from promptzoo.core.errors import (
    BundleError,
    EngineError,
    MissingDependencyError,
    NotFoundError,
    PromptZooError,
    complain,
)

UNEXPECTED, USAGE, MISSING_DEPENDENCY, NOT_FOUND, UNUSABLE = 1, 2, 3, 4, 5
EXIT_CODES = (
    "Exit codes: 0 done; 1 a check failed, or an unexpected error; 2 unusable options, prompts or image; 3 a package "
    "is missing; 4 a bundle, variant or file does not exist; 5 a bundle or engine cannot be used.")
_DEBUG, _ARGUMENTS = "promptzoo.debug", "promptzoo.arguments"
_PLAIN_WIDTH = 160
"""Columns of tables that go to a file or a pipe."""

JSON_OPTION = typer.Option(False, "--json", help="Print JSON on standard output, and nothing else.")


def flowing(text: str | None) -> str:
    """A docstring as help: its paragraphs, each without line breaks."""
    return "\n\n".join(" ".join(part.split()) for part in (text or "").split("\n\n"))


def exit_code(error: Exception) -> int:
    """The exit code of an error that ends a command, see :data:`EXIT_CODES`."""
    if isinstance(error, MissingDependencyError):
        return MISSING_DEPENDENCY
    if isinstance(error, (NotFoundError, FileNotFoundError)):
        return NOT_FOUND
    if isinstance(error, (BundleError, EngineError)):
        return UNUSABLE
    return USAGE


def say_error(message: str) -> None:
    """One line on standard error, in red on a terminal."""
    typer.secho("Error: " + " ".join(message.split()), fg="red" if sys.stderr.isatty() else None, err=True)


def say(message: str) -> None:
    """A line of talk on standard error, where it does not disturb what a program reads."""
    typer.echo(message, err=True)


def wants_debug(arguments: Sequence[str]) -> bool:
    """Whether ``--debug`` is among the arguments, at any place, or ``PROMPTZOO_DEBUG`` is set."""
    before_dashes = arguments[:arguments.index("--")] if "--" in arguments else arguments
    return "--debug" in before_dashes or os.environ.get("PROMPTZOO_DEBUG", "") not in ("", "0")


class Group(TyperGroup):
    """The root command: ends a command on a :class:`PromptZooError` with one line and an exit code."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Remember the arguments, and accept ``--debug`` at any place."""
        ctx.meta[_ARGUMENTS], ctx.meta[_DEBUG] = list(args), wants_debug(args)
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [a for n, a in enumerate(args) if a != "--debug" or n > end])

    def invoke(self, ctx: typer.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (PromptZooError, OSError) as error:
            if ctx.meta[_DEBUG] or isinstance(error, BrokenPipeError):
                raise
            say_error(str(error))
            raise typer.Exit(exit_code(error)) from error


def command_line(ctx: typer.Context) -> str:
    """The command as a person would type it again."""
    return "promptzoo " + shlex.join(ctx.meta.get(_ARGUMENTS, []))


class _ToStandardError(logging.Handler):
    """Writes to whatever standard error is at the moment of the message."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def set_up_logging(verbose: bool) -> None:
    """promptzoo's own log on standard error: warnings, or with ``verbose`` everything it says about its choices."""
    logger = logging.getLogger("promptzoo")
    logger.setLevel(logging.INFO if verbose else logging.NOTSET)
    if not any(isinstance(handler, _ToStandardError) for handler in logger.handlers):
        handler = _ToStandardError()
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        logger.addHandler(handler)


def print_json(value: Any) -> None:
    """Print a value as indented JSON on standard output."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def console(err: bool = False) -> Console:
    """A rich console for standard output or error; wide where there is no terminal to measure."""
    stream = sys.stderr if err else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else _PLAIN_WIDTH, highlight=False, soft_wrap=False)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    """Print a table; columns of numbers are right-aligned."""
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for number, name in enumerate(columns):
        values = [row[number] for row in rows if row[number] not in (None, "")]
        numeric = bool(values) and all(isinstance(v, (int, float)) for v in values)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console().print(table)


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text.replace("[", "\\[")


def words(values: Sequence[str] | None) -> list[str]:
    """The items of a repeatable option that also takes commas: ``["a,b", "c"]`` is ``["a", "b", "c"]``."""
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def one_of(value: str, allowed: Sequence[str], what: str) -> str:
    """``value`` if it is allowed.

    Raises:
        PromptZooError: otherwise.
    """
    if value not in allowed:
        raise PromptZooError(complain(what, value, ", ".join(allowed)))
    return value


def existing(path: str | Path, what: str) -> Path:
    """``path`` as a path that exists.

    Raises:
        NotFoundError: otherwise.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise NotFoundError(complain(what, str(path), "an existing file or folder", "Check the path"))
    return place


@contextmanager
def progress(title: str, quiet: bool = False) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on standard error; without a terminal a line every half minute.

    Args:
        title: what is going on.
        quiet: show nothing.

    Yields:
        ``report(done, total, name)``.
    """
    if quiet:
        yield lambda done, total, name: None
        return
    if not sys.stderr.isatty():
        yield _plain_progress(title)
        return
    from rich import progress as bars

    parts = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn(),
             bars.TimeElapsedColumn(), bars.TimeRemainingColumn(), bars.TextColumn("{task.fields[name]}"))
    with bars.Progress(*parts, console=console(err=True), transient=True) as bar:
        task = bar.add_task(title, total=None, name="")

        def report(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, name=name)

        yield report


def _plain_progress(title: str, every_s: float = 30.0) -> Callable[[int, int, str], None]:
    started = last = time.monotonic()

    def report(done: int, total: int, name: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every_s or (done == total and now - started >= every_s):
            last = now
            say(f"{title}: {done} of {total} in {now - started:.0f} s ({name})")

    return report


@contextmanager
def waiting(title: str, quiet: bool = False) -> Iterator[None]:
    """A spinner on standard error for work without steps; nothing without a terminal."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    with console(err=True).status(title):
        yield
