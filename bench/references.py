"""References to a user's own code, "path/to/file.py:name" or "package.module:name": found, hashed, imported."""

import contextlib
import hashlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from bench.errors import UsageError, unknown

Kind = Literal["class", "function"]

#: SHA-256 of what was run of each module that this imported, by its name in sys.modules.
_RUN: dict[str, str] = {}


@dataclass(frozen=True)
class Source:
    """Where the code behind a reference is.

    Attributes:
        reference: As given.
        key: Configuration key that holds it, for messages.
        kind: What it has to name, for messages.
        file: The file, absolute.
        module: Dotted name; "" where a file is given.
        name: What of it is wanted.
    """

    reference: str
    key: str
    kind: Kind
    file: Path
    module: str
    name: str

    def refuse(self, message: str) -> UsageError:
        """Return the error that says what is wrong with it."""
        return UsageError(f"{self.key}={self.reference}: {message}")

    def content(self) -> bytes:
        """Return the bytes of the file.

        Raises:
            UsageError: It cannot be read.
        """
        try:
            return self.file.read_bytes()
        except OSError as error:
            raise self.refuse(f"cannot read {self.file.name}: {error.strerror}") from None

    @contextlib.contextmanager
    def importing(self) -> Iterator[None]:
        """Let it import what it may: a file its neighbours, as where a script is started; all, the current folder."""
        with _on_path(Path.cwd()):
            if self.module:
                yield
                return
            with _on_path(self.file.parent):
                yield

    def load(self, content: bytes) -> Any:
        """Return what is wanted of a file, run as these bytes; the same bytes are run once.

        Args:
            content: As `content` returned.

        Raises:
            UsageError: It cannot be imported, or has no such name.
        """
        module = self._module(content)
        if hasattr(module, self.name):
            return getattr(module, self.name)
        fits = inspect.isclass if self.kind == "class" else inspect.isfunction
        public = {name: value for name, value in vars(module).items() if fits(value) and not name.startswith("_")}
        own = [name for name, value in public.items() if value.__module__ == module.__name__]
        # A package offers what it imports from its modules.
        package = self.file.name == "__init__.py"
        where = self.module if package else self.file.name
        raise self.refuse(str(unknown(f"{self.kind} in {where}", self.name, public if package else own or public)))

    def where(self, error: BaseException) -> str:
        """Return an exception in a few words, with the line of the file that it came from."""
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(self.file)]
        if isinstance(error, SyntaxError) and error.filename == str(self.file):
            lines = [error.lineno]
        return f"{_said(error)} (line {lines[-1]})" if lines else _said(error)

    def _module(self, content: bytes) -> ModuleType:
        digest = hashlib.sha256(content).hexdigest()
        name = self.module
        if not name:
            # A name of its own, so that nothing that is called like the file is replaced.
            place = hashlib.sha256(f"{self.file}\0{digest}".encode()).hexdigest()[:16]
            name = f"bench_reference_{self.file.stem}_{place}"
        if name in sys.modules and _RUN.get(name, digest) == digest:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, self.file)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        # Before it runs: dataclasses, pickles and relative imports look a module up by its name.
        before = sys.modules.get(name)
        sys.modules[name] = module
        try:
            with self.importing():
                # Not by the module's loader, which may take the bytecode of an earlier text.
                exec(compile(content, str(self.file), "exec", dont_inherit=True), module.__dict__)
        # A user's file can end with anything; it is the reference that cannot be used.
        except BaseException as error:
            _restore(name, before)
            if not isinstance(error, Exception | SystemExit):
                raise
            unreadable = isinstance(error, SyntaxError) and error.filename == str(self.file)
            verb = "read" if unreadable else "imported"
            raise self.refuse(f"cannot be {verb}: {self.where(error)}") from None
        _RUN[name] = digest
        package, _, child = name.rpartition(".")
        if package:
            # As an import would: code that has `import package.child` finds it there.
            setattr(sys.modules[package], child, module)
        return module


def find(reference: str, key: str, kind: Kind) -> Source:
    """Return where the code behind a reference is, without running it; of a submodule, its packages are imported.

    Args:
        reference: "path/to/file.py:name", relative to the current folder or absolute, or "package.module:name", which
            is looked for in the current folder and where Python looks.
        key: Configuration key that holds it, for messages.
        kind: What it has to name, for messages.

    Raises:
        UsageError: Not of that form, or no such file or module.
    """
    place, name = _split(reference)
    if not place or not name.isidentifier():
        raise UsageError(f"{key}={reference}: write path/to/file.py:{kind} or module:{kind}")
    if _is_path(place):
        path = Path(place).expanduser()
        if not path.is_file():
            raise UsageError(f"{key}={reference}: no file {place} (looked in {Path.cwd()})")
        return Source(reference, key, kind, path.resolve(), "", name)
    try:
        with _on_path(Path.cwd()):
            spec = importlib.util.find_spec(place)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{key}={reference}: cannot look for module {place}: {_said(error)}") from None
    if spec is None:
        raise UsageError(
            f"{key}={reference}: no module {place} (looked in {Path.cwd()} and where Python looks); "
            f"a file is given as path/to/file.py:{kind}"
        )
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise UsageError(f"{key}={reference}: module {place} has no source file")
    return Source(reference, key, kind, Path(spec.origin).resolve(), place, name)


def load_reference(reference: str, key: str, kind: Kind = "class") -> Any:
    """Import what a reference names.

    Args:
        reference: As for `find`.
        key: Configuration key that holds it, for messages.
        kind: What it has to name, for messages.

    Raises:
        UsageError: As for `find`, or its file cannot be imported or has no such name; one line.
    """
    source = find(reference, key, kind)
    return source.load(source.content())


def source_sha256(reference: str, key: str, kind: Kind = "class") -> str:
    """Return the SHA-256 of the file that a reference names, without importing it.

    Other files that it imports are not covered.

    Args:
        reference: As for `find`.
        key: Configuration key that holds it, for messages.
        kind: What it has to name, for messages.

    Raises:
        UsageError: As for `find`, or the file cannot be read.
    """
    return hashlib.sha256(find(reference, key, kind).content()).hexdigest()


def definition_sha256(reference: str, key: str, kind: Kind = "class") -> str:
    """Return the SHA-256 of the file that a reference names and, where it is another, the one that defines the object.

    The object is imported to find that out. Other files that these import are not covered.

    Args:
        reference: As for `find`.
        key: Configuration key that holds it, for messages.
        kind: What it has to name, for messages.

    Raises:
        UsageError: As for `load_reference`.
    """
    source = find(reference, key, kind)
    content = source.content()
    defining = getattr(sys.modules.get(getattr(source.load(content), "__module__", "")), "__file__", None)
    digest = hashlib.sha256(content)
    if defining is not None and Path(defining).resolve() != source.file:
        digest.update(Path(defining).read_bytes())
    return digest.hexdigest()


def is_foreign(reference: str) -> bool:
    """Whether a reference names code that is not this suite's; the bare name of a class of torch does not."""
    place, _ = _split(reference)
    return bool(place) and (_is_path(place) or place.partition(".")[0] != "bench")


def _split(reference: str) -> tuple[str, str]:
    # From the right: a path may have a colon of its own.
    place, _, name = reference.rpartition(":")
    return place, name


def _is_path(place: str) -> bool:
    return place.endswith(".py") or "/" in place or os.sep in place


def _said(error: BaseException) -> str:
    text = str(error.msg if isinstance(error, SyntaxError) else error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def _restore(name: str, module: ModuleType | None) -> None:
    if module is None:
        sys.modules.pop(name, None)
    else:
        sys.modules[name] = module


@contextlib.contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        # What was imported may have changed the path itself.
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)
