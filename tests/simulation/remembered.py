"""Pure work that every day would do again on the same bytes, done once a process: the one catalogue is read and its
rules are compiled, the same tickets' signatures are checked. It was a tenth of a day.

Each stands in for the function of its name, and gives what that gives: results are immutable, errors are not kept.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ticketcore import catalogue_document, rules
from ticketcore.catalogue import Catalogue
from ticketcore.rules import Rules

_CATALOGUES = 16
_CHECKED = 20_000

read_catalogue = lru_cache(_CATALOGUES)(catalogue_document.read_catalogue)


class _Same:
    """A catalogue as a key: itself, whatever equals it."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def __hash__(self) -> int:
        return id(self.catalogue)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.catalogue is self.catalogue


@lru_cache(_CATALOGUES)
def _compiled(same: _Same, version: int) -> Rules:
    return rules.compile_rules(same.catalogue, version)


def compile_rules(catalogue: Catalogue, version: int) -> Rules:
    """As `ticketcore.rules.compile_rules`."""
    return _compiled(_Same(catalogue), version)


class PublicKey:
    """As `Ed25519PublicKey`, as far as a key ring needs it."""

    def __init__(self, raw: bytes) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(raw)
        self.verify = lru_cache(_CHECKED)(self._key.verify)

    @staticmethod
    @lru_cache(_CATALOGUES)
    def from_public_bytes(raw: bytes) -> PublicKey:
        """As `Ed25519PublicKey.from_public_bytes`."""
        return PublicKey(raw)
