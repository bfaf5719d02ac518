"""C3, C4 and C25 on planted noise."""

from collections.abc import Mapping

import pytest

from tests.claims.planted import accuracies, data_of, jitter, planted, primary, verdicts

SIZES = (8, 32, 128, 512, 2048)


def hyperbola(size: int, lr: float, seed: int) -> Mapping[str, float]:
    """Steps to target of S = 20 (1 + 100/B), up to a per cent."""
    return {"steps_to_target": 20 * (1 + 100 / size) * (1 + 0.01 * jitter(size, seed))}


@pytest.mark.parametrize(("scale", "word"), [(100, "supported"), (1600, "refuted"), (150, "supported")])
def test_noise_scale_against_critical_batch(scale: float, word: str) -> None:
    def law(size: int, lr: float, seed: int, step: int) -> dict[str, float]:
        # Beyond the target the noise scale is no business of the claim.
        value = scale * (1 + 0.02 * jitter(seed)) if step <= 20 else 1e9
        return accuracies(step / 100) | {"measure_noise_scale": value}

    data = data_of(planted(law, SIZES, trial=hyperbola, steps=(0, 4, 16, 20, 300)))
    row = primary("C3", data)
    assert row["verdict"] == word
    assert 2.0 ** row["estimate"] == pytest.approx(scale / 100, rel=0.1)
    table = verdicts("C3", data)
    (misfit,) = table[table["measure"] == "hyperbola"].to_dict("records")
    assert misfit["verdict"] == "supported"
    assert misfit["estimate"] < 0.02


def test_steps_off_the_hyperbola_refute_it() -> None:
    def trial(size: int, lr: float, seed: int) -> dict[str, float]:
        bent = 2.0 if size == 128 else 0.5 if size == 512 else 1.0
        return {"steps_to_target": hyperbola(size, lr, seed)["steps_to_target"] * bent}

    data = data_of(planted(lambda *at: accuracies(at[3] / 100), SIZES, trial=trial))
    (row,) = verdicts("C3", data).to_dict("records")
    assert (row["measure"], row["verdict"]) == ("hyperbola", "refuted")


def test_two_batch_sizes_have_no_critical_batch() -> None:
    assert verdicts("C3", data_of(planted(lambda *at: accuracies(at[3] / 100), (8, 32), trial=hyperbola))).empty


@pytest.mark.parametrize(("growth", "word"), [(10.0, "supported"), (1.0, "equivalent"), (0.1, "refuted")])
def test_growth_of_the_noise_scale(growth: float, word: str) -> None:
    def law(size: int, lr: float, seed: int, step: int) -> dict[str, float]:
        noise = {"measure_noise_scale": 50 * (growth if step > 32 else 1.0) * (1 + 0.05 * jitter(seed, step))}
        return accuracies(step / 100) | noise

    data = data_of(planted(law))
    row = primary("C4", data)
    assert row["verdict"] == word
    assert 2.0 ** row["estimate"] == pytest.approx(growth, rel=0.1)
    assert set(verdicts("C4", data)["measure"]) == {"reference batch size", "batch size 64", "batch size 256"}


def test_two_seeds_that_differ_widely_show_nothing() -> None:
    def law(size: int, lr: float, seed: int, step: int) -> dict[str, float]:
        return accuracies(step / 100) | {"measure_noise_scale": 50 * (1e6**seed if step > 32 else 1.0)}

    assert primary("C4", data_of(planted(law, seeds=2)))["verdict"] == "inconclusive"


@pytest.mark.parametrize(("slope", "word"), [(-1.0, "supported"), (0.0, "equivalent"), (1.0, "refuted")])
def test_variance_of_the_loss(slope: float, word: str) -> None:
    def law(size: int, lr: float, seed: int, step: int) -> dict[str, float]:
        spread = size**slope * (1 + 0.02 * jitter(size, seed))
        # The full batch would bend the line if it were in it.
        return accuracies(step / 100) | {"measure_step_loss_variance": 1e-9 if size == 1024 else spread}

    row = primary("C25", data_of(planted(law, (16, 64, 256, 1024))))
    assert row["verdict"] == word
    assert row["estimate"] == pytest.approx(slope, abs=0.05)


def test_without_measures_there_is_no_evidence() -> None:
    data = data_of(planted(lambda *at: accuracies(at[3] / 100)))
    for name in ("C4", "C7", "C8", "C20", "C21", "C22", "C23", "C24", "C25"):
        assert verdicts(name, data).empty
