"""choose: T1-weighted heads and nothing else, and a reason for each series that is passed over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from models.manifest import Label, Manifest
from pipeline.choose import choose
from pipeline.records import Headers, Instance, Series, Study

MANIFEST = Manifest(name="m", version="1", labels=[Label(name="notumor", value="1", scheme="SCT", meaning="none")])
T1 = Headers(
    modality="MR",
    body_part_examined="HEAD",
    series_description="T1 SE AX",
    rows=256,
    columns=256,
    samples_per_pixel=1,
    photometric_interpretation="MONOCHROME2",
    image_type=("ORIGINAL", "PRIMARY"),
)


def study(*headers: Headers, slices: int = 20) -> Study:
    """One series for each of `headers`, numbered from 1 unless they say otherwise."""
    return Study("1.2", tuple(series(k + 1, h, slices) for k, h in enumerate(headers)))


def series(number: int, headers: Headers, slices: int) -> Series:
    h = replace(headers, series_number=headers.series_number or number)
    uid = f"1.2.{number}"
    return Series(
        uid,
        tuple(
            Instance("1.2", uid, f"{uid}.{k}", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.2.1", Path("x"), 1, "0", 0.0, h)
            for k in range(slices)
        ),
    )


def described(text: str) -> Headers:
    return replace(T1, series_description=text)


def timed(te: float, tr: float, ti: float | None = None) -> Headers:
    return replace(T1, series_description="", echo_time=te, repetition_time=tr, inversion_time=ti)


@pytest.mark.parametrize(
    "headers",
    [
        *map(
            described,
            (
                "T1 SE AX +C",
                "t1_mprage_sag_p2_iso",
                "Ax T1 FLAIR +C",
                "WIP sT1W_3D_TFE",
                "SAG 3D BRAVO",
                "3D T1 SPGR",
                "T1W_TSE",
                "AX T1 C+ FS",
                "KM T1 TRA",
            ),
        ),
        replace(T1, series_description="", sequence_name="*tfl3d1_16ns"),
        replace(T1, series_description="", acquisition_contrast="T1"),
        timed(12, 500),
        timed(3, 2300, 900),
        replace(T1, body_part_examined=""),
        replace(T1, body_part_examined="", study_description="MRT Schädel"),
        replace(T1, photometric_interpretation="MONOCHROME1"),
    ],
    ids=lambda h: f"{h.series_description or h.sequence_name or h.acquisition_contrast or h.echo_time} {h.body_part_examined}",
)
def test_taken(headers: Headers) -> None:
    """A T1-weighted head is taken by its description, by what the scanner says, or by its times."""
    assert choose(study(headers), MANIFEST).series is not None


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        (described("T2 TSE TRA"), "T2-weighted, not T1-weighted"),
        (described("AX T2 FLAIR"), "T2-weighted FLAIR, not T1-weighted"),
        (described("ep2d_diff_b1000"), "diffusion, not T1-weighted"),
        (described("3D TOF"), "angiography, not T1-weighted"),
        (described("t2_fl2d_tra_hemo"), "susceptibility-weighted, not T1-weighted"),
        (described("PD AX"), "proton-density-weighted, not T1-weighted"),
        (described("T1 map"), "derived map, projection or reformat"),
        (described("3-plane loc"), "localizer"),
        (replace(T1, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")), "localizer"),
        (replace(T1, image_type=("DERIVED", "PRIMARY", "ADC")), "derived map, projection or reformat"),
        (replace(T1, image_type=("DERIVED", "SECONDARY", "SCREEN SAVE")), "derived map, projection or reformat"),
        (replace(T1, samples_per_pixel=3, photometric_interpretation="RGB"), "not a greyscale image"),
        (replace(T1, modality="CT"), "modality is not MR"),
        (replace(T1, body_part_examined="KNEE"), "not a head"),
        (replace(T1, body_part_examined="", study_description="MR knee left"), "not a head"),
        (replace(T1, has_pixels=False), "no pixel data"),
        (timed(100, 4000), "T2-weighted, not T1-weighted"),
        (timed(120, 9000, 2500), "T2-weighted FLAIR, not T1-weighted"),
        (replace(T1, series_description=""), "of unknown sequence (no description and no echo and repetition time), not T1-weighted"),
        (replace(T1, series_description="", acquisition_contrast="DIFFUSION"), "another acquisition contrast, not T1-weighted"),
    ],
)
def test_passed_over(headers: Headers, why: str) -> None:
    """What is no T1-weighted head is passed over, and the reason names the rule."""
    choice = choose(study(headers), MANIFEST)

    assert choice.series is None
    assert [passed.reason for passed in choice.passed_over] == [why]


def test_contrast_first() -> None:
    """After contrast is taken before without contrast, whatever stands first, and the others are told so."""
    choice = choose(study(described("T1 TSE pre"), described("T1 TSE"), replace(described("T1 TSE"), contrast_bolus_agent="Gd")), MANIFEST)

    assert choice.series is not None
    assert choice.series.uid == "1.2.3"
    assert [(p.series_number, p.reason) for p in choice.passed_over] == [(k, "another series suits the model better") for k in (1, 2)]


def test_original_first() -> None:
    """An original series is taken before one derived from it."""
    choice = choose(study(replace(T1, image_type=("DERIVED", "PRIMARY")), T1), MANIFEST)

    assert choice.series is not None
    assert choice.series.uid == "1.2.2"


def test_one_slice() -> None:
    """A single T1 slice is a study."""
    assert choose(study(T1, slices=1), MANIFEST).series is not None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [(described("T2 TSE"), True), (replace(T1, body_part_examined="KNEE"), False), (replace(T1, modality="CT"), False)],
)
def test_expected(headers: Headers, expected: bool) -> None:
    """A radiologist expects an answer for a head MR, and none for a knee or a CT."""
    assert choose(study(headers), MANIFEST).expected is expected


def test_no_free_text() -> None:
    """A reason never repeats what a description says."""
    choice = choose(study(replace(described("T2 Smith^John secret"), study_description="secret")), MANIFEST)

    assert choice.reason == "no T1-weighted head series: series 1 (MR): T2-weighted, not T1-weighted"


def test_empty() -> None:
    """A study without series is declined, too."""
    assert choose(Study("1.2", ()), MANIFEST).reason == "no T1-weighted head series: it holds no series"
