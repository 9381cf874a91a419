"""listener/eligibility.py and the table of SOP classes behind it."""

from __future__ import annotations

from pathlib import Path

from objects import SECRET, instance
from pydicom import uid as uids

from listener import contexts
from listener.eligibility import can_answer, reason_against
from listener.headers import group
from pipeline.records import Study

WITHOUT = (
    uids.EnhancedSRStorage,
    uids.ComprehensiveSRStorage,
    uids.GrayscaleSoftcopyPresentationStateStorage,
    uids.KeyObjectSelectionDocumentStorage,
    uids.SegmentationStorage,
    uids.EncapsulatedPDFStorage,
    uids.SecondaryCaptureImageStorage,
)


def test_only_ct_and_mr_can_change_an_answer(tmp_path: Path) -> None:
    """SR, PR, KO, SEG, PDF and secondary captures never start work."""
    assert can_answer(instance(tmp_path))
    assert can_answer(instance(tmp_path, sop_class_uid=uids.EnhancedMRImageStorage))
    assert not any(can_answer(instance(tmp_path, sop_class_uid=uid)) for uid in WITHOUT)


def test_a_study_with_an_image_is_for_the_worker_to_judge(tmp_path: Path) -> None:
    """One MR among reports is enough."""
    members = [instance(tmp_path, number=1), instance(tmp_path, number=2, sop_class_uid=uids.EnhancedSRStorage)]
    assert reason_against(group(members)[0]) is None


def test_a_study_of_reports_is_declined_by_what_it_holds(tmp_path: Path) -> None:
    """The reason counts SOP classes in the standard's names and quotes nothing of the study."""
    members = [instance(tmp_path, number=n, sop_class_uid=uid) for n, uid in enumerate((*WITHOUT[:1] * 2, uids.EncapsulatedPDFStorage))]
    reason = reason_against(group(members)[0])
    assert reason == "no image that could be analysed: 1 Encapsulated PDF Storage, 2 Enhanced SR Storage"
    assert SECRET not in reason


def test_images_without_pixels_are_said_to_be_so(tmp_path: Path) -> None:
    """A study whose images lost their pixel data is declined with that reason."""
    bare = instance(tmp_path, sop_class_uid=uids.EnhancedMRImageStorage)
    assert reason_against(group([bare])[0]) == "no image that could be analysed: the images have no pixel data"
    assert reason_against(Study("1.2", ())) == "no image that could be analysed: the study is empty"


def test_what_a_scanner_proposes_is_accepted() -> None:
    """Every SOP class that can change an answer is offered in every syntax that carries its own pixels, HTJ2K and big endian included."""
    offered = {context.abstract_syntax: set(context.transfer_syntax) for context in contexts.supported(contexts.STORAGE)}
    assert offered.keys() >= contexts.ANSWERS
    wanted = {uids.ImplicitVRLittleEndian, uids.ExplicitVRBigEndian, uids.DeflatedExplicitVRLittleEndian, uids.RLELossless}
    wanted |= {uids.JPEGBaseline8Bit, uids.JPEGExtended12Bit, uids.JPEGLossless, uids.JPEGLosslessSV1, uids.JPEGLSLossless}
    wanted |= {uids.JPEG2000Lossless, uids.JPEG2000, uids.HTJ2KLossless, uids.HTJ2K}
    assert all(wanted <= offered[sop_class] for sop_class in contexts.ANSWERS)
    assert len(set(contexts.STORAGE)) == len(contexts.STORAGE)
