"""choose: T1-weighted heads and nothing else, and a reason for each series that is passed over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from objects import AXIAL, CORONAL, SAGITTAL

from models.manifest import Label, Manifest, Rules
from pipeline.choose import choose, choose_model
from pipeline.records import Choice, Headers, Instance, Series, Study

MR, PLAIN = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.2.1"

LABELS = [Label(name=name, value="1", scheme="SCT", meaning=name) for name in ("tumor", "notumor")]
MANIFEST = Manifest(name="m", version="1", labels=LABELS)
CT_HEAD = Manifest(name="ct", version="1", labels=LABELS, modality="CT", sequence="", rules=Rules(contrast="avoid"))
CT = Headers(
    modality="CT",
    body_part_examined="HEAD",
    rows=512,
    columns=512,
    samples_per_pixel=1,
    photometric_interpretation="MONOCHROME2",
    image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
)
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
        tuple(instance(uid, k, h) for k in range(slices)),
    )


def instance(series_uid: str, k: int, h: Headers, *, sop_class: str = MR, syntax: str = PLAIN) -> Instance:
    return Instance("1.2", series_uid, f"{series_uid}.{k}", sop_class, syntax, Path("x"), 1, "0", 0.0, h)


def reasons(choice: Choice) -> list[str]:
    return [passed.reason for passed in choice.passed_over]


def mixed(*kinds: Headers, slices: int = 4) -> Study:
    """One series that holds `slices` of each kind, at the same places."""
    made = [replace(h, image_position_patient=(0.0, 0.0, 5.0 * k)) for h in kinds for k in range(slices)]
    headers = [replace(h, series_number=1, instance_number=k) for k, h in enumerate(made, 1)]
    return Study("1.2", (Series("1.2.1", tuple(instance("1.2.1", k, h) for k, h in enumerate(headers))),))


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
        (described("T1 map"), "derived map"),
        (described("3-plane loc"), "localizer"),
        (replace(T1, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")), "localizer"),
        (replace(T1, image_type=("DERIVED", "PRIMARY", "ADC")), "derived map"),
        (replace(T1, image_type=("DERIVED", "SECONDARY", "SCREEN SAVE")), "screen save or secondary capture"),
        (replace(T1, image_type=("DERIVED", "SECONDARY", "MPR")), "reformat of another series"),
        (replace(T1, image_type=("ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC")), "mosaic, all slices in one picture"),
        (replace(T1, image_type=("ORIGINAL", "PRIMARY", "T1", "NONE"), complex_image_component="PHASE"), "phase image"),
        (replace(T1, echo_time=95.0), "T2-weighted by its echo time, not T1-weighted"),
        (replace(T1, diffusion_b_value=1000.0), "diffusion, not T1-weighted"),
        (replace(T1, scanning_sequence=("EP", "GR")), "echo-planar, not T1-weighted"),
        (replace(T1, echo_planar=True), "echo-planar, not T1-weighted"),
        (replace(T1, angio=True), "angiography, not T1-weighted"),
        (replace(T1, samples_per_pixel=3, photometric_interpretation="RGB"), "not a greyscale image"),
        (replace(T1, photometric_interpretation="PALETTE COLOR"), "not a greyscale image"),
        (replace(T1, modality="CT"), "no enabled model reads CT"),
        (replace(T1, modality=""), "its modality is missing"),
        (replace(T1, modality="SMITH^JOHN"), "its modality is none of the standard's"),
        (replace(T1, body_part_examined="KNEE"), "not a head"),
        (replace(T1, body_part_examined="", study_description="MR knee left"), "not a head"),
        (replace(T1, has_pixels=False), "no pixel data"),
        (timed(100, 4000), "T2-weighted, not T1-weighted"),
        (timed(120, 9000, 2500), "T2-weighted FLAIR, not T1-weighted"),
        (replace(T1, series_description=""), "of unknown sequence (no description and no echo and repetition time), not T1-weighted"),
        (replace(T1, series_description="", acquisition_contrast="DIFFUSION"), "diffusion, not T1-weighted"),
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
    assert reasons(choice) == [
        "before contrast, while series 3 is after contrast",
        "not said to be before or after contrast, while series 3 is after contrast",
    ]


def test_original_first() -> None:
    """An original series is taken before one derived from it."""
    choice = choose(study(replace(T1, image_type=("DERIVED", "PRIMARY")), T1), MANIFEST)

    assert choice.series is not None
    assert choice.series.uid == "1.2.2"
    assert reasons(choice) == ["derived, while series 2 is original"]


def test_more_slices_then_the_first() -> None:
    """Of equals the series with more slices is taken, beyond a dozen the first; the others are told which one and why."""
    few, many, also = series(4, T1, 3), series(5, T1, 20), series(6, T1, 30)

    choice = choose(Study("1.2", (few, many, also)), MANIFEST)

    assert choice.series is not None
    assert choice.series.uid == "1.2.5"
    assert reasons(choice) == ["fewer slices than series 5", "as fit as series 5, which comes first"]


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


# one series of several kinds


def test_phase_images_of_a_series_are_left_out() -> None:
    """Magnitude and phase under one series: the magnitudes are read, and the choice says what of the series is not."""
    study = mixed(T1, replace(T1, image_type=("ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE")))

    choice = choose(study, MANIFEST)

    assert choice.series is not None
    assert [i.sop_instance_uid for i in choice.series.instances] == [f"1.2.1.{k}" for k in range(4)]
    assert choice.reason == "T1-weighted head series (of its 8 instances 4 are left out: phase image)"


@pytest.mark.parametrize(
    ("other", "sop_class", "why"),
    [
        (replace(T1, samples_per_pixel=3, photometric_interpretation="RGB"), MR, "not a greyscale image"),
        (T1, "1.2.840.10008.5.1.4.1.1.7", "screen save or secondary capture"),
        (T1, "1.2.840.10008.5.1.4.1.1.66", "its SOP class is none for slices of MR or CT"),
    ],
)
def test_what_is_no_slice_is_left_out(other: Headers, sop_class: str, why: str) -> None:
    """A capture, a colour picture or raw data among the slices of a series costs nobody the answer; alone it is passed over."""
    slices = [instance("1.2.1", k, T1) for k in range(4)]
    among = choose(Study("1.2", (Series("1.2.1", (*slices, instance("1.2.1", 4, other, sop_class=sop_class))),)), MANIFEST)
    alone = choose(Study("1.2", (Series("1.2.1", (instance("1.2.1", 4, other, sop_class=sop_class),)),)), MANIFEST)

    assert among.series is not None
    assert among.series.instances == tuple(slices)
    assert among.reason == f"T1-weighted head series (of its 5 instances 1 is left out: {why})"
    assert reasons(alone) == [why]


def test_of_several_echoes_the_first_is_read() -> None:
    """Four echoes at the same places: the earliest is the most T1-weighted. Echo times that differ from place to place part nothing."""
    gradient = replace(T1, scanning_sequence=("GR",))
    four = choose(mixed(*(replace(gradient, echo_time=te) for te in (5.4, 1.6, 3.5, 7.2))), MANIFEST)
    rounded = [replace(T1, echo_time=te, image_position_patient=(0.0, 0.0, te)) for te in (11.8, 12.0)]
    one = choose(Study("1.2", (Series("1.2.1", tuple(instance("1.2.1", k, h) for k, h in enumerate(rounded))),)), MANIFEST)

    assert four.series is not None
    assert one.series is not None
    assert {i.headers.echo_time for i in four.series.instances} == {1.6}
    assert four.reason.endswith("(of its 16 instances 12 are left out: a later echo)")
    assert len(one.series.instances) == 2


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (replace(T1, diffusion_b_value=1000.0), "diffusion, not T1-weighted (4 of 8 images)"),
        (replace(T1, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")), "localizer (4 of 8 images)"),
        (replace(T1, series_description="T2 TSE"), "T2-weighted, not T1-weighted (4 of 8 images)"),
    ],
)
def test_one_image_in_many_gives_a_series_away(other: Headers, why: str) -> None:
    """What the first instance hides, a later one shows: the series is passed over for it."""
    assert reasons(choose(mixed(T1, other), MANIFEST)) == [why]


def test_one_object_of_several_frames_is_no_mixture() -> None:
    """Frames are counted, not objects: a reason says "1 of 8 images" only where 7 are another thing."""
    phase = replace(T1, number_of_frames=8, complex_image_component="PHASE")
    assert reasons(choose(study(phase, slices=1), MANIFEST)) == ["phase image"]
    both = mixed(replace(T1, number_of_frames=8), replace(T1, number_of_frames=2, series_description="T2 TSE"), slices=1)
    assert reasons(choose(both, MANIFEST)) == ["T2-weighted, not T1-weighted (2 of 10 images)"]


def test_three_planes_are_a_localizer() -> None:
    """A series with slices in three planes is a localizer, whatever it calls itself; one with two is not."""
    planes = [replace(T1, image_orientation_patient=o) for o in (AXIAL, CORONAL, SAGITTAL)]

    assert reasons(choose(mixed(*planes, slices=1), MANIFEST)) == ["localizer (slices in three planes)"]
    assert choose(mixed(*planes[:2]), MANIFEST).series is not None


def test_a_slice_without_modality_is_of_its_series() -> None:
    """The modality of a series is that which any of its instances says."""
    assert choose(mixed(replace(T1, modality=""), T1), MANIFEST).series is not None


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.7"}, "screen save or secondary capture"),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.7.2"}, "screen save or secondary capture"),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.30"}, "its SOP class is none for slices of MR or CT"),
        ({"syntax": "1.2.840.10008.1.2.4.102"}, "in a transfer syntax that is not read (its pixels are a video); send it uncompressed"),
        ({"syntax": "1.2.840.10008.1.2.4.110"}, "in a transfer syntax that is not read (its pixels are JPEG XL); send it uncompressed"),
    ],
)
def test_what_the_object_itself_says(more: dict[str, str], why: str) -> None:
    """Secondary captures, videos and codecs that are not here are passed over before a pixel is touched."""
    study = Study("1.2", (Series("1.2.1", (instance("1.2.1", 1, T1, **more),)),))

    assert reasons(choose(study, MANIFEST)) == [why]


# the body part


@pytest.mark.parametrize(
    ("told", "head"),
    [
        ({"body_part_examined": "HEAD", "series_description": "T1 SAG knee"}, False),
        ({"body_part_examined": "HEAD", "study_description": "MR LUMBAR SPINE"}, False),
        ({"body_part_examined": "HEAD", "study_description": "MR HEAD AND NECK"}, True),
        ({"body_part_examined": "CSPINE", "series_description": "T1 brain"}, True),
        ({"body_part_examined": "XYZ"}, False),
        ({"body_part_examined": "XYZ", "study_description": "Brain"}, True),
        ({"body_part_examined": "", "receive_coil_name": "TxRx_15Ch_Knee"}, False),
        ({"body_part_examined": "", "study_description": "NEURO^SPINE"}, False),
        ({"body_part_examined": "", "study_description": "femoral head necrosis"}, False),
        ({"body_part_examined": ""}, True),
    ],
)
def test_body_part(told: dict[str, str], head: bool) -> None:
    """Descriptions of the series go before Body Part Examined, which is wrong often; a study of another part is not read as a head."""
    choice = choose(study(replace(T1, **told)), MANIFEST)  # type: ignore[arg-type]

    assert (choice.series is not None) is head
    assert reasons(choice) == ([] if head else ["not a head"])


def test_other_series_tell_the_body_part() -> None:
    """A T1 series that names no body part is no head where the others of its study are knees, and nobody is waiting for it."""
    silent = replace(T1, body_part_examined="")
    choice = choose(study(silent, replace(described("PD sag"), body_part_examined="KNEE")), MANIFEST)

    assert reasons(choice) == ["not a head", "not a head"]
    assert not choice.expected


# what the manifest asks for


@pytest.mark.parametrize(
    ("rules", "headers", "why"),
    [
        (Rules(planes=["axial"]), replace(T1, image_orientation_patient=SAGITTAL), "sagittal slices, and the model reads axial ones"),
        (Rules(fewest_slices=30), T1, "20 slices, and the model needs 30"),
        (Rules(coarsest_pixel=0.5), replace(T1, pixel_spacing=(0.4, 0.9)), "pixels of 0.9 mm, coarser than 0.5 mm"),
        (Rules(contrast="require"), T1, "not after contrast"),
    ],
)
def test_rules(rules: Rules, headers: Headers, why: str) -> None:
    """Each rule of a manifest passes a series over that the rules of the bundled model let pass."""
    assert choose(study(headers), MANIFEST).series is not None
    assert reasons(choose(study(headers), MANIFEST.model_copy(update={"rules": rules}))) == [why]


def test_slices_too_far_apart() -> None:
    """The median step counts, so one slice far away does not, and slices of 40 mm do."""
    lying = replace(T1, image_orientation_patient=AXIAL)

    def stack(*places: float) -> Study:
        made = (replace(lying, image_position_patient=(0.0, 0.0, z)) for z in places)
        return Study("1.2", (Series("1.2.1", tuple(instance("1.2.1", k, h) for k, h in enumerate(made))),))

    assert choose(stack(0, 5, 1e6), MANIFEST).series is not None
    assert reasons(choose(stack(0, 40, 80), MANIFEST)) == ["slices 40.0 mm apart, further than 25.0 mm"]


def test_without_a_sequence() -> None:
    """A CT model asks for no weighting: it reads CT heads, those without contrast first, and neither bodies nor angiographies."""
    after, plain = replace(CT, contrast_bolus_agent="Iohexol"), replace(CT, series_description="Head")
    choice = choose(study(after, plain, replace(CT, series_description="CTA"), replace(CT, body_part_examined="CHEST")), CT_HEAD)

    assert choice.series is not None
    assert (choice.series.uid, choice.reason) == ("1.2.2", "CT head series")
    assert sorted(reasons(choice)) == [
        "after contrast, while series 2 is not said to be before or after contrast",
        "angiography",
        "not a head",
    ]
    assert choose(study(replace(CT, body_part_examined="CHEST")), CT_HEAD).reason == "no CT head series: series 1 (CT): not a head"


# several models


def test_the_first_model_that_finds_a_series_answers() -> None:
    """Of two models that which finds a series; the other's series says that there is one answer."""
    number, choice = choose_model(study(CT, described("T2 TSE")), [MANIFEST, CT_HEAD])
    assert (number, choice.series is not None, reasons(choice)) == (1, True, ["T2-weighted, not T1-weighted"])

    number, choice = choose_model(study(CT, T1), [MANIFEST, CT_HEAD])
    assert (number, reasons(choice)) == (0, ["a study gets one answer, and another model's series comes first"])


def test_a_series_gets_the_reason_of_the_model_that_reads_its_modality() -> None:
    """With a CT model enabled a CT of the chest is no head; without one no enabled model reads CT."""
    chest = study(replace(CT, body_part_examined="CHEST"), replace(T1, modality="PT"))

    assert choose_model(chest, [MANIFEST])[1].reason == (
        "no T1-weighted head series: series 1 (CT): no enabled model reads CT; series 2 (PT): no enabled model reads PT"
    )
    number, choice = choose_model(chest, [MANIFEST, CT_HEAD])
    assert (number, choice.reason) == (1, "no CT head series: series 1 (CT): not a head; series 2 (PT): no enabled model reads PT")


@pytest.mark.parametrize(("models", "expected"), [([MANIFEST], False), ([MANIFEST, CT_HEAD], True)])
def test_a_head_is_expected_by_the_model_that_reads_it(models: list[Manifest], expected: bool) -> None:
    """A CT head that cannot be read is told to the radiologist only where a CT model is enabled."""
    localizer = study(replace(CT, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")))

    assert choose_model(localizer, models)[1].expected is expected


def test_the_same_whatever_the_order() -> None:
    """The order in which series and instances stand changes nothing."""
    one = mixed(T1, replace(T1, image_type=("ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"))).series[0]
    series_ = (one, series(2, described("T2 TSE"), 20), series(3, replace(T1, contrast_bolus_agent="Gd"), 20))
    turned = tuple(Series(s.uid, s.instances[::-1]) for s in series_[::-1])

    there, back = choose(Study("1.2", series_), MANIFEST), choose(Study("1.2", turned), MANIFEST)

    assert there.series is not None
    assert back.series is not None
    assert (there.series.uid, there.reason) == (back.series.uid, back.reason)
    assert set(there.passed_over) == set(back.passed_over)
