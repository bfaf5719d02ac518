"""Every optimizer of conf/optimizer against its published update rule, written out in NumPy, on a quadratic."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from bench.optimizers.registry import build, implementations, known_answer, optimizer_classes
from tests.cases import OPTIMIZERS, builder, needs_of, optimizer_config
from tests.optimizers.quadratic import loss_of, start, take_step, trajectory
from tests.optimizers.rules import RULES, STARTS, Array, Q, adamw, centre, gradient, two_loop, value

STEPS = 25
#: Relative. The line search of BFGS decides by the last bits of a loss; ASGD keeps its step in single precision.
TOLERANCES = {"bfgs": 1e-7, "asgd": 1e-6}


@pytest.mark.parametrize(
    ("name", "implementation"),
    [(name, way) for name in RULES for way in implementations(OPTIMIZERS[name]["target"])],
)
@pytest.mark.parametrize(("shape", "lr"), [("matrix", 0.125), ("vector", 0.001)])
def test_steps_follow_the_published_rule(name: str, implementation: str, shape: str, lr: float) -> None:
    x = STARTS[shape]
    found, expected = trajectory(name, implementation, x, lr), RULES[name](x, lr)
    tolerance = TOLERANCES.get(name, 1e-10)
    for _ in range(STEPS):
        now = next(expected)
        np.testing.assert_allclose(next(found), now, rtol=tolerance, atol=tolerance / 100)
    assert np.abs(now - x).max() > 0.005 * lr


# --- what has a test of its own --------------------------------------------------------------------------------------


def newton_schulz(x: Array) -> Array:
    """Five iterations of Jordan's quintic on x over its Frobenius norm: singular values near 1, same vectors."""
    x = x / np.linalg.norm(x)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x


@pytest.mark.parametrize("lr", [0.125, 0.001])
def test_muon_orthogonalises_the_momentum_of_matrices_and_leaves_the_rest_to_adamw(lr: float) -> None:
    matrix, vector = start(STARTS["matrix"]), start(STARTS["vector"])
    optimizer = builder("muon")([matrix, vector], lr)
    average, rest = np.zeros_like(STARTS["matrix"]), adamw(STARTS["vector"], lr)
    for _ in range(STEPS):
        before = np.array(matrix.detach().numpy())
        g = gradient(before)
        for x in (matrix, vector):
            (x.grad,) = torch.autograd.grad(loss_of(x), [x])
        optimizer.step()
        average = 0.95 * average + 0.05 * g
        # Nesterov's look ahead; then as large as AdamW's update, .2 √(longer side).
        direction = newton_schulz((0.05 * g + 0.95 * average).T).T
        update = (before * (1 - 0.1 * lr) - matrix.detach().numpy()) / (lr * 0.2 * np.sqrt(3))
        # torch orthogonalises in bfloat16, which has 8 bits.
        assert np.linalg.norm(update - direction) < 0.06 * np.linalg.norm(direction)
        np.testing.assert_allclose(vector.detach().numpy(), next(rest), rtol=1e-10, atol=1e-12)


def directions(name: str, shape: str, lr: float, steps: int) -> Iterator[tuple[Array, Array, Array]]:
    """Yield where each single iteration of L-BFGS starts, its move, and the direction of the two-loop recursion."""
    x = start(STARTS[shape])
    optimizer = builder(name)([x], lr)
    optimizer.param_groups[0].update(max_iter=1, max_eval=25)
    history: list[tuple[Array, Array]] = []
    for _ in range(steps):
        before = np.array(x.detach().numpy())
        take_step(optimizer, x, needs_of(name))
        move = x.detach().numpy() - before
        yield before, move, two_loop(gradient(before), history)
        history.append((move, gradient(before + move) - gradient(before)))


@pytest.mark.parametrize("lr", [1.0, 0.125])
@pytest.mark.parametrize("shape", STARTS)
def test_lbfgs_moves_by_the_two_loop_direction(shape: str, lr: float) -> None:
    for number, (before, move, direction) in enumerate(directions("lbfgs", shape, lr, 8)):
        # The first step is as long as the learning rate at most, in the 1-norm.
        length = lr * min(1.0, 1 / np.abs(gradient(before)).sum()) if number == 0 else lr
        np.testing.assert_allclose(move, length * direction, rtol=1e-7, atol=1e-10)
    assert value(before + move) < (1e-3 if lr == 1 else 0.5) * value(STARTS[shape])


@pytest.mark.parametrize("shape", STARTS)
def test_a_step_of_lbfgs_is_twenty_iterations(shape: str) -> None:
    *_, (before, move, _) = directions("lbfgs", shape, 0.125, 20)
    np.testing.assert_allclose(next(trajectory("lbfgs", "default", STARTS[shape], 0.125)), before + move, rtol=1e-9)


@pytest.mark.parametrize("lr", [1.0, 0.125])
@pytest.mark.parametrize("shape", STARTS)
def test_lbfgs_wolfe_goes_along_that_direction_as_far_as_wolfe_allows(shape: str, lr: float) -> None:
    for before, move, direction in directions("lbfgs_wolfe", shape, lr, 8):
        length = (move * direction).sum() / (direction * direction).sum()
        np.testing.assert_allclose(move, length * direction, rtol=1e-7, atol=1e-10)
        slope, slope_after = ((gradient(x) * direction).sum() for x in (before, before + move))
        assert length > 0
        assert value(before + move) <= value(before) + 1e-4 * length * slope
        assert abs(slope_after) <= 0.9 * abs(slope)


@pytest.mark.parametrize("shape", STARTS)
def test_a_step_of_lbfgs_wolfe_lands_on_the_minimum(shape: str) -> None:
    landed = next(trajectory("lbfgs_wolfe", "default", STARTS[shape], 1.0))
    np.testing.assert_allclose(landed, centre(STARTS[shape]), atol=1e-4)


ELSEWHERE: dict[str, Callable[..., None]] = {
    "muon": test_muon_orthogonalises_the_momentum_of_matrices_and_leaves_the_rest_to_adamw,
    "lbfgs": test_lbfgs_moves_by_the_two_loop_direction,
    "lbfgs_wolfe": test_lbfgs_wolfe_goes_along_that_direction_as_far_as_wolfe_allows,
}


def test_every_optimizer_file_has_its_rule() -> None:
    assert {*RULES, *ELSEWHERE} == set(OPTIMIZERS)


def test_every_class_of_torch_has_a_reference() -> None:
    """A class that a new torch brings is configured by itself; here it is missed until somebody writes its rule."""
    covered = {OPTIMIZERS[name]["target"] for name in (*RULES, *ELSEWHERE)}
    assert set(optimizer_classes()) <= covered
    for name in OPTIMIZERS:
        assert known_answer(OPTIMIZERS[name]["target"]) != "none"
    assert known_answer("examples/no_such_file.py:Own") == "none"


# --- what the rules on the whole parameter do not show ---------------------------------------------------------------


def test_sparse_adam_moves_only_the_rows_it_is_given() -> None:
    table = start(STARTS["matrix"])
    optimizer = builder("sparse_adam")([table], 0.125)
    x, m, v = (np.array(a) for a in (STARTS["matrix"], 0 * STARTS["matrix"], 0 * STARTS["matrix"]))
    for t in range(1, STEPS):
        rows = [row for row in range(3) if t % 3 != row]
        g = gradient(x)
        with torch.sparse.check_sparse_tensor_invariants():
            table.grad = torch.sparse_coo_tensor(torch.tensor([rows]), torch.from_numpy(g[rows]), table.shape)
        optimizer.step()
        m[rows] = 0.9 * m[rows] + 0.1 * g[rows]
        v[rows] = 0.999 * v[rows] + 0.001 * g[rows] ** 2
        x[rows] -= 0.125 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m[rows] / (np.sqrt(v[rows]) + 1e-8)
        np.testing.assert_allclose(table.detach().numpy(), x, rtol=1e-10, atol=1e-12)


def test_weight_decay_is_the_classes_own() -> None:
    """Added to the gradient by SGD, taken off the parameters by AdamW."""
    for name, expected in (("sgd", 0.5 * (2.0 + 0.25 * 1.0)), ("adamw", 0.5 * (1.0 + 0.25 * 1.0))):
        chosen = optimizer_config(name, weight_decay=0.25)
        x = torch.ones(1, dtype=torch.float64, requires_grad=True)
        optimizer = build(chosen, [x], 0.5)
        x.grad = torch.full_like(x, 2.0)
        optimizer.step()
        assert x.item() == pytest.approx(1 - expected, rel=1e-7)


def test_the_quadratic_is_ill_conditioned() -> None:
    eigenvalues = np.linalg.eigvalsh(Q)
    assert eigenvalues[0] > 0
    assert eigenvalues[-1] / eigenvalues[0] > 20
