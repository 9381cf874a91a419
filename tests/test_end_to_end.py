"""The whole path on real input: dcmtk or Orthanc pushes the bundled head, `vitalcheck serve` reads it, Orthanc holds its reports."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from peers import FAIR, Node, Orthanc, need, wait_for


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """The real service with the real network, and Orthanc as its PACS."""
    folder = tmp_path_factory.mktemp("end_to_end")
    made = Node(folder, stand_in=None, completion={"quiet_seconds": 0.5})
    with Orthanc(folder, made.port) as pacs:
        made.pacs = pacs
        made.configure(pacs.port)
        with made:
            yield made


@pytest.fixture(scope="module")
def answered(node: Node, demo_study: Path) -> float:
    """The bundled study, pushed by storescu; seconds from the release of its association to both reports in Orthanc."""
    storescu = need("storescu")
    command = [
        storescu,
        "-xt",
        "-R",
        "-aet",
        "CT01",
        "-aec",
        "VITALCHECK",
        "127.0.0.1",
        str(node.port),
        "+sd",
        "+sp",
        "*.dcm",
        str(demo_study),
    ]
    assert subprocess.run(command, env=FAIR, timeout=120).returncode == 0
    released = time.monotonic()
    wait_for(lambda: len(node.pacs.instances("SR")) == 2, 60, "both reports in Orthanc")
    return time.monotonic() - released


def study_uid(demo_study: Path) -> str:
    return str(pydicom.dcmread(next(demo_study.glob("*.dcm"))).StudyInstanceUID)


def test_both_reports_are_in_the_pacs_within_ten_seconds(node: Node, demo_study: Path, answered: float) -> None:
    """storescu pushes, and 10 s after its release Orthanc holds summary and measurements, which tell the tumour that was painted."""
    assert answered < 10.0
    told = node.wait_for_state(study_uid(demo_study), "delivered")
    assert (told["finding"]["label"], told["finding"]["call"]) == ("glioma", "present")
    assert [delivery["state"] for delivery in told["deliveries"]] == ["stored", "stored"]


def test_the_reports_are_valid(node: Node, answered: float, tmp_path: Path) -> None:
    """dciodvfy finds no Error in what Orthanc holds."""
    dciodvfy = need("dciodvfy")
    for number, identifier in enumerate(node.pacs.instances("SR")):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(node.pacs.file(identifier))
        said = subprocess.run([dciodvfy, str(path)], capture_output=True, text=True, timeout=30).stderr
        assert not [line for line in said.splitlines() if line.startswith("Error")], said


def test_a_second_push_adds_nothing(node: Node, demo_study: Path, answered: float) -> None:
    """The same study again by storescu: no new job, no new report."""
    before = node.describe(study_uid(demo_study))
    command = [need("storescu"), "-xt", "-R", "-aet", "CT01", "-aec", "VITALCHECK", "127.0.0.1", str(node.port)]
    assert subprocess.run([*command, *map(str, demo_study.glob("*.dcm"))], env=FAIR, timeout=120).returncode == 0
    unchanged(node, demo_study, before)


def test_orthanc_sends_it_all_back_and_nothing_comes_of_it(node: Node, demo_study: Path, answered: float) -> None:
    """Orthanc sends the whole study, our own reports included: they are kept, and start no work."""
    before = node.describe(study_uid(demo_study))
    for path in sorted(demo_study.glob("*.dcm")):
        node.pacs.post("/instances", path.read_bytes())
    (study,) = node.pacs.get("/studies")
    sent = node.pacs.post("/modalities/AI/store", {"Resources": [study], "Synchronous": True})
    assert (sent["FailedInstancesCount"], sent["InstancesCount"]) == (0, len(list(demo_study.glob("*.dcm"))) + 2)
    unchanged(node, demo_study, before)
    assert len(node.describe(study_uid(demo_study))["instances"]) == len(before["instances"]) + 2


def unchanged(node: Node, demo_study: Path, before: dict[str, object]) -> None:
    """After the quiet time and more: same state, same history, same documents, two reports in Orthanc."""
    time.sleep(2.0)
    after = node.describe(study_uid(demo_study))
    assert {key: after[key] for key in ("state", "history", "documents")} == {key: before[key] for key in ("state", "history", "documents")}
    assert len(node.pacs.instances("SR")) == 2


def test_orthanc_as_the_scanner(node: Node, demo_study: Path, answered: float) -> None:
    """A PACS that routes to us by /modalities/AI/store gets both reports back. Runs last: it adds a study."""
    (study,) = {node.pacs.post("/instances", another(path))["ParentStudy"] for path in demo_study.glob("t1*.dcm")}
    before = len(node.pacs.instances("SR"))
    node.pacs.post("/modalities/AI/store", {"Resources": [study], "Synchronous": True})
    wait_for(lambda: len(node.pacs.instances("SR")) == before + 2, 60, "both reports in Orthanc")


def another(path: Path) -> bytes:
    """The instance in `path` as one of another study."""
    ds, file = pydicom.dcmread(path), BytesIO()
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(ds, keyword, f"{ds[keyword].value[:60]}.2")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()
