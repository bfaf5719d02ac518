"""C7 and C8 on planted sharpness."""

import pytest

from tests.claims.planted import accuracies, data_of, jitter, planted, primary, verdicts


@pytest.mark.parametrize(("ratio", "word"), [(5.0, "supported"), (1.0, "equivalent"), (0.2, "refuted")])
def test_sharpness_of_large_batches(ratio: float, word: str) -> None:
    def law(size: int, lr: float, seed: int, step: int) -> dict[str, float]:
        # At a fixed η/B the planted sharpness is the same: it falls with η and grows with B in one measure.
        found = {"measure_keskar_1e-3": (ratio if size == 256 else 1.0) * (1 + 0.01 * jitter(size, seed))}
        found["measure_lambda_max"] = (size / lr) * (1 + 0.01 * jitter(size, seed))
        return accuracies(0.9 - 0.1 * abs(lr - 0.5)) | found

    data = data_of(planted(law, lrs=(0.5, 2.0, 8.0)))
    row = primary("C7", data)
    assert row["verdict"] == word
    assert "training loss 0.1 at batch size 16" in str(row["note"])
    table = verdicts("C7", data).set_index(["rule", "measure"])["verdict"]
    assert table["re-tuned", "lambda_max"] == "supported"
    assert table["linear", "lambda_max"] == "equivalent"


def test_pairs_without_a_positive_sharpness_are_counted() -> None:
    def law(size: int, lr: float, seed: int, step: int) -> dict[str, float]:
        return accuracies(0.9) | {"measure_lambda_max": -1.0 if seed == 0 else 2.0}

    table = verdicts("C7", data_of(planted(law)))
    assert (table["n"] == 4).all()
    assert table["note"].str.contains("1 of 5 pairs left out").all()


@pytest.mark.parametrize(("sign", "word"), [(1.0, "supported"), (-1.0, "refuted")])
def test_sharpness_and_the_gap(sign: float, word: str) -> None:
    """Gaps follow sharpness within a rate, and run against it between rates, which the strata take out."""

    def law(size: int, lr: float, seed: int, step: int) -> dict[str, float]:
        sharp = size / 256 + 0.2 * jitter(size, lr, seed)
        found = {f"{split}_{name}": 0.9 for split in ("train", "val") for name in ("accuracy", "loss")}
        found |= {"test_accuracy": 0.9 - 0.02 * sign * sharp + 0.3 * lr, "test_loss": 0.5}
        moved = {"measure_keskar_1e-3": 3 + sharp + 10 * lr, "measure_keskar_1e-3_rescaled": 30 + sharp}
        return found | moved

    data = data_of(planted(law, lrs=(0.25, 0.5), seeds=8))
    row = primary("C8", data)
    assert row["verdict"] == word
    table = verdicts("C8", data).set_index("measure")
    control = table.loc["keskar_1e-3, every second seed rescaled"]
    assert "rescaling multiplies" in control["note"]
    assert abs(control["estimate"]) < abs(float(str(row["estimate"])))


def test_a_rate_with_few_trials_is_no_stratum() -> None:
    def law(size: int, lr: float, seed: int, step: int) -> dict[str, float]:
        return accuracies(0.9) | {"test_accuracy": 0.9 + 0.01 * jitter(size, seed), "measure_sam": jitter(seed, size)}

    assert verdicts("C8", data_of(planted(law, batch_sizes=(16,), seeds=5))).empty
    assert len(verdicts("C8", data_of(planted(law, batch_sizes=(16, 64), seeds=5)))) == 1
