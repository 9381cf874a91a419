"""The corpus of bad data (corpus.py) through `vitalcheck analyze`, all of it in one run: one bad study must not stop the others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import corpus
import pytest
from pydicom import dcmread

CASES = corpus.all_cases()
HERE = Path(__file__).parent
SECONDS_A_STUDY = 10.0  # 0.1 on an idle core
SECONDS_IN_ALL = 300.0
MEMORY = 600  # MiB; all cases but the bombs together need 290, most of it libraries
SECRETS = re.compile(r"geheim|<script|DROP TABLE|[\x00-\x1f]", re.IGNORECASE)
PYTHON = re.compile(r"\b[A-Z]\w*(Error|Exception)\b|Traceback|\.py\b")


@dataclass
class Run:
    """What came out."""

    answers: dict[str, dict[str, Any]] = field(default_factory=dict)  # by case
    seconds: dict[str, float] = field(default_factory=dict)  # by case
    skipped: dict[str, str] = field(default_factory=dict)  # by case: why its first file was skipped
    status: int = -1
    peak: float = 0.0  # MiB, of the process or of its decoder, whichever held more
    errors: str = ""

    def outcome(self, case: corpus.Case) -> tuple[str, str]:
        """(state, reason) of a case."""
        if case.name in self.answers:
            return self.answers[case.name]["state"], self.answers[case.name]["reason"] or ""
        return ("skipped", self.skipped[case.name]) if case.name in self.skipped else ("lost", self.errors[-2000:])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two, on two cores."""
    folder = tmp_path_factory.mktemp("corpus")
    names = list(CASES)
    for k, half in enumerate((names[::2], names[1::2])):
        corpus.write_all(folder / str(k) / "in", half)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(analyzed, (folder / "0", folder / "1")))


@pytest.fixture(scope="module")
def run(runs: list[Run]) -> Run:
    """Both as one."""
    both = Run(status=max(abs(run.status) for run in runs), peak=max(run.peak for run in runs), errors="".join(run.errors for run in runs))
    for one in runs:
        both.answers |= one.answers
        both.seconds |= one.seconds
        both.skipped |= one.skipped
    return both


def analyzed(folder: Path) -> Run:
    """`vitalcheck analyze` of FOLDER/in, as a process of its own."""
    command = [sys.executable, str(HERE / "corpus.py"), "analyze", str(folder / "in"), "--out", str(folder / "out"), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "PYTHONUNBUFFERED": "1"}
    found = Run()
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment, cwd=folder)
        killer = threading.Timer(SECONDS_IN_ALL, process.kill)
        killer.start()
        for name, seconds, answer in _read(process):
            found.answers[name], found.seconds[name] = answer, seconds
        found.status = process.wait()
        killer.cancel()
    found.errors = (folder / "stderr").read_text(errors="replace")
    found.peak = float(found.errors.rsplit("peak ")[-1].split()[0])
    for name, why in re.findall(rf"skipped {re.escape(str(folder / 'in'))}/([^/]+)/\d+\.dcm: (.*)", found.errors):
        found.skipped.setdefault(name, why)
    return found


def _read(process: subprocess.Popen[bytes]) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """(case, seconds since the answer before, answer)."""
    by_uid = {case.study_uid: case.name for case in CASES.values()}
    last = 0.0
    for line in process.stdout or ():
        answer, now = json.loads(line), time.monotonic()
        uid = re.search(r"2\.25\.\d{4}", answer["study"])
        assert uid, answer["study"]
        yield by_uid[uid[0]], now - last if last else 0.0, answer
        last = now


@pytest.mark.parametrize("name", CASES)
def test_outcome(run: Run, name: str) -> None:
    """Each case ends as it should, for the reason that it should, in words that quote nothing of the study and nothing of Python."""
    case = CASES[name]
    state, reason = run.outcome(case)
    assert state == case.state, reason
    assert bool(reason) == (state != "analysed")
    assert re.search(case.reason, reason), reason
    assert not SECRETS.search(reason), reason
    assert not PYTHON.search(reason), reason


def test_all_go_on(run: Run) -> None:
    """The process ends well, and says nothing of Python."""
    assert run.status == 0
    assert "Traceback" not in run.errors


def test_no_hang(run: Run) -> None:
    """No study takes longer than some seconds, however big it claims to be."""
    assert not {name: seconds for name, seconds in run.seconds.items() if seconds > SECONDS_A_STUDY}


def test_memory(run: Run) -> None:
    """Neither the analysing process nor the one that decodes for it ever held much."""
    assert run.peak < MEMORY


def test_nothing_of_a_patient_is_said(run: Run) -> None:
    """Progress and warnings name files, rules and UIDs."""
    assert not re.search("geheim", run.errors, re.IGNORECASE)


@pytest.mark.filterwarnings("ignore")
def test_reports_can_be_read(run: Run) -> None:
    """Every Structured Report that came out, whatever was copied into it, is a DICOM object of the study that can be looked at."""
    paths = [(answer["study"], Path(path)) for answer in run.answers.values() for path in answer["reports"]]
    assert len(paths) >= 2 * sum(case.state == "analysed" for case in CASES.values())
    for study, path in paths:
        ds = dcmread(path)
        assert study.startswith(ds.StudyInstanceUID)
        assert len(ds.ContentSequence) > 3
        del ds.ContentSequence  # ours, and the same in all; what is copied lies around it
        assert str(ds)


@pytest.mark.parametrize("said", ["one", "zero", "negative", "letters"])
def test_a_classic_slice_has_no_frame_number(run: Run, said: str) -> None:
    """Whatever is said of frames, an instance of a class of one frame is referred to without a frame (PS3.3 10.3)."""
    assert set(run.answers[f"NumberOfFrames-{said}"]["key_frames"]) == {None}


def test_enough() -> None:
    """The corpus is what it claims to be."""
    assert len(CASES) >= 150
    assert {case.state for case in CASES.values()} == {"analysed", "declined", "quarantined", "skipped"}
