"""What is added to labels' evidence after training: the network says it, and the table of candidates reckons with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="needs the train extra")
pytestmark = pytest.mark.train

from models.training.network import Network, adjusted, against  # noqa: E402
from scripts import adjustment  # noqa: E402
from scripts.learnt import ADDED, CLEAR, NAMES  # noqa: E402
from scripts.tables import write  # noqa: E402

SERVED = np.array(ADDED)


def row(truth: str, source: str, part: str, **logits: float) -> dict[str, str]:
    """As leave_out.csv has it, the adjustment that serves in it."""
    said = np.array([logits.get(name, 0.0) for name in NAMES]) + SERVED
    columns = {f"fp32_{name}": f"{logit:.3f}" for name, logit in zip(NAMES, said, strict=True)}
    return {"truth": truth, "source": source, "part": part, **columns, "added": " ".join(f"{by:g}" for by in ADDED)}


ROWS = [
    row("meningioma", "web", "web", glioma=1.5, meningioma=1.0, notumor=-9),  # a meningioma that looks like a glioma, nearly
    row("glioma", "figshare", "0", glioma=2.0, notumor=-9),
    row("glioma", "volume", "btp01", glioma=-0.2, meningioma=-3, pituitary=-3),
    row("notumor", "volume", "btp01", glioma=-2, meningioma=-2, pituitary=-2),
    row("notumor", "healthy", "colin27", glioma=-2, meningioma=-0.5, pituitary=-2),
]


def test_every_cell_of_a_label_gets_what_is_added() -> None:
    """The evidence of each label rises by its own number everywhere, and "no tumour" stays 0."""
    network, image = Network().eval(), torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        before = against(network(image), CLEAR)
        after = against(adjusted(network, ADDED)(image), CLEAR)
    assert torch.allclose(after - before, torch.tensor(ADDED)[None, :, None, None].expand_as(after), atol=1e-5)


def told(by: tuple[float, ...]) -> dict[tuple[str, str], float]:
    return {(group, what): share for group, what, share in adjustment.shares(ROWS, by)}


def test_a_candidate_stands_in_place_of_what_was_added() -> None:
    """Shares are those of the logits without what the table says was added, and with the candidate, whoever serves now."""
    without, more = told((0, 0, 0)), told((0, 0.6, 0))
    assert (without["elsewhere", "right"], more["elsewhere", "right"]) == (0.0, 1.0)
    assert (without["elsewhere", "meningioma"], without["elsewhere", "found"]) == (0.0, 1.0)
    assert (without["volumes", "found"], without["volumes", "cleared"], without["pictures", "glioma"]) == (0.0, 1.0, 1.0)
    assert (without["healthy", "cleared"], more["healthy", "cleared"]) == (1.0, 0.0)


def test_candidates_are_printed_beside_what_serves(tmp_path: Path) -> None:
    """One line for what serves and one for each candidate; a missing table and a wrong number are told with what to do."""
    table, run = tmp_path / "leave_out.csv", CliRunner().invoke
    missing = run(adjustment.app, ["--table", str(table)])
    assert missing.exit_code == 2 and "make leave-out DATA=... writes it" in missing.output
    write(table, ROWS)
    printed = run(adjustment.app, ["--table", str(table), "--try", "0,0.6,0", "--try=-1,0,0"])
    groups, whats, served, *tried = printed.output.splitlines()
    assert printed.exit_code == 0 and served.startswith("0.2,0.7,0 (serves)")
    assert [line.split()[0] for line in tried] == ["0,0.6,0", "-1,0,0"]
    at = whats.index("right", groups.index("elsewhere") - 1)
    assert tried[0][at : at + 5] == "1.000"
    write(table, [{**row, "run": "web" if row["part"] == "web" else "fold0"} for row in ROWS])
    of_web = run(adjustment.app, ["--table", str(table), "--run", "web", "--try", "0,0,0"]).output
    assert "elsewhere" in of_web and "healthy" not in of_web
    assert "without such a run" in run(adjustment.app, ["--table", str(table), "--run", "half"]).output
    wrong = run(adjustment.app, ["--table", str(table), "--try", "0,0.6"])
    assert wrong.exit_code == 2 and "a number for each of" in wrong.output
