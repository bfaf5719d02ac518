"""What must not leave the machine in a record: keys and tokens of the environment, and whose home folder it is."""

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path

#: Names of environment variables whose values are secrets.
SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|COOKIE|DSN", re.IGNORECASE)
#: What is shorter is a word that may stand anywhere.
SHORTEST = 8
HIDDEN = "***"
#: User and password in an address.
_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]+@")


def secrets() -> list[str]:
    """Return the values that must never be written anywhere, the longest first."""
    found = {value for name, value in os.environ.items() if SECRET_NAME.search(name) and len(value) >= SHORTEST}
    return sorted(found, key=lambda value: (-len(value), value))


def private(text: str) -> str:
    """Return text without secrets of the environment, users in addresses, and the path of the home folder ("~")."""
    return _hide(tuple(secrets()), str(Path.home()))(text)


@functools.lru_cache(maxsize=4)
def _hide(values: tuple[str, ...], home: str) -> Callable[[str], str]:
    known = re.compile("|".join(map(re.escape, values))) if values else None
    # A folder of which home is the beginning of the name is another.
    at_home = re.compile(rf"(?<![\w.~/-]){re.escape(home)}(?![\w.-])") if len(Path(home).parts) > 1 else None

    def hide(text: str) -> str:
        if known is not None:
            text = known.sub(HIDDEN, text)
        if "://" in text:
            text = _USERINFO.sub(f"{HIDDEN}@", text)
        return at_home.sub("~", text) if at_home is not None else text

    return hide
