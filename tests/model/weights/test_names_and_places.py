"""The registry, the nearest names, and where files go."""

from __future__ import annotations

import re
from pathlib import Path

import platformdirs
import pytest

from sam_plugins.errors import UnknownModelError
from sam_plugins.model.weights import paths
from sam_plugins.model.weights.hashing import file_digests, split_digest
from sam_plugins.model.weights.naming import nearest_names, normalise_name
from sam_plugins.model.weights.registry import (
    DEFAULT_MODEL,
    ModelEntry,
    entry_of_sha256,
    find_entry,
    model_entries,
)

ENTRIES = model_entries()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_entry_is_complete(entry: ModelEntry) -> None:
    assert entry.licence
    assert entry.good_for
    assert entry.input_convention
    assert entry.size_bytes > 0
    if entry.is_shipped:
        return
    assert all(url.startswith("https://") for url in entry.urls)
    assert entry.digest is not None
    algorithm, value = split_digest(entry.digest)
    digits = {"sha256": 64, "xxh128": 32}[algorithm]
    assert re.fullmatch(f"[0-9a-f]{{{digits}}}", value)


def test_names_aliases_files_and_digests_lead_to_one_model_each() -> None:
    spellings = [normalise_name(n) for entry in ENTRIES for n in (entry.name, *entry.aliases)]
    assert len(spellings) == len(set(spellings))
    assert len({entry.file_name for entry in ENTRIES}) == len(ENTRIES)
    digests = [entry.digest for entry in ENTRIES if entry.digest]
    assert len(digests) == len(set(digests))


def test_the_models_of_the_field_are_there() -> None:
    names = {entry.name for entry in ENTRIES}
    assert {"default", "sam_vit_b", "sam_vit_l", "sam_vit_h", "mobile_sam", "medsam"} <= names
    assert {f"vit_{size}_lm" for size in "tbl"} <= names
    assert {f"vit_{size}_em_organelles" for size in "tbl"} <= names
    assert "vit_b_histopathology" in names


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("default", DEFAULT_MODEL),
        ("vit_b", "sam_vit_b"),
        ("SAM ViT-H", "sam_vit_h"),
        ("vit-t", "mobile_sam"),
        ("MobileSAM", "mobile_sam"),
        ("medsam_vit_b", "medsam"),
        ("micro_sam_vit_b_lm", "vit_b_lm"),
    ],
)
def test_people_may_spell_names_in_many_ways(typed: str, name: str) -> None:
    assert find_entry(typed).name == name


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    with pytest.raises(
        UnknownModelError, match=r"no model is called 'vit_b_ml': did you mean vit_b"
    ):
        find_entry("vit_b_ml")
    with pytest.raises(
        UnknownModelError, match=r"nothing known looks like it.*Known models: default"
    ):
        find_entry("xyzzy")


def test_a_renamed_file_is_known_by_its_sha256() -> None:
    sha256 = find_entry("vit_b").sha256
    assert sha256 is not None
    assert entry_of_sha256(sha256) is find_entry("sam_vit_b")
    assert entry_of_sha256("0" * 64) is None
    assert find_entry("vit_b_lm").sha256 is None  # Published with another kind of digest.


def test_nearest_names_returns_known_spellings() -> None:
    assert nearest_names("SAM-VIT-H", ["sam_vit_h", "other"]) == ["sam_vit_h"]
    assert nearest_names("sam", [f"sam{i}" for i in range(9)], count=2) == ["sam8", "sam7"]
    assert nearest_names("q", ["sam"]) == []


def test_home_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM_PLUGINS_HOME", "~/weights here")
    assert paths.home_directory() == Path("~/weights here").expanduser()
    assert paths.models_directory() == paths.home_directory() / "models"
    assert paths.embeddings_directory() == paths.home_directory() / "embeddings"
    assert paths.sessions_directories() == (paths.home_directory() / "sessions",)
    for unset in ("", "  "):
        monkeypatch.setenv("SAM_PLUGINS_HOME", unset)
        data = platformdirs.user_data_path("sam-plugins", appauthor=False)
        assert paths.sessions_directories() == (
            data / "sessions",
            paths.home_directory() / "sessions",
        )
        assert paths.home_directory() == platformdirs.user_cache_path(
            "sam-plugins", appauthor=False
        )


@pytest.mark.parametrize(
    ("value", "expected"), [("1", True), ("Yes", True), ("0", False), ("", False)]
)
def test_offline_is_chosen_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: bool
) -> None:
    monkeypatch.setenv("SAM_PLUGINS_OFFLINE", value)
    assert paths.is_offline() is expected


def test_digests_of_one_reading(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    found = file_digests(tmp_path / "file", ["sha256", "md5", "sha256"])
    assert found["md5"] == "900150983cd24fb0d6963f7d28e17f72"
    assert found["sha256"].startswith("ba7816bf8f01cfea")
    assert split_digest("ABCDEF") == ("sha256", "abcdef")


def test_an_unknown_xxhash_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("xxhash")
    (tmp_path / "file").write_bytes(b"abc")
    with pytest.raises(ValueError, match="unknown hash algorithm 'xxh7'"):
        file_digests(tmp_path / "file", ["xxh7"])


def test_files_lie_in_the_cache_and_the_shipped_one_in_the_package() -> None:
    assert find_entry("vit_b").path == paths.models_directory() / "sam_vit_b_01ec64.pth"
    assert find_entry("default").path.parts[-3:] == ("weights", "default", "default.safetensors")
