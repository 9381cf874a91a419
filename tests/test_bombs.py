"""Bombs: headers and codestreams that claim to be enormous cost neither time nor memory."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import objects
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from pipeline.decode import Undecodable, decode
from pipeline.part10 import inflated
from pipeline.pixels.limits import Limits
from pipeline.records import Series

# Not by headers.read, which has limits of its own.
DECODES = """
import json, resource, sys, time
from pathlib import Path
from pipeline.decode import Undecodable, decode
from pipeline.records import Headers, Instance, Series
syntaxes = json.loads(sys.argv[2])
for path in sorted(Path(sys.argv[1]).iterdir()):
    instance = Instance("1", "1", "1", "1", syntaxes[path.stem], path, 0, "", 0.0, Headers(modality="MR"))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        decode(Series("1", (instance,)))
        print(path.stem, "decoded", sep="|")
    except Undecodable as error:
        took, grown = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(path.stem, "refused" if took < 1 and grown < 100_000 else f"{took} s, {grown} KB", error.cause, sep="|")
"""


def test_inflate() -> None:
    """Inflating stops at the limit."""
    deflated = zlib.compress(bytes(10**6), wbits=-15)

    assert inflated(deflated, 1000) == bytes(1000)
    assert inflated(deflated, 10**6 + 1) == bytes(10**6)


def test_limits(tmp_path: Path) -> None:
    """Limits hold for what one header claims, and for all slices that are read together."""
    found = Series("1", tuple(objects.instance(tmp_path, number=number) for number in (1, 2, 3)))

    assert len(decode(found, Limits(pixels=3 * 256)).sources) == 3
    with pytest.raises(Undecodable, match="more than the 767 that"):
        decode(found, Limits(pixels=3 * 256 - 1))
    with pytest.raises(Undecodable, match="more than the 2 that"):
        decode(found, Limits(frames=2))


BOMBS: dict[str, dict[str, object]] = {
    "2^31 frames": {"NumberOfFrames": 2**31 - 1},
    "2^31 frames of one pixel": {"NumberOfFrames": 2**31 - 1, "Rows": 1, "Columns": 1},
    "2^31 frames, compressed": {"NumberOfFrames": 2**31 - 1, "TransferSyntaxUID": JPEG2000Lossless},
    "65535 x 65535": {"Rows": 65535, "Columns": 65535},
    "65535 x 65535, compressed": {"Rows": 65535, "Columns": 65535, "TransferSyntaxUID": JPEG2000Lossless},
    "as much as is allowed, compressed": {"Rows": 16384, "Columns": 16384, "TransferSyntaxUID": RLELossless},
    "deflated zeros": {
        "DataSetTrailingPadding": 2 * 10**8,
        "Rows": 16384,
        "Columns": 16384,
        "TransferSyntaxUID": DeflatedExplicitVRLittleEndian,
    },
    "a million empty fragments": {"fragments": b"\xfe\xff\x00\xe0\0\0\0\0" * 10**6, "TransferSyntaxUID": JPEG2000Lossless},
    "an element of 4 GiB": {"element": struct.pack("<HH2sHL", 0x0028, 0x3000, b"OB", 0, 2**32 - 2)},
}


def test_bombs_cost_nothing(tmp_path: Path) -> None:
    """What claims to be enormous is refused within a second and 100 MB, with a sentence."""
    for number, (_, claims) in enumerate(BOMBS.items(), 1):
        bomb(tmp_path / f"{number}.dcm", claims)
    syntaxes = {str(k): str(claims.get("TransferSyntaxUID", ExplicitVRLittleEndian)) for k, claims in enumerate(BOMBS.values(), 1)}
    done = subprocess.run([sys.executable, "-c", DECODES, str(tmp_path), json.dumps(syntaxes)], capture_output=True, text=True, check=True)

    assert [line.split("|")[1] for line in done.stdout.splitlines()] == ["refused"] * len(BOMBS), done.stdout


def bomb(path: Path, claims: dict[str, object]) -> None:
    ds = objects.dataset()
    objects.pixels(ds, np.arange(4096, dtype=np.uint16).reshape(64, 64))
    fragments, element = claims.get("fragments"), claims.get("element")
    for keyword, value in claims.items():
        if keyword == "DataSetTrailingPadding":
            ds.PixelData = bytes(int(value))  # type: ignore[call-overload]
        elif keyword == "TransferSyntaxUID":
            ds.file_meta.TransferSyntaxUID = value
        elif keyword not in ("fragments", "element"):
            setattr(ds, keyword, value)
    if ds.file_meta.TransferSyntaxUID.is_encapsulated:
        ds.PixelData = fragments or b"\xfe\xff\x00\xe0\0\0\0\0" + b"\xfe\xff\x00\xe0\x40\0\0\0" + bytes(64)
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.save_as(path, enforce_file_format=True)
    if element:
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.index(b"\xe0\x7f\x10\x00")] + bytes(element))  # type: ignore[call-overload]
