"""References to a user's own code: "path.py:name" or "package.module:name"."""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.errors import UsageError, nearest


def load_reference(reference: str, what: str) -> Any:
    """Import what a reference names.

    A file is imported once per content: a changed file is imported anew, an unchanged one is not run again.

    Args:
        reference: "path.py:name", relative to the working directory, or "package.module:name".
        what: Configuration key that holds it, for messages.

    Returns:
        The object.

    Raises:
        UsageError: Not of that form, no such file or module, a module that fails on import, or a name it has not.
    """
    module, name = _module(reference, what), _split(reference, what)[1]
    if not hasattr(module, name):
        close = nearest(name, [n for n in vars(module) if not n.startswith("_")])
        hint = f"; did you mean {close!r}?" if close else ""
        raise UsageError(f"{what}={reference}: {_split(reference, what)[0]} has no {name!r}{hint}")
    return getattr(module, name)


def source_sha256(reference: str, what: str = "reference") -> str:
    """Return the SHA-256 of the code behind a reference: the file named, and the one that defines the object.

    Other files that these import are not covered.

    Args:
        reference: As for `load_reference`.
        what: Configuration key that holds it, for messages.

    Raises:
        UsageError: As for `load_reference`.
    """
    found, module = load_reference(reference, what), _module(reference, what)
    files = [module.__file__]
    if inspect.isclass(found) or inspect.isfunction(found):
        files.append(getattr(sys.modules.get(found.__module__), "__file__", None))
    digest = hashlib.sha256()
    for file in dict.fromkeys(file for file in files if file is not None):
        digest.update(hashlib.sha256(Path(file).read_bytes()).digest())
    return digest.hexdigest()


def _split(reference: str, what: str) -> tuple[str, str]:
    # From the right: a path may have a colon of its own.
    place, _, name = reference.rpartition(":")
    if not place or not name.isidentifier():
        raise UsageError(f"{what}={reference}: must be path.py:name or package.module:name")
    return place, name


def _module(reference: str, what: str) -> ModuleType:
    place = _split(reference, what)[0]
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        return _file_module(Path(place), reference, what)
    except UsageError:
        raise
    # A user's module can fail with anything while it is imported; it is the reference that cannot be used.
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and place.startswith(str(error.name))
        hint = "; a file is given as path.py:name" if missing and not place.endswith(".py") else ""
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UsageError(
            f"{what}={reference}: {place} cannot be imported ({type(error).__name__}: {reason}{hint})"
        ) from None


def _file_module(path: Path, reference: str, what: str) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"{what}={reference}: no file {path} in {Path.cwd()}")
    content = hashlib.sha256(str(path.resolve()).encode() + b"\0" + path.read_bytes()).hexdigest()[:16]
    name = f"bench_reference_{path.stem}_{content}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Before it runs: dataclasses and pickles look their module up by name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
