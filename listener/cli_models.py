"""`vitalcheck models`: what is installed, whether it is what the gate saw, whether this CPU runs it right, and how fast."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer
from numpy.typing import NDArray
from tqdm import tqdm

from listener import console
from listener.cli_gate import gate

if TYPE_CHECKING:
    from models.manifest import Manifest

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The installed models: what they read, digests, gate, speed.")
VARIANTS: tuple[Literal["fp32", "int8"], ...] = ("fp32", "int8")
NameArgument = Annotated[
    str, typer.Argument(help="Which model: its name, or the path of its folder (with a slash). Without it every installed one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON line per row on stdout.")]


@app.command("list")
def list_(name: NameArgument = "", as_json: JsonOption = False) -> None:
    """Lists the installed models: what they read, sizes, verdict.

    \b
    vitalcheck models list
    vitalcheck models list ./out/ct/ct_head/
    """
    from models import registry

    rows = [_row(registry.read(each, registry.ZOO)) for each in _named(name)]
    if as_json:
        for row in rows:
            console.say_json(row)
        return
    sized = [{**row, **{v: _size(row[v]) for v in VARIANTS}} for row in rows]
    console.say_table(("name", "version", "reads", "fp32", "int8", "gate"), [list(row.values()) for row in sized])


def _size(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.2f} MB" if count >= 10_000 else f"{count} bytes"


def _row(manifest: Manifest) -> dict[str, Any]:
    said = manifest.gate.verdict if manifest.gate else "not judged"
    sizes = {variant: artifact.bytes for variant, artifact in manifest.artifacts.items()}
    verdict = "APPROVED, but other bytes" if said == "APPROVED" and not manifest.approved else said
    reads = " ".join(filter(None, (manifest.modality, manifest.sequence, manifest.body_part)))
    return {"name": manifest.name, "version": manifest.version, "reads": reads, **{v: sizes.get(v) for v in VARIANTS}, "gate": verdict}


@app.command()
def verify(name: NameArgument = "") -> None:
    """Checks recipe and digests, replays golden vectors on this CPU.

    The exit status is 1 when something is wrong. An int8 that misses its golden vectors here is never used here; fp32 answers instead.

    \b
    vitalcheck models verify
    vitalcheck models verify brain_tumor_4class
    """
    from listener import selftest
    from models import registry

    rows = [row for each in _named(name) for row in selftest.examine(each, registry.ZOO)]
    console.say_table(("what", "", "detail"), rows)
    if any(row.verdict == selftest.WRONG for row in rows):
        raise typer.Exit(1)


app.command()(gate)


@app.command()
def bench(
    name: NameArgument = "",
    threads: Annotated[int, typer.Option(min=1, help="Threads of ONNX Runtime.")] = 2,
    batch: Annotated[list[int], typer.Option(min=1, help="Slices at once; may be given several times.")] = [1, 24],  # noqa: B006 - typer reads it
    rounds: Annotated[int, typer.Option(min=3, help="Interleaved rounds; medians are shown.")] = 15,
    as_json: JsonOption = False,
) -> None:
    """Times int8 against fp32 on this CPU.

    Medians of interleaved rounds, for one slice and for a batch. At every start
    `models.variant = "auto"` makes a shorter race, of which the quickest runs count.

    \b
    vitalcheck models bench --threads 4 --batch 1 --batch 160
    """
    from models import registry
    from models.runtime import NetworkError, Session

    rows = []
    for each in _named(name):
        manifest, folder = registry.read(each, registry.ZOO), registry.folder(each, registry.ZOO)
        try:
            sessions = {v: Session(folder / manifest.artifacts[v].file, threads) for v in VARIANTS if v in manifest.artifacts}
        except NetworkError as error:
            raise registry.ModelRefused(f"model {manifest.name}: {error}") from error
        size = manifest.recipe.size
        for slices in batch:
            image = np.random.default_rng(0).normal(size=(slices, manifest.recipe.channels, size, size)).astype(np.float32)
            ms = _medians(sessions, image, tqdm(range(rounds), desc=f"{manifest.name}, batch {slices}", leave=False))
            ratio = ms["fp32"] / ms["int8"] if len(ms) == 2 else None
            rows.append(
                {"name": manifest.name, "threads": threads, "batch": slices, **{f"{v}_ms": ms.get(v) for v in VARIANTS}, "ratio": ratio}
            )
    if as_json:
        for row in rows:
            console.say_json(row)
        return
    shown = [[f"{value:.2f}" if isinstance(value, float) else value for value in row.values()] for row in rows]
    console.say_table(("model", "threads", "batch", "fp32 ms", "int8 ms", "fp32/int8"), shown)


def _medians(sessions: dict[Literal["fp32", "int8"], Any], image: NDArray[np.float32], rounds: Iterable[int]) -> dict[str, float]:
    """Milliseconds per run, by variant; the first round warms up and does not count."""
    taken: dict[str, list[float]] = {variant: [] for variant in sessions}
    for number in rounds:
        for variant, session in sessions.items():
            start = time.perf_counter()
            session.run(image)
            if number:
                taken[variant].append((time.perf_counter() - start) * 1e3)
    return {variant: float(np.median(ms)) for variant, ms in taken.items()}


def _named(name: str) -> list[str]:
    from models import registry

    return [name] if name else registry.names(registry.ZOO)
