"""What holds for every problem of the catalogue, with its knobs as they are."""

import dataclasses
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from bench.errors import UsageError
from bench.measure.audit import Subject, audit_data, audit_training
from bench.tasks.catalogue import PROBLEMS
from bench.tasks.knobs import parse_knobs, plain_knobs
from bench.tasks.problem import Problem, Split
from bench.tasks.registry import TaskSpec, resolve_reference, task_facts
from bench.tasks.task import build_task
from tests.cases import builder, plan_of
from tests.tasks.problems import buffers, fresh, gradients, load, mean_loss

CONF = Path(__file__).resolve().parents[2] / "conf" / "task"
NAMES = sorted(PROBLEMS)


@pytest.fixture(scope="module")
def loaded() -> dict[str, Problem]:
    return {name: load(name) for name in NAMES}


def training_batch(problem: Problem, size: int = 64) -> Split:
    if problem.stream is not None:
        return Split(*problem.stream.draw(size, torch.Generator().manual_seed(0)))
    train = problem.splits.train
    return Split(train.inputs[:size], train.labels[:size])


@pytest.mark.parametrize("name", NAMES)
def test_a_config_of_its_name_holds_every_knob_at_its_default(name: str) -> None:
    path = CONF / f"{name}.yaml"
    lines = path.read_text().splitlines()
    assert lines[0] == "# @package task"
    assert lines[1].startswith("# ")
    config = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(config, dict)
    assert (config["name"], config["data"]) == (name, name)
    knobs = config.get("knobs", {})
    kind = resolve_reference(PROBLEMS[name].knobs)
    assert knobs == plain_knobs(kind())
    assert parse_knobs(kind, knobs) == kind()


@pytest.mark.parametrize("name", NAMES)
def test_knobs_are_frozen_and_documented(name: str) -> None:
    kind = resolve_reference(PROBLEMS[name].knobs)
    assert kind.__dataclass_params__.frozen
    documented = "".join(base.__doc__ or "" for base in kind.__mro__)
    for field in dataclasses.fields(kind):
        assert f"        {field.name}: " in documented


@pytest.mark.parametrize("name", NAMES)
def test_the_untrained_loss_is_the_one_in_theory(name: str, loaded: dict[str, Problem]) -> None:
    problem = loaded[name]
    if problem.untrained is None:
        pytest.skip("theory says nothing")
    split, expected, tolerance, source = problem.untrained
    assert source
    loss = mean_loss(problem, fresh(problem, dtype=torch.float32), getattr(problem.splits, split)).item()
    assert abs(loss - expected) <= tolerance


@pytest.mark.parametrize("name", NAMES)
def test_fresh_parameters_are_float32_and_depend_on_the_generator_alone(name: str, loaded: dict[str, Problem]) -> None:
    model = loaded[name].model
    first, again = (model.initialise(torch.Generator().manual_seed(7)) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)
        assert a.data_ptr() != b.data_ptr()


@pytest.mark.parametrize("name", NAMES)
def test_the_data_depend_on_the_data_seed_alone(name: str, loaded: dict[str, Problem]) -> None:
    again = load(name)
    for split in ("train", "val", "test"):
        ours, theirs = getattr(loaded[name].splits, split), getattr(again.splits, split)
        assert torch.equal(ours.inputs, theirs.inputs)
        assert torch.equal(ours.labels, theirs.labels)


@pytest.mark.parametrize("name", NAMES)
def test_one_loss_per_example_and_their_mean(name: str, loaded: dict[str, Problem]) -> None:
    problem = loaded[name]
    batch = training_batch(problem).to(torch.device("cpu"), torch.float64)
    parameters = fresh(problem)
    outputs = problem.model.forward([*parameters, *buffers(problem)], batch.inputs)
    losses = problem.objective.losses(outputs, batch.labels)
    assert losses.shape == (len(batch),)
    if problem.objective.mean is not None:
        torch.testing.assert_close(problem.objective.mean(outputs, batch.labels), losses.mean())
    if problem.objective.correct is not None:
        correct = problem.objective.correct(outputs, batch.labels)
        assert correct.shape == (len(batch),)
        assert correct.dtype == torch.bool


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_that_of_finite_differences(name: str, loaded: dict[str, Problem]) -> None:
    """Central differences in float64 along a random direction, at a random point near the start; within 1e-5."""
    problem = loaded[name]
    batch = training_batch(problem)
    generator = torch.Generator().manual_seed(1)

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64)

    parameters = [(p + 0.05 * normal(p)).detach().requires_grad_() for p in fresh(problem)]
    direction = [normal(p) for p in parameters]
    slope = sum((g * d).sum().item() for g, d in zip(gradients(problem, parameters, batch), direction, strict=True))
    step = 1e-6
    with torch.no_grad():
        ahead, behind = (
            mean_loss(problem, [p + s * d for p, d in zip(parameters, direction, strict=True)], batch).item()
            for s in (step, -step)
        )
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_several_parameter_sets_can_be_evaluated_at_once(name: str, loaded: dict[str, Problem]) -> None:
    problem = loaded[name]
    inputs = training_batch(problem).to(torch.device("cpu"), torch.float64).inputs
    sets = [[p.detach() for p in fresh(problem, seed)] for seed in (0, 1)]
    state = buffers(problem)
    stacked = [torch.stack(tensors) for tensors in zip(*sets, strict=True)]
    together = torch.func.vmap(lambda weights: problem.model.forward([*weights, *state], inputs))(stacked)
    for weights, outputs in zip(sets, together, strict=True):
        torch.testing.assert_close(outputs, problem.model.forward([*weights, *state], inputs))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_of_it_fits_the_plane(name: str, loaded: dict[str, Problem]) -> None:
    problem = loaded[name]
    picture = problem.picture
    if picture is None:
        pytest.skip("nothing is drawn of it")
    x_lo, x_hi, y_lo, y_hi = picture.extent
    assert x_lo < x_hi
    assert y_lo < y_hi
    values = picture.trial([*fresh(problem), *buffers(problem)]).detach()
    assert values.isfinite().all()
    if picture.kind == "position":
        assert values.shape == (2,)


@pytest.mark.parametrize("name", NAMES)
def test_the_self_audit_passes(name: str, loaded: dict[str, Problem]) -> None:
    task = build_task(name, loaded[name], torch.device("cpu"), "float32", None, 0)
    facts = task_facts(TaskSpec(name, name))
    assert facts.train_examples == task.examples
    plan = plan_of(task.examples, batch_size=min(16, task.examples), target_metric=facts.target_metric)
    checks = audit_data(task, (facts.train_examples, facts.val_examples, facts.test_examples))
    checks += audit_training(Subject(task, builder("sgd"), plan, 2**-10))
    assert [check for check in checks if not check.passed] == []


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_knob_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"^unknown knob \(task.knobs\) 'colour'"):
        load(name, colour=1)
