"""`hydra/launcher=slurm`: submit jobs that pull cells, watch the cells, come back when the last has ended."""

import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from bench.config import Cell
from bench.errors import UsageError
from bench.launching.packing import Rates, earlier_rates, job_count
from bench.launching.progress import SweepProgress
from bench.launching.settings import SlurmSettings
from bench.launching.slurm.cluster import Cluster, Refused, SubmititCluster, check_installed, gpus_of_process, resources
from bench.launching.slurm.ledger import LOGS, Launch, Ledger
from bench.launching.slurm.watchdog import View, Watchdog
from bench.launching.worker import Outcome
from bench.results.leases import live_leases
from bench.results.record import FINISHED, RecordError
from bench.results.store import RECORD, Store

#: How often the ledger is looked at, seconds.
LEDGER_SECONDS = 1.0
#: How often Slurm is asked and leases are read, seconds.
QUEUE_SECONDS = 10.0
#: How long jobs have to end by themselves when no cell is left, seconds.
ENDING_SECONDS = 15.0
#: How long cancelled jobs have to write down what they have, when the launcher is interrupted, seconds.
FAREWELL_SECONDS = 45.0


@dataclass(frozen=True)
class Work:
    """What a launch has to do.

    Attributes:
        cells: The cells, by id.
        seconds: How long each is expected to take, by cell id; none where nothing tells.
        settings: The settings of the launcher.
    """

    cells: dict[str, Cell]
    seconds: dict[str, float]
    settings: SlurmSettings

    @classmethod
    def of(cls, cells: Sequence[Cell], rates: Rates, settings: SlurmSettings) -> "Work":
        """Return the work of some cells, at the rates of earlier records."""
        times = {cell.id: rates.seconds(cell) for cell in cells}
        known = {cell: seconds for cell, seconds in times.items() if seconds is not None}
        return cls({cell.id: cell for cell in cells}, known, settings)

    def jobs(self, cells: Collection[str]) -> int:
        """Return how many jobs some of the cells are worth."""
        settings = self.settings
        times = [self.seconds[cell] for cell in cells if cell in self.seconds]
        seconds = sum(times) if len(times) == len(cells) else None
        return job_count(len(cells), seconds, settings.jobs, settings.processes, 60.0 * settings.fill_minutes)

    @property
    def on_gpu(self) -> bool:
        """Whether a cell runs on a CUDA device."""
        return any(cell.config.device.name.startswith("cuda") for cell in self.cells.values())

    @property
    def resources(self) -> dict[str, object]:
        """What each job is given (`bench.launching.slurm.cluster.resources`)."""
        threads = max(cell.config.device.threads for cell in self.cells.values())
        return resources(self.settings, threads, self.on_gpu)


class SlurmRunner:
    """Runs cells by jobs of Slurm (`bench.launching.sweep.Elsewhere`).

    Args:
        settings: The settings of the launcher.

    Raises:
        UsageError: submitit is not installed.
    """

    def __init__(self, settings: SlurmSettings) -> None:
        check_installed()
        self._settings = settings

    def words(self, pending: Sequence[Cell]) -> str:
        """Say with what cells are run."""
        jobs = min(self._settings.jobs, len(pending))
        return f"at most {jobs} job{'s' if jobs > 1 else ''} of Slurm, {self._settings.processes} at once in each"

    def run(self, pending: Sequence[Cell], store: Store, ended: Callable[[Cell, Outcome], None]) -> str:
        """Run cells and return why some are left; empty where none is.

        Raises:
            UsageError: Slurm is not here, or refuses the first jobs.
            KeyboardInterrupt: After the jobs were cancelled and have had time to write down what they have.
        """
        work = Work.of(pending, earlier_rates(store), self._settings)
        launch = Launch(tuple(pending), work.seconds, self._settings, gpus_of_process(self._settings, work.on_gpu))
        ledger = Ledger.create(store, launch)
        try:
            cluster = SubmititCluster(ledger, self._settings, work.resources)
        except UsageError:
            ledger.discard()
            raise
        return Supervisor(work, ledger, cluster, ended).run()


class Supervisor:
    """Watches one launch.

    Args:
        work: What is to be done.
        ledger: What its jobs share.
        cluster: Where they run.
        ended: Called with each cell that has ended, and how.
        pause: Waits some seconds.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        work: Work,
        ledger: Ledger,
        cluster: Cluster,
        ended: Callable[[Cell, Outcome], None],
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work, self._ledger, self._cluster, self._on_ended = work, ledger, cluster, ended
        self._pause, self._clock = pause, clock
        self._left = dict(work.cells)
        self._alive: set[str] = set()
        self._submitted = False
        self._states: dict[str, int] = {}
        self._watchdog = Watchdog(work.settings.submissions, work.settings.patience_seconds)

    def run(self) -> str:
        """Submit jobs and wait for the cells; return why some are left, empty where none is."""
        with SweepProgress(list(self._left.values())) as progress:
            try:
                reason = self._watch(progress)
            except KeyboardInterrupt:
                self._farewell(progress)
                raise
            self._finish()
        return reason

    def _watch(self, progress: SweepProgress) -> str:
        looked: float | None = None
        while True:
            self._collect(progress)
            if not self._left:
                return ""
            if looked is None or self._clock() - looked >= QUEUE_SECONDS:
                looked = self._clock()
                reason = self._look(progress)
                if reason:
                    return reason
            self._pause(LEDGER_SECONDS)

    def _collect(self, progress: SweepProgress) -> None:
        """Take what the jobs have noted since."""
        for cell in sorted(self._ledger.ended() & self._left.keys()):
            self._end(self._ledger.outcome(cell), progress)

    def _end(self, outcome: Outcome, progress: SweepProgress) -> None:
        cell = self._left.pop(outcome.cell)
        progress.ended(cell, outcome)
        self._on_ended(cell, outcome)

    def _look(self, progress: SweepProgress) -> str:
        """Ask Slurm, and act on it; return why nothing more will come, empty to go on."""
        self._done_by_others(progress)
        running = set(live_leases(self._ledger.store)) & self._left.keys()
        alive = self._cluster.alive()
        if alive is not None:
            self._say(alive)
        waiting = self._left.keys() - running
        done = len(self._work.cells) - len(self._left)
        jobs = None if alive is None else len(alive)
        view = View(self._clock(), done, len(running), len(waiting), jobs, self._work.jobs(waiting))
        decision = self._watchdog.decide(view)
        if decision.submit:
            self._submit(decision.submit)
        if not decision.give_up:
            return ""
        return f"{len(waiting)} cells are left: {decision.give_up} (logs: {self._ledger.path / LOGS})"

    def _done_by_others(self, progress: SweepProgress) -> None:
        """Take what was finished by those who note nothing in this ledger: another sweep, or a job that died then."""
        store = self._ledger.store
        for cell in list(self._left):
            try:
                status = store.glance(cell).status if (store.cell_path(cell) / RECORD).exists() else None
            except RecordError:
                continue
            if status in FINISHED and not self._ledger.has_ended(cell):
                self._end(Outcome(cell, str(status), None, elsewhere=True), progress)

    def _submit(self, count: int) -> None:
        again = self._submitted
        try:
            jobs = self._cluster.submit(count)
        except Refused as error:
            if not again:
                self._ledger.discard()
                raise UsageError(str(error)) from None
            print(f"bench: {error}", file=sys.stderr, flush=True)
            return
        self._submitted = True
        self._alive.update(jobs)
        what = f"{len(jobs)} jobs" if len(jobs) > 1 else "one job"
        print(f"bench: {what} submitted{' again' if again else ''}: {', '.join(jobs)}", file=sys.stderr, flush=True)

    def _say(self, alive: dict[str, str]) -> None:
        """Say what has changed: jobs that are no more while there is work, and what waits for what."""
        gone = sorted(self._alive - alive.keys())
        self._alive -= set(gone)
        if gone:
            known = self._cluster.endings(gone)
            for job in gone:
                print(f"bench: job {job} has ended: {known.get(job, 'no accounting')}", file=sys.stderr, flush=True)
        states: dict[str, int] = {}
        for state in alive.values():
            states[state] = states.get(state, 0) + 1
        if states != self._states:
            self._states = states
            said = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
            print(f"bench: jobs: {said or 'none'}", file=sys.stderr, flush=True)

    def _finish(self) -> None:
        """Let jobs that find nothing more to do end, and cancel what waits or does not."""
        end = self._clock() + ENDING_SECONDS
        while (alive := self._cluster.alive()) and self._clock() < end:
            if all(state.startswith("PENDING") for state in alive.values()):
                break
            self._pause(LEDGER_SECONDS)
        self._cluster.cancel()

    def _farewell(self, progress: SweepProgress) -> None:
        """Cancel the jobs; those that run write down what they have."""
        print("bench: cancelling the jobs; a second Ctrl-C leaves at once", file=sys.stderr, flush=True)
        self._cluster.cancel()
        end = self._clock() + FAREWELL_SECONDS
        while self._cluster.alive() and self._clock() < end:
            self._pause(LEDGER_SECONDS)
        self._collect(progress)
