"""Finished runs in one file, to move them to another machine.

    write_archive(runs, Path("runs.zip"))                       # here
    read_archive(Path("runs.zip"), RunStore("outputs/runs"))    # there: a study finds them, and trains none

The file is a zip archive of ``runs/<id>/...`` as on disk, and of ``sha256.json``, which lists them all.
Nothing is compressed, since weights and answers hardly can be: the same runs give the same bytes on every
machine, and an archive can't hold more than its own size. All of it is checked before any run is put in
place. This finds damage, and keeps files where they belong; it can't tell whether a result is true.
"""

import hashlib
import io
import json
import re
import shutil
import stat
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from kdlib.data import DataSpec
from kdlib.disk import sha256
from kdlib.models import ModelSpec
from kdlib.names import check_kinds, one_line
from kdlib.study.profile import make
from kdlib.study.runs import FILES, KEPT, SMALL, WEIGHTS, Run, RunSpec, RunStore, damage
from kdlib.train import Training

INDEX, FORMAT = "sha256.json", 1
PLAIN = "|".join(map(re.escape, (*FILES, KEPT, "manifest.json")))
NAME = re.compile(rf"runs/[0-9a-f]{{12}}/({PLAIN}|(predictions|inside)/[\w. +-]+\.npz)", re.ASCII)


def write_archive(
    runs: Iterable[Run], target: Path, weights: bool = True, part_size: int | None = None
) -> list[Path]:
    """Pack runs into one file, or into parts of at most ``part_size`` bytes: ``<target>.001``, ``.002``, ...

    Args:
        weights: without them, a run can only tell what it has been asked before.

    Returns:
        The files written. Earlier ones of the same name are gone.
    """
    partial = target.with_name(f"{target.name}.partial")
    listed: dict[str, dict[str, str]] = {}
    try:
        with zipfile.ZipFile(partial, "w") as archive:
            for run in sorted(runs, key=lambda run: run.spec.id):
                listed[run.spec.id] = found = {}
                for path in sorted(run.path.rglob("*")):
                    name = path.relative_to(run.path).as_posix()
                    full = f"runs/{run.spec.id}/{name}"
                    if NAME.fullmatch(full) and path.is_file() and (weights or name != WEIGHTS):
                        found[name] = _store(archive, full, _opened(path, weights))
            index = json.dumps({"format": FORMAT, "runs": listed}, indent=1)
            _store(archive, INDEX, io.BytesIO(index.encode()))
        for earlier in (target, *_parts(target).values()):
            earlier.unlink(missing_ok=True)
        if not part_size:
            return [partial.rename(target)]
        with partial.open("rb") as whole:
            for number, block in enumerate(iter(lambda: whole.read(part_size), b""), 1):
                _part(target, number).write_bytes(block)
        return list(_parts(target).values())
    finally:
        partial.unlink(missing_ok=True)


def _opened(path: Path, weights: bool) -> BinaryIO:
    if weights or path.name != "manifest.json":
        return path.open("rb")
    return io.BytesIO(json.dumps(json.loads(path.read_text()) | {WEIGHTS: None}, indent=1).encode())


def _store(archive: zipfile.ZipFile, name: str, source: BinaryIO) -> str:
    """Add a file; returns its sha256."""
    entry = zipfile.ZipInfo(name)  # of 1980, and as if written on Unix: the same everywhere
    entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
    digest = hashlib.sha256()
    with source, archive.open(entry, "w", force_zip64=True) as stored:
        while block := source.read(1 << 20):
            digest.update(block)
            stored.write(block)
    return digest.hexdigest()


def _part(target: Path, number: int) -> Path:
    return target.with_name(f"{target.name}.{number:03}")


def _parts(target: Path) -> dict[int, Path]:
    """The parts that are there, by number."""
    named = re.compile(re.escape(target.name) + r"\.([0-9]{3,4})")
    found = ((named.fullmatch(path.name), path) for path in target.parent.iterdir())
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def read_archive(path: Path, store: RunStore) -> Counter[str]:
    """Put the runs of an archive into a store; one import at a time.

    Args:
        path: the archive, or one of its parts beside the others.

    Returns:
        How many runs are "new", "completed" or "left"; see :meth:`kdlib.study.runs.RunStore.adopt`.

    Raises:
        ValueError: if a part is missing, or anything in the archive isn't as :func:`write_archive` makes it;
            then no run has been put in place.
    """
    store.root.mkdir(parents=True, exist_ok=True)
    staging = store.root / "import.partial"
    with FileLock(store.root / "import.lock"):
        shutil.rmtree(staging, ignore_errors=True)  # of an import that was killed
        staging.mkdir()
        try:
            try:
                specs = _unpack(_whole(path, staging), staging)
            except Exception as error:  # whatever a crafted archive makes its readers raise
                raise ValueError(
                    f"{path} can't be imported: {one_line(error)}; no run was put in place"
                ) from error
            return Counter(store.adopt(spec, staging / "runs" / spec.id) for spec in specs)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _whole(path: Path, staging: Path) -> Path:
    """The archive, or its parts joined in ``staging``."""
    target = path.with_suffix("") if re.fullmatch(r"\.[0-9]{3,4}", path.suffix) else path
    parts = {} if path.is_file() and target == path else _parts(target)
    for number in range(1, max(parts, default=0)):
        if number not in parts:
            raise ValueError(f"{_part(target, number).name} is missing; put all parts into one folder")
    if parts:
        path = staging / "joined.zip"
        with path.open("wb") as joined:
            for part in parts.values():
                with part.open("rb") as source:
                    shutil.copyfileobj(source, joined)
    with path.open("rb") as file:  # a zip archive without a comment ends with 22 bytes that start like this
        file.seek(max(0, path.stat().st_size - 22))
        if file.read(4) != b"PK\5\6":
            last = f", or {_part(target, max(parts) + 1).name} is missing" if parts else ""
            raise ValueError(f"it is cut short{last}")
    return path


def _unpack(path: Path, staging: Path) -> list[RunSpec]:
    """Unpack the files that are listed, and check what is said of them and of their runs."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        for entry in entries:
            _check_entry(entry)
        names = {entry.filename for entry in entries}
        if len(names) < len(entries):
            raise ValueError("two of its files have one name")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("its files claim to be larger than itself")
        index = json.loads(archive.read(INDEX))
        check_kinds(index, {"format": int, "runs": dict}, INDEX, ("format", "runs"))
        if index["format"] != FORMAT:
            raise ValueError(f"its format is {index['format']}, this kdlib reads {FORMAT}")
        listed = {
            f"runs/{run}/{name}": digest
            for run, files in index["runs"].items()
            for name, digest in files.items()
        }
        for name in sorted(listed.keys() ^ (names - {INDEX})):
            raise ValueError(f"{name} is " + (f"not in {INDEX}" if name in names else "missing"))
        for name, digest in listed.items():
            unpacked = staging / name
            unpacked.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, unpacked.open("xb") as file:
                shutil.copyfileobj(source, file)
            if sha256(unpacked) != digest:
                raise ValueError(f"{name} has changed")
    return [_checked(staging / "runs" / run) for run in index["runs"]]


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.orig_filename
    if name != INDEX and not NAME.fullmatch(name):
        raise ValueError(f"it holds {name!r:.100}, which no run has")
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        raise ValueError(f"{name} is no plain file")
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise ValueError(f"{name} is compressed or encrypted, which `kdlib export` doesn't do")
    if not name.endswith((".npz", WEIGHTS)) and entry.file_size > SMALL:
        raise ValueError(f"{name} is larger than {SMALL // 10**6} MB")


def _checked(folder: Path) -> RunSpec:
    spec = _spec(json.loads((folder / "spec.json").read_text(encoding="utf-8")), "spec.json")
    if spec.id != folder.name:
        raise ValueError(f"run {folder.name} has the spec of run {spec.id}: damaged, or of another kdlib")
    problem = damage(Run(spec, folder))
    if problem:
        raise ValueError(f"run {spec.id}: {problem}")
    return spec


def _spec(values: dict, where: str) -> RunSpec:
    kinds = {"data": dict, "student": dict, "method": str, "hyper": dict, "training": dict, "seed": int}
    check_kinds(values, kinds | {"teacher": dict | None}, where, (*kinds, "teacher"))
    return RunSpec(
        make(DataSpec, values["data"], f"{where}.data"),
        make(ModelSpec, values["student"], f"{where}.student"),
        values["method"],
        values["hyper"],
        None if values["teacher"] is None else _spec(values["teacher"], f"{where}.teacher"),
        make(Training, values["training"], f"{where}.training"),
        values["seed"],
    )
