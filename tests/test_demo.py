"""`make demo` keeps its word, and the node that it runs loads nothing of training."""

from __future__ import annotations

import io
import re
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pydicom
import pytest

from scripts import demo


class Run(NamedTuple):
    """What a run of the demo left."""

    printed: str
    log: str
    folder: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The whole demo, once, with every process of the node telling its imports."""
    folder, printed = tmp_path_factory.mktemp("demo"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, chdir(folder), redirect_stdout(printed):
        patch.setenv("PYTHONPROFILEIMPORTTIME", "1")
        demo.run(folder)
    return Run(printed.getvalue(), (folder / "serve.log").read_text(), folder)


def test_demo_prints_the_report_and_where_both_documents_are(run: Run) -> None:
    """The demo prints the Summary's sections and the absolute paths of both Structured Reports as the PACS received them."""
    assert "Findings" in run.printed
    assert "not a medical device" in run.printed
    paths = [Path(line.strip()) for line in run.printed.splitlines()[-2:]]
    assert sorted(paths) == sorted((run.folder / "out" / "demo").glob("*.dcm"))
    assert {pydicom.dcmread(path).Modality for path in paths} == {"SR"}


def test_serving_a_study_loads_no_training_library(run: Run) -> None:
    """Receiver and worker that answer the bundled study import neither torch nor any other library of training."""
    imported = set(re.findall(r"^import time:.*\| +(\w+)", run.log, re.M))
    assert {"pynetdicom", "onnxruntime", "highdicom"} <= imported
    assert not imported & {"torch", "sklearn", "matplotlib", "nibabel"}


def test_failing_demo_says_what_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the node does not start, the demo ends with 1, one line that says so, and the node's own words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "CONFIG", demo.CONFIG.replace("quiet_seconds", "quite_seconds"))
    assert demo.main() == 1
    error = capsys.readouterr().err
    assert error.startswith("demo: `vitalcheck serve` did not start")
    assert "quiet_seconds" in error
