"""typical: pictures unlike those that a model learned from are told as such, and the answer on them is unsure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from pydicom import dcmread
from reports import MANIFEST, sentences
from test_run import NOW, model, study

from models.manifest import Manifest, Recipe, Trait, read, write
from pipeline.prepare import prepare
from pipeline.records import Batch, Finding, Pixels, Slices, Source
from pipeline.run import analyze
from pipeline.typical import doubted, unlike
from scripts.make_phantom import write_study
from scripts.phantom import ct_head
from scripts.typical import ranges


def phantom(folder: Path, seed: int, tumour: str = "none") -> Pixels:
    """The T1 series of a phantom, as stored."""
    write_study(folder, seed=seed, tumour=tumour, slices=8, size=128, series=("t1",))  # type: ignore[arg-type]
    return np.stack([dcmread(path).pixel_array.astype(np.float32) for path in sorted(folder.glob("*.dcm"))])


def brain_window(folder: Path) -> Pixels:
    """A CT phantom as it is looked at: 0 to 80 HU."""
    ct_head.write(folder, ct_head.Study(blood=False, tilt=0.0))
    pictures = np.stack([dcmread(path).pixel_array.astype(np.float32) for path in sorted(folder.glob("head_*.dcm"))])
    return np.clip(pictures + ct_head.INTERCEPT, 0, 80)


def batch(pixels: Pixels) -> Batch:
    return prepare(Slices(tuple(Source(str(k)) for k in range(len(pixels))), pixels), Recipe())


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """A manifest with the ranges of four phantoms; four heads are few, so the ends lie a quarter of each range farther out."""
    folder = tmp_path_factory.mktemp("learnt")
    seen = ((1, "glioma"), (2, "none"), (3, "meningioma"), (4, "pituitary"))
    fed = [batch(phantom(folder / str(seed), seed, tumour)).tensor for seed, tumour in seen]
    wide = {name: (low - (high - low) / 4, high + (high - low) / 4) for name, (low, high) in ranges(fed, Recipe()).items()}
    return MANIFEST.model_copy(update={"typical": wide})


@pytest.mark.parametrize(("seed", "tumour"), [(9, "none"), (20, "meningioma"), (31, "glioma")])
def test_other_phantoms_are_typical(seed: int, tumour: str, learnt: Manifest, tmp_path: Path) -> None:
    """Heads that were not among the learnt ones, with a tumour or without, are like them."""
    assert unlike(batch(phantom(tmp_path, seed, tumour)), learnt) == ()


def test_what_is_no_such_picture(learnt: Manifest, tmp_path: Path) -> None:
    """Inverted contrast, noise alone, a head in strong noise, blur and a CT window are each found out."""
    head, random = phantom(tmp_path / "mr", 9), np.random.default_rng(0)
    strange = {
        "inverted": head.max() - head,
        "noise": random.normal(500, 100, head.shape).astype(np.float32),
        "noisy": head + random.normal(0, 0.3 * head.max(), head.shape).astype(np.float32),
        "flat": np.where(head > 0.1 * head.max(), np.float32(400), np.float32(0)),
        "ct": brain_window(tmp_path / "ct"),
    }
    assert [name for name, pixels in strange.items() if not unlike(batch(pixels), learnt)] == []
    assert "sharpness" in unlike(batch(strange["noisy"]), learnt)
    assert "share" in unlike(batch(strange["inverted"]), learnt)


def test_one_strange_slice_is_not_a_strange_study(learnt: Manifest, tmp_path: Path) -> None:
    """The median of the slices decides, and slices with little head are not asked."""
    head = phantom(tmp_path, 9)
    head[3] = head[3].max() - head[3]
    assert "sharpness" not in unlike(batch(head), learnt) and "brightness" not in unlike(batch(head), learnt)


def test_a_manifest_without_ranges_finds_nothing_strange(tmp_path: Path) -> None:
    """Unless the manifest says what is typical, nothing is asked, and its id is what it was."""
    assert unlike(batch(np.random.default_rng(0).normal(500, 100, (2, 64, 64)).astype(np.float32)), MANIFEST) == ()
    assert MANIFEST.id != MANIFEST.model_copy(update={"typical": {"share": (0.1, 0.5)}}).id
    assert Manifest.model_validate(MANIFEST.model_dump(exclude={"typical"})).id == MANIFEST.id


@pytest.mark.parametrize("call", ["present", "absent", "unsure"])
def test_the_call_is_unsure_at_most(call: str, learnt: Manifest, tmp_path: Path) -> None:
    """Whatever the network says of noise, the call is unsure and the finding says why; of a typical head it stays."""
    said = Finding("glioma", call, 0.9, {"glioma": 0.9}, ())  # type: ignore[arg-type]
    noise = np.random.default_rng(0).normal(500, 100, (4, 64, 64)).astype(np.float32)
    of_noise = doubted(said, batch(noise), learnt)
    assert (of_noise.call, replace(of_noise, call=said.call, unlike=())) == ("unsure", said)
    assert of_noise.unlike
    assert doubted(said, batch(phantom(tmp_path, 9)), learnt) == said


def test_the_answer_says_it(tmp_path: Path) -> None:
    """From the study to the Summary: a model that is sure of a glioma on pictures unlike its own is reported as unsure, with the reason."""
    of, sure = study(tmp_path), model()
    wary = replace(sure, manifest=sure.manifest.model_copy(update={"typical": {"brightness": (0.0, 0.01)}}))
    report = analyze(of, [wary], NOW)
    assert report.finding is not None and report.finding.call == "unsure"
    assert "unlike those that the model learned from (brightness inside the head)" in sentences(report.documents[0])[1]
    assert report.documents[0].sop_instance_uid != analyze(of, [sure], NOW).documents[0].sop_instance_uid


def test_ranges_in_the_file(tmp_path: Path) -> None:
    """`[typical]` is written and read back; an unknown trait and a range with its ends swapped are refused."""
    wanted: dict[Trait, tuple[float, float]] = {"share": (0.2, 0.6), "contrast": (0.1, 0.7)}
    write(tmp_path / "manifest.toml", MANIFEST.model_copy(update={"typical": wanted}))
    assert read(tmp_path / "manifest.toml").typical == wanted
    for wrong in ({"colour": (0.0, 1.0)}, {"share": (0.6, 0.2)}):
        with pytest.raises(ValidationError, match="typical"):
            Manifest.model_validate(MANIFEST.model_dump() | {"typical": wrong})
