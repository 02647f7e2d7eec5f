"""What can be read in this process without waking a driver: Python, torch's build, the system, packages, torch's settings."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from ..recorder.environment import environment as versions

# What bears on training and on the notebook; only those that are installed are told.
PACKAGES = (
    "gradnb numpy scipy pandas matplotlib ipython ipykernel ipywidgets anywidget jupyterlab notebook torchvision torchaudio triton "
    "transformers tokenizers datasets safetensors peft accelerate lightning pytorch-lightning torchmetrics timm bitsandbytes "
    "deepspeed xformers flash-attn torch-geometric gpytorch pyro-ppl torchdiffeq stable-baselines3 torchviz"
).split()

HOSTS = {  # a variable that the host sets
    "Colab": ("COLAB_RELEASE_TAG", "COLAB_BACKEND_VERSION"),
    "Kaggle": ("KAGGLE_KERNEL_RUN_TYPE",),
    "Binder": ("BINDER_SERVICE_HOST", "BINDER_LAUNCH_HOST", "BINDER_REPO_URL"),
    "Codespaces": ("CODESPACES",),
    "Databricks": ("DATABRICKS_RUNTIME_VERSION",),
}
VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING", "PYTORCH_CUDA_ALLOC_CONF", "OMP_NUM_THREADS", "HIP_VISIBLE_DEVICES")
KERNEL = Path("/proc/version")


def python() -> dict[str, Any]:
    home = os.path.expanduser("~")
    executable = sys.executable or ""
    if home != os.sep and executable.startswith(home + os.sep):
        executable = "~" + executable[len(home) :]
    return {"version": versions()["python"], "implementation": platform.python_implementation(), "executable": executable or None}


def system() -> dict[str, Any]:
    try:
        kernel = KERNEL.read_text(errors="replace").lower()
    except OSError:
        kernel = ""
    wsl = None
    if "microsoft" in kernel:
        wsl = "WSL2" if "wsl2" in kernel or "microsoft-standard" in kernel else "WSL1"
    host = next((name for name, variables in HOSTS.items() if any(os.environ.get(v) for v in variables)), None)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "os": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "wsl": wsl,
        "host": host,
        "cpus": os.cpu_count(),
        "usable_cpus": usable,
        "memory": _memory(),
    }


def _memory() -> int | None:
    """The machine's memory in bytes."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def build() -> dict[str, Any]:
    """How this torch was built. ``torch.version`` is plain text; torch.cuda.is_available() would start the driver here."""
    kind = "CUDA" if torch.version.cuda else "ROCm" if torch.version.hip else "CPU"
    if kind == "CPU" and torch.backends.mps.is_built():
        kind = "MPS"
    if kind == "CPU" and getattr(torch.version, "xpu", None):
        kind = "XPU"
    return {
        "version": versions()["torch"],
        "build": kind,
        "cuda": torch.version.cuda,
        "rocm": torch.version.hip,
        "debug": bool(torch.version.debug),
        "started": torch.cuda.is_initialized(),  # this process uses CUDA already
    }


def settings() -> dict[str, Any]:
    """Switches of this process that change what training does."""
    return {
        "gradients": torch.is_grad_enabled(),
        "inference_mode": torch.is_inference_mode_enabled(),
        "anomaly_mode": torch.is_anomaly_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "float32_matmul": torch.get_float32_matmul_precision(),
        "cpu_autocast": _autocast(),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _autocast() -> str | None:
    return str(torch.get_autocast_dtype("cpu")).removeprefix("torch.") if torch.is_autocast_enabled("cpu") else None


def packages() -> dict[str, str]:
    """The installed version of each package of the list."""
    found = {}
    for name in PACKAGES:
        version = installed(name)
        if version is not None:
            found[name] = version
    if "gradnb" in found:
        found["gradnb"] = versions()["gradnb"] or found["gradnb"]  # an editable install keeps the version of its first day
    return found


def installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name) or None
    except Exception:  # not there, or its folder is damaged
        return None


def requirements(name: str) -> list[str]:
    """What an installed package says that it needs."""
    try:
        return importlib.metadata.requires(name) or []
    except Exception:
        return []


def loaded(name: str) -> str | None:
    """The version of the package that this process runs, None where it has not imported it."""
    module = sys.modules.get({"ipython": "IPython"}.get(name, name.replace("-", "_")))
    version = getattr(module, "__version__", None)
    return str(version) if version is not None else None


def editable(name: str) -> bool:
    """Installed from a folder that may have moved on since."""
    try:
        text = importlib.metadata.distribution(name).read_text("direct_url.json")
        return bool(text and json.loads(text).get("dir_info", {}).get("editable"))
    except Exception:
        return False
