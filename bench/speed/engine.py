"""How fast the training loop is, beside the loops people write by hand, interleaved in one run.

Every loop trains mnist5k/mlp-shaped data from the same parameters; rounds visit all loops in random order, so that a
machine whose speed drifts slows all of them alike. Reported are medians over rounds, and ratios taken within a round.
"""

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import functional as image

from bench.errors import UsageError
from bench.measure.intervals import median_interval
from bench.optimizers.registry import build_optimizer
from bench.results.environment import environment
from bench.tasks.registry import TaskSpec
from bench.tasks.task import Task, load_task
from bench.training.batches import BatchOrder
from bench.training.devices import prepare
from bench.training.stepper import Stepper, synchronise

BATCH_SIZES = (1, 8, 32, 256, 1024)
OPTIMIZERS: dict[str, tuple[str, dict[str, float], float]] = {
    "sgd": ("SGD", {}, 0.01),
    "adam": ("Adam", {}, 0.001),
}
#: Aimed-at seconds of one visit to one loop.
VISIT_SECONDS = 0.15

Loop = Callable[[int], None]


@dataclass(frozen=True)
class Case:
    """One loop at one batch size with one optimizer.

    Attributes:
        loop: Name of the loop.
        optimizer: Name of the optimizer.
        batch_size: Examples per step.
        run: Takes the number of steps to train.
    """

    loop: str
    optimizer: str
    batch_size: int
    run: Loop


def run_engine_benchmark(out: Path | None, rounds: int, device_name: str) -> int:
    """Run the benchmark, print its table, and write it if a folder is given.

    Args:
        out: Folder for engine.csv, engine.md and environment.json; None prints only.
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
    task = load_task(TaskSpec("mnist5k/mlp", "mnist5k", "mlp"), "", False, device, "float32", None, 0)
    samples = pd.concat([measure(task, name, size, rounds) for name in OPTIMIZERS for size in BATCH_SIZES])
    table = summarise(samples)
    text = markdown(table, rounds)
    print(text)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / "engine.md").write_text(text, encoding="utf-8")
            table.to_csv(out / "engine.csv", index=False, lineterminator="\n")
            (out / "environment.json").write_text(json.dumps(environment(device, 1), indent=1, sort_keys=True) + "\n")
        except OSError as error:
            raise UsageError(f"--out {out}: cannot be written ({error.strerror or error})") from None
    return 0


def measure(task: Task, optimizer: str, batch_size: int, rounds: int) -> pd.DataFrame:
    """Time all loops at one batch size, in random order within each round.

    Returns:
        Columns round, loop, optimizer, batch_size, examples_per_second; one row per visit.
    """
    cases = [
        Case("ours", optimizer, batch_size, _ours(task, optimizer, batch_size)),
        Case("resident", optimizer, batch_size, _resident(task, optimizer, batch_size)),
        Case("dataloader", optimizer, batch_size, _dataloader(task, optimizer, batch_size)),
    ]
    shuffle = random.Random(f"{optimizer} {batch_size}")
    steps = {case.loop: _steps_per_visit(case, task.device) for case in cases}
    rows = []
    for number in range(rounds):
        for case in shuffle.sample(cases, len(cases)):
            seconds = _timed(case.run, steps[case.loop], task.device)
            rate = steps[case.loop] * batch_size / seconds
            rows.append((number, case.loop, optimizer, batch_size, rate))
        print(f"\r{optimizer} B={batch_size}: round {number + 1}/{rounds} ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return pd.DataFrame(rows, columns=["round", "loop", "optimizer", "batch_size", "examples_per_second"])


def summarise(samples: pd.DataFrame) -> pd.DataFrame:
    """Return one row per optimizer and batch size: medians, and within-round ratios with intervals.

    Args:
        samples: As `measure` returns them.

    Returns:
        Columns optimizer, batch_size, ours, resident, dataloader (median examples/s), and for each of the other two
        loops ours_over_X, ours_over_X_lo, ours_over_X_hi (median ratio and its interval of at least 95 %).
    """
    rows = []
    for (optimizer, size), group in samples.groupby(["optimizer", "batch_size"], sort=False):
        wide = group.pivot_table(index="round", columns="loop", values="examples_per_second")
        row: dict[str, object] = {"optimizer": optimizer, "batch_size": size}
        row |= {name: wide[name].median() for name in ("ours", "resident", "dataloader")}
        for other in ("resident", "dataloader"):
            ratio = median_interval((wide["ours"] / wide[other]).tolist())
            row |= {
                f"ours_over_{other}": ratio.median,
                f"ours_over_{other}_lo": ratio.lo,
                f"ours_over_{other}_hi": ratio.hi,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame, rounds: int) -> str:
    """Return the summary as a Markdown table with what the loops are."""
    lines = [
        f"Training steps of mnist5k/mlp on one thread, examples per second; medians of {rounds} interleaved rounds, "
        "ratios within a round with an interval of at least 95 %.",
        "",
        "* ours: `bench.training.stepper`, fused optimizer",
        "* resident: written by hand, tensors on the device, `index_select`, `nn.Module`, `backward()`, fused",
        "* DataLoader: a data set of images with a transform per item, `DataLoader(shuffle=True)`, `.item()` each "
        "step, torch's default optimizer",
        "",
        "| optimizer | batch | ours | resident | DataLoader | ours / resident | ours / DataLoader |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        resident, loader = (
            f"{row[f'ours_over_{o}']:.2f} ({row[f'ours_over_{o}_lo']:.2f} … {row[f'ours_over_{o}_hi']:.2f})"
            for o in ("resident", "dataloader")
        )
        rates = " | ".join(f"{row[name]:,.0f}" for name in ("ours", "resident", "dataloader"))
        lines.append(f"| {row['optimizer']} | {row['batch_size']} | {rates} | {resident} | {loader} |")
    return "\n".join(lines) + "\n"


def _steps_per_visit(case: Case, device: torch.device) -> int:
    """Warm a loop up and return how many steps fill a visit."""
    case.run(3)
    seconds = min(_timed(case.run, 5, device) for _ in range(2)) / 5
    return max(3, round(VISIT_SECONDS / seconds))


def _timed(run: Loop, steps: int, device: torch.device) -> float:
    synchronise(device)
    start = time.perf_counter()
    run(steps)
    synchronise(device)
    return time.perf_counter() - start


def _ours(task: Task, optimizer: str, batch_size: int) -> Loop:
    target, arguments, lr = OPTIMIZERS[optimizer]
    parameters = task.initialise(0)
    order = BatchOrder(task.train.inputs, task.train.labels, batch_size, "keep", True, 0)
    stepper = Stepper(task, parameters, build_optimizer(target, "fused", arguments, parameters, lr), order)
    return lambda steps: stepper.run(steps, lambda: False)


def _module(task: Task) -> nn.Module:
    """Return the network people write, holding the same parameters as ours."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)).to(task.device)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), task.initialise(0), strict=True):
            parameter.copy_(value)
    return model


def _resident(task: Task, optimizer: str, batch_size: int) -> Loop:
    target, arguments, lr = OPTIMIZERS[optimizer]
    model, loss_function = _module(task), nn.CrossEntropyLoss()
    update = build_optimizer(target, "fused", arguments, model.parameters(), lr)
    inputs, labels = task.train.inputs, task.train.labels
    generator = torch.Generator().manual_seed(0)

    def batches() -> Iterator[Tensor]:
        while True:
            order = torch.randperm(len(labels), generator=generator).to(task.device)
            yield from order.split(batch_size)

    stream = batches()

    def run(steps: int) -> None:
        for _ in range(steps):
            chosen = next(stream)
            update.zero_grad(set_to_none=True)
            loss = loss_function(model(inputs.index_select(0, chosen)), labels.index_select(0, chosen))
            loss.backward()
            update.step()

    return run


class _Images(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's data sets give them: a PIL image per item, transformed one by one."""

    def __init__(self, task: Task) -> None:
        pixels = task.train.inputs.squeeze(1).cpu()
        low, high = pixels.min(), pixels.max()
        self._images = ((pixels - low) / (high - low) * 255).to(torch.uint8)
        self._labels = task.train.labels.tolist()
        self._transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = image.to_pil_image(self._images[index])
        return self._transform(picture), self._labels[index]


def _dataloader(task: Task, optimizer: str, batch_size: int) -> Loop:
    target, arguments, lr = OPTIMIZERS[optimizer]
    model, loss_function = _module(task), nn.CrossEntropyLoss()
    update = build_optimizer(target, "default", arguments, model.parameters(), lr)
    loader = DataLoader(_Images(task), batch_size=batch_size, shuffle=True)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader

    stream = batches()

    def run(steps: int) -> None:
        for _ in range(steps):
            inputs, labels = next(stream)
            update.zero_grad()
            loss = loss_function(model(inputs.to(task.device)), labels.to(task.device))
            loss.backward()
            update.step()
            loss.item()

    return run
