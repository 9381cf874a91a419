"""What the Measurements say of the machine that computed them."""

from __future__ import annotations

import platform
from pathlib import Path

import onnxruntime
import pytest
from test_run import NOW, model, study

from models import machine
from pipeline import claim
from pipeline.run import analyze

INTEL = (
    "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel name\t: Xeon\n"
    "flags\t\t: fpu avx2 avx512f amx_int8 avx512_vnni\n\nprocessor\t: 1\n"
)
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nCPU implementer\t: 0x41\nCPU architecture: 8\n\n"


@pytest.mark.parametrize(
    ("cpuinfo", "said"),
    [
        (INTEL, " GenuineIntel family 6, AVX2 AVX512F AVX512_VNNI AMX_INT8"),
        (ARM, " 0x41 family 8, ASIMD ASIMDDP I8MM"),
        ("", ""),
        (None, ""),
    ],
    ids=["Intel", "ARM", "says nothing", "no such file"],
)
def test_the_kind_of_cpu(tmp_path: Path, cpuinfo: str | None, said: str) -> None:
    """Maker, family and the instruction sets that matter, always in one order; the architecture where no more is known."""
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(cpuinfo)
    assert machine.cpu(path) == platform.machine() + said


def test_the_measurements_name_what_computed_them(tmp_path: Path) -> None:
    """ONNX Runtime's version and the kind of CPU stand there, and no name of the machine."""
    measurements = analyze(study(tmp_path), [model()], NOW).documents[1]
    said = claim.parse(measurements.data)
    assert said is not None
    assert (said.parameter("ONNX Runtime"), said.parameter("CPU")) == (onnxruntime.__version__, machine.cpu())
    assert platform.node().encode() not in measurements.data
