"""Keeps what a process has in memory, keys above all, out of core dumps."""

import ctypes
import resource

PR_SET_DUMPABLE = 4


def no_core_files() -> None:
    """No core file of this process and of all that it starts from now on."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def not_dumpable() -> None:
    """This process cannot be dumped or traced by its own user; not even by a handler that the core pattern pipes to,
    which heeds no limit. For a process that holds a signing key: of the others nobody could read /proc any more.

    Not on an old kernel or elsewhere than on Linux, where the call is not there: then the limit alone holds.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
