"""Which sentences the Summary has, and in which order: finding first, certainty in word and number, where, then limits and method.

The words lie in `languages/`, one file for each language. Viewers print the sentences without their headings' codes, some without
headings at all, so each must stand alone. No free text of the study enters here: series and images are named by their numbers, reasons
by the rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.manifest import Manifest
from pipeline.language import Said, listed, said
from pipeline.records import Choice, Finding, Instance, PassedOver, Prediction, Source, Study, Turn
from pipeline.vocabulary import told

UNVERIFIED = said("conclusion.unverified")
_CERTAINTY = ((0.95, said("certainty.high")), (0.8, said("certainty.moderate")), (0.0, said("certainty.low")))  # beside the number
_TRAITS = {
    "share": said("traits.share"),
    "brightness": said("traits.brightness"),
    "contrast": said("traits.contrast"),
    "sharpness": said("traits.sharpness"),
}
_VARIANTS = {"int8": said("method.int8"), "fp32": said("method.fp32")}


@dataclass(frozen=True, slots=True)
class Sections:
    """The Summary, sentence by sentence: Said, or in a manifest's own words."""

    findings: tuple[str, ...]
    conclusion: tuple[str, ...]
    method: tuple[str, ...]
    limitations: tuple[str, ...]


def analysed(study: Study, choice: Choice, finding: Finding, prediction: Prediction, manifest: Manifest, software: str) -> Sections:
    """The sentences for a study that the network has read."""
    differs = prediction.agreement == "differ"
    return Sections(
        findings=(
            _found(finding, manifest),
            *_unlike(finding),
            *_seen(study, finding),
            *_outline(finding, manifest),
            *_no_place(finding, prediction),
            _others(finding, manifest),
        ),
        conclusion=(_concluded(study, finding, manifest), *((_agreement(prediction, manifest),) if differs else ()), UNVERIFIED),
        method=(
            _read(study, choice, prediction),
            *_passed_over(choice),
            _model(manifest, prediction),
            *(() if differs else (_agreement(prediction, manifest),)),
            said("method.input", count=len(study.instances), digest=study.digest, recipe=manifest.recipe.id, software=software),
        ),
        limitations=(*prediction.geometry.remarks, *_limitations(manifest)),
    )


def not_analysed(study: Study, choice: Choice, manifest: Manifest, software: str) -> Sections:
    """The sentences for a study that a radiologist expects an answer for and that has none."""
    return Sections(
        findings=(said("findings.not_analysed", reason=_because(choice)),),
        conclusion=(said("conclusion.not_analysed"), UNVERIFIED),
        method=(
            said("method.reads_only", name=manifest.name, version=manifest.version, what=_reads(manifest)),
            *_passed_over(choice),
            said("method.input_unread", count=len(study.instances), digest=study.digest, software=software),
        ),
        limitations=(said("limitations.another"),),
    )


def replaced(before: int, now: int) -> Said:
    """Which answer still counts, where a reader may have both; `before` and `now` count instances."""
    return said("findings.replaces", count=before, now=now)


def percent(probability: float) -> Said:
    """Whole percent; the ends are not rounded to certainty."""
    if probability >= 0.995:
        return said("percent.over")
    return said("percent.under") if probability < 0.005 else said("percent.exact", percent=round(100 * float(probability)))


def any_probability(finding: Finding, manifest: Manifest) -> float:
    """That of any label but "none of the others"."""
    return sum(p for label, p in finding.probabilities.items() if label != manifest.absent)


def named(label: str, manifest: Manifest) -> str:
    """A label as words within a sentence."""
    if label == manifest.absent:
        return manifest.words.absent
    meaning = next((known.meaning for known in manifest.labels if known.name == label), label)
    return meaning if meaning[1:2].isupper() else meaning[:1].lower() + meaning[1:]  # an abbreviation stays one


def turned(turn: Turn) -> str:
    """From the slices as stored to the slices as the network saw them: "transposed, rows reversed", in this order; "as stored"."""
    steps = (("transposed", turn.transpose), ("rows reversed", turn.flip_rows), ("columns reversed", turn.flip_columns))
    return ", ".join(step for step, done in steps if done) or "as stored"


def _found(finding: Finding, manifest: Manifest) -> Said:
    some, one = any_probability(finding, manifest), manifest.words.finding
    bare = one.removeprefix("an ").removeprefix("a ")
    likeliest = {"label": named(finding.label, manifest), "label_percent": percent(finding.probability)}
    several = len(_sought(manifest)) > 1  # where the model knows one thing only, nothing is likelier than another
    if finding.call == "present":
        sure = {"finding": bare, "certainty": _certainty(some), "percent": percent(some)}
        return said("findings.found_likeliest", **sure, **likeliest) if several else said("findings.found", **sure)
    if finding.call == "absent":
        return said("findings.not_found", finding=bare, certainty=_certainty(1 - some), percent=percent(1 - some))
    if not several:
        return said("findings.unsure", a_finding=one, percent=percent(some))
    key = "findings.unsure_absent" if finding.label == manifest.absent else "findings.unsure_likeliest"
    return said(key, a_finding=one, percent=percent(some), **likeliest)


def _certainty(probability: float) -> Said:
    return next(word for least, word in _CERTAINTY if probability >= least)


def _seen(study: Study, finding: Finding) -> tuple[Said, ...]:
    """Where to look; where nothing is present for certain these are the slices that spoke most for it."""
    if not finding.key_sources:
        return ()
    first, *others = finding.key_sources
    place = _place(study, first)
    if others:
        key = "findings.best_seen_then" if finding.call == "present" else "findings.suspicious_then"
        return (said(key, place=place, others=_next(study, others)),)
    return (said("findings.best_seen" if finding.call == "present" else "findings.suspicious", place=place),)


def _next(study: Study, others: Sequence[Source]) -> Said:
    """The images after the best one, whose series was named with it."""
    frames = [str(source.frame) for source in others if source.frame is not None]
    images = [_instance(study, source).headers.instance_number for source in others]
    numbers = frames or [str(number) if number else said("places.unnumbered") for number in images]
    return said("places.frames" if frames else "places.images", count=len(numbers), numbers=listed(numbers, "and"))


def _outline(finding: Finding, manifest: Manifest) -> tuple[Said, ...]:
    return (said("findings.outline", a_finding=manifest.words.finding),) if finding.region else ()


def _unlike(finding: Finding) -> tuple[Said, ...]:
    return (said("findings.unlike", what=listed([_TRAITS[trait] for trait in finding.unlike], "and")),) if finding.unlike else ()


def _no_place(finding: Finding, prediction: Prediction) -> tuple[Said, ...]:
    """Of a model without evidence maps: nobody is to look for an outline, or to take its absence for an answer."""
    return () if prediction.evidence is not None or finding.call == "absent" else (said("findings.no_place"),)


def _others(finding: Finding, manifest: Manifest) -> Said:
    others = sorted((item for item in finding.probabilities.items() if item[0] != finding.label), key=lambda item: -item[1])
    told = [said("findings.other", label=named(label, manifest), percent=percent(p)) for label, p in others]
    return said("findings.others", others=listed(told, "comma"))


def _concluded(study: Study, finding: Finding, manifest: Manifest) -> Said:
    if finding.call == "absent":
        return said("conclusion.no_sign", labels=listed([named(label, manifest) for label in _sought(manifest)], "or"))
    where = {"place": _place(study, finding.key_sources[0])} if finding.key_sources else {}
    if finding.call == "present":
        return said("conclusion.suspected_at" if where else "conclusion.suspected", label=named(finding.label, manifest), **where)
    return said("conclusion.open_at" if where else "conclusion.open", a_finding=manifest.words.finding, **where)


def _read(study: Study, choice: Choice, prediction: Prediction) -> Said:
    headers = _instance(study, prediction.sources[0]).headers
    slices = prediction.geometry.told(len(prediction.sources))
    series = _series(headers.series_number)
    return said("method.read", series=series, modality=headers.modality, slices=slices, reason=choice.reason)


def _reads(manifest: Manifest) -> Said:
    """ "T1-weighted MR series of the head", "CT series of the head"."""
    what = {"modality": manifest.modality, "sequence": told(manifest.sequence), "body_part": manifest.body_part}
    if not manifest.sequence:
        key = "method.reads_part" if manifest.body_part else "method.reads"
    else:
        key = "method.reads_sequence_part" if manifest.body_part else "method.reads_sequence"
    return said(key, **what)


def _passed_over(choice: Choice) -> tuple[Said, ...]:
    """One sentence for each reason, in the order of the series' numbers."""
    groups: dict[tuple[str, str], list[PassedOver]] = {}
    for passed in sorted(choice.passed_over, key=lambda p: (p.series_number is None, p.series_number or 0, p.series_uid)):
        groups.setdefault((passed.modality, passed.reason), []).append(passed)
    return tuple(_not_read(group) for group in groups.values())


def _not_read(alike: Sequence[PassedOver]) -> Said:
    """Series of one modality that one reason holds for."""
    numbers = [said("places.one_unnumbered") if one.series_number is None else str(one.series_number) for one in alike]
    modality, reason = alike[0].modality or said("places.no_modality"), alike[0].reason
    return said("method.passed_over", count=len(alike), numbers=listed(numbers, "and"), modality=modality, reason=reason)


def _model(manifest: Manifest, prediction: Prediction) -> Said:
    artifact = manifest.artifacts.get(prediction.variant)
    of: dict[str, str] = {"name": manifest.name, "version": manifest.version, "variant": _VARIANTS[prediction.variant]}
    return said("method.model_weights", **of, sha256=artifact.sha256) if artifact else said("method.model", **of)


def _agreement(prediction: Prediction, manifest: Manifest) -> Said:
    compared, differing = prediction.compared, prediction.differing
    if len(manifest.artifacts) == 1:
        return said("method.one_variant", variant=_VARIANTS[prediction.variant])
    if prediction.agreement == "not compared" or not compared:
        return said("method.not_compared")
    if prediction.agreement == "differ":
        return said("method.differ", differing=differing, count=compared)
    return said("method.agree", same=compared - differing, count=compared)


def _limitations(manifest: Manifest) -> tuple[str, ...]:
    known = listed([named(label, manifest) for label in _sought(manifest)], "and")
    learned = [said("limitations.source", name=source.name, licence=source.licence) for source in manifest.learned_from]
    return (
        said("limitations.knows", labels=known),
        *(() if any("calibrated" in limit for limit in manifest.limits) else (said("limitations.uncalibrated"),)),
        *manifest.limits,
        *((said("limitations.learned", sources=listed(learned, "semicolon")),) if learned else ()),
    )


def _because(choice: Choice) -> Said:
    """The reason as the end of a sentence; what it lists of single series has sentences of its own."""
    if choice.passed_over:
        return said("reasons.there_is_none", series=choice.reason.fields["series"])
    return said("reasons.there_is_none_for", series=choice.reason.fields["series"], reason=choice.reason.fields["reasons"])


def _sought(manifest: Manifest) -> list[str]:
    """The labels of what the model looks for."""
    return [label for label in manifest.label_names if label != manifest.absent]


def _instance(study: Study, source: Source) -> Instance:
    return next(i for i in study.instances if i.sop_instance_uid == source.sop_instance_uid)


def _place(study: Study, source: Source) -> Said:
    """As viewers label it: "series 3, image 14", and the frame of a multi-frame object."""
    headers = _instance(study, source).headers
    series = _series(headers.series_number)
    if headers.instance_number is None:
        image = said("places.image_unnumbered", series=series)
    else:
        image = said("places.image", series=series, number=headers.instance_number)
    return image if source.frame is None else said("places.frame", image=image, number=source.frame)


def _series(number: int | None) -> Said:
    return said("places.series_unnumbered") if number is None else said("places.series", number=number)
