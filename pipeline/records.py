"""The vocabulary: every value that moves through the house, frozen, in the order the data meets them.

    Instance > Series > Study > Slices > Batch > Prediction > Finding > Report

Row *i* of Batch and Prediction is source *i*, so where an answer came from never gets lost.
No pydicom Dataset, pynetdicom Event or ONNX session ever sits in a record.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.language import ENGLISH, Language, Said, said

Pixels = NDArray[np.float32]
State = Literal["analysed", "declined"]
Call = Literal["present", "absent", "unsure"]
Variant = Literal["fp32", "int8"]
Agreement = Literal["agree", "differ", "not compared"]
Point = tuple[float, float]
"""(column, row) in pixels of the source image; (0, 0) is the outer corner of the first pixel (PS3.3 C.18.6.1)."""
Vector = tuple[float, float, float]
"""Along the axes of the patient: to the left, to the back, to the head (PS3.3 C.7.6.2.1.1); of a position in mm."""
Orientation = tuple[float, float, float, float, float, float]
"""Direction cosines of rows, of columns (PS3.3 C.7.6.2.1.1)."""
PlaneName = Literal["axial", "coronal", "sagittal", "unknown"]
Kind = Literal["summary", "measurements", "key-image", "presentation", "pdf"]
"""Of document. What a destination gets is said by these names, so they are never renamed."""
USUAL: tuple[Kind, ...] = ("summary", "measurements")


class Source(NamedTuple):
    """Where one slice comes from: an instance, and the frame (counted from 1) when the instance holds several."""

    sop_instance_uid: str
    frame: int | None = None


@dataclass(frozen=True, slots=True)
class Headers:
    """The few attributes that decisions need, named by their keywords (PS3.6); None or empty where the object does not say.

    They may hold free text of the study, so they never reach a log, a reason or a page.
    """

    patient: str = ""  # digest of Patient ID; empty where the object names none. Tells patients apart, names nobody
    patient_issuer: str = ""  # digest of the Patient ID's issuer
    patient_name: str = ""  # digest, and so are the next four: what must not differ within one study (pipeline/identity.py)
    patient_birth_date: str = ""
    patient_sex: str = ""
    study_date: str = ""
    accession_number: str = ""
    modality: str = ""
    body_part_examined: str = ""
    study_description: str = ""
    series_description: str = ""
    protocol_name: str = ""
    sequence_name: str = ""
    image_type: tuple[str, ...] = ()
    scanning_sequence: tuple[str, ...] = ()
    sequence_variant: tuple[str, ...] = ()
    acquisition_contrast: str = ""  # Enhanced MR: T1, T2, FLUID_ATTENUATED, DIFFUSION ... (PS3.3 C.8.13.3.1)
    echo_time: float | None = None  # ms
    repetition_time: float | None = None  # ms
    inversion_time: float | None = None  # ms
    diffusion_b_value: float | None = None  # s/mm2
    angio: bool = False  # Angio Flag, or a sequence variant that says so
    echo_planar: bool = False
    complex_image_component: str = ""  # Enhanced MR: MAGNITUDE, PHASE, REAL, IMAGINARY, MIXED (PS3.3 C.8.13.3.1.2)
    receive_coil_name: str = ""
    contrast_bolus_agent: str = ""
    series_number: int | None = None
    instance_number: int | None = None
    rows: int | None = None
    columns: int | None = None
    number_of_frames: int = 1
    samples_per_pixel: int | None = None
    photometric_interpretation: str = ""
    image_position_patient: Vector | None = None
    image_orientation_patient: Orientation | None = None
    planes: tuple[PlaneName, ...] = ()  # that frames of an Enhanced object lie in, each named once
    pixel_spacing: tuple[float, float] | None = None  # mm between rows, mm between columns
    slice_thickness: float | None = None  # mm
    has_pixels: bool = True


@dataclass(frozen=True, slots=True)
class Instance:
    """One SOP Instance as it lies in the spool."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: Path
    size: int  # bytes
    sha256: str
    received_at: float  # Unix seconds
    headers: Headers = field(default_factory=Headers)


@dataclass(frozen=True, slots=True)
class Series:
    uid: str
    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class Study:
    uid: str
    series: tuple[Series, ...]
    calling_ae: str = ""
    called_ae: str = ""

    @property
    def instances(self) -> tuple[Instance, ...]:
        return tuple(instance for series in self.series for instance in series.instances)

    @property
    def digest(self) -> str:
        """sha256 (hex) over the sorted (SOP Instance UID, sha256) pairs: the identity of this set of instances."""
        pairs = sorted((i.sop_instance_uid, i.sha256) for i in self.instances)
        return hashlib.sha256("\n".join(f"{uid} {sha}" for uid, sha in pairs).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A series that was not chosen. The reason, a Said, names a rule, never free text of the study."""

    series_uid: str
    series_number: int | None
    modality: str
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What `choose` decided: the series to read, or None and the reason; and why each other series was passed over."""

    series: Series | None
    reason: Said
    passed_over: tuple[PassedOver, ...] = ()
    expected: bool = False  # a head MR: a radiologist waits for an answer, so "not analysed, because" is sent


@dataclass(frozen=True, slots=True)
class Slices:
    """One series, decoded and ordered along its normal; row i of everything is slice i."""

    sources: tuple[Source, ...]
    pixels: Pixels  # (slice, row, column), modality units
    spacing: tuple[float, float] = (1.0, 1.0)  # mm between rows, mm between columns
    between: float | None = None  # mm between slice centres
    orientation: Orientation | None = None
    positions: tuple[float, ...] = ()  # mm along the normal, growing; empty where the objects do not say where they lie
    remarks: tuple[str, ...] = ()  # whole sentences, each Said, on what a reader must know of the stack: gaps, slices left out, tilt


@dataclass(frozen=True, slots=True)
class Affine:
    """From network pixels to source pixels, both (column, row) with 0 at the outer corner of the first pixel.

    What lies in the padding comes back as the nearest point of the source image.
    """

    xx: float
    xy: float
    x0: float
    yx: float
    yy: float
    y0: float
    columns: float = math.inf
    rows: float = math.inf

    def __call__(self, x: float, y: float) -> Point:
        column, row = self.xx * x + self.xy * y + self.x0, self.yx * x + self.yy * y + self.y0
        return min(max(column, 0.0), self.columns), min(max(row, 0.0), self.rows)


class Turn(NamedTuple):
    """From the slice as stored to the slice as displayed: transpose first, then mirror."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False


AS_STORED = Turn()
OBLIQUE = 5.0  # degrees; less than that is planned every day, and nobody calls it oblique
GAP = 1.5  # of the usual distance between slices: beyond it a slice is missing in between


@dataclass(frozen=True, slots=True)
class Geometry:
    """How the slices lie in the patient, and how they were turned for the network."""

    plane: PlaneName = "unknown"  # the nearest
    tilt: float = 0.0  # degrees between that plane and the slices
    turn: Turn = AS_STORED
    between: float | None = None  # mm between slice centres, their median
    positions: tuple[float, ...] = ()  # mm along the normal
    remarks: tuple[str, ...] = ()  # as in Slices

    def told(self, slices: int) -> Said:
        """In words: "24 axial slices 6.0 mm apart", "1 sagittal slice", "20 coronal slices 5.0 mm apart, 12 degrees oblique"."""
        told = said(f"stack.{self.plane}", count=slices)
        if self.between and slices > 1:
            told = said("stack.apart", slices=told, between=float(self.between))
        return said("stack.oblique", stack=told, degrees=round(self.tilt)) if self.tilt >= OBLIQUE else told


@dataclass(frozen=True, slots=True)
class Batch:
    """What the network eats."""

    sources: tuple[Source, ...]
    tensor: Pixels  # (slice, channel, size, size), C-contiguous
    head_area: Pixels  # (slice,), share of the square that is not background
    to_source: Affine
    recipe_id: str
    geometry: Geometry = Geometry()


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the network said, row by row."""

    sources: tuple[Source, ...]
    logits: Pixels  # (slice, label)
    evidence: Pixels | None  # (slice, label, row, column)
    head_area: Pixels  # (slice,)
    to_source: Affine
    variant: Variant  # the one whose logits these are
    agreement: Agreement
    compared: int = 0  # slices that both variants read
    differing: int = 0  # of these, slices whose label differed
    geometry: Geometry = Geometry()
    recipe_id: str = ""
    environment: tuple[str, ...] = ()  # what computed it: runtime, kind of CPU


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer for one study. Not calibrated on whole studies: the card says so, and so does the report."""

    label: str
    call: Call
    probability: float
    probabilities: Mapping[str, float]
    key_sources: tuple[Source, ...]  # best first
    region: tuple[Point, ...] = ()  # closed polygon on the first key source; empty without evidence maps
    suspect_sources: tuple[Source, ...] = ()  # slices with more evidence for a tumour than for none, in the stack's order
    unlike: tuple[str, ...] = ()  # in what the pictures are unlike those that the model learned from; then the call is unsure


@dataclass(frozen=True, slots=True)
class Predecessor:
    """A document of an earlier result of the study; the new one of its kind replaces it."""

    kind: Kind
    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    instances: int  # of the study, that its result was made from


@dataclass(frozen=True, slots=True)
class Order:
    """How the documents of an answer are wanted."""

    documents: frozenset[Kind] = frozenset(USUAL)
    language: Language = ENGLISH  # of the Summary and what shows it; the Measurements are English
    institution: str = ""  # whose node this is
    replaces: tuple[Predecessor, ...] = ()  # documents of earlier results on fewer instances


@dataclass(frozen=True, slots=True)
class Document:
    """One DICOM object of a result, made once, kept, and sent as often as it takes."""

    kind: Kind
    sop_instance_uid: str
    sop_class_uid: str
    data: bytes = field(repr=False)  # encoded Part 10 file


@dataclass(frozen=True, slots=True)
class Report:
    """The answer for one study: what `analyze --json`, the ledger and the PACS get to know."""

    study_uid: str
    state: State
    reason: str | None
    model: str  # name and version
    choice: Choice
    finding: Finding | None = None
    variant: Variant | None = None
    agreement: Agreement = "not compared"
    documents: tuple[Document, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    geometry: Geometry | None = None  # of the slices that were read
    slices: int = 0  # how many these are
    recipe: str = ""  # id of the one that prepared them
