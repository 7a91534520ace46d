"""What a process has in memory stays out of core dumps."""

import subprocess
import sys

ASK = """
import ctypes, os, resource, signal
from ops.memory import no_core_files, not_dumpable
before = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
no_core_files(); not_dumpable()
print(before, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE))
"""


def test_a_process_with_keys_can_be_dumped_before_it_says_so_and_not_after() -> None:
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0", "0", "0"]
