"""One line per claim: what its primary verdicts say together."""

import pandas as pd

from bench.claims.evidence import Judged

#: Columns of the wall.
COLUMNS = (
    "claim",
    "verdict",
    "holds",
    "primary",
    "holds_elsewhere",
    "elsewhere",
    "experiment",
    "refuted",
    "equivalent",
)
#: Where primary verdicts contradict one another, where only other places have one, and where the sweep has no data.
MIXED, BESIDE, MISSING = "mixed", "not at its primary place", "no data"
#: Put before the word that some primary verdicts share where all others are inconclusive.
PARTLY = "partly "
#: Verdict that settles a place → the column with the number of primary places that have it.
SETTLED = {"supported": "holds", "refuted": "refuted", "equivalent": "equivalent"}


def wall(found: Judged) -> pd.DataFrame:
    """Put the verdicts on each claim together, without deciding anything anew.

    Args:
        found: The verdicts.

    Returns:
        Columns `COLUMNS`, one row per claim, in order: `verdict` is the word that all primary verdicts share; `PARTLY`
        before it where it is that of some and the others are inconclusive; else one of `MIXED`, `BESIDE`, `MISSING`.
        Of `primary` primary verdicts `holds` are "supported", `refuted` and `equivalent` what they say, the rest
        inconclusive; `holds_elsewhere` of `elsewhere` others are "supported".
    """
    rows = []
    for claim in found.claims:
        mine = found.of(claim)
        primary = mine["primary"].astype(bool)
        found_here, elsewhere = mine.loc[primary, "verdict"], mine.loc[~primary, "verdict"]
        settled = {column: int((found_here == word).sum()) for word, column in SETTLED.items()}
        word = _together(found_here) if len(found_here) else BESIDE if len(mine) else MISSING
        beside = int((elsewhere == "supported").sum()), len(elsewhere)
        holds = settled.pop("holds")
        rows.append((claim.name, word, holds, len(found_here), *beside, claim.experiment, *settled.values()))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _together(verdicts: pd.Series) -> str:
    """Return the word for primary verdicts, at least one."""
    words = [word for word in SETTLED if (verdicts == word).any()]
    if len(words) > 1:
        return MIXED
    if not words:
        return "inconclusive"
    return words[0] if (verdicts == words[0]).all() else f"{PARTLY}{words[0]}"
