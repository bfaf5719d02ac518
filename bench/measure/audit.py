"""The self-audit: invariants that catch the silent defects of training loops, before anything is measured.

Each check returns what it saw and what it held that against. They run on the very task, loop and optimizer of the
cell, on a copy of nothing: what passes here is what is trained.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bench.results.record import AuditCheck
from bench.tasks.problem import Split
from bench.tasks.task import Task
from bench.training.batches import BatchOrder, batches_of
from bench.training.loop import Plan, Trial, parameters_hash, train_trial
from bench.training.stepper import Stepper

Build = Callable[[list[Tensor], float], torch.optim.Optimizer]
SHORT_STEPS = 5
GRADIENT_EXAMPLES = 64
#: Checks that take steps do so at the cell's batch size up to this one: they ask whether, not how fast.
LARGEST_BATCH = 1024


@dataclass(frozen=True)
class Subject:
    """What is audited.

    Attributes:
        task: The task of the cell, on its device.
        build: Parameters and learning rate → the cell's optimizer.
        plan: The cell's plan.
        lr: A learning rate of the cell's grid.
        moves_at_zero: Why the optimizer moves at learning rate 0 all the same; empty where it does not.
    """

    task: Task
    build: Build
    plan: Plan
    lr: float
    moves_at_zero: str = ""


def audit_data(task: Task, declared_sizes: tuple[int, int, int]) -> list[AuditCheck]:
    """Run the checks that depend on the data alone; their result holds for every cell that shares them.

    Args:
        task: The task, on its device.
        declared_sizes: Sizes the train, validation and test splits should have.
    """
    return [standardised_inputs(task), split_sizes(task, declared_sizes), disjoint_splits(task)]


def audit_training(subject: Subject) -> list[AuditCheck]:
    """Run the checks of the cell's own model, loop and optimizer; torch's own random numbers stay what they were."""
    with torch.random.fork_rng(devices=[]):
        return [check(subject) for check in TRAINING_CHECKS]


def does_not_apply(check: str, why: str) -> AuditCheck:
    """Return the line of a check that has nothing to say of a task, and why."""
    return AuditCheck(check, True, "does not apply", why)


def untrained_loss(subject: Subject) -> AuditCheck:
    """The loss of fresh parameters is what theory says, such as ln C for C classes."""
    task, expected = subject.task, subject.task.untrained
    if expected is None:
        return does_not_apply("untrained loss", "theory says nothing of it")
    loss = task.evaluate(_weights(task), task.split(expected.split), 1000)[0].item()
    passed = abs(loss - expected.loss) <= expected.tolerance
    wanted = f"{expected.source} = {expected.loss:.4f} ± {expected.tolerance:g}"
    return AuditCheck("untrained loss", passed, f"{loss:.4f}", wanted)


def outputs_are_logits(subject: Subject) -> AuditCheck:
    """The outputs are not probabilities already: those are nowhere negative and sum to 1 for every example.

    A cross-entropy of probabilities trains, slowly and to a worse end; its untrained loss is ln C all the same.
    """
    task = subject.task
    if not task.objective.of_logits:
        return does_not_apply("outputs are logits", f"the loss is {task.objective.name}")
    with torch.inference_mode():
        outputs = task.outputs(_weights(task), _head(task.val).inputs).float()
    smallest, sums = outputs.min().item(), outputs.sum(1)
    low, high = sums.min().item(), sums.max().item()
    passed = smallest < 0 or max(abs(low - 1), abs(high - 1)) > 0.01
    value = f"smallest {smallest:.2g}, sums {low:.2g} … {high:.2g}"
    return AuditCheck("outputs are logits", passed, value, "some below 0, or sums other than 1")


def standardised_inputs(task: Task) -> AuditCheck:
    """The training inputs have mean 0 and standard deviation 1: standardised once, not twice, not never."""
    if not task.standardised:
        return does_not_apply("inputs standardised", "the task takes its inputs as they are")
    inputs = task.train.inputs.to("cpu", torch.float64)
    mean, std = inputs.mean().item(), inputs.std(correction=0).item()
    passed = abs(mean) < 1e-3 and abs(std - 1) < 1e-3
    return AuditCheck("inputs standardised", passed, f"mean {mean:.1e}, sd {std:.6f}", "mean 0, sd 1 within 1e-3")


def batch_order(subject: Subject) -> AuditCheck:
    """An epoch covers each example once (but for a dropped or carried remainder), and two epochs differ in order."""
    plan, task = subject.plan, subject.task
    if task.stream:
        return does_not_apply("batch order", "examples are drawn afresh at every step")
    examples = len(task.train)
    index = torch.arange(examples)
    order = BatchOrder(index, index, plan.batch_size, plan.remainder, plan.reshuffle, seed=0)
    epochs = [
        torch.cat([labels for gathered in order.take(plan.per_epoch) for _, labels in gathered]) for _ in range(2)
    ]
    expected = min(plan.per_epoch * plan.batch_size, examples)
    # With a carried remainder the second epoch begins with what the first one left.
    once = [examples if plan.remainder == "carry" else expected, expected][::-1]
    passed = all(len(epoch) == size for epoch, size in zip(epochs, once, strict=True))
    passed = passed and all(len(epoch.unique()) == expected for epoch in (epochs[0], epochs[1][-expected:]))
    differs = not torch.equal(epochs[0], epochs[1][-expected:])
    whole = plan.batch_size == examples
    passed = passed and (whole or differs == plan.reshuffle)
    value = f"{len(epochs[0].unique())} of {examples} covered, epochs {'differ' if differs else 'equal'}"
    order_wanted = "one batch" if whole else "epochs differ" if plan.reshuffle else "epochs equal"
    return AuditCheck("batch order", passed, value, f"{expected} covered once, {order_wanted}")


def evaluation_batch(subject: Subject) -> AuditCheck:
    """Evaluation does not depend on the evaluation batch size."""
    task = subject.task
    weights = _weights(task)
    small, large = (task.evaluate(weights, task.val, size) for size in (97, len(task.val)))
    difference = ((small - large).abs() / large.abs().clamp(min=1)).max().item()
    tolerance = 5e-3 if task.autocast else 1e-5
    return AuditCheck("evaluation batch", difference <= tolerance, f"{difference:.1e}", f"≤ {tolerance:g}")


def split_sizes(task: Task, declared: tuple[int, int, int]) -> AuditCheck:
    """The splits have the sizes they are declared with."""
    sizes = (task.examples, len(task.val), len(task.test))
    return AuditCheck("split sizes", sizes == declared, str(sizes), str(declared))


def disjoint_splits(task: Task) -> AuditCheck:
    """No training example is a validation or test example.

    MNIST itself holds a few identical images; up to 1 in 1000 held-out examples may be such.
    """
    if not task.distinct:
        return does_not_apply("splits disjoint", "the task says that its splits share examples")
    train = _fingerprints(task.train)
    shared = {name: len(train & _fingerprints(task.split(name))) for name in ("val", "test")}
    passed = all(count <= len(task.split(name)) / 1000 for name, count in shared.items())
    return AuditCheck(
        "splits disjoint", passed, f"{shared['val']} val, {shared['test']} test examples in train", "≤ 0.1 % of each"
    )


def _fingerprints(split: Split) -> set[int]:
    """Return a hash of each example's inputs, all of their bytes."""
    # A zero of either sign is a zero.
    rows = (split.inputs.detach().cpu().flatten(1) + 0).contiguous().numpy()
    return {hash(row.tobytes()) for row in rows}


def zero_learning_rate(subject: Subject) -> AuditCheck:
    """Steps with learning rate 0 move nothing."""
    task = subject.task
    if subject.moves_at_zero:
        return does_not_apply("learning rate 0", subject.moves_at_zero)
    parameters = task.initialise(0)
    before = parameters_hash(parameters)
    _steps(subject, parameters, 0.0)
    passed = parameters_hash(parameters) == before
    return AuditCheck("learning rate 0", passed, "unmoved" if passed else "moved", f"unmoved by {SHORT_STEPS} steps")


def learning_rate_moves(subject: Subject) -> AuditCheck:
    """Steps with a learning rate of the grid move every parameter tensor."""
    task = subject.task
    parameters = task.initialise(0)
    before = [p.detach().clone() for p in parameters]
    _steps(subject, parameters, subject.lr)
    moved = sum(not torch.equal(a, b) for a, b in zip(before, parameters, strict=True))
    return AuditCheck("steps move", moved == len(before), f"{moved} of {len(before)} tensors", "all tensors")


def same_seed(subject: Subject) -> AuditCheck:
    """The same seed twice gives the same bits."""
    method = replace(subject.plan.method, factor=None, phases=None)
    size = _batch_size(subject)
    plan = replace(subject.plan, batch_size=size, steps=SHORT_STEPS, seconds=None, pictured=False, method=method)
    task = subject.task
    # It asks whether the bits repeat: of evaluations that takes a few examples, where all of MNIST's take seconds.
    tiny = replace(task, train_evaluation=_head(task.train_evaluation), val=_head(task.val), test=_head(task.test))

    def run() -> Trial:
        return train_trial(tiny, subject.build, plan, subject.lr, 0, init_seed=1, order_seed=2, noise_seed=3)

    first, second = run(), run()
    passed = first.parameters_sha256 == second.parameters_sha256
    metrics = [e.metrics for e in first.evaluations] == [e.metrics for e in second.evaluations]
    value = "same bits" if passed and metrics else "different bits"
    return AuditCheck("same seed twice", passed and metrics, value, "same bits")


def gradient(subject: Subject) -> AuditCheck:
    """Autograd's directional derivative agrees with central differences, in float64."""
    task = subject.task
    if task.device.type == "mps":
        return AuditCheck("gradient", True, "skipped: mps has no float64", "relative error ≤ 1e-4")
    exact = replace(task, train=task.train.to(task.device, torch.float64), autocast=False, sparse=False)
    inputs, labels = exact.example_batch(min(GRADIENT_EXAMPLES, exact.examples))
    generator = torch.Generator().manual_seed(1)
    # Random parameters: zero initialisation and ReLU kinks at exactly zero would make the check blind or unfair.
    parameters = [
        (torch.randn(p.shape, generator=generator, dtype=torch.float64) * 0.05).to(task.device).requires_grad_()
        for p in task.initialise(0)
    ]
    direction = [torch.randn(p.shape, generator=generator, dtype=torch.float64).to(task.device) for p in parameters]

    def loss(parameters: list[Tensor]) -> Tensor:
        return exact.loss([*parameters, *exact.buffers()], inputs, labels)

    gradients = torch.autograd.grad(loss(parameters), parameters)
    slope = sum((g * d).sum().item() for g, d in zip(gradients, direction, strict=True))
    # Short, so that hardly any of the 10^5 kinks of ReLU and max-pooling lies between the two points; at 1e-7 a few
    # did for lenet5, and the error was 2e-4. Rounding stays below 1e-6.
    step = 1e-9

    def shifted(sign: float) -> float:
        with torch.no_grad():
            return loss([p + sign * step * d for p, d in zip(parameters, direction, strict=True)]).item()

    difference = (shifted(1) - shifted(-1)) / (2 * step)
    error = abs(slope - difference) / max(abs(slope), 1e-12)
    return AuditCheck("gradient", error <= 1e-4, f"relative error {error:.1e}", "≤ 1e-4 of finite differences")


def _weights(task: Task) -> list[Tensor]:
    return [*task.initialise(0), *task.buffers()]


def _head(split: Split) -> Split:
    return Split(split.inputs[:GRADIENT_EXAMPLES], split.labels[:GRADIENT_EXAMPLES])


def _batch_size(subject: Subject) -> int:
    return min(subject.plan.batch_size, LARGEST_BATCH)


def _steps(subject: Subject, parameters: list[Tensor], lr: float) -> None:
    task, plan = subject.task, subject.plan
    size = _batch_size(subject)
    method = replace(plan.method, factor=None, phases=None)
    batches = batches_of(task, size, plan.remainder, plan.reshuffle, order_seed=0, noise_seed=0)
    Stepper(task, parameters, subject.build(parameters, lr), batches, method).run(SHORT_STEPS, lambda: False)


TRAINING_CHECKS: tuple[Callable[[Subject], AuditCheck], ...] = (
    untrained_loss,
    outputs_are_logits,
    batch_order,
    evaluation_batch,
    zero_learning_rate,
    learning_rate_moves,
    same_seed,
    gradient,
)
