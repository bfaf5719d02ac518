"""Files of data sets: found under the data root or downloaded, checked, and laid out where torchvision reads them."""

import gzip
import hashlib
import os
import shutil
import socket
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

from bench.errors import DataUnavailable, UsageError
from bench.tasks.images import Images

DOWNLOAD_TIMEOUT_SECONDS = 20.0
#: IDX code of the elements of a file, by their bytes: unsigned bytes and 32-bit integers.
IDX_CODES = {1: 8, 4: 12}


@dataclass(frozen=True)
class DataFile:
    """One file as torchvision reads it, and what is known of it.

    Attributes:
        name: Its name.
        checksum: "sha256:…" or "md5:…" of it; "" where none is known.
        gz_checksum: The same of name.gz, which is taken too; "" where none is known, None where there is no such form.
        shape: Of an IDX file: what its header has to say; () for other formats.
        element: Of an IDX file: bytes per element.
    """

    name: str
    checksum: str = ""
    gz_checksum: str | None = ""
    shape: tuple[int, ...] = ()
    element: int = 1

    def forms(self, folder: Path) -> list[tuple[Path, str]]:
        """Return paths and checksums of what is there of it, what has a checksum first."""
        forms = [(folder / self.name, self.checksum)]
        if self.gz_checksum is not None:
            forms.append((folder / f"{self.name}.gz", self.gz_checksum))
        return sorted((form for form in forms if form[0].is_file()), key=lambda form: not form[1])


@dataclass(frozen=True)
class Archive:
    """A zip file that holds all files of a data set.

    Attributes:
        name: Its name.
        checksum: "md5:…" of it.
        folder: Folder inside it; the files are there as name.gz.
    """

    name: str
    checksum: str
    folder: str


@dataclass(frozen=True)
class Source:
    """A data set as torchvision keeps it.

    Attributes:
        name: Name in configs.
        title: Name for people.
        layout: Folder below torchvision's root that it reads from and downloads to.
        folders: Folders under the data root that are looked in, in order.
        files: What is read.
        read: Torchvision's root → training and test images.
        download: Torchvision's root → files, or the archive, in `layout`.
        archive: Zip file that is taken in place of the files; None for none.
    """

    name: str
    title: str
    layout: str
    folders: tuple[str, ...]
    files: tuple[DataFile, ...]
    read: Callable[[str], tuple[Images, Images]]
    download: Callable[[str], object]
    archive: Archive | None = None


def load_files(source: Source, root: str, download: bool) -> tuple[Images, Images]:
    """Load a data set from the data root, else download it.

    Args:
        source: Which data set.
        root: Data root.
        download: Whether torchvision may download what is missing; it is kept under `root`.

    Returns:
        Training and test images.

    Raises:
        DataUnavailable: The files are not there and could not be downloaded.
        UsageError: A file does not match its checksum or is not in its format.
    """
    # Records say "~" for the home folder.
    root = str(Path(root).expanduser())
    folder = find(source, Path(root))
    with tempfile.TemporaryDirectory(prefix="bench-data-") as scratch:
        raw = Path(scratch) / source.layout
        raw.mkdir(parents=True, exist_ok=True)
        if folder is not None:
            _unpack(source, folder, raw)
        elif download:
            _download(source, root, scratch)
            if source.archive is not None:
                _unpack_archive(source.archive, source, raw, raw)
            _keep(source, raw, Path(root) / source.layout)
        else:
            raise _missing(source, root, "and data.download=false")
        return source.read(scratch)


def find(source: Source, root: Path) -> Path | None:
    """Return the first folder that holds the archive, or every file plain or packed; None where there is none."""
    for folder in (root / sub for sub in source.folders):
        packed = source.archive is not None and (folder / source.archive.name).is_file()
        if packed or all(file.forms(folder) for file in source.files):
            return folder
    return None


def _unpack(source: Source, folder: Path, raw: Path) -> None:
    """Check what is in a folder and put it where torchvision reads it."""
    if source.archive is not None and (folder / source.archive.name).is_file():
        _unpack_archive(source.archive, source, folder, raw)
        return
    for file in source.files:
        path, checksum = file.forms(folder)[0]
        content = path.read_bytes()
        _check(path, checksum, content)
        if path.name != file.name:
            content = _unzip(path, content)
            _check(path, file.checksum, content)
        _check_format(path, file, content)
        (raw / file.name).write_bytes(content)


def _unpack_archive(archive: Archive, source: Source, folder: Path, raw: Path) -> None:
    path = folder / archive.name
    with path.open("rb") as opened:
        if hashlib.file_digest(opened, "md5").hexdigest() != archive.checksum.removeprefix("md5:"):
            raise _damaged(path)
    try:
        with zipfile.ZipFile(path) as packed:
            for file in source.files:
                content = _unzip(path, packed.read(f"{archive.folder}/{file.name}.gz"))
                _check_format(path, file, content)
                (raw / file.name).write_bytes(content)
    except (KeyError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: cannot be unpacked ({error}); replace it with the original file") from None


def _unzip(path: Path, content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise UsageError(f"{path}: cannot be unpacked ({error}); replace it with the original file") from None


def _check(path: Path, checksum: str, content: bytes) -> None:
    algorithm, _, expected = checksum.partition(":")
    if expected and hashlib.new(algorithm, content, usedforsecurity=False).hexdigest() != expected:
        raise _damaged(path)


def _damaged(path: Path) -> UsageError:
    return UsageError(f"{path}: does not match its checksum; replace it with the original file")


def _check_format(path: Path, file: DataFile, content: bytes) -> None:
    """Refuse an IDX file whose header or length is another: all there is to check where no checksum is known."""
    if not file.shape:
        return
    header = bytes((0, 0, IDX_CODES[file.element], len(file.shape)))
    header += b"".join(size.to_bytes(4, "big") for size in file.shape)
    values = file.element
    for size in file.shape:
        values *= size
    if not content.startswith(header) or len(content) != len(header) + values:
        shape = " × ".join(map(str, file.shape))
        raise UsageError(f"{path}: is not a whole IDX file of {shape}; replace it with the original file")


def _download(source: Source, root: str, scratch: str) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
    try:
        source.download(scratch)
    except (RuntimeError, URLError, HTTPException, OSError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise _missing(source, root, f"and the download failed ({reason})") from None
    finally:
        socket.setdefaulttimeout(before)


def _keep(source: Source, raw: Path, target: Path) -> None:
    """Keep downloaded files for next time; a folder that cannot be written costs only another download."""
    names = [name for file in source.files for name in (file.name, f"{file.name}.gz" if file.gz_checksum else "")]
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            if not name or not (raw / name).is_file():
                continue
            temporary = target / f".{name}.{os.getpid()}"
            try:
                shutil.copyfile(raw / name, temporary)
                temporary.replace(target / name)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        print(
            f"bench: downloaded {source.title} could not be kept in {target} ({error.strerror})",
            file=sys.stderr,
            flush=True,
        )


def _missing(source: Source, root: str, why: str) -> DataUnavailable:
    looked = ", ".join(str(Path(root) / sub) for sub in source.folders)
    gz = "" if source.files[0].gz_checksum is None else "[.gz]"
    wanted = f"{source.files[0].name}{gz}/…" + (f" or {source.archive.name}" if source.archive else "")
    return DataUnavailable(
        f"{source.name}: no {wanted} in {looked}, {why}; put the {len(source.files)} {source.title} files there, "
        "point data.root at their place, or use task=mnist5k/mlp, which needs no files"
    )
