"""Studies as scanners send them, of which nothing, or just one series, may be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from corpus import Object, State, case, changed, head, put
from corpus_geometry import at, enhanced
from corpus_pixels import stored
from objects import AXIAL, CORONAL, SAGITTAL
from pydicom import uid as uids
from pydicom.dataset import FileDataset


def series(study_uid: str, number: int = 1, count: int = 3, **more: Any) -> list[FileDataset]:
    """A series that is not called T1 unless `more` says so."""
    made = {"SeriesDescription": "", "ProtocolName": "", "StudyDescription": ""} | more
    return head(study_uid, count, series=number, **made)


def only(name: str, state: State, reason: str, **more: Any) -> None:
    """A study of one such series."""
    case(f"choose-{name}", state, reason)(lambda study_uid: series(study_uid, **more))


def other(name: str, sop_class_uid: str, modality: str, reason: str, **more: Any) -> None:
    """A study of one object of another kind."""

    def build(study_uid: str) -> Sequence[Object]:
        (ds,) = series(study_uid, count=1)
        ds.file_meta.MediaStorageSOPClassUID = uids.UID(sop_class_uid)
        put(SOPClassUID=sop_class_uid, Modality=modality, **more)(ds)
        return [ds]

    case(f"choose-{name}", "declined", reason)(build)


only("t2", "declined", "T2", SeriesDescription="T2 TSE AX", RepetitionTime="4000", EchoTime="100")
only("t2-by-times", "declined", "T2", RepetitionTime="4000", EchoTime="100")
only("t1-by-times", "analysed", "")
only("nothing-known", "declined", "unknown|sequence", RepetitionTime=None, EchoTime=None, ScanningSequence=None)
only("flair", "declined", "FLAIR|inversion", RepetitionTime="9000", EchoTime="120", InversionTime="2500", SeriesDescription="FLAIR")
only("t1-flair", "analysed", "", RepetitionTime="2200", EchoTime="10", InversionTime="800", SeriesDescription="T1 FLAIR")
only("mprage", "analysed", "", SeriesDescription="t1_mprage_sag", ScanningSequence=["GR", "IR"], RepetitionTime="2300", EchoTime="3")
only("dti", "declined", "diffusion", SeriesDescription="ep2d_diff_64dir", ScanningSequence="EP", EchoTime="90", RepetitionTime="8000")
only("epi-called-t1", "declined", "echo-planar", SeriesDescription="T1", ScanningSequence="EP")
only("adc", "declined", "map|derived|diffusion", SeriesDescription="ADC", ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "ADC"])
only("mosaic", "declined", "mosaic", SeriesDescription="T1", ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])
only("swi", "declined", "suscept", SeriesDescription="SWI_Images", ScanningSequence="GR", EchoTime="20", RepetitionTime="27")
only("tof", "declined", "angio|flight", SeriesDescription="TOF_3D_multi-slab", ScanningSequence="GR", RepetitionTime="21", EchoTime="3.4")
only("mip", "declined", "projection|MIP", SeriesDescription="T1 MIP", ImageType=["DERIVED", "SECONDARY", "PROJECTION IMAGE", "MIP"])
only("phase", "declined", "phase|map", SeriesDescription="T1", ImageType=["ORIGINAL", "PRIMARY", "P", "ND"])
only("screen-save", "declined", "derived|screen|secondary", SeriesDescription="T1", ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"])
only("localizer", "declined", "localizer", SeriesDescription="localizer", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
only("knee", "declined", "not a head", BodyPartExamined="KNEE", SeriesDescription="T1 SE COR")
only("knee-by-description", "declined", "not a head", BodyPartExamined="", SeriesDescription="T1 SE COR", StudyDescription="MRI knee left")
only("spine", "declined", "not a head", BodyPartExamined="CSPINE", SeriesDescription="T1 TSE SAG")
only("head-says-nothing", "analysed", "", BodyPartExamined="", SeriesDescription="T1 SE")
only("german", "analysed", "", BodyPartExamined="SCHÄDEL", SpecificCharacterSet="ISO_IR 100", SeriesDescription="t1_se_tra_KM")

other("ct", uids.CTImageStorage, "CT", "CT")
other("pet", uids.PositronEmissionTomographyImageStorage, "PT", "PT|modality")
other("ultrasound", uids.UltrasoundImageStorage, "US", "US|modality")
other("dose-report", uids.XRayRadiationDoseSRStorage, "SR", "SR|modality|pixel", PixelData=None, Rows=None, Columns=None)
other("presentation-state", uids.GrayscaleSoftcopyPresentationStateStorage, "PR", "PR|modality|pixel", PixelData=None)
other("pdf", uids.EncapsulatedPDFStorage, "DOC", "DOC|modality|pixel", PixelData=None, EncapsulatedDocument=b"%PDF-1.7")
other("spectroscopy", uids.MRSpectroscopyStorage, "MR", "pixel|spectro", PixelData=None, SpectroscopyData=b"\0" * 64)
other("segmentation", uids.SegmentationStorage, "SEG", "SEG|modality")
other("parametric-map", uids.ParametricMapStorage, "MR", "SOP class", SeriesDescription="T1", ImageType=["DERIVED", "PRIMARY"])
other("secondary-capture-grey", uids.SecondaryCaptureImageStorage, "MR", "captur|derived", SeriesDescription="T1",
      ImageType=["DERIVED", "SECONDARY"])  # fmt: skip


@case("choose-colour-capture", "declined", "greyscale|captur|colour")
def capture(study_uid: str) -> Sequence[Object]:
    made = series(study_uid, count=1, SeriesDescription="T1", SOPClassUID=uids.SecondaryCaptureImageStorage)
    return [stored(made[0], np.zeros((32, 32, 3), np.uint8), SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation="RGB")]


@case("choose-localizer-only", "declined", "localizer")
def localizer(study_uid: str) -> Sequence[Object]:
    made = series(study_uid, SeriesDescription="localizer", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    return [at(ds, 0, 0, 0, orientation=o) for ds, o in zip(made, (AXIAL, CORONAL, SAGITTAL), strict=True)]


@case("choose-one-of-several", "analysed")
def several(study_uid: str) -> Sequence[Object]:
    """Localizer, T2, T1, T1 after contrast, a map, a capture: there is one to read."""
    return [
        *localizer(study_uid),
        *series(study_uid, 2, SeriesDescription="T2 TSE", RepetitionTime="4000", EchoTime="100"),
        *series(study_uid, 3, SeriesDescription="T1 SE"),
        *series(study_uid, 4, SeriesDescription="T1 SE +C", ContrastBolusAgent="Gd"),
        *series(study_uid, 5, SeriesDescription="ADC", ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]),
    ]


@case("choose-several-unfit", "declined", "series 1 .*; series 2 .*; series 3 ")
def several_unfit(study_uid: str) -> Sequence[Object]:
    return [
        *localizer(study_uid),
        *series(study_uid, 2, SeriesDescription="T2 TSE", RepetitionTime="4000", EchoTime="100"),
        *series(study_uid, 3, BodyPartExamined="KNEE", SeriesDescription="T1"),
    ]


@case("choose-broken-beside-fit", "analysed")
def broken_beside(study_uid: str) -> Sequence[Object]:
    """A series that is not chosen may be as broken as it likes."""
    return [
        *series(study_uid, 1, SeriesDescription="T1 SE"),
        *(changed(ds, put(PixelData=b"\0" * 10)) for ds in series(study_uid, 2, SeriesDescription="T2 TSE")),
    ]


@case("choose-sixty-series", "analysed")
def sixty(study_uid: str) -> Sequence[Object]:
    others = [series(study_uid, 1000 + k, 1, SeriesDescription="T2")[0] for k in range(60)]
    return [*series(study_uid, 1, SeriesDescription="T1 SE"), *others]


@case("choose-series-without-numbers", "analysed")
def numberless(study_uid: str) -> Sequence[Object]:
    both = [*series(study_uid, 1, SeriesDescription="T1 SE"), *series(study_uid, 2, SeriesDescription="T1 SE")]
    return [changed(ds, put(SeriesNumber=None)) for ds in both]


@case("choose-enhanced-t2", "declined", "T2|contrast")
def enhanced_t2(study_uid: str) -> Sequence[Object]:
    ds = enhanced(study_uid)
    ds.SeriesDescription = ds.ProtocolName = "T2 TSE"
    ds.AcquisitionContrast = "T2"
    ds.SharedFunctionalGroupsSequence[0].MRImageFrameTypeSequence[0].AcquisitionContrast = "T2"
    return [ds]


@case("choose-enhanced-diffusion", "declined", "diffusion")
def enhanced_diffusion(study_uid: str) -> Sequence[Object]:
    ds = enhanced(study_uid)
    ds.SeriesDescription = ds.ProtocolName = ""
    ds.AcquisitionContrast = "DIFFUSION"
    ds.SharedFunctionalGroupsSequence[0].MRImageFrameTypeSequence[0].AcquisitionContrast = "DIFFUSION"
    return [ds]


@case("choose-two-echoes-in-one-series", "declined", "T2|echo|weight")
def dual_echo(study_uid: str) -> Sequence[Object]:
    """A proton density and T2 double echo whose description is of no use."""
    first, second = (series(study_uid, count=3, first=n, RepetitionTime="3000", EchoTime=te) for n, te in ((1, "15"), (4, "100")))
    return [*first, *second]
