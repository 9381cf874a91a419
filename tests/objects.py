"""DICOM objects for tests: small, valid, made on the spot."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EncapsulatedPDFStorage, ExplicitVRLittleEndian, MRImageStorage

from listener import headers
from listener.incoming import Command
from listener.index import Index
from listener.ledger import Ledger
from listener.spool import Spool
from pipeline.records import Instance

SECRET = "Geheim^Patient"  # must never be seen outside of the spool

AXIAL, CORONAL, SAGITTAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (1.0, 0.0, 0.0, 0.0, 0.0, -1.0), (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
UIDS = {MRImageStorage: "MR", CTImageStorage: "CT", EncapsulatedPDFStorage: "DOC"}


def dataset(study_uid: str = "1.2.3", *, series: int = 1, number: int = 1, sop_class_uid: str = MRImageStorage, **more: Any) -> FileDataset:
    """One MR slice of 16 x 16 (or an object without pixels, of another SOP class); `more` are attributes by keyword."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = sop_class_uid
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = SECRET, SECRET, "", ""
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study_uid, f"{study_uid}.{series}"
    ds.SOPInstanceUID, ds.SOPClassUID = f"{study_uid}.{series}.{number}", sop_class_uid
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = UIDS.get(sop_class_uid, "OT"), series, number
    ds.StudyDate = ds.StudyTime = ds.AccessionNumber = ds.StudyID = ds.ReferringPhysicianName = ""
    ds.SeriesDescription = SECRET
    if sop_class_uid in (MRImageStorage, CTImageStorage):
        picture = np.full((16, 16), number, np.uint16)
        picture[-1, -1] = 0  # so that it shows something
        pixels(ds, picture)
        ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing = [0, 0, 5 * number], [1, 0, 0, 0, 1, 0], [1, 1]
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def pixels(ds: Dataset, values: np.ndarray[Any, np.dtype[np.uint16]]) -> None:
    ds.Rows, ds.Columns = values.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.PixelData = values.tobytes()


def write(folder: Path, ds: FileDataset) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{ds.SOPInstanceUID}.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path


def part_10(ds: FileDataset) -> bytes:
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def data_set(raw: bytes) -> bytes:
    """What follows the file meta information, whose group length stands first (PS3.10 7.1)."""
    return raw[144 + int.from_bytes(raw[140:144], "little") :]


def keep(spool: Spool, ds: FileDataset, command: Command | None = None, raw: bytes | None = None) -> tuple[str, Instance]:
    """As C-STORE does; what became of the instance. `raw`: the data set in other bytes than its own."""
    syntax = str(ds.file_meta.TransferSyntaxUID)
    told = command or Command(ds.SOPClassUID, ds.SOPInstanceUID, "CT01", "VITALCHECK", syntax)
    incoming = spool.receive(replace(told, transfer_syntax_uid=syntax))
    try:
        incoming.write(data_set(part_10(ds)) if raw is None else raw)
    except BaseException:
        spool.give_up(incoming)
        raise
    return spool.keep(incoming)


def read_headers(ledger: Ledger) -> None:
    """As the receiver does in the pauses between instances."""
    Index(ledger, lambda: True).work(60)


def instance(folder: Path, study_uid: str = "1.2.3", *, received_at: float = 0.0, **more: Any) -> Instance:
    """As `dataset`, written to `folder` and read back."""
    return headers.read(write(folder, dataset(study_uid, **more)), received_at=received_at)
