"""How fast training is: our loop beside those people write by hand, and stacked trials beside single ones.

Within a case, rounds visit all contestants in random order, so that a machine whose speed drifts slows all of them
alike. Reported are medians over rounds, and ratios taken within a round.
"""

import json
import random
import sys
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch

from bench.errors import UsageError
from bench.measure.intervals import median_interval
from bench.measure.memory import activation_bytes
from bench.optimizers.registry import build_optimizer
from bench.results.environment import environment
from bench.speed.loops import LOOPS, OPTIMIZERS, Loop
from bench.tasks.registry import TaskSpec
from bench.tasks.task import Task, load_task
from bench.training.devices import prepare
from bench.training.gradients import Gradients
from bench.training.loop import Plan
from bench.training.seeds import Start, named_seed
from bench.training.stepper import synchronise
from bench.training.trials import Trials

BATCH_SIZES = (1, 8, 32, 256, 1024, 4000)
#: Aimed-at seconds of one visit to one contestant.
VISIT_SECONDS = 0.15


@dataclass(frozen=True)
class StackedCase:
    """A cell whose trials are stacked.

    Attributes:
        task: What is trained.
        optimizer: Key of `OPTIMIZERS`.
        rates: Learning rates.
        seeds: Seeds of each.
        batch_size: Examples per step and trial.
    """

    task: TaskSpec
    optimizer: str
    rates: int
    seeds: int
    batch_size: int

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{self.task.name} {self.optimizer}, {self.rates} learning rates × {self.seeds} seeds"


_MLP = TaskSpec("mnist5k/mlp", "mnist5k", "mlp")
STACKED_CASES = (
    *(StackedCase(_MLP, name, 7, 3, size) for name in OPTIMIZERS for size in (1, 8, 32, 64, 256, 1024)),
    *(
        StackedCase(TaskSpec("playground/circle", "playground/circle"), name, 8, 8, size)
        for name in OPTIMIZERS
        for size in (1, 10, 250)
    ),
    *(
        StackedCase(TaskSpec(problem, problem), "sgd", 10, 10, size)
        for problem in ("regression/linear", "quadratic/deep")
        for size in (1, 8, 128)
    ),
    *(StackedCase(TaskSpec("mnist5k/lenet5", "mnist5k", "lenet5"), "sgd", 7, 3, size) for size in (8, 64)),
)


def run_engine_benchmark(out: Path | None, rounds: int, device_name: str) -> int:
    """Run the benchmark, print its tables, and write them if a folder is given.

    Args:
        out: Folder for loops.csv, stacks.csv, engine.md and environment.json; None prints only.
        rounds: Interleaved rounds, ≥ 3.
        device_name: Where to run.

    Returns:
        Exit code 0.

    Raises:
        UsageError: Fewer than 3 rounds, or a folder that cannot be written.
        DeviceUnavailable: The device is not here.
    """
    if rounds < 3:
        raise UsageError(f"--rounds {rounds}: must be at least 3")
    device = prepare(device_name, 1, "float32")
    task = _loaded(_MLP, device)
    loops = pd.concat([measure_loops(task, name, size, rounds) for name in OPTIMIZERS for size in BATCH_SIZES])
    stacks = pd.concat([measure_stacks(case, device, rounds) for case in STACKED_CASES])
    tables = {"loops": summarise_loops(loops), "stacks": summarise_stacks(stacks)}
    text = markdown(tables["loops"], tables["stacks"], rounds, device_name)
    print(text)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / "engine.md").write_text(text, encoding="utf-8")
            for name, table in tables.items():
                table.to_csv(out / f"{name}.csv", index=False, lineterminator="\n")
            (out / "environment.json").write_text(json.dumps(environment(device, 1), indent=1, sort_keys=True) + "\n")
        except OSError as error:
            raise UsageError(f"--out {out}: cannot be written ({error.strerror or error})") from None
    return 0


def measure_loops(task: Task, optimizer: str, batch_size: int, rounds: int) -> pd.DataFrame:
    """Time all loops at one batch size.

    Returns:
        Columns optimizer, batch_size, round, contestant (of `LOOPS`), seconds (of a step); one row per visit.
    """
    loops = {name: make(task, optimizer, batch_size) for name, make in LOOPS.items()}
    table = _interleaved(loops, {}, rounds, task.device, f"{optimizer} B={batch_size}")
    return table.assign(optimizer=optimizer, batch_size=batch_size)


def measure_stacks(case: StackedCase, device: torch.device, rounds: int) -> pd.DataFrame:
    """Time a cell's trials one by one, in stacks of each size that keeps every bit, and as `auto` chooses.

    Returns:
        Columns case, batch_size, round, contestant ("alone", or how many are stacked), seconds (of a step of one
        trial), auto (the contestant that `auto` chooses).
    """
    task = _loaded(case.task, device)
    trials = trials_of(case, task)
    choice = trials.choose("auto")
    exact = choice.exact and device.type == "cpu"
    fits, _ = trials.fits(trials.sizes(), exact)
    alone = trials.stepper(trials.starts[0])
    loops: dict[str, Loop] = {"alone": lambda steps: alone.run(steps, lambda: False)}
    widths: dict[str, int] = {}
    for size, layout in fits.items():
        stack = trials.stack(max(trials.blocks(size), key=len), layout)
        loops[f"{size}"] = lambda steps, stack=stack: stack.run(steps, lambda: False)  # type: ignore[misc]
        widths[f"{size}"] = len(stack.starts)
    table = _interleaved(loops, widths, rounds, device, f"{case.name} B={case.batch_size}")
    chosen = "alone" if choice.most == 1 else f"{choice.most}"
    name = case.name if exact else f"{case.name} ≈"
    return table.assign(case=name, batch_size=case.batch_size, auto=chosen)


def trials_of(case: StackedCase, task: Task) -> Trials:
    """Return the trials of a cell, with learning rates so near that all of them train."""
    target, arguments, lr = OPTIMIZERS[case.optimizer]
    plan = Plan(
        batch_size=min(case.batch_size, len(task.train)),
        steps=10**6,
        seconds=None,
        until_largest=True,
        remainder="keep",
        reshuffle=True,
        per_epoch=-(-len(task.train) // case.batch_size),
        per_octave=4,
        every_epoch=1,
        evaluation_batch_size=1000,
        divergence_factor=100.0,
        target_metric="val_loss",
        target=0.0,
    )
    starts = [
        Start(lr / 100 * (1 + rate / 10), seed, *(named_seed(name, seed) for name in ("init", "order", "noise")))
        for rate in range(case.rates)
        for seed in range(case.seeds)
    ]

    def build(parameters: list[torch.Tensor], rate: float) -> torch.optim.Optimizer:
        return build_optimizer(target, "default", arguments, parameters, rate)

    trials = Trials(task, build, plan, starts, gradients=Gradients(task))
    return replace(trials, activation_bytes=activation_bytes(trials.stepper(starts[0])))


def summarise_loops(samples: pd.DataFrame) -> pd.DataFrame:
    """Return one row per optimizer and batch size: medians, and within-round ratios with intervals.

    Args:
        samples: As `measure_loops` returns them.

    Returns:
        Columns optimizer, batch_size, each of `LOOPS` (median seconds of a step), and for each other loop than ours
        X_over_ours, X_over_ours_lo, X_over_ours_hi (median ratio and its interval of at least 95 %).
    """
    rows = []
    for (optimizer, size), group in samples.groupby(["optimizer", "batch_size"], sort=False):
        wide = group.pivot_table(index="round", columns="contestant", values="seconds")
        row: dict[str, object] = {"optimizer": optimizer, "batch_size": size}
        row |= {name: wide[name].median() for name in LOOPS}
        for other in LOOPS:
            if other != "ours":
                row |= _ratio(f"{other}_over_ours", wide[other] / wide["ours"])
        rows.append(row)
    return pd.DataFrame(rows)


def summarise_stacks(samples: pd.DataFrame) -> pd.DataFrame:
    """Return one row per cell: medians alone and stacked, what stacking gains, and what `auto` makes of it.

    Args:
        samples: As `measure_stacks` returns them.

    Returns:
        Columns case, batch_size, alone (median seconds of a step of one trial), best (the fastest contestant), best's
        seconds, auto (the contestant that `auto` chooses), gain (alone / auto) with gain_lo and gain_hi, auto_over_best
        (speed of `auto` over that of the fastest).
    """
    rows = []
    for (case, size), group in samples.groupby(["case", "batch_size"], sort=False):
        wide = group.pivot_table(index="round", columns="contestant", values="seconds")
        medians = wide.median()
        best, auto = str(medians.idxmin()), str(group["auto"].iloc[0])
        row: dict[str, object] = {"case": case, "batch_size": size, "alone": medians["alone"]}
        row |= {"best": best, "best_seconds": medians[best], "auto": auto}
        row |= _ratio("gain", wide["alone"] / wide[auto])
        row["auto_over_best"] = (wide[best] / wide[auto]).median()
        rows.append(row)
    return pd.DataFrame(rows)


def markdown(loops: pd.DataFrame, stacks: pd.DataFrame, rounds: int, device: str) -> str:
    """Return both tables as Markdown, with what they compare."""
    lines = [
        f"`bench speed engine --device {device} --rounds {rounds}`: medians of {rounds} interleaved rounds on one "
        "thread, ratios within a round with an interval of at least 95 %.",
        "",
        "## One trial",
        "",
        "Microseconds of a training step of mnist5k/mlp.",
        "",
        "* ours: `bench.training.stepper`, fused optimizer",
        "* resident: written by hand, tensors on the device, `index_select`, `nn.Module`, `backward()`, fused",
        "* DataLoader: a data set of images with a transform per item, `DataLoader(shuffle=True)`, `.item()` each "
        "step, torch's default optimizer",
        "* products: the five matrix products of a step alone, without data, activations, loss or update",
        "",
        "| optimizer | batch | ours | resident | DataLoader | products | resident / ours | DataLoader / ours "
        "| ours / products |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in loops.to_dict("records"):
        times = " | ".join(f"{1e6 * row[name]:,.0f}" for name in LOOPS)
        ratios = " | ".join(_words(row, f"{other}_over_ours") for other in ("resident", "dataloader"))
        limit = f"{1 / row['products_over_ours']:.2f}"
        lines.append(f"| {row['optimizer']} | {row['batch_size']} | {times} | {ratios} | {limit} |")
    lines += [
        "",
        "## Stacked trials",
        "",
        "Microseconds of a step of one trial, torch's default implementations. Stacked are only sizes at which every "
        "trial ends as it does alone, to the last bit; in cells marked ≈, of tiny models, to "
        "rounding. The gain is that of what `training.stack=auto` chooses; beside "
        "it the speed of that choice over the fastest's.",
        "",
        "| cell | batch | alone | fastest | auto | gain | auto / fastest |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in stacks.to_dict("records"):
        best = f"{1e6 * row['best_seconds']:,.2f} ({row['best']})"
        lines.append(
            f"| {row['case']} | {row['batch_size']} | {1e6 * row['alone']:,.1f} | {best} | {row['auto']} | "
            f"{_words(row, 'gain')} | {row['auto_over_best']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _loaded(spec: TaskSpec, device: torch.device) -> Task:
    return load_task(spec, "", False, device, "float32", None, 0)


def _ratio(name: str, values: "pd.Series[float]") -> dict[str, float]:
    ratio = median_interval(values.tolist())
    return {name: ratio.median, f"{name}_lo": ratio.lo, f"{name}_hi": ratio.hi}


def _words(row: Mapping[Hashable, float], name: str) -> str:
    return f"{row[name]:.2f} ({row[f'{name}_lo']:.2f} … {row[f'{name}_hi']:.2f})"


def _interleaved(
    loops: Mapping[str, Loop], widths: Mapping[str, int], rounds: int, device: torch.device, label: str
) -> pd.DataFrame:
    """Time all loops in random order within each round; seconds are those of a step of one of a loop's trials."""
    shuffle = random.Random(label)
    steps = {name: _steps_per_visit(run, device) for name, run in loops.items()}
    rows = []
    for number in range(rounds):
        for name in shuffle.sample(sorted(loops), len(loops)):
            seconds = _timed(loops[name], steps[name], device) / steps[name] / widths.get(name, 1)
            rows.append((number, name, seconds))
        print(f"\r{label}: round {number + 1}/{rounds} ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return pd.DataFrame(rows, columns=["round", "contestant", "seconds"])


def _steps_per_visit(run: Loop, device: torch.device) -> int:
    """Warm a loop up and return how many steps fill a visit."""
    run(3)
    seconds = min(_timed(run, 5, device) for _ in range(2)) / 5
    return max(3, round(VISIT_SECONDS / seconds))


def _timed(run: Loop, steps: int, device: torch.device) -> float:
    synchronise(device)
    start = time.perf_counter()
    run(steps)
    synchronise(device)
    return time.perf_counter() - start
