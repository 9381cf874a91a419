"""Writing a phantom's object in any transfer syntax that the codecs of the base install can write (PS3.5 A)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

Syntax = Literal[
    "explicit", "implicit", "big-endian", "deflated", "rle", "jpegls", "jpegls-near", "jpeg2000", "jpeg2000-lossy"
]  # fmt: skip
SYNTAXES: dict[Syntax, UID] = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpegls": JPEGLSLossless,
    "jpegls-near": JPEGLSNearLossless,
    "jpeg2000": JPEG2000Lossless,
    "jpeg2000-lossy": JPEG2000,
}
NEAR = 3  # stored values by which a near-lossless pixel may differ
RATIO = 10  # of lossy JPEG 2000
_METHODS: dict[Syntax, str] = {"jpegls-near": "ISO_14495_1", "jpeg2000-lossy": "ISO_15444_1"}  # PS3.3 C.7.6.1.1.5.1
_ENCODING: dict[Syntax, dict[str, Any]] = {"jpegls-near": {"jls_error": NEAR}, "jpeg2000-lossy": {"j2k_cr": [RATIO]}}


def save(ds: Dataset, path: Path, syntax: Syntax) -> None:
    """Writes `ds`, whose pixels are uncompressed and little endian, 16 bits each; lossy ones say that they are."""
    ds = Dataset(dict(ds.items()))  # copy.copy would share the elements
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    _WRITERS.get(syntax, partial(_compress, syntax=syntax))(ds)
    ds.save_as(path, enforce_file_format=True)


def _plain(ds: Dataset, syntax: Syntax) -> None:
    ds.file_meta.TransferSyntaxUID = SYNTAXES[syntax]


def _big_endian(ds: Dataset) -> None:
    """pydicom turns the bytes of numbers round, not those of pixels."""
    _plain(ds, "big-endian")
    ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    ds["PixelData"].VR = "OW"


def _compress(ds: Dataset, syntax: Syntax) -> None:
    before = len(ds.PixelData)
    ds.compress(SYNTAXES[syntax], generate_instance_uid=False, **_ENCODING.get(syntax, {}))
    if syntax in _METHODS:
        ds.LossyImageCompression = "01"
        ds.LossyImageCompressionRatio = round(before / len(ds.PixelData), 2)
        ds.LossyImageCompressionMethod = _METHODS[syntax]


_WRITERS: dict[Syntax, Callable[[Dataset], None]] = {
    "explicit": partial(_plain, syntax="explicit"),
    "implicit": partial(_plain, syntax="implicit"),
    "deflated": partial(_plain, syntax="deflated"),
    "big-endian": _big_endian,
}
