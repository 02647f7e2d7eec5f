"""A driver that crashes, hangs or babbles is told of; the process that asked goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

import gradnb
from gradnb.errors import UsageError

COUNTING = "say(stage='counting devices')\n"
DOUBLE_FREE = COUNTING + "os.write(2, b'free(): double free detected in tcache 2\\n'); os.abort()"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals end a process on POSIX")


def test_a_driver_that_aborts_while_devices_are_counted_is_named_with_its_signal_and_its_words(probe, wsl2) -> None:
    probe(DOUBLE_FREE)
    found = gradnb.environment()
    assert found.probe.state == "crashed" and found.verdict == "error" and found.devices == []
    first = found.remarks[0]
    assert "crashed while devices were counted: signal 6 (SIGABRT), free(): double free detected in tcache 2" in first.title
    assert "the kernel is unharmed" in first.detail
    assert any("wsl --update" in tried for tried in first.tries)
    assert "double free" in repr(found) and "SIGABRT" in found._repr_html_()


def test_hiding_the_gpu_is_advised_only_after_it_was_tried(probe) -> None:
    probe("if os.environ.get('CUDA_VISIBLE_DEVICES') == '': say(stage='done'); sys.exit()\n" + DOUBLE_FREE)
    helped = gradnb.environment().remarks[0].tries[0]
    probe(DOUBLE_FREE)
    useless = gradnb.environment().remarks[0].tries[0]
    assert "CUDA_VISIBLE_DEVICES" in helped and "tried: nothing crashes then" in helped
    assert "CPU build" in useless and "does not help" in useless


def test_a_segmentation_fault_leaves_the_facts_that_were_told_before_it(probe) -> None:
    probe("say(driver_cuda='12.4')\nsay(stage='reading device 0')\nctypes.string_at(0)")
    found = gradnb.environment()
    assert "SIGSEGV" in found.remarks[0].title and "while reading device 0" in found.remarks[0].title
    assert found.to_dict()["driver"]["cuda"] == "12.4"


def test_no_core_file_and_no_process_stays_behind(tmp_path, monkeypatch, probe) -> None:
    monkeypatch.chdir(tmp_path)
    probe(COUNTING + f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)")
    begun = time.monotonic()
    found = gradnb.environment(timeout=1.0)
    assert time.monotonic() - begun < 15
    assert found.probe.state == "timeout" and "no answer within 1 s while devices were counted" in found.remarks[0].title
    assert any("timeout=60" in tried for tried in found.remarks[0].tries)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert not list(tmp_path.glob("core*"))


def test_a_grandchild_that_keeps_the_output_open_does_not_hold_the_kernel(probe) -> None:
    probe(COUNTING + "import subprocess; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\ntime.sleep(60)")
    begun = time.monotonic()
    assert gradnb.environment(timeout=1.0).probe.state == "timeout"
    assert time.monotonic() - begun < 15


@pytest.mark.parametrize("words", ["print('%PDF-1.4 @@@')", "print('gradnb-probe: {broken')", "print('gradnb-probe: [1]')", ""])
def test_an_answer_that_makes_no_sense_is_told_as_that(probe, words) -> None:
    probe(words)
    found = gradnb.environment()
    assert found.probe.state == "garbled" and found.verdict == "warning"
    assert "not understood" in repr(found)


def test_an_error_of_python_in_the_probe_is_told_by_its_last_line(probe) -> None:
    probe("say(stage='importing torch')\nraise OSError('libcudart.so.12: cannot open shared object file')")
    found = gradnb.environment()
    assert found.probe.state == "failed"
    assert "failed while torch was imported: OSError: libcudart.so.12: cannot open shared object file" in found.remarks[0].title


def test_a_python_without_an_executable_is_told(monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    found = gradnb.environment()
    assert found.probe.state == "not-started" and "not looked at" in found.remarks[0].title


def test_what_a_library_prints_does_not_disturb_the_answer(probe) -> None:
    probe("print('WARNING: all log messages before absl'); say(available=True, count=0); print('bye'); say(stage='done')")
    assert gradnb.environment().probe.state == "ok"


def test_nvidia_smi_that_hangs_or_fails_is_told(probe, nvidia_smi, monkeypatch) -> None:
    probe("say(stage='done')")
    monkeypatch.setattr("gradnb.machine.driver.LIMIT", 0.5)
    nvidia_smi("sleep 30")
    assert "no answer within 0.5 s" in " ".join(repr(gradnb.environment()).split())
    nvidia_smi("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    assert "Driver/library version mismatch" in " ".join(repr(gradnb.environment()).split())


def test_the_process_that_asks_never_wakes_the_driver() -> None:
    program = """
import torch, os, gradnb
def woken(*args, **kwargs): os._exit(66)
for name in ("is_available", "device_count", "_lazy_init", "init", "get_device_properties", "current_device", "get_arch_list"):
    setattr(torch.cuda, name, woken)
torch.version.cuda = "12.8"
found = gradnb.environment()
repr(found), found._repr_html_(), found.to_dict()
print(found.probe.state, torch.cuda.is_initialized())
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and ran.stdout.split() == ["ok", "False"], ran.stderr


@pytest.mark.parametrize("given", [0, -1, float("nan"), float("inf"), "5", True, None])
def test_a_timeout_that_is_none_is_refused(given) -> None:
    with pytest.raises(UsageError, match="number of seconds above 0"):
        gradnb.environment(timeout=given)


def test_a_crash_is_json_ready_too(probe) -> None:
    probe(DOUBLE_FREE)
    told = json.loads(json.dumps(gradnb.environment().to_dict()))
    assert told["probe"]["signal"] == "signal 6 (SIGABRT)" and told["probe"]["message"].startswith("free()")
    assert told["remarks"][0]["severity"] == "error"
