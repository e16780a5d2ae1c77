"""Wrong settings of the backend are told in sentences, with what was given."""

from __future__ import annotations

import pytest

from sam_plugins.cli import main


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("OUTPUT", "masks", "must be 'auto', 'brush', 'bitmask', 'polygon', 'rectangle' or 'elli"),
        ("OUTPUT", "masks", "got 'masks'"),
        ("THREADS", "0", "must be greater than or equal to 1, got '0'"),
        ("THREADS", "many", "must be a valid integer, got 'many'"),
        ("AUTOMATIC", "perhaps", "must be a valid boolean, got 'perhaps'"),
        ("TRAIN_AT", "2am", "must be a time of day such as 02:30, or nothing, got '2am'"),
        ("URL", "studio", "must start with http:// or https://, got 'studio'"),
        ("URL_MAP", "a=b", "must be JSON, such as {"),
        ("PREFIX", "sam", "must be the path below which a proxy shows the backend, such as /sam"),
    ],
)
def test_a_wrong_setting_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    told: str,
) -> None:
    monkeypatch.setenv(f"SAM_PLUGINS_LS_{name}", value)
    assert main(["labelstudio", "doctor", "http://127.0.0.1:1"]) == 1
    said = capsys.readouterr().err
    assert f"SAM_PLUGINS_LS_{name} must" in said
    assert told in said
