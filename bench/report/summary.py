"""The answer over many settings: in how many the parts of the claim hold, and with how many optimizers."""

from collections import Counter

import pandas as pd

from bench.analysis import words
from bench.analysis.measures import MEASURES
from bench.analysis.study import SETTING
from bench.report.headline import TOPICS, Headline, Statement
from bench.report.messages import Messages
from bench.report.wording import claim_text

#: Verdicts, and texts that say what each says of the claim.
_TOLD = ("supported", "refuted", "equivalent", "inconclusive")
#: Topic, and the verdict that speaks against the largest batch.
_AGAINST = (("speed", "refuted"), ("time", "refuted"), ("epochs", "supported"), ("equal steps", "supported"))


def summarise(headlines: list[Headline], findings: pd.DataFrame, say: Messages) -> Headline:
    """Put the answers of many settings into one.

    Args:
        headlines: One per setting, at least one, in the same language.
        findings: As `bench.analysis.findings.findings` returns.
        say: The language.

    Returns:
        An answer without a setting; that of the setting, where there is one alone.
    """
    if len(headlines) == 1:
        return headlines[0]
    tasks = len({headline.setting["task"] for headline in headlines}) == len(headlines)
    noun, total = "task" if tasks else "setting", len(headlines)
    answers = Counter(headline.answer for headline in headlines)
    lost, open_, won, unanswered = (answers[say(f"answer.{key}")] for key in ("no", "not_settled", "yes", "unanswered"))
    known = findings[findings["verdict"] != "outside the grid"]
    by_topic = {str(topic): group for topic, group in known.groupby("topic")}
    reasons = [
        say("summary.in", count=say.count(noun, count), what=say(f"summary.against.{topic}"))
        for topic, verdict in _AGAINST
        if topic in by_topic and (count := _settings(by_topic[topic], verdict))
    ]
    every = say.count(noun, total)
    others = [
        (count, say(f"summary.other.{key}"))
        for count, key in ((open_, "not_settled"), (won, "yes"), (unanswered, "unanswered"))
        if count
    ]
    rest = [say("summary.in_count", count=count, what=text) for count, text in others]
    if lost:
        answer = say("summary.not_in" if lost < total else "summary.in_none", lost=lost, every=every)
        reason = words.capital(say("summary.reasons", reasons=say.listing(reasons)))
    else:
        answer = say(f"answer.{'not_settled' if open_ else 'yes' if won else 'unanswered'}")
        if len(others) == 1:
            reason = say("summary.in_all", every=every, what=others[0][1])
        else:
            reason = say("summary.of", every=every, parts=say.listing(rest))
        reason, rest = words.capital(reason) if open_ else reason, []
    unsettled = words.capital(say("summary.sentence", parts=say.listing(rest))) if rest else ""
    statements = [_statement(topic, by_topic[topic], noun, say) for topic in TOPICS if topic in by_topic]
    return Headline({}, answer, reason, unsettled, tuple(statements), say("answer.between"))


def _settings(rows: pd.DataFrame, verdict: str) -> int:
    return len(rows.loc[rows["verdict"] == verdict, SETTING].drop_duplicates())


def _statement(topic: str, rows: pd.DataFrame, noun: str, say: Messages) -> Statement:
    counts = Counter(str(verdict) for verdict in rows["verdict"])
    told = [
        say("summary.told_in", told=say(f"summary.told.{verdict}"), count=counts[verdict])
        for verdict in _TOLD
        if counts[verdict]
    ]
    common = next(iter(counts)) if len(counts) == 1 else None
    values = {"count": say.count("comparison", len(rows)), "noun": say(f"noun.{noun}")}
    if common and len(rows) > 1:
        number = words.count(len(rows))
        text = say("summary.all", number=number, noun=values["noun"], told=say(f"summary.told.{common}"))
    else:
        text = say("summary.some", told=say.listing(told), **values)
    details = []
    by_setting = [(key[0], Counter(group["verdict"]), len(group)) for key, group in rows.groupby(SETTING)]
    for word in _TOLD:
        mostly = [entry for entry in by_setting if entry[1].most_common(1)[0][0] == word]
        named = [say("summary.task", task=task, found=found[word], size=size) for task, found, size in mostly]
        if named:
            wording = say(f"summary.told.{word}")
            details.append(words.capital(say("summary.mostly", told=wording, tasks=say.listing(named))))
    claim = _claim(topic, rows, say)
    source = str(rows["source"].iloc[0])
    title, per = say(f"part.{topic}.title"), say(f"noun.{noun}")
    return Statement(topic, title, claim, common or "differs", text, tuple(details), source, per)


def _claim(topic: str, rows: pd.DataFrame, say: Messages) -> str:
    """Return the claim of a topic: tasks with an accuracy and tasks without have each their wording."""
    named = [kind() for kind in MEASURES.values() if "unit" in rows and (rows["unit"] == kind.unit).any()]
    return claim_text(topic, named[0] if len(named) == 1 else None, say)
