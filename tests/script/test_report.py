"""What the door gives: the line of the file, the exit status, the files."""

from __future__ import annotations

import json
from pathlib import Path

from running import BROKEN, BROKEN_LINE, MODEL, gradnb


def test_a_broken_script_ends_with_status_1_and_its_line_is_named_everywhere(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(BROKEN + "    sys.exit(0)\n")
    done = gradnb(tmp_path, "--json", "out.json", "--html", "out.html", "train.py")
    assert done.returncode == 1
    assert "error[detach]" in done.stderr and f"--> {script}, line {BROKEN_LINE}, in forward" in done.stderr
    data = json.loads((tmp_path / "out.json").read_text())
    assert (data["schema"], data["verdict"], "ranks" in data) == (1, "error", False)
    location = data["findings"][0]["location"]
    assert (location["file"], location["cell"], location["line"]) == (str(script), None, BROKEN_LINE)
    assert data["findings"][0]["affected"] == ["encoder.weight", "encoder.bias"]
    assert "h.detach()" in (tmp_path / "out.html").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.html", "out.json", "train.py"]


def test_a_script_that_fails_by_itself_keeps_its_status_whatever_is_found(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(BROKEN + "    sys.exit(3)\n")
    done = gradnb(tmp_path, "--quiet", "train.py")
    assert done.returncode == 3
    assert done.stderr.count("error[detach]") == 1


def test_a_name_that_no_module_has_is_told(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(BROKEN)
    done = gradnb(tmp_path, "--model", "modle", "train.py")
    assert "note: no module is called modle (modules here: model)" in done.stderr


def test_the_json_of_a_run_full_of_nan_can_be_read_by_every_reader(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(BROKEN.replace("h.detach()", "h * float('nan')"))
    assert gradnb(tmp_path, "--quiet", "--json", "out.json", "train.py").returncode == 1

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    data = json.loads((tmp_path / "out.json").read_text(), parse_constant=refuse)
    assert {(row["gradient"], row["grad_norm"]) for row in data["parameters"]} == {("nan", None)}
    assert data["losses"][0]["value"] is None


def test_a_script_that_trains_nothing_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('nothing')\n")
    done = gradnb(tmp_path, "train.py")
    assert done.returncode == 0
    assert "no backward() ran in this process" in done.stderr and "%%gradcheck" not in done.stderr


def test_a_script_among_the_installed_packages_is_the_users_code_too(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(BROKEN)
    # as if packages were installed where the script lies
    patch = f"sysconfig.get_paths = lambda *a, real=sysconfig.get_paths: {{**real(), 'purelib': {str(tmp_path)!r}}}\n"
    (tmp_path / "sitecustomize.py").write_text("import sysconfig\n" + patch)
    done = gradnb(tmp_path, "train.py", path=tmp_path)
    assert f"line {BROKEN_LINE}, in forward" in done.stderr and done.returncode == 1


def test_a_script_may_preflight_and_check_by_itself(tmp_path: Path) -> None:
    own = (
        "    import gradnb\n"
        "    report = gradnb.preflight(Net(), lambda model, batch: model(batch).mean(), torch.ones(2, 4))\n"
        "    print(report.verdict, len(report.parameters))\n"
    )
    (tmp_path / "train.py").write_text(MODEL + "if __name__ == '__main__':\n" + own + "    main()\n")
    done = gradnb(tmp_path, "train.py")
    assert done.stdout.startswith("ok 4\n") and done.returncode == 0
    assert done.stderr.startswith("gradcheck: every trainable parameter gets a gradient (4 parameters, 3 steps recorded)\n")
