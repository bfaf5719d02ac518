"""Rules of the batch size, worked out by hand."""

import math

import pytest

from bench.errors import UsageError
from bench.optimizers.rules import RULES, ruled
from bench.schema import OptimizerConfig, RuleConfig
from tests.small import small_cell

ADAM = OptimizerConfig("adam", "Adam", lr_log2=[-3, 0])


@pytest.mark.parametrize("name", RULES)
def test_nothing_moves_at_the_reference(name: str) -> None:
    factor, arguments = ruled(ADAM, RuleConfig(name, 64), 64)
    assert factor == 1
    assert arguments.get("betas", [0.9, 0.999]) == pytest.approx([0.9, 0.999])
    assert arguments.get("eps", 1e-8) == pytest.approx(1e-8)


@pytest.mark.parametrize(("name", "factor"), [("fixed", 1.0), ("linear", 4.0), ("sqrt", 2.0)])
def test_rules_of_the_learning_rate(name: str, factor: float) -> None:
    assert ruled(ADAM, RuleConfig(name, 64), 256) == (factor, {})


def test_adams_sqrt_rule_of_2205_10287() -> None:
    factor, arguments = ruled(ADAM, RuleConfig("adam_sqrt", 64), 256)
    assert factor == 2
    assert arguments["betas"] == pytest.approx([0.6, 0.996])
    assert arguments["eps"] == pytest.approx(5e-9)
    down = ruled(ADAM, RuleConfig("adam_sqrt", 64), 16)
    assert down[0] == 0.5
    assert down[1]["betas"] == pytest.approx([0.975, 0.99975])


def test_adams_sqrt_rule_ends_where_beta_would_not_be_positive() -> None:
    with pytest.raises(UsageError, match=r"at batch size 704, 11 times the reference, β = 1 − κ\(1 − β\) would be"):
        ruled(ADAM, RuleConfig("adam_sqrt", 64), 704)


def test_the_half_life_of_beta2_stays_the_same_in_examples() -> None:
    _, arguments = ruled(ADAM, RuleConfig("half_life", 64), 512)
    first, second = arguments["betas"]
    assert first == 0.9
    assert 512 * math.log(2) / -math.log(second) == pytest.approx(64 * math.log(2) / -math.log(0.999))


def test_arguments_as_configured_are_what_is_moved() -> None:
    slow = OptimizerConfig("adam", "Adam", arguments={"betas": [0.8, 0.9], "eps": 1e-4}, lr_log2=[-3, 0])
    _, arguments = ruled(slow, RuleConfig("adam_sqrt", 10), 20)
    assert arguments["betas"] == pytest.approx([0.6, 0.8])
    assert arguments["eps"] == pytest.approx(1e-4 / math.sqrt(2))


def test_a_cell_trains_at_the_rates_of_its_rule_and_keeps_those_it_was_given() -> None:
    cell = small_cell("rule=linear", "rule.reference=16", "batch_size=64")
    assert cell.lrs == pytest.approx((0.04, 0.4))
    assert cell.config.lr == [0.01, 0.1]
    adam = small_cell("optimizer=adam", "rule=adam_sqrt", "rule.reference=16", "batch_size=32")
    assert adam.optimizer.arguments["betas"] == pytest.approx([0.8, 0.998])
    assert adam.config.optimizer.arguments == {}
    assert small_cell("rule=fixed").id == small_cell().id != cell.id
