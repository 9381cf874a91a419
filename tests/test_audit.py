"""The audit: what leaks from what is learnt into what is sealed, found on planted copies; and what else the report says."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("nibabel", reason="needs the train extra")
pytestmark = pytest.mark.train

from heads import ABSENT, LABELS, head, write_picture, write_rows  # noqa: E402
from PIL import Image  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from models.manifest import Recipe  # noqa: E402
from scripts.datasets import DataError, Examples, load  # noqa: E402
from scripts.datasets.__main__ import app  # noqa: E402
from scripts.datasets.audit import Leaking, audited, between_parts, leaks  # noqa: E402
from scripts.datasets.prints import COPY, NEAR, alike, clusters, fingerprint, fingerprints, most_alike  # noqa: E402

Grey = NDArray[np.uint8]


def saved_anew(picture: Grey, path: Path) -> Grey:
    """Smaller, squeezed, and as a JPEG."""
    Image.fromarray(picture).resize((70, 84)).save(path, quality=60)
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("quarter", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_copy_is_known_in_every_orientation(tmp_path: Path, quarter: int, mirrored: bool) -> None:
    """A picture that was turned, mirrored, squeezed, made smaller and saved as JPEG is still a copy, and said to be turned if it was."""
    copy = np.rot90(saved_anew(head(1), tmp_path / "copy.jpg"), quarter)
    prints = fingerprints([head(1).astype(np.float32), np.float32(copy[:, ::-1] if mirrored else copy)])
    (pair,) = alike(prints, ["a", "b"])
    assert pair.likeness > COPY and pair.turned == (quarter != 0 or mirrored)


def test_other_heads_are_no_copies() -> None:
    """Forty heads of one shape with different insides are forty heads."""
    prints = fingerprints([head(seed).astype(np.float32) for seed in range(40)])
    assert alike(prints, [str(k) for k in range(40)]) == []
    pairs, greatest = most_alike(prints, [str(k) for k in range(40)])
    assert pairs == 780 and greatest < NEAR


def test_a_border_does_not_hide_a_copy() -> None:
    """A head is compared from edge to edge, so black around it changes nothing."""
    wide = np.pad(head(1), ((0, 40), (30, 0)))
    assert float((fingerprint(np.float32(head(1))) * fingerprint(np.float32(wide))).sum()) > COPY


def test_an_empty_picture_is_like_none() -> None:
    """Two black pictures are no copies of each other."""
    assert alike(fingerprints([np.zeros((50, 50), np.float32)] * 2), ["a", "b"]) == []


def test_clusters_hang_together_through_others() -> None:
    """a-b and b-c make one cluster, named by its first row."""
    prints = np.stack([fingerprint(head(k).astype(np.float32)) for k in (1, 2, 1, 1)])
    assert clusters(4, alike(prints, list("abcd"))) == [0, 1, 0, 0]


def folder_of(path: Path, *extra: tuple[Grey, dict[str, str]]) -> Path:
    """Four classes, one slice each in folds 0 and 4, and `extra`."""
    rows = []
    pictures = [(head(10 * k + fold), {"label": label, "fold": str(fold)}) for k, label in enumerate(LABELS) for fold in (0, 4)]
    for n, (picture, words) in enumerate([*pictures, *extra]):
        write_picture(path / f"slices/{n}.png", picture)
        row = {"file": f"slices/{n}.png", "plane": "axial", "mask": "", "source": "web", "block": f"b{n}"}
        rows.append(row | words)
    write_rows(path / "slices.csv", *rows)
    return path


def read(folder: Path) -> Examples:
    return load(folder, Recipe(), LABELS, ABSENT)


def test_a_clean_split_passes(tmp_path: Path) -> None:
    """Nothing is left out, and the report counts every class on both sides."""
    found, page = audited(read(folder_of(tmp_path)), LABELS)
    assert len(found) == 8 and "No leak" in page
    assert ["class", "glioma", "1", "1"] in [line.split() for line in page.splitlines()]


def test_a_planted_copy_fails_the_training(tmp_path: Path) -> None:
    """A sealed slice that is learnt too, mirrored and under another name, block and fold, is a leak that names both files."""
    folder_of(tmp_path, (head(4)[:, ::-1], {"label": "glioma", "fold": "1"}))  # head(4) is slices/1.png, sealed
    with pytest.raises(Leaking) as caught:
        audited(read(tmp_path), LABELS)
    assert (
        "1 x mirrored or turned copy" in str(caught.value) and "slices/8.png" in str(caught.value) and "slices/1.png" in str(caught.value)
    )


def test_what_leaks_can_be_left_out_of_what_is_learnt(tmp_path: Path) -> None:
    """The learnt side goes, the sealed side stays: no figure becomes easier."""
    examples = read(folder_of(tmp_path, (head(4), {"label": "glioma", "fold": "1"})))
    found, page = audited(examples, LABELS, leave_out=True)
    assert set(examples.names) - set(found.names) == {"slices/8.png"} and found.sealed.sum() == examples.sealed.sum()
    assert "1 x copy" in page and leaks(found) == []


def test_a_block_on_both_sides_is_a_leak(tmp_path: Path) -> None:
    """Slices that nothing but their block has in common must not be learnt and sealed."""
    folder_of(tmp_path, (head(99), {"label": "glioma", "fold": "1", "block": "b1"}))
    (leak,) = leaks(read(tmp_path))
    assert (leak.kind, leak.first, leak.second) == ("one block", 8, 1)


def test_a_copy_between_folds_that_are_learnt_is_told_and_fails_nothing(tmp_path: Path) -> None:
    """It flatters leave-one-fold-out figures only, so between_parts finds it and the audit passes."""
    examples = read(folder_of(tmp_path, (head(0), {"label": "glioma", "fold": "1"})))
    assert [(leak.first, leak.second) for leak in between_parts(examples)] == [(0, 8)]
    assert len(audited(examples, LABELS)[0]) == 9


def test_a_missing_class_is_named(tmp_path: Path) -> None:
    """A class that is not there to learn from, or not there to be judged by, stops the training."""
    examples = read(folder_of(tmp_path))
    with pytest.raises(DataError, match="no slice of pituitary to learn from"):
        audited(examples.take((examples.labels != 2) | examples.sealed), LABELS)
    with pytest.raises(DataError, match="no slice of glioma, meningioma, pituitary, notumor sealed for the gate"):
        audited(examples.take(~examples.sealed), LABELS)


def test_the_command_reports_and_fails_by_its_exit_status(tmp_path: Path) -> None:
    """`python -m scripts.datasets DIR` exits 2 where the split leaks, and writes every leak as a row of --csv."""
    run = CliRunner().invoke(app, [str(folder_of(tmp_path / "clean"))])
    assert run.exit_code == 0 and "No leak" in run.output
    folder = folder_of(tmp_path / "leaks", (head(4), {"label": "glioma", "fold": "1"}))
    run = CliRunner().invoke(app, [str(folder), "--csv", str(tmp_path / "leaks.csv")])
    assert run.exit_code == 2 and "--leave-out-leaks" in run.output
    with (tmp_path / "leaks.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["into"], row["kind"], row["file"], row["other_file"]) for row in rows if row["into"] == "sealed"] == [
        ("sealed", "copy", "slices/8.png", "slices/1.png")
    ]
