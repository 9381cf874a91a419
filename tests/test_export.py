"""Export: what a file says of itself, and that it answers as the network it came from, in integers where it should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytestmark = pytest.mark.train

import onnx  # noqa: E402

from models.runtime import NetworkError, Outputs, Session, optimised  # noqa: E402
from models.training import export  # noqa: E402
from models.training.network import Network  # noqa: E402
from models.training.resnet import ResNet18, answers  # noqa: E402

LABELS, ABSENT = ("glioma", "meningioma", "pituitary", "notumor"), 3
ZOO = Path(__file__).parent.parent / "models" / "zoo" / "brain_tumor_4class"


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network().eval()


@pytest.fixture(scope="module")
def file(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export.export(network, path, labels=LABELS, absent="notumor", recipe_id="r1", said={"training": "abc", "data": "Cheng 2017"})
    return path


@pytest.fixture(scope="module")
def tensor() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (3, 1, 224, 224)).astype(np.float32)


def test_a_file_says_what_it_was_made_from(file: Path) -> None:
    """Labels, recipe and whatever the training run said are inside the file, beside an opset of 17 or later."""
    model = onnx.load(file)
    said = {entry.key: entry.value for entry in model.metadata_props}
    ours = {"labels": "glioma,meningioma,pituitary,notumor", "absent": "notumor", "recipe": "r1"}
    assert said == ours | {"training": "abc", "data": "Cheng 2017"}
    assert model.opset_import[0].version >= 17


def test_logits_and_evidence_are_those_of_the_network(network: Network, file: Path, tensor: np.ndarray) -> None:
    """ONNX Runtime and PyTorch agree to 0.001, for batches of any size."""
    for count in (1, 3):
        export.check_answers(network, ABSENT, Session(file).run, tensor[:count], file)


def test_evidence_that_is_off_is_refused(network: Network, file: Path, tensor: np.ndarray) -> None:
    """Right logits with a wrong map are not an export to use, and the message says that it is the map."""
    logits, evidence = export.torch_answers(network, ABSENT, tensor[:1])
    with pytest.raises(export.ExportError, match=r"its evidence are (1\.0|0\.9)"):
        export.check_answers(network, ABSENT, lambda _: Outputs(logits, evidence + 1), tensor[:1], file)
    with pytest.raises(export.ExportError, match="gives no evidence"):
        export.check_answers(network, ABSENT, lambda _: Outputs(logits, None), tensor[:1], file)


def test_a_float_graph_is_no_int8(file: Path) -> None:
    """The counts of the graph that runs tell an fp32 file from an int8 one."""
    with pytest.raises(export.ExportError, match="0 integer and 48 float convolutions"):
        export.check_integers(file)


def test_the_shipped_int8_is_all_integers() -> None:
    """What ships passes the check that every export passes."""
    assert export.check_integers(ZOO / "model_int8.onnx")["QLinearConv"] == 48


def test_a_file_that_is_no_network_is_named(tmp_path: Path) -> None:
    """Asking for the optimised graph of nonsense says which file it was."""
    (tmp_path / "no.onnx").write_bytes(b"nonsense")
    with pytest.raises(NetworkError, match=r"no\.onnx: ONNX Runtime cannot load it"):
        optimised(tmp_path / "no.onnx", tmp_path / "to.onnx")


def test_resnet18_is_the_ordinary_one() -> None:
    """11.18 million parameters for four labels, as in the paper, and one logit per label whatever the size."""
    ordinary = ResNet18().eval()
    assert sum(p.numel() for p in ordinary.parameters()) == 11_178_564
    assert answers(ordinary, torch.zeros(2, 3, 64, 64)).shape == (2, 4)
