"""Operating errors of the `parkgate` command, by what the person at the keyboard should do.

    OpsError               what happened, and how to mend it             exit code 1
    ├── FolderInUse        another live stack owns the data folder       exit code 1
    ├── StartFailed        a child process did not become ready          exit code 1
    └── BadInput           a setting, flag or file is wrong              exit code 2
        └── SettingsError  every wrong setting, reported at once         exit code 2

No message carries a secret: these texts go to screens and logs.
"""

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2


class OpsError(Exception):
    """Something about this machine or installation prevents the work. `mend` says what to do about it."""

    exit_code = EXIT_FAILURE

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def __str__(self) -> str:
        between = "\n" if "\n" in self.message else " "  # after a list, the advice is no part of its last line
        return f"{self.message}{between}{self.mend}".rstrip()


class FolderInUse(OpsError):
    """Another live stack works in this data folder."""


class StartFailed(OpsError):
    """A child process ended, or was not ready in time."""


class BadInput(OpsError):
    """The caller's mistake: repeating the same call fails the same way."""

    exit_code = EXIT_USAGE
