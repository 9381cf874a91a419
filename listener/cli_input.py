"""What `vitalcheck analyze`, `rules try` and `verify` are given: studies on disk, and models by name."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from listener import headers, logs
from listener.errors import NotDicom, VitalCheckError
from pipeline.records import Instance, Study

DEFAULT_MODEL = "brain_tumor_4class"
PathArgument = Annotated[Path, typer.Argument(exists=True, help="A DICOM file, or a folder of them, of one study or of thousands.")]
ModelOption = Annotated[
    list[str],
    typer.Option(
        help="A model by name (`vitalcheck models list`), or the path of its folder (with a slash). Given several times, the first that "
        "finds a series it may read answers."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON line per study on stdout.")]


class NothingRead(VitalCheckError):
    def __init__(self, path: Path, files: int) -> None:
        super().__init__(f"{path}: none of {files} files could be read as DICOM; give a DICOM file or a folder that holds some")


def quiet() -> None:
    """Logs to stderr, warnings only; what libraries say of odd values would repeat those values."""
    logs.configure("console", "warning")
    warnings.simplefilter("ignore")


def installed(entry: str) -> str:
    from models import registry

    try:
        registry.read(entry)
    except registry.ModelRefused as error:
        raise typer.BadParameter(str(error), param_hint="--model") from error
    return entry


def studies(path: Path) -> list[Study]:
    """Every study below `path`. Raises NothingRead."""
    return headers.group(instances(path))


def instances(path: Path) -> list[Instance]:
    """Every instance below `path`. Raises NothingRead."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    skipped: list[NotDicom] = []

    def skip(error: NotDicom) -> None:
        skipped.append(error)
        tqdm.write(f"vitalcheck: skipped {error}", file=sys.stderr)

    found = list(headers.readable(progress(files, "file"), skip))
    if not found:
        raise NothingRead(path, len(files))
    return found


def progress(items: list[Any], unit: str) -> Iterator[Any]:
    """A bar on stderr; where nobody watches it, a line now and then."""
    watched = sys.stderr.isatty()
    bar: Iterator[Any] = iter(
        tqdm(items, unit=unit, file=sys.stderr, mininterval=0.1 if watched else 10.0, leave=not watched or len(items) > 1)
    )
    return bar
