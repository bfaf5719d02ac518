"""Peak memory of a cell's steps in a process that has done nothing else.

A worker's resident memory holds what every cell before left behind; that of a process of its own holds one trial.
Run as a module, it reads a cell's configuration from standard input and answers with one line, both of them JSON.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

from omegaconf import OmegaConf

from bench.config import Cell, resolve
from bench.devices import is_parallel
from bench.errors import BenchError
from bench.launching.pool import cause_of_death
from bench.measure.memory import StepPeak, in_process, out_of_memory

#: Seconds that such a process may take.
PATIENCE = 600.0


def peak_in_fresh_process(cell: Cell, patience: float = PATIENCE) -> StepPeak:
    """Return the resident peak of a cell's first steps in a process of its own, which takes a second or two to start.

    Args:
        cell: The cell; its device is a CPU.
        patience: Seconds that it may take.

    Returns:
        The peak; where there is none, because the process ran out of memory, died or took too long, the reason.
    """
    device = cell.config.device.name
    if is_parallel(device):
        return StepPeak(None, None, f"device {device}: is measured in the processes that train it")
    if device != "cpu":
        return StepPeak(None, None, f"device {device}: its allocator counts each cell from zero")
    path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "bench.launching.peak"],
            input=json.dumps(cell.plain()).encode(),
            capture_output=True,
            timeout=patience,
            env=os.environ | {"PYTHONPATH": path},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return StepPeak(None, None, f"its process took longer than {patience:g} s")
    except OSError as error:
        return StepPeak(None, None, f"its process could not be started ({error.strerror or error})")
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        last = f": {lines[-1].strip()}" if lines and done.returncode > 0 else ""
        return StepPeak(None, None, cause_of_death(done.returncode, "its process") + last)
    return StepPeak(**json.loads(done.stdout))


def _measure(cell: Cell) -> StepPeak:
    from bench.launching.cell import fresh_trial
    from bench.training.devices import prepare

    device = prepare(cell.config.device.name, cell.config.device.threads, cell.config.precision)
    try:
        # Whatever is built lazily belongs to the process, not to the cell.
        fresh_trial(replace(cell, batch_size=1), device, traced=False).run(1, lambda: False)
        return in_process(fresh_trial(cell, device, traced=False))
    except BenchError as error:
        return StepPeak(None, None, str(error))
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        lines = str(error).strip().splitlines()
        return StepPeak(None, None, f"out of memory: {lines[0] if lines else type(error).__name__}")


def main() -> None:
    """Measure the cell on standard input, and answer on standard output, which nothing else gets to."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    found = _measure(resolve(OmegaConf.create(json.load(sys.stdin))))
    with answer:
        print(json.dumps(asdict(found)), file=answer)


if __name__ == "__main__":
    main()
