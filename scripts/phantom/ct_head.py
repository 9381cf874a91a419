"""A generated CT head study: a topogram and an axial series, with a bleeding in the brain or without one.

Ellipsoids of scalp, skull, brain, ventricles and blood in Hounsfield units, stored as a scanner would: 12 bit, rescaled by -1024. The same
options give the same bytes; every object says that it is a phantom.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

Floats = NDArray[np.float32]
Vector = tuple[float, float, float]

NAMESPACE = uuid.UUID("0d8f4a56-2f0b-5a8e-9d11-3c5f6f0b7a42")  # of these phantoms; any other would do as well
SIZE, PIXEL = 256, 0.9  # pixels, mm
SLICES, BETWEEN, LOWEST = 28, 5.0, -62.0  # mm: thickness is the distance; the lowest slice lies below the middle of the head
NOISE = 4.0  # HU, standard deviation
INTERCEPT = -1024  # HU of stored 0 (PS3.3 C.11.1.1.2)
AIR = -1000.0

# Centre and half axes in mm (L, P, S), and HU; what comes later covers what came before
HEAD: tuple[tuple[Vector, Vector, float], ...] = (
    ((0, 0, 0), (78, 98, 90), 25.0),  # scalp
    ((0, 0, 0), (73, 93, 85), 1000.0),  # skull
    ((0, 0, 0), (66, 86, 78), 35.0),  # brain
    ((-12, -8, 5), (7, 26, 12), 8.0),  # ventricles
    ((12, -8, 5), (7, 26, 12), 8.0),
)
BLOOD: tuple[Vector, Vector, float] = ((32, 10, 12), (17, 22, 15), 70.0)


@dataclass(frozen=True, slots=True)
class Study:
    """Everything that a study hangs on."""

    blood: bool
    tilt: float  # degrees of the gantry: slices lean back, the table still moves along the head

    def uid(self, *parts: object) -> str:
        """The UID of one thing in this study, under 2.25 (PS3.5 B.2)."""
        return f"2.25.{uuid.uuid5(NAMESPACE, '/'.join(map(str, (self.blood, self.tilt, *parts)))).int}"


def write(out: Path, study: Study) -> list[Path]:
    """Writes topogram and series into the folder `out`; its files, in the order in which a scanner would send them."""
    out.mkdir(parents=True, exist_ok=True)
    instances = [_topogram(study), *(_slice(study, number) for number in range(1, SLICES + 1))]
    paths = [out / f"{'topogram' if ds.SeriesNumber == 1 else 'head'}_{ds.InstanceNumber:03d}.dcm" for ds in instances]
    for ds, path in zip(instances, paths, strict=True):
        ds.save_as(path, enforce_file_format=True)
    return paths


def centre(number: int) -> float:
    """mm along the head of the middle of slice `number` (from 1)."""
    return LOWEST + (number - 1) * BETWEEN


def _slice(study: Study, number: int) -> Dataset:
    angle = np.radians(study.tilt)
    along_row, along_column = np.array([1.0, 0.0, 0.0]), np.array([0.0, np.cos(angle), np.sin(angle)])
    middle = np.array([0.0, 0.0, centre(number)])
    ds = _instance(study, "head", 2, number)
    ds.ImageType, ds.SeriesDescription, ds.ConvolutionKernel = ["ORIGINAL", "PRIMARY", "AXIAL"], "HEAD 5.0 H31s", "H31s"
    ds.GantryDetectorTilt, ds.SliceThickness, ds.SliceLocation = study.tilt, BETWEEN, centre(number)
    _place(ds, middle, along_row, along_column)
    normal = np.cross(along_row, along_column)
    depths = (-BETWEEN / 3, 0.0, BETWEEN / 3)  # partial volume: a slice is as thick as its neighbours are far
    _store(ds, np.mean([_cut(study, middle + d * normal, along_row, along_column) for d in depths], axis=0), number)
    return ds


def _topogram(study: Study) -> Dataset:
    """What the technologist plans on: seen from the left."""
    along_row, along_column = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, -1.0])
    ds = _instance(study, "topogram", 1, 1)
    ds.ImageType, ds.SeriesDescription = ["ORIGINAL", "PRIMARY", "LOCALIZER"], "Topogram"
    _place(ds, np.zeros(3), along_row, along_column)
    _store(ds, _cut(study, np.zeros(3), along_row, along_column), 0)
    return ds


def _cut(study: Study, middle: NDArray[np.float64], along_row: NDArray[np.float64], along_column: NDArray[np.float64]) -> Floats:
    """(row, column) in HU of an infinitely thin slice."""
    steps = (np.arange(SIZE) - (SIZE - 1) / 2) * PIXEL
    hounsfield = np.full((SIZE, SIZE), AIR, np.float32)
    for at, half_axes, value in (*HEAD, BLOOD) if study.blood else HEAD:
        down, across = (np.outer(vector / half_axes, steps) for vector in (along_column, along_row))  # (axis, step), in half axes
        start = (middle - at) / half_axes
        hounsfield[sum((s + d[:, None] + a) ** 2 for s, d, a in zip(start, down, across, strict=True)) < 1] = value
    return hounsfield


def _instance(study: Study, series: str, series_number: int, number: int) -> Dataset:
    """What all instances say (PS3.3 A.3, CT Image)."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, study.uid(series, number)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study.uid("study"), study.uid(series)
    ds.PatientName, ds.PatientID = "Phantom^CT", f"PHANTOM-CT-{'BLOOD' if study.blood else 'NONE'}"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientComments = "19700101", "O", "Generated phantom, not a patient"
    ds.StudyID, ds.AccessionNumber, ds.StudyDescription, ds.ReferringPhysicianName = "1", "", "CT HEAD PHANTOM", ""
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20260105"
    ds.StudyTime, ds.SeriesTime = "100000", f"10{series_number:02d}00"
    ds.AcquisitionTime = ds.ContentTime = ds.SeriesTime
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = "CT", series_number, number, series_number
    ds.BodyPartExamined, ds.PatientPosition, ds.KVP, ds.ProtocolName = "HEAD", "HFS", 120, "HEAD"
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = study.uid("frame of reference"), ""
    ds.Manufacturer, ds.ManufacturerModelName, ds.DeviceSerialNumber, ds.SoftwareVersions = "VitalCheck", "ct_head", "1", "1"
    return ds


def _place(ds: Dataset, middle: NDArray[np.float64], along_row: NDArray[np.float64], along_column: NDArray[np.float64]) -> None:
    first = middle - (SIZE - 1) / 2 * PIXEL * (along_row + along_column)
    ds.ImagePositionPatient = [round(float(v), 4) + 0.0 for v in first]
    ds.ImageOrientationPatient = [round(float(v), 6) + 0.0 for v in (*along_row, *along_column)]
    ds.PixelSpacing = [PIXEL, PIXEL]


def _store(ds: Dataset, hounsfield: Floats, seed: int) -> None:
    noisy = hounsfield + np.random.default_rng(seed).normal(0.0, NOISE, hounsfield.shape)
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = INTERCEPT, 1, "HU"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = hounsfield.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowCenter, ds.WindowWidth = 40, 80
    ds.PixelData = np.clip(np.round(noisy) - INTERCEPT, 0, 4095).astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
