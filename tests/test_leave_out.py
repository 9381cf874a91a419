"""Leave-out runs: what is left out is not learnt, and every study of it is read by the rule that serves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytestmark = pytest.mark.train

from typer.testing import CliRunner  # noqa: E402

from models.manifest import Label, Manifest  # noqa: E402
from models.training import loop  # noqa: E402
from models.training.data import Samples  # noqa: E402
from models.training.network import Network  # noqa: E402
from scripts import false_cells, leave_out, model_card, study_rule, train_image_model  # noqa: E402
from scripts.datasets import Examples, join  # noqa: E402
from scripts.learnt import ADDED, CLEAR, NAMES, NOTHING, samples  # noqa: E402
from scripts.report import material  # noqa: E402
from scripts.tables import rows_of, write  # noqa: E402

SIDE = 224
MANIFEST = Manifest(name="m", version="1", labels=[Label(name=n, value="1", scheme="SCT", meaning=n) for n in NAMES])

OURS = MANIFEST.model_copy(update={"name": model_card.NAME})


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


RUNS = leave_out.runs(MANY)


@pytest.mark.parametrize("run", RUNS)
def test_every_run_leaves_something_out_and_learns_every_class(run: str) -> None:
    """Each part of a run has slices, and without them all four labels are still there to learn."""
    assert all(choose(MANY).any() for choose in RUNS[run].values())
    assert set(MANY.labels[~leave_out.left_out(MANY, RUNS[run])]) == set(range(len(NAMES)))


def test_together_the_runs_read_every_fold_every_patient_and_the_head() -> None:
    """Whatever is not sealed, phantoms apart, is read by some network that never saw it."""
    read = np.any([choose(MANY) for parts in RUNS.values() for choose in parts.values()], axis=0)
    assert (read == (np.array(MANY.sources) != "phantom")).all()


def test_who_leaves_the_painted_head_out_learns_no_phantom_of_it() -> None:
    """Phantoms are painted into Colin 27: a network that is asked about that head must not have learnt them."""
    phantoms = np.array(MANY.sources) == "phantom"
    assert leave_out.left_out(MANY, RUNS["web"])[phantoms].all()
    assert not leave_out.left_out(MANY, RUNS["fold0"])[phantoms].any()


def test_other_data_have_other_runs() -> None:
    """Without Cheng's numbering there is no second half, and without pictures of another origin no part of that name. Volumes alone
    are left out patient by patient: no network learns healthy heads only.
    """
    found = leave_out.runs(MANY.take(np.isin(np.array(MANY.sources), ("volume", "healthy"))))
    assert {run: set(parts) for run, parts in found.items()} == {
        **{f"patients{k}": {f"btp0{k + 1}"} for k in range(4)},
        "web": {"btp05", "colin27"},
    }


def test_many_patients_are_dealt_to_all_runs() -> None:
    """Of twelve patients beside four folds no run leaves more than three out, and each is left out once."""
    more = examples([("volume", f"p{k:02}", k % 4, f"p{k:02}", f"p{k}.nii.gz slice 1") for k in range(12)])
    found = leave_out.runs(join([MANY.take(np.array(MANY.sources) != "volume"), more]))
    out = [[name for name in parts if name.startswith("p")] for parts in found.values()]
    assert sorted(name for names in out for name in names) == sorted(set(more.parts)) and max(map(len, out)) == 3


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
    learnt: list[int] = []

    def trained(found: Samples, *_: object) -> Network:
        learnt.append(len(found))
        return Network().eval()

    monkeypatch.setattr(leave_out, "train_fp32", trained)
    work = tmp_path / "fold0"
    work.mkdir()  # as training does
    for _ in range(2):
        leave_out.leave_out("fold0", RUNS["fold0"], MANY, None, loop.Plan(), work)
    read = {row["file"] for row in rows_of(work / "rows.csv")}
    assert learnt == [len(MANY) - len(read)] and read
    assert {case.kind for case in study_rule.cases(tmp_path)} == {"slice", "volume"}
    with pytest.raises(loop.OtherRun, match="another plan or other slices"):
        leave_out.leave_out("fold0", RUNS["fold0"], MANY.take(np.arange(len(MANY)) > 8), None, loop.Plan(), work)


def test_teachers_learn_what_their_pupil_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who teaches has seen what is measured: each learnt the pupil's slices, from another seed and in a folder of its own."""
    learnt: list[tuple[int, int, str]] = []
    taught: list[int] = []

    def trained(found: Samples, _feed: object, plan: loop.Plan, work: Path) -> Network:
        learnt.append((len(found), plan.seed, work.name))
        return Network().eval()

    def teach(network: Network, others: list[Network], *_: object) -> Network:
        taught.append(len(others))
        return network

    monkeypatch.setattr(leave_out, "train_fp32", trained)
    monkeypatch.setattr(leave_out, "taught_further", teach)
    work = _made(tmp_path / "fold0")
    leave_out.leave_out("fold0", RUNS["fold0"], MANY, None, loop.Plan(), work, teachers=2)
    assert len({slices for slices, _, _ in learnt}) == 1 and taught == [2]
    assert [row[1:] for row in learnt] == [(0, "fold0"), (100, "seed100"), (200, "seed200")]
    with pytest.raises(loop.OtherRun):
        leave_out.leave_out("fold0", RUNS["fold0"], MANY, None, loop.Plan(), work, teachers=1)


def test_the_lesson_is_told_beside_each_network_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lessons.csv: every network of a run as it was before the lesson, and what the lesson made of the first; other runs' rows stay."""

    def teach(network: Network, _others: list[Network], *_: object) -> Network:
        with torch.no_grad():
            network.head.bias += torch.tensor([0.0, 0.0, 999.0, 0.0])  # sees pituitary tumours everywhere
        return network

    def blind(*_: object) -> Network:
        network = Network().eval()
        with torch.no_grad():
            network.head.bias += torch.tensor([-99.0, -99.0, -99.0, 0.0])
        return network

    monkeypatch.setattr(leave_out, "train_fp32", blind)
    monkeypatch.setattr(leave_out, "taught_further", teach)
    table = tmp_path / "docs" / "leave_out.csv"
    for run in ("fold0", "fold1"):
        leave_out.leave_out(run, RUNS[run], MANY, None, loop.Plan(), _made(tmp_path / run / run), teachers=1)
        leave_out.collect(tmp_path / run, table, [run])
    rows = rows_of(table.with_name("lessons.csv"))
    assert {row["run"] for row in rows} == {"fold0", "fold1"} and rows[0].keys() == set(material.COLUMNS["lessons.csv"].split())
    assert {row["network"] for row in rows} == {"alone, beginning 1", "alone, beginning 2", "beginning 1, taught further"}
    assert [row["sensitivity"] for row in rows if row["part"] == "0"] == ["0.000", "0.000", "1.000"]


def test_only_networks_that_left_out_just_that_may_teach(tmp_path: Path) -> None:
    """What is not there, not whole, or learnt other slices than its run is refused, and the message says what to do."""
    plan, network = loop.Plan(sizes=(64,)), Network()

    def made(name: str, epochs: int, found: Examples) -> None:
        of = loop.fingerprint(samples(found.take(~leave_out.left_out(found, RUNS[name]))), plan)
        (tmp_path / name).mkdir(exist_ok=True)
        torch.save({"epochs": epochs, "of": of, "network": network.state_dict()}, tmp_path / name / "fp32.pt")

    with pytest.raises(leave_out.DataError, match=r"fold0/fp32\.pt: is not there; .* makes it"):
        leave_out.networks_of(tmp_path, MANY, plan)
    for name in RUNS:
        made(name, 1, MANY)
    found = leave_out.networks_of(tmp_path, MANY, plan)
    assert len(found) == len(RUNS) and not any(teacher.training for teacher in found)
    (tmp_path / "web" / "fp32.pt").write_bytes(b"half a file")
    with pytest.raises(leave_out.DataError, match="is no checkpoint"):
        leave_out.networks_of(tmp_path, MANY, plan)
    made("web", 0, MANY)
    with pytest.raises(leave_out.DataError, match="has 0 of 1 epochs"):
        leave_out.networks_of(tmp_path, MANY, plan)
    more = examples([*(("figshare", "0", 0, "fig99-00", f"sealed{k}.jpg") for k in range(3))])
    made("web", 1, join([MANY, more]))
    with pytest.raises(leave_out.DataError, match="learnt other slices"):
        leave_out.networks_of(tmp_path, MANY, plan)


def test_a_training_without_its_teachers_ends_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--teachers of a folder without the networks is said at once, not after the hours of fp32, and the given ones reach the run."""
    asked: list[int] = []
    monkeypatch.setattr(train_image_model, "read", lambda *_, **__: MANY)
    monkeypatch.setattr(train_image_model, "networks_of", lambda *_: [Network()] * 6)
    monkeypatch.setattr(train_image_model, "run", lambda *_, teachers, **__: asked.append(len(teachers)) or MANIFEST)
    command = ["--data", str(tmp_path), "--teachers", str(tmp_path)]
    assert CliRunner().invoke(train_image_model.app, command).exit_code == 0 and asked == [6]
    monkeypatch.setattr(train_image_model, "networks_of", leave_out.networks_of)
    refused = CliRunner().invoke(train_image_model.app, command)
    assert refused.exit_code == 2 and "fold0/fp32.pt: is not there" in refused.output and asked == [6]
    quick = CliRunner().invoke(train_image_model.app, [*command, "--quick"])
    assert quick.exit_code == 2 and "no run of minutes" in quick.output and asked == [6]


@pytest.mark.parametrize("added", [ADDED, NOTHING])
def test_what_is_read_is_the_network_as_it_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, added: tuple[float, ...]) -> None:
    """Rows and maps hold what is added to each label's evidence after training, and rows say it."""

    def blank(*_: object) -> Network:
        network = Network().eval()
        network.head.weight.data.zero_()
        network.head.bias.data.zero_()
        return network

    monkeypatch.setattr(leave_out, "train_fp32", blank)
    leave_out.leave_out("fold0", RUNS["fold0"], MANY, None, loop.Plan(), _made(tmp_path / "fold0"), added)
    for row in rows_of(tmp_path / "fold0" / "rows.csv"):
        assert [float(row[f"fp32_{name}"]) for name in NAMES] == pytest.approx(added)
        assert [float(by) for by in row["added"].split()] == list(added)
    with np.load(tmp_path / "fold0" / "maps.npz") as stored:
        assert np.allclose(stored["maps"].mean((0, 2, 3)), added, atol=1e-3)


def test_rows_of_runs_that_are_not_here_stay_in_the_table(tmp_path: Path) -> None:
    """Doing one run again replaces its rows alone."""
    row = {"run": "fold1", "part": "1", "truth": "glioma", "pointed": "1", **{f"fp32_{name}": "0.5" for name in NAMES}}
    write(tmp_path / "leave_out.csv", [row, {**row, "run": "fold0", "part": "old"}])
    write(_made(tmp_path / "work" / "fold0") / "rows.csv", [{**row, "run": "fold0", "part": "new"}])
    leave_out.collect(tmp_path / "work", tmp_path / "leave_out.csv", ["fold0"])
    assert {(found["run"], found["part"]) for found in rows_of(tmp_path / "leave_out.csv")} == {("fold0", "new"), ("fold1", "1")}


def test_rows_from_before_there_were_teachers_have_none(tmp_path: Path) -> None:
    """A run of an older version stands beside a new one in the table, whichever comes first."""
    old = {"run": "fold0", "part": "0", "truth": "glioma", "pointed": "1", **{f"fp32_{name}": "0.5" for name in NAMES}}
    for name, row in (("fold0", old), ("fold1", {**old, "run": "fold1", "teachers": "1"}), ("fold2", {**old, "run": "fold2"})):
        write(_made(tmp_path / "work" / name) / "rows.csv", [row])
    leave_out.collect(tmp_path / "work", tmp_path / "leave_out.csv", ["fold0", "fold1", "fold2"])
    assert [row["teachers"] for row in rows_of(tmp_path / "leave_out.csv")] == ["0", "1", "0"]


def test_a_study_is_read_by_the_rule_of_its_network() -> None:
    """Whose network others taught further is read as such a network serves, and a candidate changes only what it names."""
    found = MANY.take(np.array(MANY.sources) == "volume")
    case, *_ = study_rule.studies_of(found, np.zeros((len(found), 4, 14, 14), np.float32), "run")
    for teachers in (0, 1, 6):
        rule = study_rule.ruled(OURS, replace(case, teachers=teachers)).rule
        assert rule == model_card.study_rule(teachers) and rule.absent == (0.45 if teachers else 0.4)
    assert study_rule.ruled(MANIFEST, case).rule == MANIFEST.rule  # a model of other data has one of its own
    changed = study_rule.ruled(OURS, replace(case, teachers=1), {"temperature": 1.0}).rule
    assert (changed.temperature, changed.absent) == (1.0, 0.45)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_the_tables_have_the_columns_that_the_report_reads() -> None:
    """What is written here is what scripts/report wants: leave_out.csv, leave_out_studies.csv, ablation.csv, learnt.csv."""
    found = MANY.take(np.array(MANY.sources) == "volume")
    maps = np.zeros((len(found), 4, 14, 14), np.float32)
    [case, *_] = study_rule.studies_of(found, maps, "run")
    [row, *_] = leave_out._rows(found, maps, ADDED, 0)
    slice_row = {"run": "", "part": "", **{key: str(value) for key, value in row.items()}}
    written = {
        "leave_out.csv": slice_row.keys() - {f"fp32_{name}" for name in NAMES},
        "leave_out_studies.csv": study_rule._row(case, study_rule.found_in(case, MANIFEST)).keys(),
        "ablation.csv": next(leave_out.summary("whole", [slice_row])).keys() - {"pointed"},
        "learnt.csv": next(train_image_model.counted(found)).keys(),
    }
    for name, columns in written.items():
        assert set(columns) == set(material.COLUMNS[name].split()), name


def test_the_curve_tells_the_lesson_of_who_was_taught(tmp_path: Path) -> None:
    """curve.csv holds the epochs of the training and, of a network that others taught, those of the lesson; an old lesson is not told."""
    for name in ("curve.csv", "taught.csv"):
        write(tmp_path / name, [{"epoch": 1, "size": 160, "loss": 0.9, "seconds": 12}])
    rows = list(train_image_model._curve(tmp_path, taught=True))
    assert [row["stage"] for row in rows] == ["alone", "taught"]
    assert rows[0].keys() == set(material.COLUMNS["curve.csv"].split())
    assert [row["stage"] for row in train_image_model._curve(tmp_path, taught=False)] == ["alone"]


def test_the_strongest_cell_of_the_label_is_what_points() -> None:
    """A cell on the tumour points right, one far away does not, and Dice is 1 only where the evidence is the mask."""
    found = MANY.take(np.arange(len(MANY)) < 2)
    evidence = np.full((2, 4, 14, 14), -1.0, np.float32)
    evidence[0, found.labels[0], 6:8, 6:8] = 1.0
    evidence[1, found.labels[1], 0, 0] = 1.0
    right, wrong = leave_out.points(evidence, found)
    assert (right["pointed"], wrong["pointed"]) == ("1", "0")
    assert float(right["dice"]) > 0.7 > 0.1 > float(wrong["dice"])


def test_a_patients_slices_without_tumour_are_studies_too() -> None:
    """Neighbours in which nobody drew a tumour are a run that ought to be called absent, in their order and places; few are none."""
    rows = [("volume", "btp01", 0 if k in (3, 4) else CLEAR, "btp01_pre", f"btp01.nii.gz slice {k}") for k in range(12)]
    maps = np.full((12, 4, 14, 14), -5.0, np.float32)
    maps[:, CLEAR] = 0.0
    found = study_rule._grouped(_table(rows), (maps, np.ones(12, np.float32), examples(rows).masks[:, ::2, ::2] > 0))
    [run] = [case for case in found if case.kind == "run"]
    assert (run.name, run.truth, len(run.maps)) == ("run btp01_pre 1 without tumour", "notumor", 7)
    assert run.geometry.positions == tuple(study_rule.VOLUME_STEP * k for k in range(5, 12))
    assert study_rule.right(study_rule.found_in(run, MANIFEST), run)


def test_false_cells_are_counted_where_they_lie() -> None:
    """A slice without tumour counts once, in its third of the head; one that is called a tumour by its label and strongest cell."""
    rows = [("volume", "btp01", 0 if k == 5 else CLEAR, "btp01_pre", f"btp01.nii.gz slice {k}") for k in range(6)]
    maps = np.full((6, 4, 14, 14), -5.0, np.float32)
    maps[:, CLEAR] = 0.0
    maps[0, 2, 6:9, 5:8] = 4.0
    maps[0, 2, 7, 6] = 5.0
    maps[5, 0] = 9.0  # where somebody drew one
    dicom = [("dicom", "p1", CLEAR, "p1", f"p1/series slice {k}") for k in range(6)]  # nothing says where these lie
    assert not false_cells.places(study_rule._grouped(_table(dicom), (maps, np.ones(6, np.float32), np.zeros((6, 112, 112), bool))))
    found = false_cells.places(study_rule._grouped(_table(rows), (maps, np.ones(6, np.float32), examples(rows).masks[:, ::2, ::2] > 0)))
    place, nothing = ("volume", "btp01", "axial"), ("", "", "")
    assert found == {
        (*place, "lower", "pituitary", "7", "6"): 1,
        (*place, "lower", *nothing): 1,
        (*place, "middle", *nothing): 2,
        (*place, "upper", *nothing): 1,
    }
    order = sorted(found.items(), key=false_cells._order)
    assert [counted[3] for counted, _ in order] == ["lower", "lower", "middle", "upper"]
    assert {*false_cells.COLUMNS, "slices"} == set(material.COLUMNS["false_cells.csv"].split())


def _table(rows: list[tuple[str, str, int, str, str]]) -> list[dict[str, str]]:
    keys = ("source", "part", "truth", "block", "file")
    found = [dict(zip(keys, map(str, row), strict=True)) for row in rows]
    return [{**row, "truth": NAMES[int(row["truth"])], "run": "r", "plane": "axial"} for row in found]


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
    row = study_rule._row(case, finding)
    assert (row["tumour_slices"], row["found"], row["false"]) == (2, 2, 0)
