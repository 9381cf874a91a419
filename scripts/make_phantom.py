"""Whole DICOM head studies for demo and tests: a localizer, a T2 and a T1 series after contrast, with a tumour painted in or none.

    python -m scripts.make_phantom OUT --tumour glioma --seed 1 --plane axial --slices 24 --syntax jpegls
    python -m scripts.make_phantom OUT --tumour none --enhanced --mask mask.npy

The same options give the same bytes; all UIDs are derived from them under 2.25 (PS3.5 B.2), and not from the transfer syntax,
so the same study can be written in several. Every object says that it is a phantom.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)

from scripts.enhanced import to_enhanced
from scripts.paint import Head, Tumour, paint
from scripts.scan import FRAMES, Plane, Stack, cut, measure, pose, stack_for

Syntax = Literal["explicit", "rle", "jpegls", "jpeg2000"]
SeriesName = Literal["localizer", "t2", "t1"]
StoredPixels = NDArray[np.uint16]

SYNTAXES: dict[Syntax, UID] = {
    "explicit": ExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpegls": JPEGLSLossless,
    "jpeg2000": JPEG2000Lossless,
}
NAMESPACE = uuid.UUID("6f1b8f5e-5f0e-5d0a-9b5c-0c2f7d1c9a11")  # of all phantoms; any other would do as well
IN_DESCRIPTIONS: dict[Plane, str] = {"axial": "AX", "coronal": "COR", "sagittal": "SAG"}  # as scanners write them


@dataclass(frozen=True, slots=True)
class Protocol:
    """What a console would say about one series; times in ms, angle in degrees."""

    number: int
    description: str
    image_type: tuple[str, ...]
    scanning_sequence: str
    repetition_time: float
    echo_time: float
    echo_train: int
    flip_angle: float
    thickness: float
    agent: str = ""


PROTOCOLS: dict[SeriesName, Protocol] = {
    "localizer": Protocol(1, "LOCALIZER", ("ORIGINAL", "PRIMARY", "LOCALIZER"), "GR", 8.6, 4.0, 1, 20.0, 8.0),
    "t2": Protocol(2, "T2 TSE {plane}", ("ORIGINAL", "PRIMARY", "OTHER"), "SE", 4200.0, 98.0, 15, 150.0, 5.0),
    "t1": Protocol(3, "T1 SE {plane} +C", ("ORIGINAL", "PRIMARY", "OTHER"), "SE", 560.0, 12.0, 1, 90.0, 5.0, "GADOLINIUM CHELATE"),
}


@dataclass(frozen=True, slots=True)
class Case:
    """Everything a phantom study hangs on."""

    tumour: Tumour
    seed: int
    plane: Plane
    slices: int
    size: int  # rows and columns

    def uid(self, *parts: object) -> str:
        """The UID of one thing in this study."""
        name = "/".join(map(str, (self.tumour, self.seed, self.plane, self.slices, self.size, *parts)))
        return f"2.25.{uuid.uuid5(NAMESPACE, name).int}"


def write_study(
    out: Path,
    *,
    tumour: Tumour = "glioma",
    seed: int = 1,
    plane: Plane = "axial",
    slices: int = 24,
    size: int = 256,
    syntax: Syntax = "explicit",
    enhanced: bool = False,
    series: Sequence[SeriesName] = ("localizer", "t2", "t1"),
) -> list[Path]:
    """Writes a study into the folder `out` and returns its files, in the order a scanner would send them.

    `slices` counts those of T2 and T1; few of them lie around the lesion. `enhanced` makes the T1 series one Enhanced MR object.
    """
    case = Case(tumour, seed, plane, slices, size)
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in series:
        instances = make_series(case, name)
        if enhanced and name == "t1":
            instances = [_enhanced(case, instances)]
        for ds in instances:
            path = out / f"{name}_{ds.InstanceNumber:03d}.dcm"
            _save(ds, path, SYNTAXES[syntax])
            paths.append(path)
    return paths


def lesion_mask(*, tumour: Tumour, seed: int, plane: Plane = "axial", slices: int = 24, size: int = 256) -> NDArray[np.bool_]:
    """(slice, row, column): where the T1 series of the same options shows the lesion, in the order of its instance numbers."""
    head = _head(tumour, seed)
    where = pose(seed)
    return cut(head.lesion.astype(np.float32), where, stack_for(head, where, plane, slices, size)) > 0.5


def make_series(case: Case, name: SeriesName) -> list[Dataset]:
    """The instances of one series, uncompressed."""
    stacks = _stacks(case, name)
    head, where = _head(case.tumour, case.seed), pose(case.seed)
    instances: list[Dataset] = []
    for stack in stacks:
        noise_seed = case.seed * 10 + PROTOCOLS[name].number
        pixels = measure(cut(head.t2 if name == "t2" else head.t1, where, stack), noise_seed)
        for offset, slice_pixels in zip(stack.offsets, pixels, strict=True):
            instances.append(_instance(case, name, stack, float(offset), len(instances) + 1, slice_pixels))
    return instances


def _enhanced(case: Case, instances: Sequence[Dataset]) -> Dataset:
    series_uid, sop_instance_uid, dimensions_uid = (case.uid("t1 enhanced", part) for part in ("series", 1, "dimensions"))
    return to_enhanced(instances, series_uid=series_uid, sop_instance_uid=sop_instance_uid, dimensions_uid=dimensions_uid)


@lru_cache(maxsize=2)
def _head(tumour: Tumour, seed: int) -> Head:
    return paint(tumour, seed)


def _stacks(case: Case, name: SeriesName) -> list[Stack]:
    """One stack, or for the localizer one slice through the middle in each plane."""
    if name == "localizer":
        return [Stack(plane, 1, size=case.size, thickness=PROTOCOLS[name].thickness) for plane in FRAMES]
    return [stack_for(_head(case.tumour, case.seed), pose(case.seed), case.plane, case.slices, case.size)]


# --- objects ----------------------------------------------------------------------------------------------------------


def _instance(case: Case, name: SeriesName, stack: Stack, offset: float, number: int, pixels: StoredPixels) -> Dataset:
    """One MR Image (PS3.3 A.4)."""
    ds = Dataset()
    ds.SOPClassUID = MRImageStorage
    ds.SOPInstanceUID = case.uid(name, number)
    ds.InstanceNumber = number
    _add_patient_and_study(ds, case)
    _add_series(ds, case, name)
    _add_protocol(ds, PROTOCOLS[name])
    _add_plane(ds, stack, offset)
    _add_pixels(ds, pixels)
    return ds


def _add_patient_and_study(ds: Dataset, case: Case) -> None:
    ds.PatientName = f"Phantom^{'Healthy' if case.tumour == 'none' else case.tumour.title()}"
    ds.PatientID = f"PHANTOM-{case.tumour.upper()}-{case.seed}"
    ds.PatientBirthDate = "19700101"
    ds.PatientSex = "O"
    ds.PatientAge = "056Y"
    ds.PatientComments = "Generated phantom, not a patient"
    ds.StudyInstanceUID = case.uid("study")
    ds.StudyID = str(case.seed)
    ds.AccessionNumber = f"PH{case.seed:06d}"
    ds.StudyDescription = "MR HEAD PHANTOM"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20260105"
    ds.StudyTime = "090000"
    ds.ReferringPhysicianName = ""


def _add_series(ds: Dataset, case: Case, name: SeriesName) -> None:
    protocol = PROTOCOLS[name]
    ds.Modality = "MR"
    ds.SeriesInstanceUID = case.uid(name)
    ds.SeriesNumber = protocol.number
    ds.SeriesDescription = protocol.description.format(plane=IN_DESCRIPTIONS[case.plane])
    ds.ProtocolName = ds.SeriesDescription
    ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = f"09{5 * protocol.number:02d}00"
    ds.BodyPartExamined = "HEAD"
    ds.PatientPosition = "HFS"
    ds.FrameOfReferenceUID = case.uid("frame of reference")
    ds.PositionReferenceIndicator = ""
    ds.Manufacturer = "VitalCheck"
    ds.ManufacturerModelName = "make_phantom"
    ds.DeviceSerialNumber = "1"
    ds.SoftwareVersions = "1"


def _add_protocol(ds: Dataset, protocol: Protocol) -> None:
    ds.ImageType = list(protocol.image_type)
    ds.ScanningSequence = protocol.scanning_sequence
    ds.SequenceVariant = "SK" if protocol.echo_train > 1 else "NONE"
    ds.ScanOptions = ""
    ds.MRAcquisitionType = "2D"
    ds.RepetitionTime = protocol.repetition_time
    ds.EchoTime = protocol.echo_time
    ds.EchoTrainLength = protocol.echo_train
    ds.FlipAngle = protocol.flip_angle
    ds.MagneticFieldStrength = 1.5
    ds.ImagingFrequency = 63.87
    ds.ImagedNucleus = "1H"
    ds.NumberOfAverages = 1
    ds.AcquisitionNumber = protocol.number
    ds.SliceThickness = protocol.thickness
    if protocol.agent:
        ds.ContrastBolusAgent = protocol.agent
        ds.ContrastBolusRoute = "IV"


def _add_plane(ds: Dataset, stack: Stack, offset: float) -> None:
    frame = FRAMES[stack.plane]
    ds.SpacingBetweenSlices = frame.between
    ds.ImageOrientationPatient = [float(v) for v in (*frame.along_row, *frame.along_column)]
    ds.ImagePositionPatient = [round(float(v), 4) + 0.0 for v in stack.origin(offset)]
    ds.SliceLocation = round(offset, 4)
    ds.PixelSpacing = [stack.spacing, stack.spacing]


def _add_pixels(ds: Dataset, pixels: StoredPixels) -> None:
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowCenter, ds.WindowWidth = 450, 900
    ds.PixelData = pixels.astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"


def _save(ds: Dataset, path: Path, syntax: UID) -> None:
    ds = copy.copy(ds)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax != ExplicitVRLittleEndian:
        ds.compress(syntax, generate_instance_uid=False)
    ds.save_as(path, enforce_file_format=True)


# --- command line -----------------------------------------------------------------------------------------------------


def main(
    out: Annotated[Path, typer.Argument(help="folder for the DICOM files; made if missing")],
    tumour: Annotated[Tumour, typer.Option(help="what to paint")] = "glioma",
    seed: Annotated[int, typer.Option(min=0, help="place, shape, pose and noise hang on it")] = 1,
    plane: Annotated[Plane, typer.Option(help="of the T1 and T2 series")] = "axial",
    slices: Annotated[int, typer.Option(min=1, help="in each of T1 and T2; few of them lie around the tumour")] = 24,
    size: Annotated[int, typer.Option(min=32, max=512, help="rows and columns")] = 256,
    syntax: Annotated[Syntax, typer.Option(help="transfer syntax; all are lossless")] = "explicit",
    enhanced: Annotated[bool, typer.Option("--enhanced", help="T1 as one Enhanced MR object")] = False,
    mask: Annotated[Path | None, typer.Option(help="also write the lesion as bool (slice, row, column) to this .npy, outside OUT")] = None,
) -> None:
    """Writes one generated head MR study: localizer, T2, and T1 after contrast."""
    paths = write_study(out, tumour=tumour, seed=seed, plane=plane, slices=slices, size=size, syntax=syntax, enhanced=enhanced)
    if mask is not None:
        np.save(mask, lesion_mask(tumour=tumour, seed=seed, plane=plane, slices=slices, size=size))
    print(f"{len(paths)} instances, {sum(path.stat().st_size for path in paths) / 1e6:.2f} MB in {out.resolve()}")


if __name__ == "__main__":
    typer.run(main)
