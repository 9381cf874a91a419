"""What an artifact says about itself: how to feed it, what its outputs mean, where its bytes are, what the gate said.

`manifest.toml` beside the ONNX files is the only place where these numbers stand; `prepare.py` and `aggregate.py` own none.
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import tomli_w
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator


class ManifestError(Exception):
    """A manifest that cannot be read or does not say enough; the message names the file and the key."""


FileName = Annotated[str, Field(pattern=r"^[^/\\]+$")]  # beside the manifest


Trait = Literal["share", "brightness", "contrast", "sharpness"]  # of the head on a prepared slice (pipeline/typical.py)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _at_most(most: int) -> AfterValidator:
    """A text that a coded entry may hold (PS3.5 6.2: SH has 16 characters, LO 64)."""

    def check(text: str) -> str:
        if not text.strip() or len(text) > most or "\\" in text or not text.isprintable():
            raise ValueError(f"{text!r}: a code holds 1 to {most} characters here, no backslash, in one line")
        return text

    return AfterValidator(check)


Share = Annotated[float, Field(ge=0, le=1)]
Plane = Literal["axial", "coronal", "sagittal"]
ShortText = Annotated[str, _at_most(16)]
LongText = Annotated[str, _at_most(64)]


class Window(NamedTuple):
    """What of the Hounsfield scale one channel shows (PS3.3 C.11.2.1.2): the middle becomes 0.5, both ends 0 and 1."""

    level: float  # HU
    width: float  # HU


class Recipe(_Frozen):
    """How pixels become a tensor. Training and serving use the same one; its id stands in every result.

    Without windows intensities are normalised for the volume as a whole, every channel the same (MR has no unit). With windows pixels
    are in Hounsfield units, and each channel shows one window (CT).
    """

    size: Annotated[int, Field(ge=16, le=1024)] = 224  # pixels, square
    channels: Annotated[int, Field(ge=1, le=16)] = 3
    foreground: Annotated[float, Field(ge=0, lt=1)] = 0.05  # of the 99.9th percentile; below it is background
    percentile: Annotated[float, Field(gt=0, le=100)] = 99.5  # of the foreground; this intensity becomes 1.0, volume-wise
    mean: float = 0.3
    std: Annotated[float, Field(gt=0)] = 0.25
    canonical: bool = True  # turn to radiological display orientation where the object says how it lies
    offset: float = 0.15  # of the 99.9th percentile; a volume whose darkest voxels are above it, or negative, stands on an offset
    windows: tuple[Window, ...] = ()  # one for each channel
    air: float = -500.0  # HU; below it is no head. Asked for with windows only

    @property
    def id(self) -> str:
        """First 16 hex digits of the sha256 of the recipe's canonical JSON.

        Fields that came later count only where they say something: they change no tensor of a recipe that leaves them alone. (The offset
        is below the recipe's share in each of the 3319 pictures and volumes that the bundled network learnt from; 0.115 is the highest.)
        """
        unsaid = {name for name in ("offset", "windows", "air") if getattr(self, name) == type(self).model_fields[name].default}
        return hashlib.sha256(self.model_dump_json(exclude=unsaid).encode()).hexdigest()[:16]

    @model_validator(mode="after")
    def _one_window_for_each_channel(self) -> Self:
        if self.windows and len(self.windows) != self.channels:
            raise ValueError(f"windows: {len(self.windows)} for {self.channels} channels; give one [level, width] for each channel")
        if any(window.width <= 0 for window in self.windows):
            raise ValueError("windows: a width is above 0 HU; write each as [level, width]")
        return self


class Rules(_Frozen):
    """Which series of a study the model may read (`pipeline/choose.py`), beside its modality, sequence and body part."""

    contrast: Literal["prefer", "require", "avoid", "ignore"] = "prefer"  # series after contrast
    planes: Annotated[list[Plane], Field(min_length=1)] = ["axial", "coronal", "sagittal"]  # the nearest, so oblique ones count
    fewest_slices: Annotated[int, Field(ge=1)] = 1
    enough_slices: Annotated[int, Field(ge=1)] = 12  # beyond it more slices are no reason to prefer a series
    coarsest_pixel: Annotated[float, Field(gt=0)] = 5.0  # mm, the wider side
    widest_step: Annotated[float, Field(gt=0)] = 25.0  # mm from slice to slice


class StudyRule(_Frozen):
    """From slices to one finding (`pipeline/aggregate.py`). Not calibrated on whole studies yet."""

    smallest_head: Share = 0.4  # of the study's largest head area: vertex and neck slices below it are not asked
    neighbour_mm: Annotated[float, Field(gt=0)] = 5.0  # a tumour is still there this far along the normal, a false cell is not
    raised: Annotated[float, Field(ge=0, le=0.5)] = 0.4  # how far the better neighbour lifts a cell; it lowers one half of the way
    around_mm: Annotated[float, Field(gt=0)] = 20.0  # key slices: the evidence of each cell is averaged so far along the normal,
    around_cells: Annotated[int, Field(ge=1)] = 12  # and the strongest of these means decide
    strongest: Annotated[int, Field(ge=1)] = 3  # slices whose mean decides
    strongest_cells: Annotated[int, Field(ge=1)] = 6  # of the evidence map, as in the network's own pooling
    doubt: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)  # label: how much more evidence than 0 it must show
    outline: Annotated[float, Field(ge=0, lt=1)] = 0.5  # a region ends where evidence falls below this share of its strongest cell
    temperature: Annotated[float, Field(gt=0)] = 1.0
    present: Share = 0.65  # probability of any tumour from which on a finding is present
    absent: Share = 0.35  # and below which it is absent; unsure in between

    @model_validator(mode="after")
    def _absent_below_present(self) -> Self:
        if self.absent > self.present:
            raise ValueError(f"absent {self.absent:g} is above present {self.present:g}; between them a finding is unsure")
        return self


class Label(_Frozen):
    """A label of the network and the concept it stands for (PS3.16 8: code value, coding scheme designator, code meaning)."""

    name: str
    value: ShortText
    scheme: ShortText
    meaning: LongText


class Coded(_Frozen):
    """A concept: code value, coding scheme designator, code meaning (PS3.16 8)."""

    value: ShortText
    scheme: ShortText
    meaning: LongText


class Words(_Frozen):
    """What reports call that which the model looks for, and its codes. Unless told, the bundled model's: brain tumours."""

    finding: str = "a brain tumour"  # with its article, where it has one
    absent: str = "no tumour"  # the absent label, within a sentence
    any: Coded = Coded(value="108369006", scheme="SCT", meaning="Neoplasm")  # whose presence is denied, or left open, by the coded report
    site: Coded = Coded(value="1101003", scheme="SCT", meaning="Intracranial")  # where it would be


class Artifact(_Frozen):
    file: FileName
    sha256: str
    bytes: int


class Golden(_Frozen):
    """Inputs and the logits that both variants gave at the gate; every process replays them on its own CPU."""

    file: FileName
    sha256: str
    tolerance: float  # largest |logit difference| that rounding explains


class GateVerdict(_Frozen):
    verdict: Literal["APPROVED", "REJECTED"]
    reasons: list[str] = Field(default_factory=list)  # why it was rejected
    remarks: list[str] = Field(default_factory=list)  # what the numbers do not show, or not well; they reject nothing
    judged: str = ""  # ISO date
    fp32_sha256: str = ""
    int8_sha256: str = ""
    metrics: dict[str, float] = Field(default_factory=dict)


class DataSource(_Frozen):
    name: str
    licence: str
    citation: str


class Manifest(_Frozen):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]  # stands in logs, metrics and reports
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,31}$")]
    modality: Literal["CT", "MR"] = "MR"
    sequence: str = "T1"
    body_part: str = "head"
    labels: list[Label]
    absent: str = "notumor"  # the label that means none of the others
    words: Words = Words()
    recipe_id: str = ""  # of the recipe that the artifacts were trained with; another recipe wants other artifacts
    recipe: Recipe = Recipe()
    rules: Rules = Rules()
    rule: StudyRule = StudyRule()
    typical: dict[Trait, tuple[float, float]] = Field(default_factory=dict)  # low, high of nearly all slices that it learnt from
    artifacts: dict[Literal["fp32", "int8"], Artifact] = Field(default_factory=dict)
    golden: Golden | None = None
    gate: GateVerdict | None = None
    learned_from: list[DataSource] = Field(default_factory=list)
    taught_by: Annotated[int, Field(ge=0)] = 0  # other networks, after its own training (models/training/teachers.py)
    limits: list[str] = Field(default_factory=list)  # whole sentences; they stand in card and report

    @model_validator(mode="after")
    def _labels_say_enough(self) -> Self:
        names = self.label_names
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError("labels: two at least, each with its own name, in the order of the network's outputs")
        if self.absent not in names:
            raise ValueError(
                f"absent: {self.absent!r} is none of the labels {', '.join(names)}; name the one that means none of the others"
            )
        return self

    @model_validator(mode="after")
    def _doubted_are_labels(self) -> Self:
        if wrong := self.rule.doubt.keys() - (set(self.label_names) - {self.absent}):
            raise ValueError(f"rule.doubt: {', '.join(sorted(wrong))}: name labels that something may be, of {', '.join(self.label_names)}")
        return self

    @model_validator(mode="after")
    def _ranges_have_two_ends(self) -> Self:
        if wrong := [name for name, (low, high) in self.typical.items() if low > high]:
            raise ValueError(f"typical: {', '.join(wrong)}: the low end is above the high one; write each as [low, high]")
        return self

    @property
    def id(self) -> str:
        """First 16 hex digits of the sha256 over everything that shapes an answer: what a file was judged by does not."""
        silent: dict[str, Any] = dict.fromkeys(("gate", "golden", "taught_by"), True)
        silent |= {} if self.typical else {"typical": True}  # a field that came later counts where it says something
        silent |= {} if self.rule.doubt else {"rule": {"doubt"}}
        return hashlib.sha256(self.model_dump_json(exclude=silent).encode()).hexdigest()[:16]

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
    except ValidationError as error:
        said = ((".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) for e in error.errors())
        raise ManifestError(f"{path}: {'; '.join(f'{key}: {what}' if key else what for key, what in said)}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ManifestError(f"{path}: {error}") from error


def write(path: Path, manifest: Manifest) -> None:
    """Writes `manifest` whole or not at all."""
    content: dict[str, Any] = manifest.model_dump(exclude_none=True)
    if not manifest.rule.doubt:
        del content["rule"]["doubt"]  # an empty table tells nothing
    part = path.with_suffix(".part")
    part.write_text(tomli_w.dumps(content))
    part.replace(path)


def sha256(path: Path) -> str:
    """sha256 (hex) of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
