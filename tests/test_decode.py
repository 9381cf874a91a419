"""decode: pixels in the scanner's units, in the order in which they lie in the head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import objects
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import EnhancedMRImageStorage, JPEG2000Lossless, JPEGLSLossless, RLELossless

from listener import headers
from pipeline.decode import Undecodable, decode
from pipeline.records import Series, Slices, Source

PICTURE = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)  # JPEG 2000 wants room for its resolutions


def series(folder: Path, *numbers: int, **more: object) -> Series:
    return Series("1.2.3.1", tuple(objects.instance(folder, number=number, **more) for number in numbers))


def test_order(tmp_path: Path) -> None:
    """Slices come in the order in which they lie along their normal, whatever their numbers say."""
    one = objects.instance(tmp_path, number=1, ImagePositionPatient=[0, 0, 20])
    two = objects.instance(tmp_path, number=2, ImagePositionPatient=[0, 0, -10])
    three = objects.instance(tmp_path, number=3, ImagePositionPatient=[0, 0, 5])

    slices = decode(Series("1.2.3.1", (one, two, three)))

    assert [source.sop_instance_uid[-1] for source in slices.sources] == ["2", "3", "1"]
    assert slices.pixels[:, 0, 0].tolist() == [2.0, 3.0, 1.0]
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
    """Without positions the instance number gives the order."""
    slices = decode(series(tmp_path, 3, 1, 2, ImagePositionPatient=None))

    assert slices.pixels[:, 0, 0].tolist() == [1.0, 2.0, 3.0]
    assert slices.between is None


def test_rescale(tmp_path: Path) -> None:
    """Pixels are in modality units: slope and intercept are applied."""
    slices = decode(series(tmp_path, 3, RescaleSlope=2, RescaleIntercept=-10))

    assert np.unique(slices.pixels).tolist() == [-4.0]


def test_monochrome1(tmp_path: Path) -> None:
    """MONOCHROME1 is turned round, so that more is brighter, for the series as a whole."""
    slices = decode(series(tmp_path, 1, 2, 3, PhotometricInterpretation="MONOCHROME1"))

    assert slices.pixels[:, 0, 0].tolist() == [3.0, 2.0, 1.0]


def test_same_place(tmp_path: Path) -> None:
    """Of several slices in one place, the one acquired last stays."""
    slices = decode(series(tmp_path, 1, 2, 3, ImagePositionPatient=[0, 0, 7]))

    assert slices.sources == (Source("1.2.3.1.3"),)


def test_odd_one_out(tmp_path: Path) -> None:
    """A slice across the others does not come between them."""
    straight = series(tmp_path, 1, 2, 3)
    across = objects.instance(tmp_path, number=9, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])

    assert len(decode(Series("1.2.3.1", (*straight.instances, across))).sources) == 3


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.name)
def test_compressed(tmp_path: Path, syntax: str) -> None:
    """A losslessly compressed slice gives the pixels of the uncompressed one."""
    ds = objects.dataset()
    objects.pixels(ds, PICTURE)
    ds.compress(syntax, generate_instance_uid=False)

    slices = decode(Series("1", (headers.read(objects.write(tmp_path, ds)),)))

    np.testing.assert_array_equal(slices.pixels[0], PICTURE)


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


def test_broken(tmp_path: Path) -> None:
    """Pixels that cannot be read name the instance, and nothing of the patient."""
    ds = objects.dataset(Rows=999)

    with pytest.raises(Undecodable, match=r"1\.2\.3\.1\.1") as caught:
        decode(Series("1", (headers.read(objects.write(tmp_path, ds)),)))

    assert objects.SECRET not in str(caught.value)
