"""The check: its verdicts, what it exits with, and the words it finds."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.speed import statistics
from bench.speed.arms import Code
from bench.speed.check import Check, Options, Row, Subject, exit_code, explained, grown, progress, refusal, short
from bench.speed.result import Facts, Verdict
from tests.speed.checks import FACTS, STEP, case, check, pair

SLOW = (pair(0.05), pair(0.06), pair(0.07))
FAST = (pair(-0.05), pair(-0.06), pair(-0.07))
QUIET = (pair(0.001),)


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("bench.speed.layout.quietest_processor", lambda: 0)
    code = Code("base", "python", tmp_path, (), ())
    return Check(Subject(code, code, None), Options(gate=0.03))


def judged(judge: Check, row: Row) -> Row:
    judge._judge(row)
    return row


def measured(base: Facts = FACTS, head: Facts = FACTS, confirmation: tuple[object, ...] = ()) -> Row:
    pairs = list(SLOW) if confirmation else list(QUIET)
    return Row(STEP, pairs, list(confirmation), base, head)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([], 0),
        (["ok", "improvement", "NEW", "skipped"], 0),
        (["ok", "REGRESSION"], 1),
        (["MEMORY"], 1),
        (["INCONCLUSIVE", "ok"], 3),
        (["GONE", "INCONCLUSIVE"], 4),
        (["BROKEN"], 4),
        (["CHANGED-MATH"], 4),
        (["GONE", "REGRESSION", "INCONCLUSIVE"], 1),
    ],
)
def test_exit_code_is_that_of_the_worst_verdict(verdicts: list[str], code: int) -> None:
    cases = tuple(case(f"{STEP}{number}", verdict=Verdict(verdict)) for number, verdict in enumerate(verdicts))
    assert exit_code(check(1, cases=cases, noise=None)) == code
    assert exit_code(check(1, cases=cases[::-1], noise=None)) == code


@pytest.mark.parametrize("verdict", [Verdict.REGRESSION, Verdict.IMPROVEMENT, Verdict.CHANGED_MATH])
def test_a_base_that_differs_from_itself_is_above_all(verdict: Verdict) -> None:
    cases = (case(verdict=Verdict.REGRESSION),)
    assert exit_code(check(1, cases=cases, sentinels=(case(), case(verdict=verdict)))) == 5


@pytest.mark.parametrize("verdict", [Verdict.OK, Verdict.INCONCLUSIVE])
def test_a_base_that_does_not_is_no_failure_of_the_check(verdict: Verdict) -> None:
    assert exit_code(check(1, sentinels=(case(verdict=verdict),))) == 0


def test_a_gate_tighter_than_the_noise_is_refused_with_one_that_holds() -> None:
    loud = check(1, noise=0.05, cases=(case(),) * 12)
    tightest = refusal(loud)
    assert tightest is not None
    assert tightest > loud.gate
    assert exit_code(loud) == 3
    assert refusal(replace(loud, gate=tightest)) is None
    assert refusal(check(1, noise=0.001)) is None
    assert refusal(check(1, noise=None)) is None


def test_a_refused_gate_does_not_hide_what_is_worse() -> None:
    for verdict in (Verdict.REGRESSION, Verdict.GONE):
        loud = check(1, noise=0.05, cases=(case(),) * 12 + (case(verdict=verdict),))
        assert refusal(loud) is not None
        assert exit_code(loud) == verdict.exit_code


def test_more_cases_need_a_wider_gate() -> None:
    noise = 0.02
    few, many = (statistics.tightest_gate(noise, cases) for cases in (1, 40))
    gate = (few + many) / 2
    assert refusal(check(1, noise=noise, gate=gate)) is None
    assert refusal(check(1, noise=noise, gate=gate, cases=(case(),) * 40)) == pytest.approx(many)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (FACTS, ""),
        (replace(FACTS, state_bytes=4095, peak_bytes=8191), ""),
        (replace(FACTS, state_bytes=1_004_096), "state 4 096 → 1 004 096 bytes"),
        (replace(FACTS, peak_bytes=8193), "peak of a call 8 192 → 8 193 bytes"),
        (
            replace(FACTS, state_bytes=5000, peak_bytes=9000),
            "state 4 096 → 5 000 bytes, peak of a call 8 192 → 9 000 bytes",
        ),
        (replace(FACTS, peak_bytes=None), ""),
    ],
)
def test_memory_that_head_holds_beyond_base_is_said(head: Facts, words: str) -> None:
    assert grown(FACTS, head) == words
    assert explained(FACTS, head) == words


def test_a_peak_that_base_could_not_count_is_no_growth() -> None:
    assert grown(replace(FACTS, peak_bytes=None), FACTS) == ""


def test_what_else_differs_is_said() -> None:
    head = replace(FACTS, implementation="forloop", operators=80, synchronisations=2)
    assert explained(FACTS, head) == "ran fused → forloop, operators 12 → 80, .item() 0 → 2"
    assert explained(FACTS, replace(FACTS, digest="cd34")) == ""


@pytest.mark.parametrize(
    ("confirmation", "verdict"),
    [
        ((), Verdict.OK),
        (SLOW, Verdict.REGRESSION),
        (FAST, Verdict.IMPROVEMENT),
        ((*SLOW[:2], pair(0.0)), Verdict.OK),
        ((*SLOW[:2], pair(-0.05)), Verdict.OK),
        ((pair(0.02),) * 3, Verdict.OK),
    ],
)
def test_only_a_confirmed_alarm_is_a_verdict(judge: Check, confirmation: tuple[object, ...], verdict: Verdict) -> None:
    row = judged(judge, measured(confirmation=confirmation))
    assert row.verdict is verdict
    assert row.reason == ""


def test_memory_is_below_a_regression_and_above_an_improvement(judge: Check) -> None:
    more = replace(FACTS, state_bytes=9000)
    assert judged(judge, measured(head=more)).verdict is Verdict.MEMORY
    assert judged(judge, measured(head=more, confirmation=FAST)).verdict is Verdict.MEMORY
    slow = judged(judge, measured(head=more, confirmation=SLOW))
    assert slow.verdict is Verdict.REGRESSION
    assert slow.reason == "state 4 096 → 9 000 bytes"


def test_a_verdict_that_stands_is_left_and_a_reason_too(judge: Check) -> None:
    row = Row(STEP)
    row.end(Verdict.SKIPPED, "no such device")
    assert judged(judge, row).result() == case(heads=(), verdict=Verdict.SKIPPED, reason="no such device")
    row = measured()
    row.reason = "numbers differ by 1e-07"
    assert judged(judge, row).reason == "numbers differ by 1e-07"


def test_a_row_as_data_is_what_was_measured(judge: Check) -> None:
    row = measured(confirmation=SLOW)
    row.instructions = (1.0, 2.0)
    found = judged(judge, row).result()
    assert (found.pairs, found.confirmation, found.instructions) == (SLOW, SLOW, (1.0, 2.0))
    assert (found.base, found.head) == (FACTS, FACTS)
    assert found.change == pytest.approx(0.0618, abs=1e-4)


def test_rows_go_on_only_while_they_may_alarm(judge: Check) -> None:
    changes = {(): False, (0.02,): True, (0.01,): False, (0.02, 0.02): True, (0.02, 0.005): False, (-0.02,): True}
    for seen, more in changes.items():
        assert judge._suspicious(Row(STEP, [pair(change) for change in seen])) is more
    assert judge._alarm(Row(STEP, list(SLOW)))
    assert judge._alarm(Row(STEP, list(FAST)))
    assert not judge._alarm(Row(STEP, list(SLOW[:2])))
    assert not judge._alarm(Row(STEP, list(QUIET)))


def test_a_case_s_name_without_its_file() -> None:
    assert short(STEP) == "test_step[Adam-fused-mlp]"
    assert short("tests/test_it.py::TestIt::test_one") == "test_one"


def test_progress_says_nothing_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as say:
        say("anything")
    assert capsys.readouterr().err == ""
