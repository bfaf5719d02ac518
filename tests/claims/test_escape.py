"""C20 and C21 on planted curves."""

import math

import pytest

from tests.claims.planted import accuracies, data_of, jitter, planted, primary, verdicts

NOISY = {"knobs": "label_noise=0.4"}


@pytest.mark.parametrize(("gain", "word"), [(0.02, "supported"), (0.0, "equivalent"), (-0.02, "refuted")])
def test_clean_accuracy_at_equal_memorisation(gain: float, word: str) -> None:
    """Training accuracy passes .8, half of the wrong labels, between steps 16 and 32; test accuracy falls meanwhile."""

    def law(size: int, lr: float, seed: int, step: int) -> dict[str, float]:
        train = 0.6 + 0.4 * step / 48 if step < 48 else 1.0
        test = 0.7 + gain * math.log2(lr / size) - 0.001 * step + 0.002 * jitter(seed, size, lr)
        return accuracies(test) | {"train_accuracy": train}

    data = data_of(planted(law, lrs=(0.25, 1.0), keys=NOISY))
    row = primary("C20", data)
    assert row["task"] == "mnist5k/mlp (label_noise=0.4)"
    assert row["verdict"] == word
    assert row["estimate"] == pytest.approx(gain, abs=0.002)
    assert set(verdicts("C20", data)["measure"]) == {"half memorised", "end"}


def test_accuracy_is_interpolated_and_those_that_never_memorise_are_counted() -> None:
    def law(size: int, lr: float, seed: int, step: int) -> dict[str, float]:
        if size == 256:
            return accuracies(0.5) | {"train_accuracy": 0.79}
        train = {0: 0.1, 1: 0.7, 2: 0.9, 4: 1.0}[step]
        # Half way between .6 and .8 at size 16, and .1 lower at 64: two octaves of η/B.
        return accuracies({0: 0.1, 1: 0.6, 2: 0.8, 4: 0.3}[step] - 0.1 * (size == 64)) | {"train_accuracy": train}

    row = primary("C20", data_of(planted(law, steps=(0, 1, 2, 4), keys=NOISY)))
    assert row["estimate"] == pytest.approx(0.05)
    assert row["note"] == "5 of 15 trials left out (never memorised that much)"


def test_clean_labels_are_no_evidence() -> None:
    assert verdicts("C20", data_of(planted(lambda *_: accuracies(0.9)))).empty


WELLS = {"task": "two_well", "model": "two_well"}


@pytest.mark.parametrize(("sign", "word"), [(1, "supported"), (0, "equivalent"), (-1, "refuted")])
def test_chance_of_the_wide_well(sign: int, word: str) -> None:
    """Seed k of 10 ends in the wide well where the planted chance is above (k + ½)/10; the full batch never does."""

    def law(size: int, lr: float, seed: int, step: int) -> dict[str, float]:
        ratio = math.log2(lr / size)
        chance = 0.5 + sign * 0.09 * (ratio + 7.5)
        return accuracies(float(size < 1024 and (seed + 0.5) / 10 < chance))

    data = data_of(planted(law, (1, 4, 16, 64, 1024), lrs=(1 / 32, 1 / 16), seeds=10, keys=WELLS, steps=(0, 1)))
    row = primary("C21", data)
    assert row["verdict"] == word
    assert row["estimate"] == pytest.approx(0.09 * sign, abs=0.03)
    others = verdicts("C21", data).set_index("measure")
    expected = {1: 0.8, 0: 0.5, -1: 0.2}[sign]
    assert others.loc["smallest batch against full", "estimate"] == pytest.approx(expected, abs=0.051)
    if sign:
        assert others.loc["rank correlation", "verdict"] == word
    else:
        assert "rank correlation" not in others.index


def test_diverged_trials_are_counted() -> None:
    def trial(size: int, lr: float, seed: int) -> dict[str, object]:
        return {"status": "diverged"} if (size, seed) == (16, 0) else {}

    table = verdicts("C21", data_of(planted(lambda *_: accuracies(1.0), keys=WELLS, trial=trial)))
    assert table["note"].tolist() == ["1 of 15 trials left out (diverged)"]
