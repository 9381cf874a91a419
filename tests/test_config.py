"""listener/config.py: file and environment in, typed and frozen out, or one line that says what is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from listener.config import Config, explain, load
from listener.errors import ConfigError
from pipeline.language import FOLDER

TWICE = '[{"name": "a", "ae_title": "A", "host": "h", "port": 1}, {"name": "a", "ae_title": "B", "host": "h", "port": 2}]'


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("VITALCHECK_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "vitalcheck.toml"


def refused(file: Path, text: str = "") -> str:
    """The one line that this configuration is refused with."""
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    line = str(caught.value)
    assert "\n" not in line
    return line


EXAMPLE = """
[listener]
port = 0
[[listener.peers]]
ae_title = "CT01"
host = "10.1.0.0/16"
[state]
dir = "kept"
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = 4242
"""


TLS = '[listener.tls]\nenabled = true\ncertificate = "c"\nkey = "k"\n'
PIN = '[[listener.peers]]\nae_title = "A"\ncertificate = "{}"\n'


def test_defaults_are_those_of_the_contract(file: Path) -> None:
    """Without a file the service denies every peer, listens on 11112, and shows its page on loopback only."""
    config = load(None)
    assert (config.listener.ae_title, config.listener.port, config.listener.peers) == ("VITALCHECK", 11112, ())
    assert (config.listener.allow_any_peer, config.listener.require_called_ae_title, config.listener.max_associations) == (False, True, 256)
    assert (config.completion.quiet_seconds, config.completion.max_wait_seconds) == (3.0, 600.0)
    assert (config.http.host, config.http.port, config.http.token) == ("127.0.0.1", 8787, "")
    assert (config.models.enabled, config.models.variant, config.models.shadow_rate) == (("brain_tumor_4class",), "auto", 0.1)
    assert (config.worker.processes, config.worker.threads, config.log.format, config.log.level) == (1, 2, "json", "info")


def test_file_is_read(file: Path) -> None:
    """What the file says stands in the configuration, and state.dir lies beside the file."""
    file.write_text(EXAMPLE)
    config = load(file)
    assert config.listener.peers[0].ae_title == "CT01"
    assert config.destinations[0].port == 4242
    assert config.state.dir == file.parent / "kept"


def test_file_of_this_folder_is_the_default(file: Path) -> None:
    """Where no file is named, vitalcheck.toml of the working directory counts."""
    file.write_text(EXAMPLE)
    assert load(None).destinations[0].name == "pacs"


def test_environment_wins(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VITALCHECK_<SECTION>__<KEY> overrides the file, lists as JSON, and leaves the rest of the section alone."""
    file.write_text(EXAMPLE)
    monkeypatch.setenv("VITALCHECK_LISTENER__PORT", "104")
    monkeypatch.setenv("VITALCHECK_DESTINATIONS", '[{"name": "other", "ae_title": "O", "host": "h", "port": 1}]')
    config = load(file)
    assert (config.listener.port, config.listener.peers[0].ae_title) == (104, "CT01")
    assert [destination.name for destination in config.destinations] == ["other"]


def test_tls(file: Path) -> None:
    """Files of TLS lie beside the configuration; a pin is kept plain; TLS has the registered port, and may have the only one."""
    colons = ":".join(["AB"] * 32)
    file.write_text(f'{TLS}ca = "tls/ca.pem"\n{PIN.format(colons)}')
    listener = load(file).listener
    assert (listener.tls.certificate, listener.tls.ca) == (str(file.parent / "c"), str(file.parent / "tls" / "ca.pem"))
    assert (listener.tls.port, listener.tls.handshake_seconds, listener.peers[0].certificate) == (2762, 10.0, "ab" * 32)
    file.write_text(f'{TLS}ca = "ca"\nonly = true\nport = 11112\n')
    assert load(file).listener.tls.only


def test_a_language_lies_beside_the_file(file: Path) -> None:
    """reports.language is a language that is built in, or a file beside the configuration, which is read before anything starts."""
    assert load(None).reports.language == "en"
    own = file.parent / "languages" / "own.toml"
    own.parent.mkdir()
    own.write_text((FOLDER / "de.toml").read_text())
    file.write_text('[reports]\nlanguage = "languages/own.toml"\n')
    assert load(file).reports.language == str(own)
    own.write_text(own.read_text().replace('low = "gering"\n', ""))
    assert refused(file, file.read_text()) == f"{file}: reports.language: {own}: certainty.low: missing; translate 'low'"
    assert "reports.language: there is no language 'fr'; name de or en" in refused(file, '[reports]\nlanguage = "fr"\n')


def test_it_is_frozen(file: Path) -> None:
    """Nobody changes the configuration after it was read."""
    with pytest.raises(ValidationError):
        load(None).listener.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[listener]\nprot = 1", "listener.prot: no such key; did you mean listener.port?"),
        ("[listner]\nport = 1", "listner: no such key; did you mean listener?"),
        ("quiet_seconds = 1", "did you mean completion.quiet_seconds?"),
        ('[[listener.peers]]\nae_titel = "X"', "listener.peers[0].ae_titel: no such key; did you mean listener.peers.ae_title?"),
        ("[state]\nzzzz = 1", "known here: state.dir, state.database"),
        (
            "[listener]\nport = 99999",
            "listener.port is 99999: it should be less than or equal to 65535; leave it out for the default 11112",
        ),
        ("[worker]\nprocesses = 0", "worker.processes is 0: it should be greater than or equal to 1"),
        ('[models]\nvariant = "int4"', "models.variant is 'int4': it should be 'auto', 'int8' or 'fp32'"),
        ('[listener]\nae_title = "LONGER THAN SIXTEEN"', "an AE title is 1 to 16 printable ASCII characters"),
        ('[[listener.peers]]\nae_title = "A"\nhost = "ct01"', "give an address (10.1.2.3) or a network (10.1.0.0/16)"),
        ('[[destinations]]\nname = "pacs"', "destinations[0].ae_title: missing"),
        ("[completion]\nquiet_seconds = 9\nmax_wait_seconds = 5", "completion.max_wait_seconds: is shorter than completion.quiet_seconds"),
        ('[http]\nhost = "0.0.0.0"', "http.token: http.host 0.0.0.0 can be reached from outside; set a token"),
        ("[listener\nport = 1", "is no TOML"),
        ("[listener.tls]\nonly = true", "listener.tls.only: nothing would be listened on; set listener.tls.enabled = true"),
        ("[listener.tls]\nenabled = true", "listener.tls.certificate: TLS needs a certificate; docs/tls.md shows how to make one"),
        ('[listener.tls]\nenabled = true\ncertificate = "c"', "listener.tls.key: TLS needs the key of its certificate"),
        (f"{TLS}", "listener.tls.ca: name who signs the certificates of peers, or set listener.tls.require_client_certificate"),
        (f'{TLS}ca = "ca"\nport = 11112', "listener.tls.port: is listener.port too; give TLS another, or set listener.tls.only = true"),
        (PIN.format("ab" * 32), "listener.peers.certificate: is shown over TLS only; set listener.tls.enabled = true"),
        (f"{TLS}require_client_certificate = false\n{PIN.format('ab' * 32)}", "is asked for only where listener.tls.ca says"),
        (PIN.format("ab"), "listener.peers[0].certificate is 'ab': give the SHA-256 of its certificate, 64 hex digits"),
    ],
)
def test_wrong_configuration_is_refused_in_one_line(file: Path, text: str, told: str) -> None:
    """A key that is not known or a value that cannot be is refused with its name, the reason, and how to mend it."""
    assert told in refused(file, text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[state]\ndatabase = "postgresql://u:geheim@db/v"', "state.database: Postgres is not built yet"),
        ("[state]\nmax_age_days = 30", "state.max_age_days: retention is not built yet"),
        ('[[destinations]]\nname = "p"\nae_title = "P"\nhost = "h"\nport = 1\ntls = true', "destinations.tls: TLS is not built yet"),
        ("[models]\nenabled = []", "models.enabled: name one model at least"),
        ('[models]\nenabled = ["a", "b", "a"]', "models.enabled: one model stands there twice"),
    ],
)
def test_what_is_not_built_refuses_to_start(file: Path, text: str, told: str) -> None:
    """A key whose feature does not exist yet is refused by name, never silently ignored, and its value is not repeated."""
    line = refused(file, text)
    assert told in line
    assert "geheim" not in line


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("VITALCHECK_LISTENER__PROT", "VITALCHECK_LISTENER__PROT: no such key; did you mean listener.port?"),
        ("VITALCHECK_LISTNER__PORT", "there is no section 'listner'; did you mean listener?"),
        ("VITALCHECK_HTTP_TOKEN", "two underscores: VITALCHECK_HTTP__TOKEN"),
        ("VITALCHECK_LISTENER__PORT", "environment: VITALCHECK_LISTENER__PORT is 'x'"),
        ("VITALCHECK_DESTINATIONS", "a list or table is written there as JSON"),
        ("VITALCHECK_STATE__DATABASE", "environment: VITALCHECK_STATE__DATABASE: Postgres is not built yet"),
    ],
)
def test_environment_is_held_to_the_same_rules(file: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: str) -> None:
    """A misspelt or broken variable refuses to start and is named as the variable it is."""
    monkeypatch.setenv(name, "x")
    assert told in refused(file)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("VITALCHECK_LISTENER__PEERS", '[{"ae_title": "MR01"', "environment: VITALCHECK_LISTENER__PEERS: a list or table"),
        ("VITALCHECK_DESTINATIONS", '[{"name": "pacs"}]', "environment: VITALCHECK_DESTINATIONS: [0].ae_title: missing"),
        ("VITALCHECK_DESTINATIONS", '[{"name": "a", "ae_title": "A", "host": "h", "port": 0}]', "VITALCHECK_DESTINATIONS: [0].port is 0"),
        ("VITALCHECK_DESTINATIONS", TWICE, "environment: VITALCHECK_DESTINATIONS__NAME: two destinations have one name"),
    ],
)
def test_a_list_in_the_environment_is_named(file: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str) -> None:
    """Whatever is wrong with an entry of it, the variable is blamed, and not the file that has none of it."""
    monkeypatch.setenv(name, value)
    assert told in refused(file)


def test_foreign_variables_are_left_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Kubernetes sets for a service named vitalcheck is no key of ours."""
    monkeypatch.setenv("VITALCHECK_PORT", "tcp://10.0.0.1:11112")
    assert load(None).listener.port == 11112


def test_missing_file_is_refused(file: Path) -> None:
    """A file that is named but not there is an error, not the defaults."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load(file)


def test_explain_names_the_source_of_each_value(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`config show` tells default, file and environment apart, and never shows the token."""
    file.write_text(EXAMPLE)
    monkeypatch.setenv("VITALCHECK_HTTP__TOKEN", "geheim")
    rows = {row.key: row for row in explain(load(file))}
    assert rows["listener.ae_title"].source == "default"
    assert (rows["destinations[0].port"].value, rows["destinations[0].port"].source) == (4242, "file")
    assert (rows["http.token"].value, rows["http.token"].source) == ("********", "environment")


def test_keyword_arguments_read_no_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration made in code is what its arguments say, whatever the environment holds."""
    monkeypatch.setenv("VITALCHECK_LISTENER__PORT", "104")
    assert Config().listener.port == 11112


def test_models_by_path(tmp_path: Path) -> None:
    """What has a slash in models.enabled is a folder, relative to that of the file; what has none is a name."""
    path = tmp_path / "vitalcheck.toml"
    path.write_text('[models]\nenabled = ["brain_tumor_4class", "./ct_head", "models/other", "/srv/ct"]\n')

    enabled = load(path).models.enabled

    assert enabled == ("brain_tumor_4class", str(tmp_path / "ct_head"), str(tmp_path / "models/other"), "/srv/ct")


def test_documents_of_a_destination(file: Path) -> None:
    """Both Structured Reports where nothing is said; else what is named, and a name that is none is refused with the nearest."""
    file.write_text(EXAMPLE)
    assert load(file).destinations[0].documents == ("summary", "measurements")
    file.write_text(f'{EXAMPLE}documents = ["key-image", "pdf"]\n')
    assert load(file).destinations[0].documents == ("key-image", "pdf")
    said = refused(file, f'{EXAMPLE}documents = ["summary", "keyimage"]\n')
    assert "destinations[0].documents[1]" in said and "there is no document 'keyimage'" in said and "key-image" in said
    assert "documents" in refused(file, f"{EXAMPLE}documents = []\n")
    assert "documents[0]" in refused(file, f"{EXAMPLE}documents = [1]\n")
