"""Read back what W&B runs hold, through wandb's own command line: `wandb leet inspect --json`.

Run as `python -m bench.tracking.reader` this is the child that calls that command for the folders on its
standard input, one a line: importing wandb takes far longer than reading a run.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from bench.errors import BenchError, UsageError
from bench.tracking.confinement import child_environment, one_line

_MARK = "\x1ebench "
_TOO_OLD = 3
_NO_WANDB = 4


@dataclass
class RunLog:
    """What one run's log holds.

    Attributes:
        run: Its "run" record: `run_id`, `display_name`, `run_group`, `tags`, `project`, ….
        config: The config, without wandb's own entries.
        history: One item per logged row, in order.
        summary: The last value of each summary key; nested keys are joined by dots.
        artifacts: The "artifact" records.
        finished: Whether the log says that the run ended well.
        error: Why the log could not be read, in one line; None if it could.
    """

    run: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False
    error: str | None = None

    def take(self, entry: dict[str, Any]) -> None:
        """Add one record of the log."""
        kind = entry.get("type")
        body = entry.get(str(kind), {})
        if kind == "run":
            self.run = body
            update = body.get("config", {}).get("update", {})
            self.config = {key: value for key, value in update.items() if key != "_wandb"}
        elif kind == "history":
            self.history.append(body.get("item", {}))
        elif kind == "summary":
            self.summary |= body.get("update", {})
        elif kind == "artifact":
            self.artifacts.append(body)
        elif kind == "exit":
            self.finished = body.get("exit_code", 0) == 0


def read_runs(folders: Sequence[Path]) -> Iterator[RunLog]:
    """Read the logs of runs, in the order of their folders.

    Args:
        folders: Folders of runs, each with one `run-*.wandb`.

    Raises:
        UsageError: The installed wandb cannot read logs, or there is none.
        BenchError: Reading ended early.
    """
    if not folders:
        return
    with (
        tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as scratch,
        tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace") as paths,
        tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace") as words,
    ):
        paths.writelines(f"{folder.absolute()}\n" for folder in folders)
        paths.seek(0)
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "bench.tracking.reader"],
            stdin=paths,
            stdout=subprocess.PIPE,
            stderr=words,
            encoding="utf-8",
            errors="replace",
            env=child_environment(Path(scratch), "offline"),
            cwd=scratch,
        ) as process:
            assert process.stdout is not None
            try:
                yield from _parse(process.stdout)
            finally:
                process.stdout.close()
                code = process.wait()
        if code == _TOO_OLD:
            raise UsageError("the installed wandb has no `wandb leet inspect`; wandb-check needs wandb>=0.31")
        if code == _NO_WANDB:
            raise UsageError("wandb cannot be imported; wandb-check needs wandb>=0.31")
        if code != 0:
            words.seek(0)
            raise BenchError(f"reading W&B runs ended with exit code {code} ({one_line(words.read()[-300:])})")


def _parse(lines: IO[str]) -> Iterator[RunLog]:
    log, noise = RunLog(), ""
    for line in lines:
        if line.startswith(_MARK):
            code = int(line[len(_MARK) :])
            if code != 0:
                log.error = one_line(f"wandb leet inspect ended with exit code {code} {noise}")
            yield log
            log, noise = RunLog(), ""
            continue
        try:
            log.take(json.loads(line))
        except (ValueError, AttributeError):
            noise = line
            log.error = one_line(f"wandb leet inspect printed {line!r}")


def main() -> int:
    """Print the logs of the runs named on standard input, each followed by a mark with the exit code."""
    try:
        from wandb.cli.cli import cli
    except ImportError:
        return _NO_WANDB
    leet = cli.commands.get("leet")
    if leet is None or "inspect" not in getattr(leet, "commands", {}):
        return _TOO_OLD
    for line in sys.stdin:
        try:
            code = cli.main(["leet", "inspect", "--json", line.rstrip("\n")], standalone_mode=False)
        except SystemExit as end:
            code = end.code
        print(f"{_MARK}{code or 0}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
