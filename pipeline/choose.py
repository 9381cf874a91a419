"""choose: which series of a study a model may read, and why not the others.

see | judge by the manifest's rules | weigh the fit | tell each of the others why

What a series is says `traits`; what a model wants of it stands in its manifest. Reasons name rules and numbers of series, never what a
description says.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from models.manifest import Manifest
from pipeline import vocabulary as words
from pipeline.language import Said, listed, said
from pipeline.records import Choice, Instance, PassedOver, Series, Study
from pipeline.syntaxes import why_not
from pipeline.traits import Seen, Traits, seen

# A series that holds some of these holds others to read: only they are left out.
_LEFT_OUT = frozenset(
    {words.PHASE, words.COMPLEX, words.MAP, words.PROJECTION, words.REFORMAT, words.SUBTRACTION, words.INVERSION, words.FAT, words.OPPOSED,
     words.SCREEN, words.NO_SLICE, words.COLOUR}
)  # fmt: skip
_EMPTY = said("reasons.empty")
_PLANES = {"axial": said("planes.axial"), "coronal": said("planes.coronal"), "sagittal": said("planes.sagittal")}
_CONTRAST = {1: said("reasons.after"), 0: said("reasons.not_said"), -1: said("reasons.before")}


@dataclass(frozen=True, slots=True)
class _Judged:
    """One series before one model."""

    seen: Seen
    reason: str  # why it is passed over; "" where it is fit
    asked: bool = False  # it shows the body part that the model reads, so somebody waits for an answer
    traits: Traits | None = None  # of the instances to read
    instances: tuple[Instance, ...] = ()  # to read


class _Worth(NamedTuple):
    contrast: int
    original: bool
    slices: int
    first: int


def choose(study: Study, manifest: Manifest) -> Choice:
    """The series to read: with contrast as the model wants it, original before derived, more slices, then the lowest series number."""
    return choose_model(study, [manifest])[1]


def choose_model(study: Study, manifests: Sequence[Manifest], empty: Collection[str] = ()) -> tuple[int, Choice]:
    """The first of `manifests` (its index) that finds a series to read, and its choice. `empty`: UIDs of series that turned out to be so.

    Without one: that whose answer somebody waits for, else one that reads a modality of the study, else the first.
    """
    looks = [seen(series) for series in study.series]
    judged = [[_judge(look, looks, manifest) for look in looks] for manifest in manifests]
    judged = [[_Judged(j.seen, _EMPTY, asked=True) if not j.reason and j.seen.series.uid in empty else j for j in one] for one in judged]
    fit = [any(not j.reason for j in one) for one in judged]
    asked = [any(j.asked for j in one) for one in judged]
    read = [any(look.modality == manifest.modality for look in looks) for manifest in manifests]
    number = next((one.index(True) for one in (fit, asked, read) if True in one), 0)
    told = [_told_by_others(j, k, number, judged, manifests) for k, j in enumerate(judged[number])]
    return number, _choice(told, manifests[number])


def _told_by_others(judged: _Judged, k: int, number: int, every: list[list[_Judged]], manifests: Sequence[Manifest]) -> _Judged:
    """A series of a modality that the chosen model does not read gets the reason of a model that does."""
    modality = judged.seen.modality
    if not judged.reason or modality == manifests[number].modality:
        return judged
    other = next((one[k] for one, manifest in zip(every, manifests, strict=True) if manifest.modality == modality), judged)
    reason = other.reason or said("reasons.another_model")
    return _Judged(judged.seen, reason, asked=judged.asked)


def _choice(judged: list[_Judged], manifest: Manifest) -> Choice:
    fit = [j for j in judged if not j.reason]
    passed = [_passed(j.seen, j.reason) for j in judged if j.reason]
    what = _what(manifest)
    if not fit:
        reasons = listed(map(_told, passed), "semicolon") if passed else said("reasons.no_series")
        return Choice(None, said("reasons.none", series=what, reasons=reasons), tuple(passed), any(j.asked for j in judged))
    best = max(fit, key=lambda j: _worth(j, manifest))
    passed += [_passed(j.seen, _lost(j, best, manifest)) for j in fit if j is not best]
    series = Series(best.seen.series.uid, best.instances)
    return Choice(series, _chosen(best, what), tuple(passed), expected=True)


def _what(manifest: Manifest) -> Said:
    """ "T1-weighted head series", "CT head series"."""
    what = words.told(manifest.sequence) if manifest.sequence else manifest.modality
    if not manifest.body_part:
        return said("reasons.series", sequence=what)
    return said("reasons.series_part", sequence=what, body_part=manifest.body_part)


def _chosen(best: _Judged, what: Said) -> Said:
    """Why it is read, and what of it is not."""
    if best.traits and best.traits.contrast > 0:
        what = said("reasons.after_contrast", series=what)
    there = len(best.seen.series.instances)
    if len(best.instances) == there:
        return what
    return said("reasons.partly", series=what, total=there, count=there - len(best.instances), rest=_rest(best))


def _rest(best: _Judged) -> Said:
    read = set(best.instances)
    kinds = dict.fromkeys(_kind(traits) or said("reasons.later_echo") for traits, group in best.seen.kinds if not set(group) <= read)
    return listed(kinds, "comma")


def _kind(traits: Traits) -> str:
    """What these instances are instead of slices as acquired; "" where they are."""
    if traits.kind == words.SCREEN:
        return traits.kind
    if not traits.slice:
        return words.NO_SLICE
    return words.COLOUR if not traits.grey else traits.kind


def _judge(look: Seen, looks: Sequence[Seen], manifest: Manifest) -> _Judged:
    """Whether `look` is fit for the model, among all series of its study."""
    if not look.has_pixels:
        return _Judged(look, said("reasons.no_pixels"))
    if look.modality != manifest.modality:
        return _Judged(look, _modality(look.modality))
    region = _region(look, looks)
    asked = bool(manifest.body_part) and region == manifest.body_part
    rest = [(traits, group) for traits, group in look.kinds if _kind(traits) not in _LEFT_OUT] or look.kinds
    for traits, group in rest:
        if reason := _against(traits, group, region, manifest):
            if look.slices > _frames(group):
                reason = said("reasons.mixed", reason=reason, count=_frames(group), total=look.slices)
            return _Judged(look, reason, asked)
    if reason := _against_stack(look, manifest):
        return _Judged(look, reason, asked)
    return _Judged(look, "", asked, rest[0][0], _first_echo(tuple(instance for _, group in rest for instance in group)))


def _modality(modality: str) -> str:
    if modality in ("", "?"):
        return said("reasons.odd_modality") if modality else said("reasons.no_modality")
    return said("reasons.not_read", modality=modality)


def _against(traits: Traits, group: tuple[Instance, ...], region: str, manifest: Manifest) -> str:
    """Why instances of these traits cannot be read; "" where they can."""
    if kind := _kind(traits):
        return kind
    if reason := next(filter(None, (_syntax(instance.transfer_syntax_uid) for instance in group)), ""):
        return reason
    if manifest.body_part and region not in ("", manifest.body_part):
        return said("reasons.not_the_part", body_part=manifest.body_part)
    if manifest.sequence and traits.weighting != manifest.sequence:
        return said("reasons.not_the_sequence", sequence=_weighting(traits), wanted=words.told(manifest.sequence))
    if not manifest.sequence and traits.weighting in (words.ANGIOGRAPHY, words.PERFUSION):
        return traits.weighting
    return said("reasons.not_after_contrast") if manifest.rules.contrast == "require" and traits.contrast <= 0 else ""


def _syntax(uid: str) -> str:
    """Of the standard's syntaxes those that are not read. What is in none of them fails in decode: there something is wrong."""
    why = why_not(uid) if uid.startswith("1.2.840.10008.1.2") else None
    return said("reasons.syntax", why=why) if why else ""


def _weighting(traits: Traits) -> str:
    if not traits.weighting:
        return said("reasons.unknown_sequence")
    told = words.told(traits.weighting)
    return said("reasons.by_echo_time", sequence=told) if "against" in traits.weighting_by else told


def _region(look: Seen, looks: Sequence[Seen]) -> str:
    """The body part: what the series says, else what all others of its study say.

    Body Part Examined often is the default of some protocol: an "orbit" with room for the whole head is a head.
    """
    own, own_by = next(((traits.region, traits.region_by) for traits, _ in look.kinds if traits.region), ("", ""))
    if own == words.FACE and own_by == words.BODY_PART and look.holds_a_head:
        own = words.HEAD
    others = {traits.region for other in looks for traits, _ in other.kinds if traits.region and other.has_pixels}
    return own or (others.pop() if len(others) == 1 else "")


def _against_stack(look: Seen, manifest: Manifest) -> str:
    """What the stack as a whole lacks; an attribute that is missing is held against nobody."""
    rules, planes = manifest.rules, [plane for plane in look.planes if plane != "unknown"]
    if len(planes) == 3:
        return said("reasons.three_planes")
    if planes and planes[0] not in rules.planes:
        return said("reasons.plane", plane=_PLANES[planes[0]], planes=listed([_PLANES[plane] for plane in rules.planes], "or"))
    if look.slices < rules.fewest_slices:
        return said("reasons.few_slices", count=look.slices, fewest=rules.fewest_slices)
    if look.pixel is not None and look.pixel > rules.coarsest_pixel:
        return said("reasons.coarse", pixel=float(look.pixel), coarsest=rules.coarsest_pixel)
    if look.step is not None and look.step > rules.widest_step:
        return said("reasons.wide", step=float(look.step), widest=rules.widest_step)
    return ""


def _first_echo(instances: tuple[Instance, ...]) -> tuple[Instance, ...]:
    """Of several echoes at the same places the first: the later, the less T1. Echo times alone part nothing, they may just be rounded."""
    echoes = sorted({round(i.headers.echo_time, 1) for i in instances if i.headers.echo_time is not None})
    places = {i.headers.image_position_patient for i in instances}
    if len(echoes) < 2 or len(places) == len(instances):
        return instances
    first = tuple(i for i in instances if i.headers.echo_time is not None and round(i.headers.echo_time, 1) == echoes[0])
    return first if {i.headers.image_position_patient for i in first} == places else instances


def _worth(judged: _Judged, manifest: Manifest) -> _Worth:
    traits, rules = judged.traits or judged.seen.traits, manifest.rules
    wanted = {"prefer": 1, "require": 1, "avoid": -1, "ignore": 0}[rules.contrast]
    enough = min(_frames(judged.instances), rules.enough_slices)
    return _Worth(wanted * traits.contrast, traits.original, enough, -(judged.seen.number or 0))


def _frames(instances: Sequence[Instance]) -> int:
    return sum(max(1, instance.headers.number_of_frames) for instance in instances)


def _lost(judged: _Judged, best: _Judged, manifest: Manifest) -> str:
    """Why a fit series lost to the best one."""
    mine, its = _worth(judged, manifest), _worth(best, manifest)
    number = best.seen.number
    name = said("reasons.the_chosen") if number in (None, judged.seen.number) else said("places.series", number=number)
    if mine.contrast != its.contrast:
        return _lost_by_contrast(judged, best, name)
    if mine.original != its.original:
        return said("reasons.derived", best=name)
    if mine.slices != its.slices:
        return said("reasons.fewer_slices", best=name)
    return said("reasons.as_fit", best=name)


def _lost_by_contrast(judged: _Judged, best: _Judged, name: Said) -> Said:
    mine, its = (_CONTRAST[j.traits.contrast if j.traits else 0] for j in (judged, best))
    return said("reasons.less_contrast", contrast=mine, best=name, its=its)


def _passed(look: Seen, reason: str) -> PassedOver:
    return PassedOver(look.series.uid, look.number, look.modality.strip("?"), reason)


def _told(passed: PassedOver) -> Said:
    number = said("places.unnumbered") if passed.series_number is None else passed.series_number
    return said("reasons.of_series", number=number, modality=passed.modality or said("places.no_modality"), reason=passed.reason)
