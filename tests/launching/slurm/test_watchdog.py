"""What is decided, from what can be seen of jobs: nothing here runs any."""

from dataclasses import replace

from bench.launching.slurm.watchdog import AGAIN_SECONDS, Decision, View, Watchdog

WAIT = Decision()
START = View(now=0.0, ended=0, running=0, waiting=10, jobs=0, wanted=4)


def begun(submissions: int = 2) -> Watchdog:
    """A watchdog that has said to submit four jobs."""
    watchdog = Watchdog(submissions, patience_seconds=600.0)
    assert watchdog.decide(START) == Decision(submit=4)
    return watchdog


def test_jobs_that_wait_or_run_are_waited_for_however_long() -> None:
    watchdog = begun()
    for now in (10.0, 1e3, 1e6):
        assert watchdog.decide(replace(START, now=now, jobs=4)) == WAIT
        assert watchdog.decide(replace(START, now=now, jobs=1, running=8, waiting=2, wanted=1)) == WAIT


def test_one_job_gone_is_replaced_but_not_at_once() -> None:
    watchdog = begun()
    assert watchdog.decide(replace(START, now=10.0, jobs=3, ended=1)) == WAIT
    assert watchdog.decide(replace(START, now=AGAIN_SECONDS, jobs=3, ended=1)) == Decision(submit=1)
    # Nothing waits: the others have the rest.
    assert watchdog.decide(replace(START, now=300.0, jobs=3, waiting=0, wanted=0, running=3, ended=7)) == WAIT


def test_where_all_jobs_are_gone_new_ones_come_at_once() -> None:
    watchdog = begun()
    assert watchdog.decide(replace(START, now=1.0, waiting=3, wanted=2)) == Decision(submit=2)


def test_gives_up_where_jobs_only_die() -> None:
    watchdog = begun(submissions=2)
    assert watchdog.decide(replace(START, now=1.0)) == Decision(submit=4)
    given_up = watchdog.decide(replace(START, now=2.0))
    assert given_up.submit == 0
    assert "submitted 2 times in a row, and no cell ended" in given_up.give_up


def test_a_cell_that_ended_counts_from_anew() -> None:
    watchdog = begun(submissions=2)
    for ended in range(1, 10):
        assert watchdog.decide(replace(START, now=float(ended), ended=ended, waiting=10 - ended)).submit == 4


def test_what_a_dead_job_still_seems_to_run_is_waited_for_until_its_lease_lapses() -> None:
    watchdog = begun()
    assert watchdog.decide(replace(START, now=5.0, ended=9, running=1, waiting=0, wanted=0)) == WAIT
    assert watchdog.decide(replace(START, now=305.0, ended=9, running=0, waiting=1, wanted=1)) == Decision(submit=1)


def test_a_silent_slurm_is_waited_for_while_cells_run_and_then_for_so_long() -> None:
    watchdog = begun()
    silent = replace(START, jobs=None)
    assert watchdog.decide(replace(silent, now=5000.0, running=2, waiting=8)) == WAIT
    assert watchdog.decide(replace(silent, now=5600.0)) == WAIT
    assert "Slurm has not answered for 601 s" in watchdog.decide(replace(silent, now=5601.0)).give_up
    # A cell that ends is a sign of life too.
    assert watchdog.decide(replace(silent, now=5602.0, ended=1)) == WAIT
