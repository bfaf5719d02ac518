"""Claims of the way to the target, on tables whose laws are known."""

import numpy as np
import pytest

from bench.claims.ways import ways_to_target
from tests.claims.tables import Arm, data, missing, primary, verdicts

#: Seeds differ by a few percent, the batch sizes of a seed not alike.
JITTER = np.array([[1.00, 1.02, 0.99, 1.01], [0.98, 1.01, 1.02, 0.99], [1.02, 0.99, 1.0, 1.0]] * 2)
SIZES = (16, 32, 64, 128)


def way(law, **facts) -> Arm:  # type: ignore[no-untyped-def]
    """An arm whose steps to target at its best rate, .5, follow a law; others take twice as many."""

    def to_target(batch_size: int, lr: float, seed: int) -> float:
        jitter = float(JITTER[seed, SIZES.index(batch_size)])
        return law(batch_size) * jitter * (1 if lr == 0.5 else 2)

    given = {"batch_sizes": SIZES, "to_target": to_target, "steps": lambda batch_size: 10_000}
    return Arm(**(given | facts))


def test_bigger_is_better_where_time_falls_throughout_and_not_where_it_turns() -> None:
    assert primary("C1", way(lambda size: 16_000 / size)) == ["supported"]
    turns = way(lambda size: 16_000 / size, seconds=lambda size: 1.0 if size < 128 else 4.0)
    found = verdicts("C1", turns)
    at_best = found[found["rule"] == "re-tuned"].set_index("measure")
    assert at_best["verdict"].to_dict() == {
        "examples to target": "equivalent",
        "seconds to target": "refuted",
        "steps to target": "supported",
    }
    assert at_best.loc["seconds to target", "estimate"] == pytest.approx(1, abs=0.05)
    assert at_best.loc["seconds to target", "note"] == "batch 128 against 64"
    assert at_best.loc["steps to target", "estimate"] == pytest.approx(-1, abs=0.05)


def test_a_largest_batch_that_never_arrives_refutes_but_never_supports() -> None:
    late = way(lambda size: 100 if size < 128 else np.inf)
    found = verdicts("C1", late)
    steps = found[(found["measure"] == "steps to target") & (found["rule"] == "re-tuned")].iloc[0]
    assert (steps["verdict"], steps["hi"]) == ("refuted", np.inf)
    assert "6 of 6 seeds never arrived" in steps["note"]
    # 10 steps and none of them enough: who knows how many are.
    short = way(lambda size: 100 if size < 128 else np.inf, steps=lambda size: 10)
    found = verdicts("C1", short).query("measure == 'steps to target' and rule == 're-tuned'")
    assert found["verdict"].tolist() == ["inconclusive"]


def test_the_best_smaller_batch_is_chosen_by_other_seeds() -> None:
    """With no difference at all, the choice must not make one: the least of three is always below a fourth."""
    generator = np.random.default_rng(0)
    noise = 2 ** generator.normal(0, 0.3, size=(400, 4))

    def to_target(batch_size: int, lr: float, seed: int) -> float:
        return float(noise[seed, SIZES.index(batch_size)] * 100)

    arm = Arm(batch_sizes=SIZES, to_target=to_target, lrs=(0.5,), seeds=400, steps=lambda size: 10_000)
    found = verdicts("C1", arm)
    steps = found[(found["measure"] == "steps to target") & (found["rule"] == "re-tuned")].iloc[0]
    assert abs(steps["estimate"]) < 0.06, "choosing by the seed itself gives about .25"


@pytest.mark.parametrize(
    ("law", "word"), [(lambda size: 16_000 / size, "supported"), (lambda size: 4000 / size**0.5, "refuted")]
)
def test_doubling_halves_the_steps(law, word: str) -> None:  # type: ignore[no-untyped-def]
    assert primary("C2", way(law)) == [word]


def test_regimes_are_told_apart_and_censored_batch_sizes_named() -> None:
    found = verdicts("C2", way(lambda size: {16: 1000, 32: 500, 64: 250, 128: 250}[size]))
    at_best = found[found["rule"] == "re-tuned"].set_index("measure")
    assert at_best.loc["perfect", "note"] == "batch 16 to 64"
    assert at_best.loc["maximal", "estimate"] == pytest.approx(0, abs=0.02)
    assert at_best.loc["maximal", "verdict"] == "refuted"
    gone = verdicts("C2", way(lambda size: 1600 / size if size > 16 else np.inf))
    assert gone["note"].str.endswith("without batch 16, where a seed never arrived").all()


def test_rules_scale_the_reference_rate_and_leave_the_grid() -> None:
    """At the best rate of batch 16, .5: fixed stays there, linear wants 1, 2 and 4 beyond the grid's end, 1."""
    ways = ways_to_target(data(way(lambda size: 16_000 / size)).results)
    rates = ways[ways["measure"] == "steps"].groupby(["rule", "batch_size"])["lr"].first()
    assert rates["fixed"].tolist() == [0.5] * 4
    assert rates["linear"].to_dict() == {16: 0.5, 32: 1.0}
    assert rates["sqrt"].to_dict() == {16: 0.5, 32: 0.5, 64: 1.0, 128: 1.0}
    assert rates["re-tuned"].tolist() == [0.5] * 4


def test_acceleration_pays_at_large_batches() -> None:
    plain = way(lambda size: 1000)
    pays = way(lambda size: 1000 if size < 64 else 250, optimizer="momentum")
    always = way(lambda size: 250, optimizer="momentum")
    assert primary("C15", plain, pays) == ["supported"]
    assert primary("C15", plain, always) == ["equivalent"]
    early = way(lambda size: 250 if size < 64 else 1000, optimizer="adam")
    found = verdicts("C15", plain, early)
    assert found[found["primary"]]["verdict"].tolist() == ["refuted"]
    assert found[found["primary"]]["optimizer"].tolist() == ["adam"]
    assert "SGD takes 4 at batch 16 and 1 at batch 128 times as many" in found["note"].iloc[0]


def test_nothing_is_said_without_data() -> None:
    never = Arm()
    one = way(lambda size: 100, batch_sizes=(16,))
    for name in ("C1", "C2", "C15"):
        assert missing(name, never)
        assert missing(name, one)
    assert missing("C15", way(lambda size: 100))


def test_one_seed_is_inconclusive() -> None:
    for name in ("C1", "C2"):
        assert primary(name, way(lambda size: 16_000 / size, seeds=1)) == ["inconclusive"]
