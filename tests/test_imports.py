"""What is loaded where: training never serves, and the receiver never infers. test_demo.py asks the same of a whole node."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEVER_SERVED = {"torch", "sklearn", "matplotlib", "nibabel", "onnx", "onnxruntime.quantization"}
RECEIVER = ("scp", "contexts", "spool", "ledger", "completion", "eligibility")
ANALYSE = """
import sys
from listener.cli import main
try:
    main(["analyze", sys.argv[1], "--out", sys.argv[2], "--json"])
except SystemExit as end:
    assert not end.code, end.code
print(*sorted(sys.modules), file=sys.stderr)
"""


def test_analysing_a_study_loads_no_training_library(demo_study: Path, tmp_path: Path) -> None:
    """A process that analyses the bundled study has loaded neither torch nor any other library of training."""
    command = [sys.executable, "-c", ANALYSE, str(demo_study), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    loaded = set(result.stderr.splitlines()[-1].split())
    assert '"state": "analysed"' in result.stdout
    assert "onnxruntime" in loaded
    assert not loaded & NEVER_SERVED


def test_receiver_loads_neither_pipeline_nor_network() -> None:
    """The parts of the receiver load no stage of the pipeline, no model and no ONNX Runtime."""
    code = "\n".join([*(f"import listener.{part}" for part in RECEIVER), "import sys", "print(*sys.modules)"])
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)
    loaded = set(result.stdout.split())
    assert "listener.scp" in loaded
    shared = {f"pipeline.{room}" for room in ("language", "records", "attributes", "part10", "syntaxes", "sop_classes", "orientation")}
    assert {name for name in loaded if name.startswith("pipeline.")} == shared
    assert not loaded & {"models", "onnxruntime", "highdicom", *NEVER_SERVED}


def test_inference_reports_to_nobody(tmp_path: Path) -> None:
    """A process that runs a network leaves no identifier and no queue of events for the maker of ONNX Runtime."""
    code = """
import sys
from models import registry
from models.runtime import Session
Session(registry.ZOO / sys.argv[1] / registry.read(sys.argv[1]).artifacts["fp32"].file)
"""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}  # without CI, which would silence it too
    subprocess.run([sys.executable, "-c", code, "brain_tumor_4class"], cwd=ROOT, env=environment, timeout=60, check=True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("models/selector.py", "import torch", "torch lives only in models.training"),
        ("pipeline/decode.py", "import pipeline.prepare", "Stages of the pipeline never import each other"),
        ("pipeline/infer.py", "import listener.errors", "Imports go down with the pixels"),
        ("pipeline/vocabulary.py", "import pipeline.traits", "Below the stages their rooms, below these what all share"),
        ("pipeline/choose.py", "import pipeline.pixels.stack", "Only decode opens pixels"),
        ("pipeline/pixels/frames.py", "import gdcm", "Only codecs.py knows the codecs"),
        ("pipeline/traits.py", "import pydicom", "Data sets are born and die at the doors"),
    ],
)
def test_import_rules_catch_a_planted_import(file: str, line: str, contract: str, tmp_path: Path) -> None:
    """An import that goes against the architecture breaks the contract that names the rule."""
    for room in ("listener", "pipeline", "models", "scripts"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("*.onnx", "*.np?", "*.dcm", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a") as stream:
        stream.write(f"\n{line}\n")
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)}, check=False
    )
    assert result.returncode == 1
    assert re.search(rf"^{re.escape(contract)}\s+BROKEN\b", result.stdout, re.M), result.stdout
