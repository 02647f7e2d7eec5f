"""The rules on the loop, the loss and the user's numbers, on histories made by hand: they speak, fall silent, know their threshold."""

from __future__ import annotations

import math

from tests.monitor.histories import Story, cleared, noise


def test_a_scaler_that_skips_step_after_step_collapses() -> None:
    story = Story("scale-collapsing").steps(20, scale=65536.0)
    for _ in range(14):
        story.history.event(21, "skipped", "")
    assert not story.signs()
    story.history.event(21, "skipped", "")
    story.engine.run()
    (flag,) = story.active
    assert flag.first == 21 and "skipped 15 steps in a row" in flag.text
    assert cleared(story.steps(60, scale=1.0))


def test_a_scale_below_one_that_goes_on_falling_collapses() -> None:
    story = Story("scale-collapsing").steps(30, scale=lambda t: 8.0 / 2 ** (t // 4), event="skipped")
    assert story.active and story.active[0].numbers["scale"] < 1


def test_a_scaler_that_searches_its_range_or_starts_below_one_is_well() -> None:
    story = Story("scale-collapsing")
    for _ in range(12):
        story.history.event(1, "skipped", "")
    assert not story.signs() and not story.steps(60, scale=16.0).flags
    assert not Story("scale-collapsing").steps(200, scale=lambda t: 1024.0 if t % 20 else 512.0).flags
    assert not Story("scale-collapsing").steps(2, scale=0.5, event="skipped").steps(60, scale=0.5).flags


def test_clipping_that_leaves_less_than_a_hundredth_at_every_step_is_named() -> None:
    assert Story("always-clipping").steps(50, global_norm=1.0, clipped_norm=9e-3).active
    assert not Story("always-clipping").steps(80, global_norm=1.0, clipped_norm=1.1e-2).flags
    assert not Story("always-clipping").steps(80, global_norm=1.0, clipped_norm=1e-3, update=1.1e-4).flags  # Adam
    assert not Story("always-clipping").steps(99, global_norm=1.0, clipped_norm=lambda t: 1e-3 if t % 40 else 1.0).flags
    assert cleared(Story("always-clipping").steps(50, global_norm=1.0, clipped_norm=1e-3).steps(60, global_norm=1.0, clipped_norm=1.0))


def test_a_gate_that_was_asked_a_hundred_times_and_never_fired_is_named() -> None:
    assert not Story("gate-never-fired").steps(99, gate={"memory": False}).signs()
    story = Story("gate-never-fired").steps(100, gate={"memory": False})
    assert "asked 100 times" in story.active[0].text
    assert cleared(story.steps(40, gate={"memory": True}))


def test_a_mask_that_is_empty_from_the_start_or_all_at_once_is_named_and_one_that_empties_slowly_is_not() -> None:
    assert Story("mask-ratio").steps(20, mask_ratio=1e-4).active
    assert not Story("mask-ratio").steps(40, mask_ratio=0.011).flags
    assert Story("mask-ratio").steps(30, mask_ratio=0.3).steps(30, mask_ratio=1e-4).active[0].numbers["since"] == 31
    assert not Story("mask-ratio").steps(300, mask_ratio=lambda t: 0.9 * 0.97**t).flags
    assert not Story("mask-ratio").steps(100, mask_ratio=lambda t: 0.9 * 0.6**t).flags
    assert cleared(Story("mask-ratio").steps(20, mask_ratio=1e-4).steps(40, mask_ratio=0.2))


def test_a_loss_that_is_nan_is_named_with_its_first_step_and_the_value_before() -> None:
    (flag,) = Story("loss-nan").steps(14, loss=0.25).steps(6, loss=math.nan).active
    assert flag.first == 15 and "it was 0.25" in flag.text
    (flag,) = Story("loss-nan").steps(14, loss=0.25).steps(600, loss=math.nan).active
    assert "since step 15 " in flag.text
    assert cleared(Story("loss-nan").steps(5, loss=math.inf).steps(60, loss=1.0))


def test_a_loss_diverges_when_the_weights_grow_with_it_and_a_value_loss_that_rises_does_not() -> None:
    assert Story("loss-diverging").steps(10, loss=1.0, weight=1.0).steps(20, loss=11.0, weight=3.1).active
    assert not Story("loss-diverging").steps(10, loss=1.0, weight=1.0).steps(50, loss=11.0, weight=2.9, update=1e-2).flags
    assert not Story("loss-diverging").steps(10, loss=1.0, weight=1.0).steps(50, loss=9.0, weight=5.0).flags
    assert Story("loss-diverging").steps(10, loss=1.0).steps(50, loss=11.0, update=0.2).active
    back = Story("loss-diverging").steps(10, loss=1.0, weight=1.0).steps(20, loss=11.0, weight=3.1)
    assert cleared(back.steps(60, loss=1.0))


def test_a_flat_loss_is_a_remark_and_not_while_the_reward_rises() -> None:
    flat = {"loss": lambda t: 2.3 + 0.05 * noise(t)}
    assert Story("loss-flat").steps(250, **flat).active[0].severity == "info"
    assert not Story("loss-flat").steps(190, **flat).flags
    assert not Story("loss-flat").steps(250, loss=lambda t: 2.3 - 0.001 * t + 0.05 * noise(t)).flags
    assert not Story("loss-flat").steps(250, **flat, reward=lambda t: 0.01 * t).flags


def swing(step: int) -> float:
    return 1 + 0.9 * math.cos(step / 3.5)


def test_swings_are_told_from_noise_and_from_progress() -> None:
    assert Story("loss-oscillating").steps(120, loss=swing).active
    assert Story("loss-oscillating").steps(120, loss=lambda t: 1 + 0.9 * (-1) ** t).active
    assert not Story("loss-oscillating").steps(300, loss=lambda t: 1 + 0.9 * noise(t)).flags
    assert not Story("loss-oscillating").steps(300, loss=lambda t: swing(t) * math.exp(-t / 60)).flags
    assert not Story("loss-oscillating").steps(300, loss=lambda t: 3 - 0.01 * t + 0.3 * noise(t)).flags
    assert cleared(Story("loss-oscillating").steps(120, loss=swing).steps(160, loss=0.1))


def test_swings_of_tasks_that_take_turns_or_of_the_data_are_no_fault() -> None:
    turns = Story("loss-oscillating").steps(300, norm=lambda t: [1, 0] if t % 2 else [0, 1], loss=lambda t: 1 + 0.9 * (-1) ** t)
    assert not turns.flags
    assert not Story("loss-oscillating").steps(300, loss=swing, update=9e-3).flags
    assert Story("loss-oscillating").steps(300, loss=swing, update=1.1e-2).flags


def test_a_loss_that_falls_while_the_accuracy_stays_is_named() -> None:
    falls = {"loss": lambda t: 8.2 - 2.8 * min(t, 300) / 300}
    chance = {"accuracy": lambda t: 0.25 + 0.1 * noise(t)}
    assert Story("loss-without-metric").steps(300, **falls, **chance).active
    assert not Story("loss-without-metric").steps(300, **falls, accuracy=lambda t: 0.25 + t / 1000 + 0.1 * noise(t)).flags
    assert not Story("loss-without-metric").steps(300, **falls, accuracy=lambda t: 0.95 + 0.04 * noise(t)).flags
    assert not Story("loss-without-metric").steps(300, loss=2.3, **chance).flags
    assert not Story("loss-without-metric").steps(300, **falls, temperature=1.0).flags


def test_the_field_report_is_recognised_eight_to_seven_and_a_half_at_zero_percent() -> None:
    story = Story("loss-without-metric").steps(200, loss=lambda t: 8.2 - 0.7 * t / 200, accuracy=0.0)
    assert "stayed at 0" in story.active[0].text
    assert cleared(story.steps(200, loss=7.0, accuracy=lambda t: 0.002 * (t - 200)))


FALLS = {"loss": lambda t: 2.0 - t / 300}


def test_a_metric_that_gets_worse_as_the_loss_falls_is_named_with_both_ends() -> None:
    story = Story("loss-without-metric").steps(300, **FALLS, accuracy=lambda t: 0.8 - t / 500 + 0.05 * noise(t))
    (flag,) = story.active
    assert "`accuracy` got worse, from 0.7" in flag.text and "sign" in flag.advice and "stretches" in flag.threshold
    assert Story("loss-without-metric").steps(150, **FALLS, perplexity=lambda t: 20 + t / 4 + noise(t)).active
    assert Story("loss-without-metric").steps(300, **FALLS, fid_score=lambda t: 20 + t / 4 + noise(t)).active
    assert cleared(story.steps(900, loss=1.0, accuracy=lambda t: min(1.0, 0.2 + (t - 300) / 100)))


def test_a_metric_that_falls_is_no_sign_where_its_direction_is_unknown_or_another_one_rises() -> None:
    def falls(t: int) -> float:
        return 0.8 - t / 500

    def silent(**logged: object) -> bool:
        return not Story("loss-without-metric").steps(300, **{**FALLS, **logged}).flags

    assert silent(temperature=falls) and silent(entropy=falls) and silent(fid_score=falls) and silent(error=falls)
    assert silent(precision=falls) and silent(accuracy=falls, recall_f1=lambda t: 0.2 + t / 500)  # classes that are weighed
    assert silent(val_accuracy=falls) and silent(d_accuracy=falls) and silent(domain_accuracy=falls)  # other data; an opponent
    assert silent(accuracy=falls, d_loss=lambda t: 1 + t / 300)  # a game of two
    assert silent(accuracy=falls, loss=lambda t: 1 + t / 300)


def test_a_metric_that_dips_swings_or_loses_little_is_no_sign() -> None:
    def silent(**logged: object) -> bool:
        return not any("worse" in flag.text for flag in Story("loss-without-metric").steps(300, **{**FALLS, **logged}).active)

    assert silent(accuracy=lambda t: 0.95 - t / 3000 + 0.02 * noise(t))  # less than a fifth
    assert silent(accuracy=lambda t: 0.8 - 0.3 * math.sin(t / 60))  # down and up again
    assert silent(accuracy=lambda t: 0.6 + 0.2 * noise(t) + 0.3 * math.sin(t / 20))
    assert silent(accuracy=lambda t: 0.8 if t < 250 else 0.3)  # one break at the end


def test_a_reward_that_falls_is_given_twice_the_steps() -> None:
    falls = {"loss": lambda t: 2.0 - t / 300, "reward": lambda t: 10 - t / 20 + 0.5 * noise(t)}
    assert not Story("loss-without-metric").steps(170, **falls).flags
    assert "`reward` got worse" in Story("loss-without-metric").steps(300, **falls).active[0].text


def test_a_reward_below_zero_is_named_unless_it_rises() -> None:
    low = {"reward": lambda t: -1 + 0.5 * noise(t)}
    assert not Story("reward-negative").steps(199, **low).signs()
    assert Story("reward-negative").steps(200, **low).active
    assert not Story("reward-negative").steps(300, reward=lambda t: -1 + 0.002 * t + 0.3 * noise(t)).flags
    assert not Story("reward-negative").steps(300, reward=lambda t: max(-1, -3 + 0.05 * t) + 0.1 * noise(t)).active  # risen, then level
    assert cleared(Story("reward-negative").steps(200, **low).steps(40, reward=0.5))


def test_a_constant_cost_is_a_remark_and_none_beside_a_return_that_rises() -> None:
    assert Story("reward-negative").steps(300, reward=-1.0).active[0].severity == "info"
    assert not Story("reward-negative").steps(300, reward=-1.0, episode_return=lambda t: -300 + t).flags


def test_a_plateau_is_a_remark_after_a_fall() -> None:
    story = Story("plateau").steps(50, loss=lambda t: 3 - 0.04 * t).steps(210, loss=lambda t: 1 + 0.1 * noise(t))
    assert story.active[0].severity == "info"
    assert not Story("plateau").steps(400, loss=lambda t: 3 - 0.005 * t).flags
    assert not Story("plateau").steps(400, loss=lambda t: 3 + 0.1 * noise(t)).flags
    assert cleared(story.steps(300, loss=lambda t: 1 - (t - 260) / 400))
