"""The command line, as a shell would call it."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filled import DECLINED, DELIVERED, GAP, QUARANTINED, filled
from objects import SECRET, dataset, write
from pydicom import dcmread
from pydicom.uid import CTImageStorage

from listener import cli, cli_analyze
from models import registry

MODEL = "brain_tumor_4class"
KEYS = {
    "study", "state", "reason", "finding", "probabilities", "key_instances", "key_frames", "region", "suspect_instances",
    "suspect_frames", "series", "variant",
    "agreement", "model", "reports", "timings_ms",
}  # fmt: skip
T1: dict[str, Any] = {"SeriesDescription": "t1_se_ax", "BodyPartExamined": "HEAD"}


@dataclass
class Done:
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """Calls the command in this process, in an empty folder without VITALCHECK_ variables."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: str | Path) -> Done:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(arg) for arg in args])
        captured = self._capsys.readouterr()
        return Done(int(ended.value.code or 0), captured.out, captured.err)


@pytest.fixture
def sh(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shell:
    for name in [name for name in os.environ if name.startswith("VITALCHECK_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return Shell(capsys)


def usage(done: Done) -> str:
    """The one line of a command that was called wrongly."""
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    return done.err


# analyze


def test_analyze_answers_the_bundled_study(demo_study: Path, tmp_path: Path) -> None:
    """The installed command writes both reports, and nothing but one JSON line to stdout."""
    command = [str(Path(sys.executable).with_name("vitalcheck")), "analyze", str(demo_study), "--out", str(tmp_path / "out"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    (line,) = done.stdout.splitlines()
    answer = json.loads(line)
    assert answer.keys() >= KEYS
    assert answer["state"] == "analysed"
    assert answer["finding"]["call"] in ("present", "absent", "unsure")
    assert sum(answer["probabilities"].values()) == pytest.approx(1.0, abs=1e-4)
    assert len(answer["key_instances"]) == len(answer["key_frames"]) > 0
    assert [dcmread(path).Modality for path in answer["reports"]] == ["SR", "SR"]
    assert "study" in done.stderr


def test_analyze_goes_on_after_a_bad_study(sh: Shell, tmp_path: Path) -> None:
    """Analysed, declined and quarantined studies and a file that is no DICOM each get their answer, with every key present."""
    folder = tmp_path / "in"
    write(folder, dataset("1.2.1", **T1))
    write(folder, dataset("1.2.2", SeriesDescription="knee", BodyPartExamined="KNEE"))
    write(folder, dataset("1.2.3", **T1, Rows=4000))
    write(folder, dataset("1.2.4", sop_class_uid=CTImageStorage))
    (folder / "notes.txt").write_text("no DICOM")
    done = sh("analyze", folder, "--out", tmp_path / "out", "--json")
    answers = {answer["study"]: answer for answer in done.lines}
    assert done.status == 0
    assert all(answer.keys() >= KEYS for answer in answers.values())
    assert [answers[uid]["state"] for uid in sorted(answers)] == ["analysed", "declined", "quarantined", "declined"]
    assert answers["1.2.1"]["finding"]["label"] in answers["1.2.1"]["probabilities"]
    assert answers["1.2.2"]["reason"].startswith("no T1-weighted head series")
    assert answers["1.2.3"]["finding"] is None
    assert "instance 1.2.3.1.1: its pixel data hold" in answers["1.2.3"]["reason"]
    assert "notes.txt: not a DICOM file" in done.err
    assert SECRET not in done.out + done.err


def test_analyze_of_one_slice_for_people(sh: Shell, tmp_path: Path) -> None:
    """A single T1 slice is a study, and without --json the answer is a block to read."""
    done = sh("analyze", write(tmp_path, dataset("1.2.1", **T1)), "--out", tmp_path / "out", "--variant", "fp32")
    assert done.status == 0
    assert "1.2.1: analysed" in done.out
    assert "fp32 (not compared)" in done.out
    assert str(tmp_path / "out" / "1.2.1" / "summary.dcm") in done.out


def test_analyze_writes_the_documents_that_are_asked_for(sh: Shell, demo_study: Path, tmp_path: Path) -> None:
    """--documents names the kinds; a name that is none is refused with the nearest, before anything is read."""
    done = sh("analyze", demo_study, "--out", tmp_path / "out", "--documents", "key-image, presentation,pdf", "--json")
    (answer,) = done.lines
    assert {Path(path).stem for path in answer["reports"]} == {"key-image", "presentation", "pdf"}
    assert [dcmread(path).Modality for path in sorted(answer["reports"])] == ["OT", "DOC", "PR"]
    assert "pdf" in usage(sh("analyze", demo_study, "--out", tmp_path / "none", "--documents", "pfd"))
    assert not (tmp_path / "none").exists()


def test_analyze_twice_makes_a_document_once(sh: Shell, tmp_path: Path) -> None:
    """A second run of the same weights leaves the documents of the first, byte for byte; a spoilt one is made again."""
    write(tmp_path / "in", dataset(**T1))
    command = ("analyze", tmp_path / "in", "--out", tmp_path / "out", "--variant", "int8")
    reports = sh(*command, "--json").lines[0]["reports"]
    first = [Path(report).read_bytes() for report in reports]
    Path(reports[0]).write_bytes(b"spoilt")

    sh(*command)

    assert Path(reports[1]).read_bytes() == first[1]
    assert Path(reports[0]).read_bytes()[128:132] == b"DICM"


def test_documents_of_an_earlier_result_are_named(sh: Shell, tmp_path: Path) -> None:
    """Where a study has no answer any more, the Measurements of the answer before stay, and a line says what they are."""
    write(tmp_path / "in", dataset(**T1))
    assert not sh("analyze", tmp_path / "in", "--out", tmp_path / "out").err.count("earlier result")
    write(
        tmp_path / "t2",
        dataset(**T1 | {"SeriesDescription": "T2 TSE AX", "ProtocolName": "T2 TSE AX", "EchoTime": 100, "RepetitionTime": 4000}),
    )
    done = sh("analyze", tmp_path / "t2", "--out", tmp_path / "out")
    assert "measurements.dcm: is of an earlier result of this study" in done.err and "summary.dcm: is" not in done.err


def test_analyze_of_nothing_readable_is_1(sh: Shell, tmp_path: Path) -> None:
    """Where nothing at all is DICOM the exit status is 1 and one line says so."""
    (tmp_path / "notes.txt").write_text("no DICOM")
    done = sh("analyze", tmp_path / "notes.txt", "--out", tmp_path / "out")
    assert (done.status, done.out) == (1, "")
    assert done.err.splitlines()[-1].startswith(f"vitalcheck: {tmp_path}/notes.txt: none of 1 files could be read as DICOM")


def test_a_full_disk_is_no_fault_of_a_study(sh: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports that cannot be written end the command with one line that says where and why, and no study is called quarantined."""

    def full(path: Path, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    write(tmp_path / "in", dataset(**T1))
    monkeypatch.setattr(cli_analyze, "write_whole", full)
    done = sh("analyze", tmp_path / "in", "--out", tmp_path / "out")
    assert (done.status, done.out) == (2, "")
    assert done.err.splitlines()[-1].endswith("out: cannot be written to (No space left on device); give another folder with --out")


def test_an_answer_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A full disk behind stdout is told without a traceback, at its end neither; a reader that has seen enough is nothing."""
    command = [sys.executable, "-c", "from listener.cli import main; main(['config', 'show'])"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (1, "vitalcheck: stdout cannot be written (No space left on device); send it elsewhere\n")
    gone, out = os.pipe()
    os.close(gone)
    done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    os.close(out)
    assert (done.returncode, done.stderr) == (141, "")


def test_analyze_is_called_wrongly(sh: Shell, tmp_path: Path) -> None:
    """A folder that is not there, one that cannot be written and a model that is not installed are usage errors in one line."""
    (tmp_path / "file").touch()
    assert "does not exist" in usage(sh("analyze", tmp_path / "nowhere", "--out", tmp_path))
    assert "give another folder with --out" in usage(sh("analyze", tmp_path, "--out", tmp_path / "file" / "out"))
    assert f"installed: {MODEL}" in usage(sh("analyze", tmp_path, "--out", tmp_path / "out", "--model", "other"))
    assert "--help` shows how" in usage(sh("analyze", tmp_path))
    assert "name de or en" in usage(sh("analyze", tmp_path, "--out", tmp_path / "out", "--language", "fr"))


def test_analyze_in_german(sh: Shell, tmp_path: Path) -> None:
    """--language goes before reports.language; the Summary speaks it, the answer on stdout stays English."""
    slice_ = write(tmp_path, dataset("1.2.1", **T1 | {"SeriesDescription": "t2_tse"}))
    (tmp_path / "vitalcheck.toml").write_text('[reports]\nlanguage = "de"\n')
    titles = []
    for told in ((), ("--language", "en"), ("--language", "de")):
        (answer,) = sh("analyze", slice_, "--out", tmp_path / "out", "--json", *told).lines
        titles.append(dcmread(answer["reports"][0]).ConceptNameCodeSequence[0].CodeMeaning)
        assert answer["reason"] == "no T1-weighted head series: series 1 (MR): T2-weighted, not T1-weighted"
    assert titles == ["KI-Ergebnis, nicht aerztlich geprueft", "AI Result, Not Verified", "KI-Ergebnis, nicht aerztlich geprueft"]


@pytest.mark.parametrize("uid", ["../../x", "/etc", ".", "..", "", "1/2", "x" * 300])
def test_what_a_file_says_names_no_path(uid: str) -> None:
    """A Study Instance UID that is none becomes a digest, so that a report never lands outside of OUT."""
    assert cli_analyze._folder_name(uid).startswith("study-")


def test_rules_try_names_each_series(sh: Shell, tmp_path: Path) -> None:
    """Every series is listed as chosen or passed over with the reason, and no description is repeated."""
    write(tmp_path / "in", dataset("1.2.1", **T1))
    write(tmp_path / "in", dataset("1.2.1", series=2, SeriesDescription=f"localizer {SECRET}"))
    people, (line,) = sh("rules", "try", tmp_path / "in"), sh("rules", "try", tmp_path / "in", "--json").lines
    assert "would be analysed" in people.out
    assert SECRET not in people.out
    assert (line["series"], line["passed_over"][0]["reason"]) == ("1.2.1.1", "localizer")


def test_rules_try_sees_two_patients(sh: Shell, tmp_path: Path) -> None:
    """A study of two patients would be quarantined, and so it is told, without naming either."""
    write(tmp_path / "in", dataset("1.2.1", **T1))
    write(tmp_path / "in", dataset("1.2.1", number=2, PatientID=f"other {SECRET}", **T1))
    people, (line,) = sh("rules", "try", tmp_path / "in"), sh("rules", "try", tmp_path / "in", "--json").lines
    assert "would be quarantined: the study's instances name 2 different Patient IDs" in people.out
    assert line["contradiction"].startswith("the study's instances name 2 different Patient IDs")
    assert SECRET not in people.out + str(line)


# models


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the installed models that a test may break."""
    shutil.copytree(registry.ZOO, tmp_path / "zoo")
    monkeypatch.setattr(registry, "ZOO", tmp_path / "zoo")
    return tmp_path / "zoo" / MODEL


def test_models_list(sh: Shell) -> None:
    """The bundled model is listed with both variants and the gate's verdict."""
    row = next(row for row in sh("models", "list", "--json").lines if row["name"] == MODEL)
    assert row["int8"] < row["fp32"]
    assert row["gate"] in ("APPROVED", "REJECTED")
    assert MODEL in sh("models", "list").out


def test_models_verify_finds_a_changed_byte(sh: Shell, zoo: Path) -> None:
    """A model as released verifies on this CPU, and one changed byte is found: exit status 1."""
    assert sh("models", "verify", MODEL).status == 0
    with (zoo / "model_int8.onnx").open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"\0\1\2\3")
    done = sh("models", "verify", MODEL)
    assert done.status == 1
    assert "another sha256" in done.out


def spoil(record: Path, slices: int) -> None:
    """A gate.csv whose int8 is sure of the wrong label on its first `slices`, as one from broken calibration is."""
    rows = list(csv.DictReader(record.open(newline="")))
    for row in rows[:slices]:
        logits = [name for name in row if name.startswith("int8_")]
        row |= {name: "9" if name != f"int8_{row['truth']}" else "-9" for name in logits}
    with record.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_models_gate_judges_again(sh: Shell, zoo: Path) -> None:
    """The recorded logits decide: no loss is APPROVED, more than 1 % REJECTED with exit status 1; only --write changes the manifest."""
    before = registry.read(MODEL, zoo.parent)
    assert before.gate is not None
    done = sh("models", "gate", MODEL, "--write", "--json")
    accuracy = (done.lines[0]["name"], round(done.lines[0]["int8"], 6))
    assert (done.status, done.lines[-1]["verdict"], accuracy) == (0, "APPROVED", ("accuracy", before.gate.metrics["int8_accuracy"]))
    assert {row["batch"] for row in done.lines if row["row"] == "batch"} == {1, 2, 4, 24}
    assert registry.read(MODEL, zoo.parent).approved
    written = (zoo / "manifest.toml").read_text()
    spoil(zoo / "gate.csv", slices=30)
    done = sh("models", "gate", MODEL)
    assert (done.status, "REJECTED\n  accuracy: int8 0." in done.out) == (1, True)
    assert (zoo / "manifest.toml").read_text() == written


def test_models_gate_judges_the_files_of_its_record_only(sh: Shell, zoo: Path) -> None:
    """A file that came in place of the one that was judged is not approved by the other's answers."""
    before = (zoo / "manifest.toml").read_text()
    shutil.copy(zoo / "model_fp32.onnx", zoo / "model_int8.onnx")
    done = sh("models", "gate", MODEL, "--write")
    assert (done.status, done.err.count("\n"), "holds the answers of other files" in done.err) == (1, 1, True)
    assert (zoo / "manifest.toml").read_text() == before


@pytest.mark.parametrize("command", ["gate", "bench"])
def test_a_file_of_a_model_that_is_missing_is_one_line(sh: Shell, zoo: Path, command: str) -> None:
    """`gate` and `bench` name the file; no traceback."""
    (zoo / "model_int8.onnx").unlink()
    done = sh("models", command, zoo)
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert "model_int8.onnx" in done.err


def test_models_gate_without_its_record(sh: Shell, zoo: Path) -> None:
    """Without gate.csv nothing can be judged again, and one line says so."""
    (zoo / "gate.csv").unlink()
    done = sh("models", "gate", MODEL)
    assert (done.status, done.err.count("\n")) == (1, 1)


def test_models_bench_gives_a_ratio(sh: Shell) -> None:
    """Each batch size asked for is timed, fp32 against int8."""
    rows = sh("models", "bench", MODEL, "--rounds", "3", "--batch", "1", "--batch", "2", "--json").lines
    assert [row["batch"] for row in rows] == [1, 2]
    assert all(row["ratio"] > 0 for row in rows)


def test_a_model_that_is_not_there(sh: Shell) -> None:
    """An unknown model is one line that names those that are installed."""
    done = sh("models", "verify", "other")
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert done.err.startswith(f"vitalcheck: model 'other' is not installed; installed: {MODEL}; ")


# studies


@pytest.fixture
def config(tmp_path: Path) -> Path:
    filled(tmp_path / "var").close()
    path = tmp_path / "vitalcheck.toml"
    path.write_text('[listener]\nport = 0\n[[listener.peers]]\nae_title = "CT01"\n[state]\nmin_free_bytes = 0\n[http]\nport = 0\n')
    return path


def test_studies_lists_the_ledger(sh: Shell, config: Path) -> None:
    """Every study stands there with state, finding and reason; --state narrows the list."""
    done = sh("studies", "--config", config)
    assert done.status == 0
    for word in (DELIVERED, "glioma present 0.97", "2/2", "0/2", "quarantined", "no T1-weighted head series"):
        assert word in done.out
    assert [row["study"] for row in sh("studies", "--json", "--state", "declined").lines] == [DECLINED]
    assert "no such" not in sh("studies", "--state", "queued").out
    assert "states are receiving" in usage(sh("studies", "--state", "lost"))


def test_studies_show(sh: Shell, config: Path) -> None:
    """One study is told with history, answers and deliveries, and nothing of the patient."""
    people, (told,) = sh("studies", "show", DELIVERED), sh("studies", "show", DELIVERED, "--json").lines
    lies = ("24 axial slices 6.0 mm apart, 15 degrees oblique", GAP, "0123456789abcdef", "localizer")
    for word in ("history", "quiet for 3 s", "deliveries", "measurements", "CT01", *lies):
        assert word in people.out
    assert told["state"] == "delivered"
    assert SECRET not in people.out + json.dumps(told)
    unknown = sh("studies", "show", "9.9")
    assert (unknown.status, unknown.err.count("\n")) == (1, 1)


def test_studies_retry(sh: Shell, config: Path) -> None:
    """A quarantined study is queued again, any other is not."""
    assert "queued, attempt 2" in sh("studies", "retry", QUARANTINED).out
    assert [row["state"] for row in sh("studies", "--json").lines if row["study"] == QUARANTINED] == ["queued"]
    refused = sh("studies", "retry", DELIVERED)
    assert (refused.status, refused.err) == (1, f"vitalcheck: study {DELIVERED} is delivered and cannot become queued\n")


def test_studies_before_anything_came(sh: Shell) -> None:
    """Without a ledger the command says so and makes none."""
    done = sh("studies")
    assert (done.status, "nothing was received" in done.err) == (1, True)
    assert not Path("var").exists()


# config and the rest


def test_config_show(sh: Shell, config: Path) -> None:
    """Every value is shown with its source, as it would stand in the file."""
    out = sh("config", "show").out
    assert any(line.split() == ["listener.port", "0", "file"] for line in out.splitlines())
    assert any(line.split() == ["listener.ae_title", '"VITALCHECK"', "default"] for line in out.splitlines())


@pytest.mark.parametrize("command", [["serve"], ["check"], ["studies"], ["config", "show"]])
def test_a_broken_key_is_exit_2(sh: Shell, config: Path, command: list[str]) -> None:
    """Every command that reads the configuration refuses an unknown key with its nearest known one."""
    config.write_text("[listener]\nprot = 1\n")
    assert usage(sh(*command, "--config", config)) == f"vitalcheck: {config}: listener.prot: no such key; did you mean listener.port?\n"


@pytest.mark.parametrize("command", ["receive", "work"])
def test_what_is_not_built_is_not_offered(sh: Shell, command: str) -> None:
    """A command of a later version does not exist: usage error, and no word of it in the help."""
    assert "No such command" in usage(sh(*command.split()))


def test_help_teaches(sh: Shell) -> None:
    """--help of each command shows how it is called, by example."""
    assert sh("--version").out.startswith("vitalcheck ")
    assert "not a medical device" in sh("--help").out
    for command in (["serve"], ["analyze"], ["check"], ["studies"], ["rules", "try"]):
        assert f"vitalcheck {' '.join(command)}" in sh(*command, "--help").out.partition("\n")[2]


# serve is tested in test_service.py; check:


def test_check_finds_a_dead_destination(sh: Shell, config: Path) -> None:
    """A PACS that does not answer is WRONG in the table, and the exit status is 1."""
    from peers import dead_peer

    done = checked(sh, config, dead_peer().port)
    assert done.status == 1
    assert done.out.count("WRONG") == 1
    assert "is it running" in done.out


def test_check_passes_when_all_is_well(sh: Shell, config: Path) -> None:
    """With a PACS that takes both SR classes nothing is WRONG, and the exit status is 0."""
    from peers import StoragePeer

    with StoragePeer() as pacs:
        done = checked(sh, config, pacs.port)
    assert (done.status, "WRONG" in done.out) == (0, False), done.out
    for what in ("configuration", "peers", "clock", "disk", "database", "listener.port", "self-test", "destination pacs"):
        assert what in done.out


def test_check_wants_peers_and_destinations(sh: Shell, tmp_path: Path) -> None:
    """A service that nobody may call, or that answers nobody, is WRONG before it is started."""
    (tmp_path / "vitalcheck.toml").write_text("[listener]\nport = 0\n[http]\nport = 0\n[state]\nmin_free_bytes = 0\n")
    rows = {row["what"]: row for row in sh("check", "--json").lines}
    assert (rows["peers"]["verdict"], rows["destinations"]["verdict"]) == ("WRONG", "WRONG")
    assert not (tmp_path / "var").exists()


def checked(sh: Shell, config: Path, port: int) -> Done:
    destination = f'[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {port}\n'
    config.write_text(config.read_text() + destination)
    return sh("check", "--config", config)
