"""The report says what was measured, says plainly what was not, and is what its files make of it; the card names sources and limits."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import measured
import numpy as np
import pytest

from models.manifest import read, write
from models.record import read as read_record
from scripts.model_card import DOCS, LEARNED_FROM, LIMITS, ROOT, UNKNOWN, card, kind
from scripts.model_report import FOLDER, FOOTNOTE, headlines, render, text
from scripts.report import goals, left_out, numbers, twin
from scripts.report.material import COLUMNS, MADE_BY, MaterialError, gather


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a made-up record."""
    return measured.model(tmp_path_factory.mktemp("model") / "zoo")


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of documents with every file of measured/."""
    return measured.measured(tmp_path_factory.mktemp("docs"))


@pytest.fixture(scope="module")
def page(docs: Path, folder: Path) -> str:
    """The report of all of that."""
    return text(docs, folder)


def rewritten(docs: Path, to: Path, name: str, column: str, value: str) -> Path:
    """A copy of `docs` whose file `name` says `value` in `column`, everywhere."""
    shutil.copytree(docs / "measured", to / "measured")
    path = to / "measured" / name
    with path.open(newline="") as stream:
        rows = [{**row, column: value} for row in csv.DictReader(stream)]
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return to


def measured_goals(docs: Path, folder: Path) -> dict[str, goals.Goal]:
    """Goals by what they ask for."""
    return {goal.what: goal for goal in goals.goals(gather(docs, folder))}


def test_the_committed_report_is_what_the_committed_files_make() -> None:
    """docs/model-report.md, the card and its copy are never stale: `make model-report` writes them again."""
    assert (DOCS / "model-report.md").read_text() == text(DOCS, FOLDER)
    assert (DOCS / "model-card.md").read_text() == (FOLDER / "CARD.md").read_text() == card(read(FOLDER / "manifest.toml"), DOCS)


def test_every_picture_that_the_report_shows_is_committed_and_small() -> None:
    """Plots stand beside the report, each below 120 kB, and no other files do."""
    shown = {line.partition("](")[2].rstrip(")") for line in (DOCS / "model-report.md").read_text().splitlines() if line.startswith("![")}
    assert shown == {f"model-report/{path.name}" for path in (DOCS / "model-report").iterdir()}
    assert all((DOCS / path).stat().st_size < 120_000 for path in shown)


def test_nothing_is_missing_where_everything_was_measured(page: str) -> None:
    """With all files there is no goal without a number and no 'not measured'."""
    assert "Not measured" not in page and ", 0 not measured yet." in page
    assert FOOTNOTE in page


def test_the_report_says_which_networks_others_taught(page: str) -> None:
    """Runs with teachers and runs without stand apart, as the table has them, each with what was added."""
    assert "| web | 1 | 0 0 0 0 |\n| fold0 | 0 | 0 0 0 0 |" in page


def test_what_was_not_measured_is_said_with_its_command(tmp_path: Path, folder: Path) -> None:
    """Without any file of measured/ every one is named once or more, with the command that writes it."""
    bare = text(tmp_path, folder)
    for name in COLUMNS:
        assert f"Not measured yet: `{MADE_BY[name]}` writes docs/measured/{name}." in bare, name
    assert "![Confusion" in bare and "![Loss" not in bare


def test_what_is_no_number_of_teachers_is_said(tmp_path: Path, docs: Path, folder: Path) -> None:
    """An empty cell names the file and the command that writes it again."""
    with pytest.raises(MaterialError, match=r"leave_out\.csv: .*write it again"):
        text(rewritten(docs, tmp_path, "leave_out.csv", "teachers", ""), folder)


def test_a_model_that_others_taught_says_so(docs: Path, tmp_path: Path) -> None:
    """Report and card tell how many networks taught it, and how to make it so again; of one that learnt alone they tell nothing."""
    whole = measured.model(tmp_path / "zoo")
    alone = read(whole / "manifest.toml").model_copy(update={"taught_by": 0})
    write(whole / "manifest.toml", alone)
    assert "taught it further" not in text(docs, whole) + card(alone, docs)
    taught = alone.model_copy(update={"taught_by": 6})
    write(whole / "manifest.toml", taught)
    assert "then 6 others taught it further, 2 epochs at 160, 224 pixels" in text(docs, whole)
    assert "6 networks that had left out parts" in card(taught, docs) and "--teachers runs/leave_out" in card(taught, docs)
    assert kind(taught, [{"teachers": "6"}]) == kind(alone, [{"teachers": "0"}]) == "networks trained in the same way"
    assert kind(taught, [{"teachers": "1"}]).endswith("taught further by 1 other network, where 6 taught what serves,")
    assert "by 0 or 1 other networks, where 6" in kind(taught, [{"teachers": "1"}, {"teachers": "0"}])


def test_a_model_of_other_data_has_no_footnote_about_our_sealed_slices(docs: Path, tmp_path: Path) -> None:
    """Who named other sources (--learned-from) sealed other slices, and nobody looked at these before."""
    whole = measured.model(tmp_path / "zoo")
    found = read(whole / "manifest.toml")
    other = found.model_copy(update={"learned_from": found.learned_from[1:]})
    write(whole / "manifest.toml", other)
    assert FOOTNOTE not in text(docs, whole)
    assert "What else they lacked" in card(found, docs) and "What else they lacked" not in card(other, docs)


def test_a_record_that_names_files_only_is_reported(tmp_path: Path) -> None:
    """An old gate.csv (file, truth, logits) gives its numbers, and says that its intervals are too narrow."""
    whole = measured.model(tmp_path / "zoo")
    for name in ("gate_spoiled.csv", "gate_studies.csv"):
        (whole / name).unlink()
    with (whole / "gate.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with (whole / "gate.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(
            stream, [c for c in rows[0] if c not in ("part", "block", "stratum", "plane", "source")], extrasaction="ignore"
        )
        writer.writeheader()
        writer.writerows(rows)
    page = text(tmp_path, whole)
    assert "140 of the fold, 20 of a patient's volumes" in page
    assert "too narrow" in page and "names files only" in page and "holds no studies" in page


def test_numbers_are_those_of_the_record(folder: Path) -> None:
    """Accuracy of the sealed fold is the share of its slices that are right, and lies in its interval."""
    record = read_record(folder, measured.LABELS, "notumor")
    fold = numbers.sealed_fold(record)
    found = numbers.numbers(fold, "int8")["accuracy"]
    assert len(fold) == 140 and len(numbers.of_source(record, "volume")) == 20
    assert found.value == pytest.approx(float((fold.logits["int8"].argmax(1) == fold.truth).mean()))
    assert found.low <= found.value <= found.high


def test_goals_are_met_and_missed(tmp_path: Path, docs: Path, folder: Path) -> None:
    """A goal is met where both variants reach it, and missed where a number falls below, whichever file it is in."""
    found = measured_goals(docs, folder)
    assert found["volumes, each patient left out: studies"].met and found["healthy head left out: study"].met
    assert found["int8 faster than its own fp32 twin, 1 thread, batch 24"].met
    unsure = measured_goals(rewritten(docs, tmp_path / "unsure", "leave_out_studies.csv", "call", "unsure"), folder)
    assert unsure["volumes, each patient left out: studies"].met is False and unsure["healthy head left out: study"].met is False
    slow = measured_goals(rewritten(docs, tmp_path / "slow", "speed.csv", "ms", "5"), folder)
    assert slow["int8 faster than its own fp32 twin, 1 thread, batch 24"].met is False
    outside = measured_goals(rewritten(docs, tmp_path / "outside", "leave_out.csv", "pointed", "0"), folder)
    assert outside["evidence: strongest cell inside the widened mask"].met is False


def test_slices_count_with_their_neighbours_asked(tmp_path: Path, docs: Path, folder: Path) -> None:
    """The goals of slices are judged by what the study rule found in them, and say what the network alone made of them."""
    volumes, heads = "volumes, each patient left out: slices", "healthy head left out: slices"
    found = measured_goals(docs, folder)
    assert found[volumes].met and found[volumes].measured.startswith("0.900 at 1.000 with their neighbours asked (")
    assert found[heads].met and found[heads].measured.startswith("colin27 0.983, with their neighbours asked (each by itself ")
    worse = measured_goals(rewritten(docs, tmp_path / "worse", "leave_out_studies.csv", "false", "2"), folder)
    assert worse[heads].met is False and worse[volumes].met is False


def test_a_key_slice_outside_the_tumour_misses_the_goal(tmp_path: Path, docs: Path, folder: Path) -> None:
    """Called rightly is not enough."""
    found = measured_goals(rewritten(docs, tmp_path / "beside", "leave_out_studies.csv", "key_inside", "0"), folder)
    goal = found["volumes, each patient left out: studies"]
    assert goal.met is False and goal.measured == "4 of 4 present and glioma, 0 key slices inside"


def test_the_worst_part_is_named(docs: Path, folder: Path, page: str) -> None:
    """The part with the fewest right labels stands out."""
    left = gather(docs, folder).left_out
    assert left is not None
    shares = {name: float((p.record.logits["fp32"].argmax(1) == p.record.truth).mean()) for name, p in left_out.parts(left)}
    name, accuracy = left_out.worst(left)
    assert (shares[name], accuracy) == (min(shares.values()), pytest.approx(min(shares.values())))
    assert f"**The worst part is {name}: {accuracy:.3f} of its labels are right.**" in page


def test_ratios_are_those_of_the_table(docs: Path, folder: Path) -> None:
    """Times of int8 and its rivals are found by network, runtime, precision, threads and batch."""
    material = gather(docs, folder)
    assert twin.faster(material, twin.TWIN, 1) == pytest.approx(204 / 92)
    assert twin.faster(material, twin.EAGER, 1) == pytest.approx(980 / 92)
    assert twin.smaller(material, twin.RESNET) == pytest.approx(44_700_000 / material.manifest.artifacts["int8"].bytes)
    assert twin.faster(material, twin.RESNET, 3) is None


def test_headlines_say_what_was_measured(tmp_path: Path, docs: Path, folder: Path) -> None:
    """Slices, size and speed; no sentence about speed where nothing was timed."""
    slices, elsewhere, size, speed = headlines(docs, folder)
    assert "of those of healthy heads." in elsewhere and "The worst part is " in elsewhere
    assert slices.startswith("Of 140 sealed slices int8 names ") and "3.56 times smaller than fp32" in size
    assert "2.2 times as fast as its fp32 twin" in speed and "10.7 times as fast as ResNet18 in eager PyTorch" in speed
    assert len(headlines(tmp_path, folder)) == 2


def test_readme_says_the_headlines() -> None:
    """Every number of README's section on the model is one that the report's files give."""
    readme = " ".join((ROOT / "README.md").read_text().split())
    for sentence in headlines(DOCS, FOLDER):
        assert " ".join(sentence.split()) in readme


def test_a_file_without_a_column_is_named(tmp_path: Path, folder: Path) -> None:
    """The error says which file, which column, and what writes it."""
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "speed.csv").write_text("network,ms\nResNet18,3\n")
    with pytest.raises(MaterialError, match=r"speed\.csv: no column batch, bytes.*write it again: "):
        text(tmp_path, folder)


def test_a_label_that_is_none_is_named(tmp_path: Path, docs: Path, folder: Path) -> None:
    """leave_out.csv with a truth that the model does not know is refused."""
    wrong = rewritten(docs, tmp_path, "leave_out.csv", "truth", "gliosis")
    with pytest.raises(MaterialError, match=r"leave_out\.csv: .*gliosis"):
        text(wrong, folder)


def test_the_page_alone_loads_neither_torch_nor_matplotlib() -> None:
    """What the tests without the train extra need is numpy."""
    code = "import sys, scripts.model_report; print(*{name.partition('.')[0] for name in sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, timeout=60)
    assert not set(result.stdout.split()) & {"torch", "matplotlib", "onnxruntime", "nibabel"}


@pytest.mark.train
def test_rendering_twice_gives_the_same_bytes(tmp_path: Path, folder: Path) -> None:
    """Page, plots and cards: no date, no version of a library; and a plot whose file went away goes too."""
    pytest.importorskip("matplotlib")
    docs = measured.measured(tmp_path / "docs")
    copy = shutil.copytree(folder, tmp_path / "zoo")
    render(docs, copy)
    first = {path: path.read_bytes() for path in (*docs.rglob("*.*"), copy / "CARD.md")}
    render(docs, copy)
    assert {path: path.read_bytes() for path in first} == first
    plots = {path.name: data for path, data in first.items() if path.suffix == ".png"}
    assert plots.keys() == {"curve.png", "confusion.png", "reliability.png", "roc.png", "speed.png", "pitfalls.png", "false.png"}
    assert all(len(data) < 120_000 and b"atplotlib" not in data for data in plots.values())
    (docs / "measured" / "curve.csv").unlink()
    render(docs, copy)
    assert not (docs / "model-report" / "curve.png").exists()


@pytest.mark.train
def test_areas_of_the_roc_plot() -> None:
    """A score that orders all slices rightly has the area 1, one that says nothing 0.5."""
    plots = pytest.importorskip("scripts.report.plots", exc_type=ImportError)
    hit = np.array([True, False, True, False])
    assert plots._roc(hit, np.array([0.9, 0.1, 0.8, 0.2]))[2] == 1.0
    assert plots._roc(hit, np.zeros(4))[2] == 0.5


def test_card_names_every_source_with_licence_and_citation() -> None:
    """Whoever uses the weights can cite what they were learnt from."""
    manifest = read(FOLDER / "manifest.toml")
    page, sources = card(manifest, DOCS), manifest.learned_from
    assert set(sources) <= set(LEARNED_FROM)  # a training names them, and may know more than what serves has learnt
    assert {source.name for source in sources} >= {"BRISC 2025", "Brain tumor dataset (Cheng)", "Brain-Tumor-Progression"}
    for source in sources:
        assert f"- {source.name}, {source.licence}: {source.citation}" in page


def test_card_names_every_limit() -> None:
    """What it does not know stands there, each with what happens."""
    page = card(read(FOLDER / "manifest.toml"), DOCS)
    assert "**Research use, not a medical device.**" in page and "**Out of scope**: diagnosis" in page
    for what, happens in UNKNOWN:
        assert f"- **{what}**: {happens}." in page
    assert all(f"- {limit}" in page for limit in LIMITS)
    named = " ".join(what.lower() for what, _ in UNKNOWN)
    wanted = "surgery metastases tumours enhancement children contrast t2 flair ct field cut-off implants"
    assert [word for word in wanted.split() if word not in named] == []


def test_card_says_how_to_train_it_again_and_names_no_path_of_a_machine() -> None:
    """Commands, version and digests; no folder of whoever trained it."""
    manifest = read(FOLDER / "manifest.toml")
    page = card(manifest, DOCS)
    assert "make train DATA=" in page and manifest.version in page and manifest.recipe_id in page
    assert all(f"`{artifact.sha256}`" in page for artifact in manifest.artifacts.values())
    assert set(re.findall(r"(?<![\w.*])(?:/|\.\./|~/)\w+/", page)) == {"/path/"}  # what the reader is to fill in; no other


def test_card_shows_intervals_and_heads_left_out(docs: Path) -> None:
    """Intervals of the gate, where the manifest has them, and what other networks of the kind reached elsewhere."""
    manifest = read(FOLDER / "manifest.toml")
    assert manifest.gate is not None
    ends = {
        "fp32_accuracy": 0.95,
        "fp32_accuracy_low": 0.93,
        "fp32_accuracy_high": 0.97,
        "drop_accuracy": 0.001,
        "drop_accuracy_upper": 0.004,
    }
    gate = manifest.gate.model_copy(update={"metrics": {**manifest.gate.metrics, **ends}})
    page = card(manifest.model_copy(update={"gate": gate}), docs)
    assert "| accuracy | 0.950 (0.930-0.970) |" in page and "accuracy +0.0010 (at most +0.0040)" in page
    assert "## Heads that were left out of training" in page and "| healthy | 24 |" in page
