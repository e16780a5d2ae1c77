"""What is of another type is named, with what it should have been."""

from __future__ import annotations

import numpy as np
import pytest

from sam_plugins.model.inference.checks import count, require_type


def test_the_right_type_passes_and_another_is_named() -> None:
    require_type("limits", (1, 2), tuple, "see to_rgb")
    with pytest.raises(TypeError, match=r"^limits must be of type tuple, got list; see to_rgb$"):
        require_type("limits", [1, 2], tuple, "see to_rgb")


def test_counts_are_whole_numbers_of_any_kind() -> None:
    assert count("chunk_size", np.int64(3)) == 3
    with pytest.raises(TypeError, match=r"chunk_size must be a whole number, got 3\.0"):
        count("chunk_size", 3.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="chunk_size must be 1 or more, got 0"):
        count("chunk_size", 0)
