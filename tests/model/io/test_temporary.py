"""Names that tell who writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam_plugins.model.io import temporary


def test_two_machines_of_one_name_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = tmp_path / "machine-id"
    monkeypatch.setattr(temporary, "_MACHINE_ID", identity)
    places = []
    for text in ("0123\n", "4567\n", "\n", None):
        if text is None:
            identity.unlink()
        else:
            identity.write_text(text)
        places.append(temporary.place.__wrapped__())
    assert len(set(places)) == 3
    assert places[2] == places[3]  # an empty one is none: the network card counts
    monkeypatch.setattr(temporary.uuid, "getnode", lambda: 1)
    assert temporary.place.__wrapped__() != places[3]
