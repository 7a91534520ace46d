"""The catalogue folder of an installation: what was published stays in force over a restart, also after a crash."""

from __future__ import annotations

from pathlib import Path

from ops.services.catalogue import EXAMPLE, adopt, ensure_catalogue
from ops.settings import Settings


def edited(folder: Path) -> Path:
    folder.mkdir()
    for file in EXAMPLE.glob("*.toml"):
        text = file.read_text(encoding="utf-8").replace('"79.00"', '"81.00"')
        (folder / file.name).write_text(text, encoding="utf-8")
    (folder / "notes.txt").write_text("not for the data folder", encoding="utf-8")
    return folder


def test_a_published_folder_is_the_one_of_the_next_start_and_the_earlier_is_kept(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    settings.data_dir.mkdir()
    ensure_catalogue(settings)
    assert adopt(edited(tmp_path / "mine"), settings)
    ensure_catalogue(settings)
    assert '"81.00"' in (settings.catalogue_dir / "products.toml").read_text(encoding="utf-8")
    assert not (settings.catalogue_dir / "notes.txt").exists()
    assert '"79.00"' in (settings.data_dir / "catalogue.before" / "products.toml").read_text(encoding="utf-8")
    assert adopt(settings.catalogue_dir, settings)


def test_a_crash_between_the_two_renames_leaves_the_published_folder(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    settings.data_dir.mkdir()
    edited(settings.data_dir / "catalogue.incoming")
    ensure_catalogue(settings)
    assert '"81.00"' in (settings.catalogue_dir / "products.toml").read_text(encoding="utf-8")


def test_a_folder_that_the_park_keeps_elsewhere_is_not_touched(tmp_path: Path) -> None:
    own = edited(tmp_path / "own")
    settings = Settings(data_dir=tmp_path / "data", catalogue_dir=own)
    assert not adopt(EXAMPLE, settings)
    assert '"81.00"' in (own / "products.toml").read_text(encoding="utf-8")
