"""A script under gradnb against the same script under Python alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from running import HEALTHY, MAIN, MODEL, gradnb, python

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
    "raises": "    main()\n    torch.ones(2) @ torch.ones(3)\n",
    "raises from another error": "    try:\n        nn.functional.cross_entropy(torch.ones(2, 3), torch.ones(5).long())\n"
    "    except ValueError as error:\n        raise KeyError('missing') from error\n",
    "has its own hook": "    sys.excepthook = lambda *error: print('hook', error[0], error[2].tb_lineno, file=sys.stderr)\n    1 / 0\n",
    "exits with a number": "    main()\n    sys.exit(3)\n",
    "exits with words": "    sys.exit('no data')\n",
    "exits with nothing": "    sys.exit()\n",
    "ends at once": "    main()\n    import os\n    os._exit(7)\n",
    "interrupts itself": "    raise KeyboardInterrupt\n",
}


@pytest.mark.parametrize("ending", list(ENDINGS))
def test_a_script_ends_as_it_would_alone(tmp_path: Path, ending: str) -> None:
    text = MODEL.replace("self.head(h)", "self.head(h.clone())") + MAIN.replace("    main()\n", ENDINGS[ending])
    (tmp_path / "train.py").write_text(text)
    alone, checked = python(tmp_path, "train.py"), gradnb(tmp_path, "--quiet", "train.py")
    assert (checked.returncode, checked.stdout, checked.stderr) == (alone.returncode, alone.stdout, alone.stderr)


@pytest.mark.parametrize("text", ["import torch\nx = 1\nx = = 2\n", "x = 'abc\n", "x = 1\n\0", "def f():\nreturn 1\n"])
def test_what_is_no_python_is_shown_at_its_line_as_python_shows_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.py").write_text(text)
    checked = gradnb(tmp_path, "broken.py")
    assert checked.returncode == 1
    assert "Error: " in checked.stderr and "gradnb" not in checked.stderr and "runpy" not in checked.stderr
    if "\0" not in text:
        assert checked.stderr == python(tmp_path, "broken.py").stderr


def test_a_package_that_fails_while_it_is_imported_shows_its_own_frames(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "package" / "train.py").write_text(HEALTHY)
    checked = gradnb(tmp_path, "-m", "package.train")
    assert checked.returncode == 1
    assert 'package/__init__.py", line 1' in checked.stderr
    assert checked.stderr.endswith("ModuleNotFoundError: No module named 'nothing_of_this_name'\n")
    assert "gradnb" not in checked.stderr.replace(str(tmp_path), "") and "frozen" not in checked.stderr


def test_a_pipe_that_closes_early_is_no_error_of_gradnbs(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(HEALTHY + "    sys.stderr.close()\n")
    done: subprocess.CompletedProcess[str] = gradnb(tmp_path, "train.py")
    assert (done.returncode, done.stderr) == (0, "")
