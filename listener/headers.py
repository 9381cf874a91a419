"""headers: a Part 10 file -> Instance. Reads what decisions need and stops before the pixels.

An attribute that cannot be read is None or empty, never an exception; a file that is no DICOM instance raises NotDicom.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from listener import identifiers
from listener.errors import NotDicom
from listener.skim import Encoding, Endless, Skimmer
from pipeline.inflate import HEADER, TooMuch, beginning
from pipeline.records import Headers, Instance, Series, Study

# What pydicom raises on bytes that are not what they say they are.
UNREADABLE = (InvalidDicomError, BytesLengthException, EOFError, OSError, struct.error, zlib.error, ValueError, TypeError, KeyError,
              IndexError, AttributeError, NotImplementedError, OverflowError, RecursionError)  # fmt: skip

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_TRANSFER_SYNTAX = 0x00020010
_OF_EACH_FRAME = frozenset({0x00189117})  # MR Diffusion Sequence; all else is read of the first frame only


def _creator_of(tag: int) -> int:
    """The tag of the element that says whose private block `tag` is in (PS3.5 7.8.1)."""
    return tag & 0xFFFF0000 | tag >> 8 & 0xFF


_PRIVATE_B_VALUES = {0x0019100C: "SIEMENS MR HEADER", 0x00431039: "GEMS_PARM_01"}  # and their private creators, where they always stand
_READ = frozenset(
    int(tag_for_keyword(keyword) or 0)
    for keyword in (
        *_UIDS, *_GROUPS, "SpecificCharacterSet", "Modality", "BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName",
        "SequenceName", "PulseSequenceName", "ImageType", "ScanningSequence", "AcquisitionContrast", "EchoTime", "RepetitionTime",
        "InversionTime", "ContrastBolusAgent", "ContrastBolusAgentSequence", "SeriesNumber", "InstanceNumber", "Rows", "Columns",
        "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
        "AnatomicRegionSequence", "SequenceVariant", "AngioFlag", "EchoPlanarPulseSequence", "TimeOfFlightContrast", "PhaseContrast",
        "EchoPulseSequence", "InversionRecovery", "DiffusionBValue", "SliceThickness", "ReceiveCoilName", "ComplexImageComponent",
        *identifiers.READ,
    )
) | {*_PRIVATE_B_VALUES, *map(_creator_of, _PRIVATE_B_VALUES)}  # fmt: skip


def read(path: Path, *, received_at: float | None = None) -> Instance:
    """The instance at `path`. `received_at` (Unix seconds) is the file's own time unless told. Raises NotDicom.

    `sha256` is that of the data set alone, after the file meta information: the meta information belongs to whoever wrote
    the file (PS3.10 7.1), so the same object read from disk and received over the network has the same digest.
    """
    try:
        with path.open("rb") as stream:
            syntax = _transfer_syntax(stream)
            start = stream.tell()
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(start)
            ds, has_pixels = _before_pixels(stream, syntax)
        status = path.stat()
        when = status.st_mtime if received_at is None else received_at
        return _instance(ds, path, syntax, status.st_size, sha256, when, has_pixels)
    except InvalidDicomError as error:
        raise NotDicom(path, "not a DICOM file (no DICM prefix)") from error
    except (Endless, TooMuch) as error:
        raise NotDicom(path, f"{error}; have its sender leave private attributes out") from error
    except zlib.error as error:
        raise NotDicom(path, "its deflated data set is damaged; send it again") from error
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


def _transfer_syntax(stream: BinaryIO) -> str:
    """As the file meta information names it; leaves `stream` at the first byte after that (PS3.10 7.1)."""
    read_preamble(stream, False)
    meta = Skimmer(stream, Encoding(implicit=False, little=True)).meta()
    return meta.get(_TRANSFER_SYNTAX, b"").decode("ascii", "replace").strip(" \0")


def _before_pixels(stream: BinaryIO, syntax: str) -> tuple[Dataset, bool]:
    """The attributes of `_READ`, and whether a pixel data element with a value follows. Raises Endless, TooMuch, zlib.error."""
    encoding = Encoding(implicit=syntax == ImplicitVRLittleEndian, little=syntax != ExplicitVRBigEndian)
    inflated = _inflated(stream) if syntax == DeflatedExplicitVRLittleEndian else stream
    skimmer = Skimmer(inflated, encoding)
    cut, has_pixels = skimmer.cut(_READ, _OF_EACH_FRAME)
    if not has_pixels and inflated is not stream and inflated.tell() >= HEADER:
        raise TooMuch(f"the first {HEADER} bytes of its deflated data set reach no pixels")
    return read_dataset(cut, *skimmer.encoding), has_pixels


def _inflated(stream: BinaryIO) -> BinaryIO:
    """As much of a deflated data set as may come before the pixels (PS3.5 A.5)."""
    return BytesIO(beginning(stream.read(2 * HEADER), HEADER))


def _instance(ds: Dataset, path: Path, syntax: str, size: int, sha256: str, received_at: float, has_pixels: bool) -> Instance:
    uids = {keyword: _text(ds, keyword) for keyword in _UIDS}
    if missing := [keyword for keyword, uid in uids.items() if not uid]:
        raise NotDicom(path, f"DICOM without {missing[0]}")
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
        **identifiers.digests(lambda keyword: _text(ds, keyword)),
        modality=_text(ds, "Modality").upper(),
        body_part_examined=(_text(ds, "BodyPartExamined") or _region(mr)).upper(),
        study_description=_text(ds, "StudyDescription"),
        series_description=_text(ds, "SeriesDescription"),
        protocol_name=_text(ds, "ProtocolName"),
        sequence_name=_text(ds, "SequenceName") or _text(ds, "PulseSequenceName"),
        image_type=_texts(ds, "ImageType"),
        scanning_sequence=_texts(ds, "ScanningSequence") or _pulse_sequence(mr),
        sequence_variant=_texts(ds, "SequenceVariant"),
        acquisition_contrast=_first(mr, lambda d: _text(d, "AcquisitionContrast")) or "",
        echo_time=_first(mr, lambda d: _floats(d, "EchoTime", 1) or _floats(d, "EffectiveEchoTime", 1), scalar=True),
        repetition_time=_first(mr, lambda d: _floats(d, "RepetitionTime", 1), scalar=True),
        inversion_time=_first(mr, lambda d: _floats(d, "InversionTime", 1) or _floats(d, "InversionTimes", 1), scalar=True),
        diffusion_b_value=_b_value(ds, mr),
        angio=_says(mr, "AngioFlag", "TimeOfFlightContrast", "PhaseContrast") or "TOF" in _texts(ds, "SequenceVariant"),
        echo_planar=_says(mr, "EchoPlanarPulseSequence"),
        complex_image_component=(_first(mr, lambda d: _text(d, "ComplexImageComponent")) or "").upper(),
        receive_coil_name=_first(mr, lambda d: _text(d, "ReceiveCoilName")) or "",
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
        slice_thickness=_first(mr, lambda d: _floats(d, "SliceThickness", 1), scalar=True),
        has_pixels=has_pixels,
    )


def _functional_groups(ds: Dataset) -> list[Dataset]:
    """The macros of the shared functional groups, then of the first frame (PS3.3 C.7.6.16)."""
    macros: list[Dataset] = []
    for keyword in _GROUPS:
        for group_item in _items(ds, keyword)[:1]:
            for tag in list(group_item.keys()):
                macros.extend(_items(group_item, tag)[:1])
    return macros


def _says(macros: list[Dataset], *keywords: str) -> bool:
    """Whether one of them is Y or YES."""
    return any(_text(ds, keyword).upper() in ("Y", "YES") for ds in macros for keyword in keywords)


def _pulse_sequence(macros: list[Dataset]) -> tuple[str, ...]:
    """Enhanced MR's words (PS3.3 C.8.13.4) in those of Scanning Sequence (PS3.3 C.8.3.1.1.4)."""
    said = _first(macros, lambda d: _text(d, "EchoPulseSequence")) or ""
    echoes = {"SPIN": ("SE",), "GRADIENT": ("GR",), "BOTH": ("SE", "GR")}.get(said, ())
    return (*echoes, *(("IR",) if _says(macros, "InversionRecovery") else ()))


def _b_value(ds: Dataset, macros: list[Dataset]) -> float | None:
    """The highest in s/mm2, of all frames: a series that holds b = 0 and b = 1000 is diffusion. Also from where vendors hide it."""
    frames = [item for frame in _items(ds, _GROUPS[1]) for item in _items(frame, "MRDiffusionSequence")]
    found = [value[0] for d in (*macros, *frames) if (value := _floats(d, "DiffusionBValue", 1))]
    for tag, creator in _PRIVATE_B_VALUES.items():
        if _text(ds, _creator_of(tag)) == creator and (text := next(iter(_texts(ds, tag)), "")).isdecimal():
            found.append(float(int(text[-9:])))  # GE adds 1e9 to tell several directions apart
    return max(found, default=None)


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


def _text(ds: Dataset, keyword: str | int) -> str:
    return " ".join(_texts(ds, keyword))


def _texts(ds: Dataset, keyword: str | int) -> tuple[str, ...]:
    value = _value(ds, keyword)
    if value is None:
        return ()
    several = not isinstance(value, str) and hasattr(value, "__iter__") and not isinstance(value, bytes)
    return tuple(text for item in (value if several else (value,)) if (text := str(item).strip().strip("\0")))


def _integer(ds: Dataset, keyword: str) -> int | None:
    try:
        number = int(_value(ds, keyword))
    except (ValueError, TypeError, OverflowError):
        return None
    return number if abs(number) < 2**31 else None  # what IS may hold (PS3.5 6.2); a longer one would be told in every reason


def _floats(ds: Dataset, keyword: str | int, count: int) -> tuple[float, ...] | None:
    """At least `count` finite numbers, cut to `count`; None otherwise."""
    value = _value(ds, keyword)
    try:
        numbers = tuple(float(v) for v in value) if hasattr(value, "__iter__") and not isinstance(value, str) else (float(value),)
    except (ValueError, TypeError, OverflowError):
        return None
    numbers = numbers[:count]
    return numbers if len(numbers) == count and all(math.isfinite(n) for n in numbers) else None
