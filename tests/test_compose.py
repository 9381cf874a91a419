"""The container files agree with each other and with the shipped configuration. No Docker daemon is needed, none is asked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from listener.config import Config, load

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
ORTHANC = json.loads((ROOT / "deploy" / "orthanc.json").read_text())
NGINX = (ROOT / "deploy" / "ohif-nginx.conf").read_text()


def ports(service: str) -> dict[int, tuple[str, int]]:
    """Container port -> (address, port) on the host."""
    triples = [mapping.split(":") for mapping in SERVICES[service]["ports"]]
    return {int(inside): (host, int(outside)) for host, outside, inside in triples}


def mounts(service: str) -> dict[str, list[str]]:
    """Path in the container -> [source, mode]."""
    parts = [mount.split(":") for mount in SERVICES[service]["volumes"]]
    return {target: [source, *mode] for source, target, *mode in parts}


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> Config:
    """The shipped configuration under the environment of image and compose file."""
    image = dict(re.findall(r"\b(VITALCHECK_\w+)=(\S+)", DOCKERFILE))
    for key, value in {**image, **SERVICES["vitalcheck"]["environment"]}.items():
        monkeypatch.setenv(key, "a secret" if value.startswith("${") else value)
    return load(ROOT / "deploy" / "vitalcheck.toml")


def test_shipped_configuration_loads_and_stays_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped configuration loads as it is, denies strangers and shows its page to this machine only."""
    config = load(ROOT / "deploy" / "vitalcheck.toml")
    assert not config.listener.allow_any_peer
    assert config.http.host == "127.0.0.1"


def test_ports_are_those_of_the_configuration(composed: Config) -> None:
    """Published and exposed ports are those that the configured services listen on."""
    assert set(ports("vitalcheck")) == {composed.listener.port, composed.http.port}
    [exposed] = re.findall(r"^EXPOSE (.*)$", DOCKERFILE, re.M)
    assert set(map(int, exposed.split())) == set(ports("vitalcheck"))
    assert set(ports("orthanc")) == {ORTHANC["DicomPort"], ORTHANC["HttpPort"]}
    [viewer] = re.findall(r"^\s*listen (\d+);", NGINX, re.M)
    assert set(ports("ohif")) == {int(viewer)}


def test_ports_are_open_to_this_machine_only() -> None:
    """Every published port is bound to loopback."""
    assert {host for service in SERVICES for host, _ in ports(service).values()} == {"127.0.0.1"}


def test_reports_go_to_orthanc(composed: Config) -> None:
    """The destination of the composed node is the Orthanc service under the AE title and port of its own configuration."""
    [destination] = composed.destinations
    assert (destination.host, destination.ae_title, destination.port) == ("orthanc", ORTHANC["DicomAet"], ORTHANC["DicomPort"])
    assert "orthanc" in SERVICES


def test_orthanc_sends_to_vitalcheck(composed: Config) -> None:
    """Orthanc's modality AI is the composed node, which lets Orthanc in."""
    assert ORTHANC["DicomModalities"]["AI"] == [composed.listener.ae_title, "vitalcheck", composed.listener.port]
    assert ORTHANC["DicomAet"] in [peer.ae_title for peer in composed.listener.peers]
    assert composed.listener.host == "0.0.0.0"


def test_viewer_reaches_orthanc_on_its_own_origin() -> None:
    """OHIF's data source is the path that its nginx forwards to Orthanc's DICOMweb root and HTTP port."""
    roots = re.findall(r"(?:qidoRoot|wadoRoot): '([^']+)'", (ROOT / "deploy" / "ohif-config.js").read_text())
    assert roots == ["/dicom-web", "/dicom-web"]
    assert ORTHANC["DicomWeb"]["Root"] == "/dicom-web/"
    assert re.search(r"location /dicom-web/ \{\s*proxy_pass http://orthanc:(\d+);", NGINX).group(1) == str(ORTHANC["HttpPort"])


def test_every_mounted_file_exists_and_lies_where_it_is_read(composed: Config) -> None:
    """What is mounted from the repository exists, is read-only and lies where the programs look for it."""
    for service in SERVICES:
        for target, (source, *mode) in mounts(service).items():
            assert source in COMPOSE["volumes"] or ((ROOT / source).is_file() and mode == ["ro"]), (service, target)
    configuration = re.search(r'CMD \["serve", "--config", "([^"]+)"\]', DOCKERFILE).group(1)
    assert mounts("vitalcheck")[configuration][0] == "./deploy/vitalcheck.toml"
    assert f"COPY deploy/vitalcheck.toml {configuration}" in DOCKERFILE
    assert SERVICES["ohif"]["entrypoint"][2] in mounts("ohif")
    assert f"alias {next(t for t in mounts('ohif') if t.endswith('.js'))};" in NGINX
    assert ORTHANC["StorageDirectory"] in mounts("orthanc")


def test_state_outlives_the_container(composed: Config) -> None:
    """Spool and ledger lie in a named volume that belongs to the unprivileged user."""
    assert mounts("vitalcheck")[str(composed.state.dir)] == ["vitalcheck"]
    assert f'VOLUME ["{composed.state.dir}"]' in DOCKERFILE
    assert re.search(rf"install --directory --owner=10001 --group=10001 --mode=0700 {composed.state.dir}$", DOCKERFILE, re.M)


def test_container_is_unprivileged_and_read_only() -> None:
    """Image and compose file agree on an unprivileged user, a read-only root and no capabilities."""
    service = SERVICES["vitalcheck"]
    [user] = re.findall(r"^USER (\S+)$", DOCKERFILE, re.M)
    assert service["user"] == user == "10001:10001"
    for name in ("vitalcheck", "ohif"):
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["cap_drop"] == ["ALL"]
        assert SERVICES[name]["tmpfs"] == ["/tmp"]
    assert all("no-new-privileges:true" in service["security_opt"] for service in SERVICES.values())


def test_page_in_the_container_needs_a_token(composed: Config) -> None:
    """The page leaves loopback only with a token, which compose refuses to invent."""
    assert composed.http.host == "0.0.0.0"
    assert composed.http.token
    assert SERVICES["vitalcheck"]["environment"]["VITALCHECK_HTTP__TOKEN"].startswith("${VITALCHECK_HTTP__TOKEN:?")


def test_health_check_asks_the_configured_port(composed: Config) -> None:
    """The image's health check asks the page's own port."""
    assert f"http://127.0.0.1:{composed.http.port}/healthz" in DOCKERFILE


def test_image_is_built_from_pins_without_training(composed: Config) -> None:
    """The image installs the pinned base dependencies, and the builder is given everything that it copies."""
    assert re.search(r"pip install .*--constraint constraints\.txt \.$", DOCKERFILE, re.M)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {word.removeprefix("./") for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.M) for word in line.split()[:-1]}
    assert copied <= allowed
    assert all((ROOT / path).exists() for path in copied)


def test_two_stages_name_one_python() -> None:
    """Both stages use the same base image, so that the copied environment finds its interpreter."""
    assert len(set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.M))) == 1


def test_stop_leaves_time_to_drain() -> None:
    """Compose waits longer than a drain may take before it kills."""
    assert int(SERVICES["vitalcheck"]["stop_grace_period"].removesuffix("s")) > 30
