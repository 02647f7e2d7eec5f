"""Healthy training programs of 300 steps and more: not one flag that is more than a remark."""

from __future__ import annotations

import inspect

import pytest

from tests.monitor import healthy, healthy_agents, healthy_more
from tests.monitor.test_rules_broken import run

PROGRAMS = [
    program
    for module in (healthy, healthy_more, healthy_agents)
    for _, program in inspect.getmembers(module, inspect.isfunction)
    if program.__module__ == module.__name__ and list(inspect.signature(program).parameters) == ["watch", "steps"]
]


def test_there_are_programs_of_many_kinds() -> None:
    assert len(PROGRAMS) >= 20
    assert all(inspect.signature(program).parameters["steps"].default >= 300 for program in PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_healthy_program_is_met_with_silence(program) -> None:
    monitor = run(program)
    assert monitor.history.step >= 280
    assert [str(flag) for flag in monitor.flags if flag.severity != "info"] == []


@pytest.mark.parametrize("program", [healthy.transformer, healthy.taking_turns, healthy_more.gan], ids=lambda program: program.__name__)
def test_sampling_every_tenth_step_raises_no_alarm_either(program) -> None:
    monitor = run(lambda watch: program(watch, steps=600), every=10)
    assert [str(flag) for flag in monitor.flags if flag.severity != "info"] == []
