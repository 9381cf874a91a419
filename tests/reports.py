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
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from listener import headers
from models.manifest import Artifact, Coded, DataSource, Label, Manifest, Words
from pipeline import report
from pipeline.decode import decode
from pipeline.records import (
    USUAL,
    Affine,
    Choice,
    Document,
    Finding,
    Geometry,
    Instance,
    Kind,
    PassedOver,
    Point,
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
GAP = "Between slices 2 and 3 lie 18.0 mm where 6.0 mm are usual: what lies in between was not seen – by anybody."
ODD_LIE = Geometry("coronal", 15.2, Turn(transpose=True, flip_columns=True), 6.0, (0.0, 6.0, 24.0, 30.0), (GAP,))
FINDINGS = {
    "present": ("glioma", (0.97, 0.02, 0.0, 0.01)),
    "absent": ("notumor", (0.01, 0.02, 0.0, 0.97)),
    "unsure": ("meningioma", (0.1, 0.4, 0.1, 0.4)),
    "ct": ("haemorrhage", (0.9, 0.1)),
    "ct absent": ("none", (0.004, 0.996)),
    "ct unsure": ("haemorrhage", (0.5, 0.5)),
}
NAMES = {  # Specific Character Set -> a name in it (PS3.5 annexes H, I, J, K; PS3.3 C.12.1.1.2)
    "ISO_IR 100": "Müller^Jörg",
    "ISO_IR 101": "Wałęsa^Łucja",
    "ISO_IR 144": "Люкceмбypг^Ия",
    "ISO_IR 126": "Διονυσιος^Νικος",
    "ISO_IR 138": "שרון^דבורה",
    "ISO_IR 192": "Wang^XiaoDong=王^小东",
    "GB18030": "Wang^XiaoDong=王^小东",
    "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "\\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
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


def study(folder: Path, **attributes: Any) -> Study:
    count = 1 if attributes.get("frames") else SLICES
    return headers.group([instance(folder, n + 1, **attributes) for n in range(count)])[0]


def make(
    of: Study,
    call: str = "present",
    *,
    region: tuple[Point, ...] = REGION,
    manifest: Manifest | None = None,
    wanted: Collection[Kind] = USUAL,
    **prediction: Any,
) -> tuple[Document, ...]:
    """The `wanted` documents for a finding of that `call`, on slices 2, 3 and 1 of the study; `declined` for none."""
    manifest = manifest or MANIFEST
    passed = (PassedOver("2.25.2", 1, "MR", "localizer"), PassedOver("2.25.4", 4, "MR", "T2-weighted, not T1-weighted"))
    if call.endswith("declined"):
        choice = Choice(None, "no T1-weighted head series: series 1 (MR): localizer", passed, expected=True)
        return report.make(of, choice, None, None, manifest, NOW, None, wanted)
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
    )
    zeros = np.zeros((len(sources), 4), np.float32)
    said = {"variant": "int8", "agreement": "agree", "compared": 3, **prediction}
    predicted = Prediction(sources, zeros, None, zeros[:, 0], Affine(1, 0, 0, 0, 1, 0), **said)
    choice = Choice(of.series[0], "T1-weighted head series after contrast", passed, expected=True)
    slices = None if set(wanted) <= set(USUAL) else decode(of.series[0])
    return report.make(of, choice, finding, predicted, manifest, NOW, slices, wanted)


def result(folder: Path, kind: str, wanted: Collection[Kind] = USUAL, **more: Any) -> tuple[Study, tuple[Document, ...]]:
    """A study in `folder`, with `more` attributes, and the documents of one of the KINDS."""
    if kind == "differ":
        of = study(folder, **more)
        return of, make(of, variant="fp32", agreement="differ", differing=2, wanted=wanted)
    if kind == "frames":
        of = study(folder, frames=5, **more)
        return of, make(of, wanted=wanted)
    if kind.startswith("ct"):
        of = study(folder, Modality="CT", **more)
        return of, make(of, kind, manifest=CT_MANIFEST, variant="fp32", agreement="not compared", wanted=wanted)
    of = study(folder, **more)
    return of, make(of, geometry=ODD_LIE, wanted=wanted) if kind == "odd" else make(of, kind, wanted=wanted)


KINDS = ("present", "absent", "unsure", "differ", "frames", "odd", "declined", "ct", "ct absent", "ct unsure", "ct declined")


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
