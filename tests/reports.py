"""Reports for tests: small studies, findings of every kind on them, and strangers' tools to ask of the documents."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import objects
import pytest
from pydicom import dcmread
from pydicom.uid import (
    ComprehensiveSRStorage,
    CTImageStorage,
    EnhancedMRImageStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from listener import headers
from models.manifest import Artifact, Coded, DataSource, Label, Manifest, Words
from pipeline import report, vocabulary
from pipeline.decode import decode
from pipeline.language import ENGLISH, Language, said
from pipeline.records import (
    USUAL,
    Affine,
    Choice,
    Document,
    Finding,
    Geometry,
    Instance,
    Kind,
    Order,
    PassedOver,
    Point,
    Predecessor,
    Prediction,
    Source,
    Study,
    Turn,
)

NOW = datetime(2026, 3, 1, 14, 30, 15, 250_000, tzinfo=UTC)
SLICES = 4
HEAD = (1000 * (np.hypot(*np.mgrid[-0.8:0.8:64j, -1:1:64j]) < 0.7)).astype(np.uint16)  # an oval, upright
HEAD[30:36, 24:30] = 2000  # something bright in it
REGION = ((20.0, 20.0), (40.0, 20.0), (40.0, 44.5), (20.0, 44.5))
MANIFEST = Manifest(
    name="brain_tumor_4class",
    version="1.0.0",
    labels=[
        Label(name="glioma", value="393564001", scheme="SCT", meaning="Glioma"),
        Label(name="meningioma", value="302820008", scheme="SCT", meaning="Intracranial meningioma"),
        Label(name="pituitary", value="127024001", scheme="SCT", meaning="Neoplasm of pituitary gland"),
        Label(name="notumor", value="281900007", scheme="SCT", meaning="No abnormality detected"),
    ],
    artifacts={
        "fp32": Artifact(file="model_fp32.onnx", sha256="f" * 64, bytes=12),
        "int8": Artifact(file="model_int8.onnx", sha256="8" * 64, bytes=3),
    },
    learned_from=[DataSource(name="BRISC 2025", licence="CC BY 4.0", citation="")],
    limits=["Gliomas that do not enhance are missed more often – see the card."],
)
CT_MANIFEST = Manifest(
    name="ct_head",
    version="0.1.0",
    modality="CT",
    sequence="",
    labels=[
        Label(name="haemorrhage", value="1386000", scheme="SCT", meaning="Intracranial haemorrhage"),
        Label(name="none", value="281900007", scheme="SCT", meaning="No abnormality detected"),
    ],
    absent="none",
    words=Words(
        finding="an intracranial haemorrhage",
        absent="no haemorrhage",
        any=Coded(value="1386000", scheme="SCT", meaning="Intracranial haemorrhage"),
    ),
    artifacts={"fp32": Artifact(file="model_fp32.onnx", sha256="c" * 64, bytes=12)},
)
GAP = said("remarks.gap", count=2, width=said("remarks.mm", mm=18.0), between=6.0)
ODD_LIE = Geometry("coronal", 15.2, Turn(transpose=True, flip_columns=True), 6.0, (0.0, 6.0, 24.0, 30.0), (GAP,))
SERIES = said("reasons.series_part", sequence=vocabulary.told("T1"), body_part="head")
NOT_T1 = said("reasons.not_the_sequence", sequence=vocabulary.told("T2"), wanted=vocabulary.told("T1"))
FINDINGS = {
    "present": ("glioma", (0.97, 0.02, 0.0, 0.01)),
    "absent": ("notumor", (0.01, 0.02, 0.0, 0.97)),
    "unsure": ("meningioma", (0.1, 0.4, 0.1, 0.4)),
    "ct": ("haemorrhage", (0.9, 0.1)),
    "ct absent": ("none", (0.004, 0.996)),
    "ct unsure": ("haemorrhage", (0.5, 0.5)),
}
VALID_MR = {  # what dciodvfy asks of an MR image beyond what objects.dataset writes
    "SpecificCharacterSet": "ISO_IR 100",
    "PatientName": "Doe^Jane",
    "PatientID": "4711",
    "PatientSex": "F",
    "StudyDate": "20260301",
    "StudyTime": "140000",
    "AccessionNumber": "A1",
    "FrameOfReferenceUID": "2.25.13",
    "PositionReferenceIndicator": "",
    "Manufacturer": "Scanner",
    "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
    "ScanningSequence": "GR",
    "SequenceVariant": "NONE",
    "ScanOptions": "",
    "MRAcquisitionType": "2D",
    "EchoTime": 10,
    "RepetitionTime": 500,
    "EchoTrainLength": 1,
    "SliceThickness": 5,
    "PatientPosition": "HFS",
}


VALID_CT = {  # and of a CT image
    **{keyword: VALID_MR[keyword] for keyword in list(VALID_MR)[:10]},
    "SOPClassUID": CTImageStorage,
    "Modality": "CT",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "KVP": 120,
    "AcquisitionNumber": 1,
    "RescaleIntercept": -1024,
    "RescaleSlope": 1,
    "RescaleType": "HU",
    "SliceThickness": 5,
    "PatientPosition": "HFS",
}


def instance(folder: Path, number: int, *, frames: int = 0, implicit: bool = False, **attributes: Any) -> Instance:
    """One MR slice, or an Enhanced MR object of `frames` frames, written to `folder` and read back."""
    valid = VALID_CT if attributes.get("Modality") == "CT" else VALID_MR
    ds = objects.dataset("2.25.1", series=3, number=number, **valid | attributes)
    objects.pixels(ds, HEAD)
    if frames:
        ds.SOPClassUID, ds.NumberOfFrames, ds.PixelData = EnhancedMRImageStorage, frames, frames * ds.PixelData
    for keyword, value in attributes.items():  # again: the pixels brought some of their own
        delattr(ds, keyword) if value is None else setattr(ds, keyword, value)
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return headers.read(objects.write(folder, ds), received_at=0.0)


EARLIER = (  # documents of a result on fewer instances
    Predecessor("summary", EnhancedSRStorage, "2.25.81", "2.25.82", 2),
    Predecessor("measurements", ComprehensiveSRStorage, "2.25.83", "2.25.84", 2),
)


def study(folder: Path, **attributes: Any) -> Study:
    count = 1 if attributes.get("frames") else SLICES
    return headers.group([instance(folder, n + 1, **attributes) for n in range(count)])[0]


def make(
    of: Study,
    call: str = "present",
    *,
    region: tuple[Point, ...] = REGION,
    manifest: Manifest | None = None,
    language: Language = ENGLISH,
    unlike: tuple[str, ...] = (),
    wanted: Collection[Kind] = USUAL,
    institution: str = "",
    replaces: tuple[Predecessor, ...] = (),
    **prediction: Any,
) -> tuple[Document, ...]:
    """The `wanted` documents for a finding of that `call`, on slices 2, 3 and 1 of the study; `declined` for none."""
    manifest, order = manifest or MANIFEST, Order(frozenset(wanted), language, institution, replaces)
    passed = (PassedOver("2.25.2", 1, "MR", vocabulary.LOCALIZER), PassedOver("2.25.4", 4, "MR", NOT_T1))
    if call.endswith("declined"):
        reasons = said("reasons.of_series", number=1, modality="MR", reason=vocabulary.LOCALIZER)
        choice = Choice(None, said("reasons.none", series=SERIES, reasons=reasons), passed, expected=True)
        return report.make(of, choice, None, None, manifest, NOW, order)
    frames = of.instances[0].headers.number_of_frames
    sources = tuple(Source(i.sop_instance_uid, k + 1 if frames > 1 else None) for i in of.instances for k in range(frames))
    label, probabilities = FINDINGS[call]
    said_call = call.removeprefix("ct").strip() or "present"
    finding = Finding(
        label=label,
        call=said_call,  # type: ignore[arg-type]
        probability=probabilities[manifest.label_names.index(label)],
        probabilities=dict(zip(manifest.label_names, probabilities, strict=True)),
        key_sources=() if said_call == "absent" else (sources[1], sources[2], sources[0]),
        region=region if said_call != "absent" else (),
        unlike=unlike,
    )
    zeros = np.zeros((len(sources), 4), np.float32)
    answered = {"variant": "int8", "agreement": "agree", "compared": 3, "evidence": zeros[..., None, None], **prediction}
    predicted = Prediction(sources, zeros, head_area=zeros[:, 0], to_source=Affine(1, 0, 0, 0, 1, 0), **answered)
    choice = Choice(of.series[0], said("reasons.after_contrast", series=SERIES), passed, expected=True)
    slices = None if set(wanted) <= set(USUAL) else decode(of.series[0])
    return report.make(of, choice, finding, predicted, manifest, NOW, order, slices)


def result(
    folder: Path, kind: str, language: Language = ENGLISH, wanted: Collection[Kind] = USUAL, **more: Any
) -> tuple[Study, tuple[Document, ...]]:
    """A study in `folder`, with `more` attributes, and the documents of one of the KINDS."""
    told: dict[str, Any] = {"language": language, "wanted": wanted}
    if kind == "differ":
        of = study(folder, **more)
        return of, make(of, variant="fp32", agreement="differ", differing=2, **told)
    if kind == "frames":
        of = study(folder, frames=5, **more)
        return of, make(of, **told)
    if kind == "unlike":
        of = study(folder, **more)
        return of, make(of, "unsure", unlike=("brightness", "contrast"), **told)
    if kind == "revised":
        of = study(folder, **more)
        return of, make(of, institution="St. Anna's", replaces=EARLIER, **told)
    if kind == "no map":
        of = study(folder, **more)
        return of, make(of, region=(), evidence=None, **told)
    if kind.startswith("ct"):
        of = study(folder, Modality="CT", **more)
        return of, make(of, kind, manifest=CT_MANIFEST, variant="fp32", agreement="not compared", **told)
    of = study(folder, **more)
    return of, make(of, geometry=ODD_LIE, **told) if kind == "odd" else make(of, kind, **told)


KINDS = (
    *("present", "absent", "unsure", "differ", "frames", "odd", "no map", "unlike", "revised", "declined"),
    *("ct", "ct absent", "ct unsure", "ct declined"),
)


def written(documents: tuple[Document, ...], folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{document.kind}.dcm" for document in documents]
    for path, document in zip(paths, documents, strict=True):
        path.write_bytes(document.data)
    return paths


def sentences(document: Document) -> list[str]:
    return [item.TextValue for item in items(parsed(document)) if item.ValueType == "TEXT"]


def items(ds: Any) -> list[Any]:
    """All content items below `ds`, in order of reading."""
    return [item for child in ds.get("ContentSequence", []) for item in (child, *items(child))]


def parsed(document: Document) -> Any:
    return dcmread(BytesIO(document.data))


def tool(*command: str | Path) -> str:
    """What a command-line tool printed; skips where it is not installed."""
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, errors="replace", check=False, timeout=60)
    return done.stdout + done.stderr
