"""People see the reports: OHIF in a headless Chromium, against `make viewer` as it is run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peers import is_alive, need, wait_for
from PIL import Image, ImageDraw
from pydicom import dcmread
from reports import result

from pipeline.wording import UNVERIFIED
from scripts.demo import DemoFailed
from scripts.make_phantom import lesion_mask
from scripts.viewer import Missing, ohif, pacs
from scripts.viewer.browser import Browser
from scripts.viewer.pictures import html
from scripts.viewer.reading import is_seen, opened, read_outline, read_summary

ROOT = Path(__file__).parent.parent
START_SECONDS, STOP_SECONDS = 90, 60


class Command:
    """`python -m scripts.viewer` in a session of its own, as a terminal gives it; its temporary files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "viewer.log"
        environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "scripts.viewer"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=ROOT, start_new_session=True)

    def address(self) -> str:
        """Once it is printed."""

        def printed() -> re.Match[str] | None:
            assert self.process.poll() is None, self.log.read_text()
            return re.search(r"Open (\S+)/start in a browser", self.log.read_text())

        return str(wait_for(printed, START_SECONDS, "the address")[1])

    def children(self) -> list[int]:
        """Those of every generation: who is of its session, but itself."""
        pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        return [pid for pid in pids if session(pid) == self.process.pid != pid]

    def end(self, *, interrupted: bool) -> int:
        """Ctrl-C, which a terminal sends to all of them at once, or `kill` of the command alone; the exit status."""
        if interrupted:
            os.killpg(self.process.pid, signal.SIGINT)
        else:
            self.process.terminate()
        return self.process.wait(STOP_SECONDS)


def session(pid: int) -> int | None:
    """The session of a process, where it is still there."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """The viewer, ready; skips by name what cannot run here."""
    for program in ("chromium", "Orthanc"):
        need(program)
    if not pacs.PLUGIN.exists():
        pytest.skip("orthanc-dicomweb is not installed")
    try:
        ohif.dist()
    except Missing as missing:
        pytest.skip(f"OHIF: {missing}")
    command = Command(tmp_path_factory.mktemp("viewer"))
    try:
        command.address()
        yield command
    finally:
        if command.process.poll() is None:
            command.end(interrupted=False)


@pytest.fixture(scope="module")
def browser(command: Command) -> Iterator[Browser]:
    """The demo study, sent by the button of the start page and opened in OHIF."""
    with opened(command.address()) as browser:
        yield browser


def test_the_summary_reads_as_text(browser: Browser) -> None:
    """OHIF shows the finding, how sure it is, where to look and that nobody verified it on the first screen, no end of it cut off."""
    text = read_summary(browser)
    assert re.search(r"^Summary: Brain tumour found, certainty high \((over )?\d\d%\): most likely glioma \((over )?\d\d%\)\.$", text, re.M)
    wanted = ("AI Result, Not Verified", "Brain tumour found, certainty", "series 3, image", UNVERIFIED)
    assert [said for said in wanted if not is_seen(browser, said)] == []


def test_the_region_is_drawn_on_the_tumour(browser: Browser, demo_study: Path) -> None:
    """OHIF draws the outline of the Measurements on the slice that the Summary names, and most of the painted tumour there lies in it."""
    text = read_summary(browser)
    outline = read_outline(browser)
    slices = {ds.SOPInstanceUID: ds for ds in map(dcmread, sorted(demo_study.glob("t1_*.dcm")))}
    (shown,) = (ds for uid, ds in slices.items() if f"/instances/{uid}/" in outline["image"])
    assert re.search(rf"Best seen on series {shown.SeriesNumber}, image {shown.InstanceNumber}\b", text)
    painted = lesion_mask(tumour="glioma", seed=1)[shown.InstanceNumber - 1]
    inside = drawn(in_pixels(outline["points"], shown), painted.shape)
    assert (painted & inside).sum() > 0.7 * painted.sum()
    assert (painted & inside).sum() > 0.5 * inside.sum()


def in_pixels(points: Any, ds: Any) -> list[tuple[float, float]]:
    """(column, row) of points in mm on the plane of an image (PS3.3 C.7.6.2.1.1)."""
    along = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
    offsets = (np.array(points) - np.array(ds.ImagePositionPatient, float)) @ along.T
    return [(float(x), float(y)) for x, y in offsets / np.array(ds.PixelSpacing, float)[::-1]]


def drawn(points: list[tuple[float, float]], shape: tuple[int, int]) -> Any:
    """(row, column): what a polygon encloses."""
    image = Image.new("1", shape[::-1])
    ImageDraw.Draw(image).polygon(points, fill=1)
    return np.array(image)


def test_nothing_can_be_stored_through_the_viewer(command: Command) -> None:
    """The PACS, which asks for no password, is read only through the viewer, and only by who was really sent to this machine."""
    studies = f"{command.address()}/dicom-web/studies"
    asked = [urllib.request.Request(studies, data=b"", method="POST"), urllib.request.Request(studies, headers={"Host": "example.org"})]
    for request, status in zip(asked, (405, 400), strict=True):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        assert refused.value.code == status
    with urllib.request.urlopen(studies, timeout=10) as answer:
        assert answer.status in (200, 204)


@pytest.mark.parametrize("interrupted", [True, False])
def test_nothing_is_left_behind(command: Command, tmp_path: Path, interrupted: bool) -> None:
    """Ctrl-C as well as `kill` ends viewer, PACS and node with exit status 0: no process and no file of theirs stays."""
    if not interrupted:
        command = Command(tmp_path)
        command.address()
    children = command.children()
    assert len(children) >= 2
    assert command.end(interrupted=interrupted) == 0
    assert [pid for pid in children if is_alive(pid)] == []
    assert list(command.folder.glob("vitalcheck-*")) == []


def test_only_the_pinned_viewer_is_served(tmp_path: Path) -> None:
    """Another package than the pinned one is refused, whatever the registry says of it."""
    (packed := tmp_path / "app.tgz").write_bytes(b"another viewer")
    with pytest.raises(DemoFailed, match="another @ohif/app") as refused:
        ohif.check(packed)
    assert not isinstance(refused.value, Missing)


@pytest.mark.parametrize(("there", "said"), [(False, "npm is missing.*Debian package npm"), (True, "is there a network.*no such host")])
def test_without_npm_or_network_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool, said: str) -> None:
    """Where the viewer is not in the cache, a missing npm or network is told in one line, and nothing half-done is kept."""
    if there:
        (npm := tmp_path / "npm").write_text("#!/bin/sh\necho 'npm error code ENOTFOUND: no such host' >&2\nexit 1\n")
        npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ohif, "CACHE", tmp_path / "cache")
    with pytest.raises(Missing, match=said):
        ohif.dist()
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_cache_of_the_viewer_belongs_to_its_version() -> None:
    """Containers and `make viewer` show the same version of OHIF."""
    assert f"image: ohif/app:v{ohif.VERSION}\n" in (ROOT / "docker-compose.yml").read_text()


def test_dsr2html_shows_a_summary(tmp_path: Path) -> None:
    """DCMTK's page of a Summary holds its sentences; of what is no report there is no page."""
    need("dsr2html")
    _, (summary, _) = result(tmp_path, "present")
    page = html(summary.data, tmp_path).decode()
    assert [said for said in ("AI Result, Not Verified", "Brain tumour found, certainty", UNVERIFIED) if said not in page] == []
    with pytest.raises(DemoFailed, match="dsr2html could not read"):
        html(b"no report", tmp_path)
