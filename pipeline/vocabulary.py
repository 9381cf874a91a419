"""vocabulary: what the words mean that scanners and technologists use for series. Everybody's, whatever a model wants.

Descriptions are free text in many languages, so each question has a table of its own: what kind of picture, which weighting, which body
part, before or after contrast. The answers are names of ours; what was written never leaves this room. The words are those of Siemens,
GE, Philips and Canon consoles; tests/scanner_series.csv holds series as scanners describe them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.language import said

Table = tuple[tuple[str, re.Pattern[str]], ...]


def _words(*patterns: str) -> re.Pattern[str]:
    """Matches any of `patterns` as words of a description: letters and digits of other words do not touch them."""
    return re.compile(r"(?<![a-z0-9])(?:" + "|".join(patterns) + r")(?![a-z0-9])", re.IGNORECASE)


LOCALIZER, MOSAIC, SCREEN = said("kinds.localizer"), said("kinds.mosaic"), said("kinds.screen")
MAP, PROJECTION, REFORMAT = said("kinds.map"), said("kinds.projection"), said("kinds.reformat")
FIELD_MAP, CALIBRATION, SUBTRACTION = said("kinds.field_map"), said("kinds.calibration"), said("kinds.subtraction")
NO_SLICE, COLOUR = said("kinds.no_slice"), said("kinds.colour")
PHASE, COMPLEX = said("kinds.phase"), said("kinds.complex")
INVERSION, FAT, OPPOSED = said("kinds.inversion"), said("kinds.fat"), said("kinds.opposed")

_KINDS: Table = (  # whatever else is said
    (LOCALIZER, _words(
        "locs?", r"locali[sz]\w*", r"lokali[sz]\w*", r"scout\w*", "surv(?:ey)?", r"topogram\w*", "surview", r"scano\w*", "pilot", "t/s/c",
        "3[- ]?pl(?:ane)?", "tri[- ]?plan(?:e|ar)", r"aa ?head\w*", r"auto ?align\w*", "smart ?brain", "rep[eé]rage")),
    (FIELD_MAP, _words(r"\w*b0[- ]?maps?", r"field[- ]?map\w*", r"gre[- ]field\w*", r"fm[23]d\w*", r"b0[- ]map\w*")),
    (CALIBRATION, _words(
        r"b1[- ]?map\w*", "cal(?:ibration)?", r"asset\w*", r"coil ?sens\w*", "sense[- ]?ref", "ref(?:erence)?[- ]?scan", "shim",
        "pre ?scan", "vnav")),
    (SUBTRACTION, _words("subtraction", "subtracted")),
    (INVERSION, _words("inv[- ]?[12]")),
    (FAT, _words("fat(?=:)")),  # GE: "FAT: Ax LAVA"
    (OPPOSED, _words("out[- ]?phase", "opp[- ]?phase")),
    (MAP, _words(
        r"[tr][12][- *]*map\w*", "t1[- ]?rho", "t1 images", r"r2 ?star\w*", "e?adc", r"apparent diff\w*", r"fa[- ]?map\w*",
        "col(?:or)?[- ]?fa", r"r?(?:el ?)?cb[fv]\w{0,4}", "mtt", "ttp",
        "tmax", "ktrans", "pdff", "qsm", "mwf")),
    (PROJECTION, _words(r"project(?:ed|ion)\w*", r"mip images?", "min ?ip", "mnip")),
    (PHASE, _words("pha(?:se)? images?")),
)  # fmt: skip
_KINDS_OF_DERIVED: Table = (  # these mean something else where an image is original: MPR is MPRAGE to some, FA a flip angle
    (PROJECTION, _words("mip", "thick ?slab")),
    (REFORMAT, _words("mpr", r"reformat\w*", "mpv", "curved")),
    (MAP, _words("fa", r"perf\w*")),
    (SUBTRACTION, _words("sub")),
    (PHASE, _words("phase", "pha")),
)
_B0 = _words("b0")  # a field map; among diffusion the images without diffusion weighting
_TYPES: dict[str, frozenset[str]] = {  # values of ImageType (PS3.3 C.8.3.1.1.1, C.8.13.3.1.1, and what vendors write there)
    LOCALIZER: frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM"}),
    MOSAIC: frozenset({"MOSAIC"}),
    SCREEN: frozenset({"SCREEN SAVE", "SCREENSAVE", "SECONDARY CAPTURE"}),
    PROJECTION: frozenset({"PROJECTION IMAGE", "MIP", "MINIP", "MNIP", "MAX_IP", "MIN_IP", "VOLREN", "VOLUME RENDERING"}),
    REFORMAT: frozenset({"MPR", "REFORMATTED", "CSA MPR", "CSAPARALLEL", "CSARADIAL", "CURVED", "RESAMPLED"}),
    FIELD_MAP: frozenset({"B0 MAP", "FIELD MAP", "FIELD_MAP", "FIELDMAPHZ"}),
    PHASE: frozenset({"PHASE", "P", "PHASE MAP", "VELOCITY", "VELOCITY MAP"}),
    COMPLEX: frozenset({"REAL", "R", "IMAGINARY", "I"}),
    SUBTRACTION: frozenset({"SUBTRACTION", "SUBTRACT", "SUB"}),
    FAT: frozenset({"FAT", "F", "FF"}),
    OPPOSED: frozenset({"OPP_PHASE", "OUT_PHASE", "OP"}),
    MAP: frozenset({
        "ADC", "EADC", "FA", "TTP", "MTT", "CBF", "CBV", "RELCBF", "RELCBV", "RELMTT", "PBP", "GBP", "KTRANS", "T1 MAP", "T2 MAP",
        "T2_STAR MAP", "R1 MAP", "R2 MAP", "R2_STAR MAP", "RHO MAP", "B1 MAP", "PARAMETRIC MAP"}),
}  # fmt: skip

T1, T2, FLAIR, STIR, PD = "T1", "T2", "FLAIR", "STIR", "PD"
SUSCEPTIBILITY = "T2*"
DIFFUSION, FUNCTIONAL, PERFUSION = said("weightings.diffusion"), said("weightings.functional"), said("weightings.perfusion")
ANGIOGRAPHY, FLOW, TAGGING = said("weightings.angiography"), said("weightings.flow"), said("weightings.tagging")
SPECTROSCOPY, ECHO_PLANAR, EXCHANGE = said("weightings.spectroscopy"), said("weightings.echo_planar"), said("weightings.exchange")
DOUBLE_INVERSION, OTHER = said("weightings.double_inversion"), said("weightings.other")
_TOLD: dict[str, str] = {  # by the names that manifests use
    T1: said("weightings.t1"), T2: said("weightings.t2"), FLAIR: said("weightings.flair"), STIR: said("weightings.stir"),
    PD: said("weightings.pd"), SUSCEPTIBILITY: said("weightings.susceptibility"),
    **{w: w for w in (DIFFUSION, FUNCTIONAL, PERFUSION, ANGIOGRAPHY, FLOW, TAGGING)},
    **{w: w for w in (SPECTROSCOPY, ECHO_PLANAR, EXCHANGE, DOUBLE_INVERSION, OTHER)},
}  # fmt: skip
_PLANE = "(?:ax|sag|cor|tra|[a-z]|[23]d)?"  # as written before T1 without a blank: "3DT1", "sT1W", "AXT1"
_CONTRARY: Table = (  # these are what they are even when T1 stands beside them
    (FUNCTIONAL, _words(r"\w*bold\w*", "f(?:c?)mri", r"rest(?:ing)?\d*", "task", "sbref")),
    (PERFUSION, _words("(?:[23]d)?p?c?asl", "dsc", "dce", "perf(?:usion)?", "pwi")),
    (DIFFUSION, _words(
        r"dwi\w*", "d[tks]i", r"diff(?:usion)?\w*", "b[- =]?[1-9][0-9]{2,3}", "tensor", "noddi", "hardi", "tracew?", "ivim", "mddw",
        "resolve",
        r"\d{1,3} ?dir(?:s|ections?)?", r"dir ?\d{2,3}", r"dw ?ep\w*", r"ep b\d+\w*")),
    (ANGIOGRAPHY, _words(
        r"tof\w*", "(?:ce[- ]?)?mr[av]", r"angio\w*", "pc[- ]?(?:mr[av]|[23]d)", "[23]d[- ]?pca?", "s?pca", r"venogra\w*", "inhance",
        "s?[23]di(?:[ -]?mc)?", "inflow", "twist", "tricks", "ct[av]")),
    (FLOW, _words("q[- ]?flow", "csf[- ]?flow", r"flow[- ]?(?:quant|stud)\w*", "venc")),
    (SUSCEPTIBILITY, _words(
        r"swi\w*", "swan", "swip", "venbold", r"t2w?[ -]?(?:\*|star|ffe|gre|fl2d|fl3d)", "t2s", "megre",
        r"gre[ -]?t2\*?", "hemo", "mag images?",
        r"(?:ax|sag|cor)?t2\*")),
    (SPECTROSCOPY, _words("mrs", "svs", "csi", r"spectro\w*", "press", "slaser")),
    (EXCHANGE, _words("aptw?", "cest")),
)  # fmt: skip
_T1 = _words(_PLANE + "t1[a-z]*(?:[23]d)?")
_OTHER: Table = (
    (FLAIR, _words(r"\w*flair\w*", "da(?:rk)?[- ]?fl(?:uid)?", "tirm")),
    (STIR, _words(r"\w*stir\w*")),
    (DOUBLE_INVERSION, _words("dir(?!-)")),
    (T2, _words(_PLANE + r"t2[a-z]*(?:[23]d)?", "ciss", "fiesta", "trufi", "drive", "haste", "balanced", "dess", "ssfse")),
    (PD, _words("pd[a-z]{0,3}", "proton[- ]?density", "dp")),
)
_T1_TECHNIQUES = _words(
    *(r"[a-z]{0,3}mp[- ]?2?rage\w*", "(?:ir[- ]?)?(?:ef)?f?spgr", "bravo", "vibe", "thrive", "lava", r"3d[- ]?tfe", r"tfl3d\w*", "t1tfe")
)
_SEQUENCE_NAMES: Table = (  # how names begin that scanners, not people, give to sequences
    (SPECTROSCOPY, re.compile(r"svs|csi", re.IGNORECASE)),
    (DIFFUSION, re.compile(r"ep_b[1-9]|re_b[1-9]|dwi", re.IGNORECASE)),
    (PERFUSION, re.compile(r"tgse|p?c?asl", re.IGNORECASE)),
    (SUSCEPTIBILITY, re.compile(r"swi|swan", re.IGNORECASE)),
    (ANGIOGRAPHY, re.compile(r"fi[23]d|pc[23]d|\w*tof", re.IGNORECASE)),
    (T1, re.compile(r"tfl3d|abcd3d|t1tfe|mp-?2?rage|bravo|e?f?spgr", re.IGNORECASE)),
    (T2, re.compile(r"tfi|ci3d|de3d|h2d", re.IGNORECASE)),
)
_EPI = re.compile(r"\*?(?:ep[_f2s]|\w{0,4}epi)", re.IGNORECASE)
_CONTRASTS = {  # Acquisition Contrast (PS3.3 C.8.13.3.1.5)
    "DIFFUSION": DIFFUSION, "PERFUSION": PERFUSION, "TOF": ANGIOGRAPHY, "FLOW_ENCODED": FLOW, "TAGGING": TAGGING, "T1": T1, "T2": T2,
    "T2_STAR": SUSCEPTIBILITY, "FLUID_ATTENUATED": FLAIR, "STIR": STIR, "PROTON_DENSITY": PD,
}  # fmt: skip
_PHYSICAL = frozenset({DIFFUSION, PERFUSION, ANGIOGRAPHY, FLOW, TAGGING})  # of them, those that no description talks away

HEAD, FACE = "head", "face"
BODY_PART = "Body Part Examined"  # as evidence, where no words name a part
_HEAD = re.compile(
    r"(?<!femoral )(?<!humeral )(?<!radial )head|brain|skull|cranio?|cerebr|encephal|enc[eé]fal|pituit|hypophys|hipofis|sella|kopf"
    r"|sch[aä]del|gehirn|hirn|t[eê]te(?![a-z])|cr[aâ]n[ei]|cabeza|c[eé]rebro|cerveau|testa(?![a-z])|cervello|hersen"
    r"|(?<![a-z])(?:iacs?|cpa)(?![a-z])|stroke|epilep",
    re.IGNORECASE,
)
_NEURO = re.compile("neuro", re.IGNORECASE)  # a head, unless another part is named beside it
_ELSEWHERE: Table = (
    ("knee", re.compile("knee|knie|genou|rodilla|ginocchio|joelho|menisc|patell", re.IGNORECASE)),
    ("spine", re.compile(
        r"spin(?:e|al)|lumb|cervic|dorsal|sacr|myel(?!in)|wirbel|columna|rachis|colonna|(?<![a-z])(?:[clt]|ls|ts|cs)[- ]?sp(?![a-z])"
        r"|(?<![a-z])[hbl]ws(?![a-z])|thorac\w* sp", re.IGNORECASE)),
    ("neck", re.compile(r"(?<![a-z])neck|carotid|thyroid|larynx|pharyn|(?<![a-z])hals|parotid|brachial", re.IGNORECASE)),
    (FACE, re.compile(r"(?<![a-z])(?:face|facial|orbits?|orbita\w*|sinus(?:es)?|tmj|jaw|maxill\w*|mandib\w*|kiefer\w*)(?![a-z])",
                        re.IGNORECASE)),
    ("limb", re.compile(
        r"shoulder|schulter|ankle|wrist|elbow|femur|femoral|tibia|humer|forearm|extremity|(?<![a-z])(?:hand|foot|hips?|arm|leg|thigh|calf)(?![a-z])"
        r"|finger|(?<![a-z])toe|h[uü]ft|cadera|tobillo|hombro|[eé]paule|cheville|caviglia", re.IGNORECASE)),
    ("breast", re.compile("breast|mamma", re.IGNORECASE)),
    ("heart", re.compile("cardi|heart|herz|coraz|coeur", re.IGNORECASE)),
    ("chest", re.compile(r"thora|chest|lung|(?<![a-z])ribs?(?![a-z])|aorta", re.IGNORECASE)),
    ("abdomen", re.compile("abdom|liver|hepat|leber|kidney|renal|niere|pancrea|mrcp|spleen|adrenal|bowel|f[ií]gado|h[ií]gado|foie",
                           re.IGNORECASE)),
    ("pelvis", re.compile("pelvi|prostat|uter(?:us|ine)|rectum|rectal|bladder|ovar|becken", re.IGNORECASE)),
)  # fmt: skip
_AFTER = _words(
    *("ce", "gd", r"gad\w*", r"post(?:[- ]?(?:con\w*|gd|gad\w*|kontr\w*|km|inj\w*))?", "contrast", "km", "dotarem", "enhanced"),
    *(r"apr[eè]s[- ]?(?:gado|inj)\w*", "kontrast", "contraste"),
)
_PLUS_AGENT = re.compile(r"\+ ?(?:[ck]|gd|gad\w*)(?![a-z])|(?<![a-z])c ?\+", re.IGNORECASE)  # "T1+C", "+ C", "C+"
_BEFORE = _words(
    *(r"pre(?:[- ]?(?:con\w*|gd|gad\w*))?", "w/?o", "without", r"nativ\w*", "ohne", "sin", "sans", "avant", "plain", "c-"),
    *(r"non[- ]?con\w*", r"no[- ]?(?:contrast|gd|gad\w*)", "unenhanced"),
)


def spoken(text: str) -> str:
    """With blanks where names have underscores."""
    return text.replace("_", " ")


def told(weighting: str) -> str:
    """As reasons say it: "T2-weighted FLAIR", "diffusion"."""
    return _TOLD.get(weighting, weighting)


def kind_by_type(image_type: Sequence[str]) -> str:
    """What ImageType says the picture is; "" where it says nothing against slices as acquired."""
    values = {value.upper() for value in image_type}
    if {"ORIGINAL", "PRIMARY"} <= values:
        values.discard("MPR")  # old converters write it for slices as acquired; who reformats says DERIVED
    return next((kind for kind, types in _TYPES.items() if values & types), "")


def kind_by_words(text: str, *, original: bool, echo_planar: bool) -> str:
    """What a description says the picture is; "" where it says nothing against slices as acquired."""
    tables = _KINDS if original else (*_KINDS, *_KINDS_OF_DERIVED)
    if _B0.search(text) and not echo_planar and not weighting(text):
        return FIELD_MAP
    return _first(tables, text)


def weighting(text: str) -> str:
    """The weighting that a description names; "" where it names none."""
    if contrary := _first(_CONTRARY, text):
        return contrary
    if _T1.search(text):
        return T1
    return _first(_OTHER, text) or (T1 if _T1_TECHNIQUES.search(text) else "")


def contrary(text: str) -> str:
    """What a description names that is no plain weighting: diffusion, angiography ...; "" without."""
    return _first(_CONTRARY, text)


def weighting_by_sequence_name(name: str) -> str:
    """The weighting of a sequence by the name that the scanner gives it; "" where that leaves it open."""
    plain = name.strip().lstrip("*#_ ")
    return next((weighting for weighting, pattern in _SEQUENCE_NAMES if pattern.match(plain)), "")


def kind_by_sequence_name(name: str) -> str:
    """Siemens' field maps have no other mark where their series was renamed."""
    return FIELD_MAP if re.match(r"\*?fm[23]d", name.strip(), re.IGNORECASE) else ""


def is_echo_planar(sequence_name: str) -> bool:
    """epfid2d, epse2d, ep_b1000 (Siemens), epi2, epiRT (GE), FEEPI, SEEPI2D (Philips, Canon)."""
    return _EPI.match(sequence_name.strip()) is not None


def weighting_by_acquisition_contrast(value: str, *, physical: bool) -> str:
    """Enhanced MR's own word, either for what no description talks away (`physical`) or for plain weightings."""
    found = _CONTRASTS.get(value.upper(), "")
    return found if (found in _PHYSICAL) == physical else ""


def region(text: str) -> str:
    """The body part that a text names, a head before all others; "" where it names none."""
    if _HEAD.search(text):
        return HEAD
    return _first(_ELSEWHERE, text) or (HEAD if _NEURO.search(text) else "")


def contrast(text: str) -> int:
    """1 after contrast, -1 before, 0 where a description does not say."""
    if _BEFORE.search(text):
        return -1
    return int(bool(_AFTER.search(text) or _PLUS_AGENT.search(text)))


def _first(table: Table, text: str) -> str:
    return next((name for name, pattern in table if pattern.search(text)), "")
