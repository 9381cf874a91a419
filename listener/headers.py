"""headers: a Part 10 file -> Instance. Reads what decisions need and stops before the pixels.

An attribute that cannot be read is None or empty, never an exception; a file that is no DICOM instance raises NotDicom.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble

from listener import identifiers
from listener.errors import NotDicom
from listener.skim import Endless, Skimmer
from pipeline.attributes import capitals, integer, item, items, numbers, text, texts
from pipeline.orientation import plane
from pipeline.part10 import HEADER, UNREADABLE, Encoding, encoding, inflated
from pipeline.records import Headers, Instance, Orientation, PlaneName, Series, Study
from pipeline.syntaxes import DEFLATED

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")  # leading zeros are forbidden, but sent, and harmless
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_TRANSFER_SYNTAX, _SENDING, _RECEIVING = 0x00020010, 0x00020017, 0x00020018
_OF_EACH_FRAME = frozenset({0x00189117, 0x00209116})  # MR Diffusion, Plane Orientation; all else is read of the first frame only


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


PART = 1 << 20  # bytes of pixels that are in memory at a time


def read(path: Path, *, received_at: float | None = None) -> Instance:
    """The instance at `path`. `received_at` (Unix seconds) is the file's own time unless told. Raises NotDicom.

    `sha256` is that of the data set alone, after the file meta information: the meta information belongs to whoever wrote
    the file (PS3.10 7.1), so the same object read from disk and received over the network has the same digest.
    """
    try:
        with path.open("rb") as stream:
            syntax = _said(_meta(stream), _TRANSFER_SYNTAX)
            start = stream.tell()
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(start)
            ds, has_pixels = _before_pixels(stream, syntax)
        status = path.stat()
        when = status.st_mtime if received_at is None else received_at
        return _instance(ds, path, syntax, status.st_size, sha256, when, has_pixels)
    except InvalidDicomError as error:
        raise NotDicom(path, "not a DICOM file (no DICM prefix)") from error
    except Endless as error:
        raise NotDicom(path, f"{error}; have its sender leave private attributes out") from error
    except zlib.error as error:
        raise NotDicom(path, "its deflated data set is damaged; send it again") from error
    except OSError as error:
        raise NotDicom(path, f"cannot be read ({error.strerror or type(error).__name__})") from error
    except UNREADABLE as error:
        raise NotDicom(path, f"not readable as DICOM ({type(error).__name__})") from error


def application_entities(path: Path) -> tuple[str, str]:
    """Sending and Receiving AE Title as the file meta information names them (PS3.10 table 7.1-1), or "". Raises NotDicom."""
    try:
        with path.open("rb") as stream:
            meta = _meta(stream)
    except (OSError, InvalidDicomError) as error:
        raise NotDicom(path, f"cannot be read ({type(error).__name__})") from error
    return _said(meta, _SENDING), _said(meta, _RECEIVING)


def on_disk(path: Path) -> tuple[str, str]:
    """Transfer syntax and `sha256` as `read` gives them, of what the disk itself holds. Raises NotDicom.

    What the kernel remembers of the file is forgotten first (posix_fadvise(2)): a bad sector behind a warm cache is no kept promise.
    """
    with _opened(path) as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        syntax = _said(_meta(stream), _TRANSFER_SYNTAX)
        return syntax, hashlib.file_digest(stream, "sha256").hexdigest()


def pixels(path: Path) -> str:
    """sha256 of the value of its pixels, of a file in a native little-endian syntax. Raises NotDicom."""
    with _opened(path) as stream:
        left, digest = Skimmer(stream, encoding(_said(_meta(stream), _TRANSFER_SYNTAX))).pixels(), hashlib.sha256()
        while left > 0 and (part := stream.read(min(left, PART))):
            digest.update(part)
            left -= len(part)
        return digest.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    """The file, to be read; whatever is wrong with it is NotDicom."""
    try:
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        raise NotDicom(path, f"cannot be read ({error.strerror or type(error).__name__})") from error
    except UNREADABLE as error:
        raise NotDicom(path, f"not readable as DICOM ({type(error).__name__})") from error


def is_uid(value: str) -> bool:
    """UIDs become names of files, and a document that refers to what is none is refused (PS3.5 9.1)."""
    return len(value) <= 64 and _UID.fullmatch(value) is not None


def studies(paths: Iterable[Path], *, skipped: Callable[[NotDicom], None] | None = None) -> list[Study]:
    """The studies in these files. A file that is no instance goes to `skipped`, or raises NotDicom where nobody asks for it."""
    return group(readable(paths, skipped))


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


def readable(paths: Iterable[Path], skipped: Callable[[NotDicom], None] | None) -> Iterator[Instance]:
    """The instances in these files, as `studies` takes them."""
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


def _meta(stream: BinaryIO) -> dict[int, bytes]:
    """The file meta information; leaves `stream` at the first byte after that (PS3.10 7.1)."""
    read_preamble(stream, False)
    return Skimmer(stream, Encoding(implicit=False, little=True)).meta()


def _said(meta: dict[int, bytes], tag: int) -> str:
    return meta.get(tag, b"").decode("ascii", "replace").strip(" \0")


def _before_pixels(stream: BinaryIO, syntax: str) -> tuple[Dataset, bool]:
    """The attributes of `_READ`, and whether a pixel data element with a value follows. Raises Endless, zlib.error."""
    deflated = syntax == DEFLATED
    source = BytesIO(inflated(stream.read(2 * HEADER), HEADER)) if deflated else stream
    skimmer = Skimmer(source, encoding(syntax))
    cut, has_pixels = skimmer.cut(_READ, _OF_EACH_FRAME)
    if deflated and not has_pixels and source.tell() >= HEADER:
        raise Endless(f"the first {HEADER} bytes of its deflated data set reach no pixels")
    return read_dataset(cut, *skimmer.encoding), has_pixels


def _instance(ds: Dataset, path: Path, syntax: str, size: int, sha256: str, received_at: float, has_pixels: bool) -> Instance:
    uids = {keyword: text(ds, keyword) for keyword in _UIDS}
    if missing := [keyword for keyword, uid in uids.items() if not uid]:
        raise NotDicom(path, f"DICOM without {missing[0]}")
    if wrong := [keyword for keyword, uid in uids.items() if not is_uid(uid)]:
        raise NotDicom(path, f"its {wrong[0]} is not a UID (digits and dots, at most 64); correct it at the source")
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
    macros = [ds, *_functional_groups(ds)]
    return Headers(
        **identifiers.digests(lambda keyword: text(ds, keyword)),
        modality=capitals(ds, "Modality"),
        body_part_examined=(text(ds, "BodyPartExamined") or _region(macros)).upper(),
        study_description=text(ds, "StudyDescription"),
        series_description=text(ds, "SeriesDescription"),
        protocol_name=text(ds, "ProtocolName"),
        sequence_name=text(ds, "SequenceName") or text(ds, "PulseSequenceName"),
        image_type=texts(ds, "ImageType"),
        scanning_sequence=texts(ds, "ScanningSequence") or _pulse_sequence(macros),
        sequence_variant=texts(ds, "SequenceVariant"),
        acquisition_contrast=_first(macros, text, "AcquisitionContrast") or "",
        echo_time=_first(macros, _leading, "EchoTime", "EffectiveEchoTime"),
        repetition_time=_first(macros, _leading, "RepetitionTime"),
        inversion_time=_first(macros, _leading, "InversionTime", "InversionTimes"),
        diffusion_b_value=_b_value(ds, macros),
        angio=_says(macros, "AngioFlag", "TimeOfFlightContrast", "PhaseContrast") or "TOF" in texts(ds, "SequenceVariant"),
        echo_planar=_says(macros, "EchoPlanarPulseSequence"),
        complex_image_component=_first(macros, capitals, "ComplexImageComponent") or "",
        receive_coil_name=_first(macros, text, "ReceiveCoilName") or "",
        contrast_bolus_agent=text(ds, "ContrastBolusAgent") or _code_meaning(ds, "ContrastBolusAgentSequence"),
        series_number=_count(ds, "SeriesNumber"),
        instance_number=_count(ds, "InstanceNumber"),
        rows=_count(ds, "Rows"),
        columns=_count(ds, "Columns"),
        number_of_frames=_count(ds, "NumberOfFrames") or 1,
        samples_per_pixel=_count(ds, "SamplesPerPixel"),
        photometric_interpretation=text(ds, "PhotometricInterpretation"),
        image_position_patient=_first(macros, partial(numbers, count=3, more=True), "ImagePositionPatient"),
        image_orientation_patient=_first(macros, partial(numbers, count=6, more=True), "ImageOrientationPatient"),
        planes=_planes(ds),
        pixel_spacing=_first(macros, partial(numbers, count=2, more=True), "PixelSpacing"),
        slice_thickness=_first(macros, _leading, "SliceThickness"),
        has_pixels=has_pixels,
    )


def _functional_groups(ds: Dataset) -> list[Dataset]:
    """The macros of the shared functional groups, then of the first frame (PS3.3 C.7.6.16)."""
    macros: list[Dataset] = []
    for group in filter(None, (item(ds, keyword) for keyword in _GROUPS)):
        macros.extend(filter(None, (item(group, tag) for tag in list(group.keys()))))
    return macros


def _says(macros: list[Dataset], *keywords: str) -> bool:
    """Whether one of them is Y or YES."""
    return any(capitals(ds, keyword) in ("Y", "YES") for ds in macros for keyword in keywords)


def _pulse_sequence(macros: list[Dataset]) -> tuple[str, ...]:
    """Enhanced MR's words (PS3.3 C.8.13.4) in those of Scanning Sequence (PS3.3 C.8.3.1.1.4)."""
    said = _first(macros, text, "EchoPulseSequence") or ""
    echoes = {"SPIN": ("SE",), "GRADIENT": ("GR",), "BOTH": ("SE", "GR")}.get(said, ())
    return (*echoes, *(("IR",) if _says(macros, "InversionRecovery") else ()))


def _b_value(ds: Dataset, macros: list[Dataset]) -> float | None:
    """The highest in s/mm2, of all frames: a series that holds b = 0 and b = 1000 is diffusion. Also from where vendors hide it."""
    frames = [macro for frame in items(ds, _GROUPS[1]) for macro in items(frame, "MRDiffusionSequence")]
    found = [value for d in (*macros, *frames) if (value := _leading(d, "DiffusionBValue")) is not None]
    for tag, creator in _PRIVATE_B_VALUES.items():
        if text(ds, _creator_of(tag)) == creator and (said := next(iter(texts(ds, tag)), "")).isdecimal():
            found.append(float(int(said[-9:])))  # GE adds 1e9 to tell several directions apart
    return max(found, default=None)


def _planes(ds: Dataset) -> tuple[PlaneName, ...]:
    """A localizer may be one object."""
    macros = [macro for frame in items(ds, _GROUPS[1]) for macro in items(frame, "PlaneOrientationSequence")]
    said = (numbers(macro, "ImageOrientationPatient", 6) for macro in macros)
    return tuple(dict.fromkeys(plane(cast("Orientation", found)) for found in said if found))


def _region(macros: list[Dataset]) -> str:
    """Code meaning of the anatomic region, where no Body Part Examined is given (PS3.3 C.7.6.16.2.8)."""
    return str(_first(macros, _code_meaning, "AnatomicRegionSequence") or "")


def _code_meaning(ds: Dataset, keyword: str) -> str:
    code = item(ds, keyword)
    return text(code, "CodeMeaning") if code else ""


def _first(macros: list[Dataset], take: Callable[[Dataset, str], Any], *keywords: str) -> Any:
    """The first value that one of `macros` has, or None."""
    said = (take(ds, keyword) for ds in macros for keyword in keywords)
    return next((found for found in said if found is not None and found != ""), None)


def _leading(ds: Dataset, keyword: str) -> float | None:
    """The first number, where one is asked for and several may be said."""
    found = numbers(ds, keyword, 1, more=True)
    return found[0] if found else None


def _count(ds: Dataset, keyword: str) -> int | None:
    """What IS may hold (PS3.5 6.2); a longer one would be told in every reason."""
    found = integer(ds, keyword)
    return found if found is not None and abs(found) < 2**31 else None
