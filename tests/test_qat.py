"""int8: rewriting changes no answer, every way of rounding ends in integers, and teaching moves the twin towards fp32."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytestmark = pytest.mark.train

from models import machine  # noqa: E402
from models.runtime import Session, optimised  # noqa: E402
from models.training import export, ptq, qat  # noqa: E402
from models.training.data import Feed, Samples, strata  # noqa: E402
from models.training.imagenet import load_imagenet  # noqa: E402
from models.training.loop import Plan  # noqa: E402
from models.training.network import Answer, Network, pool  # noqa: E402
from scripts import pitfalls  # noqa: E402

ABSENT, FEED = 3, Feed(0.3, 0.25)
TINY = Plan(calibration=8, qat_steps=1, qat_batch=4)


@pytest.fixture(scope="module")
def network(samples: Samples) -> Network:
    """Features that mean something, and a head that does not."""
    torch.manual_seed(0)
    found = Network().eval()
    load_imagenet(found, FEED(grey(samples)))
    return found


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Obvious and subtle discs, and heads without one."""
    y, x = np.mgrid[:224, :224] / 224 - 0.5
    masks = np.stack([np.hypot(x, y) < radius for radius in (0.1, 0.12, 0.03, 0.0, 0.0)])
    texture = np.random.default_rng(0).random((5, 224, 224)) * 0.2
    images = np.where(masks, 0.9, 0.4 * (np.hypot(x, y) < 0.45) + texture)
    words = (("web",) * 5, ("axial",) * 5)
    return Samples.of(images.astype(np.float16), masks.astype(np.uint8), np.array([0, 1, 2, 3, 3]), *words, ABSENT)


def grey(samples: Samples) -> torch.Tensor:
    return samples.take(torch.arange(len(samples)))[0]


def test_rewriting_changes_no_answer(network: Network, samples: Samples) -> None:
    """Louder channels and a head that gives evidence say what the network said, and the original is left alone."""
    before = copy.deepcopy(network.state_dict())
    twin = qat.rewritten(network, grey(samples), FEED, ABSENT)
    x = FEED(grey(samples))
    with torch.no_grad():
        assert torch.allclose(pool(twin(x), ABSENT), pool(network(x), ABSENT), atol=1e-4)
        assert not twin(x)[:, ABSENT].any()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_channels_become_equally_loud(network: Network, samples: Samples) -> None:
    """Into a depthwise convolution the loudest and the middling channel differ by little afterwards, and did before."""
    spread = []
    for twin in (network, qat.rewritten(network, grey(samples), FEED, ABSENT)):
        layer = twin.to16[2].path[0]
        loud = ptq._loudness(twin, [layer], grey(samples), FEED)[layer]
        spread.append(float(loud.max() / loud.median()))
    assert spread[1] < 1.1 < 1.5 < spread[0]


def test_every_layer_with_relu_is_rewritten(network: Network) -> None:
    """The stem, every expansion and depthwise convolution and both layers of the head: 32 of them, each once."""
    assert len({producer for producer, _, _ in ptq.links(network)}) == len(ptq.links(network)) == 32


@pytest.mark.parametrize("way", ["served", *pitfalls.WAYS])
def test_every_way_of_rounding_ends_in_integers(way: str, network: Network, samples: Samples, tmp_path: Path) -> None:
    """Taught or not, whatever calibrates it, the exported twin computes in integers and keeps no tumour's map at 0."""
    rounding = qat.SERVED if way == "served" else pitfalls.WAYS[way]
    twin, path = qat.quantise(network, samples, FEED, TINY, tmp_path, rounding), tmp_path / "int8.onnx"
    export.export(twin, path, labels=pitfalls.NAMES, absent="notumor", recipe_id="r1")
    assert export.check_integers(path)["QLinearConv"] == 48
    evidence = Session(path).run(FEED(grey(samples)).contiguous().numpy()).evidence
    assert evidence is not None and not evidence[:, ABSENT].any() and evidence[:, :ABSENT].any()


def test_quads_change_no_bit(network: Network, samples: Samples, tmp_path: Path) -> None:
    """An integer twin reads four pixels at a time and answers as it did reading one; fp32 keeps its convolution.

    Without VNNI an x86 CPU may cut off other sums than before, so there it is only close.
    """
    twin = qat.quantise(network, samples, FEED, TINY, None, replace(qat.SERVED, taught_by="nobody"))
    plain, quads, fp32 = (tmp_path / f"{name}.onnx" for name in ("plain", "quads", "fp32"))
    export.write(Answer(twin, ABSENT).eval(), plain, outputs=("logits", "evidence"))
    for net, path in ((twin, quads), (network, fp32)):
        export.export(net, path, labels=pitfalls.NAMES, absent="notumor", recipe_id="r1")
    assert [first_kernel(path) for path in (plain, quads, fp32)] == [(64, 1, 5, 5), (64, 4, 3, 3), (64, 1, 5, 5)]
    tensor = FEED(grey(samples)).numpy()
    for before, after in zip(Session(plain).run(tensor), Session(quads).run(tensor), strict=True):
        assert np.abs(before - after).max() <= (0.0 if "VNNI" in machine.cpu() else 0.5)


def first_kernel(path: Path) -> tuple[int, ...]:
    """Shape of the first convolution's weights in the graph that runs."""
    optimised(path, path.with_suffix(".optimised"))
    graph = onnx.load(path.with_suffix(".optimised")).graph
    conv = next(node for node in graph.node if "Conv" in node.op_type)
    shapes = {weights.name: tuple(weights.dims) for weights in graph.initializer}
    return shapes[conv.input[3 if conv.op_type == "QLinearConv" else 1]]


def test_teaching_leaves_no_tumour_at_zero_and_is_not_done_twice(
    network: Network, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The map of no tumour learns nothing, and what was taught once is read from its file."""
    qat.quantise(network, samples, FEED, TINY, tmp_path)
    taught = torch.load(tmp_path / "qat.pt", weights_only=True)["student"]
    assert not taught["head.weight"][ABSENT].any() and taught["head.bias"][ABSENT] == 0
    monkeypatch.setattr(qat, "teach", lambda *_: pytest.fail("taught twice"))
    qat.quantise(network, samples, FEED, TINY, tmp_path)


def test_seven_bits_are_seven(network: Network) -> None:
    """With reduce_range no weight uses more than half of int8, so that no CPU's sums of two products saturate."""
    student = qat.prepared(network, replace(qat.SERVED, reduce_range=True))
    rounded = student.head.weight_fake_quant
    assert (rounded.quant_min, rounded.quant_max) == (-64, 63)
    rounded(student.head.weight)
    integers = torch.round(student.head.weight.flatten(1) / rounded.scale[:, None])
    assert 60 < float(integers.abs().max()) <= 64


def test_obvious_cases_only_are_obvious(samples: Samples) -> None:
    """A biased calibration draws no subtle tumour and no head without one; the balanced draws all."""
    words = strata(samples)
    assert words == ["obvious", "obvious", "subtle", "normal", "normal"]
    biased = qat.calibrated_from(samples, words, qat.Rounding(calibrated_with="obvious"))
    assert (biased > 0).tolist() == [True, True, False, False, False]
    assert (qat.calibrated_from(samples, words, qat.SERVED) > 0).all()


def test_scores_are_counted_set_by_set() -> None:
    """Accuracy, sensitivity, specificity and agreement of each set; nan where there is nothing to find."""
    truth, eye = np.array([0, 3, 3, 3]), np.eye(4, dtype=np.float32)
    sets = pitfalls.Sets(np.zeros((4, 3, 1, 1), np.float32), truth, ("fold", "fold", "healthy head", "healthy head"))
    fold, healthy = pitfalls.scores("way", sets, eye[[1, 3, 3, 0]], eye[[1, 3, 3, 3]])
    found = [float(fold[measure]) for measure in ("accuracy", "sensitivity", "specificity", "agreement")]
    assert found == [0.5, 1.0, 1.0, 1.0]
    assert (healthy["slices"], healthy["specificity"], healthy["agreement"], healthy["sensitivity"]) == (2, "0.500000", "0.500000", "nan")
