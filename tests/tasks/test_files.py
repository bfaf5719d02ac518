"""Data files in every layout, and files that are missing, damaged or cannot be downloaded."""

import dataclasses
import gzip
import hashlib
import http.client
import io
import socket
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from bench.errors import DataUnavailable, UsageError
from bench.tasks import files
from bench.tasks.files import Archive, DataFile, Source, load_files
from bench.tasks.images import Images
from bench.tasks.torchvision_sets import SOURCES
from tests.tasks.idx import elements, idx, idx_shape, labels_of, pixels, put

TRAIN, TEST = 12, 5
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
FILES = {
    "train-images-idx3-ubyte": idx((TRAIN, 28, 28), pixels(TRAIN)),
    "train-labels-idx1-ubyte": idx((TRAIN,), bytes(labels_of(TRAIN, 10))),
    "t10k-images-idx3-ubyte": idx((TEST, 28, 28), pixels(TEST)),
    "t10k-labels-idx1-ubyte": idx((TEST,), bytes(labels_of(TEST, 10))),
}


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


class Mirror:
    """Stands in for torchvision's download: writes the files below its root; counts; may fail half-way."""

    def __init__(self) -> None:
        self.downloads = 0
        self.failure: BaseException | None = None
        self.timeout: float | None = None

    def __call__(self, root: str) -> None:
        self.downloads += 1
        self.timeout = socket.getdefaulttimeout()
        for name, content in FILES.items():
            (Path(root) / "MNIST" / "raw" / name).write_bytes(content)
            if self.failure is not None:
                raise self.failure


@pytest.fixture
def mirror() -> Mirror:
    return Mirror()


@pytest.fixture
def source(mirror: Mirror) -> Source:
    """MNIST's source with four files of a few random digits for the original ones."""
    small = tuple(DataFile(name, sha256(content), "", idx_shape(content)) for name, content in FILES.items())
    return dataclasses.replace(SOURCES["mnist"], files=small, download=mirror)


@pytest.fixture
def gz_source(source: Source) -> Source:
    """The same with checksums of the .gz files alone, as torchvision has them."""
    small = tuple(
        DataFile(name, "", md5(gzip.compress(content, mtime=0)), idx_shape(content)) for name, content in FILES.items()
    )
    return dataclasses.replace(source, files=small)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place for temporary files, so that what stays behind is seen."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def check(loaded: tuple[Images, Images]) -> None:
    train, test = loaded
    assert train.pixels.shape == (TRAIN, 28, 28)
    assert train.pixels.dtype == torch.uint8
    assert train.pixels.numpy().tobytes() == elements(FILES[IMAGES])
    assert train.labels.tolist() == labels_of(TRAIN, 10)
    assert test.pixels.numpy().tobytes() == elements(FILES["t10k-images-idx3-ubyte"])
    assert test.labels.tolist() == labels_of(TEST, 10)


@pytest.mark.parametrize("sub", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("packed", ["plain", "gz", "mixed"])
def test_files_are_found_in_every_layout(tmp_path: Path, scratch: Path, source: Source, sub: str, packed: str) -> None:
    for name, content in FILES.items():
        put(tmp_path / "data" / sub, {name: content}, packed == "gz" or (packed == "mixed" and "train" in name))
    before = sorted((tmp_path / "data").rglob("*"))
    check(load_files(source, str(tmp_path / "data"), download=False))
    assert sorted((tmp_path / "data").rglob("*")) == before
    assert list(scratch.iterdir()) == []


@pytest.mark.usefixtures("scratch")
def test_a_folder_with_three_files_is_passed_over(tmp_path: Path, source: Source) -> None:
    put(tmp_path, FILES, packed=False)
    (tmp_path / LABELS).unlink()
    put(tmp_path / "mnist", FILES, packed=True)
    check(load_files(source, str(tmp_path), download=False))


def flipped(position: int) -> Callable[[bytes], bytes]:
    def damage(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[position % len(changed)] ^= 0xFF
        return bytes(changed)

    return damage


#: Damages that change the format, which are seen without a checksum too.
GROSS = {
    "truncated": lambda content: content[:-20],
    "halved": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "first byte": flipped(0),
    "other file": lambda content: b"<html>not found</html>",
}
DAMAGES = GROSS | {
    "byte 12": flipped(12),
    "byte 40": flipped(40),
    "byte 555": flipped(555),
    "last byte": flipped(-1),
}


def refused(source: Source, root: Path, file: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_files(source, str(root), download=True)
    assert str(file) in str(caught.value)
    assert "replace it with the original file" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, DataUnavailable)


@pytest.mark.parametrize("name", [IMAGES, LABELS])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_refused_by_name(
    tmp_path: Path, scratch: Path, source: Source, name: str, packed: bool, damage: Callable[[bytes], bytes]
) -> None:
    put(tmp_path / "data", FILES, packed)
    file = tmp_path / "data" / (f"{name}.gz" if packed else name)
    file.write_bytes(damage(file.read_bytes()))
    refused(source, tmp_path / "data", file)
    assert list(scratch.iterdir()) == []


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_checksums_of_packed_files_are_checked(
    tmp_path: Path, gz_source: Source, damage: Callable[[bytes], bytes]
) -> None:
    put(tmp_path, FILES, packed=True)
    check(load_files(gz_source, str(tmp_path), download=False))
    file = tmp_path / f"{IMAGES}.gz"
    file.write_bytes(damage(file.read_bytes()))
    refused(gz_source, tmp_path, file)


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize("damage", GROSS.values(), ids=GROSS)
def test_files_without_a_checksum_are_checked_for_their_format(
    tmp_path: Path, gz_source: Source, damage: Callable[[bytes], bytes]
) -> None:
    put(tmp_path, FILES, packed=False)
    check(load_files(gz_source, str(tmp_path), download=False))
    file = tmp_path / IMAGES
    file.write_bytes(damage(file.read_bytes()))
    refused(gz_source, tmp_path, file)
    # Beside a packed one the plain file is not read, whatever it is.
    put(tmp_path, FILES, packed=True)
    check(load_files(gz_source, str(tmp_path), download=False))


def test_missing_files_are_said_with_the_places_looked_in(tmp_path: Path, scratch: Path, source: Source) -> None:
    with pytest.raises(DataUnavailable) as caught:
        load_files(source, str(tmp_path / "data"), download=False)
    message = str(caught.value)
    for place in (tmp_path / "data", tmp_path / "data" / "mnist", tmp_path / "data" / "MNIST" / "raw"):
        assert str(place) in message
    assert IMAGES in message
    assert "data.download=false" in message
    assert "task=mnist5k/mlp" in message
    assert list(scratch.iterdir()) == []


def test_a_download_is_kept_for_next_time(tmp_path: Path, scratch: Path, source: Source, mirror: Mirror) -> None:
    check(load_files(source, str(tmp_path / "data"), download=True))
    assert mirror.downloads == 1
    kept = tmp_path / "data" / "MNIST" / "raw"
    assert sorted(path.name for path in kept.iterdir()) == sorted(FILES)
    assert list(scratch.iterdir()) == []
    check(load_files(source, str(tmp_path / "data"), download=True))
    assert mirror.downloads == 1


@pytest.mark.usefixtures("scratch")
def test_what_has_a_checksum_is_kept_too(tmp_path: Path, gz_source: Source, mirror: Mirror) -> None:
    def download(root: str) -> None:
        mirror(root)
        put(Path(root) / "MNIST" / "raw", FILES, packed=True)

    check(load_files(dataclasses.replace(gz_source, download=download), str(tmp_path), download=True))
    kept = sorted(path.name for path in (tmp_path / "MNIST" / "raw").iterdir())
    assert kept == sorted([*FILES, *(f"{name}.gz" for name in FILES)])


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nTried mirrors:\nlast reason"),
        URLError("Name or service not known"),
        TimeoutError("timed out"),
        OSError(28, "No space left on device"),
        http.client.BadStatusLine("garbage"),
        RuntimeError(""),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_failed_download_says_so_and_leaves_nothing(
    tmp_path: Path, scratch: Path, source: Source, mirror: Mirror, failure: BaseException
) -> None:
    mirror.failure = failure
    with pytest.raises(DataUnavailable, match="download failed") as caught:
        load_files(source, str(tmp_path / "data"), download=True)
    message = str(caught.value)
    assert "\n" not in message
    assert (str(failure).splitlines() or [type(failure).__name__])[-1] in message
    assert str(tmp_path / "data" / "mnist") in message
    assert not (tmp_path / "data").exists()
    assert list(scratch.iterdir()) == []
    assert mirror.timeout == files.DOWNLOAD_TIMEOUT_SECONDS
    assert socket.getdefaulttimeout() is None


@pytest.mark.usefixtures("scratch")
def test_a_download_that_cannot_be_kept_is_used_all_the_same(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full_disk(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.shutil, "copyfile", full_disk)
    check(load_files(source, str(tmp_path / "data"), download=True))
    assert "could not be kept" in "".join(capfd.readouterr())
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file()] == []


def zipped(content: dict[str, bytes], folder: str = "gzip") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, value in content.items():
            archive.writestr(f"{folder}/{name}.gz", gzip.compress(value, mtime=0))
    return stream.getvalue()


def with_archive(source: Source, content: bytes) -> Source:
    return dataclasses.replace(source, archive=Archive("gzip.zip", md5(content), "gzip"))


@pytest.mark.usefixtures("scratch")
def test_an_archive_is_taken_whole_and_checked(tmp_path: Path, gz_source: Source, mirror: Mirror) -> None:
    content = zipped(FILES | {"another-file": b"not asked for"})
    source = with_archive(gz_source, content)
    folder = tmp_path / "mnist"
    folder.mkdir()
    (folder / "gzip.zip").write_bytes(content)
    check(load_files(source, str(tmp_path), download=False))
    (folder / "gzip.zip").write_bytes(flipped(len(content) // 2)(content))
    refused(source, tmp_path, folder / "gzip.zip")
    for wrong in (zipped({IMAGES: FILES[IMAGES]}), zipped(FILES, "other"), b"no zip file at all"):
        (folder / "gzip.zip").write_bytes(wrong)
        refused(with_archive(gz_source, wrong), tmp_path, folder / "gzip.zip")
    assert mirror.downloads == 0


@pytest.mark.usefixtures("scratch")
def test_of_a_downloaded_archive_the_files_are_kept(tmp_path: Path, source: Source) -> None:
    content = zipped(FILES)

    def download(root: str) -> None:
        (Path(root) / "MNIST" / "raw" / "gzip.zip").write_bytes(content)

    source = dataclasses.replace(with_archive(source, content), download=download)
    check(load_files(source, str(tmp_path), download=True))
    assert sorted(path.name for path in (tmp_path / "MNIST" / "raw").iterdir()) == sorted(FILES)
    check(load_files(source, str(tmp_path), download=False))
