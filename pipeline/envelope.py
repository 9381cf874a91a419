"""The envelope of a document: everything around its content (of a Structured Report: its content tree), and the encoding.

Patient, study and request attributes are the source's (pipeline/inherited.py), byte for byte, under its own character set; so what we
write ourselves is plain ASCII, which every one of the defined terms holds (PS3.3 C.12.1.1.2). Nothing here asks a clock or a random
number: the same result gives the same bytes.
"""

from __future__ import annotations

import unicodedata
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from importlib import metadata
from io import BytesIO
from typing import Any

from pydicom import Dataset, FileMetaDataset, dcmwrite
from pydicom.charset import convert_encodings, default_encoding
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from models.manifest import Manifest
from pipeline import inherited
from pipeline.records import USUAL, Document, Instance, Kind, Study, Variant
from pipeline.sop_classes import OF_DOCUMENTS

# Modality and number of each one's series. One each: OHIF shows only the latest SR of a series; the numbers are behind a scanner's.
_SERIES: dict[Kind, tuple[str, int]] = {
    "summary": ("SR", 9001),
    "measurements": ("SR", 9002),
    "key-image": ("OT", 9003),
    "presentation": ("PR", 9004),
    "pdf": ("DOC", 9005),
}
_NAMESPACE = uuid.UUID("5b0b3a5e-6a0c-4a58-9d0e-2f3d6c1f7a41")  # of all UIDs that we derive
_IMPLEMENTATION = f"2.25.{uuid.uuid5(_NAMESPACE, 'implementation').int}"
_SCHEME = "99VITALCHECK"

_TYPOGRAPHY = str.maketrans({"–": "-", "—": "-", "−": "-", "’": "'", "‘": "'", "“": '"', "”": '"', "×": "x", "…": "..."})


@dataclass(frozen=True, slots=True)
class Origin:
    """What all documents of one result share."""

    study: Study
    manifest: Manifest
    variant: Variant | None  # None: not analysed
    evidence: tuple[Instance, ...]  # every analysed instance
    now: datetime
    source: Any  # pydicom Dataset: the headers of one instance; lives as long as `report.make` runs

    @property
    def weights(self) -> str:
        """sha256 of the artifact that answered; empty when none did."""
        artifact = self.manifest.artifacts.get(self.variant) if self.variant else None
        return artifact.sha256 if artifact else ""

    @property
    def model(self) -> str:
        return f"{self.manifest.name} {self.manifest.version}"

    def uid(self, what: str) -> str:
        """The same input, model with its manifest, variant and release give the same UID; anything else another one."""
        manifest, variant = self.manifest.id, self.variant or "none"
        return derived_uid(self.study.uid, self.study.digest, self.model, self.weights, manifest, variant, software(), what)


def derived_uid(*parts: str) -> str:
    """A UID under 2.25 (PS3.5 B.2) that hangs on `parts` alone."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(parts)).int}"


@cache
def software() -> str:
    """Name and version of this program. Looking it up takes 0.5 ms, and a report says it a dozen times."""
    try:
        return f"VitalCheck {metadata.version('vitalcheck')}"
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "VitalCheck (not installed)"


def plain(text: str) -> str:
    """`text` in ASCII, so that it is the same under every character set."""
    return unicodedata.normalize("NFKD", text.translate(_TYPOGRAPHY)).encode("ascii", "ignore").decode()


def seal(kind: Kind, content: Any, origin: Origin) -> Document:
    """The document around `content`, encoded; a Dataset: the root container of an SR, or what the modules of another kind hold."""
    document = Dataset()
    inherited.copy(origin.source, document)
    _identify(document, kind, origin)
    _describe_equipment(document, origin)
    if kind in USUAL:
        _state(document, origin)
    document.CodingSchemeIdentificationSequence = [
        item(CodingSchemeDesignator=_SCHEME, CodingSchemeName="VitalCheck", CodingSchemeResponsibleOrganization="VitalCheck")
    ]
    document.update(content)
    return Document(kind, document.SOPInstanceUID, document.SOPClassUID, _encoded(document))


def _state(document: Any, origin: Origin) -> None:
    """What a Structured Report alone says (PS3.3 C.17.2): who states it, how far it is, what it rests on, which request it answers."""
    if requests := inherited.requests(origin.source, origin.study.uid):
        document.ReferencedRequestSequence = requests
    if origin.evidence:
        document.CurrentRequestedProcedureEvidenceSequence = [_evidence(origin)]
    author = item(ObserverType="DEV", StationName=None, DeviceUID=device_uid(), InstitutionName=None, InstitutionCodeSequence=[])
    author.Manufacturer = author.ManufacturerModelName = "VitalCheck"
    document.AuthorObserverSequence = [author]
    document.CompletionFlag, document.VerificationFlag, document.PreliminaryFlag = "COMPLETE", "UNVERIFIED", "PRELIMINARY"
    document.PerformedProcedureCodeSequence = []
    document.ReferencedPerformedProcedureStepSequence = []


def _identify(document: Any, kind: Kind, origin: Origin) -> None:
    now = clock(origin)
    document.SOPClassUID, document.SOPInstanceUID = OF_DOCUMENTS[kind], origin.uid(kind)
    document.StudyInstanceUID, document.SeriesInstanceUID = origin.study.uid, origin.uid(f"series of {kind}")
    document.Modality, document.SeriesNumber = _SERIES[kind]
    document.InstanceNumber = 1
    document.SeriesDescription = f"AI {kind.replace('-', ' ')}, not verified"  # viewers cut it off early
    for what in ("Series", "PresentationCreation" if kind == "presentation" else "Content", "InstanceCreation"):
        setattr(document, f"{what}Date", now.strftime("%Y%m%d"))
        setattr(document, f"{what}Time", now.strftime("%H%M%S.%f"))


def clock(origin: Origin) -> datetime:
    """Now, on the clock that the object's other times were read from, where the source says which."""
    east = inherited.offset(origin.source)
    return origin.now if east is None else origin.now.astimezone(timezone(east))


def _describe_equipment(document: Any, origin: Origin) -> None:
    document.Manufacturer = document.ManufacturerModelName = "VitalCheck"
    document.SoftwareVersions = [software(), plain(f"{origin.model} {origin.variant or ''}".strip())[:64]]
    ours = item(Manufacturer="VitalCheck", ManufacturerModelName="VitalCheck", SoftwareVersions=document.SoftwareVersions)
    ours.PurposeOfReferenceCodeSequence = [code(codes.DCM.ProcessingEquipment)]
    ours.ContributionDateTime = clock(origin).strftime("%Y%m%d%H%M%S.%f")
    ours.ContributionDescription = f"AI inference, weights sha256 {origin.weights}" if origin.weights else "Not analysed"
    document.ContributingEquipmentSequence = [ours]


def device_uid() -> str:
    """Of this release: VitalCheck is software, its copies give the same answers."""
    return derived_uid("device", software())


def private(value: str, meaning: str) -> Any:
    """A concept that no public scheme has."""
    return Code(value, _SCHEME, meaning)


def code(concept: Any) -> Any:
    """A coded concept as an item of a code sequence (PS3.3 8.8)."""
    return item(CodeValue=concept.value, CodingSchemeDesignator=concept.scheme_designator, CodeMeaning=concept.meaning)


def reference(instance: Instance, frame: int | None = None) -> Any:
    """An item of a sequence of references (PS3.3 10.8), with the frame (10.3) where the instance holds several."""
    made = item(ReferencedSOPClassUID=instance.sop_class_uid, ReferencedSOPInstanceUID=instance.sop_instance_uid)
    if frame is not None:
        made.ReferencedFrameNumber = frame
    return made


def _evidence(origin: Origin) -> Any:
    series: dict[str, list[Any]] = {}
    for instance in sorted(origin.evidence, key=lambda i: (i.series_uid, i.sop_instance_uid)):
        series.setdefault(instance.series_uid, []).append(reference(instance))
    listed = [item(SeriesInstanceUID=uid, ReferencedSOPSequence=items) for uid, items in series.items()]
    return item(StudyInstanceUID=origin.study.uid, ReferencedSeriesSequence=listed)


def item(**attributes: Any) -> Any:
    """A Dataset with these attributes, by keyword."""
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def _encoded(document: Any) -> bytes:
    """Part 10, Explicit VR Little Endian."""
    document.file_meta = FileMetaDataset()
    document.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    document.file_meta.ImplementationClassUID = _IMPLEMENTATION
    document.file_meta.ImplementationVersionName = "VITALCHECK"
    # What was copied is encoded already, as this says; otherwise pydicom would decode it and encode it again.
    terms = document.get("SpecificCharacterSet")
    document.set_original_encoding(False, True, convert_encodings(terms) if terms else default_encoding)
    buffer = BytesIO()
    dcmwrite(buffer, document, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return buffer.getvalue()
