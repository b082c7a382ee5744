"""Learning-rate schedules: values at their corners."""

import math

import pytest

from clipdr.training import schedules


def test_half_cosine_falls_from_one_to_zero():
    assert [schedules.half_cosine(done) for done in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert schedules.half_cosine(3, 4) == schedules.half_cosine(0.75)


def test_warmup_cosine_rises_linearly_then_falls():
    rates = [schedules.warmup_cosine(step, 100, 50) for step in range(100)]
    assert rates[0] == 1 / 50
    assert rates[49] == rates[50] == 1.0
    assert rates[99] < 0.002
    assert rates[50:] == sorted(rates[50:], reverse=True)


def test_warmup_cosine_without_warmup_is_the_cosine():
    assert schedules.warmup_cosine(0, 8, 0) == 1.0
    assert schedules.warmup_cosine(2, 8, 0) == 0.5 * (1 + math.cos(math.pi * 2 / 8))


def test_warmup_as_long_as_the_training_never_divides_by_zero():
    assert [schedules.warmup_cosine(step, 2, 2) for step in range(3)] == [0.5, 1.0, 1.0]


def test_factor_of_each_schedule_equals_values_by_hand():
    assert schedules.factor("constant", 0.9, 0.5) == 1.0
    assert [schedules.factor("step", done, 0.6) for done in (0.59, 0.6)] == [1.0, 0.1]
    assert schedules.factor("cosine", 0.5, 0.6) == pytest.approx(0.5)
