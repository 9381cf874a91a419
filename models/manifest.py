"""What an artifact says about itself: how to feed it, what its outputs mean, where its bytes are, what the gate said.

`manifest.toml` beside the ONNX files is the only place where these numbers stand; `prepare.py` and `aggregate.py` own none.
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError


class ManifestError(Exception):
    """A manifest that cannot be read or does not say enough; the message names the file and the key."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Recipe(_Frozen):
    """How pixels become a tensor. Training and serving use the same one; its id stands in every result."""

    size: int = 224  # pixels, square
    channels: int = 3
    foreground: float = 0.05  # of the 99.9th percentile; below it is background
    percentile: float = 99.5  # of the foreground; this intensity becomes 1.0, volume-wise
    mean: float = 0.3
    std: float = 0.25
    canonical: bool = True  # turn to radiological display orientation where the object says how it lies

    @property
    def id(self) -> str:
        """First 16 hex digits of the sha256 of the recipe's canonical JSON."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


class StudyRule(_Frozen):
    """From slices to one finding (`pipeline/aggregate.py`). Not calibrated on whole studies yet."""

    smallest_head: float = 0.4  # of the study's largest head area: vertex and neck slices below it are not asked
    neighbour_mm: float = 5.0  # a tumour is still there this far along the normal, a false cell is not
    strongest: int = 3  # slices whose mean decides
    strongest_cells: int = 6  # of the evidence map, as in the network's own pooling
    temperature: float = 1.0
    present: float = 0.65  # probability of any tumour from which on a finding is present
    absent: float = 0.35  # and below which it is absent; unsure in between


class Label(_Frozen):
    """A label of the network and the concept it stands for (PS3.16 8: code value, coding scheme designator, code meaning)."""

    name: str
    value: str
    scheme: str
    meaning: str


class Artifact(_Frozen):
    file: str
    sha256: str
    bytes: int


class Golden(_Frozen):
    """Inputs and the logits that both variants gave at the gate; every process replays them on its own CPU."""

    file: str
    sha256: str
    tolerance: float  # largest |logit difference| that rounding explains


class GateVerdict(_Frozen):
    verdict: Literal["APPROVED", "REJECTED"]
    reasons: list[str] = Field(default_factory=list)
    judged: str = ""  # ISO date
    fp32_sha256: str = ""
    int8_sha256: str = ""
    metrics: dict[str, float] = Field(default_factory=dict)


class DataSource(_Frozen):
    name: str
    licence: str
    citation: str


class Manifest(_Frozen):
    name: str
    version: str
    modality: str = "MR"
    sequence: str = "T1"
    body_part: str = "head"
    labels: list[Label]
    absent: str = "notumor"  # the label that means none of the others
    recipe: Recipe = Recipe()
    rule: StudyRule = StudyRule()
    artifacts: dict[Literal["fp32", "int8"], Artifact] = Field(default_factory=dict)
    golden: Golden | None = None
    gate: GateVerdict | None = None
    learned_from: list[DataSource] = Field(default_factory=list)
    limits: list[str] = Field(default_factory=list)  # whole sentences; they stand in card and report

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @property
    def approved(self) -> bool:
        """True only when the gate approved exactly these bytes."""
        gate, files = self.gate, self.artifacts
        return (
            gate is not None
            and gate.verdict == "APPROVED"
            and {"fp32", "int8"} <= files.keys()
            and (gate.fp32_sha256, gate.int8_sha256) == (files["fp32"].sha256, files["int8"].sha256)
        )


def read(path: Path) -> Manifest:
    """The manifest at `path`. Raises ManifestError."""
    try:
        return Manifest.model_validate(tomllib.loads(path.read_text()))
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: no manifest there; a model is a folder with manifest.toml beside its ONNX files") from error
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise ManifestError(f"{path}: {error}") from error


def write(path: Path, manifest: Manifest) -> None:
    """Writes `manifest` whole or not at all."""
    content: dict[str, Any] = manifest.model_dump(exclude_none=True)
    part = path.with_suffix(".part")
    part.write_text(tomli_w.dumps(content))
    part.replace(path)


def sha256(path: Path) -> str:
    """sha256 (hex) of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
