"""The command line: commands, and nothing else."""

import argparse
import errno
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bench import __version__
from bench.errors import BenchError, UsageError, printable, unknown

if TYPE_CHECKING:
    from omegaconf import DictConfig

FAILED_EXIT = 1
USAGE_EXIT = 2
INTERRUPTED_EXIT = 130
#: What is wrong with a disk, not with what was typed.
DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with the nearest match."""

    def error(self, message: str) -> NoReturn:
        """Raise a UsageError instead of printing the whole usage."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 well, 1 failed, 2 usage, 3 inconclusive, 4 not comparable, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _check_text(words)
        code = _dispatch(words)
    except BenchError as error:
        print(f"bench: {printable(str(error))}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        code = INTERRUPTED_EXIT
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough.
        sys.stderr.close()
        code = 0
    except OSError as error:
        code = _explain(error)
    sys.exit(code)


def _explain(error: OSError) -> int:
    """Say in a line what went wrong with a file or disk, and return the exit code.

    Raises:
        OSError: It was neither a file that somebody named nor a disk that is full, read-only or broken.
    """
    if error.strerror is None or (error.filename is None and error.errno not in DISK_ERRORS):
        raise error
    where = f"{printable(str(error.filename))}: " if error.filename is not None else ""
    print(f"bench: {where}{error.strerror}", file=sys.stderr)
    return FAILED_EXIT if error.errno in DISK_ERRORS else USAGE_EXIT


def _check_text(words: Sequence[str]) -> None:
    """Refuse words that neither a record nor a file name can hold: bytes that are no UTF-8, and the null character."""
    for word in words:
        if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in word):
            raise UsageError(f"{word!r}: must be UTF-8 text without null characters")


def _dispatch(words: list[str]) -> int:
    if words and words[0] == "run":
        return _run(words[1:])
    if words and words[0] in ("-sc", "--shell-completion"):
        from bench.composition import complete

        complete(words, sorted([*COMMANDS, "run"]))
        return 0
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        raise unknown("command", words[0], [*COMMANDS, "run"])
    options = _parser().parse_args(words)
    if options.command is None:
        _parser().print_help()
        return USAGE_EXIT
    options.line = shlex.join(["bench", *words])
    return COMMANDS[options.command](options)


def _parser() -> Parser:
    parser = Parser(
        prog="bench",
        description="What do batch size and optimizer choice do to speed, memory, convergence and generalisation?",
        epilog="exit codes: 0 all well, 1 a run failed or a check found a difference, 2 usage, 3 inconclusive, "
        "4 not comparable, 5 the speed check failed its own check, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"bench {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    commands.add_parser("run", help="run one cell, or with -m a grid (Hydra overrides; bench run --help)")
    status = _sweep_parser(commands, "status", "how far a sweep is: done, running, failed, waiting, time left")
    status.add_argument("--watch", action="store_true", help="look again every 2 seconds, until it is done")
    status.add_argument("--json", action="store_true", help="one JSON object instead of words (docs/sweeps.md)")
    report = _sweep_parser(commands, "report", "write the report of a sweep: HTML, Markdown, figures, tables")
    report.add_argument("-o", "--out", type=Path, help="folder to write (default: RESULTS_ROOT/SWEEP/report)")
    report.add_argument(
        "--claims",
        default="",
        metavar="NAME,…",
        help="claims to judge, such as C5,C16 (default: all; bench list claims)",
    )
    report.add_argument(
        "--also",
        default="",
        metavar="SWEEP,…",
        help="other sweeps that claims may be judged on: each on that of the experiment which it names",
    )
    report.add_argument("--language", default="en", metavar="LANGUAGE", help="en or zh (default: en)")
    export = _sweep_parser(commands, "export", "write a sweep's cells, trials and curves as tables")
    export.add_argument("-o", "--out", type=Path, help="folder to write (default: RESULTS_ROOT/SWEEP/export)")
    export.add_argument("--format", choices=("csv", "parquet"), default="csv", help="file format (default: csv)")
    verify = _sweep_parser(commands, "verify", "run stored cells again and compare digests")
    verify.add_argument("-n", type=int, help="how many cells, drawn evenly over the sweep (default: all)")
    verify.add_argument(
        "--allow-code", action="store_true", help="import tasks and optimizers outside the suite that records name"
    )
    audit = commands.add_parser("audit", help="check the measurement itself on one cell (Hydra overrides)")
    audit.add_argument("overrides", nargs="*", help="as for bench run")
    frontier = commands.add_parser("frontier", help="the largest batch that fits, predicted and found")
    frontier.add_argument("overrides", nargs="*", help="as for bench run; the batch size is not looked at")
    frontier.add_argument(
        "--limit-mib", type=float, metavar="MIB", help="memory that batches may take (default: the device's; CPU: 2048)"
    )
    frontier.add_argument("--most", type=int, default=2**24, metavar="N", help="largest batch to try (default: 2^24)")
    frontier.add_argument("-o", "--out", type=Path, metavar="FILE", help="write it as JSON")
    _throughput_parser(commands)
    _retry_parser(commands)
    _merge_parser(commands)
    _import_parser(commands)
    _compare_parser(commands)
    listing = commands.add_parser("list", help="list what there is to choose from")
    listing.add_argument("what", metavar="{tasks,optimizers,experiments,measures,claims}", help="what to list")
    _sweep_parser(commands, "wandb-check", "compare a sweep's records with their W&B mirror")
    speed = commands.add_parser("speed", help="speed of the training loop itself")
    speed_commands = speed.add_subparsers(dest="speed_command", metavar="COMMAND", parser_class=Parser, required=True)
    engine = speed_commands.add_parser(
        "engine", help="our loop beside those people write, stacked trials beside single ones"
    )
    engine.add_argument("-o", "--out", type=Path, help="folder for engine.md, tables and environment.json")
    engine.add_argument("--rounds", type=int, default=15, help="interleaved rounds (default: 15)")
    engine.add_argument("--device", default="cpu", help="device (default: cpu)")
    _speed_parsers(speed_commands)
    return parser


def _throughput_parser(commands: "argparse._SubParsersAction[Parser]") -> None:
    summary = "time optimizers and batch sizes in randomised blocks in one process"
    throughput = commands.add_parser(
        "throughput",
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}: throughput, step-time fit, powers of two.",
        epilog="example: bench throughput -o out task=mnist5k/mlp optimizer=sgd,adam batch_size=1,8,64,512",
    )
    throughput.add_argument("overrides", nargs="*", help="as for bench run -m; a grid of optimizers and batch sizes")
    throughput.add_argument("-m", "--multirun", action="store_true", help="allowed as in bench run; a grid either way")
    throughput.add_argument("--rounds", type=int, default=9, metavar="N", help="rounds, at least 5 (default: 9)")
    throughput.add_argument(
        "--control",
        metavar="OPTIMIZER:BATCH",
        help="cell measured again in between (default: the smallest batch of the first optimizer)",
    )
    throughput.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the orders (default: 0)")
    throughput.add_argument("-o", "--out", type=Path, metavar="DIR", help="folder for throughput.md, json, csv and svg")


def _retry_parser(commands: "argparse._SubParsersAction[Parser]") -> None:
    retry = _sweep_parser(commands, "retry", "run cells again that did not end well")
    retry.add_argument("--status", required=True, metavar="STATUS,…", help="failed, oom, interrupted, unavailable")
    retry.add_argument("--workers", default="auto", metavar="N", help="worker processes (default: auto)")
    retry.add_argument(
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="data.root=PATH; or code that a record names, repeated so that it may be imported: optimizer.target=…",
    )


def _merge_parser(commands: "argparse._SubParsersAction[Parser]") -> None:
    summary = "join the records of two sweeps, such as of two machines"
    merge = commands.add_parser(
        "merge",
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}: those of B that A lacks are copied to A, or all to a third.",
        epilog="exit codes: 0 all well, 1 a cell has another digest on the same hardware (nothing is written then), or "
        "a record cannot be read, 2 usage",
    )
    _two_sweeps(merge)
    merge.add_argument("-o", "--out", type=Path, metavar="DIR", help="folder of a third sweep (default: that of A)")
    merge.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")


def _two_sweeps(parser: argparse.ArgumentParser) -> None:
    for name in ("a", "b"):
        parser.add_argument(
            f"sweep_{name}",
            metavar=f"SWEEP_{name.upper()}",
            help="name of a sweep under the results root, or its folder",
        )
    parser.add_argument("--results-root", default="results", help="folder of all sweeps (default: results)")


def _import_parser(commands: "argparse._SubParsersAction[Parser]") -> None:
    imported = commands.add_parser(
        "import",
        help="write trials that others published as tables",
        description="Write trials that others published as cells, trials and curves, in the columns of bench export.",
        epilog="layouts: batch-science, the unpacked archive of arXiv 1811.03600 or any folder in it",
    )
    imported.add_argument("layout", metavar="LAYOUT", help="how it is laid out: batch-science")
    imported.add_argument("path", type=Path, metavar="PATH", help="folder of what was published")
    imported.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="folder of the tables (default: imported/LAYOUT)"
    )


def _compare_parser(commands: "argparse._SubParsersAction[Parser]") -> None:
    summary = "what changed between two sweeps: machines, versions, commits"
    compare = commands.add_parser(
        "compare",
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}. Results, steps to target, speed and memory are held against "
        "margins declared beforehand.",
        epilog="exit codes: 0 equal within the margins, 1 a difference or regression beyond them, 2 usage, "
        "3 inconclusive, 4 no cell in common",
    )
    _two_sweeps(compare)
    compare.add_argument("-o", "--out", type=Path, metavar="DIR", help="folder for compare.md and tables as CSV")


def _speed_parsers(commands: "argparse._SubParsersAction[Parser]") -> None:
    run = commands.add_parser("run", help="time the cases with pytest-benchmark: its table, its options after --")
    run.add_argument("arguments", nargs="*", metavar="-- ARGUMENT", help="for pytest, such as --benchmark-json=FILE")
    check = commands.add_parser(
        "check",
        help="did step() get slower since a git reference, or between two environments?",
        epilog="exit codes: 0 ok, 1 slower or more memory, 2 usage, 3 inconclusive, 4 not comparable, 5 the check "
        "failed its own check, 130 interrupted",
    )
    check.add_argument("--base", metavar="REF", help="git reference to compare the working tree with")
    check.add_argument("--base-python", metavar="PATH", help="interpreter of base, such as one with another torch")
    check.add_argument("--gate", type=float, default=2.5, metavar="PERCENT", help="slowdown that fails (default: 2.5)")
    check.add_argument("--budget", type=float, default=900, metavar="SECONDS", help="most time (default: 900)")
    check.add_argument(
        "--rounding", type=float, default=0.0, metavar="X", help="relative difference of numbers allowed (default: 0)"
    )
    check.add_argument("--instructions", action="store_true", help="count instructions too (valgrind; minutes)")
    check.add_argument("--json", type=Path, metavar="FILE", help="write it as pytest-benchmark's JSON")
    check.add_argument(
        "--markdown", type=Path, metavar="FILE", help="append the table to a file, such as a job summary"
    )
    check.add_argument("--history", type=Path, metavar="FILE", help="append one JSON line to a file")
    selftest = commands.add_parser(
        "self-test", help="how often does the check cry wolf here, and what does it catch? identical and slowed code"
    )
    selftest.add_argument("--checks", type=int, default=24, help="checks of identical code (default: 24)")
    selftest.add_argument("--injections", type=int, default=60, help="slowed cases a level (default: 60)")
    selftest.add_argument("--plain", type=int, default=6, help="pairs of plain pytest-benchmark runs (default: 6)")
    selftest.add_argument("--hog", action="store_true", help="keep another processor busy meanwhile")
    selftest.add_argument("-o", "--out", type=Path, help="folder for self-test tables and environment.json")
    for parser in (run, check, selftest):
        parser.add_argument(
            "--cases",
            action="append",
            default=[],
            metavar="PATH",
            help="file or folder (default: tests/speed)",
        )
        parser.add_argument("-k", dest="keyword", default="", metavar="EXPRESSION", help="choose cases, as in pytest")
        parser.add_argument(
            "-m", dest="markers", metavar="EXPRESSION", help="choose by marker (default: 'not extended'; '' for all)"
        )
    history = commands.add_parser("history", help="trend of each case over stored checks, with changes of level")
    history.add_argument("file", type=Path, help="file that bench speed check --history FILE appended to")
    history.add_argument("-o", "--out", type=Path, help="folder for history.csv, history.md and history.svg")
    history.add_argument("-k", dest="keyword", default="", metavar="PART", help="part of a case's name, or * and ?")


def _sweep_parser(commands: "argparse._SubParsersAction[Parser]", name: str, summary: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    parser.add_argument("sweep", metavar="SWEEP", help="name of a sweep under the results root, or its folder")
    parser.add_argument("--results-root", default="results", help="folder of all sweeps (default: results)")
    if name in ("report", "export"):
        parser.add_argument(
            "--skip-unreadable", action="store_true", help="leave out records that cannot be read, and name them"
        )
    return parser


def _run(words: list[str]) -> int:
    from bench.composition import run_hydra

    words, dry_run = [word for word in words if word != "--dry-run"], "--dry-run" in words
    if dry_run and not {"-m", "--multirun"} & set(words):
        raise UsageError("--dry-run: says what a grid would come to; it needs -m")
    if dry_run:
        # Beside the other overrides: Hydra's parser takes them in one piece only.
        place = next((n for n, word in enumerate(words) if "=" in word and not word.startswith("-")), len(words))
        words.insert(place, "hydra.launcher.dry_run=true")
    composed, note = run_hydra(words, elsewhere=_run_one)
    if not composed:
        return 0
    from bench.config import resolve
    from bench.launching.sweep import run_sweep

    cells = [resolve(config) for config in composed]
    if len(cells) == 1:
        overrides = tuple(word for word in words if not word.startswith("-"))
        cells = [replace(cells[0], overrides=overrides)]
    return run_sweep(cells, workers=1, command=shlex.join(["bench", "run", *words]), note=note)


def _run_one(config: "DictConfig") -> int:
    """Run a cell in a process that another launcher has made for it."""
    from bench.config import resolve
    from bench.launching.sweep import run_sweep

    return run_sweep([resolve(config)], workers=1, command=shlex.join(["bench", "run"]))


def _report(options: argparse.Namespace) -> int:
    from bench.claims.claim import chosen_claims
    from bench.report.build import write_report
    from bench.report.messages import messages
    from bench.results.store import open_sweep

    claims, language = chosen_claims(options.claims), messages(options.language)
    store, *others = (
        open_sweep(name, options.results_root) for name in (options.sweep, *filter(None, options.also.split(",")))
    )
    if not options.skip_unreadable:
        for sweep in (store, *others):
            sweep.check_readable()
    written = write_report(store, options.out or store.path / "report", claims, language, others)
    print(f"report: {written.index}")
    for claim in written.missing if options.claims else ():
        print(f"{claim.name}: no data in this sweep; bench run -m experiment={claim.experiment} supplies them")
    return 0


def _export(options: argparse.Namespace) -> int:
    from bench.results.export import export
    from bench.results.store import open_sweep

    store = open_sweep(options.sweep, options.results_root)
    for path, rows in export(store, options.out or store.path / "export", options.format, options.skip_unreadable):
        print(f"{path}: {rows} rows")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from bench.launching.verify import verify
    from bench.results.store import open_sweep

    if options.n is not None and options.n < 1:
        raise UsageError(f"-n {options.n}: must be at least 1")
    return verify(open_sweep(options.sweep, options.results_root), options.n, options.allow_code)


def _status(options: argparse.Namespace) -> int:
    from bench.launching.status import show_status
    from bench.results.store import open_sweep

    return show_status(open_sweep(options.sweep, options.results_root, planned=True), options.watch, options.json)


def _retry(options: argparse.Namespace) -> int:
    from bench.launching.retry import retry
    from bench.results.store import open_sweep

    workers = int(options.workers) if options.workers.isdecimal() else options.workers
    if workers != "auto" and not (isinstance(workers, int) and workers >= 1):
        raise UsageError(f"--workers {workers}: must be an integer ≥ 1, or auto")
    return retry(open_sweep(options.sweep, options.results_root), options.status, options.override, workers)


def _merge(options: argparse.Namespace) -> int:
    from bench.launching.merge import merge_sweeps
    from bench.results.store import Store, open_sweep

    first, second = (open_sweep(name, options.results_root) for name in (options.sweep_a, options.sweep_b))
    return merge_sweeps(first, second, Store(options.out.resolve()) if options.out else None, options.dry_run)


def _audit(options: argparse.Namespace) -> int:
    from bench.composition import compose_config
    from bench.config import resolve
    from bench.launching.cell import audit_cell
    from bench.listing import print_table

    cell = resolve(compose_config(options.overrides))
    checks = audit_cell(cell)
    rows = [("ok" if c.passed else "FAILED", c.check, c.value, c.expected) for c in checks]
    print_table(f"audit of {cell.label}", ("", "check", "found", "expected"), rows)
    return 0 if all(check.passed for check in checks) else 1


def _frontier(options: argparse.Namespace) -> int:
    from bench.launching.frontier import frontier

    return frontier(options.overrides, options.limit_mib, options.most, options.out)


def _throughput(options: argparse.Namespace) -> int:
    from bench.launching.throughput import Asked, throughput

    return throughput(
        Asked(tuple(options.overrides), options.rounds, options.control, options.seed, options.out, options.line)
    )


def _list(options: argparse.Namespace) -> int:
    from bench.listing import LISTINGS, print_table

    if options.what not in LISTINGS:
        raise unknown("thing to list", options.what, LISTINGS)
    print_table(*LISTINGS[options.what]())
    return 0


def _import(options: argparse.Namespace) -> int:
    from bench.launching.imports import import_published

    return import_published(options.layout, options.path, options.out)


def _compare(options: argparse.Namespace) -> int:
    from bench.launching.compare import compare_sweeps
    from bench.results.store import open_sweep

    stores = [open_sweep(name, options.results_root) for name in (options.sweep_a, options.sweep_b)]
    return compare_sweeps(stores[0], stores[1], options.out)


def _wandb_check(options: argparse.Namespace) -> int:
    from bench.results.store import open_sweep
    from bench.tracking.check import run

    return run(open_sweep(options.sweep, options.results_root))


def _speed(options: argparse.Namespace) -> int:
    if options.speed_command == "engine":
        from bench.speed.engine import run_engine_benchmark

        return run_engine_benchmark(options.out, options.rounds, options.device)
    if options.speed_command == "history":
        from bench.speed.history_command import show_history

        return show_history(options.file, options.out, options.keyword)
    if options.speed_command == "self-test":
        from bench.speed.self_test import self_test

        return self_test(options)
    from bench.speed.command import speed_check, speed_run

    return speed_check(options) if options.speed_command == "check" else speed_run(options)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "status": _status,
    "retry": _retry,
    "merge": _merge,
    "report": _report,
    "export": _export,
    "verify": _verify,
    "audit": _audit,
    "frontier": _frontier,
    "throughput": _throughput,
    "import": _import,
    "compare": _compare,
    "list": _list,
    "wandb-check": _wandb_check,
    "speed": _speed,
}


if __name__ == "__main__":
    main()
