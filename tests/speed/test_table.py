"""A check as people read it."""

import math
from dataclasses import replace

import pytest

from bench.speed.result import Verdict
from bench.speed.table import HEADER, markdown, middle_pair, print_check, summary
from tests.speed.checks import STEP, case, check, pair

NAME = "test_step[Adam-fused-mlp]"
SLOW = case(
    heads=(4e-4, 4.1e-4, 4.2e-4),
    change=math.log(1.05),
    verdict=Verdict.REGRESSION,
    confirmation=(pair(math.log(1.04)), pair(math.log(1.06), 5e-4), pair(math.log(1.09))),
    reason="ran fused → forloop",
)
GONE = case("tests/speed/test_old.py::test_old", (), verdict=Verdict.GONE, reason="only base has it")


def cells(text: str, row: int) -> list[str]:
    return [cell.strip() for cell in text.splitlines()[row].strip("|").split("|")]


def test_a_row_has_times_change_pairs_confirmation_and_verdict() -> None:
    text = markdown(check(1, cases=(SLOW, GONE)))
    assert cells(text, 0) == list(HEADER)
    assert cells(text, 1) == ["---"] * len(HEADER)
    assert cells(text, 2) == [
        NAME,
        "472",
        "500",
        "+6.0%",
        "+5.0% +5.0% +5.0%",
        "+4.0% +6.0% +9.0%",
        "+6.0%",
        "+6.0%",
        "REGRESSION",
        "ran fused → forloop",
    ]
    assert cells(text, 3) == ["test_old", *[""] * 7, "GONE", "only base has it"]


def test_base_head_and_change_are_of_one_pair() -> None:
    pairs = [pair(0.3, 1e-3), pair(0.1, 2e-3), pair(0.2, 3e-3)]
    assert middle_pair(pairs) is pairs[2]
    assert middle_pair(pairs[:2]) is pairs[1]
    assert middle_pair(pairs[:1]) is pairs[0]


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.123e-6, "4.12"), (5.678e-5, "56.8"), (4.123e-4, "412"), (0.5, "500000")]
)
def test_times_are_in_microseconds(seconds: float, text: str) -> None:
    assert cells(markdown(check(1, cases=(case(heads=(seconds,)),))), 2)[1:4] == [text, text, "+0.0%"]


def test_markdown_has_the_summary_and_no_cell_too_many() -> None:
    made = check(1, cases=(case(verdict=Verdict.NEW, reason="a | b"),))
    text = markdown(made)
    assert len(cells(text, 2)) == len(HEADER)
    assert cells(text, 2)[-1] == "a / b"
    assert text.splitlines()[4:] == [f"* {line}" for line in summary(made)]


def test_the_summary_says_what_could_have_been_seen_and_what_the_machine_did() -> None:
    made = check(1, sentinels=(case(heads=(1e-4, 1e-4), change=0.002),), gate=0.025)
    assert summary(made) == [
        f"sentinel {NAME}: base against itself +0.2% +0.2%: ok",
        "a pair of identical code differed by 0.40% (root mean square): with a gate of 2.5% a slowdown of 4.0% is "
        "found with probability .95",
        "machine: something waited for a processor 10% of the time, load 1.50",
        "1 cases in 12 s: 1 ok",
    ]


def test_a_refused_gate_says_one_that_holds() -> None:
    loud = check(1, noise=0.05, cases=(case(),) * 12)
    (line,) = [line for line in summary(loud) if line.startswith("inconclusive")]
    start, _, gate = line.removesuffix(" holds").rpartition(" ")
    assert start == "inconclusive: a gate of 3.0% is tighter than this machine's noise; --gate"
    assert not any(line.startswith("inconclusive") for line in summary(replace(loud, gate=float(gate) / 100)))


def test_instructions_are_given_where_counted() -> None:
    lines = summary(check(1, cases=(case(instructions=(10_000.0, 11_500.0)),)))
    assert f"instructions {NAME}: 10,000 → 11,500 (+15.0%)" in lines


def test_verdicts_are_counted_and_the_worst_can_be_repeated() -> None:
    lines = summary(check(1, cases=(case(), SLOW, GONE)))
    assert "3 cases in 12 s: 1 ok, 1 REGRESSION, 1 GONE" in lines
    assert "again, this case alone: bench speed check --base main -k 'Adam-fused-mlp'" in lines
    plain = summary(check(1, cases=(GONE,)))
    assert plain[-1] == "again, this case alone: bench speed check --base main -k 'test_old'"
    assert not any(line.startswith("again") for line in summary(check(1)))
    assert not any(line.startswith("again") for line in summary(check(1, cases=(SLOW,), command="")))


@pytest.mark.parametrize("verdict", [Verdict.OK, Verdict.REGRESSION, Verdict.IMPROVEMENT, Verdict.INCONCLUSIVE])
def test_a_check_that_failed_itself_says_so_and_no_other(verdict: Verdict) -> None:
    failed = verdict in (Verdict.REGRESSION, Verdict.IMPROVEMENT)
    lines = summary(check(1, sentinels=(case(verdict=verdict),)))
    assert lines[-1].startswith("the check failed its own check") == failed


def test_a_machine_that_tells_nothing_is_said() -> None:
    assert "machine: tells nothing" in summary(check(1, pressure={}))
    assert "machine: the host took 3% of the time" in summary(check(1, pressure={"steal": 0.03}))


def test_a_pipe_gets_full_lines(capsys: pytest.CaptureFixture[str]) -> None:
    long = case(STEP.replace("mlp", "m" * 90), reason="because " * 20)
    print_check(check(1, cases=(long, GONE)))
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == f"main ({'a' * 12}) → working tree ({'b' * 12})"
    assert "confirmed" not in lines[1]
    assert f"{'m' * 90}]" in lines[2]
    assert lines[2].endswith(("because " * 20).strip())
    assert lines[3].startswith("test_old")
    assert lines[4:] == summary(check(1, cases=(long, GONE)))


def test_a_confirmation_has_a_column_where_there_was_one(capsys: pytest.CaptureFixture[str]) -> None:
    made = check(1, cases=(SLOW,))
    print_check(replace(made, head=replace(made.head, commit=None)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].rstrip().endswith("→ working tree")
    assert "confirmed" in lines[1]
    assert "+4.0% +6.0% +9.0%" in lines[2]
