"""headers: a Part 10 file -> Instance. Reads what decisions need and stops before the pixels.

An attribute that cannot be read is None or empty, never an exception; a file that is no DICOM instance raises NotDicom.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset, read_partial, read_preamble

from listener.errors import NotDicom
from pipeline.records import Headers, Instance, Series, Study

# What pydicom raises on bytes that are not what they say they are.
UNREADABLE = (InvalidDicomError, BytesLengthException, EOFError, OSError, struct.error, zlib.error, ValueError, TypeError, KeyError,
              IndexError, AttributeError, NotImplementedError, OverflowError, RecursionError)  # fmt: skip

_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})  # Float, Double Float, (integer) Pixel Data: PS3.3 C.7.6.3, C.7.6.24, C.7.6.25
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_READ = [
    tag_for_keyword(keyword)
    for keyword in (
        *_UIDS, *_GROUPS, "SpecificCharacterSet", "Modality", "BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName",
        "SequenceName", "PulseSequenceName", "ImageType", "ScanningSequence", "AcquisitionContrast", "EchoTime", "RepetitionTime",
        "InversionTime", "ContrastBolusAgent", "ContrastBolusAgentSequence", "SeriesNumber", "InstanceNumber", "Rows", "Columns",
        "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
        "AnatomicRegionSequence", "PatientID", "IssuerOfPatientID",
    )
]  # fmt: skip


def read(path: Path, *, received_at: float | None = None) -> Instance:
    """The instance at `path`. `received_at` (Unix seconds) is the file's own time unless told. Raises NotDicom.

    `sha256` is that of the data set alone, after the file meta information: the meta information belongs to whoever wrote
    the file (PS3.10 7.1), so the same object read from disk and received over the network has the same digest.
    """
    try:
        with path.open("rb") as stream:
            _skip_meta(stream)
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            ds, has_pixels = _before_pixels(stream)
        status = path.stat()
        when = status.st_mtime if received_at is None else received_at
        return _instance(ds, path, status.st_size, sha256, when, has_pixels)
    except InvalidDicomError as error:
        raise NotDicom(path, "not a DICOM file (no DICM prefix)") from error
    except OSError as error:
        raise NotDicom(path, f"cannot be read ({error.strerror or type(error).__name__})") from error
    except UNREADABLE as error:
        raise NotDicom(path, f"not readable as DICOM ({type(error).__name__})") from error


def studies(paths: Iterable[Path], *, skipped: Callable[[NotDicom], None] | None = None) -> list[Study]:
    """The studies in these files. A file that is no instance goes to `skipped`, or raises NotDicom where nobody asks for it."""
    return group(_readable(paths, skipped))


def group(instances: Iterable[Instance], *, calling_ae: str = "", called_ae: str = "") -> list[Study]:
    """Studies by UID, series and instances by their numbers, then UIDs: any order of arrival gives the same studies.

    Of several instances with one SOP Instance UID in one study, the one with the first path counts.
    """
    found: dict[str, dict[str, dict[str, Instance]]] = {}
    seen: set[tuple[str, str]] = set()
    for instance in sorted(instances, key=lambda i: i.path):
        key = (instance.study_uid, instance.sop_instance_uid)
        if key not in seen:
            seen.add(key)
            found.setdefault(instance.study_uid, {}).setdefault(instance.series_uid, {})[instance.sop_instance_uid] = instance
    return [Study(uid, _series(series), calling_ae, called_ae) for uid, series in sorted(found.items())]


def _readable(paths: Iterable[Path], skipped: Callable[[NotDicom], None] | None) -> Iterator[Instance]:
    for path in paths:
        try:
            yield read(path)
        except NotDicom as error:
            if skipped is None:
                raise
            skipped(error)


def _series(found: dict[str, dict[str, Instance]]) -> tuple[Series, ...]:
    made = [Series(uid, tuple(sorted(instances.values(), key=_instance_order))) for uid, instances in found.items()]
    return tuple(sorted(made, key=lambda s: (_number(s.instances[0].headers.series_number), s.uid)))


def _instance_order(instance: Instance) -> tuple[float, str]:
    return _number(instance.headers.instance_number), instance.sop_instance_uid


def _number(value: int | None) -> float:
    return math.inf if value is None else value


def _skip_meta(stream: BinaryIO) -> None:
    """Leaves `stream` at the first byte after the file meta information."""
    read_preamble(stream, False)
    read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, _vr, _length: tag.group != 2)


def _before_pixels(stream: BinaryIO) -> tuple[Dataset, bool]:
    """The attributes of `_READ`, and whether a pixel data element with a value follows."""
    pixels: list[int] = []

    def stop(tag: Any, _vr: str | None, length: int) -> bool:
        if tag in _PIXELS:
            pixels.append(length)
        return tag in _PIXELS

    ds = read_partial(stream, stop_when=stop, specific_tags=_READ)
    return ds, any(pixels)


def _instance(ds: Any, path: Path, size: int, sha256: str, received_at: float, has_pixels: bool) -> Instance:
    uids = {keyword: _text(ds, keyword) for keyword in _UIDS}
    if missing := [keyword for keyword, uid in uids.items() if not uid]:
        raise NotDicom(path, f"DICOM without {missing[0]}")
    syntax = str(ds.file_meta.get("TransferSyntaxUID", ""))
    if not syntax:
        raise NotDicom(path, "DICOM without TransferSyntaxUID in its file meta information")
    return Instance(
        study_uid=uids["StudyInstanceUID"],
        series_uid=uids["SeriesInstanceUID"],
        sop_instance_uid=uids["SOPInstanceUID"],
        sop_class_uid=uids["SOPClassUID"],
        transfer_syntax_uid=syntax,
        path=path,
        size=size,
        sha256=sha256,
        received_at=received_at,
        headers=_headers(ds, has_pixels),
    )


def _headers(ds: Dataset, has_pixels: bool) -> Headers:
    """Classic attributes from the data set itself; of an enhanced object those of its shared groups, else of its first frame."""
    mr = [ds, *_functional_groups(ds)]
    return Headers(
        patient=_patient(ds),
        modality=_text(ds, "Modality").upper(),
        body_part_examined=(_text(ds, "BodyPartExamined") or _region(mr)).upper(),
        study_description=_text(ds, "StudyDescription"),
        series_description=_text(ds, "SeriesDescription"),
        protocol_name=_text(ds, "ProtocolName"),
        sequence_name=_text(ds, "SequenceName") or _text(ds, "PulseSequenceName"),
        image_type=_texts(ds, "ImageType"),
        scanning_sequence=_texts(ds, "ScanningSequence"),
        acquisition_contrast=_first(mr, lambda d: _text(d, "AcquisitionContrast")) or "",
        echo_time=_first(mr, lambda d: _floats(d, "EchoTime", 1) or _floats(d, "EffectiveEchoTime", 1), scalar=True),
        repetition_time=_first(mr, lambda d: _floats(d, "RepetitionTime", 1), scalar=True),
        inversion_time=_first(mr, lambda d: _floats(d, "InversionTime", 1) or _floats(d, "InversionTimes", 1), scalar=True),
        contrast_bolus_agent=_text(ds, "ContrastBolusAgent") or _code_meaning(ds, "ContrastBolusAgentSequence"),
        series_number=_integer(ds, "SeriesNumber"),
        instance_number=_integer(ds, "InstanceNumber"),
        rows=_integer(ds, "Rows"),
        columns=_integer(ds, "Columns"),
        number_of_frames=_integer(ds, "NumberOfFrames") or 1,
        samples_per_pixel=_integer(ds, "SamplesPerPixel"),
        photometric_interpretation=_text(ds, "PhotometricInterpretation"),
        image_position_patient=_first(mr, lambda d: _floats(d, "ImagePositionPatient", 3)),
        image_orientation_patient=_first(mr, lambda d: _floats(d, "ImageOrientationPatient", 6)),
        pixel_spacing=_first(mr, lambda d: _floats(d, "PixelSpacing", 2)),
        has_pixels=has_pixels,
    )


def _patient(ds: Dataset) -> str:
    """Issuers give the same ID to different people, so both count (PS3.3 C.2.2); spelling of the name does not."""
    patient_id = _text(ds, "PatientID")
    issued = f"{_text(ds, 'IssuerOfPatientID')}\\{patient_id}"
    return hashlib.sha256(issued.encode()).hexdigest()[:16] if patient_id else ""


def _functional_groups(ds: Dataset) -> list[Dataset]:
    """The macros of the shared functional groups, then of the first frame (PS3.3 C.7.6.16)."""
    macros: list[Dataset] = []
    for keyword in _GROUPS:
        for group_item in _items(ds, keyword)[:1]:
            for tag in list(group_item.keys()):
                macros.extend(_items(group_item, tag)[:1])
    return macros


def _region(macros: list[Dataset]) -> str:
    """Code meaning of the anatomic region, where no Body Part Examined is given (PS3.3 C.7.6.16.2.8)."""
    return str(_first(macros, lambda d: _code_meaning(d, "AnatomicRegionSequence")) or "")


def _code_meaning(ds: Dataset, keyword: str) -> str:
    return next((_text(item, "CodeMeaning") for item in _items(ds, keyword)), "")


def _first(datasets: list[Dataset], take: Callable[[Dataset], Any], *, scalar: bool = False) -> Any:
    """The first value that one of `datasets` has, or None; of a tuple only its first number when `scalar`."""
    value = next((found for ds in datasets if (found := take(ds))), None)
    return value[0] if scalar and value else value


def _value(ds: Dataset, key: Any) -> Any:
    """The value, or None where it is missing, empty or broken."""
    try:
        return ds[key].value if key in ds else None
    except UNREADABLE:
        return None


def _items(ds: Dataset, key: Any) -> list[Dataset]:
    value = _value(ds, key)
    try:
        return [item for item in value if isinstance(item, Dataset)] if value is not None and not isinstance(value, str | bytes) else []
    except UNREADABLE:
        return []


def _text(ds: Dataset, keyword: str) -> str:
    return " ".join(_texts(ds, keyword))


def _texts(ds: Dataset, keyword: str) -> tuple[str, ...]:
    value = _value(ds, keyword)
    if value is None:
        return ()
    several = not isinstance(value, str) and hasattr(value, "__iter__") and not isinstance(value, bytes)
    return tuple(text for item in (value if several else (value,)) if (text := str(item).strip().strip("\0")))


def _integer(ds: Dataset, keyword: str) -> int | None:
    try:
        return int(_value(ds, keyword))
    except (ValueError, TypeError, OverflowError):
        return None


def _floats(ds: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """At least `count` finite numbers, cut to `count`; None otherwise."""
    value = _value(ds, keyword)
    try:
        numbers = tuple(float(v) for v in value) if hasattr(value, "__iter__") and not isinstance(value, str) else (float(value),)
    except (ValueError, TypeError, OverflowError):
        return None
    numbers = numbers[:count]
    return numbers if len(numbers) == count and all(math.isfinite(n) for n in numbers) else None
