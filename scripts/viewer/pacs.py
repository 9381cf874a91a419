"""Debian's Orthanc with its DICOMweb plugin as a child process: the PACS that holds study and reports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.demo import DemoFailed, free_ports
from scripts.viewer import Missing, end

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
START_SECONDS = 30.0
STOP_SECONDS = 20.0


@contextmanager
def orthanc(folder: Path) -> Iterator[tuple[int, int]]:
    """Orthanc, ready, with all it writes below `folder`; gives its DICOM and HTTP ports. Raises Missing, DemoFailed."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if program is None:
        raise Missing("Orthanc is missing, the PACS; install the Debian packages orthanc and orthanc-dicomweb")
    if not PLUGIN.exists():
        raise Missing("Orthanc's DICOMweb is missing, which the viewer reads by; install the Debian package orthanc-dicomweb")
    port, http_port = free_ports(2)
    settings = folder / "orthanc.json"
    settings.write_text(json.dumps(_settings(folder / "orthanc", port, http_port)))
    environment = {**os.environ, "TCP_NODELAY": "1"}  # Orthanc's DICOM toolkit waits for delayed acknowledgements without it
    with (folder / "orthanc.log").open("wb") as log:
        child = subprocess.Popen([program, str(settings)], stdout=log, stderr=log, env=environment)
        try:
            _await(child, http_port)
            yield port, http_port
        finally:
            end(child, STOP_SECONDS)


def _settings(storage: Path, port: int, http_port: int) -> dict[str, object]:
    """Loopback only, and nobody asks for a password: whoever may run this may read it all anyway."""
    return {
        "Name": "VitalCheck PACS", "StorageDirectory": str(storage), "IndexDirectory": str(storage), "Plugins": [str(PLUGIN)],
        "HttpPort": http_port, "HttpBindAddresses": ["127.0.0.1"], "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomPort": port, "DicomAet": "PACS", "DicomCheckCalledAet": True, "DicomAlwaysAllowStore": True,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip


def _await(child: subprocess.Popen[bytes], http_port: int) -> None:
    """Returns when Orthanc answers. Raises DemoFailed."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and child.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{http_port}/dicom-web/studies", timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise DemoFailed(f"Orthanc {'was not ready in time' if child.poll() is None else 'did not start'}")
