"""The screenshots of docs/viewers.md: what a person sees of both reports in OHIF, and of the Summary by DCMTK's dsr2html.

python -m scripts.viewer.pictures docs/viewers        # needs the test extra: pillow; Debian: chromium, dcmtk, orthanc, orthanc-dicomweb
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from io import BytesIO
from pathlib import Path

from PIL import Image
from pydicom import dcmread

from scripts.demo import DemoFailed
from scripts.viewer import Missing
from scripts.viewer.__main__ import serve
from scripts.viewer.browser import Browser
from scripts.viewer.reading import HEIGHT, SUMMARY, WIDTH, opened, read_outline, read_summary

COLOURS = 160  # keeps a screenshot below 300 kB, and the greys of a slice smooth
SETTLE_SECONDS = 2.0  # labels are drawn a moment after the outline


def main(out: Path) -> int:
    """Draws all three; where one fails, says what happened."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vitalcheck-pictures-") as folder:
        try:
            draw(out, Path(folder))
        except DemoFailed as failure:
            print(f"pictures: {failure}", file=sys.stderr)
            return 1
    return 0


def draw(out: Path, folder: Path) -> None:
    """Raises Missing, DemoFailed."""
    with serve(folder) as running, opened(running.address) as browser:
        read_summary(browser)
        save(browser, out / "ohif-summary.png")
        read_outline(browser)
        save(browser, out / "ohif-measurements.png")
        page = folder / "summary.html"
        page.write_bytes(html(_summary(running.pacs_http_port), folder))
        browser.open(page.as_uri())
        browser.wait("document.body?.innerText.includes('Findings')", SETTLE_SECONDS * 10, "the page of dsr2html")
        browser.resize(WIDTH, int(browser.evaluate("document.documentElement.scrollHeight")))
        save(browser, out / "dsr2html-summary.png")
        browser.resize(WIDTH, HEIGHT)


def html(document: bytes, folder: Path) -> bytes:
    """The Structured Report as DCMTK writes it for a browser. Raises Missing, DemoFailed."""
    program = shutil.which("dsr2html")
    if program is None:
        raise Missing("dsr2html is missing; install the Debian package dcmtk")
    (path := folder / "document.dcm").write_bytes(document)
    run = subprocess.run([program, "--convert-to-utf8", str(path)], capture_output=True, check=False)
    if run.returncode != 0:
        raise DemoFailed(f"dsr2html could not read the document: {run.stderr.decode(errors='replace').strip()}")
    return run.stdout


def save(browser: Browser, path: Path) -> None:
    """What the browser shows, as a small PNG."""
    time.sleep(SETTLE_SECONDS)
    image = Image.open(BytesIO(browser.picture())).convert("RGB")
    image.quantize(COLOURS, kmeans=1, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path} {path.stat().st_size / 1000:.0f} kB")


def _summary(pacs_http_port: int) -> bytes:
    """The last Summary as the PACS holds it: on a machine that stalls, a part of the study may have had one before."""
    orthanc = f"http://127.0.0.1:{pacs_http_port}"
    wanted = json.dumps({"Level": "Instance", "Query": {"SeriesNumber": str(SUMMARY)}}).encode()
    found = json.loads(_answer(f"{orthanc}/tools/find", wanted))
    return max((_answer(f"{orthanc}/instances/{each}/file") for each in found), key=_written_at)


def _answer(address: str, body: bytes | None = None) -> bytes:
    with urllib.request.urlopen(address, data=body, timeout=10) as answer:
        return bytes(answer.read())


def _written_at(document: bytes) -> str:
    ds = dcmread(BytesIO(document))
    return f"{ds.ContentDate}{ds.ContentTime}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
