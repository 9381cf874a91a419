"""`make bench`: int8 against fp32 on this CPU, and where the time of a whole study goes. A markdown table of ratios.

Only ratios: seconds of a shared machine mean little. Variants take turns within each round, so that what else the
machine does hits both; the median over rounds counts.
"""

from __future__ import annotations

import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np

from listener import logs
from listener.headers import studies
from models import registry
from models.manifest import Recipe
from models.runtime import Floats, Session
from pipeline.run import analyze

MODEL = "brain_tumor_4class"
STUDY = Path(__file__).parent / "demo_study"
ROUNDS = 11
STUDY_ROUNDS = 5
Variant = Literal["fp32", "int8"]
VARIANTS: tuple[Variant, Variant] = ("fp32", "int8")


def main() -> int:
    """Prints both tables."""
    logs.configure("console", "warning")
    manifest, folder = registry.read(MODEL), registry.ZOO / MODEL
    print(f"{manifest.name} {manifest.version}: {ROUNDS} rounds, variants in turns, medians\n")
    print("| threads | batch | fp32 / int8 |\n|---|---|---|")
    for threads in (1, 2):
        sessions = {variant: Session(folder / manifest.artifacts[variant].file, threads) for variant in VARIANTS}
        for batch in (1, 24):
            print(f"| {threads} | {batch} | {network_ratio(sessions, batch, manifest.recipe):.2f} |", flush=True)
    print(
        f"\nThe demo study whole, {STUDY_ROUNDS} rounds, each stage as a share of fp32's total; where int8 answers, fp32 reads the slices"
    )
    print("that decide too, as in service\n")
    print(stage_table({variant: stage_medians(variant) for variant in VARIANTS}))
    return 0


def network_ratio(sessions: dict[Variant, Session], batch: int, recipe: Recipe) -> float:
    """How many times as long fp32 takes as int8 for one batch."""
    tensor = np.random.default_rng(0).standard_normal((batch, recipe.channels, recipe.size, recipe.size), dtype=np.float32)
    for session in sessions.values():
        session.run(tensor)  # warm: the first run allocates
    rounds = [{variant: seconds(session, tensor) for variant, session in sessions.items()} for _ in range(ROUNDS)]
    return statistics.median(r["fp32"] for r in rounds) / statistics.median(r["int8"] for r in rounds)


def seconds(session: Session, tensor: Floats) -> float:
    start = time.perf_counter()
    session.run(tensor)
    return time.perf_counter() - start


def stage_medians(variant: Variant) -> dict[str, float]:
    """ms per stage of `pipeline.run.analyze` with one variant; empty where this machine does not let it answer."""
    model = registry.load(MODEL, variant=variant, threads=2, shadow_rate=0.0)
    if model.selector.variant != variant:
        return {}
    [study] = studies(sorted(STUDY.glob("*.dcm")))
    rounds = [analyze(study, [model], datetime.now(UTC)).timings_ms for _ in range(STUDY_ROUNDS + 1)][1:]  # the first one warms up
    return {stage: statistics.median(r[stage] for r in rounds) for stage in rounds[0]}


def stage_table(medians: dict[Variant, dict[str, float]]) -> str:
    """Markdown: a row for each stage and one for the whole, a column for each variant that answers here."""
    answering = [variant for variant in VARIANTS if medians[variant]]
    totals = {variant: {**medians[variant], "whole study": sum(medians[variant].values())} for variant in answering}
    whole = totals["fp32"]["whole study"]
    rows = [[stage, *(f"{totals[variant][stage] / whole:.1%}" for variant in answering)] for stage in totals["fp32"]]
    return "\n".join(f"| {' | '.join(row)} |" for row in [["stage", *answering], ["---"] * (len(answering) + 1), *rows])


if __name__ == "__main__":
    sys.exit(main())
