"""traits: headers -> what a series is, and by which evidence. Judges nothing: what a model wants of it stands in its manifest.

One series may hold pictures of several kinds (magnitude and phase, several echoes, b = 0 and b = 1000), so all instances are looked at.
Physics goes before words where the two cannot both be true: an echo-planar readout, a b-value and a long echo time stay what they are
whatever the description says.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter

from pipeline import vocabulary as words
from pipeline.orientation import dot, normal, plane
from pipeline.records import Headers, Instance, PlaneName, Series
from pipeline.sop_classes import SLICES, is_secondary_capture

_KIND = attrgetter(
    *("modality", "body_part_examined", "study_description", "series_description", "protocol_name", "sequence_name", "image_type"),
    *("scanning_sequence", "sequence_variant", "acquisition_contrast", "echo_time", "repetition_time", "inversion_time"),
    *("diffusion_b_value", "angio", "echo_planar", "complex_image_component", "receive_coil_name", "contrast_bolus_agent"),
    *("samples_per_pixel", "photometric_interpretation"),
)
MODALITIES = frozenset({  # PS3.16 CID 29, 32 and 33; what else an object claims to be is not repeated
    "AR", "ASMT", "AU", "BDUS", "BI", "BMD", "CFM", "CR", "CT", "CTPROTOCOL", "DG", "DMS", "DOC", "DX", "ECG", "EEG", "EMG", "EOG",
    "EPS", "ES", "FID", "GM", "HC", "HD", "IO", "IOL", "IVOCT", "IVUS", "KER", "KO", "LEN", "LS", "M3D", "MG", "MR", "NM", "OAM", "OCT",
    "OP", "OPM", "OPT", "OPTBSV", "OPTENF", "OPV", "OSS", "OT", "PA", "PLAN", "POS", "PR", "PT", "PX", "REG", "RESP", "RF", "RG",
    "RTDOSE", "RTIMAGE", "RTINTENT", "RTPLAN", "RTRAD", "RTRECORD", "RTSEGANN", "RTSTRUCT", "RWV", "SC", "SEG", "SM", "SMR", "SR",
    "SRF", "STAIN", "TEXTUREMAP", "TG", "US", "VA", "XA", "XAPROTOCOL", "XC",
})  # fmt: skip
_SAYS_NOTHING = frozenset({  # as values of BodyPartExamined
    "", "SPECIAL", "OTHER", "UNKNOWN", "UNSPECIFIED", "UNDEFINED", "DEFAULT", "NONE", "NA", "N/A", "WHOLEBODY", "WHOLE BODY", "BODY",
    "PHANTOM",
})  # fmt: skip
_NO_AGENT = frozenset({"", "NO", "NONE", "N", "NO CONTRAST", "WITHOUT", "NOT APPLICABLE", "N/A", "NA", "0"})
_LONG_COIL = re.compile("neck|hn|nv|ctl|spin", re.IGNORECASE)
_HEAD_LENGTH, _HEAD_WIDTH = 200.0, 110.0  # mm; pictures of an orbit or a sinus are smaller, or fewer
_LATE_ECHO = 60.0  # ms; no T1-weighted sequence waits that long
_LATE_GRADIENT_ECHO = 12.0  # ms; T2* has been at work by then


@dataclass(frozen=True, slots=True)
class Traits:
    """What the instances of one kind are. Names are those of `vocabulary`; evidence names an attribute, never what it says."""

    kind: str  # "" for slices as acquired, else what they are instead
    weighting: str  # "T1", "diffusion" ...; "" where nothing tells
    weighting_by: str
    region: str  # "head", "knee", "another body part"; "" where nothing tells
    region_by: str
    contrast: int  # 1 after, -1 before, 0 not said
    original: bool
    grey: bool
    slice: bool  # of a SOP class for slices of MR or CT


@dataclass(frozen=True, slots=True)
class Seen:
    """One series as it shows itself."""

    series: Series
    number: int | None
    modality: str  # "" where none is said, "?" where it is none of the standard's
    kinds: tuple[tuple[Traits, tuple[Instance, ...]], ...]  # in the order of instances
    slices: int
    planes: tuple[PlaneName, ...]  # the most frequent first
    has_pixels: bool
    pixel: float | None  # mm, the wider side
    step: float | None  # mm between neighbouring slices along the normal
    thickness: float | None  # mm
    rows: int
    columns: int

    @property
    def traits(self) -> Traits:
        return self.kinds[0][0]

    @property
    def holds_a_head(self) -> bool:
        """Whether a whole head has room in the stack, as far as it says how large it is."""
        step = self.step or self.thickness
        if self.pixel is None or step is None:
            return False
        return self.pixel * max(self.rows, self.columns) >= _HEAD_LENGTH and step * self.slices >= _HEAD_WIDTH


def seen(series: Series) -> Seen:
    """`series`, looked at from the outside."""
    instances = sorted(series.instances, key=lambda i: (i.headers.instance_number or 0, i.sop_instance_uid))
    headers = [instance.headers for instance in instances]
    modality = next((h.modality for h in headers if h.modality), "")
    first = headers[0]
    return Seen(
        series=series,
        number=first.series_number,
        modality=modality if modality in MODALITIES or not modality else "?",
        kinds=_kinds(instances),
        slices=sum(max(1, h.number_of_frames) for h in headers),
        planes=_planes(headers),
        has_pixels=any(h.has_pixels and h.rows and h.columns for h in headers),
        pixel=_pixel(first),
        step=_step(headers),
        thickness=first.slice_thickness,
        rows=max(h.rows or 0 for h in headers),
        columns=max(h.columns or 0 for h in headers),
    )


def _kinds(instances: list[Instance]) -> tuple[tuple[Traits, tuple[Instance, ...]], ...]:
    groups: dict[object, list[Instance]] = {}
    for instance in instances:
        groups.setdefault((_KIND(instance.headers), instance.sop_class_uid), []).append(instance)
    merged: dict[Traits, list[Instance]] = {}
    for group in groups.values():
        merged.setdefault(_traits(group[0]), []).extend(group)
    return tuple((traits, tuple(group)) for traits, group in merged.items())


def _traits(instance: Instance) -> Traits:
    h = instance.headers
    weighting, weighting_by = _weighting(h)
    region, region_by = _region(h)
    return Traits(
        kind=_kind(h, instance.sop_class_uid),
        weighting=weighting,
        weighting_by=weighting_by,
        region=region,
        region_by=region_by,
        contrast=_contrast(h),
        original="DERIVED" not in h.image_type,
        grey=(1 if h.samples_per_pixel is None else h.samples_per_pixel) <= 1
        and h.photometric_interpretation in ("MONOCHROME1", "MONOCHROME2"),
        slice=instance.sop_class_uid in SLICES,
    )


def _texts(h: Headers) -> tuple[tuple[str, str], ...]:
    """What people wrote, and where: the protocol is asked only where the description names neither weighting nor kind of picture."""
    return (words.spoken(h.series_description), "description"), (words.spoken(h.protocol_name), "protocol name")


def _kind(h: Headers, sop_class_uid: str) -> str:
    if is_secondary_capture(sop_class_uid):
        return words.SCREEN
    if kind := words.kind_by_type((*h.image_type, h.complex_image_component)):
        return kind
    original, echo_planar = "ORIGINAL" in h.image_type, _echo_planar(h)
    for text, _ in _texts(h):
        if kind := words.kind_by_words(text, original=original, echo_planar=echo_planar):
            return kind
        if words.weighting(text):
            break
    return words.kind_by_sequence_name(h.sequence_name)


def _echo_planar(h: Headers) -> bool:
    return h.echo_planar or any("EP" in value.split("_") for value in h.scanning_sequence) or words.is_echo_planar(h.sequence_name)


def _weighting(h: Headers) -> tuple[str, str]:
    """What the series shows, and what says so: first what is physics, then words, then what echo and repetition time give away."""
    return _by_physics(h) or _by_words(h) or _by_the_scanner(h) or _by_times(h)


def _by_physics(h: Headers) -> tuple[str, str] | None:
    if (h.diffusion_b_value or 0) > 0:
        return words.DIFFUSION, "b-value"
    if found := words.weighting_by_acquisition_contrast(h.acquisition_contrast, physical=True):
        return found, "Acquisition Contrast"
    if _echo_planar(h):
        named = (words.contrary(text) for text in (*(text for text, _ in _texts(h)), " ".join(h.image_type)))
        found = next(filter(None, named), "") or words.weighting_by_sequence_name(h.sequence_name)
        return found or words.ECHO_PLANAR, "echo-planar readout"
    return (words.ANGIOGRAPHY, "Angio Flag") if h.angio and not _denies_angiography(h) else None


def _denies_angiography(h: Headers) -> bool:
    """Old GE software sets the flag on any series; a spin echo, and what is described as T2, FLAIR and the like, is none."""
    described = next((found for text, _ in _texts(h) if (found := words.weighting(text))), "")
    return described not in ("", words.T1) or ("SE" in h.scanning_sequence and described == words.T1)


def _by_words(h: Headers) -> tuple[str, str] | None:
    for text, where in _texts(h):
        if (found := words.weighting(text)) and found != words.T1:
            return found, where
        if found:  # an echo as late as that is no T1, whatever the protocol was copied from
            late = h.echo_time is not None and h.echo_time >= _LATE_ECHO
            return (words.T2, "echo time, against its description") if late else (found, where)
        if where == "description" and (named := words.weighting_by_sequence_name(h.sequence_name)):
            return named, "sequence name"
    return None


def _by_the_scanner(h: Headers) -> tuple[str, str] | None:
    if found := words.weighting_by_acquisition_contrast(h.acquisition_contrast, physical=False):
        return found, "Acquisition Contrast"
    if "ASL" in h.image_type or "PERFUSION" in h.image_type:
        return words.PERFUSION, "Image Type"
    return (words.DIFFUSION, "Image Type") if {"DIFFUSION", "TRACEW"} & set(h.image_type) else None


def _by_times(h: Headers) -> tuple[str, str]:
    """From echo, repetition and inversion time in ms: textbook ranges at 1.5 and 3 T."""
    te, tr, ti = (t if t is not None and t > 0 else None for t in (h.echo_time, h.repetition_time, h.inversion_time))
    if te is None or tr is None:
        return "", "no description and no echo and repetition time"
    return _timed(te, tr, ti, gradient="GR" in h.scanning_sequence and "SE" not in h.scanning_sequence), "echo and repetition time"


def _timed(te: float, tr: float, ti: float | None, *, gradient: bool) -> str:
    if te >= _LATE_ECHO:
        return words.FLAIR if ti is not None and ti > 1500 else words.T2
    if ti is not None and 80 <= ti < 300:
        return words.STIR
    if gradient and te >= _LATE_GRADIENT_ECHO:
        return words.SUSCEPTIBILITY
    prepared = ti is not None and 300 <= ti <= 1300  # MPRAGE, T1 FLAIR
    if te < 30 and (prepared or (tr <= 1100 and (ti is None or ti <= 1300))):
        return words.T1
    return words.PD if te < 30 and tr > 1500 and ti is None else words.OTHER


def _region(h: Headers) -> tuple[str, str]:
    """The body part and what names it. What was written for this series goes before Body Part Examined, which often is a default."""
    for text, where in _texts(h):
        if found := words.region(text):
            return found, where
    said, ordered = words.spoken(h.body_part_examined).strip().upper(), words.region(words.spoken(h.study_description))
    part = "" if said in _SAYS_NOTHING else words.region(said) or "another body part"
    if ordered and (
        part in ("", "another body part") or (part == words.HEAD and ordered != words.HEAD) or _lies_in_a_head_coil(h, ordered)
    ):
        return ordered, "study description"
    if part:
        return part, words.BODY_PART
    return words.region(words.spoken(h.receive_coil_name)), "receive coil"


def _lies_in_a_head_coil(h: Headers, ordered: str) -> bool:
    """Order and coil agree on a head, against a Body Part Examined left from the last protocol. A head and neck coil also takes spines."""
    coil = words.spoken(h.receive_coil_name)
    return ordered == words.region(coil) == words.HEAD and not _LONG_COIL.search(coil)


def _contrast(h: Headers) -> int:
    """1 after contrast, -1 before, 0 not said. A protocol's name is for the whole examination, so the agent goes before it."""
    described = words.contrast(words.spoken(h.series_description))
    if described:
        return described
    types = set(h.image_type)
    if types & {"PRE_CONTRAST", "POST_CONTRAST"} or {"PRE", "CONTRAST"} <= types or {"POST", "CONTRAST"} <= types:
        return -1 if types & {"PRE_CONTRAST", "PRE"} else 1
    return 1 if h.contrast_bolus_agent.strip().upper() not in _NO_AGENT else words.contrast(words.spoken(h.protocol_name))


def _planes(headers: list[Headers]) -> tuple[PlaneName, ...]:
    names = Counter(name for h in headers for name in h.planes or (plane(h.image_orientation_patient),))
    return tuple(name for name, _ in names.most_common())


def _pixel(h: Headers) -> float | None:
    spacing = h.pixel_spacing
    return max(spacing) if spacing and all(0.01 < s < 100 for s in spacing) else None


def _step(headers: list[Headers]) -> float | None:
    """The lower median, so that a gap or one slice far away does not count."""
    across = next((n for h in headers if (n := normal(h.image_orientation_patient))), None)
    if across is None:
        return None
    places = sorted({round(dot(across, position), 2) for h in headers if (position := h.image_position_patient)})
    steps = sorted(b - a for a, b in pairwise(places))
    return steps[(len(steps) - 1) // 2] if steps else None
