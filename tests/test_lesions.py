"""Made-up lesions: what is pasted or healed is where the mask says, and nothing else of the head changes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytestmark = pytest.mark.train

from square_heads import ABSENT, GLIOMA, SIDE, head, tumour, with_tumour  # noqa: E402

from models.training import lesions  # noqa: E402
from models.training.data import Samples  # noqa: E402
from models.training.depthwise import fast_depthwise  # noqa: E402
from models.training.network import conv  # noqa: E402


def samples(images: list[torch.Tensor], masks: list[torch.Tensor], labels: list[int], planes: list[str]) -> Samples:
    arrays = np.stack([i[0].numpy() for i in images]).astype(np.float16), np.stack([m[0].numpy() for m in masks]).astype(np.uint8)
    return Samples.of(*arrays, np.array(labels), ["web"] * len(labels), planes, ABSENT)


def test_a_pasted_tumour_is_as_bright_against_its_new_surroundings() -> None:
    """Twice as bright as the donor's head, it is twice as bright as the host's; far from it the host is untouched."""
    made = lesions.paste(head(0.2), with_tumour(head(0.4), tumour()), tumour())
    assert made is not None
    grey, mask = made
    assert (mask == tumour()).float().mean() > 0.999
    assert float(grey[tumour() > 0].median()) == pytest.approx(0.4, abs=0.02)
    far = lesions.widened(mask[None], 41)[0] == 0
    assert torch.equal(grey[far], head(0.2)[far])


def test_a_pasted_tumour_follows_the_size_of_the_head() -> None:
    """In a head of half the size the tumour lies at the same place of the head, at half the size."""
    made = lesions.paste(head(half=45), with_tumour(head(), tumour()), tumour())
    assert made is not None
    assert float(made[1].sum()) == pytest.approx(float(tumour().sum()) / 4, rel=0.2)


def test_what_would_not_lie_in_a_head_is_not_pasted() -> None:
    """Without a head there is nothing to paste into, and a speck of a tumour is not worth it."""
    donor = with_tumour(head(), tumour())
    assert lesions.paste(torch.zeros(1, SIDE, SIDE), donor, tumour()) is None
    assert lesions.paste(head(), donor, tumour(side=4)) is None


def test_a_healed_head_shows_its_other_side() -> None:
    """After healing a symmetric head is as if it never had a tumour; one over the middle cannot be healed."""
    healed = lesions.heal(with_tumour(head(), tumour()), tumour())
    assert healed is not None
    assert float((healed - head()).abs().max()) < 0.1 * 0.4  # the edge is soft, and a square has corners
    middle = tumour(left=100)
    assert lesions.heal(with_tumour(head(), middle), middle) is None


def test_shares_decide_how_much_is_made_up() -> None:
    """With a share of 1 every tumour-free slice gets a tumour of its plane and every tumour is healed; with 0 nothing changes."""
    images = [with_tumour(head(), tumour()), head(0.3)]
    found = samples(images, [tumour(), torch.zeros(1, SIDE, SIDE)], [GLIOMA, ABSENT], ["axial", "axial"])
    rows = torch.tensor([0, 1])
    _, mask, labels = lesions.Lesions(found, lesions.Shares(paste=1.0, heal=1.0))(rows)
    assert labels.tolist() == [ABSENT, GLIOMA] and not mask[0].any() and mask[1].any()
    same = lesions.Lesions(found, lesions.Shares())(rows)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(same, found.take(rows), strict=True))
    assert found.labels.tolist() == [GLIOMA, ABSENT], "making lesions up changed the samples themselves"


def test_a_tumour_is_pasted_into_slices_of_its_own_plane_only() -> None:
    """An axial tumour never lands in a sagittal slice."""
    images = [with_tumour(head(), tumour()), head()]
    found = samples(images, [tumour(), torch.zeros(1, SIDE, SIDE)], [GLIOMA, ABSENT], ["axial", "sagittal"])
    _, mask, labels = lesions.Lesions(found, lesions.Shares(paste=1.0))(torch.tensor([1]))
    assert labels.tolist() == [ABSENT] and not mask.any()


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_fast_depthwise_convolutions_learn_the_same(kernel: int, stride: int) -> None:
    """Gradients in bfloat16 are those of float32 to rounding, for every kernel and stride, and the layers are left as they were."""
    torch.manual_seed(0)
    layer, x = conv(8, 8, kernel, stride, groups=8), torch.randn(2, 8, 20, 20, requires_grad=True)
    exact = layer[0](x)
    exact.square().sum().backward()
    wanted, wanted_of_x = layer[0].weight.grad.clone(), x.grad.clone()
    layer[0].weight.grad = x.grad = None
    with fast_depthwise(layer), torch.autocast("cpu", torch.bfloat16):
        quick = layer[0](x)
        quick.float().square().sum().backward()
    assert quick.dtype == torch.bfloat16
    for ours, theirs in ((layer[0].weight.grad, wanted), (x.grad, wanted_of_x)):
        assert float((ours - theirs).abs().max()) < 0.03 * float(theirs.abs().max())
    assert "_conv_forward" not in vars(layer[0])
