"""What verdicts say in English has a text in every language."""

import re

import pandas as pd

from bench.claims.claim import LANGUAGES
from bench.report.messages import messages
from tests.report.chinese import strange


def assert_retold(verdicts: pd.DataFrame) -> None:
    """Check that notes and measures of verdicts are said by the report's catalogues, whatever judge they are of."""
    for kind, column in (("remark", "note"), ("place", "measure")):
        for text in sorted(set(verdicts[column]) - {""}):
            for language in LANGUAGES[1:]:
                told = messages(language).retold(kind, text)
                # Names of optimizers and methods are what they are.
                assert strange(told, ["SGD"]) == [], text
                assert not re.search("[a-z]{3} [a-z]{3}", told), text
