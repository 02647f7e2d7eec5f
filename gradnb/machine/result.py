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
    title: str  #: what does not fit, in one line
    detail: str = ""  #: more on it
    tries: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"severity": self.severity, "title": self.title, "detail": self.detail, "try": list(self.tries)}


@dataclass
class Environment:
    """What this process runs on. ``repr()`` is the text form, a notebook shows the html form, ``to_dict()`` is JSON-ready.

    ``devices`` are those that torch can use, as a process beside this one found them: dicts with ``kind`` (``cuda``, ``rocm``, ``mps``,
    ``xpu``), ``index``, ``name``, ``memory`` (bytes), ``capability`` and ``processors``. ``probe`` says how that process fared.
    """

    python: dict[str, Any]  #: version and executable, by name
    torch: dict[str, Any]  #: its version and how it was built
    system: dict[str, Any]  #: what Python runs on
    settings: dict[str, Any]  #: threads, switches and variables that matter
    packages: dict[str, str]  #: versions by the packages' names
    driver: Driver  #: NVIDIA's, as the system knows it
    probe: Seen
    remarks: list[Remark] = field(default_factory=list)  #: what does not fit together, the worst first

    @property
    def devices(self) -> list[dict[str, Any]]:
        """The devices that torch can use; memory in bytes."""
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
