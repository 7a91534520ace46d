"""Certificates of our own services, made at their first start and renewed when they are due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ops import enrolment
from ops.pki import LINK_SERVICE, RENEW_BEFORE, Issued, Kind, Pair

if TYPE_CHECKING:
    from cluster.identity import Revoked


@dataclass(frozen=True, slots=True)
class Files:
    """Paths of PEM files."""

    ca: Path
    certificate: Path
    key: Path


def service_identity(data_dir: Path, name: str) -> Files:
    """A client certificate `parkgate://service/<name>`, kept in `pki/services`."""
    now = datetime.now(UTC)
    folder = data_dir / "pki" / "services"
    files = Files(folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key")
    valid = enrolment.valid_of(data_dir, Kind.SERVICE, name, now)
    due = not valid or max(one.not_after for one in valid) - now < RENEW_BEFORE
    if due or not files.certificate.exists() or not files.key.exists():
        issue = enrolment.renew if valid else _enroll
        pair, _ = issue(data_dir, name, now)
        enrolment.save(pair, enrolment.authority(data_dir, now).certificate, name, folder)
    return files


def _enroll(data_dir: Path, name: str, now: datetime) -> tuple[Pair, Issued]:
    return enrolment.enroll(data_dir, Kind.SERVICE, name, (), now)


def link_identity(data_dir: Path) -> Files:
    """The cluster's own certificate `parkgate://service/cluster`, for both ends of the links between its nodes."""
    return service_identity(data_dir, LINK_SERVICE)


def revocations(data_dir: Path) -> Revoked:
    """The certificates that were taken back, as they stand whenever it is asked."""
    from cluster.identity import Revoked

    return Revoked(enrolment.revoked_path(data_dir))


def server_identity(data_dir: Path, service: str, names: tuple[str, ...]) -> Files:
    """A server certificate, kept in `pki/server`."""
    enrolment.server_pair(data_dir, service, names, datetime.now(UTC))
    folder = data_dir / "pki" / "server"
    return Files(data_dir / "pki" / "ca.pem", folder / f"{service}.pem", folder / f"{service}.key")
