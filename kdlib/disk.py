"""Files that are whole or absent: written beside their place and renamed, checked when they are read."""

import errno
import hashlib
import json
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import BytesIO
from pathlib import Path

import numpy as np
from filelock import FileLock

from kdlib.messages import one_line

MANIFEST = "manifest.json"
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
Arrays = dict[str, np.ndarray]


class DiskFull(OSError):
    """There is no room for a file; what was there before is as it was."""


def lock(path: Path, target: Path, timeout: float = -1) -> AbstractContextManager:
    """Held, nobody else writes ``target``; its holder may take it again.

    What is there, but where this user can't write, is read without a lock: written things are whole.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path, is_singleton=True).acquire(timeout=timeout)
    except OSError as error:
        if error.errno not in READ_ONLY or not target.exists():
            raise
        return nullcontext()


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Where to write a file, or make a directory, that is to be ``path``; it is renamed at the end.

    On an error what was written is removed. Writers hold a lock: a path has one such place.
    """
    partial = path.with_name(f"{path.name}.partial")
    with room_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)  # what a killed process left
        try:
            yield partial
            partial.replace(path)
        except BaseException:
            _remove(partial)
            raise


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Turn the error of a full disk, or of a used-up quota, into :class:`DiskFull`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        told = f"the disk is full: {path.name} could not be written under {path.parent}"
        remedy = "no finished run is lost; free some space and give the same command again"
        raise DiskFull(f"{told}; {remedy}") from error


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def seal(folder: Path, left_out: Iterable[str] = ()) -> None:
    """Write the sha256 of every file of a directory into its manifest; null for files that were left out."""
    manifest = {path.name: _sha256(path) for path in sorted(folder.iterdir())} | dict.fromkeys(left_out)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def damage(folder: Path, needed: Iterable[str] = ()) -> str | None:
    """What is wrong with a sealed directory, in a line; its manifest must list ``needed``, if as left out."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        unlisted = sorted(set(needed) - manifest.keys())
        changed = [name for name, told in manifest.items() if told and _sha256(folder / name) != told]
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        return one_line(error)
    if unlisted:
        return f"{MANIFEST} doesn't list {', '.join(unlisted)}"
    return f"{', '.join(changed)} changed" if changed else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_arrays(path: Path, arrays: Arrays, save: Callable = np.savez) -> None:
    with written(path) as partial, partial.open("wb") as file:
        save(file, **arrays)


def read_arrays(path: Path) -> Arrays | None:
    """The arrays of a file, or None: it is absent or, with a warning, damaged."""
    try:
        with zipfile.ZipFile(path) as archive:  # whole files, so that zipfile checks their sums
            if any(member.comment for member in archive.infolist()):  # a flipped bit makes one of the rest
                raise ValueError("a part of its list is lost")
            files = {name.removesuffix(".npy"): BytesIO(archive.read(name)) for name in archive.namelist()}
        return {name: np.lib.format.read_array(file, allow_pickle=False) for name, file in files.items()}
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever a damaged zip archive makes its readers raise
        warnings.warn(f"{path} is damaged ({one_line(error)}): made again", stacklevel=3)
        return None


def kept(path: Path, make: Callable[[], Arrays], lock_path: Path) -> Arrays:
    """The arrays of a file; if it is absent or damaged, they are made and written, by one process for all."""
    found = read_arrays(path)  # without the lock: a file is whole, or absent
    if found is None:
        with lock(lock_path, path):
            found = read_arrays(path)
            if found is None:
                found = make()
                write_arrays(path, found)
    return found
