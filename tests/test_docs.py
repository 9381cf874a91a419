"""Documents name what there is: keys, commands, options, targets, files."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel

from listener.cli import app
from listener.config import Config, Destination, Peer, load

ROOT = Path(__file__).parent.parent
LISTS: dict[str, type[BaseModel]] = {"listener.peers": Peer, "destinations": Destination}
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, field) of every key that a file may hold."""
    for name, field in model.model_fields.items():
        key, kind = prefix + name, field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from keys(kind, f"{key}.")
            continue
        yield key, field
        if key in LISTS:
            yield from keys(LISTS[key], f"{key}[].")


def toml(value: Any) -> str:
    """A default as the documents write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, Path)):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    return str(value)


def commands(group: Any, path: str = "vitalcheck") -> Iterator[tuple[str, Any]]:
    """(words, command) of everything that can be run."""
    for name, command in group.commands.items():
        below = getattr(command, "commands", {})
        if not below or command.invoke_without_command:
            yield f"{path} {name}", command
        if below:
            yield from commands(command, f"{path} {name}")


def targets() -> set[str]:
    """The targets of the Makefile that explain themselves."""
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))


def test_every_configuration_key_is_documented_with_its_default() -> None:
    """docs/configuration.md has one row for every key, with the default that is in force, and no row for a key that is not."""
    rows = dict(re.findall(r"^\| `([\w.\[\]]+)` \| (.*?) \|", (ROOT / "docs" / "configuration.md").read_text(), re.M))
    known = dict(keys(Config))
    assert rows.keys() == known.keys()
    for key, field in known.items():
        if not field.is_required() and field.default is not None:
            assert rows[key] == f"`{toml(field.default)}`", key


def test_shipped_configuration_names_every_key_that_is_built() -> None:
    """deploy/vitalcheck.toml shows every key, but for those whose feature would refuse to start."""
    text = (ROOT / "deploy" / "vitalcheck.toml").read_text()
    not_built = ("listener.tls.", "listener.peers[].port", "state.database", "state.max_age_days")
    shown = set(re.findall(r"^(?:# )?(\w+) = ", text, re.M)) | {"peers", "destinations"}
    assert {key.rpartition(".")[2] for key, _ in keys(Config) if not key.startswith(not_built)} <= shown
    assert tomllib.loads(text)


def test_every_command_and_option_is_documented() -> None:
    """docs/commands.md has a row for every command, and the row names each of its options."""
    rows = re.findall(r"^\| `(vitalcheck [^`]+)`", (ROOT / "docs" / "commands.md").read_text(), re.M)
    for words, command in commands(typer.main.get_command(app)):
        options = [option.opts[-1] for option in command.params if option.opts[-1].startswith("--")]
        row = next((row for row in rows if re.match(rf"{words}(?! [a-z])", row)), None)
        assert row, f"{words} has no row"
        assert not [option for option in options if option not in row], words


def test_every_make_target_is_documented() -> None:
    """docs/commands.md has a row for every target that `make help` shows."""
    documented = set(re.findall(r"^\| `make ([a-z-]+)", (ROOT / "docs" / "commands.md").read_text(), re.M))
    assert documented == targets() - {"help"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_only_what_exists(document: Path) -> None:
    """Targets, commands and linked files that a document names exist."""
    text = document.read_text()
    assert set(re.findall(r"(?:`|^\s*\$? *)make ([a-z][a-z-]*)", text, re.M)) <= targets()
    words = {command for command, _ in commands(typer.main.get_command(app))}
    for found in re.findall(r"`vitalcheck ([a-z]+)", text):
        assert any(command.split()[1] == found for command in words), found
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (document.parent / link).exists()] == []


def test_configurations_in_documents_load(tmp_path: Path) -> None:
    """Every TOML block that a document shows is a configuration that loads."""
    blocks = [
        (document, block) for document in DOCUMENTS for block in re.findall(r"^```toml\n(.*?)^```", document.read_text(), re.M | re.S)
    ]
    for document, block in blocks:
        path = tmp_path / f"{document.stem}.toml"
        path.write_text(block)
        assert load(path).listener.peers
    assert blocks
