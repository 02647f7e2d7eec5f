"""A cell under the magic against the same cell without it, in this process."""

from __future__ import annotations

import ast
import linecache
import re

import pytest
from in_process import Shell

from gradnb.notebook import RUNNER_CODE, cell_numbers

MAGIC = "%%gradcheck --quiet\n"


@pytest.mark.parametrize("interactivity", ["all", "last", "last_expr", "none", "last_expr_or_assign"])
@pytest.mark.parametrize(
    "body",
    [
        "1\n2",
        "1\n2;",
        "x = 3",
        "x = 3;",
        "x: int = 4",
        "a, b = 1, 2",
        "for i in range(2):\n    i",
        "None",
        "x = 1\nx  # note",
        "def f():\n    return 1",
    ],
)
def test_the_same_values_are_shown_as_without_the_magic(shell: Shell, body: str, interactivity: str) -> None:
    shell.ip.ast_node_interactivity = interactivity
    # What a cell shows is numbered, so both run as the first cell of a session.
    shell.ip.execution_count = 1
    plain = shell.run(body)
    shell.fresh(shell.capsys)
    shell.ip.ast_node_interactivity = interactivity
    shell.ip.execution_count = 1
    watched = shell.run(MAGIC + body)
    assert (plain.error, watched.error) == (None, None)
    assert (watched.out, watched.value) == (plain.out, plain.value)


@pytest.mark.parametrize(
    "body", ["x = = 1", "x = 1\nif x:\nprint(x)", "x = (1,\n", "'abc", "def f(:\n    pass", "x = 1\nreturn x", "print(1)\nbreak"]
)
def test_code_that_does_not_compile_looks_as_without_the_magic(shell: Shell, body: str) -> None:
    plain, watched = shell.run(body), shell.run(MAGIC + body)
    assert type(watched.error).__name__ == type(plain.error).__name__
    # The plain cell is one line shorter, and has another name.
    later = re.sub(r"line (\d+)", lambda found: f"line {int(found[1]) + 1}", plain.out)
    assert [text for text in watched.out.splitlines() if "ine " not in text] == [text for text in later.splitlines() if "ine " not in text]
    assert re.findall(r"line \d+", watched.out) == re.findall(r"line \d+", later)


def test_statements_before_one_that_does_not_compile_have_run_as_without_the_magic(shell: Shell) -> None:
    assert shell.run(MAGIC + "first = 1\nreturn first").error is not None
    assert shell.names["first"] == 1


def test_an_error_shows_the_cell_with_the_line_of_the_magic(shell: Shell) -> None:
    ran = shell.run(MAGIC + "x = 1\nx / 0")
    assert isinstance(ran.error, ZeroDivisionError)
    assert "      1 %%gradcheck --quiet\n      2 x = 1\n----> 3 x / 0\n" in ran.out
    assert ran.out.count("Traceback") == 1 and "gradnb" not in ran.out


def test_the_tracebacks_of_a_chain_hold_no_frame_of_ours(shell: Shell) -> None:
    body = "import torch\ntry:\n    torch.ones(2) @ torch.ones(3)\nexcept RuntimeError as error:\n    raise ValueError('why') from error"
    ran = shell.run(MAGIC + body)
    assert "----> 4     torch.ones(2)" in ran.out and "----> 6     raise ValueError" in ran.out
    assert "gradnb" not in ran.out and "__torch_function__" not in ran.out


def test_a_syntax_error_while_running_shows_the_users_frames_only(shell: Shell) -> None:
    ran = shell.run(MAGIC + "def inner():\n    exec('1 +')\n\ninner()")
    assert ran.out.count("SyntaxError") == 1
    assert "gradnb" not in ran.out and "interactiveshell" not in ran.out
    assert ran.out.index("line 5") < ran.out.index("line 3") or ran.out.index(":5") < ran.out.index(":3")


def test_an_exception_group_shows_the_users_frames_only(shell: Shell) -> None:
    ran = shell.run(MAGIC + "\nraise ExceptionGroup('several', [ValueError('one'), KeyError('two')])")
    shown = ran.out + ran.err
    assert "line 3" in shown and "ValueError: one" in shown
    assert "gradnb" not in shown and "interactiveshell" not in shown


def test_an_exception_that_refuses_attributes_goes_on_all_the_same(shell: Shell) -> None:
    refuses = "class Stiff(Exception):\n    def __setattr__(self, name, value):\n        raise TypeError(name)\n"
    ran = shell.run(MAGIC + refuses + "raise Stiff('no')")
    assert type(ran.error).__name__ == "Stiff" and "----> 5 raise Stiff('no')" in ran.out


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        (MAGIC + "\n\n1 / 0", 4),
        ("\n\n" + MAGIC + "\n1 / 0", 5),
        ("    %%gradcheck --quiet\n    if True:\n        1 / 0", 3),
        (MAGIC + "!true \\\n  --\n\n%config \\\n  IPCompleter\n1 / 0", 7),
        (MAGIC + "text = '''\n\n%not a magic\n\n'''\n1 / 0", 7),
        ("%%time\n" + MAGIC + "1 / 0", 3),
        ("%%time\n\n" + MAGIC + "\n1 / 0", 5),
    ],
)
def test_line_numbers_are_those_of_the_editor(shell: Shell, cell: str, line: int) -> None:
    ran = shell.run(cell)
    assert cell.splitlines()[line - 1].strip() == "1 / 0"
    arrows = [text for text in ran.out.splitlines() if "-> " in text]
    assert arrows[-1].split("> ")[1].split()[0] == str(line)


def test_a_future_import_lasts_as_it_does_without_the_magic(shell: Shell) -> None:
    shell.run(MAGIC + "from __future__ import annotations\ndef f(x: nowhere): ...")
    assert shell.names["f"].__annotations__ == {"x": "nowhere"}
    shell.run("def g(x: nowhere): ...")
    assert shell.names["g"].__annotations__ == {"x": "nowhere"}


def test_the_shells_transformers_of_the_tree_apply(shell: Shell) -> None:
    class Doubled(ast.NodeTransformer):
        def visit_Constant(self, node: ast.Constant) -> ast.AST:
            return ast.copy_location(ast.Constant(node.value * 2), node) if node.value == 21 else node

    transformer = Doubled()
    shell.ip.ast_transformers.append(transformer)
    try:
        assert shell.run(MAGIC + "21").value == 42
    finally:
        shell.ip.ast_transformers.remove(transformer)


@pytest.mark.parametrize("body", ["await f()", "x = [await f() for _ in y]", "async with a as b:\n    pass", "async for a in b:\n    pass"])
def test_code_to_be_awaited_is_refused_before_anything_runs(shell: Shell, body: str) -> None:
    ran = shell.run(MAGIC + "ran = True\n" + body)
    assert "line 3 awaits" in ran.err and "with gradnb.check():" in ran.err and "Traceback" not in ran.out + ran.err
    assert "ran" not in shell.names


def test_an_async_function_is_no_reason_to_refuse(shell: Shell) -> None:
    assert shell.run(MAGIC + "async def f():\n    await g()\n1").value == 1


def test_exit_asks_for_the_exit_that_it_always_asks_for(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(type(shell.ip), "ask_exit", lambda self: asked.append(True), raising=False)
    shell.run(MAGIC + "exit")
    assert asked == [True]


def test_sys_exit_goes_through(shell: Shell) -> None:
    with pytest.warns(UserWarning, match="To exit"):
        ran = shell.run(MAGIC + "import sys\nsys.exit(3)")
    assert isinstance(ran.error, SystemExit) and ran.error.code == 3


def test_the_stack_below_the_users_frames_is_marked(shell: Shell) -> None:
    shell.run(MAGIC + "import sys\ncodes = []\nat = sys._getframe()\nwhile at:\n    codes.append(at.f_code)\n    at = at.f_back")
    codes = shell.names["codes"]
    assert codes[1] in RUNNER_CODE and codes[0].co_filename in linecache.cache


def test_the_numbers_of_all_cells_are_known_the_running_one_too(shell: Shell) -> None:
    shell.ip.user_ns["numbers"] = lambda: cell_numbers(shell.ip)
    first, second = shell.ip.execution_count, shell.ip.execution_count + 1
    shell.run("def early(): ...")
    shell.run(MAGIC + "def late(): ...\nknown = numbers()")
    known, names = shell.names["known"], shell.names
    assert known[names["early"].__code__.co_filename] == first
    assert known[names["late"].__code__.co_filename] == second


def test_a_body_handed_over_by_code_counts_the_magic_as_line_one(shell: Shell) -> None:
    ran = shell.run("get_ipython().run_cell_magic('gradcheck', '--quiet', 'x = 1\\nx / 0\\n')")
    assert "      1 %%gradcheck --quiet\n      2 x = 1\n----> 3 x / 0\n" in ran.out
