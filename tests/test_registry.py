"""The registry: weights come in only as the bytes that the gate saw."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from listener import selftest
from models import manifest as manifests
from models import registry
from models.manifest import Artifact, Coded, Label, Manifest, ManifestError, Recipe, Rules, StudyRule, Words

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


# --- recipes ----------------------------------------------------------------------------------------------------------


def test_recipe_of_the_bundled_files() -> None:
    """The bundled files were trained with the recipe that stands in their manifest."""
    manifest = registry.read(NAME)

    assert manifest.recipe_id == manifest.recipe.id


@pytest.mark.parametrize("change", [{"mean": 0.4}, {"offset": 0.3}, {"canonical": False}])
def test_recipe_changed(zoo: Path, change: dict[str, float]) -> None:
    """A recipe that is not the one that the files were trained with is refused."""
    path = zoo / NAME / "manifest.toml"
    manifest = manifests.read(path)
    manifests.write(path, manifest.model_copy(update={"recipe": manifest.recipe.model_copy(update=change)}))

    with pytest.raises(registry.ModelRefused, match=r"its recipe was changed after training \(it is \w{16} now, trained was \w{16}\)"):
        registry.load(NAME, zoo=zoo)


def test_recipe_of_the_file(zoo: Path) -> None:
    """A manifest that claims another recipe as the trained one is refused by the file itself, which knows its own."""
    path = zoo / NAME / "manifest.toml"
    manifest = manifests.read(path)
    other = manifest.recipe.model_copy(update={"mean": 0.4})
    manifests.write(path, manifest.model_copy(update={"recipe": other, "recipe_id": other.id}))

    with pytest.raises(registry.ModelRefused, match=f"was trained with recipe {manifest.recipe.id}, its manifest has {other.id}"):
        registry.load(NAME, zoo=zoo)


def test_recipe_not_said(zoo: Path) -> None:
    """A manifest that does not say with which recipe its files were trained is refused, and told what to write."""
    path = zoo / NAME / "manifest.toml"
    manifest = manifests.read(path)
    manifests.write(path, manifest.model_copy(update={"recipe_id": ""}))

    with pytest.raises(registry.ModelRefused, match=f'recipe_id = "{manifest.recipe.id}"'):
        registry.load(NAME, zoo=zoo)


def test_unsaid_is_no_part_of_a_recipe() -> None:
    """Windows of CT change the id of a recipe that has them and of no other."""
    windows = ((40, 80), (80, 200), (600, 2800))

    assert Recipe(windows=()).id == Recipe(air=-500.0).id == Recipe().id == "db2ad5809da9004a"
    assert len({Recipe().id, Recipe(windows=windows).id, Recipe(windows=windows, air=-300.0).id, Recipe(windows=windows[::-1]).id}) == 4


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("channels = 3\nwindows = [[40, 80]]", "recipe: windows: 1 for 3 channels; give one [level, width] for each channel"),
        ("channels = 3\nwindows = [[40, 80], [80, 0], [600, 2800]]", "recipe: windows: a width is above 0 HU"),
        ("std = 0.0", "recipe.std: Input should be greater than 0"),
        ("mean = nan", "recipe.mean: Input should be a finite number"),
    ],
)
def test_recipe_that_cannot_be(tmp_path: Path, line: str, said: str) -> None:
    """A recipe that nothing could be prepared by is refused in one line that names the key."""
    text = (registry.ZOO / NAME / "manifest.toml").read_text()
    said_anew = {row.partition(" ")[0] for row in line.splitlines()}
    kept = "\n".join(row for row in text.splitlines() if row.partition(" ")[0] not in said_anew)
    (tmp_path / "manifest.toml").write_text(kept.replace("[recipe]", f"[recipe]\n{line}"))

    with pytest.raises(ManifestError) as refused:
        manifests.read(tmp_path / "manifest.toml")

    assert str(refused.value).startswith(f"{tmp_path / 'manifest.toml'}: {said}")
    assert "\n" not in str(refused.value)


IMPOSSIBLE = [
    ("temperature", -1.0), ("temperature", 0.0), ("strongest", 0), ("strongest_cells", -2), ("smallest_head", 2.0), ("neighbour_mm", 0.0),
    ("present", 65.0), ("absent", -0.1),
]  # fmt: skip


def wrong(value: str) -> Coded:
    """A code that no report can hold."""
    return Words().any.model_copy(update={"value": value})


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ({"absent": "healthy"}, "absent: 'healthy' is none of the labels glioma"),
        ({"name": "../elsewhere"}, "name: String should match pattern"),
        ({"labels": []}, "labels: two at least"),
        ({"rule": StudyRule(doubt={"pituitry": 1.0})}, "rule.doubt: pituitry: name labels that something may be"),
        *(({"rule": StudyRule().model_copy(update={key: value})}, f"rule.{key}: Input should be") for key, value in IMPOSSIBLE),
        ({"rule": StudyRule().model_copy(update={"absent": 0.8})}, "rule: absent 0.8 is above present 0.65"),
        ({"rules": Rules().model_copy(update={"planes": []})}, "rules.planes: List should have at least 1 item"),
        ({"modality": "mr"}, "modality: Input should be 'CT' or 'MR'"),
        ({"recipe": Recipe().model_copy(update={"percentile": 150.0})}, "recipe.percentile: Input should be less than or equal to 100"),
        ({"recipe": Recipe().model_copy(update={"foreground": -0.1})}, "recipe.foreground: Input should be greater than or equal to 0"),
        *(({"words": Words().model_copy(update={"any": wrong(code)})}, "a code holds 1 to") for code in (" ", "a\\b", "a\nb", "1" * 17)),
    ],
)
def test_manifest_that_cannot_be(tmp_path: Path, update: dict[str, object], said: str) -> None:
    """A manifest that contradicts itself, or whose name cannot stand in logs and paths, is refused."""
    manifests.write(tmp_path / "manifest.toml", registry.read(NAME).model_copy(update=update))

    with pytest.raises(ManifestError, match=re.escape(said)):
        manifests.read(tmp_path / "manifest.toml")


def test_a_rule_that_doubts_nothing_is_the_rule_of_before() -> None:
    """Models that nobody doubts keep the id that they had before labels could be doubted; a doubt is another model."""
    manifest = registry.read(NAME)
    rules = (manifest.rule.model_copy(update={"doubt": by}) for by in ({}, {"glioma": 1.0}))
    alone, doubted = (manifest.model_copy(update={"rule": rule}) for rule in rules)
    older = json.loads(alone.model_dump_json(exclude={"gate", "golden", "taught_by"}))
    del older["rule"]["doubt"]
    said = json.dumps(older, separators=(",", ":"), ensure_ascii=False)
    assert alone.id == hashlib.sha256(said.encode()).hexdigest()[:16] != doubted.id


# --- models from elsewhere --------------------------------------------------------------------------------------------


def test_by_path(zoo: Path) -> None:
    """A folder with a manifest beside its files is a model, wherever it lies."""
    assert registry.load(f"{zoo}/{NAME}").manifest == registry.read(NAME)


def test_folder_without_manifest(tmp_path: Path) -> None:
    """A folder that is no model is refused, and the file that is missing is named."""
    with pytest.raises(registry.ModelRefused, match=r"no manifest there; a model is a folder with manifest\.toml beside its ONNX files"):
        registry.load(f"{tmp_path}/")


def test_one_name_twice(zoo: Path) -> None:
    """Two models with one name are refused: a report could not say which one answered."""
    with pytest.raises(registry.ModelRefused, match=f"two models are called {NAME}"):
        registry.load_all([NAME, f"{zoo}/{NAME}"])


def test_fp32_alone(zoo: Path) -> None:
    """Without int8, golden vectors and gate a model loads, and fp32 answers."""
    path = zoo / NAME / "manifest.toml"
    manifest = manifests.read(path)
    alone = {"fp32": manifest.artifacts["fp32"]}
    manifests.write(path, manifest.model_copy(update={"artifacts": alone, "golden": None, "gate": None}))

    model = registry.load(NAME, zoo=zoo)

    assert (model.selector.variant, registry.problems(model.manifest, model.folder)) == ("fp32", {})
    said = {row.what.removeprefix(f"{NAME} "): row.verdict for row in selftest.examine(NAME, zoo)}
    assert said == {"recipe": "ok", "fp32 file": "ok", "fp32 self-test": "note", "gate": "note"}


def small(folder: Path, **change: Any) -> Path:
    """A model of one convolution that fits its manifest, but for `change`: what the file takes and gives."""
    kind = {"name": "image", "type": TensorProto.FLOAT, "batch": "batch", "channels": 3, "size": 32, "labels": 2, "cells": 4} | change
    size, labels, channels = kind["size"], kind["labels"], kind["channels"]
    weight = np.full((labels, channels, size // kind["cells"], size // kind["cells"]), 0.01, np.float32)
    nodes = [
        helper.make_node("Cast", [kind["name"]], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["float", "weight"], ["evidence"], strides=list(weight.shape[2:])),
        helper.make_node("ReduceMax", ["evidence"], ["logits"], axes=[2, 3], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info(kind["name"], kind["type"], [kind["batch"], channels, size, size])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("logits", "evidence")]
    graph = helper.make_graph(nodes, "small", inputs, outputs, [numpy_helper.from_array(weight, "weight")])
    folder.mkdir()
    path = folder / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    recipe = Recipe(size=32)
    files = {"fp32": Artifact(file=path.name, sha256=manifests.sha256(path), bytes=path.stat().st_size)}
    names = [Label(name=name, value="1", scheme="99X", meaning=name) for name in ("something", "notumor")]
    manifests.write(
        folder / "manifest.toml",
        Manifest(name="small", version="1", labels=names, recipe=recipe, recipe_id=recipe.id, artifacts=files),
    )
    return folder


def test_any_onnx_file(tmp_path: Path) -> None:
    """A manifest beside any ONNX file that takes and gives what it says makes a model."""
    assert registry.load(str(small(tmp_path / "small"))).selector.variant == "fp32"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"channels": 1}, "takes 1 x 32 x 32 a slice, its manifest's recipe gives 3 x 32 x 32 (channels, size, size)"),
        ({"size": 64}, "takes 3 x 64 x 64 a slice"),
        ({"batch": 1}, "takes batches of 1 and no others"),
        ({"name": "pixels"}, "takes pixels tensor(float), not one float32 input named image"),
        ({"type": TensorProto.FLOAT16}, "takes image tensor(float16), not one float32 input named image"),
        ({"labels": 4}, "gives float32 logits of (2, 4) for two slices, its manifest has 2 labels"),
        ({"cells": 1}, "gives evidence of (2, 2, 1, 1) for two slices, not (2, 2, rows, columns)"),
    ],
)
def test_file_that_does_not_fit(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """A file that takes or gives something else than its manifest says is refused when it is loaded, with what it takes or gives."""
    with pytest.raises(registry.ModelRefused, match=re.escape(said)):
        registry.load(str(small(tmp_path / "small", **change)))


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ({"modality": "CT"}, "CT is read through windows of Hounsfield units"),
        ({"recipe": Recipe(size=32, windows=[[40, 80]] * 3)}, "recipe.windows are in Hounsfield units, which MR does not have"),
    ],
)
def test_windows_are_for_ct(tmp_path: Path, update: dict[str, Any], said: str) -> None:
    """CT is prepared by windows, and nothing else is."""
    folder = small(tmp_path / "small")
    manifests.write(folder / "manifest.toml", registry.read(str(folder)).model_copy(update=update))

    with pytest.raises(registry.ModelRefused, match=re.escape(said)):
        registry.load(str(folder))
