"""`make bench-pipeline`: ms per slice of decode, prepare, infer and report for three kinds of series. Markdown on stdout.

    python -m scripts.bench_pipeline --rounds 5 --write docs/benchmarks/pipeline.md

Kinds and variants take turns within each round, so that what else the machine does hits all of them; medians over the rounds. The series
are made on the spot: the slices of one phantom, over and over, for what is measured does not hang on what they show.
"""

from __future__ import annotations

import copy
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from pydicom.dataset import Dataset
from tqdm import tqdm

from listener import logs
from listener.config import Worker
from listener.headers import studies
from listener.isolation import Isolated
from models import registry
from models.registry import Model
from pipeline.decode import decode
from pipeline.records import Series, Study, Variant
from pipeline.run import Decoder, analyze
from scripts.make_phantom import make_series
from scripts.phantom.enhanced import to_enhanced
from scripts.phantom.mr_image import Case
from scripts.syntaxes import save

MODEL = "brain_tumor_4class"
CASE = Case("glioma", 1, "axial", 24, 256)
VARIANTS: tuple[Variant, Variant] = ("fp32", "int8")
STAGES = ("choose", "decode", "prepare", "infer", "aggregate", "report")
INSIDE = "decode, no boundary"
THREADS = 2


class Kind(NamedTuple):
    """A series to be timed: `between` in mm; 512 pixels are those of the phantom, each twice."""

    name: str
    slices: int
    size: int
    between: float
    enhanced: bool = False


KINDS = (
    Kind("24 slices 256²", 24, 256, 6.0),
    Kind("160 slices 512²", 160, 512, 1.0),
    Kind("600 frames 256², Enhanced", 600, 256, 0.25, enhanced=True),
)
Key = tuple[Kind, Variant]
Medians = Mapping[Key, Mapping[str, float]]


# --- series -----------------------------------------------------------------------------------------------------------


def make_study(folder: Path, kind: Kind, painted: list[Dataset]) -> Study:
    """The study with one series of `kind`, uncompressed, written to `folder`."""
    folder.mkdir()
    instances = list(_instances(kind, painted))
    if kind.enhanced:
        instances = [to_enhanced(instances, series_uid=_uid(kind, "e"), sop_instance_uid=_uid(kind, 0), dimensions_uid=_uid(kind, "d"))]
    paths = [folder / f"{ds.InstanceNumber:03d}.dcm" for ds in instances]
    for ds, path in zip(instances, paths, strict=True):
        save(ds, path, "explicit")
    [study] = studies(paths)
    return study


def _instances(kind: Kind, painted: list[Dataset]) -> Iterator[Dataset]:
    """The painted slices up and down the head again and again, `between` mm apart."""
    there_and_back = painted + painted[::-1]
    for k in range(kind.slices):
        slice_ = there_and_back[k % len(there_and_back)]
        ds = copy.deepcopy(slice_)
        ds.SOPInstanceUID, ds.InstanceNumber = _uid(kind, k + 1), k + 1
        ds.ImagePositionPatient = [*slice_.ImagePositionPatient[:2], round(k * kind.between, 4)]
        ds.SliceLocation, ds.SpacingBetweenSlices = ds.ImagePositionPatient[2], kind.between
        _enlarge(ds, kind.size // CASE.size)
        yield ds


def _enlarge(ds: Dataset, times: int) -> None:
    pixels = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns)
    ds.PixelData = np.kron(pixels, np.ones((times, times), np.uint16)).tobytes()
    ds.PixelSpacing = [float(step) / times for step in ds.PixelSpacing]
    ds.Rows, ds.Columns = ds.Rows * times, ds.Columns * times


def _uid(kind: Kind, part: object) -> str:
    return CASE.uid("bench", kind.name, part)


# --- times ------------------------------------------------------------------------------------------------------------


def measure(works: Mapping[Kind, Study], models: Mapping[Variant, Model], rounds: int, decoder: Decoder) -> Medians:
    """Median ms of each stage for each series with each variant; the first round warms up and does not count."""
    taken: dict[Key, list[dict[str, float]]] = {(kind, variant): [] for kind in works for variant in models}
    turns = [key for _ in range(rounds + 1) for key in taken]
    for kind, variant in tqdm(turns, unit="study", mininterval=5):
        report = analyze(works[kind], [models[variant]], datetime.now(UTC), decoder)
        assert report.choice.series is not None
        taken[kind, variant].append({**report.timings_ms, INSIDE: _decode_ms(report.choice.series)})
    return {key: {stage: statistics.median(t[stage] for t in times[1:]) for stage in times[0]} for key, times in taken.items()}


def _decode_ms(series: Series) -> float:
    start = time.perf_counter()
    decode(series)
    return (time.perf_counter() - start) * 1000


def table(medians: Medians, *, shares: bool) -> str:
    """Markdown: a row for each series and variant; ms per slice of each stage, or its share of the whole in percent."""
    head = ["series", "variant", *STAGES, *(() if shares else ("whole", INSIDE))]
    lines = [head, ["---"] * len(head)]
    for (kind, variant), ms in medians.items():
        whole = sum(ms[stage] for stage in STAGES)
        if shares:
            lines.append([kind.name, variant, *(f"{ms[stage] / whole:.0%}" for stage in STAGES)])
        else:
            lines.append([kind.name, variant, *(f"{value / kind.slices:.2f}" for value in (*(ms[s] for s in STAGES), whole, ms[INSIDE]))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def promise(medians: Medians) -> str:
    """Decode and prepare of 24 uncompressed slices are to take no longer than fp32 inference of them."""
    ms = medians[KINDS[0], "fp32"]
    ratio = (ms["decode"] + ms["prepare"]) / ms["infer"]
    return f"(decode + prepare) / fp32 inference, {KINDS[0].name}: {ratio:.2f}, must be at most 1: {'met' if ratio <= 1 else 'missed'}"


def page(medians: Medians, rounds: int) -> str:
    """The whole output."""
    machine = f"{platform.machine()} with {os.cpu_count()} cores"
    return f"""# Where the time of a study goes

Written by `make bench-pipeline`: {rounds} rounds in turns, medians; {THREADS} threads of inference, {machine}.
Uncompressed pixels (explicit VR little endian), files in the page cache. `decode` runs in a process of its own, as in `vitalcheck serve`;
the last column is the same without that boundary. Where int8 answers, fp32 reads the slices that decide too: that is part of its
`infer`. Other machines take other times; shares differ less.

{promise(medians)}

## ms per slice

{table(medians, shares=False)}

## Share of the whole

{table(medians, shares=True)}
"""


def main(
    rounds: Annotated[int, typer.Option(min=1, help="that count; one more comes first, to warm up")] = 5,
    write: Annotated[Path | None, typer.Option(help="also write the page to this file")] = None,
) -> None:
    """Prints the page."""
    logs.configure("console", "warning")
    loaded = {variant: registry.load(MODEL, variant=variant, threads=THREADS, shadow_rate=0.0) for variant in VARIANTS}
    models = {variant: model for variant, model in loaded.items() if model.selector.variant == variant}
    painted = make_series(CASE, "t1")
    limits = Worker()
    with tempfile.TemporaryDirectory() as folder, Isolated(limits.decode_memory_bytes, limits.decode_seconds) as decoder:
        works = {kind: make_study(Path(folder) / str(k), kind, painted) for k, kind in enumerate(KINDS)}
        medians = measure(works, models, rounds, decoder)
    text = page(medians, rounds)
    print(text, end="")
    if write:
        write.write_text(text)


if __name__ == "__main__":
    typer.run(main)
