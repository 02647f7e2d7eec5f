"""What does not fit together. Only what is certain: a driver, a package or torch itself says so."""

from __future__ import annotations

import os
from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from . import facts
from .result import Environment, Remark

RESTART = "Restart the kernel."
SELECTOR = "the selector on pytorch.org/get-started/locally gives the command"


def remarks(environment: Environment) -> Iterator[Remark]:
    """All that is worth a word, the gravest first within its kind."""
    yield from _device(environment)
    yield from _versions(environment)
    yield from _settings(environment)


def _device(environment: Environment) -> Iterator[Remark]:
    build, driver, probe = environment.torch, environment.driver, environment.probe
    if probe.state != "ok":
        return  # told by failures.py
    gpus = [gpu.name for gpu in driver.gpus]
    if build["build"] == "CPU":
        if driver.present:
            yield Remark(
                "warning",
                f"this torch is a CPU build, and the machine has {_listed(gpus) or 'an NVIDIA driver'}",
                "Nothing can run on the GPU.",
                [f"For the GPU, install a CUDA build of torch ({SELECTOR}), then restart the kernel. Fine if the CPU is meant."],
            )
        return
    if build["build"] == "CUDA" and not environment.devices:
        yield from _cuda_without_device(environment, gpus)
    architectures = probe.facts.get("architectures") or []
    for device in environment.devices:
        if device["kind"] == "cuda" and architectures and not _runs(device["capability"], architectures):
            yield Remark(
                "error",
                f"this torch has no code for {device['name']} (compute capability {device['capability']})",
                f'It was built for {", ".join(architectures)}; operations on this device stop with "no kernel image is available".',
                [f"Install a build of torch made for this GPU: {SELECTOR}."],
            )


def _cuda_without_device(environment: Environment, gpus: list[str]) -> Iterator[Remark]:
    build, driver, probe = environment.torch, environment.driver, environment.probe
    serves = probe.facts.get("driver_cuda")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if serves and _major(serves) < _major(build["cuda"]):
        yield Remark(
            "error",
            f"the NVIDIA driver is too old for this torch: it serves CUDA {serves}, torch was built with CUDA {build['cuda']}",
            "torch cannot use the GPU and runs on the CPU.",
            [f"Update the driver, or install a torch built for CUDA {serves} or older: {SELECTOR}."],
        )
    elif driver.present and hidden is not None and (not hidden.strip() or hidden.strip().startswith("-")):
        yield Remark(
            "warning",
            f"CUDA_VISIBLE_DEVICES={hidden!r} hides {_listed(gpus) or 'the GPU'} from torch",
            "",
            ["Take the variable away and restart the kernel, if the GPU is wanted."],
        )
    elif driver.present:
        said = " ".join(probe.complaints)[:400]
        yield Remark(
            "error",
            f"torch cannot use {_listed(gpus) or 'the GPU'}",
            f"torch says: {said}" if said else "",
            ["Restart the kernel; after an update of the driver, restart the machine."],
        )
    else:
        where = {"Colab": "Runtime, Change runtime type", "Kaggle": "Settings, Accelerator"}.get(environment.system["host"] or "")
        yield Remark(
            "info",
            "a CUDA build of torch without an NVIDIA driver: everything runs on the CPU",
            "",
            [f"For a GPU, choose one under: {where}."] if where else [],
        )


def _runs(capability: str, architectures: list[str]) -> bool:
    """Code for sm_XY runs on its own major version from minor Y on; compute_XY is translated for everything newer."""
    major, _, minor = str(capability).partition(".")
    device = (int(major), int(minor or 0))
    for name in architectures:
        kind, _, digits = name.partition("_")
        number = "".join(c for c in digits if c.isdigit())
        if len(number) < 2:
            return True  # a name of another kind: nothing certain can be said
        built = (int(number[:-1]), int(number[-1]))
        specific = digits != number  # sm_90a runs on 9.0 alone
        if kind == "compute" and not specific and built <= device:
            return True
        if kind == "sm" and (built == device or (not specific and built[0] == device[0] and built[1] <= device[1])):
            return True
    return False


def _versions(environment: Environment) -> Iterator[Remark]:
    torch = environment.torch["version"]
    for name in ("torch", *environment.packages):
        running, there = facts.loaded(name), facts.installed(name)
        if running and there and name != "gradnb" and _differ(running, there) and not facts.editable(name):
            yield Remark(
                "warning",
                f"{name} {there} is installed, but this kernel still runs {running}",
                "It was changed after the import.",
                [RESTART],
            )
    for name, version in environment.packages.items():
        needed = _unmet(name, torch)
        if needed:
            yield Remark(
                "warning",
                f"{name} {version} needs {needed}, and torch {torch} is here",
                "Its operations may be missing or crash.",
                [f"Install the {name} that belongs to this torch, or the torch that it names, then restart the kernel."],
            )
        elif name in ("torchvision", "torchaudio") and _local(version) and _local(torch) and _local(version) != _local(torch):
            yield Remark(
                "warning",
                f"{name} {version} and torch {torch} are builds for different devices",
                f"The operations of {name} that have code of their own fail on the device that only one of them knows.",
                [f"Install both from the same place: {SELECTOR}."],
            )


def _unmet(name: str, torch: str) -> str | None:
    """What the package itself says that it needs of torch, where the torch that is here is not that."""
    for text in facts.requirements(name):
        try:
            requirement = Requirement(text)
            if requirement.name.lower() != "torch" or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
                continue
            if not requirement.specifier.contains(Version(torch), prereleases=True):
                return f"torch{requirement.specifier}"
        except (InvalidRequirement, InvalidVersion):
            continue
    return None


def _settings(environment: Environment) -> Iterator[Remark]:
    settings, system = environment.settings, environment.system
    if settings["inference_mode"]:
        yield Remark("error", "inference mode is on here: nothing computed now can be trained", "", ["Leave the inference_mode block."])
    elif not settings["gradients"]:
        yield Remark(
            "warning",
            "gradients are switched off here: nothing computed now can be trained",
            "A torch.set_grad_enabled(False) in any cell holds for the whole kernel; a no_grad block ends by itself.",
            ["torch.set_grad_enabled(True)"],
        )
    if settings["cpu_autocast"] == "float16":
        yield Remark(
            "warning",
            "float16 autocast is on for the CPU",
            "float16 turns gradients below 6e-8 into zero; bfloat16 has the range of float32.",
            ["Use dtype=torch.bfloat16, or torch.amp.GradScaler('cpu') around the backward pass."],
        )
    if settings["default_dtype"] in ("float16", "bfloat16"):
        yield Remark(
            "warning",
            f"new tensors are {settings['default_dtype']} by default",
            "Parameters in 16 bits lose small optimizer steps to rounding.",
            ["torch.set_default_dtype(torch.float32), and autocast for the forward pass."],
        )
    if settings["anomaly_mode"]:
        yield Remark("info", "anomaly mode is on: training is several times slower", "", ["torch.autograd.set_detect_anomaly(False)"])
    if settings["variables"].get("CUDA_LAUNCH_BLOCKING") == "1":
        yield Remark("info", "CUDA_LAUNCH_BLOCKING=1: each operation waits for the GPU", "", ["Take it away when the error is found."])
    usable = system["usable_cpus"]
    if usable and settings["threads"] > usable:
        yield Remark(
            "info",
            f"torch uses {settings['threads']} threads on {usable} usable {'CPU' if usable == 1 else 'CPUs'}: they wait for each other",
            "",
            [f"torch.set_num_threads({usable})"],
        )


def _listed(names: list[str]) -> str:
    if len(names) > 1 and len(set(names)) == 1:
        return f"{len(names)} x {names[0]}"
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _major(version: str) -> int:
    return int(str(version).split(".")[0])


def _local(version: str) -> str | None:
    try:
        return Version(version).local
    except InvalidVersion:
        return None


def _differ(one: str, other: str) -> bool:
    try:
        return Version(one).public != Version(other).public
    except InvalidVersion:
        return False
