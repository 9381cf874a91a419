"""The registry: weights come in only as the bytes that the gate saw."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from models import manifest as manifests
from models import registry
from models.manifest import ManifestError, Recipe

NAME = "brain_tumor_4class"


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A copy of the bundled model that a test may spoil."""
    shutil.copytree(registry.ZOO / NAME, tmp_path / NAME)
    return tmp_path


def spoil(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 0xFF]))


def test_bundled() -> None:
    """The bundled model loads, and its manifest holds the digests of its files."""
    model = registry.load(NAME)

    assert registry.problems(model.manifest, model.folder) == {}
    assert model.manifest.label_names == ("glioma", "meningioma", "pituitary", "notumor")


def test_unknown() -> None:
    """A model that is not installed is refused, and the installed ones are named."""
    with pytest.raises(registry.ModelRefused, match=f"'nonesuch' is not installed; installed: {NAME}"):
        registry.load("nonesuch")


def test_spoilt_fp32(zoo: Path) -> None:
    """An fp32 file with other bytes than its manifest says is refused."""
    spoil(zoo / NAME / "model_fp32.onnx")

    with pytest.raises(registry.ModelRefused, match="another sha256"):
        registry.load(NAME, zoo=zoo)


@pytest.mark.parametrize("spoilt", ["model_int8.onnx", "golden.npz"])
def test_spoilt_int8(zoo: Path, spoilt: str) -> None:
    """With a spoilt int8, or spoilt proofs of it, fp32 serves alone."""
    spoil(zoo / NAME / spoilt)

    assert registry.load(NAME, variant="int8", zoo=zoo).selector.variant == "fp32"


def test_rejected_int8(zoo: Path) -> None:
    """An int8 that the gate rejected, or never judged, is not served."""
    path = zoo / NAME / "manifest.toml"
    manifest = manifests.read(path)
    assert manifest.gate is not None
    for gate in (manifest.gate.model_copy(update={"verdict": "REJECTED"}), None):
        manifests.write(path, manifest.model_copy(update={"gate": gate}))

        assert registry.load(NAME, variant="int8", zoo=zoo).selector.variant == "fp32"


def test_round_trip(tmp_path: Path) -> None:
    """A manifest that is written is the one that is read."""
    manifest = registry.read(NAME)
    manifests.write(tmp_path / "manifest.toml", manifest)

    assert manifests.read(tmp_path / "manifest.toml") == manifest


def test_unknown_key(tmp_path: Path) -> None:
    """A manifest with a key that nobody knows is refused, and the key is named."""
    (tmp_path / "manifest.toml").write_text('name = "m"\nversion = "1"\nlabels = []\ncolour = "blue"\n')

    with pytest.raises(ManifestError, match="colour"):
        manifests.read(tmp_path / "manifest.toml")


def test_recipe_id() -> None:
    """Another number in the recipe is another recipe."""
    assert Recipe().id == Recipe().id != Recipe(percentile=99.0).id
