"""Every sentence of the Summary in one place: finding first, certainty in word and number, where, then limits and method.

Viewers print the sentences without their headings' codes, some without headings at all, so each must stand alone.
No free text of the study enters here: series and images are named by their numbers, reasons by the rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.manifest import Manifest
from pipeline.records import Choice, Finding, Instance, Prediction, Source, Study, Turn
from pipeline.vocabulary import told

UNVERIFIED = "AI result, not verified by a physician. Research use only, not a medical device."
_UNCALIBRATED = "The probabilities are the model's own; they are not calibrated on whole studies."
_CERTAINTY = ((0.95, "high"), (0.8, "moderate"), (0.0, "low"))  # words beside the number, never instead of it
_TRAITS = {
    "share": "share of the head in the picture",
    "brightness": "brightness inside the head",
    "contrast": "contrast inside the head",
    "sharpness": "sharpness inside the head",
}
_VARIANTS = {"int8": "int8 (8-bit)", "fp32": "fp32 (full precision)"}


@dataclass(frozen=True, slots=True)
class Sections:
    """The Summary, sentence by sentence."""

    findings: tuple[str, ...]
    conclusion: tuple[str, ...]
    method: tuple[str, ...]
    limitations: tuple[str, ...]


def analysed(study: Study, choice: Choice, finding: Finding, prediction: Prediction, manifest: Manifest, software: str) -> Sections:
    """The sentences for a study that the network has read."""
    differs = prediction.agreement == "differ"
    return Sections(
        findings=tuple(
            filter(
                None,
                (
                    _found(finding, manifest),
                    _unlike(finding),
                    _seen(study, finding),
                    _outline(finding, manifest),
                    _no_place(finding, prediction),
                    _others(finding, manifest),
                ),
            )
        ),
        conclusion=(_concluded(study, finding, manifest), *((_agreement(prediction),) if differs else ()), UNVERIFIED),
        method=(
            _read(study, choice, prediction),
            *_passed_over(choice),
            _model(manifest, prediction),
            *(() if differs else (_agreement(prediction),)),
            f"Input: {_count(len(study.instances), 'instance')} of the study, sha256 of the set {study.digest}; "
            f"recipe {manifest.recipe.id}; {software}.",
        ),
        limitations=(*prediction.geometry.remarks, *_limitations(manifest)),
    )


def not_analysed(study: Study, choice: Choice, manifest: Manifest, software: str) -> Sections:
    """The sentences for a study that a radiologist expects an answer for and that has none."""
    return Sections(
        findings=(f"Not analysed, because {_because(choice)}.",),
        conclusion=("No answer was computed: nothing was found and nothing was excluded.", UNVERIFIED),
        method=(
            f"The model {manifest.name} {manifest.version} reads {_reads(manifest)} and nothing else.",
            *_passed_over(choice),
            f"Input: {_count(len(study.instances), 'instance')} of the study, sha256 of the set {study.digest}; {software}.",
        ),
        limitations=("Another series, or the same one sent again in full, may still be analysed.",),
    )


def percent(probability: float) -> str:
    """Whole percent; the ends are not rounded to certainty."""
    if probability >= 0.995:
        return "over 99%"
    return "under 1%" if probability < 0.005 else f"{probability:.0%}"


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


def _found(finding: Finding, manifest: Manifest) -> str:
    some, one = any_probability(finding, manifest), manifest.words.finding
    bare = one.removeprefix("an ").removeprefix("a ")
    likeliest = f"{named(finding.label, manifest)} ({percent(finding.probability)})"
    several = len(_sought(manifest)) > 1  # where the model knows one thing only, nothing is likelier than another
    if finding.call == "present":
        which = f": most likely {likeliest}" if several else ""
        return f"{bare[:1].upper()}{bare[1:]} found, certainty {_certainty(some)} ({percent(some)}){which}."
    if finding.call == "absent":
        return f"No {bare} found, certainty {_certainty(1 - some)} ({percent(1 - some)})."
    guess = "the likeliest single answer is" if finding.label == manifest.absent else "if there is one, it is most likely"
    return f"Unsure whether there is {one} ({percent(some)}){f'; {guess} {likeliest}' if several else ''}."


def _certainty(probability: float) -> str:
    return next(word for least, word in _CERTAINTY if probability >= least)


def _seen(study: Study, finding: Finding) -> str:
    """Where to look; where nothing is present for certain these are the slices that spoke most for it."""
    if not finding.key_sources:
        return ""
    first, *others = finding.key_sources
    lead = "Best seen on" if finding.call == "present" else "Most suspicious:"
    return f"{lead} {_place(study, first)}{_next(study, others)}."


def _next(study: Study, others: Sequence[Source]) -> str:
    """The images after the best one, whose series was named with it."""
    if not others:
        return ""
    frames = [str(source.frame) for source in others if source.frame is not None]
    numbers = frames or [str(_instance(study, source).headers.instance_number or "without number") for source in others]
    noun = "frame" if frames else "image"
    return f"; then {noun}{'' if len(numbers) == 1 else 's'} {_list(numbers)}"


def _outline(finding: Finding, manifest: Manifest) -> str:
    if not finding.region:
        return ""
    return f"The outline drawn there shows where the evidence of the model lies; it is not the border of {manifest.words.finding}."


def _unlike(finding: Finding) -> str:
    if not finding.unlike:
        return ""
    what = _list([_TRAITS[trait] for trait in finding.unlike])
    return f"The pictures are unlike those that the model learned from ({what}): read this result with caution."


def _no_place(finding: Finding, prediction: Prediction) -> str:
    """Of a model without evidence maps: nobody is to look for an outline, or to take its absence for an answer."""
    if prediction.evidence is not None or finding.call == "absent":
        return ""
    return "This model shows no place within an image: it names slices and draws no outline."


def _others(finding: Finding, manifest: Manifest) -> str:
    others = sorted((item for item in finding.probabilities.items() if item[0] != finding.label), key=lambda item: -item[1])
    return f"Other possibilities: {', '.join(f'{named(label, manifest)} {percent(p)}' for label, p in others)}."


def _concluded(study: Study, finding: Finding, manifest: Manifest) -> str:
    if finding.call == "absent":
        return f"The AI saw no sign of {_list([named(label, manifest) for label in _sought(manifest)], 'or')}."
    where = f": see {_place(study, finding.key_sources[0])}" if finding.key_sources else ""
    if finding.call == "present":
        return f"Suspected {named(finding.label, manifest)}{where}."
    one = manifest.words.finding
    return f"{one[:1].upper()}{one[1:]} is neither found nor excluded{where}."


def _read(study: Study, choice: Choice, prediction: Prediction) -> str:
    instance = _instance(study, prediction.sources[0])
    what = f"{instance.headers.modality}, {prediction.geometry.told(len(prediction.sources))}"
    return f"The model read {_series(instance.headers.series_number)} ({what}): {choice.reason.rstrip('.')}."


def _reads(manifest: Manifest) -> str:
    """ "T1-weighted MR series of the head", "CT series of the head"."""
    weighted = f"{told(manifest.sequence)} " if manifest.sequence else ""
    return f"{weighted}{manifest.modality} series{f' of the {manifest.body_part}' if manifest.body_part else ''}"


def _passed_over(choice: Choice) -> tuple[str, ...]:
    """One sentence for each reason, in the order of the series' numbers."""
    groups: dict[str, list[str]] = {}
    for passed in sorted(choice.passed_over, key=lambda p: (p.series_number is None, p.series_number or 0, p.series_uid)):
        number = "one without number" if passed.series_number is None else str(passed.series_number)
        groups.setdefault(f"({passed.modality or 'no modality'}): {passed.reason}", []).append(number)
    return tuple(f"Not read: series {_list(numbers)} {reason.rstrip('.')}." for reason, numbers in groups.items())


def _model(manifest: Manifest, prediction: Prediction) -> str:
    artifact = manifest.artifacts.get(prediction.variant)
    weights = f", weights sha256 {artifact.sha256}" if artifact else ""
    return f"Model {manifest.name} {manifest.version}, variant {_VARIANTS[prediction.variant]}{weights}."


def _agreement(prediction: Prediction) -> str:
    compared, differing = prediction.compared, prediction.differing
    if prediction.agreement == "not compared" or not compared:
        return "The two variants of the model, int8 and fp32, were not compared on this study."
    if prediction.agreement == "differ":
        return (
            f"The two variants of the model disagreed on {differing} of {_count(compared, 'compared slice')}; "
            "fp32, the full-precision one, is reported."
        )
    on = f"{compared - differing} of {_count(compared, 'compared slice')}"
    return f"The two variants of the model, int8 and fp32, gave the same answer on {on}."


def _limitations(manifest: Manifest) -> tuple[str, ...]:
    known = _list([named(label, manifest) for label in _sought(manifest)])
    learned = "; ".join(f"{source.name} ({source.licence})" for source in manifest.learned_from)
    return (
        f"The model knows {known} and nothing else: any other disease is neither found nor excluded.",
        *(() if any("calibrated" in limit for limit in manifest.limits) else (_UNCALIBRATED,)),
        *manifest.limits,
        *((f"The model learned from {learned}.",) if learned else ()),
    )


def _because(choice: Choice) -> str:
    """The reason as the end of a sentence; what it lists of single series has sentences of its own."""
    reason = choice.reason.rstrip(".")
    if not reason.startswith("no "):
        return reason
    return f"there is {reason.split(': ')[0] if choice.passed_over else reason}"


def _sought(manifest: Manifest) -> list[str]:
    """The labels of what the model looks for."""
    return [label for label in manifest.label_names if label != manifest.absent]


def _instance(study: Study, source: Source) -> Instance:
    return next(i for i in study.instances if i.sop_instance_uid == source.sop_instance_uid)


def _place(study: Study, source: Source) -> str:
    """As viewers label it: "series 3, image 14", and the frame of a multi-frame object."""
    headers = _instance(study, source).headers
    image = "an image without number" if headers.instance_number is None else f"image {headers.instance_number}"
    return ", ".join((_series(headers.series_number), image, *(() if source.frame is None else (f"frame {source.frame}",))))


def _series(number: int | None) -> str:
    return "a series without number" if number is None else f"series {number}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _list(words: Sequence[str], last: str = "and") -> str:
    """ "a", "a and b", "a, b and c"."""
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), words[-1] if words else "")))
