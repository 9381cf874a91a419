"""Leave-out runs: what is left out is not learnt, and every study of it is read by the rule that serves."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the train extra")
pytestmark = pytest.mark.train

from models.manifest import Label, Manifest  # noqa: E402
from models.training import loop  # noqa: E402
from models.training.network import Network  # noqa: E402
from scripts import leave_out, study_rule  # noqa: E402
from scripts.datasets import Examples  # noqa: E402
from scripts.learnt import CLEAR, NAMES  # noqa: E402

SIDE = 224
MANIFEST = Manifest(name="m", version="1", labels=[Label(name=n, value="1", scheme="SCT", meaning=n) for n in NAMES])


def examples(rows: list[tuple[str, str, int, str, str]]) -> Examples:
    """A slice for each (source, part, label, block, file); a tumour is a bright square in the middle of a grey head."""
    images, masks = np.zeros((len(rows), SIDE, SIDE), np.float16), np.zeros((len(rows), SIDE, SIDE), np.uint8)
    images[:, 20:200, 20:200] = 0.4
    for k, row in enumerate(rows):
        if row[2] != CLEAR:
            masks[k, 96:128, 96:128] = 1
            images[k, 96:128, 96:128] = 0.9
    sources, parts, labels, blocks, names = (list(column) for column in zip(*rows, strict=True))
    sealed = np.zeros(len(rows), bool)
    planes = ("axial",) * len(rows)
    return Examples(images, masks, np.array(labels), tuple(names), tuple(sources), planes, tuple(parts), tuple(blocks), sealed)


MANY = examples(
    [
        *(("figshare", str(k % 4), k % 3, f"fig{k // 4:02}-00", f"{k}.jpg") for k in range(24)),
        *(("web", str(k), k if k < 3 else CLEAR, f"dup{k}", f"web{k}.jpg") for k in range(4)),
        *(("volume", f"btp0{k}", 0 if k % 2 else CLEAR, f"btp0{k}_pre", f"btp0{k}.nii.gz slice {k}") for k in range(1, 6)),
        *(("healthy", "colin27", CLEAR, "colin27 axial", f"colin27 axial {k}") for k in (3, 6)),
        *(("phantom", "phantom", k, "phantom", f"phantom {k}") for k in range(4)),
    ]
)


@pytest.mark.parametrize("run", leave_out.RUNS)
def test_every_run_leaves_something_out_and_learns_every_class(run: str) -> None:
    """Each part of a run has slices, and without them all four labels are still there to learn."""
    rows = [choose(MANY) for choose in leave_out.RUNS[run].values()]
    assert all(part.any() for part in rows)
    assert set(MANY.labels[~np.any(rows, axis=0)]) == set(range(len(NAMES)))


def test_together_the_runs_leave_out_every_fold_and_every_patient() -> None:
    """Whatever is not sealed, phantoms apart, is read by some network that never saw it."""
    out = np.any([choose(MANY) for parts in leave_out.RUNS.values() for choose in parts.values()], axis=0)
    assert (out == (np.array(MANY.sources) != "phantom")).all()


def test_the_second_half_is_the_later_blocks_of_each_class() -> None:
    """No block of the second half comes before one of the first half of its class."""
    out, pictures = leave_out.second_half(MANY), np.array(MANY.sources) == "figshare"
    for label in range(3):
        of_label = pictures & (MANY.labels == label)
        assert out[of_label].any() and not out[of_label].all()
        blocks = np.array(MANY.blocks)
        assert max(blocks[of_label & ~out]) <= min(blocks[of_label & out])


def test_what_is_left_out_is_not_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training gets none of the slices that it is measured on, and a run that is done is not done again."""
    learnt: list[tuple[str, ...]] = []

    def trained(found: Examples, *_: object) -> Network:
        learnt.append(found.names)
        return Network().eval()

    monkeypatch.setattr(leave_out, "_trained", trained)
    parts = leave_out.RUNS["fold0"]
    (tmp_path / "fold0").mkdir()  # as training does
    for _ in range(2):
        leave_out._run("fold0", parts, MANY, None, loop.Plan(), tmp_path / "fold0")
    with (tmp_path / "fold0" / "rows.csv").open(newline="") as stream:
        read = {row["file"] for row in csv.DictReader(stream)}
    assert len(learnt) == 1 and read and not read & set(learnt[0])
    assert read | set(learnt[0]) == set(MANY.names)
    assert {case.kind for case in study_rule.cases(tmp_path)} == {"slice", "volume"}


def test_the_strongest_cell_of_the_label_is_what_points() -> None:
    """A cell on the tumour points right, one far away does not, and Dice is 1 only where the evidence is the mask."""
    found = MANY.take(np.arange(len(MANY)) < 2)
    evidence = np.full((2, 4, 14, 14), -1.0, np.float32)
    evidence[0, found.labels[0], 6:8, 6:8] = 1.0
    evidence[1, found.labels[1], 0, 0] = 1.0
    right, wrong = leave_out.points(evidence, found)
    assert (right["pointed"], wrong["pointed"]) == ("1", "0")
    assert float(right["dice"]) > 0.7 > 0.1 > float(wrong["dice"])


def test_a_volume_becomes_one_study_with_its_key_slice_and_region() -> None:
    """Slices of one volume are one case in their order; the finding's key slice shows the mask, and its region lies on it."""
    rows = [("volume", "btp01", 0 if k in (2, 3) else CLEAR, "btp01_pre", f"btp01.nii.gz slice {k}") for k in range(6)]
    maps = np.full((6, 4, 14, 14), -5.0, np.float32)
    maps[:, CLEAR] = 0.0
    maps[2:4, 0, 5:8, 5:8] = 6.0
    [case] = study_rule.studies_of(examples(rows), maps, "run")
    finding = study_rule.found_in(case, MANIFEST)
    assert (case.kind, case.truth, len(case.maps), case.geometry.between) == ("volume", "glioma", 6, study_rule.VOLUME_STEP)
    assert study_rule.right(finding, case) and study_rule.key_inside(finding, case)
    assert (study_rule.region_dice(finding, case) or 0) > 0.5
