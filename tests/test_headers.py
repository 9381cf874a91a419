"""listener/headers.py over files: whole, broken, and of every kind that pydicom ships for its own tests."""

from __future__ import annotations

import warnings
from pathlib import Path

import pydicom.data
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from objects import dataset, instance, write
from pydicom import Dataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRBigEndian, ImplicitVRLittleEndian

from listener import headers
from listener.errors import NotDicom

SHIPPED = Path(pydicom.data.__file__).parent


def test_decisions_get_what_they_need(tmp_path: Path) -> None:
    """UIDs, geometry and timing of a classic MR arrive typed, and its pixels are seen without being read."""
    more = {"EchoTime": 12.5, "RepetitionTime": "500", "ScanningSequence": ["SE", "IR"], "BodyPartExamined": "HEAD"}
    made = instance(tmp_path, **more)
    h = made.headers
    assert (made.study_uid, made.series_uid, made.sop_instance_uid) == ("1.2.3", "1.2.3.1", "1.2.3.1.1")
    assert (h.modality, h.body_part_examined, h.echo_time, h.repetition_time, h.inversion_time) == ("MR", "HEAD", 12.5, 500.0, None)
    assert (h.scanning_sequence, h.rows, h.columns, h.has_pixels) == (("SE", "IR"), 16, 16, True)
    assert (h.pixel_spacing, h.image_position_patient) == ((1.0, 1.0), (0.0, 0.0, 5.0))


def test_the_digest_is_of_the_data_set_alone(tmp_path: Path) -> None:
    """Another writer's file meta information does not make another instance, one changed pixel does."""
    ds = dataset()
    ours = headers.read(write(tmp_path / "a", ds))
    ds.file_meta.ImplementationVersionName = "SOMEONE_ELSE"
    theirs = headers.read(write(tmp_path / "b", ds))
    assert (ours.sha256, ours.path.read_bytes() == theirs.path.read_bytes()) == (theirs.sha256, False)
    ds.PixelData = b"\7" + ds.PixelData[1:]
    assert headers.read(write(tmp_path / "c", ds)).sha256 != ours.sha256


def test_an_enhanced_object_says_it_in_its_functional_groups(tmp_path: Path) -> None:
    """Timing from the shared groups, position from the first frame."""
    echo, timing, measures = Dataset(), Dataset(), Dataset()
    echo.EffectiveEchoTime, timing.RepetitionTime, measures.PixelSpacing = 9.0, 450.0, [0.5, 0.25]
    shared, frame, position = Dataset(), Dataset(), Dataset()
    shared.MREchoSequence, shared.MRTimingAndRelatedParametersSequence, shared.PixelMeasuresSequence = [echo], [timing], [measures]
    position.ImagePositionPatient = [1, 2, 3]
    frame.PlanePositionSequence = [position]
    more = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": [frame, Dataset()], "NumberOfFrames": 2}
    h = instance(tmp_path, sop_class_uid=EnhancedMRImageStorage, AcquisitionContrast="T1", **more).headers
    assert (h.echo_time, h.repetition_time, h.pixel_spacing) == (9.0, 450.0, (0.5, 0.25))
    assert (h.image_position_patient, h.number_of_frames, h.acquisition_contrast, h.has_pixels) == ((1.0, 2.0, 3.0), 2, "T1", False)


def test_physics_of_a_classic_object(tmp_path: Path) -> None:
    """Sequence variant, angio flag, thickness, coil and b-value arrive."""
    more = {
        "SequenceVariant": ["SK", "SP"],
        "AngioFlag": "Y",
        "SliceThickness": "1.2",
        "ReceiveCoilName": "Head_32",
        "DiffusionBValue": 800.0,
    }
    h = instance(tmp_path, **more).headers
    assert (h.sequence_variant, h.angio, h.slice_thickness, h.receive_coil_name) == (("SK", "SP"), True, 1.2, "Head_32")
    assert (h.diffusion_b_value, h.echo_planar) == (800.0, False)
    assert instance(tmp_path, number=2, SequenceVariant=["TOF", "SP"]).headers.angio


@pytest.mark.parametrize(
    ("creator", "group", "element", "value", "found"),
    [
        ("SIEMENS MR HEADER", 0x0019, 0x0C, "1000", 1000.0),
        ("SIEMENS MR HEADER", 0x0019, 0x0C, "", None),
        ("GEMS_PARM_01", 0x0043, 0x39, ["1000000800", "8", "0", "0"], 800.0),
        ("SOMEBODY ELSE", 0x0019, 0x0C, "1000", None),
    ],
)
@pytest.mark.parametrize("implicit", [False, True])
def test_b_values_that_vendors_hide(
    tmp_path: Path, creator: str, group: int, element: int, value: str, found: float | None, implicit: bool
) -> None:
    """Siemens and GE write it into private elements; those of another creator say nothing."""
    ds = dataset()
    ds.private_block(group, creator, create=True).add_new(element, "IS", value)
    if implicit:
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert headers.read(write(tmp_path, ds)).headers.diffusion_b_value == found


def test_one_diffusion_weighted_frame_makes_an_enhanced_object_diffusion(tmp_path: Path) -> None:
    """The b-value is the highest of all frames, and the pulse sequence is told in words of its own."""

    def frame(b: float) -> Dataset:
        item, diffusion = Dataset(), Dataset()
        diffusion.DiffusionBValue = b
        item.MRDiffusionSequence = [diffusion]
        return item

    modifier, shared = Dataset(), Dataset()
    modifier.InversionRecovery = "YES"
    shared.MRModifierSequence = [modifier]
    more = {"EchoPulseSequence": "GRADIENT", "EchoPlanarPulseSequence": "YES", "ComplexImageComponent": "MAGNITUDE"}
    groups = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": [frame(0), frame(1000), frame(500)]}
    h = instance(tmp_path, sop_class_uid=EnhancedMRImageStorage, NumberOfFrames=3, **more, **groups).headers
    assert (h.diffusion_b_value, h.scanning_sequence, h.echo_planar) == (1000.0, ("GR", "IR"), True)
    assert h.complex_image_component == "MAGNITUDE"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_encodings_say_the_same(tmp_path: Path, syntax: str) -> None:
    """Implicit VR and big endian give the same headers."""
    ds = dataset()
    expected = instance(tmp_path).headers
    plain, little = Dataset(), syntax == ImplicitVRLittleEndian
    plain.update(ds)
    plain.file_meta, plain.file_meta.TransferSyntaxUID = ds.file_meta, syntax
    plain.save_as(tmp_path / "other.dcm", implicit_vr=little, little_endian=little, enforce_file_format=True)
    assert headers.read(tmp_path / "other.dcm").headers == expected


def test_a_broken_value_is_no_value(tmp_path: Path) -> None:
    """An echo time that is no number is None, and the rest is read."""
    path = instance(tmp_path, EchoTime="55.5", PixelSpacing=["0.125", "0.125"]).path
    raw = path.read_bytes()
    assert raw.count(b"55.5") == 1
    path.write_bytes(raw.replace(b"55.5", b"what").replace(b"0.125\\0.125", b"0.125\\nonum"))
    h = headers.read(path).headers
    assert (h.echo_time, h.pixel_spacing, h.rows) == (None, None, 16)


def test_no_dicom_says_so(tmp_path: Path) -> None:
    """A text, a missing file, an object without UIDs: one line that names the file and why."""
    (tmp_path / "note.txt").write_text("no DICOM")
    with pytest.raises(NotDicom, match=r"note.txt: not a DICOM file \(no DICM prefix\)"):
        headers.read(tmp_path / "note.txt")
    with pytest.raises(NotDicom, match="cannot be read"):
        headers.read(tmp_path / "missing.dcm")
    ds = dataset()
    path = write(tmp_path, ds)
    del ds.StudyInstanceUID
    ds.save_as(path)
    with pytest.raises(NotDicom, match="DICOM without StudyInstanceUID"):
        headers.read(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_bytes_bring_it_down(tmp_path: Path, data: st.DataObject) -> None:
    """A file cut anywhere, with bytes changed anywhere, is an instance or NotDicom, never another exception."""
    raw = bytearray(write(tmp_path, dataset(EchoTime="5")).read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "changed.dcm"
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            headers.read(path)
        except NotDicom:
            return


def test_file_cut_within_its_group_length(tmp_path: Path) -> None:
    """A file that ends after one byte of its first value, which pydicom answers with an exception of its own, is no DICOM."""
    path = write(tmp_path, dataset())
    path.write_bytes(path.read_bytes()[:141])  # preamble, DICM, tag, VR, length, one byte of four
    with pytest.raises(NotDicom):
        headers.read(path)


def test_every_file_that_pydicom_ships_is_read_or_refused() -> None:
    """Two hundred odd files of its own test data: 150 and more are instances, no other exception than NotDicom."""
    paths = [path for path in SHIPPED.rglob("*") if path.is_file() and path.suffix != ".py"]
    refused: list[NotDicom] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = headers.studies(paths, skipped=refused.append)
    assert sum(len(study.instances) for study in found) > 100
    assert all(error.path.name in str(error) for error in refused)


def test_order_on_disk_does_not_matter(tmp_path: Path) -> None:
    """Series by number, instances by number, whatever the order of the files; the same instance twice counts once."""
    made = [instance(tmp_path / str(k), series=s, number=n) for k, (s, n) in enumerate([(2, 1), (1, 2), (1, 1), (1, 2)])]
    paths = [i.path for i in made]
    (study,) = headers.studies(paths)
    assert [i.sop_instance_uid for i in study.instances] == ["1.2.3.1.1", "1.2.3.1.2", "1.2.3.2.1"]
    assert headers.studies(reversed(paths)) == [study]
