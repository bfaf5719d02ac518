"""The answer over many settings: in how many the parts of the claim hold, and with how many optimizers."""

from collections import Counter

import pandas as pd

from bench.analysis import words
from bench.analysis.headline import TOPICS, Headline, Statement
from bench.analysis.study import SETTING

#: Verdict → what it says of the claim.
_TOLD = {
    "supported": "holds",
    "refuted": "does not hold",
    "equivalent": "makes no difference that matters",
    "inconclusive": "is not settled",
}
#: Topic, verdict that speaks against the largest batch, and what then happened.
_AGAINST = (
    ("speed", "refuted", "the largest batch did not handle more examples per second"),
    ("time", "refuted", "a smaller batch reached the target first"),
    ("epochs", "supported", "the largest batch ended worse at equal epochs"),
    ("equal steps", "supported", "the largest batch ended worse at equal steps"),
)
#: Topic → the claim of tasks with an accuracy and of tasks without, in one wording.
_BOTH = {
    topic: f"the largest batch ends worse on test data than the smallest at equal {budget}, re-tuned"
    for topic, budget in (("epochs", "epochs"), ("equal steps", "steps"))
}


def summarise(headlines: list[Headline], findings: pd.DataFrame) -> Headline:
    """Put the answers of many settings into one.

    Args:
        headlines: One per setting, at least one.
        findings: As `bench.analysis.findings.findings` returns.

    Returns:
        An answer without a setting; that of the setting, where there is one alone.
    """
    if len(headlines) == 1:
        return headlines[0]
    tasks = len({headline.setting["task"] for headline in headlines}) == len(headlines)
    noun, total = "task" if tasks else "setting", len(headlines)
    answers = Counter(headline.answer for headline in headlines)
    lost, open_, won, unanswered = (answers[key] for key in ("No.", "Not settled.", "Here, yes:", "Not answered:"))
    known = findings[findings["verdict"] != "outside the grid"]
    by_topic = {str(topic): group for topic, group in known.groupby("topic")}
    reasons = [
        f"in {words.plural(count, noun)} {what}"
        for topic, verdict, what in _AGAINST
        if topic in by_topic and (count := _settings(by_topic[topic], verdict))
    ]
    every = words.plural(total, noun)
    others = [
        (count, text)
        for count, text in (
            (open_, "nothing that was settled speaks against the largest batch"),
            (won, "nothing measured but memory speaks against the largest batch"),
            (unanswered, "there is nothing to compare"),
        )
        if count
    ]
    rest = [f"in {count} {text}" for count, text in others]
    if lost:
        answer = f"No, not in {lost} of {every}." if lost < total else f"No, in none of {every}."
        reason = words.capital(f"{words.listing(reasons)}, each with at least one optimizer.")
    else:
        answer = "Not settled." if open_ else "Here, yes:" if won else "Not answered:"
        reason = f"in all {every} {others[0][1]}." if len(others) == 1 else f"of {every}, {words.listing(rest)}."
        reason, rest = words.capital(reason) if open_ else reason, []
    unsettled = words.capital(f"{words.listing(rest)}.") if rest else ""
    statements = [_statement(topic, by_topic[topic], noun) for topic in TOPICS if topic in by_topic]
    return Headline({}, answer, reason, unsettled, tuple(statements))


def _settings(rows: pd.DataFrame, verdict: str) -> int:
    return len(rows.loc[rows["verdict"] == verdict, SETTING].drop_duplicates())


def _statement(topic: str, rows: pd.DataFrame, noun: str) -> Statement:
    counts = Counter(str(verdict) for verdict in rows["verdict"])
    told = [f"{_TOLD[verdict]} in {counts[verdict]}" for verdict in _TOLD if counts[verdict]]
    common = next(iter(counts)) if len(counts) == 1 else None
    if common and len(rows) > 1:
        text = f"In all {words.count(len(rows))} comparisons ({noun} × optimizer), this {_TOLD[common]}."
    else:
        text = f"Of {words.plural(len(rows), 'comparison')} ({noun} × optimizer), this {words.listing(told)}."
    details = []
    by_setting = [(key[0], Counter(group["verdict"]), len(group)) for key, group in rows.groupby(SETTING)]
    for word, wording in _TOLD.items():
        mostly = [entry for entry in by_setting if entry[1].most_common(1)[0][0] == word]
        named = [f"{task} ({found[word]} of {size})" for task, found, size in mostly]
        if named:
            details.append(f"{words.capital(wording)} most often on {words.listing(named)}.")
    # Tasks with an accuracy and tasks without have each their wording.
    wordings = sorted({str(claim) for claim in rows["claim"]})
    claim = wordings[0] if len(wordings) == 1 else _BOTH[topic]
    source = str(rows["source"].iloc[0])
    return Statement(topic, TOPICS[topic], claim, common or "differs", text, tuple(details), source, noun)
