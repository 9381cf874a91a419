"""report: a Finding -> its documents: two Structured Reports, one for people and one for machines, and what else somebody wants.

    Summary        Enhanced SR, whole sentences; its title is not "Imaging Measurement Report", so viewers open it as text
    Measurements   Comprehensive SR, TID 1500 (PS3.16): coded finding, probabilities, key images, region

    key-image, presentation, pdf    for a PACS that shows no SR (pipeline/extras.py)

Where nothing was analysed there is a Summary alone (and its PDF), and it says why. Datasets are born and die in this file, in `extras` and
in `envelope`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

import numpy as np
from highdicom import sr
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from models.manifest import Coded, Label, Manifest
from pipeline import extras, inherited, wording
from pipeline.claim import UNVERIFIED
from pipeline.envelope import Origin, can_spell, derived_uid, device_uid, plain, private, release, seal, software, spelt
from pipeline.extras import KeyImage
from pipeline.language import ENGLISH, Said, said
from pipeline.records import Choice, Document, Finding, Instance, Kind, Order, Prediction, Slices, Source, Study, Variant

# Titles and headings: DICOM's own concepts where it has them (CID 7001, CID 7002), but no title that could pass for a physician's report.
# Their values are everybody's, their meanings in the language of the Summary.
_TITLE = private("SUMMARY", "")
_SECTIONS = (  # field of wording.Sections, heading, concept of each sentence below it
    ("findings", (codes.LN.Findings, said("headings.findings")), (codes.DCM.Summary, said("headings.summary"))),
    ("conclusion", (codes.LN.Conclusions, said("headings.conclusions")), (codes.DCM.Conclusion, said("headings.conclusion"))),
    ("method", (private("METHOD", ""), said("headings.method")), (codes.DCM.ProcedureDescription, said("headings.step"))),
    ("limitations", (private("LIMITATIONS", ""), said("headings.limitations")), (codes.DCM.Comment, said("headings.comment"))),
)
_PRESENCE = {"present": codes.SCT.Present, "absent": codes.SCT.Absent, "unsure": codes.SCT.Undetermined}  # CID 240
_PROCEDURES = {"MR": codes.LN.MRIUnspecifiedBodyRegion, "CT": codes.LN.CTUnspecifiedBodyRegion}  # CID 100
_SOURCE = Code("260753009", "SCT", "Source")

Points = NDArray[np.float64]  # (point, 2): column, row


def make(
    study: Study,
    choice: Choice,
    finding: Finding | None,
    prediction: Prediction | None,
    manifest: Manifest,
    now: datetime,
    order: Order = Order(),  # noqa: B008 - frozen
    slices: Slices | None = None,
) -> tuple[Document, ...]:
    """Those of the `wanted` documents that the result has: without a finding only a Summary, saying "Not analysed, because", and its PDF;
    a key image (of `slices`) where something is to be seen, a presentation where a region is to be drawn.

    `now` becomes the documents' date and time, on the clock that the study's own times name where they name one. The same arguments give
    the same UIDs and the same bytes. The Summary is in the language of `order`; in English where the source's character set has not its
    letters.
    """
    if finding is None or prediction is None:
        origin = _origin(study, manifest, None, (), now, order)
        sections = _spoken(wording.not_analysed(study, choice, manifest, software()), origin)
        return _made({"summary": lambda: _summary(origin, sections, ()), "pdf": lambda: _pdf(origin, sections)}, origin, order)
    read = {source.sop_instance_uid for source in prediction.sources}
    evidence = tuple(instance for instance in study.instances if instance.sop_instance_uid in read)
    origin = _origin(study, manifest, prediction.variant, evidence, now, order)
    sections = _spoken(wording.analysed(study, choice, finding, prediction, manifest, software()), origin)
    images = [(_instance(evidence, source), source) for source in finding.key_sources]
    contents: dict[Kind, Callable[[], Any]] = {
        "summary": lambda: _summary(origin, sections, images),
        "measurements": lambda: _measurements(origin, finding, prediction, images),
        "pdf": lambda: _pdf(origin, sections),
    }
    if slices is not None and images:  # an absent finding has none
        title = origin.language(said("headings.title"))
        contents["key-image"] = lambda: extras.key_image(origin, title, sections, finding, images, slices)
        if finding.region:
            contents["presentation"] = lambda: extras.presentation(origin, title, sections, finding, images[0], slices)
    return _made(contents, origin, order)


def _made(contents: Mapping[Kind, Callable[[], Any]], origin: Origin, order: Order) -> tuple[Document, ...]:
    """Only what is wanted is made."""
    made = ((kind, content()) for kind, content in contents.items() if kind in order.documents)
    return tuple(seal(kind, content, origin) for kind, content in made if content is not None)


def _pdf(origin: Origin, sections: wording.Sections) -> Any:
    told = [(origin.language(heading), getattr(sections, field)) for field, (_, heading), _ in _SECTIONS]
    return extras.pdf(origin, _meaning(origin, _TITLE, said("headings.title")), told)


def _origin(
    study: Study, manifest: Manifest, variant: Variant | None, evidence: tuple[Instance, ...], now: datetime, order: Order
) -> Origin:
    source = inherited.read(_first(evidence or study.instances))
    language = order.language if can_spell(order.language, source) else ENGLISH
    return Origin(study, manifest, variant, evidence, now, source, language, order.institution, order.replaces)


def _first(instances: Iterable[Instance]) -> Instance:
    """The one that documents inherit from; the order of arrival does not matter."""
    return min(instances, key=lambda i: (i.headers.series_number or 0, i.headers.instance_number or 0, i.sop_instance_uid))


def _instance(evidence: Sequence[Instance], source: Source) -> Instance:
    return next(i for i in evidence if i.sop_instance_uid == source.sop_instance_uid)


# The Summary ---------------------------------------------------------------------------------------------------------------------------


def _spoken(sections: wording.Sections, origin: Origin) -> wording.Sections:
    """The sentences in the language of the Summary; as the second of all what the result replaces, for the finding stays first."""
    if (earlier := origin.replaced("summary")) is not None:
        first, *others = sections.findings
        sections = replace(sections, findings=(first, wording.replaced(earlier.instances, len(origin.study.instances)), *others))
    return wording.Sections(*(tuple(map(origin.language.sentence, getattr(sections, field.name))) for field in fields(sections)))


def _summary(origin: Origin, sections: wording.Sections, images: Sequence[KeyImage]) -> Any:
    """Its language, then sections of sentences; the key images hang on the last of the findings, for what hangs on a sentence is read
    before the next, and what hangs on none OHIF calls not supported.

    The concept of a sentence of the findings is CID 7002's Summary: OHIF never breaks the lines of a Finding (121071).
    """
    root = sr.ContainerContentItem(_meaning(origin, _TITLE, said("headings.title")), is_content_continuous=False)
    root.ContentSequence = sr.ContentSequence([_language(origin)])
    for field, heading, concept in _SECTIONS:
        section = sr.ContainerContentItem(_meaning(origin, *heading), is_content_continuous=False, relationship_type="CONTAINS")
        sentences = [spelt(sentence, origin.source) for sentence in getattr(sections, field)]
        section.ContentSequence = sr.ContentSequence(sr.TextContentItem(_meaning(origin, *concept), s, "CONTAINS") for s in sentences)
        root.ContentSequence.append(section)
    if images:
        best = _meaning(origin, codes.DCM.BestIllustrationOfFinding, said("headings.image"))
        last = root.ContentSequence[1].ContentSequence[-1]
        last.ContentSequence = sr.ContentSequence(_image(best, "INFERRED FROM", *image) for image in images)
    return root


def _language(origin: Origin) -> Any:
    """TID 1204, of everything below the root."""
    concept = _meaning(origin, codes.DCM.LanguageOfContentItemAndDescendants, said("headings.language"))
    spoken = Code(origin.language.code, "RFC5646", spelt(origin.language.name, origin.source)[:64])  # CID 5000
    return sr.CodeContentItem(concept, spoken, "HAS CONCEPT MOD")


def _meaning(origin: Origin, concept: Any, meaning: Said) -> Any:
    """`concept`, its meaning in the language of the Summary: no two languages need agree on it (PS3.3 8.3). Cut where letters that the
    character set lacks make it longer than LO holds (PS3.5 6.2).
    """
    return Code(concept.value, concept.scheme_designator, spelt(origin.language(meaning), origin.source)[:64])


def _image(concept: Any, relationship: str, instance: Instance, source: Source) -> Any:
    return sr.ImageContentItem(concept, instance.sop_class_uid, source.sop_instance_uid, _frames(source), relationship_type=relationship)


def _frames(source: Source) -> list[int] | None:
    return None if source.frame is None else [source.frame]


# The Measurements ----------------------------------------------------------------------------------------------------------------------


def _measurements(origin: Origin, finding: Finding, prediction: Prediction, images: Sequence[KeyImage]) -> Any:
    """TID 1500, the key images in its Image Library (TID 1600); the other instances stay in the evidence."""
    drawn = finding.region and images
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=_observer()),
        procedure_reported=_PROCEDURES.get(origin.manifest.modality, codes.SCT.ImagingProcedure),
        imaging_measurements=[_group(origin, finding, prediction, images)],
        # OHIF draws the first kind on the images and stays black where nothing is to be drawn; the second it opens as text (CID 7021).
        title=codes.DCM.ImagingMeasurementReport if drawn else codes.DCM.OncologyMeasurementReport,
    )
    root = report[0]
    if images:
        root.ContentSequence.insert(len(root.ContentSequence) - 1, _library(images))
    return root


def _observer() -> Any:
    """TID 1004; the same as the General Equipment module says of us."""
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=device_uid(), name="VitalCheck", manufacturer_name="VitalCheck", model_name="VitalCheck", serial_number=release()
    )
    return sr.ObserverContext(codes.DCM.Device, device)


def _library(images: Sequence[KeyImage]) -> Any:
    group = sr.ContainerContentItem(codes.DCM.ImageLibraryGroup, relationship_type="CONTAINS")
    group.ContentSequence = sr.ContentSequence(_image(_SOURCE, "CONTAINS", *image) for image in images)
    library = sr.ContainerContentItem(codes.DCM.ImageLibrary, relationship_type="CONTAINS")
    library.ContentSequence = sr.ContentSequence([group])
    return library


def _group(origin: Origin, finding: Finding, prediction: Prediction, images: Sequence[KeyImage]) -> Any:
    """One finding: with a region a planar one (TID 1410), else a group that names its source images (TID 1501)."""
    manifest = origin.manifest
    said: dict[str, Any] = {
        # stable over revisions of the result, so that a reader knows it is the same finding
        "tracking_identifier": sr.TrackingIdentifier(derived_uid(origin.study.uid, manifest.name, "finding"), "VitalCheck finding 1"),
        "finding_type": _finding_code(finding, manifest),
        "finding_sites": [sr.FindingSite(_coded(manifest.words.site))],
        "algorithm_id": _algorithm(origin, prediction),
        "measurements": [_probability(name, p, manifest) for name, p in sorted(finding.probabilities.items(), key=lambda item: -item[1])],
        "qualitative_evaluations": [sr.QualitativeEvaluation(codes.DCM.PresenceOfProperty, _PRESENCE[finding.call])],
    }
    if finding.region and images:
        return sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=_region(finding, *images[0]), **said)
    sources = [sr.SourceImageForMeasurementGroup(i.sop_class_uid, i.sop_instance_uid, _frames(source)) for i, source in images]
    return sr.MeasurementsAndQualitativeEvaluations(source_images=sources, **said)


def _finding_code(finding: Finding, manifest: Manifest) -> Any:
    """The concept whose presence is stated; "neoplasm: absent" instead of "no tumour: absent"."""
    if finding.call == "absent" or finding.label == manifest.absent:
        return _coded(manifest.words.any)
    return _label_code(finding.label, manifest)


def _label_code(name: str, manifest: Manifest) -> Any:
    return _coded(next(label for label in manifest.labels if label.name == name))


def _coded(concept: Coded | Label) -> Any:
    """A manifest's concept; a code meaning is LO, 64 characters (PS3.3 8.3)."""
    return Code(concept.value, concept.scheme, plain(concept.meaning)[:64])


def _algorithm(origin: Origin, prediction: Prediction) -> Any:
    """TID 4019. All that another run of the same network would need to see the same: weights, recipe, rules, input, how it was turned,
    and what computed it. `vitalcheck verify` reads it again (pipeline/claim.py)."""
    geometry, manifest = prediction.geometry, origin.manifest
    parameters = [f"variant {origin.variant}", f"weights sha256 {origin.weights}", f"recipe {manifest.recipe.id}"]
    digests = " ".join(i.sha256[:16] for i in sorted(origin.evidence, key=lambda i: i.sop_instance_uid))
    turned = f"slices {geometry.plane}, {geometry.tilt:.1f} degrees oblique, turned for the network: {wording.turned(geometry.turn)}"
    return sr.AlgorithmIdentification(
        name=plain(manifest.name),
        version=plain(manifest.version),
        parameters=[
            *parameters,
            f"manifest {manifest.id}",
            f"input set sha256 {origin.study.digest}",
            f"instances sha256, first 16 digits of each, by ascending UID: {digests}",
            turned,
            *map(plain, prediction.environment),
        ],
        family=codes.DCM.ArtificialIntelligence,
    )


def _probability(name: str, probability: float, manifest: Manifest) -> Any:
    """TID 300, in percent: a concept of its own, for viewers print nothing but its meaning, OHIF on the image itself: there, too, it says
    that nobody verified it. The label's code is its modifier.
    """
    label = _label_code(name, manifest)
    concept = private(f"P-{label.value}", f"{UNVERIFIED}{plain(wording.named(name, manifest))}"[:64])
    measurement = sr.Measurement(name=concept, value=round(100 * float(probability), 4), unit=codes.UCUM.Percent)
    number = measurement[0]
    number.ContentSequence = sr.ContentSequence(
        [*number.get("ContentSequence", ()), sr.CodeContentItem(codes.DCM.Finding, label, "HAS CONCEPT MOD")]
    )
    return measurement


def _region(finding: Finding, instance: Instance, source: Source) -> Any:
    """A closed polyline in pixels of the key image, none of it beyond the image's edge."""
    points = [*finding.region, *(finding.region[:1] if finding.region[0] != finding.region[-1] else ())]
    edge = (instance.headers.columns or np.inf, instance.headers.rows or np.inf)
    image = sr.SourceImageForRegion(instance.sop_class_uid, instance.sop_instance_uid, _frames(source))
    return _ImageRegion(np.clip(np.array(points, dtype=float), 0.0, edge), image)


class _ImageRegion(sr.ImageRegion):  # type: ignore[misc]
    """highdicom's, without its look at the tables of PS3.3 for whether the image is tiled: they take 110 MiB of every worker and 0.3 s."""

    def __init__(self, points: Points, image: Any) -> None:
        shape, within = sr.GraphicTypeValues.POLYLINE, sr.RelationshipTypeValues.CONTAINS
        sr.ScoordContentItem.__init__(self, codes.DCM.ImageRegion, shape, points, relationship_type=within)
        self.ContentSequence = [image]
