"""A script under gradnb against the same script under Python alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import HEALTHY, gradnb, python

LOOK = """\
import os, pickle, sys
import sibling

class Thing:
    pass

kept = {name: repr(value) for name, value in sorted(globals().items()) if name not in ("__loader__", "__spec__")}
print(kept, __spec__ and (__spec__.name, __spec__.origin, __spec__.parent), type(__loader__).__name__)
print(sys.argv, sys.path[0], os.getcwd(), sys._getframe().f_code.co_filename)
print(sys.modules["__main__"].__dict__ is globals(), type(pickle.loads(pickle.dumps(Thing()))) is Thing, sibling.__name__)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    package = tmp_path / "package"
    package.mkdir()
    for name, text in (("__init__", ""), ("__main__", LOOK), ("train", LOOK), ("sibling", "")):
        (package / f"{name}.py").write_text(text)
    (tmp_path / "sibling.py").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    "arguments", [("package/train.py", "--steps", "x", "-m"), ("-m", "package.train", "--json", "a"), ("-m", "package", "--", "-v")]
)
def test_a_script_finds_everything_where_python_puts_it(project: Path, arguments: tuple[str, ...]) -> None:
    alone, checked = python(project, *arguments), gradnb(project, "--quiet", *arguments)
    assert alone.returncode == checked.returncode == 0, alone.stderr + checked.stderr
    assert alone.stdout.count("\n") == 3
    assert (checked.stdout, checked.stderr) == (alone.stdout, "")


def test_stdout_is_the_scripts_own_and_the_report_goes_to_stderr(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(HEALTHY)
    alone, checked = python(tmp_path, "train.py"), gradnb(tmp_path, "train.py")
    assert checked.stdout == alone.stdout != ""
    assert checked.returncode == 0
    assert checked.stderr.startswith("gradcheck: every trainable parameter gets a gradient (4 parameters, 3 steps recorded)\n")


ENDINGS = {
    "raises inside torch": "import torch\ntorch.ones(2) @ torch.ones(3)\n",
    "raises from another error": "import torch\ntry:\n    torch.nn.functional.cross_entropy(torch.ones(2, 3), torch.ones(5).long())\n"
    "except ValueError as error:\n    raise KeyError('missing') from error\n",
    "has its own hook": "sys.excepthook = lambda *error: print('hook', error[0], error[2].tb_lineno, file=sys.stderr)\n1 / 0\n",
    "exits with a number": "sys.exit(3)\n",
    "exits with words": "sys.exit('no data')\n",
    "exits with nothing": "sys.exit()\n",
    "ends at once": "import os\nos._exit(7)\n",
    "interrupts itself": "raise KeyboardInterrupt\n",
    "is no python": "x = = 1\n",
}


@pytest.mark.parametrize("ending", list(ENDINGS))
def test_a_script_ends_as_it_would_alone(tmp_path: Path, ending: str) -> None:
    (tmp_path / "train.py").write_text("import sys\nprint('begun', flush=True)\n" + ENDINGS[ending])
    alone, checked = python(tmp_path, "train.py"), gradnb(tmp_path, "--quiet", "train.py")
    assert (checked.returncode, checked.stdout, checked.stderr) == (alone.returncode, alone.stdout, alone.stderr)


def test_a_binary_file_is_no_python_either(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"PK\x03\x04\0\0")
    checked = gradnb(tmp_path, "model.pt")
    assert checked.returncode == 1
    assert 'model.pt", line 1' in checked.stderr and "SyntaxError: " in checked.stderr and "gradnb" not in checked.stderr


def test_a_package_that_fails_while_it_is_imported_shows_its_own_frames(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "package" / "train.py").write_text(HEALTHY)
    checked = gradnb(tmp_path, "-m", "package.train")
    assert checked.returncode == 1
    assert 'package/__init__.py", line 1' in checked.stderr
    assert checked.stderr.endswith("ModuleNotFoundError: No module named 'nothing_of_this_name'\n")
    assert "gradnb" not in checked.stderr.replace(str(tmp_path), "") and "frozen" not in checked.stderr


def test_a_script_that_closes_its_stderr_gets_no_report_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import sys\nsys.stderr.close()\n")
    done = gradnb(tmp_path, "train.py")
    assert (done.returncode, done.stderr) == (0, "")
