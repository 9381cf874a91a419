"""Strangers' judges over every kind of result: dciodvfy, dcentvfy, dsrdump, dsr2html and PixelMed's DicomSRValidator find no error."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from peers import need
from reports import KINDS, result, tool, written

JAR = Path("/usr/share/java/pixelmed.jar")
QUICK = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]  # halves the time of so short a run
LIMITS = [f"-Djdk.xml.xpath{name}Limit=0" for name in ("TotalOp", "ExprOp", "ExprGrp")]  # Java 17 forbids so long a style sheet
# What judges warn of, and why it stays: docs/reports.md. A warning that is not here fails.
EXPECTED_OF_DCIODVFY = ("Unrecognized defined term <99VITALCHECK>", "needed to build DICOMDIR - Study ID")
EXPECTED_OF_PIXELMED = ('CODE (121052,DCM,"Presence of property"): Content Item not in template',)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_result(kind: str, tmp_path: Path) -> None:
    """dciodvfy and, over study and reports together, dcentvfy find no error, and DCMTK reads both documents without a complaint."""
    of, documents = result(tmp_path, kind)
    paths = written(documents, tmp_path)
    for path in paths:
        judged = tool("dciodvfy", path)
        assert "Error" not in judged
        assert not [line for line in judged.splitlines() if "Warning" in line and not any(known in line for known in EXPECTED_OF_DCIODVFY)]
        dumped = tool("dsrdump", path)
        assert "UNVERIFIED" in dumped and "E: " not in dumped and "W: " not in dumped
        page = tool("dsr2html", path)
        assert "AI result" in page or "Imaging Measurements" in page
        assert "E: " not in page and "W: " not in page
    assert "Error" not in tool("dcentvfy", *(i.path for i in of.instances), *paths)


def test_pixelmed(tmp_path: Path) -> None:
    """DicomSRValidator finds TID 1500 in every Measurements, and no error in them or in the IOD of any Summary, which has no template."""
    paths = [path for kind in KINDS for path in written(result(tmp_path / kind, kind)[1], tmp_path / f"{kind} sr")]
    verdicts = pixelmed(paths)
    assert len(verdicts) == len(paths) == 2 * len(KINDS) - 2
    for path, said in verdicts.items():
        assert "IOD validation complete" in said and "Error" not in said, f"{path}: {said}"
        warned = [line for line in said.splitlines() if line.startswith("Warning")]
        if path.stem == "measurements":
            assert "Found ComprehensiveSR IOD" in said and "Found Root Template TID_1500" in said
            assert not [line for line in warned if not line.endswith(EXPECTED_OF_PIXELMED)]
        else:
            assert "Found EnhancedSR IOD" in said and "Found Root Template" not in said
            assert all(line.endswith("Content Item not in template") for line in warned)


def pixelmed(paths: list[Path]) -> dict[Path, str]:
    """What DicomSRValidator says of each file. One JVM for all where there is a compiler, else one for each; skips without Java."""
    java = need("java")
    if not JAR.exists():
        pytest.skip("libpixelmed-java is not installed")
    command = [java, *QUICK, *LIMITS, "-cp", str(JAR)]
    if "jdk.compiler" in subprocess.run([java, "--list-modules"], capture_output=True, text=True, check=True).stdout:
        told = _output([*command, str(Path(__file__).with_name("Validator.java")), *map(str, paths)])
        parts = [part.split("\n", 1) for part in told.split("File ")[1:]]
        return {Path(path): said for path, said in parts}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        each = pool.map(lambda path: _output([*command, "com.pixelmed.validate.DicomSRValidator", str(path)]), paths)
        return dict(zip(paths, each, strict=True))


def _output(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300)
    return done.stdout
