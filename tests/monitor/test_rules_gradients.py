"""The rules on gradients and steps, on histories made by hand: they speak, fall silent, and know where their threshold lies."""

from __future__ import annotations

import math

from gradnb.monitor.history import Layer
from tests.monitor.histories import Story, cleared

PARTS = ("agent.fc1", "agent.fc2", "qwen.fc1", "qwen.fc2")


def test_a_sub_model_at_exactly_zero_is_named_by_step_five() -> None:
    story = Story("no-gradient", PARTS).steps(5, norm=[1.0, 1.0, 0.0, 0.0], missing=[0, 0, 1, 1])
    (flag,) = story.active
    assert flag.severity == "error" and flag.layers == ["qwen.fc1", "qwen.fc2"]
    assert "`qwen` gets no gradient at all" in flag.text and "last 5 optimizer steps" in flag.text


def test_a_sub_model_that_gets_its_gradient_later_is_cleared() -> None:
    story = Story("no-gradient", PARTS).steps(10, norm=[1.0, 1.0, 0.0, 0.0]).steps(40, norm=2.34e-4)
    assert cleared(story)


def test_one_gradient_in_a_hundred_steps_is_enough_and_a_tiny_one_is_not_zero() -> None:
    assert not Story("no-gradient", PARTS).step([1, 1, 1e-30, 1e-30]).steps(90, norm=[1.0, 1.0, 0.0, 0.0]).flags
    assert Story("no-gradient", PARTS).step([1, 1, 1, 1]).steps(110, norm=[1.0, 1.0, 0.0, 0.0]).flags


def test_what_no_optimizer_was_about_to_move_lacks_nothing() -> None:
    assert not Story("no-gradient", PARTS).steps(200, norm=[1.0, 1.0, None, None]).flags


def test_a_part_of_a_model_is_named_after_twenty_steps_and_a_small_one_is_a_remark() -> None:
    half = Story("no-gradient").steps(19, norm=[0.0, 1.0])
    assert not half.signs()
    assert half.steps(1, norm=[0.0, 1.0]).active[0].severity == "warning"
    small = Story("no-gradient", [f"l{i}" for i in range(20)]).steps(30, norm=[0.0] + [1.0] * 19)
    assert small.active[0].severity == "info"


def test_a_loss_that_is_exactly_zero_after_a_while_starves_nobody_but_one_that_never_gave_a_gradient_does() -> None:
    assert not Story("no-gradient").steps(30, norm=1.0).steps(300, norm=0.0).flags
    assert Story("no-gradient").steps(10, norm=0.0).active[0].severity == "error"


def test_weights_that_are_all_zero_are_named_as_the_reason() -> None:
    (flag,) = Story("no-gradient").steps(20, norm=[0.0, 1.0], weight=[0.0, 1.0]).active
    assert "its weights are all zero" in flag.text and "kaiming_normal_" in flag.advice


def test_a_sub_model_that_is_frozen_while_an_optimizer_holds_it_is_named_until_it_is_unfrozen() -> None:
    story = Story("no-gradient", ("agent.fc1", "agent.fc2"))
    story.history.event(1, "frozen", "qwen")
    (flag,) = story.steps(10).active
    assert flag.severity == "error" and "requires_grad=False" in flag.text and "0.00e+00" in flag.text
    story.history.layers.append(Layer("qwen.fc1", "qwen", 100, [(100,)]))
    assert cleared(story.steps(40, norm=[1.0, 1.0, 1.0]))


def test_experts_that_were_not_routed_to_are_a_remark_and_the_front_of_a_stack_is_not() -> None:
    experts = Story("no-gradient", ("gate", "experts.0.up", "experts.1.up", "experts.2.up"))
    for layer in experts.history.layers:
        layer.model = ""
    assert [flag.severity for flag in experts.steps(30, norm=[1, 1, 0, 1]).active] == ["info"]
    stack = Story("no-gradient", ("blocks.0.up", "blocks.1.up", "blocks.2.up", "head"))
    for layer in stack.history.layers:
        layer.model = ""
    assert [flag.severity for flag in stack.steps(30, norm=[0, 0, 1, 1]).active] == ["warning"]


def test_vanishing_needs_a_small_gradient_a_small_share_and_a_layer_that_stands_still() -> None:
    assert Story("vanishing").steps(20, norm=[1e-8, 1.0], update=[1e-7, 1e-3]).active[0].layers == ["fc1"]
    assert not Story("vanishing").steps(20, norm=[1.1e-5, 1.0], update=1e-7).flags  # root mean square 1.1e-6
    assert not Story("vanishing").steps(20, norm=[1e-8, 9e-5], update=1e-7).flags  # 1e-4 of the largest
    assert not Story("vanishing").steps(20, norm=[1e-8, 1.0], update=1e-5).flags  # Adam makes up for it
    assert not Story("vanishing").steps(40, norm=lambda t: [1e-10 * 1.1**t, 1.0]).flags  # a branch that starts at zero
    assert cleared(Story("vanishing").steps(20, norm=[1e-8, 1.0]).steps(40, norm=1.0))


def test_exploding_needs_more_than_a_large_norm() -> None:
    assert not Story("exploding").steps(50, norm=1e5, weight=1.0, update=1e-3, loss=1e9).flags
    assert Story("exploding").steps(20, norm=1e5, update=0.2).active
    assert not Story("exploding").steps(20, norm=500.0, update=0.2).flags
    assert not Story("exploding").steps(10, norm=1e5, update=0.9).flags  # Adam's first steps
    assert cleared(Story("exploding").steps(20, norm=1e5, update=0.2).steps(60, norm=1.0, update=1e-3))


def test_a_norm_that_grew_a_thousandfold_explodes_when_the_loss_grew_with_it() -> None:
    assert Story("exploding").steps(60, norm=0.5).steps(20, norm=1.5e3).active
    assert not Story("exploding").steps(60, norm=0.5).steps(20, norm=400.0).flags
    assert Story("exploding").steps(60, norm=0.5, loss=1.0).steps(20, norm=1.5e3, loss=11.0).active
    assert not Story("exploding").steps(60, norm=0.5, loss=1.0).steps(20, norm=1.5e3, loss=9.0).flags


def test_a_loss_that_is_a_steep_power_of_the_weights_explodes_but_not_near_a_good_fit() -> None:
    steep = Story("exploding").steps(10, norm=1e5, weight=10.0, loss=7e3).active  # 1e5 * 14.1 * sqrt(2) / 7e3 = 286
    assert "more `loss`" in steep[0].text
    assert not Story("exploding").steps(10, norm=1e5, weight=10.0, loss=2e4).flags
    assert not Story("exploding").steps(10, norm=1.0, weight=10.0, loss=1e5).steps(40, norm=1e5, weight=10.0, loss=1.0).flags


def test_the_first_step_and_layer_with_a_nan_are_named() -> None:
    story = Story("nan", ("a", "b", "c")).steps(12, norm=1.0).step([math.nan, math.nan, 1.0], bad=[4, 4, 0]).steps(7, norm=math.nan)
    (flag,) = story.active
    assert (flag.first, flag.layers) == (13, ["a", "b"])
    assert "`b` and of 1 before it (of 3 layers" in flag.text and "NaN at step 13" in flag.text


def test_a_step_that_the_scaler_left_out_is_no_fault() -> None:
    assert not Story("nan").steps(8, norm=1.0).step(math.inf, event="skipped").steps(3, norm=1.0).signs()
    assert Story("nan").steps(8, norm=1.0).step(math.inf).signs()


def test_a_nan_in_the_loss_puts_the_birth_into_the_forward_pass() -> None:
    (flag,) = Story("nan").steps(9, norm=1.0, loss=1.0).step(math.nan, loss=math.nan).active
    assert "`loss` is nan, so it was born in the forward pass" in flag.text


def test_a_nan_that_is_over_is_cleared_and_one_that_lasts_keeps_its_step() -> None:
    assert cleared(Story("nan").steps(9, norm=1.0).step(math.nan).steps(60, norm=1.0))
    lasting = Story("nan").steps(40, norm=1.0).step(math.nan, event="nan").steps(500, norm=math.nan)
    assert lasting.active[0].first == 41 and "at step 41" in lasting.active[0].text


def test_gradients_that_pile_up_grow_with_the_step_number_in_all_layers() -> None:
    assert Story("gradients-pile-up").steps(10, norm=lambda t: [0.9 * t, 1.8 * t]).active
    assert not Story("gradients-pile-up").steps(10, norm=lambda t: [0.9 * t, 1.8]).flags
    assert not Story("gradients-pile-up").steps(10, norm=lambda t: t**0.5).flags
    assert not Story("gradients-pile-up").steps(10, norm=lambda t: 1.5**t).flags


def test_updates_above_a_tenth_of_the_weights_are_too_large() -> None:
    assert Story("update-too-large").steps(20, update=0.11).active
    assert not Story("update-too-large").steps(20, update=0.1).flags
    assert not Story("update-too-large").steps(20, update=[0.5, 0.01]).flags  # half of the numbers are not more than half
    assert not Story("update-too-large").steps(10, update=0.9).flags and Story("update-too-large").steps(3, update=1.1).active
    assert Story("update-too-large").steps(10, weight=lambda t: 10.0**t, update=0.05).active  # Adam at lr=1
    assert not Story("update-too-large").steps(30, weight=lambda t: 0.1 * t, update=0.05).flags  # below a root mean square of 1
    assert cleared(Story("update-too-large").steps(20, update=0.5).steps(60, update=0.01))


def test_updates_below_a_millionth_from_the_first_step_on_are_too_small() -> None:
    tiny = {"update": 9e-7, "weight": 10.0, "lr": 1e-8}
    assert Story("update-too-small").steps(20, **tiny).active
    assert not Story("update-too-small").steps(20, **{**tiny, "update": 1.1e-6}).flags
    assert not Story("update-too-small").steps(5, update=1e-3, weight=10.0).steps(100, **tiny).flags  # the end of a schedule
    assert not Story("update-too-small").steps(100, **{**tiny, "lr": lambda t: 1e-9 * t}).flags  # warm-up
    assert not Story("update-too-small").steps(50, norm=1e-6, **tiny).flags  # converged: no gradient either
    assert cleared(Story("update-too-small").steps(20, **tiny).steps(60, update=1e-3, weight=10.0, lr=1e-3))


def test_weights_that_stay_to_the_last_bit_are_named_with_whether_an_optimizer_holds_them() -> None:
    (flag,) = Story("weights-unchanged").steps(30, weight=[3.0, 3.0], update=[0.0, 1e-3]).active
    assert flag.layers == ["fc1"] and "its steps do not move them" in flag.text
    (flag,) = Story("weights-unchanged", held=False).steps(30, weight=3.0).active
    assert "no optimizer that steps holds them" in flag.text
    assert not Story("weights-unchanged").steps(40, weight=3.0, update=1e-9).flags
    assert not Story("weights-unchanged").steps(40, norm=0.0, weight=3.0, update=0.0).flags
    assert not Story("weights-unchanged").steps(40, norm=1e-5, weight=3.0, update=0.0).flags  # at its optimum
    assert not Story("weights-unchanged").steps(30, weight=3.0, update=1e-3).steps(100, weight=3.1, update=0.0).flags
    assert cleared(Story("weights-unchanged").steps(30, weight=3.0, update=0.0).steps(60, weight=lambda t: 3 + t, update=1e-3))


def test_an_optimizer_that_holds_none_of_what_is_watched_is_named_at_once() -> None:
    story = Story("weights-unchanged", held=False)
    story.history.event(0, "foreign", "")
    assert "its steps move something else" in story.signs()[0].text
    story.history.layers[0].held = True
    assert not story.signs()


def test_layers_are_out_of_balance_when_their_steps_are_four_orders_apart() -> None:
    assert Story("out-of-balance").steps(20, update=[9e-7, 1e-2]).active[0].layers == ["fc1"]
    assert not Story("out-of-balance").steps(20, update=[1.1e-6, 1.0]).flags
    assert not Story("out-of-balance").steps(20, update=[1e-8, 9e-5]).flags
    assert cleared(Story("out-of-balance").steps(20, update=[9e-7, 1e-2]).steps(60, update=1e-3))


def test_dead_and_saturated_layers_are_named_after_two_looks() -> None:
    for rule, series in (("dead-relu", "dead__body.1"), ("saturated", "saturated__body.1")):
        assert not Story(rule).steps(1, **{series: 0.9}).signs()
        (flag,) = Story(rule).steps(2, **{series: 0.51}).active
        assert flag.layers == ["body.1"]
        assert not Story(rule).steps(10, **{series: 0.5}).flags
        assert cleared(Story(rule).steps(5, **{series: 0.9}).steps(40, **{series: 0.1}))
