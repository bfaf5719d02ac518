"""The check: every case in pairs of processes, only passing early; alarms confirmed by interpreters started anew."""

import contextlib
import datetime
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import bench
from bench.errors import NotComparable, UsageError
from bench.speed import layout, statistics
from bench.speed.arms import Arm, ArmFailed, CaseEnded, Code, Collected
from bench.speed.history import fingerprint
from bench.speed.instructions import count_instructions
from bench.speed.pairs import How, TooSlow, measure_pair
from bench.speed.pressure import Pressure
from bench.speed.result import CaseResult, CheckResult, Facts, Pair, Side, Verdict
from bench.speed.sources import Source, check_isolation
from bench.speed.statistics import PAIRS, Step

DEFAULT_BUDGET = 900.0
#: Of so many cases, one is also compared with itself.
CASES_PER_SENTINEL = 12
#: Share of the budget that one pair may take.
PAIR_SHARE = 1 / 20


@dataclass(frozen=True)
class Options:
    """How a check is made.

    Attributes:
        gate: Slowdown that fails, as a fraction.
        budget: Seconds that all measuring may take.
        rounding: Largest relative difference of numbers that counts as the same mathematics; 0 for bit by bit.
        instructions: Whether to count instructions under callgrind as well.
        command: What repeats the check, for the record.
        slowdown: Fraction by which to slow every case of head down (self-test).
    """

    gate: float = statistics.DEFAULT_GATE
    budget: float = DEFAULT_BUDGET
    rounding: float = 0.0
    instructions: bool = False
    command: str = ""
    slowdown: float = 0.0


@dataclass(frozen=True)
class Subject:
    """What is compared.

    Attributes:
        base: Base's code, asked head's cases.
        head: Head's code.
        sources: Where they come from, base first; None where both are the same files in two environments.
        own: Cases that base has by its own definitions; None where those are head's.
        absent: Case files that base does not have: their cases are not new but compared.
    """

    base: Code
    head: Code
    sources: tuple[Source, Source] | None
    own: frozenset[str] | None = None
    absent: frozenset[str] = frozenset()


@dataclass
class Row:
    """A case while it is being measured."""

    case: str
    pairs: list[Pair] = field(default_factory=list)
    confirmation: list[Pair] = field(default_factory=list)
    base: Facts | None = None
    head: Facts | None = None
    verdict: Verdict | None = None
    reason: str = ""
    instructions: tuple[float, float] | None = None

    @property
    def changes(self) -> list[float]:
        """Changes of the pairs so far."""
        return [pair.change for pair in self.pairs]

    def end(self, verdict: Verdict, reason: str) -> None:
        """Say what is said of it; nothing more is measured."""
        self.verdict, self.reason = verdict, reason

    def result(self) -> CaseResult:
        """Return it as data."""
        assert self.verdict is not None
        return CaseResult(
            self.case,
            self.verdict,
            self.reason,
            tuple(self.pairs),
            tuple(self.confirmation),
            self.base,
            self.head,
            self.instructions,
        )


class Check:
    """One check from start to end.

    Args:
        subject: What is compared.
        options: How.
        say: Told in a few words what goes on.
    """

    def __init__(self, subject: Subject, options: Options, say: Callable[[str], None] = lambda words: None) -> None:
        self._subject, self._options, self._say = subject, options, say
        self._processor = layout.quietest_processor()
        self._arms: dict[str, Arm] = {}
        self._collected: dict[str, Collected] = {}
        self._start = time.monotonic()
        # Only where it is needed: what kills a check leaves it behind.
        self._values = Path(tempfile.mkdtemp(prefix="bench-speed-values.")) if options.rounding else None

    def run(self) -> CheckResult:
        """Make the check.

        Raises:
            UsageError: There is no case.
            NotComparable: Head cannot collect its cases, base would run head's code, or nothing can be compared.
            ArmFailed: An arm cannot be started.
        """
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        pressure = Pressure()
        try:
            self._open()
            rows, gone = self._rows()
            live = [row for row in rows if row.verdict is None]
            if rows and not live and not gone:
                raise NotComparable(f"base can run none of the {len(rows)} cases: {rows[0].reason}")
            every = max(1, round(len(live) / max(1, round(len(live) / CASES_PER_SENTINEL))))
            sentinels = [Row(row.case) for row in live[every // 2 :: every]]
            self._measure(live, sentinels)
            if not gone and all(row.verdict is Verdict.NEW for row in rows):
                # Of a case that is broken or took too long, its verdict says enough.
                raise NotComparable(f"nothing could be compared: {rows[0].case}: {rows[0].reason}")
            self._confirm([row for row in live if row.verdict is None and self._alarm(row)], "head")
            self._confirm([row for row in sentinels if row.verdict is None and self._alarm(row)], "twin")
            if self._options.instructions:
                self._count([row for row in live if row.pairs])
        finally:
            self._close()
            if self._values is not None:
                shutil.rmtree(self._values, ignore_errors=True)
        deviation = statistics.noise([change for row in sentinels for change in row.changes])
        for row in itertools.chain(live, sentinels):
            self._judge(row)
        head = self._collected["head"]
        result = CheckResult(
            time=when,
            suite=bench.__version__,
            command=self._options.command,
            base=self._side("base"),
            head=self._side("head"),
            fingerprint=fingerprint(head.python, head.torch, head.capability),
            gate=self._options.gate,
            cases=tuple(row.result() for row in rows)
            + tuple(CaseResult(case, Verdict.GONE, "only base has it") for case in gone),
            sentinels=tuple(row.result() for row in sentinels),
            noise=deviation,
            detectable=None if deviation is None else statistics.detectable(deviation, self._options.gate),
            pressure=pressure.shares(),
            seconds=time.monotonic() - self._start,
            exit_code=0,
        )
        return replace(result, exit_code=exit_code(result))

    def _open(self) -> None:
        """Start what is not running: base, head, and base once more to compare base with."""
        if self._arms:
            return
        self._arms["base"] = Arm(self._subject.base, self._processor, with_twin=True)
        self._arms["head"] = Arm(self._subject.head, self._processor)
        for name in ("base", "head"):
            self._collected[name] = self._arms[name].collect()
        self._arms["twin"] = self._arms["base"].twin("head")

    def _close(self) -> None:
        for name in ("base", "head"):
            if name in self._arms:
                self._arms[name].close()
        self._arms.clear()

    def _rows(self) -> tuple[list[Row], list[str]]:
        """Return a row for every case of head, and the cases that only base has."""
        subject, base, head = self._subject, self._collected["base"], self._collected["head"]
        for file, error in head.errors.items():
            raise NotComparable(f"head cannot collect {file}: {error}")
        known, own = set(base.cases), subject.own
        gone = sorted(((own or frozenset()) | known) - set(head.cases))
        if not head.cases and not gone:
            raise UsageError("no cases: no collected test uses the benchmark fixture (see --cases, -k)")
        rows = [Row(case) for case in head.cases]
        for row in rows:
            file = row.case.partition("::")[0]
            if row.case not in known:
                why = base.errors.get(file)
                row.end(Verdict.NEW, f"base cannot collect it: {why}" if why else "base does not have it")
            elif own is not None and file not in subject.absent and row.case not in own:
                row.end(Verdict.NEW, "base does not have it")
        return rows, gone

    def _measure(self, rows: Sequence[Row], sentinels: Sequence[Row]) -> None:
        """Measure until each row is decided; sentinels are always measured in full."""
        for number in range(PAIRS):
            todo = [row for row in rows if row.verdict is None and (number == 0 or self._suspicious(row))]
            todo_twins = [row for row in sentinels if row.verdict is None]
            # Spread over the pass, so that both see the same machine.
            step = max(1, len(todo) // max(1, len(todo_twins)))
            twins = iter(todo_twins)
            done, total = 0, len(todo) + len(todo_twins)
            for index, row in enumerate(todo):
                if index % step == 0 and (twin := next(twins, None)) is not None:
                    self._pair(twin, "twin", number)
                    done += 1
                done += 1
                self._say(f"pass {number + 1} of at most {PAIRS}: {done}/{total} {short(row.case)}")
                self._pair(row, "head", number)
            for twin in twins:
                self._pair(twin, "twin", number)
            if number == 0 and rows:
                self._isolated()

    def _suspicious(self, row: Row) -> bool:
        return bool(row.pairs) and statistics.decide(row.changes, self._options.gate) is Step.ANOTHER

    def _alarm(self, row: Row) -> bool:
        return len(row.pairs) == PAIRS and statistics.decide(row.changes, self._options.gate) in (
            Step.SLOWER,
            Step.FASTER,
        )

    def _pair(self, row: Row, against: str, number: int) -> None:
        """Measure one pair of a row, and say what is said where that cannot be done."""
        left = self._options.budget - (time.monotonic() - self._start)
        if left <= 0:
            row.end(Verdict.INCONCLUSIVE, f"not measured within --budget {self._options.budget:.0f} s")
            return
        how = How(
            facts=number == 0,
            values=self._values if against == "head" else None,
            most_seconds=self._options.budget * PAIR_SHARE,
            patience=max(60.0, self._options.budget * PAIR_SHARE),
            slowdown=self._options.slowdown if against == "head" else 0.0,
        )
        try:
            self._open()
            measured = measure_pair(self._arms["base"], self._arms[against], row.case, how)
            row.pairs.append(measured.pair)
            if measured.base is not None and measured.head is not None:
                row.base, row.head = measured.base, measured.head
                self._same_mathematics(row, against, how)
        except CaseEnded as ended:
            self._ended(row, ended, how)
        except TooSlow as slow:
            row.end(Verdict.INCONCLUSIVE, str(slow))
        except ArmFailed as failed:
            self._failed(row, failed)

    def _failed(self, row: Row, failed: ArmFailed) -> None:
        """Go on without an arm that is dead: all are started again for the next row."""
        self._close()
        row.end(Verdict.INCONCLUSIVE, str(failed))

    def _ended(self, row: Row, ended: CaseEnded, how: How) -> None:
        if ended.outcome == "skipped":
            row.end(Verdict.SKIPPED, ended.reason)
        elif ended.arm == "head":
            row.end(Verdict.BROKEN, f"head cannot run it: {ended.reason}")
        else:
            try:
                with self._arms["head"].case(row.case, how.fork, how.patience) as alone:
                    alone.call()
            except CaseEnded as both:
                row.end(Verdict.BROKEN, f"neither arm can run it: {both.reason}")
            except ArmFailed as failed:
                self._failed(row, failed)
            else:
                row.end(Verdict.NEW, f"base cannot run it: {ended.reason}")

    def _same_mathematics(self, row: Row, against: str, how: How) -> None:
        """Compare what must be the same; where it is not, ask whether base even repeats itself."""
        base, head = row.base, row.head
        assert base is not None
        assert head is not None
        if (base.digest, base.state_bytes, base.peak_bytes) == (head.digest, head.state_bytes, head.peak_bytes):
            return
        if against == "head":
            with self._arms["twin"].case(row.case, how.fork, how.patience) as again:
                again.call()
                repeated = again.facts(None)
            if repeated.digest != base.digest:
                row.reason = "does not repeat itself: numbers not compared"
                return
            if repeated.peak_bytes != base.peak_bytes:
                # Not the same twice in one and the same code: nothing to gate on.
                row.head = replace(head, peak_bytes=base.peak_bytes)
        elif base.peak_bytes != head.peak_bytes:
            row.head = replace(head, peak_bytes=base.peak_bytes)
        if base.digest == head.digest:
            return
        difference = None
        if how.values is not None:
            # Brings torch, which the check itself does without.
            from bench.speed.values import largest_difference

            difference = largest_difference(how.values / "base", how.values / "head")
            if difference is not None and difference <= self._options.rounding:
                row.reason = f"numbers differ by {difference:.1g}"
                return
        words = "the arms end with other numbers"
        row.end(Verdict.CHANGED_MATH, words if difference is None else f"{words}: up to {difference:.1g}")

    def _confirm(self, rows: Sequence[Row], against: str) -> None:
        """Measure rows that alarmed three times more, each time in interpreters started anew.

        Their address spaces are laid out at random, so that what a layout does is not taken for what a change does.
        """
        subject = self._subject
        head = subject.head if against == "head" else replace(subject.base, label="head")
        for number in range(PAIRS if rows else 0):
            self._say(f"confirming {len(rows)} alarms in interpreters started anew: {number + 1} of {PAIRS}")
            todo = [row for row in rows if row.verdict is None]
            fresh: list[Arm] = []
            try:
                fresh += [Arm(code, self._processor, fixed_layout=False) for code in (subject.base, head)]
                for arm in fresh:
                    arm.collect()
                for row in todo:
                    self._confirm_once(row, fresh, against)
            except ArmFailed as failed:
                for row in todo:
                    if len(row.confirmation) <= number:
                        row.end(Verdict.INCONCLUSIVE, f"an alarm that could not be confirmed: {failed}")
            finally:
                for arm in fresh:
                    arm.close()

    def _confirm_once(self, row: Row, fresh: Sequence[Arm], against: str) -> None:
        slowdown = self._options.slowdown if against == "head" else 0.0
        # It has been afforded already; a machine that got slower meanwhile is no reason to stop here.
        how = How(facts=False, most_seconds=float("inf"), slowdown=slowdown)
        try:
            row.confirmation.append(measure_pair(fresh[0], fresh[1], row.case, how).pair)
        except CaseEnded as ended:
            row.end(Verdict.INCONCLUSIVE, f"an alarm that could not be confirmed: {ended.arm}: {ended.reason}")

    def _judge(self, row: Row) -> None:
        """Give a row that was measured in full its verdict."""
        if row.verdict is not None:
            return
        assert row.base is not None
        assert row.head is not None
        gate = self._options.gate
        step = statistics.alarms([pair.change for pair in row.confirmation], gate) if row.confirmation else Step.PASS
        if step is Step.SLOWER:
            row.verdict = Verdict.REGRESSION
        elif growth := grown(row.base, row.head):
            row.end(Verdict.MEMORY, growth)
        elif step is Step.FASTER:
            row.verdict = Verdict.IMPROVEMENT
        else:
            row.verdict = Verdict.OK
        row.reason = row.reason or explained(row.base, row.head)

    def _count(self, rows: Sequence[Row]) -> None:
        self._say("counting instructions")
        counted = count_instructions(self._subject.base, self._subject.head, [row.case for row in rows], self._say)
        for row in rows:
            row.instructions = counted.get(row.case)

    def _isolated(self) -> None:
        if self._subject.sources is None or "base" not in self._arms:
            return
        own = Path(bench.__file__).parent
        modules = {
            name: file
            for name, file in self._arms["base"].modules.items()
            if file is None or Path(file).resolve() != own / "speed" / "arm.py"
        }
        check_isolation(modules, *self._subject.sources)

    def _side(self, name: str) -> Side:
        sources, collected = self._subject.sources, self._collected[name]
        source = None if sources is None else sources[name == "head"]
        code = self._subject.base if name == "base" else self._subject.head
        return Side(
            source.name if source is not None else code.environment,
            source.commit if source is not None else None,
            collected.python,
            collected.torch,
        )


def exit_code(result: CheckResult) -> int:
    """Return what a check exits with: 5 above 1 above 4 above 3 above 0."""
    if differs_from_itself(result):
        return 5
    codes = {row.verdict.exit_code for row in result.cases}
    if refusal(result) is not None:
        codes.add(3)
    return next((code for code in (1, 4, 3) if code in codes), 0)


def differs_from_itself(result: CheckResult) -> bool:
    """Whether base was called slower, faster or another than itself: then no verdict can be trusted."""
    wrong = (Verdict.REGRESSION, Verdict.IMPROVEMENT, Verdict.CHANGED_MATH)
    return any(row.verdict in wrong for row in result.sentinels)


def refusal(result: CheckResult) -> float | None:
    """Return the tightest gate that the noise allows, as a fraction, where the check's own is tighter; else None."""
    if result.noise is None:
        return None
    tightest = statistics.tightest_gate(result.noise, len(result.cases))
    return tightest if tightest > result.gate else None


def grown(base: Facts, head: Facts) -> str:
    """Return in words what memory head holds beyond base; "" for none."""
    state, peak = head.state_bytes - base.state_bytes, (head.peak_bytes or 0) - (base.peak_bytes or 0)
    words = []
    if state > 0:
        words.append(f"state {base.state_bytes:,} → {head.state_bytes:,} bytes".replace(",", " "))
    if peak > 0 and base.peak_bytes is not None:
        words.append(f"peak of a call {base.peak_bytes:,} → {head.peak_bytes:,} bytes".replace(",", " "))
    return ", ".join(words)


def explained(base: Facts, head: Facts) -> str:
    """Return in words what else differs between the arms; "" for nothing."""
    words = []
    if base.implementation != head.implementation:
        words.append(f"ran {base.implementation} → {head.implementation}")
    if base.operators != head.operators:
        words.append(f"operators {base.operators} → {head.operators}")
    if base.synchronisations != head.synchronisations:
        words.append(f".item() {base.synchronisations} → {head.synchronisations}")
    if growth := grown(base, head):
        words.append(growth)
    return ", ".join(words)


def short(case: str) -> str:
    """Return a case's name without its file."""
    return case.rpartition("::")[2]


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows what goes on in one line of the terminal; in a log it shows nothing."""
    if not sys.stderr.isatty():
        yield lambda words: None
        return
    width = 0

    def say(words: str) -> None:
        nonlocal width
        line = words[:110]
        print("\r" + line.ljust(width), end="", file=sys.stderr, flush=True)
        width = len(line)

    try:
        yield say
    finally:
        print("\r" + " " * width + "\r", end="", file=sys.stderr, flush=True)
