"""Other people's encoders: the same instances in every transfer syntax that a tool on this machine can write.

dcmtk, GDCM, OpenJPEG and OpenJPH (Debian packages dcmtk, libgdcm-tools, libopenjp2-tools, openjph-tools), and the base install's codecs.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread, uid
from pydicom.encaps import encapsulate

from scripts.syntaxes import SYNTAXES, save


@dataclass(frozen=True)
class Encoder:
    """`write(source, target)` writes an uncompressed instance of 16 bits anew; `tool` must be on PATH ("" = nothing needed)."""

    name: str
    syntax: str
    write: Callable[[Path, Path], None]
    tool: str = ""
    lossless: bool = True

    def __call__(self, sources: list[Path], folder: Path) -> list[Path]:
        """The instances in `folder`, in this syntax. Skips the test, by name, where the tool is missing."""
        if self.tool and shutil.which(self.tool) is None:
            pytest.skip(f"needs {self.tool} (see scripts/debian_packages.sh)")
        folder.mkdir(parents=True, exist_ok=True)
        targets = [folder / source.name for source in sources]
        for source, target in zip(sources, targets, strict=True):
            self.write(source, target)
        assert {dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID for path in targets} == {self.syntax}
        return targets


def _tool(*command: str) -> Callable[[Path, Path], None]:
    return lambda source, target: _run(*command, str(source), str(target))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"


def _own(source: Path, target: Path, *, syntax: str) -> None:
    save(Dataset(dict(dcmread(source).items())), target, syntax)  # type: ignore[arg-type]


def _codestream(*command: str, syntax: str, suffix: str) -> Callable[[Path, Path], None]:
    """By a tool that knows pictures, not DICOM: the frame as PGM in, the codestream out, put into the instance (PS3.5 A.4.4)."""

    def write(source: Path, target: Path) -> None:
        ds = dcmread(source)
        with tempfile.TemporaryDirectory() as folder:
            picture, coded = Path(folder) / "frame.pgm", Path(folder) / f"frame{suffix}"
            greys = f"P5\n{ds.Columns} {ds.Rows}\n{2**ds.BitsStored - 1}\n".encode()
            picture.write_bytes(greys + ds.pixel_array.astype(">u2").tobytes())
            _run(*command, "-i", str(picture), "-o", str(coded))
            ds.PixelData = encapsulate([coded.read_bytes()])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = uid.UID(syntax)
        ds.save_as(target, enforce_file_format=True)

    return write


def _base_install() -> list[Encoder]:
    lossy = ("jpegls-near", "jpeg2000-lossy")
    return [
        Encoder(f"pydicom {name}", syntax, lambda source, target, name=name: _own(source, target, syntax=name), lossless=name not in lossy)
        for name, syntax in SYNTAXES.items()
        if name != "explicit"
    ]


_OPJ = ("opj_compress",)
_OJPH = ("ojph_compress", "-reversible", "true")

ENCODERS: tuple[Encoder, ...] = (
    *_base_install(),
    Encoder("dcmconv +ti", uid.ImplicitVRLittleEndian, _tool("dcmconv", "+ti"), "dcmconv"),
    Encoder("dcmconv +tb", uid.ExplicitVRBigEndian, _tool("dcmconv", "+tb"), "dcmconv"),
    Encoder("dcmconv +td", uid.DeflatedExplicitVRLittleEndian, _tool("dcmconv", "+td"), "dcmconv"),
    Encoder("dcmcrle", uid.RLELossless, _tool("dcmcrle"), "dcmcrle"),
    Encoder("dcmcjpeg +e1", uid.JPEGLosslessSV1, _tool("dcmcjpeg", "+e1"), "dcmcjpeg"),
    Encoder("dcmcjpeg +el", uid.JPEGLossless, _tool("dcmcjpeg", "+el"), "dcmcjpeg"),
    Encoder("dcmcjpls +el", uid.JPEGLSLossless, _tool("dcmcjpls", "+el"), "dcmcjpls"),
    Encoder("gdcmconv --jpeg", uid.JPEGLosslessSV1, _tool("gdcmconv", "--jpeg"), "gdcmconv"),
    Encoder("gdcmconv --j2k", uid.JPEG2000Lossless, _tool("gdcmconv", "--j2k"), "gdcmconv"),
    Encoder("gdcmconv --jpegls", uid.JPEGLSLossless, _tool("gdcmconv", "--jpegls"), "gdcmconv"),
    Encoder("gdcmconv --rle", uid.RLELossless, _tool("gdcmconv", "--rle"), "gdcmconv"),
    Encoder("opj_compress", uid.JPEG2000Lossless, _codestream(*_OPJ, syntax=uid.JPEG2000Lossless, suffix=".j2k"), "opj_compress"),
    Encoder("ojph_compress", uid.HTJ2KLossless, _codestream(*_OJPH, syntax=uid.HTJ2KLossless, suffix=".j2c"), "ojph_compress"),
    Encoder(
        "ojph_compress RPCL",
        uid.HTJ2KLosslessRPCL,
        _codestream(*_OJPH, "-prog_order", "RPCL", syntax=uid.HTJ2KLosslessRPCL, suffix=".j2c"),
        "ojph_compress",
    ),
    Encoder("dcmcjpeg +eb", uid.JPEGBaseline8Bit, _tool("dcmcjpeg", "+eb", "+Ww", "600", "1200"), "dcmcjpeg", lossless=False),
    Encoder("dcmcjpeg +ee", uid.JPEGExtended12Bit, _tool("dcmcjpeg", "+ee"), "dcmcjpeg", lossless=False),
    Encoder("gdcmconv --jpeg --lossy", uid.JPEGExtended12Bit, _tool("gdcmconv", "--jpeg", "--lossy"), "gdcmconv", lossless=False),
    Encoder("dcmcjpls +en", uid.JPEGLSNearLossless, _tool("dcmcjpls", "+en"), "dcmcjpls", lossless=False),
    Encoder("gdcmconv --j2k --lossy", uid.JPEG2000, _tool("gdcmconv", "--j2k", "--lossy", "-r", "12"), "gdcmconv", lossless=False),
    Encoder(
        "opj_compress -r 12",
        uid.JPEG2000,
        _codestream(*_OPJ, "-r", "12", "-I", syntax=uid.JPEG2000, suffix=".j2k"),
        "opj_compress",
        lossless=False,
    ),
    Encoder(
        "ojph_compress -qstep",
        uid.HTJ2K,
        _codestream("ojph_compress", "-qstep", "0.002", syntax=uid.HTJ2K, suffix=".j2c"),
        "ojph_compress",
        lossless=False,
    ),
)
LOSSLESS = [encoder for encoder in ENCODERS if encoder.lossless]
LOSSY = [encoder for encoder in ENCODERS if not encoder.lossless]
