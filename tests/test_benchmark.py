"""`make bench`: it feeds the bundled network what that eats."""

from __future__ import annotations

import pytest

from models import registry
from models.runtime import Session
from scripts import benchmark


def test_both_variants_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of the recipe's channels and size goes through both files, and their times are compared."""
    monkeypatch.setattr(benchmark, "ROUNDS", 1)
    manifest, folder = registry.read(benchmark.MODEL), registry.ZOO / benchmark.MODEL
    sessions = {variant: Session(folder / manifest.artifacts[variant].file) for variant in benchmark.VARIANTS}
    assert benchmark.network_ratio(sessions, 2, manifest.recipe) > 0
