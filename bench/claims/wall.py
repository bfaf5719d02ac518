"""One line per claim: what its primary verdicts say together."""

import pandas as pd

from bench.claims.evidence import Judged

#: Columns of the wall.
COLUMNS = ("claim", "verdict", "holds", "primary", "holds_elsewhere", "elsewhere", "experiment")
#: Where primary verdicts differ, where only other places have one, and where the sweep has no data.
MIXED, BESIDE, MISSING = "mixed", "not at its primary place", "no data"


def wall(found: Judged) -> pd.DataFrame:
    """Put the verdicts on each claim together, without deciding anything anew.

    Args:
        found: The verdicts.

    Returns:
        Columns `COLUMNS`, one row per claim, in order: `verdict` is the word that all primary verdicts share, else one
        of `MIXED`, `BESIDE`, `MISSING`; `holds` of `primary` primary verdicts are "supported", and `holds_elsewhere`
        of `elsewhere` others.
    """
    rows = []
    for claim in found.claims:
        mine = found.of(claim)
        primary = mine["primary"].astype(bool)
        words = sorted(set(mine.loc[primary, "verdict"]))
        word = words[0] if len(words) == 1 else MIXED if words else BESIDE if len(mine) else MISSING
        holds = mine["verdict"] == "supported"
        counts = (
            int((holds & primary).sum()),
            int(primary.sum()),
            int((holds & ~primary).sum()),
            int((~primary).sum()),
        )
        rows.append((claim.name, word, *counts, claim.experiment))
    return pd.DataFrame(rows, columns=list(COLUMNS))
