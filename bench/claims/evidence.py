"""What a sweep says of a claim, place by place: estimates that wait for their confidence, and the verdicts on them."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import pandas as pd

from bench.analysis.measures import direction, values
from bench.analysis.results import Results
from bench.analysis.rows import Groups
from bench.analysis.statistics.estimates import Estimator
from bench.analysis.statistics.multiplicity import adjusted
from bench.analysis.statistics.verdicts import verdict
from bench.analysis.study import CONDITION, METRICS, TRIAL
from bench.claims.claim import Claim
from bench.claims.scores import Scores, score_tables
from bench.claims.ways import ways_to_target

#: Where a verdict stands in a claim's matrix.
PLACE = [*CONDITION, "budget", "rule", "measure"]
#: Columns of the table of verdicts.
COLUMNS = (
    "claim",
    *PLACE,
    "primary",
    "estimate",
    "lo",
    "hi",
    "lo_adjusted",
    "hi_adjusted",
    "p",
    "p_adjusted",
    "n",
    "null",
    "margin",
    "unit",
    "direction",
    "verdict",
    "n_needed",
    "sweep",
    "source",
    "note",
)


@dataclass(frozen=True)
class Data:
    """What claims are judged on, each part arranged once for all judges that ask for it.

    Attributes:
        results: The analysis of the sweep.
        measures: Rows of the exported curves whose split is "measure": columns `CONDITION`, `cell`, `batch_size`,
            `lr`, `seed`, `step`, `epoch`, `examples`, `metric`, `value`.
        sweep: Name of the sweep.
    """

    results: Results
    measures: pd.DataFrame
    sweep: str = ""

    @cached_property
    def outcomes(self) -> Groups:
        """Each seed's results (`bench.analysis.rules.seed_outcomes`) by `CONDITION`, budget and rule.

        `test` and `val` are the task's own measure there, `sign` is +1 where higher is better and −1 where lower is.
        """
        return Groups(judged_by(self.results.seed_outcomes), [*CONDITION, "budget", "rule"])

    @cached_property
    def conditions(self) -> Groups:
        """The same by `CONDITION` alone."""
        return Groups(judged_by(self.results.seed_outcomes), CONDITION)

    @cached_property
    def ways(self) -> Groups:
        """Each seed's way to the target (`bench.claims.ways.ways_to_target`) by `CONDITION`, rule and measure."""
        return Groups(ways_to_target(self.results), [*CONDITION, "rule", "measure"])

    @cached_property
    def validation_scores(self) -> tuple[Scores, ...]:
        """What every learning rate reached on validation data, by condition and budget."""
        return tuple(score_tables(self.results.cuts, "val"))

    @cached_property
    def test_scores(self) -> tuple[Scores, ...]:
        """The same on test data."""
        return tuple(score_tables(self.results.cuts, "test"))

    @cached_property
    def last_evaluations(self) -> pd.DataFrame:
        """The last evaluation of each complete trial: columns `TRIAL`, `METRICS`, `full_batch`, `measure`."""
        study = self.results.study
        last = study.evaluations.drop_duplicates(["cell", "lr", "seed"], keep="last")
        trials = study.complete_trials()
        trials = trials.loc[trials["status"] == "complete", ["cell", *TRIAL]]
        facts = study.cells[["cell", "full_batch", "measure"]].astype({"full_batch": bool})
        table = trials.merge(last, on=["cell", "lr", "seed"]).merge(facts, on="cell")
        return table[[*TRIAL, *METRICS, "full_batch", "measure"]]


def judged_by(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the task's own measure, as `Data.outcomes` has it, to rows with all of `METRICS` and `measure`."""
    return rows.assign(test=values(rows, "test"), val=values(rows, "val"), sign=direction(rows))


@dataclass(frozen=True)
class Evidence:
    """One place of a claim's matrix.

    Attributes:
        condition: Values of `CONDITION`; "–" for what the statistic is taken across.
        estimator: The statistic with its interval, waiting for the confidence.
        budget: The budget held equal; empty where none is.
        rule: The learning-rate rule; empty where none is.
        measure: Which of several statistics of the claim; empty where it has one.
        source: The table under tables/ that the statistic was taken from; curves.csv is that of `bench export`.
        note: What a reader has to know of this place, such as trials left out; empty for nothing.
        margin: The effect that matters, where it is not the claim's own; None for the claim's.
        unit: Of the statistic, likewise.
        sweep: Name of the sweep that it is taken from, as `judged` fills it in.
    """

    condition: dict[str, str]
    estimator: Estimator
    budget: str = ""
    rule: str = ""
    measure: str = ""
    source: str = ""
    note: str = ""
    margin: float | None = None
    unit: str | None = None
    sweep: str = ""

    @property
    def place(self) -> tuple[str, ...]:
        """Where it stands, as `PLACE`."""
        return (*(self.condition[name] for name in CONDITION), self.budget, self.rule, self.measure)


#: Takes the data and the claim; returns the evidence, none where the sweep has not what it takes.
Judge = Callable[[Data, Claim], Iterable[Evidence]]


@dataclass(frozen=True)
class Judged:
    """Claims with their verdicts.

    Attributes:
        claims: In order.
        verdicts: Columns `COLUMNS`, one row per place, in the order of the claims.
        missing: Claims that the sweep has no data for.
    """

    claims: tuple[Claim, ...]
    verdicts: pd.DataFrame
    missing: tuple[Claim, ...] = field(default=())

    def of(self, claim: Claim) -> pd.DataFrame:
        """Return the verdicts on a claim."""
        return self.verdicts[self.verdicts["claim"] == claim.name]


def judged(data: Data, claims: Sequence[Claim], judges: dict[str, Judge], others: Sequence[Data] = ()) -> Judged:
    """Judge claims on a sweep, or on several.

    Of several sweeps each claim is judged on one: that of the experiment which it names, if it is among them, else the
    first that has the data. Which one it is does not depend on what any of them says.

    Intervals are adjusted by Holm's procedure in families that were declared with the claims: the primary places of all
    claims are one, what stands for an answer; the other places of each claim are another.

    Args:
        data: The sweep.
        claims: Which claims.
        judges: By name of a claim, how it is judged.
        others: Further sweeps, in order. Their tables stand in a folder of their name.
    """
    found = {claim.name: _evidence(claim, data, others, judges[claim.name]) for claim in claims}
    families: dict[str, list[tuple[Claim, Evidence]]] = {}
    for claim in claims:
        for evidence in found[claim.name]:
            family = "primary" if _is_primary(claim, evidence) else claim.name
            families.setdefault(family, []).append((claim, evidence))
    rows = [row for family, members in families.items() for row in _rows(members, family == "primary")]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    order = {claim.name: number for number, claim in enumerate(claims)}
    table["order_"] = table["claim"].map(order)
    table = table.sort_values(["order_", *PLACE], kind="stable", ignore_index=True).drop(columns="order_")
    missing = tuple(claim for claim in claims if not found[claim.name])
    return Judged(tuple(claims), table, missing)


def _evidence(claim: Claim, data: Data, others: Sequence[Data], judge: Judge) -> list[Evidence]:
    for sweep in sorted((data, *others), key=lambda sweep: sweep.sweep != claim.experiment):
        if found := list(judge(sweep, claim)):
            folder = "" if sweep is data else f"{sweep.sweep}/"
            return [replace(item, sweep=sweep.sweep, source=f"{folder}{item.source}") for item in found]
    return []


def _is_primary(claim: Claim, evidence: Evidence) -> bool:
    return all(getattr(evidence, name) == value for name, value in claim.primary.items())


def _rows(members: Sequence[tuple[Claim, Evidence]], primary: bool) -> list[dict[str, object]]:
    names = [f"{claim.name} {' '.join(evidence.place)}" for claim, evidence in members]
    if len(set(names)) < len(names):
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise ValueError(f"two statistics for one place: {twice}")
    together = adjusted(
        {name: evidence.estimator for name, (_, evidence) in zip(names, members, strict=True)},
        {name: claim.held_against for name, (claim, _) in zip(names, members, strict=True)},
    )
    rows: list[dict[str, object]] = []
    for name, (claim, evidence) in zip(names, members, strict=True):
        found = together[name]
        margin = claim.margin_of(evidence.condition["task"]) if evidence.margin is None else evidence.margin
        said = verdict(found.holm, margin, claim.direction, claim.held_against)
        rows.append(
            {
                "claim": claim.name,
                **dict(zip(PLACE, evidence.place, strict=True)),
                "primary": primary,
                "estimate": found.alone.estimate,
                "lo": found.alone.lo,
                "hi": found.alone.hi,
                "lo_adjusted": found.holm.lo,
                "hi_adjusted": found.holm.hi,
                "p": found.p,
                "p_adjusted": found.p_adjusted,
                "n": found.alone.n,
                "null": claim.held_against,
                "margin": margin,
                "unit": evidence.unit or claim.unit,
                "direction": claim.direction,
                "verdict": said.word,
                "n_needed": said.n_needed if math.isfinite(said.n_needed) else math.nan,
                "sweep": evidence.sweep,
                "source": evidence.source,
                "note": evidence.note,
            }
        )
    return rows
