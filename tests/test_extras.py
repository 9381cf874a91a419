"""extras: which documents there are beside the two SRs, what validators and a PACS say of them, and who gets them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from objects import dataset
from peers import Node, Orthanc, StoragePeer, free_port, push, wait_for
from pydicom import Dataset
from reports import KINDS, instance, make, parsed, result, study, tool, written

from listener import delivery, headers
from listener.config import Destination
from pipeline.records import Kind
from pipeline.sop_classes import OF_DOCUMENTS

EXTRAS: tuple[Kind, ...] = ("key-image", "presentation", "pdf")
ALL: tuple[Kind, ...] = ("summary", "measurements", *EXTRAS)


@pytest.mark.parametrize("kind", KINDS)
def test_validators_of_every_kind_of_result(kind: str, tmp_path: Path) -> None:
    """dciodvfy and, over study and documents together, dcentvfy find no error, and dcmpschk none in a presentation."""
    of, documents = result(tmp_path, kind, wanted=ALL)
    paths = written(documents, tmp_path)
    for path in paths:
        assert "Error" not in tool("dciodvfy", path), path.name
        if path.stem == "presentation":
            said = tool("dcmpschk", path)
            assert "Test passed" in said and "E: " not in said
    assert "Error" not in tool("dcentvfy", *(i.path for i in of.instances), *paths)


@pytest.mark.parametrize("kind", KINDS)
def test_which_documents_there_are(kind: str, tmp_path: Path) -> None:
    """No picture of what was not found, none of what was not analysed, no presentation of no region; a PDF wherever there is a Summary."""
    made = {document.kind for document in result(tmp_path, kind, wanted=ALL)[1]}
    if kind.endswith("declined"):
        assert made == {"summary", "pdf"}
    else:
        without = EXTRAS[:2] if kind.endswith("absent") else EXTRAS[1:2] if kind == "no map" else ()
        assert made == set(ALL) - set(without)


def test_a_model_without_a_map_draws_nothing(tmp_path: Path) -> None:
    """Without a region there is no presentation, and a key image without an outline that speaks of none."""
    made = {document.kind: parsed(document) for document in make(study(tmp_path), region=(), wanted=ALL)}
    assert made.keys() == set(ALL) - {"presentation"}
    assert not (made["key-image"].pixel_array[:768] == (255, 221, 0)).all(-1).any()


@pytest.mark.parametrize("wanted", [("pdf",), ("key-image", "presentation"), ("summary",)])
def test_only_what_is_wanted_is_made(wanted: tuple[Kind, ...], tmp_path: Path) -> None:
    """Of five kinds those that were asked for are made."""
    assert {document.kind for document in make(study(tmp_path), wanted=wanted)} == set(wanted)


def test_the_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    """Made again, alone or with others, and from instances that came in another order, each document is the same to the byte."""
    of = study(tmp_path)
    turned = replace(of, series=(replace(of.series[0], instances=of.series[0].instances[::-1]),))
    first = {document.kind: document.data for document in make(of, wanted=ALL)}
    assert len({*first.values()}) == 5
    assert all(make(of, wanted=(kind,))[0].data == first[kind] for kind in ALL)
    assert make(of, "declined", wanted=("pdf",))[0].data == make(turned, "declined", wanted=("pdf",))[0].data


def test_they_belong_to_the_patient_and_study(tmp_path: Path) -> None:
    """Each has the patient's and the study's attributes, a series of its own, and says that it is not verified."""
    of = headers.group([instance(tmp_path, n + 1, PatientName="Müller^Jörg", StudyID="7") for n in range(4)])[0]
    made = [parsed(document) for document in make(of, wanted=ALL)]
    assert {(str(ds.PatientName), ds.PatientID, ds.StudyInstanceUID, ds.StudyID, ds.AccessionNumber) for ds in made} == {
        ("Müller^Jörg", "4711", "2.25.1", "7", "A1")
    }
    assert sorted((ds.SeriesNumber, ds.Modality) for ds in made) == [(9001, "SR"), (9002, "SR"), (9003, "OT"), (9004, "PR"), (9005, "DOC")]
    assert len({ds.SeriesInstanceUID for ds in made}) == 5
    assert all(ds.SeriesDescription.startswith("Unverified AI: ") for ds in made)


@pytest.mark.parametrize("kind", ["present", "frames", "ct unsure"])
def test_references_stay_within_the_study(kind: str, tmp_path: Path) -> None:
    """Whatever a document refers to is an instance of the study, never another document, which the PACS may not have got."""
    of, documents = result(tmp_path, kind, wanted=EXTRAS)
    held = {i.sop_instance_uid for i in of.instances}
    for document in documents:
        named = {e.value for e in parsed(document).iterall() if e.keyword == "ReferencedSOPInstanceUID"}
        assert named and named <= held


@pytest.mark.parametrize("kind", ["unsure", "frames", "ct"])
def test_orthanc_stores_them(kind: str, tmp_path: Path) -> None:
    """Orthanc accepts and holds every document under its SOP class."""
    documents = result(tmp_path, kind, wanted=ALL)[1]
    with Orthanc(tmp_path / "orthanc", free_port()) as orthanc:
        destination = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=orthanc.port, documents=ALL)
        assert delivery.echo(destination, "VITALCHECK") == delivery.Sent(0x0000)
        assert [delivery.send(d.data, destination, "VITALCHECK") for d in documents] == [delivery.Sent(0x0000)] * 5
        held = {orthanc.get(f"/instances/{i}/simplified-tags")["SOPClassUID"] for i in orthanc.instances()}
    assert held == set(OF_DOCUMENTS.values())


def test_each_destination_gets_its_own_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that wants a PDF gets that alone, another a key image and the Summary; nothing else is made, and the study is delivered."""
    with StoragePeer("ONE") as one, StoragePeer("TWO") as two:
        wanted = {"one": (one, ["pdf"]), "two": (two, ["summary", "key-image"])}
        places = [
            {"name": name, "ae_title": name.upper(), "host": "127.0.0.1", "port": peer.port, "documents": kinds}
            for name, (peer, kinds) in wanted.items()
        ]
        monkeypatch.setenv("VITALCHECK_DESTINATIONS", json.dumps(places))
        with Node(tmp_path) as node:
            assert push(node.port, [head(n) for n in (1, 2, 3)]) == [0x0000] * 3
            node.wait_for_state("1.2.3", "delivered")
            wait_for(lambda: len(two.received) == 2, what="both documents")
            kept = sorted(path.name.partition("-2.25")[0] for path in (node.state / "reports" / "1.2.3").iterdir())
    assert kept == ["key-image", "pdf", "summary"]
    assert [ds.SOPClassUID for ds in one.received] == [OF_DOCUMENTS["pdf"]]
    assert {ds.SOPClassUID for ds in two.received} == {OF_DOCUMENTS["summary"], OF_DOCUMENTS["key-image"]}
    log = node.log_path.read_text()
    assert "Geheim" not in log


def head(number: int) -> Dataset:
    ds = dataset(number=number, SeriesDescription="T1 SE", BodyPartExamined="HEAD")
    ds.PixelData = (np.arange(256, dtype=np.uint16) * number).tobytes()
    return ds
