"""Measures along the way: they change nothing, take each trial's own parameters, and say what they were taken of."""

import time
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
import torch

from bench.errors import UsageError
from bench.launching.cell import run_cell
from bench.measure.catalogue import MEASURES
from bench.measure.curvature import largest_eigenvalue
from bench.measure.fixed_loss import flat
from bench.measure.noise import gradient_noise
from bench.measure.probe import Measures
from bench.results.record import Record
from bench.training.batches import batches_of
from bench.training.loop import Trial
from bench.training.seeds import Start
from bench.training.stack import Stack
from bench.training.stepper import Stepper
from bench.training.trials import Trials
from tests.cases import builder, plan_of, toy_task
from tests.measure.points import loss_of, normalised_task
from tests.small import small_cell

CHEAP = [
    "measure.at_evaluations=[noise_scale,batch_sharpness,lambda_max,sam,distance,step_loss_variance,barrier]",
    "measure.examples=100",
    "measure.noise_examples=100",
]
DIVERGES = 1e30


def cell_run(*overrides: str) -> tuple[Record, pd.DataFrame]:
    record, curves, _ = run_cell(
        small_cell(
            "measure.speed=false",
            "measure.memory=false",
            "seeds=2",
            "budget.epochs=null",
            "budget.steps=20",
            *overrides,
        )
    )
    assert record.status == "complete", record.traceback
    return record, curves


def without_measures(curves: pd.DataFrame) -> pd.DataFrame:
    return curves[curves["split"] != "measure"].drop(columns="train_seconds").reset_index(drop=True)


@pytest.mark.parametrize(
    "how", [["training.stack=4"], ["training.stack=off"], ["optimizer=adam", "training.average=0.9"]]
)
def test_trials_are_the_same_to_the_last_bit_with_measures_and_without(how: list[str]) -> None:
    off, curves = cell_run(*how)
    on, measured = cell_run(*how, *CHEAP)
    assert on.stacking is not None
    assert off.stacking is not None
    assert on.stacking.trials == off.stacking.trials == (4 if how[0] == "training.stack=4" else 1)
    assert [t.parameters_sha256 for t in on.trials] == [t.parameters_sha256 for t in off.trials]
    pd.testing.assert_frame_equal(without_measures(measured), curves.drop(columns="train_seconds"), check_exact=True)
    assert off.measures == []
    assert "measures" not in off.seconds
    assert on.seconds["measures"] == pytest.approx(sum(m.seconds for m in on.measures), abs=1e-4)
    assert on.seconds["training"] > 0
    found = measured[measured["split"] == "measure"]
    names = [name for m in on.measures for name in MEASURES[m.name].metrics]
    assert set(found["metric"]) == set(names)
    assert found["value"].notna().all()


def test_a_cell_with_measures_repeats() -> None:
    assert cell_run(*CHEAP)[0].digest == cell_run(*CHEAP)[0].digest


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("measure.at_evaluations=[lambda_min]", "unknown measure 'lambda_min'; did you mean 'lambda_max'?"),
        ("measure.mode=test", "unknown measure.mode 'test'"),
        ("measure.rescaling=0", "measure.rescaling=0.0: must be a finite number above 0, or null"),
        ("measure.examples=0", "measure.examples=0: must be at least 1"),
        ("measure.per_octave=-1", "measure.per_octave=-1: must be at least 0"),
    ],
)
def test_what_cannot_be_measured_is_one_line(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        small_cell(name)
    assert str(caught.value).startswith(message)


def test_the_order_of_names_is_no_other_cell_and_no_measure_is_the_cell_of_before() -> None:
    one, other = (small_cell(f"measure.at_evaluations=[{names}]") for names in ("sam,trace", "trace,sam,trace"))
    assert one.id == other.id
    assert one.config.measure.at_evaluations == ["trace", "sam"]
    assert small_cell().id != one.id
    assert small_cell("measure.at_evaluations=[]").id == small_cell().id


def probe(names: Sequence[str], **settings: Any) -> Measures:
    return Measures(toy_task(), names, 8, **settings)


def trained(
    names: Sequence[str], stack: str | int = "off", lrs: Sequence[float] = (0.1, 0.5), **plan: Any
) -> list[Trial]:
    """Train the toy network with two seeds and return the trials, in order."""
    starts = [Start(lr, seed, 10 + seed, 20 + seed, 30 + seed) for lr in lrs for seed in (0, 1)]
    measures = probe(names)
    trials = Trials(toy_task(), builder("momentum"), plan_of(**plan), starts, probe=measures)
    choice = trials.choose(stack)
    assert choice.most == (1 if stack == "off" else stack), choice.reason
    found = list(trials.train(choice, None))
    measures.compare(found)
    return sorted(found, key=lambda trial: (trial.lr, trial.seed))


def values(trials: Sequence[Trial], name: str) -> list[dict[int, float]]:
    """Return a metric of each trial by step."""
    key = f"measure_{name}"
    return [{e.step: e.metrics[key] for e in trial.evaluations if key in e.metrics} for trial in trials]


def test_stacked_trials_are_measured_each_at_its_own_parameters() -> None:
    names = [name for name in MEASURES if not name.startswith("keskar")]
    alone, stacked = trained(names, steps=6), trained(names, 4, steps=6)
    for metric in [metric for name in names for metric in MEASURES[name].metrics if "residual" not in metric]:
        for one, other in zip(values(alone, metric), values(stacked, metric), strict=True):
            assert one == pytest.approx(other, rel=1e-6, abs=1e-9)
    distances = values(alone, "distance")
    assert len({found[6] for found in distances}) == 4
    assert [found[0] for found in distances] == [0, 0, 0, 0]
    assert values(alone, "barrier_train")[0] == {}
    assert set(values(alone, "barrier_train")[1]) == {6}


def test_values_are_those_of_the_parameters_at_that_step() -> None:
    """Trained again by hand up to step 16, as the trial of seed 1 at learning rate .5 was."""
    trial = trained(["lambda_max", "noise_scale", "step_loss_variance"], steps=40)[-1]
    task = toy_task()
    parameters = task.initialise(11)
    batches = batches_of(task, 8, "keep", True, 21, 31)
    stepper = Stepper(task, parameters, builder("momentum")(parameters, 0.5), batches)
    losses, noise, eigenvalue = [], {}, {}
    for step in range(40):
        for inputs, labels in next(batches.take(1)):
            losses.append(task.loss(parameters, inputs, labels).item())
            for parameter, value in zip(
                parameters, torch.autograd.grad(task.loss(parameters, inputs, labels), parameters), strict=True
            ):
                parameter.grad = value
            stepper.optimizer.step()
        if step + 1 in (16, 40):
            vector, loss = flat(parameters), loss_of(task, parameters)
            noise[step + 1] = gradient_noise(task, parameters, task.train, task.train).scale
            generator = torch.Generator().manual_seed(0)
            eigenvalue[step + 1] = largest_eigenvalue(loss.hessian(vector), vector, generator, 1e-8).value
    found = [values([trial], name)[0] for name in ("noise_scale", "lambda_max", "step_loss_variance")]
    for step in (16, 40):
        assert found[0][step] == pytest.approx(noise[step], rel=1e-9)
        assert found[1][step] == pytest.approx(eigenvalue[step], rel=1e-4)
        window = torch.tensor(losses[max(0, step - 32) : step], dtype=torch.float64)
        assert found[2][step] == pytest.approx(window.var().item(), rel=1e-9)
    assert set(found[2]) == {2, 4, 8, 16, 32, 40}


@pytest.mark.parametrize("stack", ["off", 4])
def test_what_is_measured_is_not_on_the_training_clock(stack: str | int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that stands still but while losses are looked at and measures taken, training takes no time."""
    now = [0.0]

    def slow(function: Any) -> Any:
        def slowed(*arguments: Any) -> Any:
            now[0] += 1000
            return function(*arguments)

        return slowed

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    for kind in (Stepper, Stack):
        monkeypatch.setattr(kind, "losses", slow(kind.losses))
    monkeypatch.setattr(Measures, "take", slow(Measures.take))
    trials = trained(["step_loss_variance"], stack)
    assert now[0] > 20_000
    assert {e.train_seconds for trial in trials for e in trial.evaluations} == {0.0}


def test_points_are_first_last_and_so_many_of_an_octave() -> None:
    evaluated = [0, 1, 2, 3, 4, 6, 7, 8, 11, 14, 16, 20]

    def measured(per_octave: int) -> list[int]:
        due = probe([], per_octave=per_octave).due
        pairs = zip([-1, *evaluated], evaluated, strict=False)
        return [step for before, step in pairs if due(before, step, step == 20)]

    assert measured(0) == [0, 20]
    assert measured(1) == [0, 1, 2, 4, 8, 16, 20]
    assert measured(2) == [0, 1, 2, 3, 4, 6, 8, 11, 16, 20]
    assert measured(100) == evaluated


def test_a_point_that_is_not_evaluated_is_measured_at_the_next() -> None:
    due = probe([]).due
    assert due(7, 10, False)
    assert not due(8, 10, False)
    assert not due(10, 15, False)


def test_diverged_trials_are_not_measured_where_they_diverged() -> None:
    trials = trained(["distance", "lambda_max"], 4, lrs=(0.1, DIVERGES))
    steps = [[e.step for e in trial.evaluations] for trial in trials]
    found = values(trials, "lambda_max")
    assert [trial.status for trial in trials] == ["complete", "complete", "diverged", "diverged"]
    assert set(found[0]) == {0, 1, 2, 4, 8, 16, 20}
    assert set(found[2]) < set(steps[2])
    assert steps[2][-1] not in found[2]


def test_torch_s_own_random_numbers_are_left_alone() -> None:
    measures = Measures(normalised_task(), ["lambda_max", "noise_scale_two_batch"], 8)
    weights = [*measures.task.initialise(0), *measures.task.buffers()]
    before, state = [weight.detach().clone() for weight in weights], torch.get_rng_state()
    found = measures.take(Start(0.1, 0, 0, 0, 0), 5, weights, [])
    assert {"measure_lambda_max", "measure_noise_scale_two_batch"} < set(found)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(weights, before, strict=True))


def test_batch_normalisation_has_no_exact_noise_as_trained_and_the_record_says_why() -> None:
    def measured(mode: str) -> Measures:
        found = Measures(normalised_task(), ["noise_scale", "sam"], 8, mode=mode, rescaling=2.0)
        for step in (0, 1):
            weights = [*found.task.initialise(0), *found.task.buffers()]
            assert ("measure_noise_scale" in found.take(Start(0.1, 0, 0, 0, 0), step, weights, [])) == (mode == "eval")
        return found

    noise, rise, rescaling = measured("train").measured()
    assert (noise.name, noise.mode, noise.points) == ("noise_scale", "train", 0)
    assert noise.reason == "an example has no gradient of its own where the batch is normalised together"
    assert (rise.mode, rise.examples, rise.points, rise.reason) == ("train", 24, 2, None)
    assert rescaling.reason == "parameters do not begin with weight, bias and the next layer's weight"
    noise, rise, _ = measured("eval").measured()
    assert (noise.mode, noise.examples, noise.points, noise.reason) == ("eval", 24, 2, None)
    assert rise.mode == "eval"


def test_rescaled_parameters_are_measured_beside_the_others() -> None:
    measures = probe(["lambda_max", "asam", "distance"], rescaling=5.0)
    found = measures.take(Start(0.1, 0, 0, 0, 0), 3, measures.task.initialise(0), [])
    assert found["measure_asam_rescaled"] == pytest.approx(found["measure_asam"], rel=1e-9)
    assert found["measure_lambda_max_rescaled"] > 1.5 * found["measure_lambda_max"]
    assert "measure_distance_rescaled" not in found


def test_examples_are_the_same_few_for_every_trial() -> None:
    few, again, others = (probe(["sam"], examples=7, data_seed=seed)._split.inputs for seed in (0, 0, 1))
    assert len(few) == 7
    assert torch.equal(few, again)
    assert not torch.equal(few, others)
    assert len(probe(["sam"], examples=None)._split) == 50


def test_parameters_that_are_not_finite_have_no_measures() -> None:
    measures = probe(["lambda_max"])
    weights = [weight.detach() / 0 for weight in measures.task.initialise(0)]
    assert measures.take(Start(0.1, 0, 0, 0, 0), 3, weights, []) == {}
    assert measures.measured()[0].points == 0
