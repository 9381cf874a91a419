"""What several tests need: the bundled study; and silence, as models/runtime.py keeps it, where a test uses ONNX Runtime by itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def demo_study() -> Path:
    """The folder of the bundled head MR study."""
    return ROOT / "scripts" / "demo_study"
