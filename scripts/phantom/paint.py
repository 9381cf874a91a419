"""A head with a tumour in it, or without one.

    anatomy | T1 and T2 | contrast agent | push aside | tumour

Everything that varies hangs on the seed. For demo and tests: nothing here is, or was made from, a patient.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from scripts.phantom import contrast
from scripts.phantom.anatomy import anatomy
from scripts.phantom.fields import Volume
from scripts.phantom.tumours import Head, glioma, meningioma, pituitary

Tumour = Literal["glioma", "meningioma", "pituitary", "none"]
TUMOURS: tuple[Tumour, ...] = get_args(Tumour)
COIL_ENDS = 8.0  # voxels above the lower end of the anatomy, where the neck goes on: there the signal fades


@lru_cache(maxsize=2)
def paint(tumour: Tumour, seed: int) -> Head:
    """A head with `tumour` in it. The same seed gives the same head, voxel by voxel. Treat it as read-only: the last two are kept."""
    if tumour not in TUMOURS:
        raise ValueError(f"no tumour is called {tumour!r}; there are {', '.join(TUMOURS)}")
    rng = np.random.default_rng([seed, TUMOURS.index(tumour)])
    plain = anatomy()
    t1 = contrast.spin_echo(plain, rng)
    contrast.enhance(t1, plain, rng)
    head = Head(t1, contrast.t2(plain), contrast.white_matter(plain), np.zeros(t1.shape, bool))
    if tumour == "glioma":
        glioma(head, plain, rng)
    elif tumour == "meningioma":
        meningioma(head, plain, rng)
    elif tumour == "pituitary":
        pituitary(head, plain, rng)
    for volume in (head.t1, head.t2):
        _fade(volume)
    return head


def _fade(volume: Volume) -> None:
    """As where a head coil ends."""
    volume *= np.clip((np.arange(volume.shape[2], dtype=np.float32) + 1.0) / COIL_ENDS, 0.0, 1.0)
