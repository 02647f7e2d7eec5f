"""The environment as text and as html."""

from __future__ import annotations

import textwrap
from html import escape

from ..report import blocks, words
from ..report.style import CSS
from .result import Environment, Remark

WIDTH = 100


def verdict(environment: Environment) -> str:
    """The whole in one sentence, without a full stop."""
    grave = [remark for remark in environment.remarks if remark.severity != "info"]
    if grave:
        more = f" (and {len(grave) - 1} more)" if len(grave) > 1 else ""
        return f"{words.clean(grave[0].title, 200)}{more}"
    devices = environment.devices
    if not devices:
        return f"torch {environment.torch['version']} on the CPU, no misfit found"
    first = words.clean(devices[0]["name"], 60)
    count = f"{len(devices)} devices, the first is {first}" if len(devices) > 1 else first
    return f"torch {environment.torch['version']} on {count}, no misfit found"


def rows(environment: Environment) -> list[tuple[str, str]]:
    """The facts, one line each: what it is, and what it is here."""
    python, system, settings = environment.python, environment.system, environment.settings
    found = [
        ("python", _joined(f"{python['version']} ({python['implementation']})", python["executable"])),
        ("torch", _build(environment)),
        ("driver", _driver(environment)),
    ]
    found += [("device", _device(environment, device)) for device in environment.devices[:16]]
    if len(environment.devices) > 16:
        found.append(("", f"and {len(environment.devices) - 16} more devices"))
    if not environment.devices:
        found.append(("device", "none but the CPU" if environment.probe.state == "ok" else "not known: see above"))
    found.append(("system", _joined(f"{system['os']} {system['release']}", system["machine"], system["wsl"], system["host"])))
    cpus = f"{system['usable_cpus']} of {system['cpus']} usable" if system["usable_cpus"] != system["cpus"] else f"{system['cpus']}"
    memory = f"{_size(system['memory'])} memory" if system["memory"] else None
    found.append(("CPUs", _joined(cpus, f"torch uses {words.count(settings['threads'], 'thread')}", memory)))
    found.append(("settings", _settings(environment)))
    found.append(("packages", ", ".join(f"{name} {version}" for name, version in environment.packages.items()) or "none of the known ones"))
    return [(name, words.clean(value, 600)) for name, value in found]


def text(environment: Environment) -> str:
    """For a terminal, a log and ``text/plain``."""
    lines = [f"environment: {verdict(environment)}"]
    for remark in environment.remarks:
        lines += ["", *_wrap(f"{remark.severity}: {words.clean(remark.title, 400)}", "", "  ")]
        if remark.detail:
            lines += _wrap(remark.detail, "  = ")
        for what in remark.tries:
            lines += _wrap(f"try: {what}", "  = ")
    lines.append("")
    for name, value in rows(environment):
        lines += _wrap(value, f"  {name:<10}")
    return "\n".join(lines)


def html(environment: Environment) -> str:
    """For a notebook: the look of the report, nothing loaded, no script."""
    parts = [f'<div class="gradnb">\n<style>{CSS}</style>', blocks.verdict(environment.verdict, f"environment: {verdict(environment)}")]
    parts += [_card(remark) for remark in environment.remarks]
    body = "".join(f'<tr><th scope="row">{escape(name)}</th>{_wide(value)}</tr>' for name, value in rows(environment))
    parts.append(f'<div class="gradnb-scroll"><table><tbody>{body}</tbody></table></div>')
    return "\n".join(parts) + "\n</div>"


def _wide(value: str) -> str:
    return f'<td style="white-space:normal">{escape(value)}</td>'


def _card(remark: Remark) -> str:
    body = f"<p>{blocks.inline(remark.detail)}</p>" if remark.detail else ""
    body += "".join(f"<p><strong>Try:</strong> {blocks.inline(what)}</p>" for what in remark.tries)
    title = f'<span class="gradnb-badge">{escape(remark.severity)}</span> {blocks.inline(remark.title)}'
    return (
        f'<div class="gradnb-card gradnb-{remark.severity}"><p class="gradnb-title" role="heading" aria-level="4">{title}</p>{body}</div>'
    )


def _wrap(value: str, first: str, rest: str | None = None) -> list[str]:
    inner = " " * len(first) if rest is None else rest
    line = words.clean(value)
    return textwrap.wrap(line, WIDTH, initial_indent=first, subsequent_indent=inner, break_on_hyphens=False) or [first.rstrip()]


def _joined(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)


def _build(environment: Environment) -> str:
    build = environment.torch
    kind = (
        f"built for CUDA {build['cuda']}"
        if build["cuda"]
        else f"built for ROCm {build['rocm']}"
        if build["rocm"]
        else f"{build['build']} build"
    )
    cudnn = build.get("cudnn")
    dnn = f"cuDNN {_cudnn(cudnn)}" if cudnn and build["build"] == "CUDA" else None
    used = "CUDA in use by this kernel" if build["started"] else None
    return _joined(build["version"], kind, dnn, "debug build" if build["debug"] else None, used)


def _cudnn(number: int) -> str:
    """90100 is 9.1.0; before version 9 one digit less: 8902 is 8.9.2."""
    thousand = 10000 if number >= 90000 else 1000
    return f"{number // thousand}.{number % thousand // 100}.{number % 100}"


def _driver(environment: Environment) -> str:
    driver, serves = environment.driver, environment.probe.facts.get("driver_cuda")
    if not driver.present and not serves:
        return _joined(
            "no NVIDIA driver" if environment.probe.state == "ok" else "not known",
            f"nvidia-smi says: {driver.complaint}" if driver.complaint else None,
        )
    version = f"NVIDIA {driver.version}" if driver.version else "NVIDIA"
    return _joined(version, f"serves CUDA up to {serves}" if serves else None, driver.complaint and f"nvidia-smi says: {driver.complaint}")


def _device(environment: Environment, device: dict) -> str:
    capability = f"compute capability {device['capability']}" if device["capability"] and device["kind"] == "cuda" else None
    return _joined(
        f"{device['kind']}:{device['index']} {device['name']}",
        _size(device["memory"]) if device["memory"] else None,
        capability,
        _used(environment, device),
    )


def _used(environment: Environment, device: dict) -> str | None:
    """How full it is; nvidia-smi numbers all GPUs, torch the visible ones, so only where both see the same."""
    gpus = environment.driver.gpus
    if device["kind"] != "cuda" or len(gpus) != len(environment.devices) or "CUDA_VISIBLE_DEVICES" in environment.settings["variables"]:
        return None
    gpu = gpus[device["index"]]
    same = gpu.name == device["name"] and len({g.name for g in gpus}) == 1  # with one kind of GPU both count by bus
    return f"{_size(gpu.used * 2**20)} in use" if same and gpu.used is not None else None


def _settings(environment: Environment) -> str:
    settings = environment.settings
    parts = [
        "gradients on" if settings["gradients"] else "gradients OFF",
        "inference mode ON" if settings["inference_mode"] else None,
        "anomaly mode on" if settings["anomaly_mode"] else None,
        "deterministic algorithms" if settings["deterministic"] else None,
        f"default dtype {settings['default_dtype']}",
        f"float32 matmul precision {settings['float32_matmul']}" if settings["float32_matmul"] != "highest" else None,
        f"autocast {settings['cpu_autocast']} on the CPU" if settings["cpu_autocast"] else None,
    ]
    return _joined(*parts, *(f"{name}={value}" for name, value in settings["variables"].items()))


def _size(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"
