"""What the kernel runs on, and what of it does not fit together."""

from __future__ import annotations

import importlib
import json
import sys
import types

import pytest
import torch

import gradnb
from gradnb.machine import facts

GPU = "echo '0, NVIDIA GeForce RTX 4090, 550.54.15, 24564, 1024'"
CARD = "say(device=dict(kind='cuda', index=0, name='NVIDIA GeForce RTX 4090', memory=25757220864, capability='8.9', processors=128))\n"
DONE = "say(stage='done')\n"


def titles(found: object) -> str:
    return "\n".join(f"{remark.severity}: {remark.title}" for remark in found.remarks)  # type: ignore[attr-defined]


@pytest.fixture
def cuda_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """This torch, as if it were built for CUDA."""
    monkeypatch.setattr(torch.version, "cuda", "12.8")


def test_the_real_machine_is_described_by_a_real_probe() -> None:
    found = gradnb.environment()
    told = json.loads(json.dumps(found.to_dict()))
    assert told["schema"] == 1 and told["probe"]["state"] == "ok" and told["probe"]["stage"] == "done"
    assert told["python"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert told["torch"]["version"] == torch.__version__ and told["packages"]["gradnb"] == gradnb.__version__
    assert "numpy" in told["packages"] and told["settings"]["threads"] == torch.get_num_threads()
    assert torch.__version__ in repr(found) and torch.__version__ in found._repr_html_()


def test_the_function_stays_a_function_whatever_was_imported() -> None:
    for name in ("gradnb.machine", "gradnb.recorder.environment", "gradnb.machine.result"):
        importlib.import_module(name)
    assert callable(gradnb.environment)


def test_a_cpu_build_beside_an_nvidia_gpu_is_a_warning(probe, nvidia_smi) -> None:
    probe("say(driver_cuda='12.4')\n" + DONE)
    nvidia_smi(GPU)
    found = gradnb.environment()
    assert found.verdict == "warning" and "CPU build, and the machine has NVIDIA GeForce RTX 4090" in titles(found)
    assert "NVIDIA 550.54.15, serves CUDA up to 12.4" in repr(found)


def test_a_gpu_that_works_is_described_and_nothing_is_remarked(probe, nvidia_smi, cuda_build) -> None:
    probe("say(driver_cuda='12.8', available=True, count=1, architectures=['sm_80', 'sm_90'], cudnn=91002)\n" + CARD + DONE)
    nvidia_smi(GPU)
    found = gradnb.environment()
    assert titles(found) == "" and found.verdict == "ok"
    said = repr(found)
    assert "cuda:0 NVIDIA GeForce RTX 4090, 24.0 GiB, compute capability 8.9, 1.0 GiB in use" in said
    assert "built for CUDA 12.8, cuDNN 9.10.2" in said


def test_a_driver_too_old_for_torch_is_an_error_that_names_both_versions(probe, nvidia_smi, cuda_build) -> None:
    probe("say(driver_cuda='11.4', available=False, count=0)\n" + DONE)
    nvidia_smi(GPU)
    assert "error: the NVIDIA driver is too old for this torch: it serves CUDA 11.4, torch was built with CUDA 12.8" in titles(
        gradnb.environment()
    )


def test_an_older_minor_version_of_the_driver_is_fine(probe, nvidia_smi, cuda_build) -> None:
    probe("say(driver_cuda='12.2', available=True, count=1)\n" + CARD + DONE)
    nvidia_smi(GPU)
    assert titles(gradnb.environment()) == ""


def test_hidden_devices_are_told_by_the_variable(probe, nvidia_smi, cuda_build, monkeypatch) -> None:
    probe("say(driver_cuda='12.8', available=False, count=0)\n" + DONE)
    nvidia_smi(GPU)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "warning: CUDA_VISIBLE_DEVICES='-1' hides NVIDIA GeForce RTX 4090" in titles(gradnb.environment())


def test_a_gpu_that_torch_refuses_is_told_in_torchs_words(probe, nvidia_smi, cuda_build) -> None:
    probe(
        "say(available=False, count=0)\nsay(complaint='CUDA unknown error - this may be due to an incorrectly set up environment')\n" + DONE
    )
    nvidia_smi(GPU)
    found = gradnb.environment()
    assert "error: torch cannot use NVIDIA GeForce RTX 4090" in titles(found) and "CUDA unknown error" in repr(found)


def test_a_cuda_build_without_a_driver_is_no_misfit(probe, cuda_build, monkeypatch) -> None:
    probe(DONE)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_20260801")
    found = gradnb.environment()
    assert found.verdict == "ok" and "Change runtime type" in repr(found) and "Colab" in repr(found)


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ("8.9", "sm_80 sm_86", True),
        ("12.0", "sm_80 sm_90", False),
        ("12.0", "sm_80 compute_90", True),
        ("9.0", "sm_90a", True),
        ("9.1", "sm_90a", False),
        ("6.1", "sm_70 sm_80", False),
        ("10.3", "sm_100", True),
    ],
)
def test_a_gpu_that_torch_has_no_code_for_is_told(probe, cuda_build, capability, built, runs) -> None:
    probe(f"say(driver_cuda='12.8', architectures={built.split()!r})\n" + CARD.replace("8.9", capability) + DONE)
    assert ("no code for" not in titles(gradnb.environment())) == runs


def test_a_package_made_for_another_torch_is_told_in_its_own_terms(probe, monkeypatch, tmp_path) -> None:
    probe(DONE)
    for name, version, needs in (("torchvision", "0.19.0", "torch==2.4.0"), ("peft", "0.12.0", "torch>=1.13.0")):
        folder = tmp_path / "site" / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: {needs}\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    found = gradnb.environment()
    assert f"warning: torchvision 0.19.0 needs torch==2.4.0, and torch {torch.__version__} is here" in titles(found)
    assert "peft" not in titles(found) and found.packages["peft"] == "0.12.0"


def test_a_package_that_was_changed_after_its_import_asks_for_a_restart(probe, monkeypatch) -> None:
    probe(DONE)
    stale = types.ModuleType("matplotlib")
    stale.__version__ = "0.0.1"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "matplotlib", stale)
    found = gradnb.environment()
    assert "is installed, but this kernel still runs 0.0.1" in titles(found) and "Restart the kernel" in repr(found)


def test_gradients_switched_off_for_the_whole_kernel_are_told(probe) -> None:
    probe(DONE)
    with torch.no_grad():
        found = gradnb.environment()
    assert "gradients are switched off here" in titles(found) and "gradients OFF" in repr(found)


def test_float16_autocast_on_the_cpu_is_told(probe) -> None:
    probe(DONE)
    with torch.autocast("cpu", dtype=torch.float16):
        assert "float16 autocast is on for the CPU" in titles(gradnb.environment())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert titles(gradnb.environment()) == ""


@pytest.mark.parametrize(("variable", "host"), [("KAGGLE_KERNEL_RUN_TYPE", "Kaggle"), ("BINDER_SERVICE_HOST", "Binder")])
def test_hosted_notebooks_are_recognised(probe, monkeypatch, variable, host) -> None:
    probe(DONE)
    monkeypatch.setenv(variable, "yes")
    assert gradnb.environment().to_dict()["system"]["host"] == host


def test_wsl2_is_recognised(probe, wsl2) -> None:
    probe(DONE)
    assert gradnb.environment().system["wsl"] == "WSL2" and "WSL2" in repr(gradnb.environment())


def test_markup_in_a_device_name_stays_text(probe, cuda_build) -> None:
    probe(CARD.replace("NVIDIA GeForce RTX 4090", "<script>alert(1)</script>") + DONE)
    html = gradnb.environment()._repr_html_()
    assert "<script" not in html and "&lt;script&gt;" in html


def test_a_look_changes_nothing_of_this_process(probe, monkeypatch) -> None:
    probe(DONE)
    before = (torch.get_rng_state().tolist(), dict(facts.os.environ), list(sys.path), torch.get_num_threads())
    gradnb.environment()
    assert (torch.get_rng_state().tolist(), dict(facts.os.environ), list(sys.path), torch.get_num_threads()) == before
