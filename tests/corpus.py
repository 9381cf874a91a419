"""The corpus of bad data: small studies with one thing wrong (or odd, or hostile) each, and what must become of them.

    python tests/corpus.py write FOLDER            one folder per case, to look at
    python tests/corpus.py analyze PATH --out DIR  `vitalcheck analyze` with a network that only looks whether it was fed numbers

A case is made of a T1-weighted head of three slices, so what is not said to be wrong is right. The cases stand in corpus_*.py.
"""

from __future__ import annotations

import logging
import resource
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from objects import SECRET, dataset, pixels
from pydicom import Dataset, config, dcmwrite
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.tag import Tag
from pydicom.uid import MRImageStorage

State = Literal["analysed", "declined", "quarantined", "skipped"]
Object = FileDataset | bytes  # bytes: a whole Part 10 file
Builder = Callable[[str], Sequence[Object]]  # from a Study Instance UID
Mutation = Callable[[Any], object]

CASES: dict[str, Case] = {}
SIZE = 32  # rows and columns


@dataclass(frozen=True)
class Case:
    """`reason` is a regular expression that the reason contains; "" stands for no reason at all."""

    name: str
    state: State
    reason: str
    build: Builder
    study_uid: str

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        for k, made in enumerate(self.build(self.study_uid), 1):
            (folder / f"{k:03d}.dcm").write_bytes(made if isinstance(made, bytes) else encoded(made))


def case(name: str, state: State, reason: str = "") -> Callable[[Builder], Builder]:
    """Registers the study that the decorated function builds."""

    def register(build: Builder) -> Builder:
        assert name not in CASES, name
        CASES[name] = Case(name, state, reason, build, f"2.25.{1000 + len(CASES)}")
        return build

    return register


def each(name: str, state: State, reason: str = "", *, change: Mutation) -> None:
    """A head where every slice went through `change`."""
    case(name, state, reason)(lambda uid: [changed(ds, change) for ds in head(uid)])


def one(name: str, state: State, reason: str = "", *, change: Mutation) -> None:
    """A head where only the second slice went through `change`."""
    case(name, state, reason)(lambda uid: [changed(ds, change) if k == 1 else ds for k, ds in enumerate(head(uid))])


def changed(ds: FileDataset, change: Mutation) -> FileDataset:
    change(ds)
    return ds


def head(study_uid: str, count: int = 3, *, series: int = 1, first: int = 1, **more: Any) -> list[FileDataset]:
    """A T1-weighted head; `more` are attributes by keyword."""
    return [_slice(study_uid, series, number, more) for number in range(first, first + count)]


def _slice(study_uid: str, series: int, number: int, more: dict[str, Any]) -> FileDataset:
    ds = dataset(study_uid, series=series, number=number)
    pixels(ds, picture(number))
    ds.PatientBirthDate, ds.PatientSex, ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "19600229", "F", "20260105", "090000", "A1"
    ds.SeriesDescription, ds.ProtocolName, ds.StudyDescription = f"T1 SE {SECRET}", f"T1 {SECRET}", SECRET
    ds.BodyPartExamined, ds.PatientPosition, ds.ImageType = "HEAD", "HFS", ["ORIGINAL", "PRIMARY", "M", "SE"]
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "SE", "NONE", "", "2D"
    ds.RepetitionTime, ds.EchoTime, ds.EchoTrainLength, ds.SliceThickness = "500", "12", "1", "5"
    ds.SliceLocation = ds.ImagePositionPatient[2]
    ds.Manufacturer, ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = "Example", f"{study_uid}.9", ""
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return ds


def picture(number: int, size: int = SIZE) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """A disc with a ramp in it: (row, column) of 0..900."""
    y, x = np.mgrid[:size, :size] - size / 2 + 0.5
    return np.where(np.hypot(x, y) < size * 0.4, 400 + 10 * x + number, 0).astype(np.uint16)


def raw(keyword: str, value: bytes, vr: str | None = None) -> Mutation:
    """Puts `value` as it is, under the VR of the dictionary unless told: what no library would write by itself."""
    tag = Tag(tag_for_keyword(keyword) or 0)

    def put(ds: Dataset) -> None:
        even = value + (b"" if len(value) % 2 == 0 else b" ")
        ds[tag] = RawDataElement(tag, vr or dictionary_VR(tag).split(" ")[0], len(even), even, 0, False, True)

    return put


def put(**attributes: Any) -> Mutation:
    """Sets attributes by keyword; None takes the attribute away."""

    def change(ds: Dataset) -> None:
        for keyword, value in attributes.items():
            if value is None:
                ds.pop(keyword, None)
            else:
                setattr(ds, keyword, value)

    return change


def encoded(ds: FileDataset) -> bytes:
    """The Part 10 file, without the library's opinion of its values. The file meta information names what the data set names."""
    ds.file_meta.MediaStorageSOPInstanceUID = str(ds.get("SOPInstanceUID") or "1.2.3.4") if "SOPInstanceUID" in ds else "1.2.3.4"
    ds.file_meta.MediaStorageSOPClassUID = ds.file_meta.get("MediaStorageSOPClassUID") or MRImageStorage
    syntax = ds.file_meta.TransferSyntaxUID
    if not syntax.is_private:  # else text of one character set would be decoded and encoded again
        correct_ambiguous_vr(ds, syntax.is_little_endian)
        ds.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian, ds._character_set)
    buffer = BytesIO()
    kept = config.settings.writing_validation_mode
    config.settings.writing_validation_mode = config.IGNORE
    try:
        dcmwrite(buffer, ds, enforce_file_format=True)
    finally:
        config.settings.writing_validation_mode = kept
    return buffer.getvalue()


def write_all(folder: Path, names: Iterable[str] = ()) -> None:
    """Every case, or those of `names`, in a folder of its name. pydicom is not asked what it thinks of them."""
    log = logging.getLogger("pydicom")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.disabled = True
        try:
            for name in names or all_cases():
                all_cases()[name].write(folder / name)
        finally:
            log.disabled = False


def all_cases() -> dict[str, Case]:
    """The cases by name, of all files."""
    import corpus_attributes  # noqa: F401
    import corpus_bombs  # noqa: F401
    import corpus_choose  # noqa: F401
    import corpus_geometry  # noqa: F401
    import corpus_hostile  # noqa: F401
    import corpus_pixels  # noqa: F401
    import corpus_syntaxes  # noqa: F401
    import corpus_text  # noqa: F401

    return CASES


def _analyze() -> None:
    """The command line of `vitalcheck`, with `Watching` for a network."""
    import stand_in

    from listener.cli import main
    from models import registry

    stand_in.Acting.run = _watch  # type: ignore[method-assign, assignment]
    registry.load = stand_in.load  # type: ignore[assignment]
    try:
        main()
    finally:
        sys.stderr.write(f"peak {peak():.0f} MiB\n")


def peak() -> float:
    """MiB that this process or one that it started ever held. (What wait4 says of a process counts what its parent held, too.)"""
    status = Path("/proc/self/status").read_text()
    ours = int(status.split("VmHWM:")[1].split()[0])
    return max(ours, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def _watch(network: Any, tensor: Any) -> Any:
    from models.runtime import FixedModel, NetworkError

    if not np.isfinite(tensor).all():
        raise NetworkError("the network was fed something that is no number")
    return FixedModel.run(network, tensor)


if __name__ == "__main__":
    sys.modules["corpus"] = sys.modules["__main__"]
    if sys.argv[1] == "write":
        write_all(Path(sys.argv[2]))
    else:
        _analyze()
