"""syntaxes: the same slices in every transfer syntax that this machine can write are the same slices."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import objects
import pytest
from encoders import ENCODERS, LOSSLESS, LOSSY, Encoder
from pydicom import dcmread, uid
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames

from listener import contexts, headers
from pipeline import syntaxes
from pipeline.decode import Undecodable, decode
from pipeline.records import Series, Slices

ROWS, COLUMNS = 64, 48  # not square, and JPEG 2000 wants room for its resolutions
RAMP = np.add.outer(np.arange(ROWS) * 40, np.arange(COLUMNS) * 9)
NOISE = np.random.default_rng(10).integers(0, 900, (3, ROWS, COLUMNS))
TWELVE_BITS = (RAMP + NOISE).astype(np.uint16)  # 0..3842
STORED = (uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.RLELossless)


def sources(folder: Path, pictures: np.ndarray = TWELVE_BITS, **more: object) -> list[Path]:
    """One file for each of `pictures`."""
    found = []
    for number, picture in enumerate(pictures, 1):
        ds = objects.dataset(number=number)
        objects.pixels(ds, picture.astype(np.uint16))
        for keyword, value in {"BitsStored": 12, "HighBit": 11, **more}.items():
            setattr(ds, keyword, value)
        found.append(objects.write(folder / "sources", ds))
    return found


def decoded(paths: list[Path]) -> Slices:
    return decode(Series("1", tuple(headers.read(path) for path in paths)))


def by_syntax(syntax: str) -> Encoder:
    return next(e for e in ENCODERS if e.syntax == syntax and (e.tool or syntax == uid.RLELossless))


@pytest.mark.parametrize("encoder", LOSSLESS, ids=lambda encoder: encoder.name)
def test_lossless(tmp_path: Path, encoder: Encoder) -> None:
    """A lossless syntax gives the slices of the uncompressed files, pixel by pixel."""
    slices = decoded(encoder(sources(tmp_path), tmp_path / "coded"))

    np.testing.assert_array_equal(slices.pixels, TWELVE_BITS)


@pytest.mark.parametrize("encoder", LOSSLESS, ids=lambda encoder: encoder.name)
def test_lossless_signed(tmp_path: Path, encoder: Encoder) -> None:
    """Signed pixels keep their sign through every lossless syntax."""
    signed = (TWELVE_BITS.astype(np.int16) - 2000).astype(np.int16)
    files = sources(tmp_path, signed.view(np.uint16), PixelRepresentation=1, BitsStored=16, HighBit=15)

    np.testing.assert_array_equal(decoded(encoder(files, tmp_path / "coded")).pixels, signed)


@pytest.mark.parametrize("encoder", LOSSY, ids=lambda encoder: encoder.name)
def test_lossy(tmp_path: Path, encoder: Encoder) -> None:
    """A lossy syntax gives nearly the same slices: what it lost is noise, neither offset nor scale."""
    smooth = np.stack([RAMP + 40 * k for k in range(3)])
    slices = decoded(encoder(sources(tmp_path, smooth), tmp_path / "coded"))

    windowed = encoder.syntax == uid.JPEGBaseline8Bit  # to 8 bits, 0..1200, by the encoder
    before = np.clip(smooth, 0, 1200) if windowed else smooth
    assert min(np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(slices.pixels, before, strict=True)) > 0.999
    if not encoder.name.startswith("dcmcjpeg"):  # which lets each slice begin at 0
        assert abs(slices.pixels - smooth).mean() < 20


def multi_frame(folder: Path, syntax: str, encapsulated: Callable[[list[bytes]], bytes]) -> Path:
    """The three slices as frames of one object, their codestreams put together by `encapsulated`."""
    coded = by_syntax(syntax)(sources(folder), folder / "coded")
    frames = [next(generate_frames(dcmread(path).PixelData, number_of_frames=1)) for path in coded]
    ds = dcmread(coded[0])
    ds.NumberOfFrames, ds.PixelData = 3, encapsulated(frames)
    return objects.write(folder / "together", ds)  # type: ignore[arg-type]


WAYS: dict[str, Callable[[list[bytes]], bytes]] = {
    "offset table": encapsulate,
    "no offset table": lambda frames: encapsulate(frames, has_bot=False),
    "two fragments each": lambda frames: encapsulate(frames, fragments_per_frame=2),
    "two fragments each, no offset table": lambda frames: encapsulate(frames, fragments_per_frame=2, has_bot=False),
    "wrong offset table": lambda frames: wrong_table(encapsulate(frames)),
    "two fragments each, wrong offset table": lambda frames: wrong_table(encapsulate(frames, fragments_per_frame=2)),
    "no sequence delimiter": lambda frames: encapsulate(frames).removesuffix(b"\xfe\xff\xdd\xe0\0\0\0\0"),
}


def wrong_table(data: bytes) -> bytes:
    """With a Basic Offset Table that points anywhere."""
    return data[:8] + b"\x07\0\0\0\x03\0\0\0\xff\xff\xff\x7f" + data[20:]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("syntax", STORED, ids=lambda syntax: syntax.name)
def test_fragments(tmp_path: Path, syntax: str, way: str) -> None:
    """Frames are found however their codestreams are cut into fragments, whether or not an offset table is there or right."""
    if syntax == uid.RLELossless and way.startswith("two fragments each,"):
        return  # nothing in RLE says where a frame begins, and each frame is one fragment anyway (PS3.5 A.4.2)
    slices = decoded([multi_frame(tmp_path, syntax, WAYS[way])])

    np.testing.assert_array_equal(slices.pixels, TWELVE_BITS)


def test_extended_offset_table(tmp_path: Path) -> None:
    """Frames are found by the Extended Offset Table."""
    path = multi_frame(tmp_path, uid.RLELossless, encapsulate)
    ds = dcmread(path)
    frames = list(generate_frames(ds.PixelData, number_of_frames=3))
    ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(frames)

    np.testing.assert_array_equal(decoded([objects.write(tmp_path, ds)]).pixels, TWELVE_BITS)  # type: ignore[arg-type]


def test_encapsulated_uncompressed(tmp_path: Path) -> None:
    """Uncompressed pixels in fragments are read as such."""
    ds = dcmread(sources(tmp_path)[0])
    ds.PixelData = encapsulate([ds.PixelData])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.file_meta.TransferSyntaxUID = uid.UID(syntaxes.ENCAPSULATED)
    path = tmp_path / "coded.dcm"
    ds.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=True)

    np.testing.assert_array_equal(decoded([path]).pixels[0], TWELVE_BITS[0])


@pytest.mark.parametrize("syntax", STORED, ids=lambda syntax: syntax.name)
def test_frames_missing(tmp_path: Path, syntax: str) -> None:
    """Fewer codestreams than frames: said so, with both numbers."""
    path = multi_frame(tmp_path, syntax, lambda frames: encapsulate(frames[:2]))

    with pytest.raises(Undecodable, match="2 compressed frames where 3 belong"):
        decoded([path])


def changed(folder: Path, syntax: str, change: Callable[[FileDataset], None]) -> Path:
    """A coded slice whose data set was changed."""
    ds = dcmread(by_syntax(syntax)(sources(folder)[:1], folder / "coded")[0])
    change(ds)
    return objects.write(folder / "changed", ds)


@pytest.mark.parametrize("syntax", [*STORED, uid.JPEGExtended12Bit, uid.HTJ2KLossless], ids=lambda syntax: syntax.name)
@pytest.mark.parametrize(("rows", "columns"), [(ROWS + 8, COLUMNS), (COLUMNS, ROWS * 2), (4, 4), (16384, 16384)])
def test_another_size(tmp_path: Path, syntax: str, rows: int, columns: int) -> None:
    """A codestream of another size than the header says is refused before it is decoded, with both sizes."""

    def change(ds: FileDataset) -> None:
        ds.Rows, ds.Columns = rows, columns

    if syntax == uid.RLELossless and rows * columns <= ROWS * COLUMNS * 2:
        return  # RLE names no size; what it unpacks to is checked by the codec
    with pytest.raises(Undecodable, match=r"64 x 48 pixels and its header says|too short for") as caught:
        decoded([changed(tmp_path, syntax, change)])
    assert caught.value.cause.endswith(("send it again",))


@pytest.mark.parametrize("syntax", [*STORED, uid.JPEGExtended12Bit, uid.HTJ2KLossless], ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5])
def test_cut_short(tmp_path: Path, syntax: str, share: float) -> None:
    """A codestream that was cut short ends as slices of the right size or as a sentence, never otherwise, and at once."""

    def change(ds: FileDataset) -> None:
        stream = next(generate_frames(ds.PixelData, number_of_frames=1))
        ds.PixelData = encapsulate([stream[: max(int(len(stream) * share), 2)]])

    path = changed(tmp_path, syntax, change)
    start = time.process_time()
    try:
        assert decoded([path]).pixels.shape == (1, ROWS, COLUMNS)
    except Undecodable as error:
        assert "send it" in error.cause
    assert time.process_time() - start < 1


@pytest.mark.parametrize("syntax", STORED, ids=lambda syntax: syntax.name)
def test_only_bytes(tmp_path: Path, syntax: str) -> None:
    """Bytes that are no codestream are damaged."""

    def change(ds: FileDataset) -> None:
        ds.PixelData = encapsulate([bytes(range(256)) * 8])

    with pytest.raises(Undecodable, match=r"damaged|too short"):
        decoded([changed(tmp_path, syntax, change)])


@pytest.mark.parametrize(
    ("syntax", "said"),
    [
        (uid.MPEG4HP41, "a video"),
        ("1.2.840.10008.1.2.4.102.1", "a video"),
        (uid.HEVCMP51, "a video"),
        ("1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2"),
        ("1.2.840.10008.1.2.4.110", "JPEG XL"),
        ("1.2.840.10008.1.2.4.204", "JPIP"),
        ("1.2.3.4.5", "its transfer syntax 1.2.3.4.5"),
    ],
)
def test_unreadable(tmp_path: Path, syntax: str, said: str) -> None:
    """What cannot be read says what it is, and which syntax to send instead."""
    instance = headers.read(changed(tmp_path, uid.JPEGLosslessSV1, lambda ds: setattr(ds.file_meta, "TransferSyntaxUID", uid.UID(syntax))))

    with pytest.raises(Undecodable, match=said) as caught:
        decode(Series("1", (instance,)))
    assert "Explicit VR Little Endian" in caught.value.cause


def test_every_syntax_that_is_received() -> None:
    """Each syntax that the receiver accepts can be read and is tested above, or says why not."""
    tested = {str(encoder.syntax) for encoder in ENCODERS} | {syntaxes.EXPLICIT, syntaxes.ENCAPSULATED}

    untested = [syntax.name for syntax in contexts.TRANSFER_SYNTAXES if str(syntax) not in tested and syntaxes.why_not(syntax) is None]  # type: ignore[attr-defined]

    assert untested == []
