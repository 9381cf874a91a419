"""Configuration: once, typed, frozen; nobody else reads the file or the environment.

    vitalcheck.toml < VITALCHECK_<SECTION>__<KEY>        (the environment wins; lists and tables are given there as JSON)

A key that is not known, a value that cannot be, or a feature that is not built refuses to start with one line
that says what is wrong, where, and how to mend it. `state.dir`, folders in `models.enabled`, a file in `reports.language` and those of
`[listener.tls]` are relative to the folder of the file.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from listener.config_words import PREFIX, SECRET, explained, known, nearest, place
from listener.errors import ConfigError
from pipeline import language
from pipeline.language import LanguageError
from pipeline.records import USUAL, Kind

DEFAULT_FILE = Path("vitalcheck.toml")


def _ae_title(value: str) -> str:
    """PS3.5 table 6.2-1, AE: up to 16 characters, no backslash, no control character, not only spaces; padding is no part of it."""
    title = value.strip(" ")
    if not re.fullmatch(r"[ -\[\]-~]{1,16}", title):
        raise ValueError("an AE title is 1 to 16 printable ASCII characters without a backslash")
    return title


def _network(value: str) -> str:
    try:
        ip_network(value, strict=False)
    except ValueError:
        raise ValueError("give an address (10.1.2.3) or a network (10.1.0.0/16), or leave host out to accept any") from None
    return value


def _handle(value: str) -> str:
    """A name that stands in logs, metrics and job names."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", value):
        raise ValueError("a name is 1 to 64 letters, digits, dots, hyphens and underscores, and begins with a letter or digit")
    return value


def document(value: object) -> Kind:
    """The kind of document of that name. Raises ValueError."""
    kinds = get_args(Kind)
    if value not in kinds:
        raise ValueError(f"there is no document {value!r}; {nearest(str(value), list(kinds))}")
    return cast(Kind, value)


def _institution(value: str) -> str:
    """PS3.5 table 6.2-1, LO: up to 64 characters, no backslash, no control character."""
    if not (value == "" or value.isprintable()) or "\\" in value or len(value) > 64:
        raise ValueError("the name of an institution is up to 64 printable characters without a backslash")
    return value.strip(" ")


def _fingerprint(value: str) -> str:
    """SHA-256 of a certificate, as openssl prints it or plain; kept plain."""
    plain = value.replace(":", "").strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise ValueError("give the SHA-256 of its certificate, 64 hex digits: openssl x509 -in FILE -noout -fingerprint -sha256")
    return plain


AETitle = Annotated[str, AfterValidator(_ae_title)]
Institution = Annotated[str, AfterValidator(_institution)]
Network = Annotated[str, AfterValidator(_network)]
Fingerprint = Annotated[str, AfterValidator(_fingerprint)]
Handle = Annotated[str, AfterValidator(_handle)]
ListenPort = Annotated[int, Field(ge=0, le=65535)]  # 0: any free one; the log says which
RemotePort = Annotated[int, Field(ge=1, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Peer(_Section):
    """Who may call: an AE title, where it may call from, how often at a time, and with which certificate."""

    ae_title: AETitle
    host: Network | None = None
    port: RemotePort | None = None  # where storage commitment reports go
    max_associations: Annotated[int, Field(ge=1)] | None = None  # listener.max_associations_per_peer
    certificate: Fingerprint | None = None  # pinned: without it nobody has this AE title


class Tls(_Section):
    """DICOM over TLS, beside the plain port or instead of it; listener/tls.py."""

    enabled: bool = False
    only: bool = False  # listener.port is not listened on
    port: ListenPort = 2762  # registered for DICOM over TLS (PS3.8 9.1.1)
    certificate: str = ""
    key: str = ""
    ca: str = ""
    require_client_certificate: bool = True
    handshake_seconds: Annotated[float, Field(gt=0, le=600)] = 10.0  # over a slow line a handshake takes 1 s


class Listener(_Section):
    ae_title: AETitle = "VITALCHECK"
    host: str = "0.0.0.0"  # noqa: S104 - scanners call from outside; who may is said by peers
    port: ListenPort = 11112  # registered for DICOM (PS3.8 9.1.1)
    require_called_ae_title: bool = True
    max_associations: Annotated[int, Field(ge=1)] = 256
    acse_seconds: Annotated[float, Field(gt=0)] = 30.0  # the ARTIM timer of PS3.8 9.1.5
    pdu_seconds: Annotated[float, Field(gt=0)] = 30.0  # 128 KB in it are 35 kbit/s: slower than any line that carries images
    network_seconds: Annotated[float, Field(gt=0)] = 600.0  # scanners hold an association open while they scan
    max_object_bytes: Annotated[int, Field(ge=1)] = 4 << 30  # the length of one element of explicit VR ends there too (PS3.5 7.1.1)
    max_refused: Annotated[int, Field(ge=1)] = 1000  # of one association; an old archive that is moved may hold some hundred
    max_associations_per_peer: Annotated[int, Field(ge=1)] = 64  # a sender that opens one for each instance leaves room for others
    allow_any_peer: bool = False  # deny by default
    private_sop_classes: bool = True  # stored, never analysed; a scanner that is refused one may drop the study
    peers: tuple[Peer, ...] = ()
    tls: Tls = Tls()


class State(_Section):
    dir: Path = Path("var")
    database: str = ""  # SQLite in dir
    min_free_bytes: Annotated[int, Field(ge=0)] = 1 << 30  # 1 GiB: some 2000 CT instances, time enough for an alarm before the disk is full
    max_age_days: Annotated[float, Field(gt=0)] | None = None  # nothing is ever deleted


class Completion(_Section):
    quiet_seconds: Annotated[float, Field(gt=0)] = 3.0
    max_wait_seconds: Annotated[float, Field(gt=0)] = 600.0


class Worker(_Section):
    processes: Annotated[int, Field(ge=1, le=256)] = 1
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    decode_memory_bytes: Annotated[int, Field(ge=64 << 20)] = 4 << 30  # 600 frames of 512 x 512 take 1.3 GB; twice that, and some codecs
    decode_seconds: Annotated[float, Field(gt=0)] = 120.0  # 160 slices of 512 x 512 take 0.4 s, as JPEG 2000 some 10 s


class Destination(_Section):
    """Where results go."""

    name: Handle
    ae_title: AETitle
    host: Annotated[str, Field(min_length=1)]
    port: RemotePort
    tls: bool = False
    documents: Annotated[tuple[Annotated[Kind, BeforeValidator(document)], ...], Field(min_length=1)] = USUAL


class Models(_Section):
    enabled: tuple[Annotated[str, Field(min_length=1)], ...] = ("brain_tumor_4class",)  # a name of the zoo; with a slash, a folder
    variant: Literal["auto", "int8", "fp32"] = "auto"
    shadow_rate: Annotated[float, Field(ge=0, le=1)] = 0.1  # of whole studies; slices that decide a finding are always compared


class Reports(_Section):
    language: Annotated[str, Field(min_length=1)] = "en"  # of the Summary: built in, or a TOML file
    institution: Institution = ""  # whose node this is; stands in every document


class Http(_Section):
    host: str = "127.0.0.1"
    port: ListenPort = 8787
    token: str = ""


class Log(_Section):
    format: Literal["json", "console"] = "json"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(BaseSettings):
    """The whole of it. Made by `load`; tests may make one from keyword arguments, which reads neither file nor environment."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__")
    _sources: dict[str, str] = PrivateAttr(default_factory=dict)  # dotted key: "file" or "environment"

    listener: Listener = Listener()
    state: State = State()
    completion: Completion = Completion()
    worker: Worker = Worker()
    destinations: tuple[Destination, ...] = ()
    models: Models = Models()
    reports: Reports = Reports()
    http: Http = Http()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the names are pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class Setting(NamedTuple):
    """One row of `vitalcheck config show`."""

    key: str
    value: Any
    source: Literal["default", "file", "environment"]


def load(path: Path | None = None) -> Config:
    """The configuration in the file at `path` (None: ./vitalcheck.toml where there is one), under the environment. Raises ConfigError."""
    if path is None and DEFAULT_FILE.is_file():
        path = DEFAULT_FILE
    file = _file(path) if path else {}
    environment = _environment()
    sources = dict.fromkeys(_flat(file), "file") | dict.fromkeys(_flat(environment), "environment")
    try:
        config = Config(**_merged(file, environment))
    except ValidationError as error:
        raise ConfigError(explained(error, Config, path, sources)) from error
    folder = path.parent if path else Path()
    directory = (folder / config.state.dir.expanduser()).absolute()
    enabled = tuple(str((folder / Path(entry).expanduser()).absolute()) if "/" in entry else entry for entry in config.models.enabled)
    found: dict[str, Any] = {
        "state": config.state.model_copy(update={"dir": directory}),
        "models": config.models.model_copy(update={"enabled": enabled}),
    }
    found["listener"] = config.listener.model_copy(update={"tls": _beside(folder, config.listener.tls)})
    if language.is_file(spoken := config.reports.language):
        spoken = str((folder / Path(spoken).expanduser()).absolute())
    config = config.model_copy(update=found | {"reports": config.reports.model_copy(update={"language": spoken})})
    config._sources.update(sources)
    _refuse(config, path)
    return config


def _beside(folder: Path, tls: Tls) -> Tls:
    """Its files, relative to `folder`."""
    files = {key: value for key in ("certificate", "key", "ca") if (value := getattr(tls, key))}
    return tls.model_copy(update={key: str((folder / Path(value).expanduser()).absolute()) for key, value in files.items()})


def explain(config: Config) -> list[Setting]:
    """Every effective value with where it came from; secrets masked."""
    rows = []
    for key, value in _flat(config.model_dump()).items():
        shown = "********" if value and key in SECRET else value
        source = config._sources.get(key, "default")
        rows.append(Setting(key, str(shown) if isinstance(shown, Path) else shown, source))  # type: ignore[arg-type]
    return rows


def _file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a file with --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is no TOML: {error}; every value is written key = value, texts in quotes") from error


def _environment() -> dict[str, Any]:
    """What VITALCHECK_* variables say, nested like the file.

    Variables without a double underscore are others' (Kubernetes sets VITALCHECK_PORT for a service of that name),
    unless they would be a key of ours if they had one.
    """
    keys = {f"{PREFIX}{key.upper().replace('.', '_')}": f"{PREFIX}{key.upper().replace('.', '__')}" for key in known(Config)}
    for name in map(str.upper, os.environ):
        if name.startswith(PREFIX) and name in keys and name != keys[name]:
            raise ConfigError(f"environment: {name} is not read; section and key are parted by two underscores: {keys[name]}")
        section = name.removeprefix(PREFIX).split("__")[0].lower()
        if name.startswith(PREFIX) and "__" in name and section not in Config.model_fields:
            near = nearest(section, list(Config.model_fields))
            raise ConfigError(f"environment: {name}: there is no section {section!r}; {near}")
    try:
        return EnvSettingsSource(Config)()
    except SettingsError as error:
        names = ", ".join(name for name in os.environ if name.upper().startswith(PREFIX) and _is_torn(os.environ[name]))
        what = names or str(error).removesuffix(' from source "EnvSettingsSource"')
        raise ConfigError(f"environment: {what}: a list or table is written there as JSON, and this is none") from error


def _is_torn(value: str) -> bool:
    """Does it begin as JSON's lists and tables do, and is none?"""
    try:
        json.loads(value)
    except ValueError:
        return value.lstrip()[:1] in ("[", "{")
    return False


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Tables merge key by key; anything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _merged(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """{"listener.port": 11112, "destinations[0].name": "pacs", ...}; an empty list or table stays one value."""
    if isinstance(tree, dict) and tree:
        parts = [(f"{prefix}.{key}" if prefix else str(key), value) for key, value in tree.items()]
    elif isinstance(tree, (list, tuple)) and tree and isinstance(tree[0], dict):
        parts = [(f"{prefix}[{index}]", value) for index, value in enumerate(tree)]
    else:
        return {prefix: tree} if prefix else {}
    return {key: value for name, part in parts for key, value in _flat(part, name).items()}


def _refuse(config: Config, path: Path | None) -> None:
    """What pydantic cannot know: features that are not built yet, and values that contradict each other."""
    away = {key for key, value in _flat(config.model_dump()).items() if value != _flat(Config().model_dump()).get(key)}
    unbuilt = {
        r"state\.database": "Postgres is not built yet; the ledger is SQLite in state.dir",
        r"state\.max_age_days": "retention is not built yet; nothing is ever deleted",
    }
    for key in sorted(away):
        for pattern, why in unbuilt.items():
            if re.fullmatch(pattern, key):
                raise ConfigError(f"{place(key, path, config._sources)}: {why}; leave the key out")
    for key, wrong, why in _contradictions(config):
        if wrong:
            raise ConfigError(f"{place(key, path, config._sources)}: {why}")
    try:
        language.read(config.reports.language)
    except LanguageError as error:
        raise ConfigError(f"{place('reports.language', path, config._sources)}: {error}") from error


def _contradictions(config: Config) -> list[tuple[str, bool, str]]:
    """(key, is wrong, why and how to mend it)."""
    names, enabled = [destination.name for destination in config.destinations], config.models.enabled
    return [
        *_contradictions_of_tls(config.listener),
        ("destinations.tls", any(destination.tls for destination in config.destinations), "TLS is not built yet; set tls = false"),
        ("destinations.name", len(set(names)) < len(names), "two destinations have one name; give each its own"),
        (
            "completion.max_wait_seconds",
            config.completion.max_wait_seconds < config.completion.quiet_seconds,
            "is shorter than completion.quiet_seconds; make it longer",
        ),
        ("models.enabled", not enabled, "name one model at least; `vitalcheck models list` shows those that are installed"),
        ("models.enabled", len(set(enabled)) < len(enabled), "one model stands there twice; name each once"),
        (
            "http.token",
            not config.http.token and not is_loopback(config.http.host),
            f"http.host {config.http.host} can be reached from outside; set a token, or http.host to 127.0.0.1",
        ),
    ]


def _contradictions_of_tls(listener: Listener) -> list[tuple[str, bool, str]]:
    """The same of [listener.tls]. What is in its files tls.py says, when they are used."""
    tls, pins = listener.tls, any(peer.certificate for peer in listener.peers)
    make = "docs/tls.md shows how to make one"
    return [
        ("listener.tls.only", tls.only and not tls.enabled, "nothing would be listened on; set listener.tls.enabled = true"),
        ("listener.tls.certificate", tls.enabled and not tls.certificate, f"TLS needs a certificate; {make}"),
        ("listener.tls.key", tls.enabled and not tls.key, f"TLS needs the key of its certificate; {make}"),
        (
            "listener.tls.ca",
            tls.enabled and tls.require_client_certificate and not tls.ca,
            "name who signs the certificates of peers, or set listener.tls.require_client_certificate = false",
        ),
        (
            "listener.tls.port",
            tls.enabled and not tls.only and tls.port == listener.port != 0,
            "is listener.port too; give TLS another, or set listener.tls.only = true",
        ),
        ("listener.peers.certificate", pins and not tls.enabled, "is shown over TLS only; set listener.tls.enabled = true"),
        ("listener.peers.certificate", pins and not tls.ca, "is asked for only where listener.tls.ca says who may have signed it"),
    ]


def is_loopback(host: str) -> bool:
    """Can only this machine reach it?"""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
