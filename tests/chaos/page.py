"""What rounds have come to, as a page."""

from collections import Counter

from tests.chaos.rounds import Outcome
from tests.chaos.sweep import CELLS


def markdown(outcomes: list[Outcome], command: str, left_out: dict[str, str]) -> str:
    """Return the rounds as a page.

    Args:
        outcomes: One of each round.
        command: That played them.
        left_out: Why a kind of disturbance could not be had, by kind.
    """
    wrong = [one for one in outcomes if one.problems]
    lines = [
        f"`{command}`; what every round did and found is in rounds.jsonl, the machine in environment.json.",
        "",
        f"A sweep of {CELLS} cells, disturbed at random and started again until it ended well, {len(outcomes)} rounds. "
        f"In **{len(outcomes) - len(wrong)} of {len(outcomes)}** the store was then that of an undisturbed sweep, "
        "digest for digest, no finished cell had been trained again, nothing was left behind, and `bench status` had "
        f"been right each time it was asked ({sum(one.checks for one in outcomes)} times).",
        "",
        "| disturbance | times | found nothing to disturb | rounds | of them wrong |",
        "|---|---|---|---|---|",
    ]
    times: Counter[str] = Counter()
    idle: Counter[str] = Counter()
    rounds: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    for one in outcomes:
        kinds = [str(done["kind"]) for done in one.disturbances]
        times.update(kinds)
        idle.update(str(done["kind"]) for done in one.disturbances if _is_idle(str(done["done"])))
        rounds.update(set(kinds))
        bad.update(set(kinds) if one.problems else ())
    lines += [f"| {kind} | {times[kind]} | {idle[kind]} | {rounds[kind]} | {bad[kind]} |" for kind in sorted(times)]
    lines += [f"| {kind} | 0: {reason} | | | |" for kind, reason in sorted(left_out.items())]
    lines += [
        "",
        "| round | disturbances (records that were there) | starts | cells trained | damaged | checks of status | s | "
        "verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        done = ", ".join(f"{each['kind']} ({each['records']})" for each in one.disturbances)
        verdict = "; ".join(one.problems).replace("|", "/") or "the same"
        lines.append(
            f"| {one.round} | {done} | {one.starts} | {one.trained} | {one.damaged} | {one.checks} | "
            f"{one.seconds:.0f} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def _is_idle(done: str) -> bool:
    return done.startswith("no ") or "had just ended" in done
