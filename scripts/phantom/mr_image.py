"""One slice of a phantom as a classic MR Image object (PS3.3 A.4), with what a scanner's console would say about it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from scripts.phantom.paint import Tumour
from scripts.phantom.scan import Plane, Stack

SeriesName = Literal["localizer", "t2", "t1"]
Order = Literal["normal", "reversed", "shuffled"]
StoredPixels = NDArray[np.uint16]

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
    tilt: float = 0.0  # degrees, see scan.Frame.tilted; of T1 and T2, as are the next two
    turn: float = 0.0  # degrees
    order: Order = "normal"  # of the instance numbers along the normal

    def uid(self, *parts: object) -> str:
        """The UID of one thing in this study."""
        oblique = (self.tilt, self.turn, self.order)
        unusual = () if oblique == (0.0, 0.0, "normal") else oblique
        name = "/".join(map(str, (self.tumour, self.seed, self.plane, self.slices, self.size, *unusual, *parts)))
        return f"2.25.{uuid.uuid5(NAMESPACE, name).int}"

    def numbers(self, count: int) -> list[int]:
        """The instance number of each of `count` slices of a stack."""
        counted = list(range(1, count + 1))
        if self.order == "shuffled":
            return [int(n) for n in np.random.default_rng([self.seed, 107]).permutation(counted)]
        return counted[::-1] if self.order == "reversed" else counted


def mr_image(case: Case, name: SeriesName, stack: Stack, offset: float, number: int, pixels: StoredPixels) -> Dataset:
    """The slice of `stack` at `offset` mm as instance `number` of its series; `pixels` (row, column), 12 bits."""
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
    frame = stack.frame
    ds.SpacingBetweenSlices = frame.between
    ds.ImageOrientationPatient = [round(float(v), 8) + 0.0 for v in (*frame.along_row, *frame.along_column)]
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
