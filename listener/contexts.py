"""contexts: what we accept, SOP classes x transfer syntaxes. Everything is stored as sent; only `ANSWERS` can start work."""

from __future__ import annotations

from pydicom import uid
from pynetdicom import build_context, sop_class
from pynetdicom.presentation import PresentationContext

from listener import commitment_wire
from pipeline.sop_classes import SLICES

ANSWERS: frozenset[str] = SLICES
"""The SOP classes whose instances can change an answer; all others are kept, but never start work."""

STORAGE: tuple[str, ...] = (
    *sorted(ANSWERS),
    # Other images that come with a study
    sop_class.EnhancedMRColorImageStorage,
    sop_class.MRSpectroscopyStorage,
    sop_class.SecondaryCaptureImageStorage,
    sop_class.MultiFrameSingleBitSecondaryCaptureImageStorage,
    sop_class.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    sop_class.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    sop_class.MultiFrameTrueColorSecondaryCaptureImageStorage,
    sop_class.PositronEmissionTomographyImageStorage,
    sop_class.EnhancedPETImageStorage,
    sop_class.LegacyConvertedEnhancedPETImageStorage,
    sop_class.NuclearMedicineImageStorage,
    sop_class.ComputedRadiographyImageStorage,
    sop_class.DigitalXRayImageStorageForPresentation,
    sop_class.DigitalXRayImageStorageForProcessing,
    sop_class.XRayAngiographicImageStorage,
    sop_class.EnhancedXAImageStorage,
    sop_class.XRay3DAngiographicImageStorage,
    sop_class.XRayRadiofluoroscopicImageStorage,
    sop_class.UltrasoundImageStorage,
    sop_class.UltrasoundMultiFrameImageStorage,
    sop_class.VLPhotographicImageStorage,
    sop_class.ParametricMapStorage,
    # Results, marks and states
    sop_class.SegmentationStorage,
    sop_class.LabelMapSegmentationStorage,
    sop_class.SurfaceSegmentationStorage,
    sop_class.TractographyResultsStorage,
    sop_class.SpatialRegistrationStorage,
    sop_class.DeformableSpatialRegistrationStorage,
    sop_class.SpatialFiducialsStorage,
    sop_class.RealWorldValueMappingStorage,
    sop_class.GrayscaleSoftcopyPresentationStateStorage,
    sop_class.ColorSoftcopyPresentationStateStorage,
    sop_class.PseudoColorSoftcopyPresentationStageStorage,
    sop_class.BlendingSoftcopyPresentationStateStorage,
    sop_class.AdvancedBlendingPresentationStateStorage,
    sop_class.BasicTextSRStorage,
    sop_class.EnhancedSRStorage,
    sop_class.ComprehensiveSRStorage,
    sop_class.Comprehensive3DSRStorage,
    sop_class.ExtensibleSRStorage,
    sop_class.XRayRadiationDoseSRStorage,
    sop_class.PatientRadiationDoseSRStorage,
    sop_class.AcquisitionContextSRStorage,
    sop_class.ProcedureLogStorage,
    sop_class.KeyObjectSelectionDocumentStorage,
    # Documents, raw data, curves, plans
    sop_class.EncapsulatedPDFStorage,
    sop_class.EncapsulatedCDAStorage,
    sop_class.EncapsulatedSTLStorage,
    sop_class.RawDataStorage,
    sop_class.GeneralECGWaveformStorage,
    sop_class.ArterialPulseWaveformStorage,
    sop_class.RespiratoryWaveformStorage,
    sop_class.CTPerformedProcedureProtocolStorage,
    sop_class.RTStructureSetStorage,
    sop_class.RTImageStorage,
    sop_class.RTDoseStorage,
    sop_class.RTPlanStorage,
)

# PS3.5 A: every syntax that carries its own pixels, whether or not we could decode it; what is stored as sent is never re-encoded.
TRANSFER_SYNTAXES: tuple[str, ...] = tuple(
    syntax for syntax in uid.AllTransferSyntaxes if not syntax.name.startswith(("JPIP", "SMPTE"))
)  # these two families point to pixels elsewhere


def supported() -> list[PresentationContext]:
    """The presentation contexts of our SCP."""
    of_service = [build_context(sop_class.Verification), commitment_wire.context()]
    return [*of_service, *(build_context(storage, list(TRANSFER_SYNTAXES)) for storage in STORAGE)]


def name(sop_class_uid: str) -> str:
    """The standard's name of a SOP class, or its UID."""
    return str(uid.UID(sop_class_uid).name)
