"""The last step of docs/your-own-model.md: a model in a folder is served, and its reports arrive in a PACS.

    python -m scripts.example_own_model MODEL STUDY          # folders; reports go to out/demo

As in `make demo`, three real parties on free loopback ports: scanner and PACS in this process, `vitalcheck serve` as a child.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import pydicom
import typer

from scripts import demo

app = typer.Typer(add_completion=False)


@contextmanager
def node(folder: Path, pacs_port: int, model: Path) -> Iterator[tuple[int, int]]:
    """`vitalcheck serve` with `model` alone, ready; gives its DICOM and HTTP ports, and ends it. Raises demo.DemoFailed."""
    port, http_port = demo.free_ports(2)
    config = folder / "vitalcheck.toml"
    enabled = f"models = {{ enabled = [{json.dumps(str(model.absolute()))}] }}\n"
    config.write_text(demo.CONFIG.format(port=port, pacs_port=pacs_port, http_port=http_port) + enabled)
    command = [str(Path(sys.executable).with_name("vitalcheck")), "serve", "--config", str(config)]
    with (folder / "serve.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as child:
        try:
            demo.await_ready(child, http_port)
            yield port, http_port
        finally:
            child.terminate()


def serve(model: Path, study: Path, folder: Path) -> None:
    """Push, wait, print. Raises demo.DemoFailed."""
    instances = [pydicom.dcmread(path) for path in sorted(study.glob("*.dcm"))]
    with demo.pacs(demo.OUT) as pacs_port, node(folder, pacs_port, model) as (port, http_port):
        demo.push(instances, port)
        answered = demo.await_delivered(http_port, instances[0].StudyInstanceUID)
    print(f"{len(instances)} instances pushed, both Structured Reports received.")
    demo.show(answered)


@app.command()
def main(
    model: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="folder with a manifest.toml")],
    study: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="folder of one study's DICOM files")],
) -> None:
    """Serves MODEL, pushes STUDY as a scanner does, and prints the report that a PACS received."""
    with tempfile.TemporaryDirectory(prefix="vitalcheck-example-") as folder:
        try:
            serve(model, study, Path(folder))
        except demo.DemoFailed as failure:
            print(f"example: {failure}; the end of the node's log:", file=sys.stderr)
            print((Path(folder) / "serve.log").read_text(errors="replace")[-4000:], file=sys.stderr)
            raise typer.Exit(1) from failure


if __name__ == "__main__":
    app()
