"""listener/web: the page, the API and the probes over a real port."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from filled import DECLINED, DELIVERED, ERROR, GAP, QUARANTINED, WAITING, filled
from objects import SECRET

from listener.config import Config
from listener.errors import NoListen
from listener.ledger import Ledger
from listener.web.app import Server, start

PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 4242}


@dataclass
class Service:
    """As much of a running service as the page asks for."""

    port: int | None = 11112
    tls_port: int | None = None
    accepting: bool = True


@dataclass
class Running:
    server: Server
    ledger: Ledger
    service: Service
    client: httpx.Client

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(path, headers=headers)


def run(folder: Path, *, token: str = "", **state: object) -> Iterator[Running]:
    config = Config(state={"dir": folder, **state}, http={"port": 0, "token": token}, destinations=[PACS])  # type: ignore[arg-type]
    ledger, service = filled(folder), Service()
    ledger.heartbeat(0, 4711, time.time(), ready=True, models={"brain_tumor_4class": "int8"})
    server = start(config, ledger, service)
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        yield Running(server, ledger, service, client)
    server.stop()


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Running]:
    yield from run(tmp_path, min_free_bytes=0)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Running]:
    yield from run(tmp_path, token="open sesame", min_free_bytes=0)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Running]:
    yield from run(tmp_path, min_free_bytes=1 << 62)


def test_it_is_alive_and_ready(window: Running) -> None:
    """With port, disk, database, worker and model in order both probes say 200, although a destination is down."""
    assert window.get("/healthz").status_code == 200
    answer = window.get("/readyz")
    assert (answer.status_code, answer.json()["reasons"]) == (200, [])
    assert answer.json()["destinations"][0] | {"next_at": None} == {
        "name": "pacs", "state": "down", "stored": 2, "waiting": 2, "error": ERROR, "next_at": None,
    }  # fmt: skip


def test_not_ready_without_a_worker(window: Running) -> None:
    """When no worker has its model what arrives now would wait, so the probe says 503 and why."""
    window.ledger.heartbeat(0, 4711, time.time(), ready=False, models={})
    assert window.get("/readyz").json()["reasons"] == ["worker: the model is still being loaded"]
    window.ledger.heartbeat(0, 4711, time.time() - 60, ready=False, models={}, alarm="model 'x' is not installed")
    assert window.get("/readyz").json()["reasons"] == ["worker: model 'x' is not installed"]  # and tried again, later and later
    assert "model &#x27;x&#x27; is not installed" in window.get("/").text
    window.ledger.heartbeat(0, 4711, time.time() - 60, ready=True, models={"m": "fp32"})
    answer = window.get("/readyz")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["worker: none is running"])


def test_not_ready_while_it_stops(window: Running) -> None:
    """From SIGTERM on nothing new is accepted, and the probe says so while /healthz stays 200."""
    window.service.accepting = False
    answer = window.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["reasons"][0].startswith("port:")
    assert window.get("/healthz").status_code == 200


def test_not_ready_on_a_full_disk(full_disk: Running) -> None:
    """Fewer free bytes than state.min_free_bytes is a reason of its own."""
    assert full_disk.get("/readyz").json()["reasons"][0].startswith("spool:")


def test_api_lists_studies_by_state(window: Running) -> None:
    """/api/studies gives one object per study with its state and reason, and ?state= narrows the list."""
    studies = {study["study"]: study for study in window.get("/api/studies").json()}
    assert len(studies) == 5
    assert studies[DELIVERED]["finding"]["label"] == "glioma"
    assert studies[DECLINED]["reason"].startswith("no T1-weighted head series")
    assert [study["study"] for study in window.get("/api/studies?state=quarantined").json()] == [QUARANTINED]
    assert window.get("/api/studies?state=lost").status_code == 400


def test_api_tells_all_of_one_study(window: Running) -> None:
    """/api/studies/{uid} has state, instances with sha256, timings, finding and deliveries; an unknown UID is 404."""
    study = window.get(f"/api/studies/{WAITING}").json()
    assert study["state"] == "delivering"
    assert len(study["instances"]) == 2
    assert all(len(instance["sha256"]) == 64 for instance in study["instances"])
    assert study["timings_ms"]["queued"] == 1000.0
    assert {delivery["error"] for delivery in study["deliveries"]} == {ERROR}
    assert window.get("/api/studies/9.9").status_code == 404


def test_api_and_page_tell_how_the_slices_lie_and_what_was_passed_over(window: Running) -> None:
    """Plane, spacing, tilt, turn, oddities, recipe, and the reason against each other series, in the API and on the page."""
    (result,) = window.get(f"/api/studies/{DELIVERED}").json()["results"]
    assert result["geometry"] == {
        "plane": "axial", "slices": 24, "between": 6.0, "tilt": 15.2, "remarks": [GAP],
        "turn": {"transpose": False, "flip_rows": False, "flip_columns": False},
    }  # fmt: skip
    assert (result["recipe"], result["series"]) == ("0123456789abcdef", f"{DELIVERED}.1")
    assert result["passed_over"][0]["reason"] == "localizer"
    page = window.get(f"/studies/{DELIVERED}").text
    for said in (f"24 axial slices 6.0 mm apart, 15 degrees oblique. {GAP}", "0123456789abcdef", "localizer"):
        assert said in page


def test_page_shows_and_escapes(window: Running) -> None:
    """The page names every study with its state, and what a PACS said cannot become markup."""
    page = window.get("/").text
    for uid in (DELIVERED, WAITING, DECLINED, QUARANTINED):
        assert f'<a href="/studies/{uid}">' in page
    assert "Ready." in page
    assert ERROR not in page
    assert "connection refused &lt;b&gt;" in page
    assert "glioma present 0.97" in window.get(f"/studies/{DELIVERED}").text
    assert window.get("/style.css").headers["content-type"].startswith("text/css")
    assert DELIVERED not in window.get("/?state=declined").text


def test_nothing_of_the_patient_is_shown(window: Running) -> None:
    """No page, API answer or metric holds the patient's name or a description, though every kept instance does."""
    paths = ("/", f"/studies/{WAITING}", "/api/studies", f"/api/studies/{WAITING}", "/readyz", "/metrics")
    assert not [path for path in paths if SECRET in window.get(path).text]


def test_answers_carry_security_headers(window: Running) -> None:
    """No script runs on the page, nothing frames it, nothing keeps it."""
    headers = window.get("/").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")


def test_another_site_cannot_read_through_a_browser(window: Running) -> None:
    """Without a token a request that names another host, as after DNS rebinding, is refused."""
    assert window.get("/api/studies", Host="evil.example:8787").status_code == 403
    assert window.get("/api/studies", Host="localhost:8787").status_code == 200


def test_the_token_is_asked_for(guarded: Running) -> None:
    """With http.token set everything but /healthz is 401 without it."""
    for path in ("/", "/readyz", "/metrics", "/api/studies", f"/api/studies/{DELIVERED}", "/style.css", "/nothing"):
        assert guarded.get(path).status_code == 401
        assert guarded.get(path, Authorization="Bearer wrong").status_code == 401
    assert guarded.get("/healthz").status_code == 200


def test_the_token_is_taken_as_bearer_and_as_password(guarded: Running) -> None:
    """Programs send it as Bearer, browsers as the password of any user."""
    assert guarded.get("/api/studies", Authorization="Bearer open sesame").status_code == 200
    assert guarded.client.get("/", auth=("anyone", "open sesame")).status_code == 200
    assert guarded.client.get("/", auth=("open sesame", "")).status_code == 401
    assert guarded.get("/", Authorization="Basic ***").status_code == 401


def test_nothing_can_be_changed(window: Running) -> None:
    """The window only shows: no other method than GET is answered."""
    for method in ("POST", "PUT", "DELETE"):
        assert window.client.request(method, f"/api/studies/{DELIVERED}").status_code == 405


def test_a_taken_port_is_told(window: Running, tmp_path: Path) -> None:
    """Two pages cannot share a port, and the error names the key to change."""
    config = Config(state={"dir": tmp_path}, http={"port": window.server.port})  # type: ignore[arg-type]
    with pytest.raises(NoListen, match=r"http\.port"):
        start(config, window.ledger, window.service)


def test_stop_frees_the_port(window: Running) -> None:
    """After stop the port can be listened on again."""
    window.server.stop()
    with pytest.raises(httpx.ConnectError):
        window.get("/healthz")
