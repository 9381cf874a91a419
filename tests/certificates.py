"""Certificates for tests, made by openssl as docs/tls.md does it: a CA, our node, scanners; and some that must not be let in."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers import need

P256 = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Certificates:
    """Files NAME.pem and NAME.key in a folder; `ca` signs."""

    folder: Path

    def pem(self, name: str) -> str:
        return str(self.folder / f"{name}.pem")

    def key(self, name: str) -> str:
        return str(self.folder / f"{name}.key")

    def tls(self, **changed: Any) -> dict[str, Any]:
        """[listener.tls] of our node."""
        files = {"certificate": self.pem("node"), "key": self.key("node"), "ca": self.pem("ca")}
        return {"enabled": True, "port": 0, **files, **changed}

    def fingerprint(self, name: str) -> str:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(Path(self.pem(name)).read_text())).hexdigest()

    def client(self, name: str | None = "ct01") -> ssl.SSLContext:
        """What a scanner shakes hands with, showing the certificate `name`."""
        context = ssl.create_default_context(cafile=self.pem("ca"))
        if name:
            context.load_cert_chain(self.pem(name), self.key(name))
        return context


def make(folder: Path) -> Certificates:
    """All of them; takes a tenth of a second."""
    made = Certificates(folder)
    for authority in ("ca", "stranger_ca"):
        openssl(folder, "req", "-x509", *P256, "-keyout", f"{authority}.key", "-out", f"{authority}.pem", "-subj", f"/CN={authority}")
    for name, authority, days in [
        ("node", "ca", 60),
        ("ct01", "ca", 60),
        ("ct02", "ca", 60),
        ("stranger", "stranger_ca", 60),
        ("gone", "ca", -1),
    ]:
        _signed(folder, name, authority, days)
    return made


def openssl(folder: Path, *words: str) -> None:
    subprocess.run([need("openssl"), *words], cwd=folder, check=True, capture_output=True)


def _signed(folder: Path, name: str, authority: str, days: int) -> None:
    (folder / "leaf.cnf").write_text("basicConstraints = critical, CA:FALSE\nsubjectAltName = IP:127.0.0.1\n")
    openssl(folder, "req", "-new", *P256, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
    signer = ("-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial")
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signer, "-days", str(days), "-extfile", "leaf.cnf", "-out", f"{name}.pem")
