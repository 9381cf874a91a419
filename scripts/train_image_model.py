"""Trains, quantises, judges and documents the image network: one command, resumable.

    python -m scripts.train_image_model --data DIR --out models/zoo/brain_tumor_4class

    read > fp32 > QAT > export > measure with ONNX Runtime > gate > golden vectors > manifest, card, report

Trained on folds 0-3, patients 01-05 and the bundled healthy head; fold 4 and patient 06 are for the gate alone. `--healthy` names a healthy
head that is only measured. Checkpoints lie in `--work`: the same command goes on where it was cut off; another plan wants another `--work`.
"""

from __future__ import annotations

import csv
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import nn

from models import gate
from models.manifest import Artifact, GateVerdict, Golden, Manifest, Recipe, sha256, write
from models.runtime import Session
from models.training.data import Feed, Samples, spoil, strata
from models.training.export import check_parity, export, torch_logits
from models.training.loop import Plan, train_fp32
from models.training.network import Network
from models.training.qat import quantise
from pipeline.records import Variant
from scripts.datasets import DataError, Examples, bundled_head, healthy_head, join, load
from scripts.datasets.audit import audited
from scripts.model_card import ABSENT, LABELS, LEARNED_FROM, LIMITS, NAME, card
from scripts.model_report import Measured, text

FULL = Plan()
QUICK = Plan(sizes=(128,), calibration=100, qat_steps=24)  # a minute or two: artifacts that work, not ones to rely on
NAMES = tuple(label.name for label in LABELS)
VARIANTS: tuple[Variant, Variant] = ("fp32", "int8")
GOLDEN_TOLERANCE = 0.25  # logits: five steps of the int8 map (0.05 each); a wrong kernel is off by whole logits
BATCHES = (1, 24)  # slices at once: a single slice, and a usual series
ROUNDS = 9  # of each timing, interleaved, so that a busy moment hits every variant alike
Floats = NDArray[np.float32]

app = typer.Typer(add_completion=False)


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="folder with slices.csv and volumes.csv")],
    out: Annotated[Path, typer.Option(help="folder of the model; its files are replaced")] = Path("models/zoo/brain_tumor_4class"),
    work: Annotated[Path, typer.Option(help="checkpoints and the curve; a run that was cut off goes on from here")] = Path("runs/train"),
    healthy: Annotated[Path | None, typer.Option(help="a healthy head (NIfTI) that is measured and never learnt")] = None,
    report: Annotated[Path, typer.Option(help="where the tables of the run go")] = Path("docs/model-report.md"),
    quick: Annotated[bool, typer.Option("--quick", help="a run of minutes: its artifacts work, and are not to be relied on")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="go on without files that cannot be read; they are listed")] = False,
    leave_out: Annotated[bool, typer.Option("--leave-out-leaks", help="leave out of training what a sealed slice shows too")] = False,
) -> None:
    """Learn from DATA, judge on what was sealed, and put the artifacts into OUT."""
    torch.set_num_threads(2)
    try:
        work, plan, version = (work / "quick", QUICK, "0.0.0") if quick else (work, FULL, "1.0.0")
        run(data, out, work, healthy, report, plan, version, skip_bad=skip_bad, leave_out=leave_out)
    except DataError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error


def read(data: Path, *, skip_bad: bool = False, leave_out: bool = False) -> Examples:
    """What there is to learn from and to be judged by; says what it is, and fails where the split leaks. Raises DataError."""
    recipe = Recipe()
    found = join([load(data, recipe, NAMES, ABSENT, skip_bad=skip_bad), bundled_head(recipe, NAMES.index(ABSENT))])
    examples, page = audited(found, NAMES, strata(_samples(found)), leave_out=leave_out)
    print(page, file=sys.stderr)
    return examples


def run(
    data: Path,
    out: Path,
    work: Path,
    healthy: Path | None,
    report: Path,
    plan: Plan,
    version: str,
    *,
    skip_bad: bool = False,
    leave_out: bool = False,
) -> Manifest:
    """The whole run; returns the manifest that it wrote. Raises DataError."""
    recipe = Recipe()
    examples = read(data, skip_bad=skip_bad, leave_out=leave_out)
    absent, feed = NAMES.index(ABSENT), Feed(recipe.mean, recipe.std, recipe.channels)
    learnt, sealed = examples.take(~examples.sealed), examples.take(examples.sealed)
    samples = _samples(learnt)
    network = train_fp32(samples, feed, plan, work)
    twin = quantise(network, samples, feed, plan, work)
    new = work / "artifacts"
    sessions = _export(new, network, twin, recipe)
    sets = {"sealed": _tensor(sealed, feed), "spoiled": _spoiled(sealed, feed)}
    if healthy is not None:
        sets["healthy"] = _tensor(healthy_head(healthy, recipe, absent), feed)
    check_parity(network, absent, lambda x: sessions["fp32"].run(x).logits, sets["sealed"][:32], new / "model_fp32.onnx")
    answers = {key: _answers(x, sessions, network, absent) for key, x in sets.items()}
    manifest = _describe(new, recipe, version, _judge(new, sealed, answers["sealed"]), sessions)
    _write_gate(new / "gate.csv", sealed, answers["sealed"])
    speed, name = _speed(new, network, absent), healthy.name if healthy else None
    _write_report(report, Measured(sealed, strata(_samples(sealed)), answers, speed, name, len(learnt), plan, work), manifest)
    _publish(new, out)
    return manifest


def _export(folder: Path, network: Network, twin: nn.Module, recipe: Recipe) -> dict[Variant, Session]:
    """Both files in `folder`, opened."""
    folder.mkdir(exist_ok=True)
    for variant, net in zip(VARIANTS, (network, twin), strict=True):
        export(net, folder / f"model_{variant}.onnx", labels=NAMES, absent=ABSENT, recipe_id=recipe.id)
    return {variant: Session(folder / f"model_{variant}.onnx") for variant in VARIANTS}


def _samples(examples: Examples) -> Samples:
    return Samples.of(examples.images, examples.masks, examples.labels, examples.sources, examples.planes, NAMES.index(ABSENT))


def _tensor(examples: Examples, feed: Feed) -> Floats:
    """(n, 3, 224, 224): what serving would feed the network."""
    return np.ascontiguousarray(feed(torch.from_numpy(examples.images).float()[:, None]).numpy())


def _spoiled(examples: Examples, feed: Feed) -> Floats:
    """The artifact stratum of the report: every slice once, spoiled, always in the same way."""
    torch.manual_seed(4)
    grey = torch.from_numpy(examples.images).float()[:, None]
    return np.ascontiguousarray(feed(torch.cat([spoil(rows) for rows in grey.split(16)])).numpy())


def _answers(tensor: Floats, sessions: dict[Variant, Session], network: Network, absent: int) -> dict[str, Floats]:
    """Logits (slice, label) of ONNX Runtime's two variants and of eager PyTorch."""
    answers: dict[str, Floats] = {variant: session.run(tensor).logits for variant, session in sessions.items()}
    return answers | {"PyTorch": torch_logits(network, absent, tensor)}


def _judge(folder: Path, sealed: Examples, answers: dict[str, Floats]) -> GateVerdict:
    fp32, int8 = (sha256(folder / f"model_{variant}.onnx") for variant in VARIANTS)
    today = datetime.now(UTC).date()
    return gate.judge(NAMES, sealed.labels, answers["fp32"], answers["int8"], digests=(fp32, int8), on=today)


def _describe(folder: Path, recipe: Recipe, version: str, verdict: GateVerdict, sessions: dict[Variant, Session]) -> Manifest:
    """Writes golden.npz, manifest.toml and CARD.md."""
    image = golden_inputs(recipe)
    fp32, int8 = (sessions[v].run(image).logits for v in VARIANTS)
    np.savez_compressed(folder / "golden.npz", image=image, fp32=fp32, int8=int8)
    files = {v: folder / f"model_{v}.onnx" for v in VARIANTS}
    manifest = Manifest(
        name=NAME,
        version=version,
        labels=list(LABELS),
        absent=ABSENT,
        recipe_id=recipe.id,
        recipe=recipe,
        artifacts={v: Artifact(file=path.name, sha256=sha256(path), bytes=path.stat().st_size) for v, path in files.items()},
        golden=Golden(file="golden.npz", sha256=sha256(folder / "golden.npz"), tolerance=GOLDEN_TOLERANCE),
        gate=verdict,
        learned_from=list(LEARNED_FROM),
        limits=list(LIMITS),
    )
    write(folder / "manifest.toml", manifest)
    (folder / "CARD.md").write_text(card(manifest))
    return manifest


def golden_inputs(recipe: Recipe) -> Floats:
    """(8, 3, size, size), generated: noise, stripes, a ramp, and ellipses that look like heads, with and without something in them."""
    rng, size = np.random.default_rng(0), recipe.size
    y, x = (np.mgrid[:size, :size] - size / 2 + 0.5) / (size / 2)
    head = (x / 0.7) ** 2 + (y / 0.85) ** 2
    plain = np.where(head < 1, np.where(head > 0.85, 0.9, 0.45), 0.0)
    greys = [
        rng.random((size, size)),
        np.kron(rng.random((size // 16, size // 16)), np.ones((16, 16))),
        (np.sin(x * 40) + 1) / 2,
        (x + 1) / 2,
        plain,
        np.where(np.hypot(x - 0.25, y + 0.2) < 0.18, 0.95, plain),  # a bright ball
        np.where(np.abs(np.hypot(x + 0.2, y) - 0.2) < 0.05, 0.85, plain * (np.hypot(x + 0.2, y) > 0.2)),  # a ring with a dark core
        np.clip(plain + rng.normal(0, 0.08, (size, size)), 0, 1),
    ]
    grey = np.round(np.stack(greys) * 255).astype(np.float32) / 255  # 256 levels pack well
    return np.ascontiguousarray(np.repeat(((grey - recipe.mean) / recipe.std)[:, None], recipe.channels, axis=1), dtype=np.float32)


def _write_gate(path: Path, sealed: Examples, answers: dict[str, Floats]) -> None:
    """Every slice that was judged, by name, with its truth and what both variants said: `vitalcheck models gate` judges again from it."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["file", "truth", *(f"{variant}_{name}" for variant in VARIANTS for name in NAMES)])
        for k, name in enumerate(sealed.names):
            logits = (f"{logit:.4f}" for variant in VARIANTS for logit in answers[variant][k])
            writer.writerow([name, NAMES[sealed.labels[k]], *logits])


def _speed(folder: Path, network: Network, absent: int) -> dict[tuple[int, int], dict[str, float]]:
    """(threads, batch) -> variant -> median seconds for one batch; rounds are interleaved."""
    found = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        sessions = {v: Session(folder / f"model_{v}.onnx", threads) for v in VARIANTS}
        for batch in BATCHES:
            tensor = np.random.default_rng(0).random((batch, 3, 224, 224), np.float32)
            jobs: dict[str, Callable[[], object]] = {v: partial(session.run, tensor) for v, session in sessions.items()}
            jobs["PyTorch"] = partial(torch_logits, network, absent, tensor)
            found[threads, batch] = _medians(jobs)
    return found


def _medians(jobs: dict[str, Callable[[], object]]) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(ROUNDS + 1):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds[1:]) for name, seconds in taken.items()}  # the first round warms up


def _write_report(path: Path, measured: Measured, manifest: Manifest) -> None:
    page = text(measured, manifest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page)
    print(page)


def _publish(new: Path, out: Path) -> None:
    """Moves the artifacts to `out`, the manifest last: until then the old manifest's digests refuse what is half there."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(new.iterdir(), key=lambda p: p.name == "manifest.toml"):
        part = out / (path.name + ".part")
        part.write_bytes(path.read_bytes())
        part.replace(out / path.name)


if __name__ == "__main__":
    app()
