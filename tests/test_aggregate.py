"""aggregate: a tumour goes on in the next slice, a false cell does not."""

from __future__ import annotations

import numpy as np
import pytest

from models.manifest import Label, Manifest
from pipeline.aggregate import Evidence, aggregate, deciding_rows
from pipeline.records import Affine, Geometry, Prediction, Source

NAMES = ("glioma", "meningioma", "pituitary", "notumor")
MANIFEST = Manifest(name="m", version="1", labels=[Label(name=n, value="1", scheme="SCT", meaning=n) for n in NAMES])
STRONG = 6.0


def prediction(
    maps: np.ndarray,
    head_area: list[float] | None = None,
    between: float | None = 5.0,
    with_maps: bool = True,
    positions: tuple[float, ...] = (),
) -> Prediction:
    """What a network with these maps (slice, label, 14, 14) says."""
    logits = np.sort(maps.reshape(*maps.shape[:2], -1), axis=2)[..., -6:].mean(2).astype(np.float32)
    return Prediction(
        sources=tuple(Source(f"1.{k}") for k in range(len(maps))),
        logits=logits,
        evidence=maps.astype(np.float32) if with_maps else None,
        head_area=np.array(head_area or [0.5] * len(maps), np.float32),
        to_source=Affine(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 224, 224),
        geometry=Geometry(between=between, positions=positions),
        variant="fp32",
        agreement="not compared",
    )


def healthy(slices: int = 20) -> np.ndarray:
    maps = np.full((slices, 4, 14, 14), -5.0)
    maps[:, 3] = 0.0
    return maps


def tumour(maps: np.ndarray, label: int, rows: range, at: tuple[int, int] = (5, 8), strength: float = STRONG) -> np.ndarray:
    """`maps` with 3 x 3 strong cells of `label` on `rows`."""
    for row in rows:
        maps[row, label, at[0] - 1 : at[0] + 2, at[1] - 1 : at[1] + 2] = strength
        maps[row, label, at[0], at[1]] += 0.1  # so that the strongest cell is the middle one
    return maps


@pytest.mark.parametrize("with_maps", [True, False])
@pytest.mark.parametrize("label", [0, 1, 2])
def test_tumour(label: int, with_maps: bool) -> None:
    """A tumour on four neighbouring slices is present, and its slices are the key slices."""
    finding = aggregate(prediction(tumour(healthy(), label, range(8, 12)), with_maps=with_maps), MANIFEST)

    assert (finding.call, finding.label) == ("present", NAMES[label])
    assert finding.probability > 0.9
    assert {int(s.sop_instance_uid[2:]) for s in finding.key_sources} <= set(range(8, 12))


def test_healthy() -> None:
    """A head without evidence is absent, with the label that means none, and without key slices."""
    finding = aggregate(prediction(healthy()), MANIFEST)

    assert (finding.call, finding.label, finding.key_sources, finding.region) == ("absent", "notumor", (), ())
    assert finding.suspect_sources == ()


def test_probabilities() -> None:
    """The probabilities are one for every label and sum to one."""
    finding = aggregate(prediction(tumour(healthy(), 1, range(3, 5), strength=1.0)), MANIFEST)

    assert tuple(finding.probabilities) == NAMES
    assert sum(finding.probabilities.values()) == pytest.approx(1.0)


def test_false_cells() -> None:
    """The same strong cells that make a tumour on neighbouring slices make none where every slice has them elsewhere."""
    maps = healthy()
    for k, row in enumerate((3, 8, 13)):
        tumour(maps, 0, range(row, row + 1), at=(3 + 3 * k, 3 + 3 * k))

    assert aggregate(prediction(maps), MANIFEST).call != "present"
    assert aggregate(prediction(tumour(healthy(), 0, range(3, 6))), MANIFEST).call == "present"


def test_the_end_of_a_tumour() -> None:
    """A slice that the network missed by a little beside one with the tumour is suspect; the next one, without evidence, is not."""
    maps = tumour(healthy(), 0, range(8, 11))
    tumour(maps, 0, range(11, 12), strength=-1.0)
    seen = aggregate(prediction(maps), MANIFEST).suspect_sources

    assert [int(source.sop_instance_uid[2:]) for source in seen] == [8, 9, 10, 11]


def test_thin_slices() -> None:
    """On slices of 1 mm a neighbour is 5 mm away: a false spot 3 mm thick finds no support."""
    maps = tumour(healthy(60), 0, range(30, 33))

    assert aggregate(prediction(maps, between=1.0), MANIFEST).call != "present"
    assert aggregate(prediction(tumour(healthy(60), 0, range(25, 45)), between=1.0), MANIFEST).call == "present"


DOUBTED = MANIFEST.model_copy(update={"rule": MANIFEST.rule.model_copy(update={"doubt": {"pituitary": 4.0}})})


@pytest.mark.parametrize("with_maps", [True, False])
def test_what_is_doubted_must_show_more(with_maps: bool) -> None:
    """Weak evidence of a label that healthy heads show, too, is absent and suspect nowhere; of another label it is present."""
    for label, call in ((2, "absent"), (0, "present")):
        maps = tumour(healthy(), label, range(8, 12), strength=1.5)
        maps[8:12, label, 4:7, 6] = 1.5
        found = aggregate(prediction(maps, with_maps=with_maps), DOUBTED)
        assert (found.call, bool(found.suspect_sources)) == (call, call == "present")
        assert aggregate(prediction(maps, with_maps=with_maps), MANIFEST).call == "present"


def test_a_doubted_tumour_keeps_its_name() -> None:
    """All tumours of a slice are lowered alike: the likeliest one stays that; probabilities sum to one."""
    maps = tumour(tumour(healthy(), 2, range(6, 14), strength=9.0), 1, range(6, 14), strength=8.0)
    found = aggregate(prediction(maps), DOUBTED)

    assert (found.call, found.label) == ("present", "pituitary")
    assert sum(found.probabilities.values()) == pytest.approx(1.0)


def test_a_tie_of_labels_moves_little() -> None:
    """Where a doubted label and another are about as likely, rounding moves no probability by more than `verify` allows."""
    probability = []
    for other in (0.89, 0.91):
        maps = tumour(tumour(healthy(), 2, range(6, 12), strength=0.9), 0, range(6, 12), strength=other)
        probability.append(1.0 - aggregate(prediction(maps), DOUBTED).probabilities["notumor"])
    assert abs(probability[0] - probability[1]) < 0.02


def test_one_slice_is_not_doubted() -> None:
    """It may only graze a tumour, so its evidence is taken as it is."""
    maps = tumour(healthy(1), 2, range(1), strength=1.5)
    maps[:, 2, 4:7, 6] = 1.5
    assert aggregate(prediction(maps), DOUBTED) == aggregate(prediction(maps), MANIFEST)


def test_vertex() -> None:
    """Slices with little head are not asked."""
    maps = tumour(healthy(), 1, range(17, 20))

    assert aggregate(prediction(maps, head_area=[0.5] * 17 + [0.1] * 3), MANIFEST).call == "absent"


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_few_slices(slices: int) -> None:
    """One slice is a study, and so are two."""
    finding = aggregate(prediction(tumour(healthy(slices), 2, range(slices)), between=None), MANIFEST)

    assert (finding.call, finding.label, len(finding.key_sources)) == ("present", "pituitary", slices)


def test_unsure() -> None:
    """Evidence in the middle is unsure, and the slices with most of it are named."""
    finding = aggregate(prediction(tumour(healthy(), 0, range(8, 12), strength=0.0)), MANIFEST)

    assert finding.call == "unsure"
    assert {int(s.sop_instance_uid[2:]) for s in finding.key_sources} <= set(range(8, 12))


def test_region() -> None:
    """The region is closed, lies around the cells with evidence, and stays inside the source image."""
    finding = aggregate(prediction(tumour(healthy(), 0, range(8, 12), at=(5, 8))), MANIFEST)

    x, y = np.array(finding.region).T
    assert finding.region[0] == finding.region[-1]
    assert (x.mean(), y.mean()) == pytest.approx((8.5 * 16, 5.5 * 16), abs=6)
    assert 20 < np.ptp(x) < 80
    corner = aggregate(prediction(tumour(healthy(), 0, range(8, 12), at=(1, 12))), MANIFEST)
    assert np.array(corner.region).min() >= 0
    assert np.array(corner.region).max() <= 224


def test_a_region_ends_where_evidence_has_fallen_to_a_share_of_its_peak() -> None:
    """Weak evidence around a tumour is inside only where the rule's outline lets it in."""
    maps = healthy()
    maps[8:12, 1, 2:9, 5:12] = 0.3 * STRONG
    found = prediction(tumour(maps, 1, range(8, 12)))
    wide, near = (
        np.ptp(aggregate(found, MANIFEST.model_copy(update={"rule": MANIFEST.rule.model_copy(update={"outline": o})})).region, axis=0)
        for o in (0.0, 0.5)
    )
    assert (near > 2 * 16).all() and (near < 5 * 16).all() and (wide > 6 * 16).all()


def test_raw_maps() -> None:
    """Only the difference to the label "none" counts: adding the same to every label changes nothing."""
    maps = tumour(healthy(), 0, range(8, 12))

    assert aggregate(prediction(maps + 3.0), MANIFEST) == aggregate(prediction(maps), MANIFEST)


def test_deciding_rows() -> None:
    """What decides is what the finding stands on; for an absent tumour the slices with most evidence of any."""
    present = prediction(tumour(healthy(), 1, range(8, 12)))
    absent = prediction(tumour(healthy(), 1, range(5, 6), strength=-3.0))

    def rows(p: Prediction) -> list[int]:
        return deciding_rows(Evidence(p.logits, p.evidence, p.head_area, p.geometry), MANIFEST)

    assert len(rows(present)) == 3
    assert set(rows(present)) <= set(range(8, 12))
    assert rows(absent)[0] == 5


def test_key_slice_in_the_middle() -> None:
    """The slice to look at lies where the evidence goes on in the slices around, not where one slice happens to peak."""
    maps = tumour(healthy(), 0, range(5, 12))
    maps[11] = np.where(maps[11] == STRONG, STRONG + 0.5, maps[11])  # the outermost slice is the strongest, by noise
    alone = tumour(maps, 0, range(17, 19), at=(10, 3), strength=STRONG + 0.5)  # and a smaller spot elsewhere is as strong

    for seen in (maps, alone):
        best, *others = (int(source.sop_instance_uid[2:]) for source in aggregate(prediction(seen), MANIFEST).key_sources)
        assert best == 8
        assert set(others) == {7, 9}


def test_key_slices_show_it() -> None:
    """Slices without the tumour are never shown for it, however much of it is around them."""
    maps = tumour(tumour(healthy(), 0, range(5, 8)), 0, range(9, 12))

    assert Source("1.8") not in aggregate(prediction(maps), MANIFEST).key_sources


def test_across_a_gap() -> None:
    """Slices that missing ones part are no neighbours: evidence beyond the gap supports nothing."""
    whole = tuple(5.0 * k for k in range(20))
    gap = tuple(at + (30.0 if k >= 10 else 0.0) for k, at in enumerate(whole))
    maps = tumour(healthy(), 0, range(9, 11))  # the last slice below the gap and the first above it

    across, together = (aggregate(prediction(maps, positions=p), MANIFEST).probabilities["glioma"] for p in (gap, whole))

    assert across < together
