"""How many names become few lines."""

from __future__ import annotations

from dataclasses import replace

from gradnb.recorder.recording import Location
from gradnb.report import fold
from gradnb.report.finding import Finding, Hop

from .samples import row


def test_one_module_is_named_once_with_its_parameters() -> None:
    assert fold.names(["blocks.0.theta.weight", "blocks.0.theta.bias"]) == ["blocks.0.theta (weight, bias)"]


def test_a_single_parameter_keeps_its_full_name() -> None:
    assert fold.names(["head.weight"]) == ["head.weight"]
    assert fold.names(["theta"]) == ["theta"]


def test_numbered_layers_fold_into_a_range() -> None:
    names = [f"blocks.{i}.attn.q.weight" for i in range(12)]
    assert fold.names(names) == ["blocks.0..11.attn.q.weight (12 parameters)"]


def test_many_modules_fold_towards_the_root_with_a_count() -> None:
    names = [f"encoder.{part}.{leaf}" for part in "abcdefghij" for leaf in ("weight", "bias")]
    assert fold.names(names) == ["encoder.* (weight, bias: 20 parameters)"]


def test_a_partly_affected_module_says_how_much_of_it() -> None:
    everything = [f"encoder.{part}.{leaf}" for part in "abcdefghij" for leaf in ("weight", "bias")]
    affected = [name for name in everything if name.endswith("weight")]
    assert fold.names(affected, everything) == ["encoder.* (weight: 10 of 20 parameters)"]


def test_a_flat_model_is_cut_with_a_count_of_the_rest() -> None:
    names = [f"layer_{chr(97 + i)}.weight" for i in range(20)]
    assert fold.names(names)[-1] == "14 more parameters"


def test_the_table_never_mixes_states_in_one_line_and_loses_no_parameter() -> None:
    states = ["ok", "none", "zero", "nan", "inf"]
    rows = [row(f"layers.{i}.{leaf}", states[i % 5]) for i in range(60) for leaf in ("weight", "bias")]
    groups, left_out = fold.table(rows, set(), 24)
    assert len(groups) <= 24
    assert all(len({r.gradient for r in group.rows}) == 1 for group in groups)
    assert sum(len(group.rows) for group in groups) + left_out == len(rows)


def test_a_fault_is_in_the_table_even_where_healthy_lines_are_left_out() -> None:
    rows = [row(f"m{chr(97 + i // 26)}{chr(97 + i % 26)}.weight") for i in range(200)] + [row("last.weight", "none")]
    groups, left_out = fold.table(rows, {"last.weight"}, 10)
    assert "last.weight" in [name for group in groups for name in group.names]
    assert left_out == 201 - sum(len(group.names) for group in groups)


def _hop(line: int, state: str) -> Hop:
    where = Location(1, None, line, "get_value", "value = net(x)", filename="<cell>")
    return Hop("linear", "op", where, "float32", (2,), False, "on", state)


def test_the_break_that_the_finding_points_at_is_the_one_where_the_gradient_is_lost_here() -> None:
    hops = [_hop(1, "flowing"), _hop(2, "lost"), _hop(3, "lost"), _hop(4, "lost")]
    finding = Finding("numpy", "error", "", "", "", hops[2].location, path=hops)
    assert [fold.cut_word(finding, nth) for nth in (1, 2, 3)] == ["lost already", "lost here", "lost again"]
    assert fold.cut(finding) is hops[2]
    decorator = replace(finding, location=replace(hops[0].location, line=9))
    assert [fold.cut_word(decorator, nth) for nth in (1, 2)] == ["lost here", "lost again"] and fold.cut(decorator) is hops[1]
