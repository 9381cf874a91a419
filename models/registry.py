"""Weights come in here and nowhere else: a folder of the zoo -> a Model whose bytes are those that the gate saw."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from models import manifest as manifests
from models.manifest import Artifact, Golden, Manifest, ManifestError
from models.runtime import Session
from models.selector import AdaptiveModelSelector, GoldenVectors, NoVariant

ZOO = Path(__file__).parent / "zoo"
Wanted = Literal["auto", "int8", "fp32"]


class ModelRefused(Exception):
    """A model that must not answer; one line says which, why, and how to mend it."""


@dataclass(frozen=True)
class Model:
    """What the pipeline needs of a model."""

    manifest: Manifest
    selector: AdaptiveModelSelector
    folder: Path
    shadow_rate: float = 0.1  # of whole studies


def names(zoo: Path = ZOO) -> list[str]:
    """The models that are installed."""
    return sorted(path.parent.name for path in zoo.glob("*/manifest.toml"))


def read(name: str, zoo: Path = ZOO) -> Manifest:
    """The manifest of an installed model. Raises ModelRefused."""
    if name not in names(zoo):
        raise ModelRefused(f"model {name!r} is not installed; installed: {', '.join(names(zoo)) or 'none'}")
    try:
        return manifests.read(zoo / name / "manifest.toml")
    except ManifestError as error:
        raise ModelRefused(str(error)) from error


def load(name: str, *, variant: Wanted = "auto", threads: int = 2, shadow_rate: float = 0.1, zoo: Path = ZOO) -> Model:
    """The model, ready to answer. Raises ModelRefused when its bytes are not those of the manifest or nothing can run.

    int8 is offered to the selector only when the gate approved exactly these files; fp32 serves without it.
    """
    manifest, folder = read(name, zoo), zoo / name
    wrong = problems(manifest, folder)
    if "fp32" in wrong:
        raise ModelRefused(f"model {name}: {wrong['fp32']}; put the file of the release back, or train again")
    offered = manifest.approved and not {"int8", "golden"} & wrong.keys()
    selector = AdaptiveModelSelector(
        folder / manifest.artifacts["int8"].file if offered else None,
        folder / manifest.artifacts["fp32"].file,
        golden=golden(manifest.golden, folder) if manifest.golden and "golden" not in wrong else None,
        loader=partial(Session, threads=threads),
    )
    try:
        selector.initialize(prefer_quantized=variant != "fp32", race=variant == "auto")
    except NoVariant as error:
        raise ModelRefused(f"model {name}: {error}") from error
    return Model(manifest, selector, folder, shadow_rate)


def problems(manifest: Manifest, folder: Path) -> dict[str, str]:
    """What is wrong with the files of a model, by artifact: missing, or another sha256 than the manifest's."""
    files = {"fp32": manifest.artifacts.get("fp32"), "int8": manifest.artifacts.get("int8"), "golden": manifest.golden}
    found = {key: _problem(entry, folder) for key, entry in files.items()}
    return {key: problem for key, problem in found.items() if problem}


def _problem(entry: Artifact | Golden | None, folder: Path) -> str | None:
    if entry is None:
        return "not in the manifest"
    path = folder / entry.file
    if not path.is_file():
        return f"{path} is missing"
    return None if manifests.sha256(path) == entry.sha256 else f"{path} has another sha256 than the manifest says"


def golden(entry: Golden, folder: Path) -> GoldenVectors:
    """The golden vectors of a model."""
    with np.load(folder / entry.file) as arrays:
        return GoldenVectors(arrays["image"], {"fp32": arrays["fp32"], "int8": arrays["int8"]}, entry.tolerance)
