"""The whole of thought: a study in, the answer out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import objects
import pytest

from listener import headers
from models.manifest import Artifact, Label, Manifest
from models.registry import Model
from models.runtime import FixedModel
from models.selector import AdaptiveModelSelector
from pipeline.decode import Undecodable
from pipeline.infer import is_shadowed
from pipeline.records import Study
from pipeline.run import Contradictory, analyze

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LABELS = [
    Label(name=name, value=value, scheme="SCT", meaning=meaning)
    for name, value, meaning in (
        ("glioma", "393564001", "Glioma"),
        ("meningioma", "302820008", "Intracranial meningioma"),
        ("pituitary", "127024001", "Neoplasm of pituitary gland"),
        ("notumor", "281900007", "No abnormality detected"),
    )
]


def model(logits: tuple[float, ...] = (4.0, -4.0, -4.0, 0.0), shadow_rate: float = 0.0) -> Model:
    """A model that gives every slice the same answer."""
    files = {"fp32": Artifact(file="model_fp32.onnx", sha256="0" * 64, bytes=1)}
    manifest = Manifest(name="fixed", version="1.0.0", labels=LABELS, artifacts=files)
    evidence = np.tile(np.array(logits, np.float32)[:, None, None], (1, 14, 14))
    selector = AdaptiveModelSelector(None, Path("fp32"), loader=lambda path: FixedModel(logits, evidence))
    selector.initialize()
    return Model(manifest, selector, Path(), shadow_rate)


def study(folder: Path, count: int = 3, **more: object) -> Study:
    described = {"SeriesDescription": "T1 SE", "BodyPartExamined": "HEAD"} | more
    return headers.group([objects.instance(folder, number=k + 1, **described) for k in range(count)])[0]


def test_answer(tmp_path: Path) -> None:
    """A T1 head is analysed: finding, key instances, two documents, and how long each stage took."""
    report = analyze(study(tmp_path), [model()], NOW)

    assert (report.state, report.reason, report.model) == ("analysed", None, "fixed 1.0.0")
    assert report.finding is not None
    assert (report.finding.label, report.finding.call) == ("glioma", "present")
    assert {s.sop_instance_uid for s in report.finding.key_sources} <= {i.sop_instance_uid for i in study(tmp_path).instances}
    assert [document.kind for document in report.documents] == ["summary", "measurements"]
    assert list(report.timings_ms) == ["choose", "decode", "prepare", "infer", "aggregate", "report"]


def test_one_slice(tmp_path: Path) -> None:
    """A single slice is a study."""
    ramp = np.arange(256, dtype=np.uint16).tobytes()
    assert analyze(study(tmp_path, 1, PixelData=ramp), [model()], NOW).state == "analysed"


def test_empty_pictures(tmp_path: Path) -> None:
    """Pictures of nothing are not answered as a head without a tumour."""
    report = analyze(study(tmp_path, PixelData=bytes(512)), [model()], NOW)

    assert report.state == "declined"
    assert "series 1 (MR): its pictures are empty" in (report.reason or "")
    assert [document.kind for document in report.documents] == ["summary"]


def test_another_series_for_an_empty_one(tmp_path: Path) -> None:
    """Where the series that suits best is empty, the next one is read, and the empty one is passed over with the reason."""
    described = {"SeriesDescription": "T1 SE", "BodyPartExamined": "HEAD"}
    empty = objects.instance(tmp_path, number=1, series=1, PixelData=bytes(512), **described | {"SeriesDescription": "T1 SE +C"})
    full = objects.instance(tmp_path, number=1, series=2, **described)

    report = analyze(headers.group([empty, full])[0], [model()], NOW)

    assert (report.state, report.choice.series and report.choice.series.uid) == ("analysed", full.series_uid)
    assert [passed.reason.split(",")[0] for passed in report.choice.passed_over] == ["its pictures are empty"]


def test_same_bytes(tmp_path: Path) -> None:
    """The same study, model and time give the same documents, byte for byte, in whatever order its instances came."""
    straight = study(tmp_path)
    shuffled = replace(straight, series=tuple(replace(s, instances=s.instances[::-1]) for s in straight.series))

    assert analyze(shuffled, [model()], NOW).documents == analyze(straight, [model()], NOW).documents


def test_declined_head(tmp_path: Path) -> None:
    """A head that cannot be read is declined, and a Summary says why."""
    report = analyze(study(tmp_path, SeriesDescription="T2 TSE"), [model()], NOW)

    assert (report.state, report.finding) == ("declined", None)
    assert report.reason == "no T1-weighted head series: series 1 (MR): T2-weighted, not T1-weighted"
    assert [document.kind for document in report.documents] == ["summary"]


def test_declined_knee(tmp_path: Path) -> None:
    """A knee is declined, and nobody is sent anything."""
    report = analyze(study(tmp_path, BodyPartExamined="KNEE"), [model()], NOW)

    assert (report.state, report.documents) == ("declined", ())
    assert report.reason == "no T1-weighted head series: series 1 (MR): not a head"


def test_broken_pixels(tmp_path: Path) -> None:
    """A chosen series whose pixels cannot be read is our failure, not a finding."""
    with pytest.raises(Undecodable):
        analyze(study(tmp_path, Rows=4000), [model()], NOW)


@pytest.mark.parametrize("other", [{"PatientID": "B"}, {"IssuerOfPatientID": "there"}], ids=["other ID", "other issuer"])
def test_two_patients(tmp_path: Path, other: dict[str, str]) -> None:
    """Instances of two patients under one study UID are not answered as one, and neither is named."""
    described = {"SeriesDescription": "T1 SE", "BodyPartExamined": "HEAD", "IssuerOfPatientID": "here"}
    one = objects.instance(tmp_path, number=1, **described)
    two = objects.instance(tmp_path, number=2, **described | other)

    with pytest.raises(Contradictory, match=r"2 different (?:Patient IDs|Issuers of Patient ID)") as caught:
        analyze(headers.group([one, two])[0], [model()], NOW)

    assert objects.SECRET not in str(caught.value)


def test_spelling_of_a_name(tmp_path: Path) -> None:
    """One Patient ID is one patient, however the name is spelt; an object without an ID contradicts nobody."""
    described = {"SeriesDescription": "T1 SE", "BodyPartExamined": "HEAD"}
    differently = [{}, {"PatientName": "GEHEIM^PATIENT^"}, {"PatientID": ""}]
    instances = [objects.instance(tmp_path, number=k + 1, **described | more) for k, more in enumerate(differently)]

    assert analyze(headers.group(instances)[0], [model()], NOW).state == "analysed"


def test_shadowed() -> None:
    """About the asked share of studies is wholly shadowed, always the same ones, none at 0 and all at 1."""
    uids = [f"1.2.{k}" for k in range(2000)]

    assert 0.08 < np.mean([is_shadowed(uid, 0.1) for uid in uids]) < 0.12
    assert [is_shadowed(uid, 0.1) for uid in uids] == [is_shadowed(uid, 0.1) for uid in uids]
    assert not any(is_shadowed(uid, 0.0) for uid in uids)
    assert all(is_shadowed(uid, 1.0) for uid in uids)
