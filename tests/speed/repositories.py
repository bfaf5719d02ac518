"""Scratch git repositories for the tests of where a check's code comes from."""

import subprocess
from pathlib import Path


def write(root: Path, files: dict[str, str]) -> None:
    """Write files by their paths."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def run_git(folder: Path, *arguments: str) -> str:
    """Run git as a person would, and return what it prints."""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit_all(root: Path, message: str = "change") -> str:
    """Commit everything, and return the commit."""
    run_git(root, "add", "-A")
    run_git(root, "commit", "-q", "--allow-empty", "-m", message)
    return run_git(root, "rev-parse", "HEAD")


def repository_of(root: Path, files: dict[str, str]) -> Path:
    """Make a repository with one commit."""
    root.mkdir(parents=True, exist_ok=True)
    run_git(root, "init", "-q", "-b", "main")
    write(root, files)
    commit_all(root)
    return root


def contents(root: Path) -> dict[str, str]:
    """Return the text of every file outside .git."""
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(root).parts
    }
