"""choose: which series of a study the network may read, and why not the others.

The bundled model knows T1-weighted heads, after contrast better than before, and nothing else. Descriptions are asked first, then what the
scanner says of the acquisition (Enhanced MR), then echo, repetition and inversion time. Reasons name rules, never what a description says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from models.manifest import Manifest
from pipeline.records import Choice, Headers, PassedOver, Series, Study


def _words(*patterns: str) -> re.Pattern[str]:
    """Matches any of `patterns` as words of a description: letters and digits of other words do not touch them."""
    return re.compile(r"(?<![a-z0-9])(?:" + "|".join(patterns) + r")(?![a-z0-9])", re.IGNORECASE)


_LOCALIZER = _words("loc", "locali[sz]er", "scout", "survey", "topogram", "3[- ]?pl(?:ane)?", "aahead\\w*", "smartbrain", "pilot")
_MAPS = _words(
    *("t1[- ]?map(?:s|ping)?", "t2[- ]?map(?:s|ping)?", "t1rho", "adc", "fa", "tracew?", "cbf", "cbv", "mtt", "ttp", "tmax", "ktrans"),
    *("b[01][- ]?map", "field ?map(?:ping)?", "phase", "sub(?:traction|tracted)?", "mip", "minip", "mpr", "perf(?:usion)?"),
)
_T1 = _words("(?:[a-z]|[23]d)?t1[a-z]{0,4}", "mp2?rage", "f?spgr", "bravo", "vibe", "3d[- ]?tfe", "tfl3d\\w*")
_CONTRARY = (  # these are what they are even when T1 stands beside them
    ("diffusion", _words("dwi", "dti", "dsi", "diff(?:usion)?", "ep2d\\w*", "b[- ]?1000", "tensor", "noddi", "hardi")),
    ("angiography", _words("tof\\w*", "mra", "mrv", "angio\\w*", "pc[- ]?(?:mra|3d|2d)", "venogra\\w*", "inhance")),
    ("susceptibility-weighted", _words("swi", "swan", "swip", "venbold", r"t2[ -]?(?:\*|star|ffe|gre|fl2d|fl3d)", "gre[ -]?t2", "hemo")),
    ("functional or perfusion", _words("bold", "fmri", "p?c?asl", "dsc", "dce", "resting")),
    ("spectroscopy", _words("mrs", "svs", "csi", "spectro\\w*")),
)
_OTHER = (
    *_CONTRARY,
    ("T2-weighted FLAIR", _words("flair", "dark[- ]?fluid", "tirm")),
    ("short-inversion-time", _words("stir")),
    ("T2-weighted", _words("(?:[a-z]|[23]d)?t2[a-z]{0,4}", "ciss", "fiesta", "trufi", "drive", "balanced")),
    ("proton-density-weighted", _words("pd[a-z]{0,3}", "proton[- ]?density", "dp")),
)
_HEAD = re.compile(
    "head|brain|skull|crani|cerebr|neuro|encephal|enc[eé]fal|pituit|hypophys|hipofis|sella|kopf|sch[aä]del|gehirn|t[eê]te|cabeza|testa",
    re.IGNORECASE,
)
_ELSEWHERE = re.compile(
    r"knee|spine|lumb|cervic|thora|shoulder|abdom|pelvi|liver|hepat|kidney|ankle|wrist|elbow|hand\b|foot\b|hip\b|cardi|heart|breast"
    r"|prostat|femur|tibia|knie|wirbel|schulter|leber|herz",
    re.IGNORECASE,
)
_SAYS_NOTHING = {"", "SPECIAL", "OTHER", "UNKNOWN", "UNSPECIFIED", "WHOLEBODY"}  # as values of BodyPartExamined
_CONTRAST = _words(
    *("ce", "gd", "gad\\w*", "post(?:[- ]?(?:con\\w*|gd|gad\\w*|kontr\\w*|km))?", "contrast", "km", "dotarem", "enhanced"),
)
_PLUS_CONTRAST = re.compile(r"\+ ?[ck](?![a-z])|(?<![a-z])c ?\+", re.IGNORECASE)  # "T1+C", "+ C", "C+"
_NO_CONTRAST = _words(
    *("pre(?:[- ]?(?:con\\w*|gd|gad\\w*))?", "w/?o", "without", "nativ\\w*", "ohne", "sin", "non[- ]?con\\w*", "no[- ]?contrast"),
    "unenhanced",
)
_NO_AGENT = {"", "NO", "NONE", "N", "NO CONTRAST", "WITHOUT"}
_MAP_TYPES = {  # values of ImageType (PS3.3 C.8.3.1.1.1, C.8.13.3.1.1, and what vendors write there)
    *(
        "ADC",
        "FA",
        "TRACEW",
        "TTP",
        "MTT",
        "CBF",
        "CBV",
        "T1 MAP",
        "T2 MAP",
        "T2_STAR MAP",
        "PHASE MAP",
        "B0 MAP",
        "FIELD MAP",
        "PHASE",
        "P",
    ),
    *("PHASE", "P", "PROJECTION IMAGE", "MIP", "MINIP", "MNIP", "SUBTRACTION", "SUBTRACT", "PERFUSION", "DIFFUSION", "VELOCITY", "MOSAIC"),
    *("MPR", "REFORMATTED", "CSA MPR", "CSAPARALLEL", "SCREEN SAVE", "SECONDARY CAPTURE"),
}
_ENOUGH = 12  # slices; beyond it more slices are no reason to prefer a series


def choose(study: Study, manifest: Manifest) -> Choice:
    """The series to read: after contrast before without, original before derived, more slices, then the lowest series number."""
    judged = [(series, *_judge(series, manifest)) for series in study.series]
    fit = [series for series, reason, _ in judged if reason is None]
    expected = any(is_head for _, _, is_head in judged)
    passed = [_passed(series, reason) for series, reason, _ in judged if reason]
    what = f"{manifest.sequence}-weighted {manifest.body_part} series"
    if not fit:
        listed = "; ".join(_told(p) for p in passed) or "it holds no series"
        return Choice(None, f"no {what}: {listed}", tuple(passed), expected)
    best = max(fit, key=_worth)
    passed += [_passed(series, "another series suits the model better") for series in fit if series is not best]
    return Choice(best, f"{what}{' after contrast' if _contrast(_headers(best)) > 0 else ''}", tuple(passed), expected=True)


def choose_model(study: Study, manifests: Sequence[Manifest]) -> tuple[int, Choice]:
    """The first of `manifests` (its index) that finds a series to read; without one, that whose answer somebody waits for, or the first."""
    choices = [choose(study, manifest) for manifest in manifests]
    number = next((k for k, choice in enumerate(choices) if choice.series), None)
    if number is None:
        number = next((k for k, choice in enumerate(choices) if choice.expected), 0)
    return number, choices[number]


def _judge(series: Series, manifest: Manifest) -> tuple[str | None, bool]:
    """Why the series is passed over (None: it is fit), and whether it shows that a head was to be read."""
    h = _headers(series)
    if h.modality != manifest.modality:
        return f"modality is not {manifest.modality}", False
    if not h.has_pixels or not h.rows or not h.columns:
        return "no pixel data", False
    head, text = _head(h), _text(h)
    is_head = head is True
    if (h.samples_per_pixel or 1) != 1 or h.photometric_interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        return "not a greyscale image", is_head
    if "LOCALIZER" in h.image_type or _LOCALIZER.search(text):
        return "localizer", is_head
    if set(h.image_type) & _MAP_TYPES or _MAPS.search(text):
        return "derived map, projection or reformat", is_head
    if head is False:
        return f"not a {manifest.body_part}", False
    sequence = _sequence(h, text)
    return (None if sequence == manifest.sequence else f"{sequence}, not {manifest.sequence}-weighted"), is_head


def _headers(series: Series) -> Headers:
    """Those of the first instance: what the rules ask is the same in all instances of a series."""
    return min(series.instances, key=lambda i: (i.headers.instance_number or 0, i.sop_instance_uid)).headers


def _text(h: Headers) -> str:
    return " ".join((h.series_description, h.protocol_name, h.sequence_name)).replace("_", " ")


def _head(h: Headers) -> bool | None:
    """True and False as the object says; None where it says nothing."""
    if h.body_part_examined.strip().upper() not in _SAYS_NOTHING:
        return bool(_HEAD.search(h.body_part_examined))
    text = " ".join((h.series_description, h.protocol_name, h.study_description)).replace("_", " ")
    if _HEAD.search(text):
        return True
    return False if _ELSEWHERE.search(text) else None


def _sequence(h: Headers, text: str) -> str:
    """The kind of sequence: "T1", or what it is instead."""
    if _T1.search(text):
        other = next((name for name, words in _CONTRARY if words.search(text)), None)
        return other or "T1"
    for name, words in _OTHER:
        if words.search(text):
            return name
    if h.acquisition_contrast and h.acquisition_contrast not in ("UNKNOWN", "MIXED"):
        return "T1" if h.acquisition_contrast == "T1" else "another acquisition contrast"
    return _sequence_by_times(h)


def _sequence_by_times(h: Headers) -> str:
    """From echo, repetition and inversion time in ms (textbook ranges at 1.5 and 3 T)."""
    te, tr, ti = h.echo_time, h.repetition_time, h.inversion_time
    if "EP" in h.scanning_sequence:
        return "echo-planar"
    if te is None or tr is None:
        return "of unknown sequence (no description and no echo and repetition time)"
    if ti is not None and ti > 1500 and te > 60:
        return "T2-weighted FLAIR"
    if te >= 60:
        return "T2-weighted"
    if te < 30 and (tr <= 1100 or (ti is not None and 300 <= ti <= 1300)):
        return "T1"  # spin echo and gradient echo, or prepared by inversion (MPRAGE, T1 FLAIR)
    return "of another weighting by echo and repetition time"


def _contrast(h: Headers) -> int:
    """1 after contrast, 0 unknown, -1 before."""
    text = _text(h)
    if _NO_CONTRAST.search(text):
        return -1
    described = _CONTRAST.search(text) or _PLUS_CONTRAST.search(text)
    return int(h.contrast_bolus_agent.strip().upper() not in _NO_AGENT or bool(described))


def _worth(series: Series) -> tuple[int, bool, int, int]:
    h = _headers(series)
    slices = sum(max(1, instance.headers.number_of_frames) for instance in series.instances)
    return _contrast(h), "DERIVED" not in h.image_type, min(slices, _ENOUGH), -(h.series_number or 0)


def _passed(series: Series, reason: str | None) -> PassedOver:
    h = _headers(series)
    return PassedOver(series.uid, h.series_number, h.modality, reason or "")


def _told(passed: PassedOver) -> str:
    number = "without number" if passed.series_number is None else passed.series_number
    return f"series {number} ({passed.modality or 'no modality'}): {passed.reason}"
