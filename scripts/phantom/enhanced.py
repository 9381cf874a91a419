"""A classic MR series as one Enhanced MR multi-frame object (PS3.3 A.36)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage

# What the classic object keeps per image and the enhanced one in its functional groups, or not at all.
MOVED = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "SliceLocation"),
    *("ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength"),
    *("FlipAngle", "NumberOfAverages", "ImagingFrequency", "ImagedNucleus", "ContrastBolusAgent", "ContrastBolusRoute"),
    *("BodyPartExamined", "AcquisitionDate", "AcquisitionTime", "WindowCenter", "WindowWidth"),
)
OPERATING_MODES = ("STATIC FIELD", "RF", "GRADIENT")
FRAME_TYPE = ["ORIGINAL", "PRIMARY", "T1", "NONE"]


def to_enhanced(instances: Sequence[Dataset], *, series_uid: str, sop_instance_uid: str, dimensions_uid: str) -> Dataset:
    """The slices of a T1 series after contrast as frames of one object, in their order.

    Where each lies in the stack say its dimension indices, so frames may come in any order.
    """
    first = instances[0]
    ds = copy.deepcopy(first)
    for keyword in MOVED:
        if keyword in ds:
            delattr(ds, keyword)
    ds.SOPClassUID = EnhancedMRImageStorage
    ds.SOPInstanceUID = sop_instance_uid
    ds.SeriesInstanceUID = series_uid
    ds.InstanceNumber = 1
    ds.ImageType = FRAME_TYPE
    ds.NumberOfFrames = len(instances)
    ds.PixelData = b"".join(instance.PixelData for instance in instances)
    _add_acquisition(ds, first)
    _add_dimensions(ds, dimensions_uid)
    ds.SharedFunctionalGroupsSequence = [_shared(first)]
    places = sorted(instance.SliceLocation for instance in instances)
    ds.PerFrameFunctionalGroupsSequence = [_per_frame(instance, places.index(instance.SliceLocation) + 1) for instance in instances]
    return ds


def _add_acquisition(ds: Dataset, first: Dataset) -> None:
    """What Enhanced MR Image, its pulse sequence and the enhanced contrast module ask for (PS3.3 C.8.13.1, C.8.13.4, C.7.6.4b)."""
    ds.AcquisitionDateTime = first.AcquisitionDate + first.AcquisitionTime
    ds.AcquisitionDuration = 180.0
    ds.ContentQualification = "RESEARCH"
    ds.ResonantNucleus = "1H"
    ds.KSpaceFiltering = "NONE"
    ds.ApplicableSafetyStandardAgency = "IEC"
    ds.AcquisitionContextSequence = []
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"
    ds.PresentationLUTShape = "IDENTITY"
    _add_frame_traits(ds)
    ds.PulseSequenceName = "SE"
    ds.MRAcquisitionType = "2D"
    ds.EchoPulseSequence = "SPIN"
    ds.MultipleSpinEcho = ds.MultiPlanarExcitation = ds.PhaseContrast = ds.TimeOfFlightContrast = "NO"
    ds.SteadyStatePulseSequence = ds.SpectrallySelectedSuppression = ds.OversamplingPhase = "NONE"
    ds.EchoPlanarPulseSequence = ds.SaturationRecovery = "NO"
    ds.GeometryOfKSpaceTraversal = "RECTILINEAR"
    ds.SegmentedKSpaceTraversal = "SINGLE"
    ds.RectilinearPhaseEncodeReordering = "LINEAR"
    ds.NumberOfKSpaceTrajectories = 1
    agent = _code("109216000", "SCT", "Gadopentetate dimeglumine")
    agent.ContrastBolusAgentNumber = 1
    agent.ContrastBolusAdministrationRouteSequence = [_code("47625008", "SCT", "Intravenous route")]
    agent.ContrastBolusIngredientCodeSequence = [_code("58281002", "SCT", "Gadolinium")]
    agent.ContrastBolusVolume = None
    agent.ContrastBolusIngredientConcentration = None
    ds.ContrastBolusAgentSequence = [agent]


def _add_frame_traits(ds: Dataset) -> None:
    """PS3.3 C.8.13.2: what kind of picture, for the object and again for each frame."""
    ds.PixelPresentation = "MONOCHROME"
    ds.VolumetricProperties = "VOLUME"
    ds.VolumeBasedCalculationTechnique = "NONE"
    ds.ComplexImageComponent = "MAGNITUDE"
    ds.AcquisitionContrast = "T1"


def _add_dimensions(ds: Dataset, uid: str) -> None:
    """Two dimensions: the stack and the position in it (PS3.3 C.7.6.17)."""
    ds.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=uid)]
    ds.DimensionIndexSequence = [
        _item(DimensionOrganizationUID=uid, DimensionIndexPointer=0x00209056, FunctionalGroupPointer=0x00209111),
        _item(DimensionOrganizationUID=uid, DimensionIndexPointer=0x00209057, FunctionalGroupPointer=0x00209111),
    ]


def _shared(first: Dataset) -> Dataset:
    """The functional groups that hold for all frames (PS3.3 A.36.2.4)."""
    frame_type = _item(FrameType=FRAME_TYPE)
    _add_frame_traits(frame_type)
    measures = _item(PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness, SpacingBetweenSlices=first.SpacingBetweenSlices)
    bolus = _item(ContrastBolusAgentNumber=1, ContrastBolusAgentAdministered="YES", ContrastBolusAgentDetected="YES")
    shared = _item(
        PixelMeasuresSequence=[measures],
        PlaneOrientationSequence=[_item(ImageOrientationPatient=first.ImageOrientationPatient)],
        FrameAnatomySequence=[_item(FrameLaterality="U", AnatomicRegionSequence=[_code("69536005", "SCT", "Head")])],
        FrameVOILUTSequence=[_item(WindowCenter=first.WindowCenter, WindowWidth=first.WindowWidth)],
        PixelValueTransformationSequence=[_item(RescaleIntercept=0, RescaleSlope=1, RescaleType="US")],
        ContrastBolusUsageSequence=[bolus],
        MRImageFrameTypeSequence=[frame_type],
    )
    _add_acquisition_groups(shared, first)
    return shared


def _add_acquisition_groups(shared: Dataset, first: Dataset) -> None:
    """The macros of Enhanced MR that say how it was measured (PS3.3 C.8.13.5)."""
    shared.MRTimingAndRelatedParametersSequence = [_timing(first)]
    shared.MRFOVGeometrySequence = [
        _item(
            InPlanePhaseEncodingDirection="ROW",
            MRAcquisitionFrequencyEncodingSteps=int(first.Columns),
            MRAcquisitionPhaseEncodingStepsInPlane=int(first.Rows),
            PercentSampling=100.0,
            PercentPhaseFieldOfView=100.0,
        )
    ]
    shared.MREchoSequence = [_item(EffectiveEchoTime=float(first.EchoTime))]
    shared.MRModifierSequence = [
        _item(
            **dict.fromkeys(("InversionRecovery", "T2Preparation", "PartialFourier", "ParallelAcquisition"), "NO"),
            **dict.fromkeys(("FlowCompensation", "Spoiling", "SpectrallySelectedExcitation", "SpatialPresaturation"), "NONE"),
        )
    ]
    nothing = {"MagnetizationTransfer": "NONE", "BloodSignalNulling": "NO", "Tagging": "NONE"}
    shared.MRImagingModifierSequence = [_item(**nothing, TransmitterFrequency=63.87, PixelBandwidth=130.0)]
    receiver = {"ReceiveCoilName": "HEAD", "ReceiveCoilType": "VOLUME"}
    shared.MRReceiveCoilSequence = [_item(**receiver, ReceiveCoilManufacturerName="", QuadratureReceiveCoil="YES")]
    shared.MRTransmitCoilSequence = [_item(TransmitCoilName="BODY", TransmitCoilManufacturerName="", TransmitCoilType="BODY")]
    shared.MRAveragesSequence = [_item(NumberOfAverages=first.NumberOfAverages)]


def _timing(first: Dataset) -> Dataset:
    absorbed = _item(SpecificAbsorptionRateDefinition="IEC_HEAD", SpecificAbsorptionRateValue=0.0)
    return _item(
        RepetitionTime=first.RepetitionTime,
        FlipAngle=first.FlipAngle,
        EchoTrainLength=first.EchoTrainLength,
        RFEchoTrainLength=1,
        GradientEchoTrainLength=0,
        GradientOutputType="DB_DT",
        GradientOutput=0.0,
        SpecificAbsorptionRateSequence=[absorbed],
        OperatingModeSequence=[_item(OperatingModeType=kind, OperatingMode="IEC_NORMAL") for kind in OPERATING_MODES],
    )


def _per_frame(instance: Dataset, position: int) -> Dataset:
    content = _item(
        FrameReferenceDateTime=instance.AcquisitionDate + instance.AcquisitionTime,
        FrameAcquisitionDateTime=instance.AcquisitionDate + instance.AcquisitionTime,
        FrameAcquisitionDuration=180000.0,
        FrameAcquisitionNumber=1,
        StackID="1",
        InStackPositionNumber=position,
        DimensionIndexValues=[1, position],
    )
    return _item(
        FrameContentSequence=[content],
        PlanePositionSequence=[_item(ImagePositionPatient=instance.ImagePositionPatient)],
    )


def _item(**attributes: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)
