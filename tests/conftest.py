"""What several tests need: the bundled study; and silence, as models/runtime.py keeps it, where a test uses ONNX Runtime by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import Node

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def demo_study() -> Path:
    """The folder of the bundled head MR study."""
    return ROOT / "scripts" / "demo_study"


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One `vitalcheck serve` for everything that is rude to it, with deadlines that a test can wait for."""
    limits = {"acse_seconds": 1.0, "pdu_seconds": 1.0, "network_seconds": 30.0, "max_object_bytes": 8 << 20, "max_associations": 64}
    with Node(tmp_path_factory.mktemp("attacked"), stand_in=None, listener=limits) as node:
        yield node
