"""`vitalcheck serve` with a stand-in for the network, for tests of what is around it: everything else in it is the real thing.

python tests/stand_in.py FILE          what to do with a study is said by STAND_IN: "answer" (default), "sleep", "crash"
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from listener import config, engine, service, supervisor, worker
from listener.supervisor import Supervisor
from models import registry
from models.manifest import Artifact, Label, Manifest
from models.registry import Model
from models.runtime import FixedModel, Outputs
from models.selector import AdaptiveModelSelector

CODES = {"glioma": "393564001", "meningioma": "302820008", "pituitary": "127024001", "notumor": "281900007"}
LOGITS = (4.0, -4.0, -4.0, 0.0)


class Acting(FixedModel):
    """Gives every slice the same answer, after what STAND_IN says."""

    def run(self, tensor: Any) -> Outputs:
        deed = os.environ.get("STAND_IN", "answer")
        if deed == "sleep":
            time.sleep(60)
        if deed == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(tensor)


def load(name: str, **_: object) -> Model:
    labels = [Label(name=label, value=code, scheme="SCT", meaning=label.capitalize()) for label, code in CODES.items()]
    manifest = Manifest(name=name, version="0", labels=labels, artifacts={"fp32": Artifact(file="none", sha256="0" * 64, bytes=1)})
    evidence = np.tile(np.array(LOGITS, np.float32)[:, None, None], (1, 14, 14))
    selector = AdaptiveModelSelector(None, Path("fp32"), loader=lambda path: Acting(LOGITS, evidence))
    selector.initialize()
    return Model(manifest, selector, Path(), 0.0)


if __name__ == "__main__":
    registry.load = load  # type: ignore[assignment]
    Supervisor.command = (sys.executable, __file__)
    supervisor.LONGEST_PAUSE, engine.LONGEST_PAUSE, service.SWEEP_SECONDS = 0.2, 1.0, 0.5  # s; tests need not wait as operators do
    engine.MAX_RECOVERIES = 2
    if "--slot" in sys.argv:
        worker.main()
    else:
        path = Path(sys.argv[1])
        sys.exit(service.serve(config.load(path), path))
