"""The folder of rules, what explain() makes of it, what it costs, and the rules of the user's own."""

from __future__ import annotations

import time

import pytest

from gradnb.errors import UsageError
from gradnb.monitor import rules
from gradnb.monitor.flags import SEVERITIES, Engine, found_rules
from gradnb.monitor.rules._own import own
from tests.monitor.histories import Story, cleared, noise

NAMES = [
    "always-clipping",
    "dead-relu",
    "exploding",
    "gate-never-fired",
    "gradients-pile-up",
    "loss-diverging",
    "loss-flat",
    "loss-nan",
    "loss-oscillating",
    "loss-without-metric",
    "mask-ratio",
    "nan",
    "no-gradient",
    "out-of-balance",
    "plateau",
    "reward-negative",
    "saturated",
    "scale-collapsing",
    "update-too-large",
    "update-too-small",
    "vanishing",
    "weights-unchanged",
]
HEADINGS = ["What happens", "Why it matters", "Try", "References"]


def test_the_rules_are_found_by_themselves() -> None:
    # More rules are welcome; none of these may get lost or renamed.
    assert [rule.name for rule in found_rules()] == rules.slugs()
    assert set(NAMES) <= set(rules.slugs())


@pytest.mark.parametrize("rule", found_rules(), ids=lambda rule: rule.name)
def test_a_rule_says_what_why_and_what_to_try_and_where_its_threshold_comes_from(rule) -> None:
    text = rules.explain(rule.name)
    positions = [text.index(f"\n{heading}\n") for heading in HEADINGS]
    assert positions == sorted(positions)
    assert rule.severity in SEVERITIES
    assert rule.threshold and rule.source and rule.reason and rule.advice
    assert rules.summary(rule.name).endswith(".")


def test_explain_lists_all_rules_and_helps_with_a_name_that_none_has() -> None:
    assert all(name in rules.explain() for name in NAMES)
    with pytest.raises(UsageError, match="Did you mean 'vanishing'"):
        rules.explain("vanish")


def test_all_rules_together_take_a_millisecond_or_two_on_a_hundred_layers() -> None:
    story = Story("nan", [f"l{i}" for i in range(100)])
    series = {"loss": lambda t: 5 - 0.01 * t + 0.1 * noise(t), "accuracy": lambda t: t / 300, "reward": lambda t: -1 / t}
    story.steps(300, norm=1.0, weight=10.0, update=1e-3, global_norm=1.0, clipped_norm=0.5, lr=1e-3, **series)
    engine = Engine(story.history)
    engine.run()
    times = []
    for _ in range(20):
        began = time.perf_counter()
        engine.run()
        times.append(time.perf_counter() - began)
    assert engine.flags == []
    assert min(times) < 4e-3  # every tenth step; room for a machine under load


# -- the user's own --------------------------------------------------------------------------------------------------------


def test_a_rule_of_the_users_own_is_one_line() -> None:
    story = Story("nan")
    story.engine = Engine(story.history, rules=[own("hot", when="loss > 10 for 5", text="the loss is above 10")])
    story.steps(10, loss=9.0).steps(4, loss=11.0)
    assert not story.flags
    (flag,) = story.steps(6, loss=11.0).active
    assert (flag.rule, flag.text, flag.threshold) == ("hot", "the loss is above 10", "loss > 10 for 5")
    assert cleared(story.steps(40, loss=1.0))


def test_a_function_of_the_view_serves_as_well_and_waits_for_the_first_value() -> None:
    story = Story("nan")
    story.engine = Engine(story.history, rules=[own("hot", when=lambda view: view.value("loss") > 10, severity="error")])
    story.steps(3).steps(7, loss=11.0)
    assert [flag.severity for flag in story.active] == ["error"]
    assert not story.history.events


@pytest.mark.parametrize("when", ["loss >> 10", "loss", "> 3", "loss > ten", 3, None, lambda: True])
def test_a_condition_that_cannot_be_read_is_refused_with_what_was_expected(when) -> None:
    with pytest.raises(UsageError, match="loss > 10|one argument, the view"):
        own("hot", when=when)


def test_a_severity_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="error, warning, info; given: 'fatal'"):
        own("hot", when="loss > 1", severity="fatal")
