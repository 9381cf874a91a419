"""identifiers: what an object says of its patient and its study, as digests: enough to see that two objects differ, no name to read.

Values are brought to one form first, so that only what means another thing has another digest; what is empty or no value at all
(a birth date that is no date) gives "", which contradicts nobody (pipeline/identity.py).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable
from datetime import date
from typing import Any

READ = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "AccessionNumber")

Said = Callable[[str], str]
"""From a keyword to the value as text, "" where there is none."""


def digests(said: Said) -> dict[str, Any]:
    """The fields of `Headers` that tell patients and studies apart."""
    patient = said("PatientID").strip()
    plain = {
        "patient": patient,
        "patient_issuer": patient and said("IssuerOfPatientID").strip(),
        "patient_name": _name(said("PatientName")),
        "patient_birth_date": _date(said("PatientBirthDate")),
        "patient_sex": _sex(said("PatientSex")),
        "study_date": _date(said("StudyDate")),
        "accession_number": said("AccessionNumber").strip(),
    }
    return {field: _digest(field, value) for field, value in plain.items()}


def _digest(field: str, value: str) -> str:
    return hashlib.sha256(f"{field}\\{value}".encode(errors="replace")).hexdigest()[:16] if value else ""


def _name(value: str) -> str:
    """The letters of the alphabetic group (PS3.5 6.2.1.1): case, accents, `^`, commas, blanks and the other two groups are spelling."""
    letters = unicodedata.normalize("NFKD", value.partition("=")[0])
    return "".join(letter for letter in letters.casefold() if letter.isalpha())


def _date(value: str) -> str:
    """YYYYMMDD of a date that exists, written so or as ACR-NEMA did, YYYY.MM.DD (PS3.5 6.2)."""
    written = re.fullmatch(r"(\d{4})\.?(\d{2})\.?(\d{2})", value.strip(), re.ASCII)
    try:
        return date(*map(int, written.groups())).strftime("%Y%m%d") if written else ""
    except ValueError:
        return ""


def _sex(value: str) -> str:
    """F or M; "other" and what vendors write for unknown say nothing."""
    return value.strip().upper() if value.strip().upper() in ("F", "M") else ""
