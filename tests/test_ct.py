"""CT: a second model, from a folder of its own, beside the bundled one; and the worked example that shows it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from peers import Node, StoragePeer, push, wait_for

from listener import cli, config
from listener.worker import Worker
from models.registry import ModelRefused
from scripts import example_ct
from scripts.phantom import ct_head

ROOT = Path(__file__).parent.parent
BUNDLED, EXAMPLE = "brain_tumor_4class", "ct_head_example"
PAGE = (ROOT / "docs" / "ct-example.md").read_text()


def blocks(page: str) -> list[list[tuple[str, str]]]:
    """(command, what it prints) of each console block."""
    found = re.findall(r"^```console\n(.*?)^```", page, re.M | re.S)
    return [[tuple(part.split("\n", 1)) for part in re.split(r"^\$ ", block, flags=re.M) if part] for block in found]  # type: ignore[misc]


def run(command: str) -> str:
    """What a command of the page prints; in this process, which has loaded already what it needs."""
    program, *arguments = shlex.split(command)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        if Path(program).name == "vitalcheck":
            cli.main(arguments)
        else:
            assert arguments[:2] == ["-m", "scripts.example_ct"]
            example_ct.app(arguments[2:])
    return printed.getvalue()


def settled(printed: str) -> str:
    """Without what differs from run to run: times, and how wide a table is."""
    return re.sub(r" +", " ", re.sub(r"\d+ ms", "N ms", printed)).strip()


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which every command of the page was run, with what it printed in printed.json. Tests of this file run in it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("VITALCHECK_")]:
            patch.delenv(name)
        patch.chdir(tmp_path_factory.mktemp("example"))
        printed = {command: run(command) for block in blocks(PAGE) for command, _ in block}
        Path("printed.json").write_text(json.dumps(printed))
        yield Path.cwd()


@pytest.fixture(scope="module")
def answers(example: Path) -> dict[str, dict[str, Any]]:
    """What both models say of every study of the example, by its kind and the tilt of its gantry."""
    lines = run(f"vitalcheck analyze out/ct --out out/both --json --model {BUNDLED} --model out/ct/ct_head/").splitlines()
    found = {answer["study"]: answer for answer in map(json.loads, lines)}
    studies = {f"{name} {tilt}": ct_head.Study(name == "blood", tilt) for name in ("blood", "no blood") for tilt in (0.0, 15.0)}
    return {name: found[study.uid("study")] for name, study in studies.items()}


def test_page_tells_the_truth(example: Path) -> None:
    """Every command of the worked example prints what the page shows."""
    printed = json.loads((example / "printed.json").read_text())
    assert len(printed) >= 8
    for command, shown in (line for block in blocks(PAGE) for line in block):
        assert settled(printed[command]) == settled(shown), command


def test_manifest_of_the_page(example: Path) -> None:
    """The lines of the manifest that the page shows stand in the manifest that the script writes, with these values."""
    (shown,) = re.findall(r"^```text\n(.*?)^```", PAGE, re.M | re.S)
    written = tomllib.loads((example / "out/ct/ct_head/manifest.toml").read_text())
    assert contained(tomllib.loads(shown), written)


def contained(part: dict[str, Any], whole: dict[str, Any]) -> bool:
    """Is every key of `part` in `whole`, with its value?"""
    return all(contained(value, whole[key]) if isinstance(value, dict) else whole[key] == value for key, value in part.items())


def test_declined_without_a_model_for_ct(example: Path) -> None:
    """Without a model that reads CT a CT study is declined, the reason says so, and no report is made."""
    printed = json.loads((example / "printed.json").read_text())

    said = next(said for command, said in printed.items() if "analyze" in command and "--model" not in command)

    assert ": declined\n" in said
    assert "no T1-weighted head series: series 1 (CT): no enabled model reads CT; series 2 (CT): no enabled model reads CT" in said
    assert "summary" not in said


@pytest.mark.parametrize(("study", "label", "call"), [("blood", "haemorrhage", "present"), ("no blood", "none", "absent")])
def test_answered_by_the_model_that_reads_it(answers: dict[str, dict[str, Any]], study: str, label: str, call: str) -> None:
    """With both models a CT study is answered by the one for CT, though the other is asked first."""
    answer = answers[f"{study} 0.0"]

    assert (answer["state"], answer["finding"]["label"], answer["finding"]["call"]) == ("analysed", label, call)
    assert (answer["model"], answer["variant"]) == (f"{EXAMPLE} 0.0.1", "fp32")
    assert answer["recipe"] == example_ct.RECIPE.id
    assert len(answer["reports"]) == 2


@pytest.mark.parametrize("tilt", [0.0, 15.0])
def test_region_lies_on_the_blood(answers: dict[str, dict[str, Any]], tilt: float) -> None:
    """The region on the best slice lies on the painted blood, with a straight gantry and with a tilted one."""
    answer = answers[f"blood {tilt}"]
    folder = Path("out/ct/tilted/blood" if tilt else "out/ct/blood")
    key = next(ds for ds in map(pydicom.dcmread, folder.glob("*.dcm")) if ds.SOPInstanceUID == answer["key_instances"][0])
    column, row = (sum(axis) / len(axis) for axis in zip(*answer["region"], strict=True))
    across, down = key.ImageOrientationPatient[:3], key.ImageOrientationPatient[3:]
    steps = ((ct_head.PIXEL * ((column - 0.5) * a + (row - 0.5) * d)) for a, d in zip(across, down, strict=True))
    place = [start + step for start, step in zip(key.ImagePositionPatient, steps, strict=True)]

    centre, half_axes, _ = ct_head.BLOOD
    assert sum(((p - c) / h) ** 2 for p, c, h in zip(place, centre, half_axes, strict=True)) < 1


def test_reports_speak_of_ct(answers: dict[str, dict[str, Any]]) -> None:
    """The Summary names what the CT model looks for, and nothing of the bundled model."""
    (summary,) = (path for path in answers["blood 0.0"]["reports"] if path.endswith("summary.dcm"))
    said = " ".join(texts(pydicom.dcmread(summary))).lower()

    assert "intracranial haemorrhage found" in said
    assert "it reads nothing real" in said
    assert not [word for word in ("tumor", "tumour", "glioma", "t1-weighted", "neoplasm") if word in said]


def texts(item: pydicom.Dataset) -> Iterator[str]:
    """Every sentence and every code's meaning of an SR, in order."""
    for element in item.iterall():
        if element.keyword in ("TextValue", "CodeMeaning"):
            yield str(element.value)


@pytest.fixture(scope="module")
def node(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, StoragePeer]]:
    """The real service with both models; the second by a path relative to its configuration."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "ct_head").symlink_to(example / "out/ct/ct_head")
    with StoragePeer() as pacs, Node(folder, pacs.port, stand_in=None, models={"enabled": [BUNDLED, "./ct_head"]}) as made:
        yield made, pacs


def test_served_side_by_side(node: tuple[Node, StoragePeer], example: Path, demo_study: Path) -> None:
    """The service answers a CT study by the one model and an MR study by the other, and both reach the PACS."""
    served, pacs = node
    for folder, pattern, model in ((example / "out/ct/blood", "*.dcm", EXAMPLE), (demo_study, "t1_01[0-4].dcm", BUNDLED)):
        instances = [pydicom.dcmread(path) for path in sorted(folder.glob(pattern))]
        assert set(push(served.port, instances)) == {0}
        told = served.wait_for_state(instances[0].StudyInstanceUID, "delivered", "declined", "quarantined", seconds=60)
        assert told["state"] == "delivered", told
        assert model in json.dumps(told.get("result", told)), told
    wait_for(lambda: len(pacs.received) == 4, 20, "four reports")


def test_each_model_is_named(node: tuple[Node, StoragePeer]) -> None:
    """Readiness, metrics, check and the log name each model with the variant that answers."""
    served, _ = node
    with urllib.request.urlopen(f"http://127.0.0.1:{served.http_port}/readyz", timeout=5) as answer:
        (worker,) = json.load(answer)["workers"]
    assert worker["models"].keys() == {BUNDLED, EXAMPLE}
    assert worker["models"][EXAMPLE] == "fp32"
    with urllib.request.urlopen(f"http://127.0.0.1:{served.http_port}/metrics", timeout=5) as answer:
        named = re.findall(r'vitalcheck_worker_model\{model="(\w+)",slot="0",variant="\w+"\} 1', answer.read().decode())
    assert sorted(named) == [BUNDLED, EXAMPLE]
    assert {event["model"] for event in served.events("model.variant_chosen")} == {BUNDLED, EXAMPLE}
    command = [str(Path(sys.executable).with_name("vitalcheck")), "check", "--config", str(served.folder / "vitalcheck.toml"), "--json"]
    rows = [json.loads(line) for line in subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.splitlines()]
    found = {row["what"]: row["verdict"] for row in rows}
    assert {found[f"{BUNDLED} recipe"], found[f"{EXAMPLE} recipe"], found[f"{BUNDLED} fp32 self-test"]} == {"ok"}
    assert (found[f"{EXAMPLE} fp32 self-test"], found[f"{EXAMPLE} gate"]) == ("note", "note")


def test_one_refused_refuses_the_worker(example: Path, tmp_path: Path) -> None:
    """Where one enabled model is refused the worker serves none, and says which and why."""
    shutil.copytree(example / "out/ct/ct_head", tmp_path / "ct_head")
    manifest = tmp_path / "ct_head" / "manifest.toml"
    manifest.write_text(manifest.read_text().replace("size = 224", "size = 256"))
    (tmp_path / "vitalcheck.toml").write_text(f'[models]\nenabled = ["{BUNDLED}", "./ct_head"]\n[state]\ndir = "{tmp_path}"\n')
    worker = Worker(config.load(tmp_path / "vitalcheck.toml"), 0)

    with pytest.raises(ModelRefused, match=f"model {EXAMPLE}: its recipe was changed after training"):
        worker.load()

    assert worker.models == ()


def test_serving_loads_no_onnx() -> None:
    """What serves can import everything without the package onnx, which only tests and training have."""
    code = "import sys; import listener.worker, listener.cli_models, listener.selftest; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True).stdout.split()
    assert "models.registry" in loaded
    assert not {"onnx", "torch"} & set(loaded)
