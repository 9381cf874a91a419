"""identity: does all that came under one Study Instance UID belong to one patient and one study? Pure.

Instances of two patients must never be read as one stack, and a report must never end in another patient's record, so whatever
contradicts is named and nothing is merged. An attribute that an instance does not give contradicts nobody.

What must agree, and in which instances:
- Patient ID, its issuer (another one may give the same ID to another person), Patient's Birth Date, Patient's Sex (PS3.3 C.7.1.1:
  of the patient, whoever made the instance): in all.
- Patient's Name: only where an ID is missing. With an ID on both sides a spelling is a spelling (married, hyphen, transcribed); without
  one the name is all there is.
- Study Date, Accession Number (PS3.3 C.7.2.1: of the study): in the images that a scanner made. What others add to a study later
  (secondary captures, derived maps, reports) often has the date of its making or has lost the order; that costs no study its answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.records import Headers, Instance, Study
from pipeline.sop_classes import is_secondary_capture

_OF_THE_PATIENT = (
    *(("patient", "Patient IDs"), ("patient_issuer", "Issuers of Patient ID")),
    *(("patient_birth_date", "Patient's Birth Dates"), ("patient_sex", "Patient's Sexes")),
)
_OF_THE_STUDY = (("study_date", "Study Dates"), ("accession_number", "Accession Numbers"))


def contradiction(study: Study) -> str | None:
    """What `study` says of its patient or of itself in more than one way: a sentence with attributes and counts, no values; or None."""
    everyone = [instance.headers for instance in study.instances]
    scanned = [instance.headers for instance in study.instances if _scanned(instance)]
    counts = [
        *((_count(everyone, field), attribute) for field, attribute in _OF_THE_PATIENT),
        (_names(everyone), "Patient's Names (some without a Patient ID)"),
        *((_count(scanned, field), attribute) for field, attribute in _OF_THE_STUDY),
    ]
    found = [f"{count} different {attribute}" for count, attribute in counts if count > 1]
    if not found:
        return None
    return f"the study's instances name {' and '.join(found)}; correct them at the source, send them again and retry the study"


def _scanned(instance: Instance) -> bool:
    """An image as the scanner took it."""
    captured = is_secondary_capture(instance.sop_class_uid)
    return instance.headers.has_pixels and not captured and "DERIVED" not in instance.headers.image_type


def _count(headers: Iterable[Headers], field: str) -> int:
    """How many different values are given."""
    return len({getattr(h, field) for h in headers} - {""})


def _names(headers: list[Headers]) -> int:
    """How many names there are, where an instance without an ID has a name that none of the others has; else 0."""
    known = {h.patient_name for h in headers if h.patient} - {""}
    unknown = {h.patient_name for h in headers if not h.patient} - {""}
    agree = unknown <= known if known else len(unknown) <= 1
    return 0 if agree else len(known | unknown)
