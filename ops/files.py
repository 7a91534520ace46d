"""Files that must not be half written, must not be read by others, or must not be shared by two stacks."""

import contextlib
import fcntl
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from ops.errors import FolderInUse, OpsError
from ops.processes import POLL_S, Identity, is_alive, own_identity

SECRET_BYTES = 32
"""Entropy of a generated password: beyond guessing, short enough for a connection URL."""


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Readers see the old bytes or the new, also after a power cut: write aside, fsync, rename, fsync the folder."""
    make_folder(path.parent)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_tree(folder: Path) -> None:
    """Makes a folder durable with all that is in it: before the rename that makes what was copied there count."""
    for path in (*folder.rglob("*"), folder):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            continue
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def make_folder(folder: Path) -> Path:
    """Makes a private folder (0700) and its parents. Raises: OpsError when that is not possible here."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OpsError(
            f"Cannot make the folder {folder}: {error.strerror}.",
            "Choose a folder that this user may write (--data-dir or PARKGATE_DATA_DIR).",
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OpsError(
            f"The folder {folder} cannot be written by this user.",
            "Choose another (--data-dir or PARKGATE_DATA_DIR) or give this user the right to write it.",
        )
    return folder


def secret(data_dir: Path, name: str) -> str:
    """The secret of that name, made at the first call and kept (0600) in `secrets/`."""
    path = make_folder(data_dir / "secrets") / name
    if not path.exists():
        with exclusive(path.with_name(".lock")):
            if not path.exists():
                write_atomic(path, secrets.token_urlsafe(SECRET_BYTES).encode())
    value = path.read_text(encoding="utf-8").strip()
    if not value:
        raise OpsError(f"The secret {path} is empty.", "Restore it from the backup; a new one would not fit the data.")
    return value


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Waits until no other process is in here with the same file: for short changes that two may want at once."""
    make_folder(path.parent)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


class FolderLock:
    """A lock that a server's parent and the server itself hold together, so that neither's SIGKILL frees it too early.

    The file's `flock` belongs to the open file, which the child inherits: it is free when the last of them is gone.
    The file names the owner. While the owner lives, others are refused at once; when only its children are left, they
    are on their way out (they die with their parent) and the newcomer waits for them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    @property
    def fd(self) -> int:
        """For `pass_fds` of the child. Raises: OpsError before `acquire`."""
        if self._fd is None:
            raise OpsError(f"The lock {self._path} is not held.")
        return self._fd

    @property
    def held(self) -> bool:
        return self._fd is not None

    def acquire(self, timeout_s: float = 0.0) -> None:
        """Raises: FolderInUse when a live owner has it, or when the remains of a dead one outlive `timeout_s`."""
        if self._fd is not None:
            return
        make_folder(self._path.parent)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._wait(fd, time.monotonic() + timeout_s)
            own = own_identity()
            self._write_owner(fd, json.dumps({"pid": own.pid, "started": own.started}).encode())
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def release(self) -> None:
        """Gives up our hold; children that inherited it keep theirs."""
        if self._fd is not None:
            self._write_owner(self._fd, b"")
            os.close(self._fd)
            self._fd = None

    def owner(self) -> Identity | None:
        """The live process that holds the lock, as far as the file says."""
        try:
            record = json.loads(self._path.read_bytes())
            who = Identity(int(record["pid"]), str(record["started"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None  # never locked, released, or its owner died between locking and writing
        return who if is_alive(who) else None

    def __enter__(self) -> "FolderLock":
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _wait(self, fd: int, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                owner = self.owner()
            if owner is not None:
                raise FolderInUse(
                    f"{self._path.parent.parent} is in use by a running stack (process {owner.pid}).",
                    "Stop that one first (parkgate down), or choose another folder with --data-dir.",
                )
            if time.monotonic() > deadline:
                raise FolderInUse(
                    f"{self._path.parent.parent} is still held by what a stack left behind{self._holders()}.",
                    "Wait a few seconds and try again; end those processes if they stay.",
                )
            time.sleep(POLL_S)

    def _holders(self) -> str:
        """Names the processes that have the lock file open, as far as this user may see them."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if any(os.path.samefile(link, self._path) for link in (entry / "fd").iterdir() if link.exists()):
                        found.append(entry.name)
        return f" (process {', '.join(sorted(found, key=int))})" if found else ""

    @staticmethod
    def _write_owner(fd: int, record: bytes) -> None:
        os.ftruncate(fd, 0)
        os.pwrite(fd, record, 0)
