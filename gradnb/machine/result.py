"""The environment as one object that shows itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .child import Seen
from .driver import Driver


@dataclass(slots=True)
class Remark:
    """Something that does not fit together. ``severity`` is ``error``, ``warning`` or ``info``; ``tries`` is what to do about it."""

    severity: str
    title: str
    detail: str = ""
    tries: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {"severity": self.severity, "title": self.title, "detail": self.detail, "try": list(self.tries)}


@dataclass
class Environment:
    """What this process runs on. ``repr()`` is the text form, a notebook shows the html form, ``to_dict()`` is JSON-ready.

    ``devices`` are those that torch can use, as a process beside this one found them: dicts with ``kind`` (``cuda``, ``rocm``, ``mps``,
    ``xpu``), ``index``, ``name``, ``memory`` (bytes), ``capability`` and ``processors``. ``probe`` says how that process fared.
    """

    python: dict[str, Any]
    torch: dict[str, Any]
    system: dict[str, Any]
    settings: dict[str, Any]
    packages: dict[str, str]
    driver: Driver
    probe: Seen
    remarks: list[Remark] = field(default_factory=list)

    @property
    def devices(self) -> list[dict[str, Any]]:
        return self.probe.devices

    @property
    def verdict(self) -> str:
        """``"error"``, ``"warning"`` or ``"ok"``: the worst remark (``info`` counts as ok)."""
        found = {remark.severity for remark in self.remarks}
        return "error" if "error" in found else "warning" if "warning" in found else "ok"

    def to_dict(self) -> dict[str, Any]:
        """The environment as JSON-ready data, schema 1. Memory is in bytes, times in seconds."""
        probe = self.probe
        return {
            "schema": 1,
            "verdict": self.verdict,
            "remarks": [remark.to_dict() for remark in self.remarks],
            "python": dict(self.python),
            "torch": dict(self.torch),
            "driver": {
                "present": self.driver.present,
                "version": self.driver.version,
                "cuda": probe.facts.get("driver_cuda"),
                "gpus": [gpu.name for gpu in self.driver.gpus],
                "complaint": self.driver.complaint,
            },
            "devices": [dict(device) for device in self.devices],
            "probe": {
                "state": probe.state,
                "stage": probe.stage,
                "message": probe.message,
                "signal": probe.signal,
                "seconds": round(probe.seconds, 2),
            },
            "system": dict(self.system),
            "settings": dict(self.settings),
            "packages": dict(self.packages),
        }

    def __repr__(self) -> str:
        from .show import text

        return text(self)

    def _repr_html_(self) -> str:
        from .show import html

        return html(self)
