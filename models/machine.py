"""machine: the kind of CPU, as far as it decides how a network rounds. Nothing here tells one machine from another of its kind."""

from __future__ import annotations

import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_FLAGS = (  # those by which ONNX Runtime's kernels choose their code, x86 and then ARM, as Linux spells them
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve"),
)


def cpu(cpuinfo: Path = _CPUINFO) -> str:
    """ "x86_64 GenuineIntel family 6, AVX2 AVX512F AVX512_VNNI"; the architecture alone where the system does not tell more."""
    try:
        first = cpuinfo.read_text().split("\n\n")[0]
    except OSError:
        first = ""
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    maker, family = (
        facts.get(x86) or facts.get(arm, "") for x86, arm in (("vendor_id", "CPU implementer"), ("cpu family", "CPU architecture"))
    )
    has = set((facts.get("flags") or facts.get("Features", "")).split())
    kind = " ".join(filter(None, (platform.machine(), maker, family and f"family {family}")))
    return ", ".join(filter(None, (kind, " ".join(flag.upper() for flag in _FLAGS if flag in has))))
