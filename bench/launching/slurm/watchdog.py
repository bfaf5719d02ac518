"""Whether to wait for jobs, to submit more, or to give up: decided from what can be seen of them.

A job may end in ways that nobody reports: its node dies, it is cancelled, accounting is off or lags behind. So nothing
is awaited but cells: what counts is which of them have ended, and whether anybody is there who could run the others.
"""

from dataclasses import dataclass, field

#: How long after jobs were submitted none is submitted again while others live, seconds.
AGAIN_SECONDS = 60.0


@dataclass(frozen=True)
class View:
    """What is seen of a launch at some moment.

    Attributes:
        now: The moment, seconds of any clock that does not go backwards.
        ended: Cells that have ended.
        running: Cells that a live process has the lease of.
        waiting: Cells that have not ended and that nobody runs.
        jobs: Jobs that wait or run; None where Slurm does not answer.
        wanted: Jobs that there is work for in the waiting cells.
    """

    now: float
    ended: int
    running: int
    waiting: int
    jobs: int | None
    wanted: int


@dataclass(frozen=True)
class Decision:
    """What to do.

    Attributes:
        submit: How many jobs to submit; 0: wait.
        give_up: Why nothing more will come; empty to go on.
    """

    submit: int = 0
    give_up: str = ""


@dataclass
class Watchdog:
    """Decides, and remembers when something last came of it.

    Attributes:
        submissions: How often in a row jobs are submitted without a cell that ended meanwhile.
        patience_seconds: How long to wait for a Slurm that does not answer, while no cell is seen to run.
    """

    submissions: int
    patience_seconds: float
    _ended: int = field(default=0, init=False)
    _barren: int = field(default=0, init=False)
    _submitted: float | None = field(default=None, init=False)
    _sign: float | None = field(default=None, init=False)

    def decide(self, view: View) -> Decision:
        """Return what to do now; the first answer is to submit what is wanted."""
        progress = view.ended > self._ended
        if progress:
            self._ended, self._barren = view.ended, 0
        if self._sign is None or progress or view.jobs is not None or view.running:
            self._sign = view.now
        if not view.waiting:
            # Whoever runs the rest is alive, or its lease lapses and the cell waits again.
            return Decision()
        if view.jobs is None:
            silent = view.now - self._sign
            if silent <= self.patience_seconds:
                return Decision()
            return Decision(give_up=f"Slurm has not answered for {silent:.0f} s, and no cell is seen to run")
        missing = view.wanted - view.jobs
        if missing <= 0:
            return Decision()
        if view.jobs and self._submitted is not None and view.now - self._submitted < AGAIN_SECONDS:
            return Decision()
        if self._barren >= self.submissions:
            if view.jobs or view.running:
                return Decision()
            return Decision(
                give_up=f"jobs were submitted {self._barren} times in a row, and no cell ended in any of them"
            )
        self._barren += 1
        self._submitted = view.now
        return Decision(submit=missing)
