"""How the commands speak: tables and blocks for people, JSON lines for programs, one line for an error."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from listener.errors import Unheard


def say(text: str = "") -> None:
    """To stdout: the answer. Raises Unheard; whose reader has seen enough (`| head`) ends as shells expect it."""
    try:
        typer.echo(text)
    except BrokenPipeError:
        raise SystemExit(128 + signal.SIGPIPE) from None
    except OSError as error:
        raise Unheard(error) from error


def warn(text: str) -> None:
    """To stderr: everything else."""
    typer.echo(f"vitalcheck: {text}", err=True)


def say_json(value: Any) -> None:
    """One JSON line, written at once so that a reader of the pipe need not wait for the end."""
    say(json.dumps(value, allow_nan=False, default=str))


def say_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns as wide as their widest cell; the last one may run on."""
    cells = [list(header), *([("" if cell is None else str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    for row in cells:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def say_block(title: str, facts: Mapping[str, Any]) -> None:
    """A title and its facts below it, those without a value left out."""
    say(title)
    for name, value in facts.items():
        if value not in (None, "", [], ()):
            say(f"  {name:<14} {value}")
