"""decode: pixels in the scanner's units, in the order in which they lie in the head."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import objects
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, EnhancedMRImageStorage, ExplicitVRBigEndian, RLELossless

from listener import headers
from pipeline.decode import Undecodable, decode
from pipeline.records import Series, Slices, Source

PICTURE = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


def series(folder: Path, *numbers: int, **more: object) -> Series:
    return Series("1.2.3.1", tuple(objects.instance(folder, number=number, **more) for number in numbers))


def test_order(tmp_path: Path) -> None:
    """Slices come in the order in which they lie along their normal, whatever their numbers say."""
    one = objects.instance(tmp_path, number=1, ImagePositionPatient=[0, 0, 20])
    two = objects.instance(tmp_path, number=2, ImagePositionPatient=[0, 0, -10])
    three = objects.instance(tmp_path, number=3, ImagePositionPatient=[0, 0, 5])

    slices = decode(Series("1.2.3.1", (one, two, three)))

    assert [source.sop_instance_uid[-1] for source in slices.sources] == ["2", "3", "1"]
    assert slices.pixels[:, 8, 8].tolist() == [2.0, 3.0, 1.0]
    assert slices.between == 15.0


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(6)), st.integers(0, 3))
def test_any_order(tmp_path: Path, order: list[int], twice: int) -> None:
    """Any order of arrival, with instances twice, gives the same Slices."""
    straight = series(tmp_path, *range(1, 7))
    shuffled = Series(straight.uid, tuple(straight.instances[k] for k in [*order, twice]))

    assert same(decode(shuffled), decode(straight))


def same(one: Slices, other: Slices) -> bool:
    return one.sources == other.sources and bool((one.pixels == other.pixels).all()) and one.between == other.between


def test_without_position(tmp_path: Path) -> None:
    """Without positions the instance number gives the order; an instance that came twice counts once."""
    slices = decode(series(tmp_path, 3, 1, 2, 1, ImagePositionPatient=None))

    assert slices.pixels[:, 8, 8].tolist() == [1.0, 2.0, 3.0]
    assert slices.between is None


def test_rescale(tmp_path: Path) -> None:
    """Pixels are in modality units: slope and intercept are applied."""
    slices = decode(series(tmp_path, 3, RescaleSlope=2, RescaleIntercept=-10))

    assert np.unique(slices.pixels).tolist() == [-10.0, -4.0]


def test_monochrome1(tmp_path: Path) -> None:
    """MONOCHROME1 is turned round, so that more is brighter, for the series as a whole."""
    slices = decode(series(tmp_path, 1, 2, 3, PhotometricInterpretation="MONOCHROME1"))

    assert slices.pixels[:, 8, 8].tolist() == [2.0, 1.0, 0.0]


def test_same_place(tmp_path: Path) -> None:
    """Of several slices in one place, the one acquired last stays."""
    slices = decode(series(tmp_path, 1, 2, 3, ImagePositionPatient=[0, 0, 7]))

    assert slices.sources == (Source("1.2.3.1.3"),)


def test_odd_one_out(tmp_path: Path) -> None:
    """A slice across the others does not come between them."""
    straight = series(tmp_path, 1, 2, 3)
    across = objects.instance(tmp_path, number=9, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])

    assert len(decode(Series("1.2.3.1", (*straight.instances, across))).sources) == 3


def enhanced(folder: Path) -> Series:
    """One Enhanced MR object of three frames, stored in the order 2, 0, 1, each with its own rescale."""
    ds = objects.dataset(sop_class_uid=EnhancedMRImageStorage, NumberOfFrames=3)
    objects.pixels(ds, np.zeros((16, 16), np.uint16))
    ds.PixelData = np.stack([np.full((16, 16), k, np.uint16) for k in (2, 0, 1)]).tobytes()
    ds.SharedFunctionalGroupsSequence = [
        group(PixelMeasures={"PixelSpacing": [2, 2]}, PlaneOrientation={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]})
    ]
    ds.PerFrameFunctionalGroupsSequence = [
        group(
            PlanePosition={"ImagePositionPatient": [0, 0, 5 * k]}, PixelValueTransformation={"RescaleSlope": 10 + k, "RescaleIntercept": 1}
        )
        for k in (2, 0, 1)
    ]
    return Series("1", (headers.read(objects.write(folder, ds)),))


def group(**macros: dict[str, object]) -> Dataset:
    item = Dataset()
    for name, values in macros.items():
        macro = Dataset()
        for keyword, value in values.items():
            setattr(macro, keyword, value)
        setattr(item, f"{name}Sequence", [macro])
    return item


def test_enhanced(tmp_path: Path) -> None:
    """Frames of an Enhanced object are slices: ordered by their own positions, rescaled by their own slopes, named by frame number."""
    slices = decode(enhanced(tmp_path))

    assert [source.frame for source in slices.sources] == [2, 3, 1]
    assert slices.pixels[:, 0, 0].tolist() == [1.0, 12.0, 25.0]
    assert (slices.spacing, slices.between) == ((2.0, 2.0), 5.0)


def test_one_echo_of_an_enhanced_object(tmp_path: Path) -> None:
    """Of two echoes in one Enhanced object those of the complete one are read, told apart by their dimension index alone."""
    ds = objects.dataset(sop_class_uid=EnhancedMRImageStorage, NumberOfFrames=5)
    objects.pixels(ds, np.zeros((16, 16), np.uint16))
    ds.PixelData = np.stack([np.full((16, 16), k, np.uint16) for k in range(5)]).tobytes()
    ds.SharedFunctionalGroupsSequence = [group(PixelMeasures={"PixelSpacing": [2, 2]})]
    ds.PerFrameFunctionalGroupsSequence = [
        group(
            PlanePosition={"ImagePositionPatient": [0, 0, 5 * (k // 2)]},
            PlaneOrientation={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
            FrameContent={"StackID": "1", "InStackPositionNumber": k // 2 + 1, "DimensionIndexValues": [1, k // 2 + 1, k % 2 + 1]},
        )
        for k in range(5)
    ]
    ds.DimensionIndexSequence = [dimension(0x00209056), dimension(0x00209057), dimension(0x00189082)]

    slices = decode(written(tmp_path, ds))

    assert [source.frame for source in slices.sources] == [1, 3, 5]
    assert slices.remarks == ("2 of 5 slices show places that other slices show, too, and were not read.",)


def test_the_first_echo_of_an_enhanced_object(tmp_path: Path) -> None:
    """Of two complete echoes in one Enhanced object the first is read, the less T2-weighted one, wherever its frames stand."""
    ds = objects.dataset(sop_class_uid=EnhancedMRImageStorage, NumberOfFrames=4)
    objects.pixels(ds, np.zeros((16, 16), np.uint16))
    ds.PixelData = np.stack([np.full((16, 16), k, np.uint16) for k in range(4)]).tobytes()
    ds.SharedFunctionalGroupsSequence = [group(PixelMeasures={"PixelSpacing": [2, 2]})]
    ds.PerFrameFunctionalGroupsSequence = [
        group(
            PlanePosition={"ImagePositionPatient": [0, 0, 5 * (k // 2)]},
            PlaneOrientation={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
            MREcho={"EffectiveEchoTime": (30.0, 8.0)[k % 2]},
        )
        for k in range(4)
    ]

    assert [source.frame for source in decode(written(tmp_path, ds)).sources] == [2, 4]


def dimension(pointer: int) -> Dataset:
    item = Dataset()
    item.DimensionIndexPointer = pointer
    return item


def written(folder: Path, ds: Dataset) -> Series:
    return Series("1", (headers.read(objects.write(folder, ds)),))  # type: ignore[arg-type]


def picture(values: np.ndarray, **more: object) -> Dataset:
    """A slice of 16-bit words; `more` are attributes by keyword."""
    ds = objects.dataset()
    objects.pixels(ds, values.astype("<i8").astype("<u2"))
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return ds


def test_frames_without_groups(tmp_path: Path) -> None:
    """Frames of an object that does not say where they lie are all read, in their order."""
    ds = picture(np.zeros((16, 16)), NumberOfFrames=3)
    ds.PixelData = np.stack([np.full((16, 16), k, np.uint16) for k in (2, 0, 1)]).tobytes()

    slices = decode(written(tmp_path, ds))

    assert slices.pixels[:, 0, 0].tolist() == [2.0, 0.0, 1.0]
    assert slices.between is None


TWELVE = np.arange(4096).reshape(64, 64)


@pytest.mark.parametrize("syntax", ["native", RLELossless])
@pytest.mark.parametrize(("shift", "overlay"), [(0, 0xF000), (4, 0x000F), (2, 0xC003)])
def test_overlay_bits(tmp_path: Path, syntax: str, shift: int, overlay: int) -> None:
    """Bits of a word that are not the pixel's, such as an old overlay's, are left out; compressed too."""
    ds = picture(TWELVE << shift | overlay, BitsStored=12, HighBit=11 + shift)
    if syntax != "native":
        ds.compress(syntax, generate_instance_uid=False)

    np.testing.assert_array_equal(decode(written(tmp_path, ds)).pixels[0], TWELVE)


@pytest.mark.parametrize("overlay", [0, 0xF000])
def test_signed_overlay_bits(tmp_path: Path, overlay: int) -> None:
    """The sign is the topmost bit stored, whatever lies above it."""
    ds = picture(((TWELVE - 2048) & 0x0FFF) | overlay, BitsStored=12, HighBit=11, PixelRepresentation=1)

    np.testing.assert_array_equal(decode(written(tmp_path, ds)).pixels[0], TWELVE - 2048)


@pytest.mark.parametrize(("stored", "high"), [(16, 3), (0, 15), (99, 15), (16, 99)])
def test_odd_bits(tmp_path: Path, stored: int, high: int) -> None:
    """Bits stored or a high bit that cannot be are not believed."""
    np.testing.assert_array_equal(decode(written(tmp_path, picture(PICTURE, BitsStored=stored, HighBit=high))).pixels[0], PICTURE)


@pytest.mark.parametrize(("allocated", "kind"), [(8, "u1"), (8, "i1"), (16, "<i2"), (32, "<u4"), (32, "<i4")])
def test_word_sizes(tmp_path: Path, allocated: int, kind: str) -> None:
    """8, 16 and 32 bits, with and without a sign; an odd number of bytes is padded."""
    values = (np.arange(15 * 17) - (100 if "i" in kind else 0)).astype(kind).reshape(15, 17)
    ds = picture(np.zeros((15, 17)), BitsAllocated=allocated, BitsStored=allocated, HighBit=allocated - 1)
    ds.PixelRepresentation, ds.PixelData = int("i" in kind), values.tobytes() + b"\0" * (values.nbytes % 2)

    slices = decode(written(tmp_path, ds))

    np.testing.assert_array_equal(slices.pixels[0], values)
    assert slices.remarks == ()


@pytest.mark.parametrize("vr", ["OW", "OB"])
def test_big_endian_bytes(tmp_path: Path, vr: str) -> None:
    """8-bit pixels of a big-endian file lie swapped in words, or not, as their VR says."""
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    ds = picture(np.zeros((16, 16)), BitsAllocated=8, BitsStored=8, HighBit=7)
    stored = values.reshape(-1, 2)[:, ::-1] if vr == "OW" else values
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = vr
    ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    path = tmp_path / "big.dcm"
    plain = Dataset(dict(ds.items()))  # type: ignore[arg-type]
    plain.file_meta = ds.file_meta
    plain.save_as(path, implicit_vr=False, little_endian=False, enforce_file_format=True)

    np.testing.assert_array_equal(decode(Series("1", (headers.read(path),))).pixels[0], values)


def test_modality_lut(tmp_path: Path) -> None:
    """A modality LUT gives the units; what lies outside of it takes its first or last value."""
    lut = Dataset()
    lut.LUTDescriptor, lut.ModalityLUTType, lut.LUTData = [4, 10, 16], "US", [100, 200, 400, 800]
    lut["LUTDescriptor"].VR = lut["LUTData"].VR = "US"
    ds = picture(np.resize([9, 10, 11, 12, 13, 99], (6, 6)), ModalityLUTSequence=[lut])

    assert decode(written(tmp_path, ds)).pixels[0, 0].tolist() == [100.0, 100.0, 200.0, 400.0, 800.0, 800.0]


@pytest.mark.parametrize(
    ("values", "more", "seen"),
    [
        (
            [-2000, 0, 1000],
            {"PixelRepresentation": 1, "PixelPaddingValue": -2000, "RescaleIntercept": -1024, "RescaleSlope": 1},
            [-1024, -1024, -24],
        ),
        ([63536, 0, 1000], {"PixelRepresentation": 1, "PixelPaddingValue": 63536}, [0, 0, 1000]),
        ([65535, 50, 1000], {"PixelPaddingValue": 65535}, [0, 50, 1000]),
        ([4095, 4090, 1000], {"PixelPaddingValue": 4090, "PixelPaddingRangeLimit": 4095}, [0, 0, 1000]),
        ([65535, 0, 1000], {"PixelPaddingValue": 65535, "PhotometricInterpretation": "MONOCHROME1"}, [0, 1000, 0]),
    ],
    ids=["CT", "sign forgotten", "white", "range", "MONOCHROME1"],
)
def test_padding(tmp_path: Path, values: list[int], more: dict[str, object], seen: list[float]) -> None:
    """Padding becomes background: no brighter than the darkest pixel, and no darker than that or no signal at all."""
    ds = picture(np.resize(values, (3, 3)))
    for keyword, value in more.items():
        if keyword.startswith("PixelPadding"):
            ds.add_new(keyword, "SS" if int(value) < 0 else "US", value)  # type: ignore[call-overload]
        else:
            setattr(ds, keyword, value)

    assert decode(written(tmp_path, ds)).pixels[0, 0].tolist() == seen


@pytest.mark.parametrize(("keyword", "kind"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_float(tmp_path: Path, keyword: str, kind: str) -> None:
    """Float pixels are read as they are; those that hold no number are background, and it is said."""
    values = np.linspace(-3.0, 7.0, 256).reshape(16, 16)
    values[3, 3], values[3, 4], values[3, 5] = np.nan, np.inf, -np.inf
    ds = picture(np.zeros((16, 16)), BitsAllocated=32 if kind == "<f4" else 64)
    del ds.PixelData
    setattr(ds, keyword, values.astype(kind).tobytes())

    slices = decode(written(tmp_path, ds))

    values[3, 3:6] = -3.0
    np.testing.assert_array_equal(slices.pixels[0], values.astype(np.float32))
    assert slices.remarks == ("In 1 of 1 instances pixels hold no number and were read as background.",)


@pytest.mark.parametrize(("slope", "intercept"), [("0", "5"), ("1e38", "0"), ("", "-1024"), ("3", "")])
def test_odd_rescale(tmp_path: Path, slope: str, intercept: str) -> None:
    """A rescale that cannot be is ignored for MR and said, for numbers there mean nothing by themselves; half of one is completed."""
    ds = picture(np.arange(9).reshape(3, 3), RescaleSlope=slope, RescaleIntercept=intercept)

    slices = decode(written(tmp_path, ds))

    possible = slope in ("", "3")
    assert slices.pixels[0, 0, 1] == (float(slope or 1) + float(intercept or 0) if possible else 1.0)
    assert bool(slices.remarks) != possible


def test_odd_rescale_of_ct(tmp_path: Path) -> None:
    """Hounsfield units without a usable rescale are none."""
    with pytest.raises(Undecodable, match="RescaleSlope"):
        decode(written(tmp_path, picture(PICTURE, RescaleSlope="0", RescaleIntercept="-1024", Modality="CT")))


def test_mixed_photometric(tmp_path: Path) -> None:
    """Only the slices that say MONOCHROME1 are turned round."""
    first = objects.instance(tmp_path, number=1, PhotometricInterpretation="MONOCHROME1")
    other = series(tmp_path, 2, 3).instances

    assert decode(Series("1", (first, *other))).pixels[:, 8, 8].tolist() == [2.0, 2.0, 3.0]


def test_longer(tmp_path: Path) -> None:
    """More pixel data than the header says: the rest is not read, and it is said."""
    ds = picture(PICTURE)
    ds.PixelData += bytes(100)

    slices = decode(written(tmp_path, ds))

    np.testing.assert_array_equal(slices.pixels[0], PICTURE)
    assert slices.remarks == ("In 1 of 1 instances the pixel data are longer than the header says, and the rest was not read.",)


def test_picture_of_another_kind(tmp_path: Path) -> None:
    """A colour picture among the slices is left out, and it is said; alone it cannot be read."""
    colour = objects.instance(tmp_path, number=9, PhotometricInterpretation="RGB", SamplesPerPixel=3)

    slices = decode(Series("1", (*series(tmp_path, 1, 2).instances, colour)))

    assert (len(slices.sources), slices.remarks) == (2, ("1 of 3 instances of the series holds no greyscale picture and was not read.",))
    with pytest.raises(Undecodable, match="colour picture"):
        decode(Series("1", (colour,)))


BROKEN: dict[str, tuple[dict[str, object], str]] = {
    "rows": ({"Rows": 999}, "hold 8192 bytes where 127872 belong: sent incompletely; send it again"),
    "frames": ({"NumberOfFrames": 3}, "hold 8192 bytes where 24576 belong"),
    "no rows": ({"Rows": None}, "how large its picture is (Rows)"),
    "no columns": ({"Columns": 0}, "how large its picture is (Columns)"),
    "12 bits": ({"BitsAllocated": 12}, "12 bits each"),
    "1 bit": ({"BitsAllocated": 1}, "1 bits each"),
    "palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "palette"),
    "nothing said": ({"PhotometricInterpretation": None}, "PhotometricInterpretation"),
    "no pixels": ({"PixelData": b""}, "no pixel data"),
    "all padding": ({"PixelData": bytes(8192), "PixelPaddingValue": 0}, "all are padding"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken(tmp_path: Path, case: str) -> None:
    """Pixels that cannot be read end in a sentence that names the instance, and nothing of the patient; it survives a pickle."""
    more, said = BROKEN[case]

    with pytest.raises(Undecodable) as caught:
        decode(written(tmp_path, picture(PICTURE, **more)))

    assert said in caught.value.cause
    assert objects.SECRET not in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.sop_instance_uid, again.cause) == (str(caught.value), "1.2.3.1.1", caught.value.cause)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_file_cut_short(tmp_path: Path, share: float) -> None:
    """A file that shrank on disk ends in a sentence; so does one that is gone, or none at all."""
    found = written(tmp_path, picture(PICTURE))
    path = found.instances[0].path
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    with pytest.raises(Undecodable, match="send it again"):
        decode(found)
    path.write_bytes(b"")
    with pytest.raises(Undecodable, match="send it again"):
        decode(found)
    path.unlink()
    with pytest.raises(Undecodable, match="No such file"):
        decode(found)


def test_deflated(tmp_path: Path) -> None:
    """A deflated file is inflated no further than its pixels."""
    ds = picture(PICTURE)
    ds.DataSetTrailingPadding = bytes(10**7)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    np.testing.assert_array_equal(decode(written(tmp_path, ds)).pixels[0], PICTURE)


def test_beyond_float(tmp_path: Path) -> None:
    """Numbers that float32 cannot hold are no measurement."""
    ds = picture(np.zeros((2, 2)), BitsAllocated=64, DoubleFloatPixelData=np.array([0, 1, 2, 1e300]).tobytes())
    del ds.PixelData

    with pytest.raises(Undecodable, match="beyond 3e38"):
        decode(written(tmp_path, ds))
