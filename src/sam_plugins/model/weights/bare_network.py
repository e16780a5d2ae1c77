"""Networks whose weights are replaced at once: built without drawing random ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode


class NoInitialisation(TorchFunctionMode):
    """Skip the functions of ``torch.nn.init`` within the block: tensors stay as they are made.

    On the CPU this saves the time of the draws; under ``torch.device("meta")`` it keeps PyTorch
    from importing ``torch._dynamo``, which takes a second, to draw numbers that do not exist.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Pass everything else on."""
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **(kwargs or {}))
