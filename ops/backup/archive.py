"""The file of a backup. Knows files and digests; nothing of what is in them.

    line    PARKGATE-BACKUP <format> <SHA-256 of all that follows, hexadecimal>
    tar     manifest.json first, then the members that it names, in its order

The digest of the whole covers what a digest of members would not: names, sizes and the padding between them. So a file
with any byte changed, missing or too many is refused before a member is read; the members' own digests are checked as
well, and tell which one was already damaged when it was packed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO

from ops.errors import BadInput, OpsError

FORMAT = 1
MANIFEST = "manifest.json"
MAX_MANIFEST = 16 * 1024 * 1024
PIECE = 1024 * 1024
HEAD = re.compile(rb"PARKGATE-BACKUP ([0-9]{1,9}) ([0-9a-f]{64})\n")
HEAD_LENGTH = len(b"PARKGATE-BACKUP 1 \n") + 64
Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Member:
    """One file of the park: its size, digest and access rights."""

    bytes: int
    sha256: str
    mode: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive says of itself. `offsets`: how far reporting had read each partition; `made_time` is ISO, UTC."""

    parkgate: str
    made_time: str
    venue: str
    partitions: int
    offsets: Mapping[str, int]
    members: Mapping[str, Member] = field(default_factory=dict)
    format: int = FORMAT


def write_archive(folder: Path, manifest: Manifest, path: Path, told: Told) -> Manifest:
    """Packs all files of a folder into a new file, readable by its owner only; answers the whole manifest.

    Raises:
        BadInput: the file exists.
        OpsError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    if path.exists():
        raise BadInput(f"{path} exists; a backup is never written over.", "Choose another --out.")
    try:
        files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
        members = {name: _member(file) for name, file in files.items()}
        whole = replace(manifest, members=members)
        with open(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b") as out:
            _pack(out, files, whole, told)
            os.fsync(out.fileno())
        os.link(partial, path)  # unlike a rename, never over another file
    except OSError as error:
        raise OpsError(f"{path} cannot be written: {error.strerror}.", "Look at the disk space and rights.") from error
    finally:
        partial.unlink(missing_ok=True)
    return whole


def verify(path: Path, told: Told) -> Manifest:
    """Reads the whole archive and changes nothing.

    Raises:
        BadInput: it is damaged, of another format, or no backup at all.
    """
    try:
        with path.open("rb") as file:
            _check_digest(path, file, told)
            with _tar(file) as tar:
                manifest = _manifest(tar)
                for name, data in _members(tar, manifest):
                    told(f"checking {name}")
                    _check(name, data, manifest.members[name], lambda _piece: None)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
    except (tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"it cannot be understood ({error})") from error
    return manifest


def extract(path: Path, folder: Path, told: Told, within: str = "") -> None:
    """Writes the members of a verified archive into an empty folder, each checked once more as it is written.

    `within`: how the names of those begin that are wanted, for example "pki/".

    Raises:
        BadInput: a member is not as the manifest says.
        OpsError: it cannot be written.
    """
    try:
        with path.open("rb") as file, _tar(file) as tar:
            manifest = _manifest(tar)
            for name, data in _members(tar, manifest):
                if not name.startswith(within):
                    continue
                told(f"unpacking {name}")
                target = folder / name
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                member = manifest.members[name]
                with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, member.mode), "wb") as out:
                    _check(name, data, member, out.write)
                    os.fsync(out.fileno())
    except OSError as error:
        raise OpsError(f"{folder} cannot be written: {error.strerror}.", "Look at the disk space.") from error


def damaged(path: Path, how: str) -> BadInput:
    """The refusal of a damaged archive."""
    return BadInput(f"The backup {path} is damaged: {how}. Nothing was changed.", "Use another copy of it.")


def _pack(out: IO[bytes], files: Mapping[str, Path], manifest: Manifest, told: Told) -> None:
    out.write(b" " * HEAD_LENGTH)
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        data = json.dumps(asdict(manifest), indent=1).encode()
        for name, size, source in [(MANIFEST, len(data), None), *((n, f.stat().st_size, f) for n, f in files.items())]:
            told(f"packing {name}")
            info = tarfile.TarInfo(name)
            info.size, info.mode = size, 0o600
            with io.BytesIO(data) if source is None else source.open("rb") as content:
                tar.addfile(info, content)
    out.seek(HEAD_LENGTH)
    digest = _digest(out)
    out.seek(0)
    out.write(f"PARKGATE-BACKUP {FORMAT} {digest}\n".encode())


def _check_digest(path: Path, file: IO[bytes], told: Told) -> None:
    found = HEAD.fullmatch(file.read(HEAD_LENGTH))
    if found is None:
        raise damaged(path, "it does not begin as a backup of Parkgate does")
    if int(found[1]) != FORMAT:
        raise BadInput(
            f"The backup {path} has format {int(found[1])}, this version reads {FORMAT}. Nothing was changed.",
            "Restore it with the version of Parkgate that made it.",
        )
    told("checking the whole")
    if _digest(file).encode() != found[2]:
        raise damaged(path, "its bytes are not those that were written")


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := file.read(PIECE):
        digest.update(piece)
    return digest.hexdigest()


@contextmanager
def _tar(file: IO[bytes]) -> Iterator[tarfile.TarFile]:
    file.seek(HEAD_LENGTH)
    with tarfile.open(fileobj=file, mode="r:") as tar:
        yield tar


def _manifest(tar: tarfile.TarFile) -> Manifest:
    first = tar.next()
    content = tar.extractfile(first) if first is not None and first.name == MANIFEST else None
    if first is None or content is None or first.size > MAX_MANIFEST:
        raise ValueError("the manifest is not its first member")
    fields = json.loads(content.read())
    members = {str(name): Member(**member) for name, member in fields["members"].items()}
    return Manifest(**{**fields, "members": members})


def _members(tar: tarfile.TarFile, manifest: Manifest) -> Iterator[tuple[str, IO[bytes]]]:
    """Exactly the members of the manifest, in its order."""
    for name in manifest.members:
        info = tar.next()
        content = tar.extractfile(info) if info is not None and info.isreg() else None
        if info is None or content is None or info.name != name or not _is_inside(name):
            raise ValueError(f"{name} is not where it must be")
        yield name, content
    if tar.next() is not None:
        raise ValueError("there is more in it than the manifest names")


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _check(name: str, data: IO[bytes], member: Member, take: Callable[[bytes], object]) -> None:
    digest, size = hashlib.sha256(), 0
    while piece := data.read(PIECE):
        digest.update(piece)
        size += len(piece)
        take(piece)
    if digest.hexdigest() != member.sha256 or size != member.bytes:
        raise BadInput(f"The member {name} of the backup is damaged.", "Use another copy of it.")


def _member(file: Path) -> Member:
    with file.open("rb") as content:
        return Member(file.stat().st_size, _digest(content), file.stat().st_mode & 0o777)
