"""golden: inputs that belong to nobody, and what each variant answered to them; every process replays them on its own CPU.

A picture of a patient would prove no more than a generated one, and would travel with every copy of the model. The same inputs show whether
an answer depends on how many slices are asked about at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from models.gate import Batched
from models.manifest import Golden, Recipe, sha256
from models.runtime import Floats, Network, NetworkError

FILE = "golden.npz"
STEPS = 0.02  # of the largest logit: five of the 256 steps that int8 has. A wrong kernel is off by far more
LEAST = 0.02  # logits; below it float32 itself rounds in deep networks
SIZES = (1, 2, 4, 24)  # slices at once: one, few, a usual series


def inputs(recipe: Recipe) -> Floats:
    """(8, channels, size, size): noise, stripes, a ramp, and ellipses that look like heads, with and without something in them."""
    rng, size = np.random.default_rng(0), recipe.size
    y, x = (np.mgrid[:size, :size] - size / 2 + 0.5) / (size / 2)
    head = (x / 0.7) ** 2 + (y / 0.85) ** 2
    plain = np.where(head < 1, np.where(head > 0.85, 0.9, 0.45), 0.0)
    blocks = np.kron(rng.random((size // 16 + 1,) * 2), np.ones((16, 16)))[:size, :size]
    greys = [
        rng.random((size, size)),
        blocks,
        (np.sin(x * 40) + 1) / 2,
        (x + 1) / 2,
        plain,
        np.where(np.hypot(x - 0.25, y + 0.2) < 0.18, 0.95, plain),  # a bright ball
        np.where(np.abs(np.hypot(x + 0.2, y) - 0.2) < 0.05, 0.85, plain * (np.hypot(x + 0.2, y) > 0.2)),  # a ring with a dark core
        np.clip(plain + rng.normal(0, 0.08, (size, size)), 0, 1),
    ]
    grey = np.round(np.stack(greys) * 255).astype(np.float32) / 255  # 256 levels pack well
    return np.ascontiguousarray(np.repeat(((grey - recipe.mean) / recipe.std)[:, None], recipe.channels, axis=1), dtype=np.float32)


def tolerance(network: Network, recipe: Recipe) -> float:
    """Largest difference of a logit that rounding explains: it hangs on how large this network's logits are. Raises NetworkError where
    they are no numbers: such a network could prove itself nowhere.
    """
    found = network.run(inputs(recipe))
    for what, values in (("logits", found.logits), ("map", found.evidence)):
        if values is not None and not np.isfinite(values).all():
            raise NetworkError(f"its {what} of plain pictures are not finite; export it so that no number of it overflows")
    return round(max(LEAST, STEPS * float(np.abs(found.logits).max())), 3)


def write(folder: Path, recipe: Recipe, networks: Mapping[str, Network], tolerance: float) -> Golden:
    """Writes the file into `folder`. `tolerance`: largest difference of a logit that rounding explains."""
    image = inputs(recipe)
    answers = {variant: network.run(image).logits for variant, network in networks.items()}
    np.savez_compressed(folder / FILE, image=image, **answers)  # type: ignore[arg-type]
    return Golden(file=FILE, sha256=sha256(folder / FILE), tolerance=tolerance)


def many(recipe: Recipe) -> Floats:
    """(24, channels, size, size): the inputs, and mirrored both ways."""
    image = inputs(recipe)
    return np.ascontiguousarray(np.concatenate([image, image[..., ::-1], image[..., ::-1, :]]))


def batches(network: Network, image: Floats, sizes: Sequence[int] = SIZES) -> dict[int, Batched]:
    """By batch size: what a slice's logits owe to the slices beside it. Raises ValueError where `image` does not fill the largest batch."""
    if len(image) < max(sizes):
        raise ValueError(f"{len(image)} slices do not fill a batch of {max(sizes)}")
    alone = _in_batches(network, image, 1)
    found = {}
    for size in sizes:
        logits = _in_batches(network, image, size)
        found[size] = Batched(float(np.abs(logits - alone).max()), float((logits.argmax(1) == alone.argmax(1)).mean()))
    return found


def _in_batches(network: Network, image: Floats, size: int) -> Floats:
    return np.concatenate([network.run(image[k : k + size]).logits for k in range(0, len(image), size)])
