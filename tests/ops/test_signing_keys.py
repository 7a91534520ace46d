"""The signing keys' storage: kept, encrypted, rotated, and never silently replaced."""

import stat
from pathlib import Path

import pytest

from ops.backup.make import _settings_text
from ops.errors import OpsError
from ops.services.sales import configuration
from ops.settings import load
from ops.signing_keys import load_or_create, load_public, open_passphrase, passphrase_of, rotate


def test_the_same_key_is_found_again(data_dir: Path) -> None:
    first, second = load_or_create(data_dir), load_or_create(data_dir)
    assert first.active_key_id == second.active_key_id == 0
    assert first.private_key.private_bytes_raw() == second.private_key.private_bytes_raw()
    second.public_keys[0].verify(first.private_key.sign(b"ticket"), b"ticket")


def test_the_private_key_is_encrypted_and_private_at_rest(data_dir: Path) -> None:
    material = load_or_create(data_dir)
    path = data_dir / "signing" / "key-00.pem"
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not any(
        material.private_key.private_bytes_raw() in file.read_bytes() for file in data_dir.rglob("*") if file.is_file()
    )


def test_rotation_signs_with_a_new_key_and_still_checks_with_the_old(data_dir: Path) -> None:
    before = load_or_create(data_dir)
    after = rotate(data_dir)
    assert after.active_key_id == 1
    after.public_keys[0].verify(before.private_key.sign(b"old ticket"), b"old ticket")
    after.public_keys[1].verify(after.private_key.sign(b"new ticket"), b"new ticket")
    assert not (data_dir / "signing" / "key-00.pem").exists()
    assert load_or_create(data_dir).active_key_id == 1


def test_a_key_id_is_never_given_twice(data_dir: Path) -> None:
    for expected in range(1, 32):
        assert rotate(data_dir).active_key_id == expected
    with pytest.raises(OpsError, match="All 32 key ids are used"):
        rotate(data_dir)
    assert load_or_create(data_dir).active_key_id == 31


def test_a_missing_or_foreign_key_is_an_error_and_never_a_new_key(data_dir: Path, tmp_path: Path) -> None:
    load_or_create(data_dir)
    path, ring = data_dir / "signing" / "key-00.pem", data_dir / "signing" / "ring.json"
    kept = path.read_bytes()
    path.unlink()
    with pytest.raises(OpsError, match="is missing"):
        load_or_create(data_dir)
    (data_dir / "secrets" / "signing").write_text("another passphrase")
    path.write_bytes(kept)
    with pytest.raises(OpsError, match="does not open"):
        load_or_create(data_dir)
    ring.write_text('{"active": 0, "keys": {}}')
    with pytest.raises(OpsError, match="names keys that it does not hold"):
        load_public(data_dir)


def test_the_public_ring_is_read_without_the_private_key(data_dir: Path) -> None:
    with pytest.raises(OpsError, match="no key ring"):
        load_public(data_dir)
    material = load_or_create(data_dir)
    (data_dir / "signing" / "key-00.pem").unlink()
    active, keys = load_public(data_dir)
    assert active == 0
    assert keys[0].public_bytes_raw() == material.public_keys[0].public_bytes_raw()


def test_the_passphrase_may_come_from_outside_the_data_folder(data_dir: Path, tmp_path: Path) -> None:
    """So that nobody can open the keys with a copy of the whole folder."""
    credential = tmp_path / "credential"
    credential.write_text("correct horse\n")
    settings = load(environ={"PARKGATE_DATA_DIR": str(data_dir), "PARKGATE_SIGNING_PASSPHRASE_FILE": str(credential)})
    first = load_or_create(data_dir, passphrase_of(settings))
    assert not (data_dir / "secrets" / "signing").exists()
    assert (
        load_or_create(data_dir, "correct horse").private_key.private_bytes_raw()
        == first.private_key.private_bytes_raw()
    )
    with pytest.raises(OpsError, match="signing_passphrase_file"):
        load_or_create(data_dir)
    assert not (data_dir / "secrets" / "signing").exists()


def test_a_passphrase_that_is_gone_is_named_and_never_made_anew(data_dir: Path) -> None:
    """A new one would open nothing, and hide that the old one is wanted."""
    postgres = "postgresql://a:b@127.0.0.1:1/park"  # sales are configured without asking it
    settings = load(environ={"PARKGATE_DATA_DIR": str(data_dir), "PARKGATE_POSTGRES_URL": postgres})
    configuration(settings, "")
    secret = data_dir / "secrets" / "signing"
    secret.rename(data_dir / "elsewhere")
    for start in (passphrase_of, open_passphrase, lambda known: configuration(known, "")):
        with pytest.raises(OpsError, match=rf"{secret} is missing.*signing_passphrase_file"):
            start(settings)
        assert not secret.exists()
    (data_dir / "elsewhere").rename(secret)
    configuration(settings, "")
    assert open_passphrase(settings) == secret.read_text()


def test_a_passphrase_need_not_be_of_ascii(data_dir: Path) -> None:
    """A restore writes it where by default generated ones are."""
    load_or_create(data_dir, "Schlüssel")
    (data_dir / "secrets").mkdir()
    (data_dir / "secrets" / "signing").write_text("Schlüssel\n", encoding="utf-8")
    assert open_passphrase(load(environ={"PARKGATE_DATA_DIR": str(data_dir)})) == "Schlüssel"


@pytest.mark.parametrize("content", [None, "", " \n", b"\xff\xfe"])
def test_a_passphrase_file_that_holds_none_is_told_and_none_is_made(
    data_dir: Path, tmp_path: Path, content: object
) -> None:
    path = tmp_path / "credential"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else str(content).encode())
    settings = load(environ={"PARKGATE_DATA_DIR": str(data_dir), "PARKGATE_SIGNING_PASSPHRASE_FILE": str(path)})
    with pytest.raises(OpsError, match="passphrase"):
        passphrase_of(settings)
    assert not (data_dir / "secrets").exists()


def test_a_backup_leaves_out_where_this_machine_has_the_passphrase(data_dir: Path) -> None:
    environ = {"PARKGATE_DATA_DIR": str(data_dir), "PARKGATE_SIGNING_PASSPHRASE_FILE": "/run/credentials/x"}
    assert "credentials" not in _settings_text(load(environ=environ))
