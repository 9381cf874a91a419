"""OHIF, the viewer: one pinned version of the npm package `@ohif/app`, whose `dist` is built, fetched once and kept.

npm asks whatever registry it is configured for; which bytes are right is said here, not there.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from scripts.demo import DemoFailed
from scripts.viewer import Missing

VERSION = "3.12.0"  # as docker-compose.yml has it
SHA512 = "D+SyPEOhW7E+P+ZfzFO1C3n8qwTfKSXExNEt2DPB5QHoLjSnUVTqEE+xaWX2B9p53boJfKWEM4b4SIVmz0qmOA=="  # of the packed file, base64
FETCH_SECONDS = 300.0
CACHE = Path(__file__).parents[2] / ".cache"


def dist() -> Path:
    """The folder of the built viewer, from the cache or through npm. Raises Missing, or DemoFailed where its bytes are not the pinned."""
    kept = CACHE / f"ohif-{VERSION}"
    if not kept.is_dir():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="ohif-", dir=CACHE) as folder:  # so that a half-unpacked viewer is never kept
            unpacked = _unpack(_fetch(Path(folder)), Path(folder))
            if not kept.is_dir():
                unpacked.rename(kept)
    return kept


def _fetch(folder: Path) -> Path:
    """The packed file in `folder`, checked. Raises Missing, DemoFailed."""
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("npm is missing, which fetches the viewer; install the Debian package npm")
    command = [npm, "pack", f"@ohif/app@{VERSION}", "--ignore-scripts", "--pack-destination", str(folder)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FETCH_SECONDS)
    except subprocess.TimeoutExpired:
        raise Missing(f"npm did not fetch the viewer, @ohif/app {VERSION}, within {FETCH_SECONDS:.0f} s") from None
    packed = next(folder.glob("*.tgz"), None)
    if run.returncode != 0 or packed is None:
        said = next((line for line in run.stderr.splitlines() if line.startswith("npm error")), "it said nothing of an error")
        raise Missing(f"npm could not fetch the viewer, @ohif/app {VERSION} (is there a network?): {said}")
    check(packed)
    return packed


def check(packed: Path) -> None:
    """Raises DemoFailed where these are not the pinned bytes."""
    with packed.open("rb") as file:
        digest = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if digest != SHA512:
        raise DemoFailed(f"npm gave another @ohif/app {VERSION} than the pinned one: its sha512 is {digest}")


def _unpack(packed: Path, folder: Path) -> Path:
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package" / "dist"
