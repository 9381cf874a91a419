"""extras: what goes to a PACS that shows no Structured Report, made of the same result.

    key image      Secondary Capture (PS3.3 A.8.1): the slice as displayed, the region drawn in, the finding in words below it
    presentation   Grayscale Softcopy Presentation State (PS3.3 A.33.1): the region over the slice itself
    pdf            Encapsulated PDF (PS3.3 A.45.1): the sentences of the Summary

Each function gives what the modules of its kind hold; envelope adds what all documents hold. Nothing in picture or page names the patient:
who it is stands in the header, under its own character set, where it can be corrected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom.sr.codedict import codes

from pipeline import display, page, picture
from pipeline.envelope import Origin, clock, code, item, plain, reference, software
from pipeline.orientation import letters
from pipeline.records import Finding, Instance, Pixels, Point, Slices, Source
from pipeline.wording import Sections

KeyImage = tuple[Instance, Source]
_LAYER = "AI"


def key_image(origin: Origin, title: str, sections: Sections, finding: Finding, images: Sequence[KeyImage], slices: Slices) -> Any:
    """The first of `images` with the region, as a picture that every viewer shows; below it all of the findings but the last sentence,
    which lists what else it could be.
    """
    instance, source = images[0]
    told = display.read(instance, source.frame)
    sentences = [*sections.findings[:-1], f"{origin.model}, {origin.variant}; {software()}"]
    shown = display.grey(_slice(slices, source), told)
    painted = picture.paint(shown, slices.spacing, _within(finding.region, instance), plain(title), [plain(s) for s in sentences])
    content = item(Rows=painted.shape[0], Columns=painted.shape[1], SamplesPerPixel=3, PhotometricInterpretation="RGB")
    content.PlanarConfiguration = content.PixelRepresentation = 0
    content.BitsAllocated, content.BitsStored, content.HighBit = 8, 8, 7
    content.add_new("PixelData", "OB", painted.tobytes() + bytes(painted.size % 2))
    content.ImageType, content.ConversionType = ["DERIVED", "SECONDARY"], "WSD"  # made at a workstation (PS3.3 C.8.6.1)
    content.update(_part(origin))
    content.PatientOrientation = letters(slices.orientation) if slices.orientation else None
    # YES is for annotation that suffices to identify the patient and the date of acquisition (PS3.3 C.7.6.1); ours does neither.
    content.BurnedInAnnotation = "NO"
    content.LossyImageCompression = "01" if told.lossy else "00"  # once lossy, always (PS3.3 C.7.6.1.1.5)
    content.DerivationDescription = "Slice as displayed, enlarged; AI result drawn in and written below, not verified"
    content.SourceImageSequence = [reference(instance, source.frame)]
    content.SourceImageSequence[0].PurposeOfReferenceCodeSequence = [code(codes.DCM.SourceImageForImageProcessingOperation)]
    content.ReferencedImageSequence = [reference(other, at.frame) for other, at in images]
    return content


def presentation(origin: Origin, title: str, sections: Sections, finding: Finding, image: KeyImage, slices: Slices) -> Any:
    """The region over `image`, shown with the image's own window. None where a table leads to its units: that would have to be copied."""
    instance, source = image
    told = display.read(instance, source.frame)
    if told.lut:
        return None
    content = item(ContentLabel="AI_NOT_VERIFIED", ContentDescription=plain(title)[:64], ContentCreatorName="VitalCheck")
    content.update(_part(origin))
    content.ReferencedSeriesSequence = [item(SeriesInstanceUID=instance.series_uid, ReferencedImageSequence=[_only(image)])]
    content.DisplayedAreaSelectionSequence = [_area(image)]
    content.GraphicAnnotationSequence = [_annotation(image, _within(finding.region, instance), [title, *sections.findings[:1]])]
    content.GraphicLayerSequence = [item(GraphicLayer=_LAYER, GraphicLayerOrder=1, GraphicLayerDescription=plain(title)[:64])]
    if told.rescale:
        slope, intercept, units = told.rescale
        content.RescaleSlope, content.RescaleIntercept, content.RescaleType = _decimal(slope), _decimal(intercept), units
    if window := told.window or (None if told.inverse else display.usual(_slice(slices, source))):
        shown = item(WindowCenter=_decimal(window.center), WindowWidth=_decimal(window.width), VOILUTFunction=window.function)
        content.SoftcopyVOILUTSequence = [shown]
    content.PresentationLUTShape = "INVERSE" if told.inverse else "IDENTITY"  # stands for the photometric interpretation (PS3.4 N.2.4)
    return content


def pdf(origin: Origin, title: Any, sections: Sequence[tuple[str, Sequence[str]]]) -> Any:
    """The sentences of the Summary under their headings; `title` is its concept."""
    subtitle = f"{origin.model}{f', {origin.variant}' if origin.variant else ''}; {software()}; {clock(origin):%Y-%m-%d %H:%M}"
    file = page.written(title.meaning, subtitle, sections)
    content = item(ConversionType="WSD", AcquisitionDateTime=None, DocumentTitle=plain(title.meaning)[:64])
    content.BurnedInAnnotation = "NO"  # as above (PS3.3 C.24.2)
    content.ConceptNameCodeSequence = [code(title)]
    content.VerificationFlag = "UNVERIFIED"
    if origin.evidence:
        content.SourceInstanceSequence = [reference(i) for i in sorted(origin.evidence, key=lambda i: (i.series_uid, i.sop_instance_uid))]
    content.MIMETypeOfEncapsulatedDocument = "application/pdf"
    content.EncapsulatedDocument = file + bytes(len(file) % 2)
    content.EncapsulatedDocumentLength = len(file)
    return content


def _part(origin: Origin) -> Any:
    """The part of the body as the model's rules say; without one a laterality is asked for (PS3.3 C.7.3.1), of which we know nothing."""
    part = plain(origin.manifest.body_part).upper()[:16]
    return item(BodyPartExamined=part) if part else item(Laterality=None)


def _slice(slices: Slices, source: Source) -> Pixels:
    found: Pixels = slices.pixels[slices.sources.index(source)]
    return found


def _within(region: Sequence[Point], instance: Instance) -> list[Point]:
    """None of it beyond the image's edge."""
    columns, rows = instance.headers.columns or np.inf, instance.headers.rows or np.inf
    return [(float(min(max(x, 0.0), columns)), float(min(max(y, 0.0), rows))) for x, y in region]


def _only(image: KeyImage) -> Any:
    return reference(image[0], image[1].frame)


def _area(image: KeyImage) -> Any:
    """The whole image (PS3.3 C.10.4), as large as the screen lets it be."""
    headers = image[0].headers
    area = item(ReferencedImageSequence=[_only(image)], PresentationSizeMode="SCALE TO FIT")
    area.DisplayedAreaTopLeftHandCorner, area.DisplayedAreaBottomRightHandCorner = [1, 1], [headers.columns or 1, headers.rows or 1]
    if headers.pixel_spacing:
        area.PresentationPixelSpacing = [_decimal(mm) for mm in headers.pixel_spacing]
    else:
        area.PresentationPixelAspectRatio = [1, 1]
    return area


def _annotation(image: KeyImage, region: Sequence[Point], words: Sequence[str]) -> Any:
    """A closed line and words below it (PS3.3 C.10.5); (0, 0) is the outer corner of the first pixel, as it is for us."""
    corners = [*region, *(region[:1] if region[0] != region[-1] else ())]
    line = item(GraphicAnnotationUnits="PIXEL", GraphicDimensions=2, NumberOfGraphicPoints=len(corners), GraphicType="POLYLINE")
    line.GraphicData, line.GraphicFilled = [value for corner in corners for value in corner], "N"
    text = item(AnchorPointAnnotationUnits="PIXEL", AnchorPointVisibility="N", UnformattedTextValue="\r\n".join(map(plain, words)))
    text.AnchorPoint = [min(x for x, _ in region), max(y for _, y in region)]
    return item(ReferencedImageSequence=[_only(image)], GraphicLayer=_LAYER, GraphicObjectSequence=[line], TextObjectSequence=[text])


def _decimal(number: float) -> str:
    """DS: 16 characters at most (PS3.5 6.2)."""
    return f"{number:.9g}"
