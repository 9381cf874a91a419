"""The envelope of a document: everything around its content (of a Structured Report: its content tree), and the encoding.

Patient, study and request attributes are the source's (pipeline/inherited.py), byte for byte, under its own character set; so what we
write ourselves is spelt with letters that this set holds, and else in ASCII, which every one of the defined terms holds (PS3.3
C.12.1.1.2). Nothing here asks a clock or a random number: the same result gives the same bytes.
"""

from __future__ import annotations

import unicodedata
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from importlib import metadata
from io import BytesIO
from typing import Any

from pydicom import Dataset, FileMetaDataset, dcmwrite
from pydicom.charset import convert_encodings, default_encoding, python_encoding
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from models.manifest import Manifest
from pipeline import inherited
from pipeline.language import Language, said
from pipeline.records import USUAL, Document, Instance, Kind, Predecessor, Study, Variant
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
_NAME = {"Manufacturer": "VitalCheck", "ManufacturerModelName": "VitalCheck"}

_TYPOGRAPHY = str.maketrans({"–": "-", "—": "-", "−": "-", "’": "'", "‘": "'", "“": '"', "”": '"', "×": "x", "…": "..."})
_NEAREST = str.maketrans({  # where taking an accent away would make another word, or leave nothing
    "ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe",
    "ø": "oe", "Ø": "Oe", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i", "\u00a0": " ",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Origin:
    """What all documents of one result share."""

    study: Study
    manifest: Manifest
    variant: Variant | None  # None: not analysed
    evidence: tuple[Instance, ...]  # every analysed instance
    now: datetime
    source: Any  # pydicom Dataset: the headers of one instance; lives as long as `report.make` runs
    language: Language  # of the Summary; the Measurements are English
    institution: str = ""  # whose node this is
    replaces: tuple[Predecessor, ...] = ()

    @property
    def weights(self) -> str:
        """sha256 of the artifact that answered; empty when none did."""
        artifact = self.manifest.artifacts.get(self.variant) if self.variant else None
        return artifact.sha256 if artifact else ""

    @property
    def model(self) -> str:
        return f"{self.manifest.name} {self.manifest.version}"

    def replaced(self, kind: Kind) -> Predecessor | None:
        """The earlier document that the one of this kind replaces."""
        return next((earlier for earlier in self.replaces if earlier.kind == kind), None)

    def uid(self, kind: Kind, what: str) -> str:
        """The same input, model with its manifest, variant, release and words give the same UID; anything else another one.

        What computed it (ONNX Runtime, kind of CPU) is no part of it, as the time is not, though the Measurements say both: it is the
        same result if it reproduces, and when a node moved to another CPU does a study again, its PACS shall hold one answer and not
        two. On one machine the bytes are the same, too; and documents that were made once are never made anew. Nor are predecessors a
        part: they follow from the set.
        """
        manifest, variant = self.manifest.id, self.variant or "none"
        words = (*(() if kind == "measurements" else (self.language.id,)), *filter(None, [self.institution]))
        return derived_uid(self.study.uid, self.study.digest, self.model, self.weights, manifest, variant, software(), *words, what)


def derived_uid(*parts: str) -> str:
    """A UID under 2.25 (PS3.5 B.2) that hangs on `parts` alone."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(parts)).int}"


def software() -> str:
    """Name and version of this program."""
    return f"VitalCheck {release()}"


@cache
def release() -> str:
    """The version, and our serial number: a program's copies have no other. Looking it up takes 0.5 ms, and a report says it often."""
    try:
        return metadata.version("vitalcheck")
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "(not installed)"


def plain(text: str) -> str:
    """`text` in ASCII, so that it is the same under every character set."""
    known = unicodedata.normalize("NFC", text).translate(_TYPOGRAPHY).translate(_NEAREST)
    return unicodedata.normalize("NFKD", known).encode("ascii", "ignore").decode()


def spelt(text: str, source: Any) -> str:
    """`text` with those of its letters that every encoding of the source's character set holds; the others as in `plain`."""
    encodings = _encodings(source)
    return "".join(
        letter if _holds(encodings, letter) else plain(letter) for letter in unicodedata.normalize("NFC", text).translate(_TYPOGRAPHY)
    )


def can_spell(language: Language, source: Any) -> bool:
    """Whether no letter of the language would be lost under the source's character set: Greek in ASCII says nothing."""
    encodings = _encodings(source)
    return all(_holds(encodings, letter) or plain(letter) for letter in language.letters)


def _encodings(source: Any) -> list[str]:
    """Python's names of what the source is encoded in; ASCII wherever there is a doubt (PS3.3 C.12.1.1.2)."""
    said_so = source.get("SpecificCharacterSet") or ""
    terms = [said_so] if isinstance(said_so, str) else list(said_so)
    if len(terms) > 1 and not all(term.startswith("ISO 2022") for term in terms):
        return ["ascii"]
    found = [python_encoding.get(term, default_encoding) for term in terms]
    return ["ascii" if encoding == default_encoding else encoding for encoding in found]  # pydicom takes ASCII for Latin 1


def _holds(encodings: list[str], letter: str) -> bool:
    """Without an escape sequence, for what we write has none."""
    if letter.isascii():
        return True
    try:
        return all(b"\x1b" not in letter.encode(encoding) for encoding in encodings)
    except UnicodeEncodeError:
        return False


def seal(kind: Kind, content: Any, origin: Origin) -> Document:
    """The document around `content`, encoded; a Dataset: the root container of an SR, or what the modules of another kind hold."""
    document = Dataset()
    inherited.copy(origin.source, document)
    _identify(document, kind, origin)
    _describe_equipment(document, origin)
    if kind in USUAL:
        _state(document, kind, origin)
    document.CodingSchemeIdentificationSequence = [
        item(CodingSchemeDesignator=_SCHEME, CodingSchemeName="VitalCheck", CodingSchemeResponsibleOrganization="VitalCheck")
    ]
    document.update(content)
    return Document(kind, document.SOPInstanceUID, document.SOPClassUID, _encoded(document))


def _state(document: Any, kind: Kind, origin: Origin) -> None:
    """What a Structured Report alone says (PS3.3 C.17.2): who states it, how far it is, what it rests on, which request it answers."""
    if requests := inherited.requests(origin.source, origin.study.uid):
        document.ReferencedRequestSequence = requests
    if origin.evidence:
        document.CurrentRequestedProcedureEvidenceSequence = [_references(origin.study.uid, origin.evidence)]
    if (earlier := origin.replaced(kind)) is not None:
        document.PredecessorDocumentsSequence = [_references(origin.study.uid, [earlier])]
    author = item(**_NAME, ObserverType="DEV", DeviceUID=device_uid(), StationName=None, InstitutionCodeSequence=[])
    author.InstitutionName = _institution(origin)
    document.AuthorObserverSequence = [author]
    document.CompletionFlag, document.VerificationFlag, document.PreliminaryFlag = "COMPLETE", "UNVERIFIED", "PRELIMINARY"
    document.PerformedProcedureCodeSequence = []
    document.ReferencedPerformedProcedureStepSequence = []


def _identify(document: Any, kind: Kind, origin: Origin) -> None:
    now = clock(origin)
    document.SOPClassUID, document.SOPInstanceUID = OF_DOCUMENTS[kind], origin.uid(kind, kind)
    document.StudyInstanceUID, document.SeriesInstanceUID = origin.study.uid, origin.uid(kind, f"series of {kind}")
    document.Modality, document.SeriesNumber = _SERIES[kind]
    document.InstanceNumber = 1
    called = f"Unverified AI: {kind.replace('-', ' ')}"  # viewers cut it off early
    document.SeriesDescription = spelt(origin.language(said("headings.series")), origin.source)[:64] if kind == "summary" else called
    for what in ("Series", "PresentationCreation" if kind == "presentation" else "Content", "InstanceCreation"):
        setattr(document, f"{what}Date", now.strftime("%Y%m%d"))
        setattr(document, f"{what}Time", now.strftime("%H%M%S.%f"))


def clock(origin: Origin) -> datetime:
    """Now, on the clock that the object's other times were read from, where the source says which."""
    east = inherited.offset(origin.source)
    return origin.now if east is None else origin.now.astimezone(timezone(east))


def _describe_equipment(document: Any, origin: Origin) -> None:
    """Who made the document (PS3.3 C.7.5.1), and which devices had a part in it (C.12.1): we, and what acquired the images."""
    device: dict[str, Any] = {**_NAME, "DeviceSerialNumber": release(), "SoftwareVersions": _versions(origin)}
    device |= {"InstitutionName": _institution(origin)} if origin.institution else {}
    document.update(item(**device))
    ours = item(**device)
    ours.PurposeOfReferenceCodeSequence = [code(codes.DCM.ProcessingEquipment)]
    ours.ContributionDateTime = clock(origin).strftime("%Y%m%d%H%M%S.%f")
    ours.ContributionDescription = f"AI inference, weights sha256 {origin.weights}" if origin.weights else "Not analysed"
    scanner = inherited.scanner(origin.source)
    if scanner is not None:
        scanner.PurposeOfReferenceCodeSequence = [code(codes.DCM.AcquisitionEquipment)]
    document.ContributingEquipmentSequence = list(filter(None, (scanner, ours)))


def _institution(origin: Origin) -> str | None:
    """LO: 64 characters (PS3.5 table 6.2-1), and what is spelt in ASCII may be longer."""
    return spelt(origin.institution, origin.source)[:64] or None


def _versions(origin: Origin) -> list[str]:
    return [software(), plain(f"{origin.model} {origin.variant or ''}".strip())[:64]]


def device_uid() -> str:
    """Of this release: VitalCheck is software, its copies give the same answers."""
    return derived_uid("device", software())


def private(value: str, meaning: str) -> Any:
    """A concept that no public scheme has."""
    return Code(value, _SCHEME, meaning)


def code(concept: Any) -> Any:
    """A coded concept as an item of a code sequence (PS3.3 8.8)."""
    return item(CodeValue=concept.value, CodingSchemeDesignator=concept.scheme_designator, CodeMeaning=concept.meaning)


def reference(instance: Instance | Predecessor, frame: int | None = None) -> Any:
    """An item of a sequence of references (PS3.3 10.8), with the frame (10.3) where the instance holds several."""
    made = item(ReferencedSOPClassUID=instance.sop_class_uid, ReferencedSOPInstanceUID=instance.sop_instance_uid)
    if frame is not None:
        made.ReferencedFrameNumber = frame
    return made


def _references(study_uid: str, instances: Iterable[Instance | Predecessor]) -> Any:
    """Instances of one study by their series: Hierarchical SOP Instance Reference Macro (PS3.3 table C.17-3)."""
    series: dict[str, list[Any]] = {}
    for instance in sorted(instances, key=lambda i: (i.series_uid, i.sop_instance_uid)):
        series.setdefault(instance.series_uid, []).append(reference(instance))
    listed = [item(SeriesInstanceUID=uid, ReferencedSOPSequence=items) for uid, items in series.items()]
    return item(StudyInstanceUID=study_uid, ReferencedSeriesSequence=listed)


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
