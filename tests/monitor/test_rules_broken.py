"""Silent bugs as real training loops, watched for real: each is flagged, with the right reason and no other."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch

import gradnb
from tests.monitor import broken

# The program, the rule that must speak, what it must say, and what else is true of this run.
BUGS = [
    (broken.frozen_part, "no-gradient", "`qwen` gets no gradient at all (0.00e+00)", ()),
    (broken.detached_part, "no-gradient", "`qwen` gets no gradient at all", ()),
    (broken.zero_init, "no-gradient", "its weights are all zero", ()),
    (broken.dead_units, "dead-relu", "100 % of the units of `3`", ("no-gradient",)),
    (broken.saturated_units, "saturated", "of what `1` gives lies where it is flat", ()),
    (broken.vanishing_depth, "vanishing", "next to nothing reaches `0`", ()),
    (broken.vanishing_depth_sgd, "vanishing", "next to nothing reaches `0`", ("out-of-balance",)),
    (broken.exploding_recurrence, "exploding", "most of it in `rnn`", ()),
    (broken.log_of_zero, "nan", "NaN at step 41; `loss` is nan, so it was born in the forward pass", ("loss-nan",)),
    (broken.log_of_zero, "loss-nan", "since step 41", ("nan",)),
    (broken.rate_too_large, "update-too-large", "(learning rate 1)", ("loss-diverging",)),
    (broken.rate_too_large_sgd, "loss-diverging", "the weights have grown", ("update-too-large", "out-of-balance")),
    (broken.rate_too_large_sgd, "update-too-large", "(learning rate 50)", ("loss-diverging", "out-of-balance")),
    (broken.rate_too_small, "update-too-small", "a learning rate of 1.00e-08", ()),
    (broken.one_group_too_slow, "out-of-balance", "`0` by", ()),
    (broken.other_parameters, "weights-unchanged", "holds none of the parameters that are watched", ()),
    (broken.replaced_head, "weights-unchanged", "no optimizer that steps holds them", ("gradients-pile-up",)),
    (broken.no_zero_grad, "gradients-pile-up", "grows with the number of steps", ()),
    (broken.scale_collapse, "scale-collapsing", "steps in a row", ()),
    (broken.clipped_to_nothing, "always-clipping", "to 1.00e-03", ()),
    (broken.momentum_swings, "loss-oscillating", "gets nowhere", ("update-too-large",)),
    (broken.loss_without_metric, "loss-without-metric", "`accuracy` stayed at", ()),
    (broken.loss_of_the_wrong_sign, "loss-without-metric", "`accuracy` got worse", ()),
    (broken.shuffled_labels, "loss-without-metric", "`val_accuracy` stayed at", ()),
    (broken.shut_gate, "gate-never-fired", "`memory` was asked 200 times", ()),
    (broken.negative_reward, "reward-negative", "does not rise", ()),
    (broken.empty_mask, "mask-ratio", "from the start", ()),
]


def run(program: Callable, seed: int = 0, **options):
    """The monitor of a program that has run to its end."""
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        monitor = program(lambda *args, **more: gradnb.watch(*args, **more, **options))
        monitor.stop()
    assert monitor.problem is None
    assert [text for _, kind, text in monitor.history.events if kind == "note"] == []
    return monitor


@pytest.mark.parametrize("program, rule, words, also", BUGS, ids=lambda value: getattr(value, "__name__", None))
def test_a_silent_bug_is_flagged_with_its_reason(program, rule, words, also) -> None:
    flags = [flag for flag in run(program).flags if flag.severity in ("error", "warning")]
    found = [flag for flag in flags if flag.rule == rule]
    assert found and words in found[0].text, [str(flag) for flag in flags]
    assert found[0].advice and found[0].source and found[0].threshold
    assert {flag.rule for flag in flags} <= {rule, *also}


def test_the_first_verdict_on_a_lost_sub_model_comes_within_ten_steps() -> None:
    (flag,) = run(lambda watch: broken.detached_part(watch, steps=10)).flags
    assert flag.first == 1 and flag.active


@pytest.mark.parametrize("program", [broken.detached_part, broken.vanishing_depth, broken.shut_gate], ids=lambda one: one.__name__)
def test_every_tenth_step_is_enough(program) -> None:
    def longer(watch):
        return program(watch, steps=400)

    assert [flag.rule for flag in run(longer, every=10).flags if flag.severity != "info"]


def test_a_flag_is_raised_once_and_its_numbers_are_those_of_the_last_check() -> None:
    (flag,) = run(broken.shut_gate).flags
    assert flag.first < flag.last == 200
    assert flag.numbers["asked"] == 200
