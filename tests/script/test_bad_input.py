"""Command lines that cannot be used: one clear line, status 2, and nothing was run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from running import gradnb

from gradnb.script import main

TRAIN = "open('it_ran', 'w').close()\n"
SERIOUS = [
    (("nowhere.py",), "nowhere.py does not exist (looked in "),
    (("package",), "package is a folder; give the Python file in it"),
    (("--quiet",), "the following arguments are required: script"),
    (("--nope", "train.py"), "unrecognized arguments: --nope"),
    (("--json", "no/such/folder.json", "train.py"), "--json no/such/folder.json cannot be written: No such file or directory; nothing was"),
]
MORE = [
    (("train",), "train does not exist; train.py does"),
    (("numpy",), "numpy does not exist; is it a module? Then: -m numpy"),
    (("-m", "nowhere.train"), "-m nowhere.train: there is no module of this name"),
    (("-m", "package"), "-m package is a package without __main__; name a module in it"),
    (("-m", "math"), "-m math: there is no Python code to run"),
    (("-m", ".train"), "-m .train: there is no module of this name"),
    (("-m", "train.py"), "-m train.py names a file: leave out -m"),
    (("-m",), "the following arguments are required: script"),
    (("--steps", "0", "train.py"), "--steps 0 records nothing: give a whole number of 1 or more"),
    (("--steps", "many", "train.py"), "argument --steps: invalid int value: 'many'"),
    (("--steps",), "argument --steps: expected one argument"),
    (("--html", "package", "train.py"), "--html package cannot be written: Is a directory; nothing was run"),
    (("--json", "train.py", "train.py"), "a Python file would be overwritten"),
    (("--json", "a", "--html", "a", "train.py"), "give each its own file"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    return tmp_path


def assert_refused(folder: Path, status: object, err: str, said: str) -> None:
    assert status == 2
    last = err.splitlines()[-1]
    assert last.startswith("python -m gradnb: error: ") and said in last
    assert "Traceback" not in err
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == ["package", "train.py"]
    assert (folder / "train.py").read_text() == TRAIN


@pytest.mark.parametrize(("arguments", "said"), SERIOUS)
def test_it_says_what_was_given_and_runs_nothing(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    done = gradnb(folder, *arguments)
    assert_refused(folder, done.returncode, done.stderr, said)


@pytest.mark.parametrize(("arguments", "said"), MORE)
def test_so_it_does_for_every_other_slip(
    folder: Path, arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert_refused(folder, ended.value.code, capsys.readouterr().err, said)


def test_help_says_where_the_report_goes_and_what_the_status_means(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert "stdout stays the script's own" in out and "exit status:" in out
