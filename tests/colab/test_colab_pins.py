"""The magic in a second environment, with the versions that Colab has; ``make test`` builds it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel_checks import KernelChecks
from kernel_session import ROOT, Kernel

pytestmark = pytest.mark.colab

PINS = dict(re.findall(r"^([\w-]+)==([\d.]+)$", (Path(__file__).parent / "requirements.txt").read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter of the second environment. On CI its absence is a failure, elsewhere a visible skip."""
    given = os.environ.get("GRADNB_COLAB_PYTHON")
    path = Path(given) if given else ROOT / ".venv-colab" / "bin" / "python"
    if not path.exists():
        reason = f"no second environment at {path}: 'make test' builds it, GRADNB_COLAB_PYTHON names another one"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return str(path)


@pytest.fixture(scope="module")
def kernel(python: str) -> Iterator[Kernel]:
    kernel = Kernel(python)
    yield kernel
    kernel.close()


def test_the_second_environment_has_colabs_versions(python: str) -> None:
    code = "import sys, json; from importlib.metadata import version; print(json.dumps({n: version(n) for n in sys.argv[1:]}))"
    found = subprocess.run([python, "-c", code, *PINS], capture_output=True, text=True, check=True).stdout
    assert json.loads(found) == PINS


def test_installing_gradnb_there_would_change_no_pinned_package(python: str) -> None:
    """Asked of pip's resolver, with what is installed and no index: what is missing or too old would make it fail."""
    command = [python, "-m", "pip", "install", "--dry-run", "--no-index", "--no-build-isolation", "--quiet", "--report", "-", str(ROOT)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert [item["metadata"]["name"] for item in json.loads(ran.stdout)["install"]] == ["gradnb"]


class TestColabKernel(KernelChecks):
    def test_the_kernel_is_colabs(self, kernel: Kernel) -> None:
        ran = kernel.run("import IPython, ipykernel\nIPython.__version__, ipykernel.__version__")
        assert ran.results == [repr((PINS["ipython"], PINS["ipykernel"]))]

    def test_the_report_names_the_pinned_versions(self, kernel: Kernel) -> None:
        kernel.run("%%gradcheck\npass")
        assert kernel.run("import gradnb; gradnb.last_report().environment['ipython']").results == [repr(PINS["ipython"])]
