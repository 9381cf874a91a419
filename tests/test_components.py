"""Magnitude and phase in one object, as Philips writes them: choose lets it pass, and the magnitudes are what is read."""

from __future__ import annotations

import pytest

from pipeline.pixels.stack import Plane, arranged
from pipeline.records import Source


@pytest.mark.parametrize("component", ["PHASE", "REAL", "IMAGINARY"])
@pytest.mark.parametrize("magnitude_first", [True, False])
def test_magnitudes_are_read(component: str, magnitude_first: bool) -> None:
    """Of two whole sets in the same places the magnitudes are kept, whichever was written last."""
    kinds = ["MAGNITUDE", component] if magnitude_first else [component, "MAGNITUDE"]
    planes = [
        Plane(Source("1.2", 4 * n + k + 1), (1, 4 * n + k + 1), (8, 8), (1.0, 1.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 5.0 * k),
              kind=(None, 4.6, None, "ORIGINAL PRIMARY T1 NONE", kind))
        for n, kind in enumerate(kinds)
        for k in range(4)
    ]  # fmt: skip

    assert {plane.kind[-1] for plane in arranged(planes).planes} == {"MAGNITUDE"}
