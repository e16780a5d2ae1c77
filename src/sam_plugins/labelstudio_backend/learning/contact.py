"""Whether Label Studio answers and takes the token: looked at now and then, told on `/status`."""

from __future__ import annotations

import logging
import math
import time

from sam_plugins.errors import LabelStudioError
from sam_plugins.labelstudio_backend.learning.api import Api
from sam_plugins.labelstudio_backend.problems import Problems

LOOK_SECONDS = 30.0
LOOK_AGAIN_SECONDS = 5.0
"""While it is down: whoever waits for it wants to know that it is back."""
_TIMEOUT_SECONDS = 10.0
_NAME = "Label Studio"
_LOG = logging.getLogger(__name__)


class Contact:
    """Asks Label Studio who the token's user is, and remembers whether it answered.

    Parameters
    ----------
    url, token : str
        Of Label Studio.
    problems : Problems
        Told what is wrong, as long as it is.
    look_seconds : float
        How often it is asked while it answers.
    """

    def __init__(
        self, url: str, token: str, problems: Problems, *, look_seconds: float = LOOK_SECONDS
    ) -> None:
        self._api = Api(url, token, timeout=_TIMEOUT_SECONDS)
        self._problems = problems
        self._look_seconds = look_seconds
        self._look_at = 0.0
        self._answered_at = -math.inf
        self.is_up = True

    def came_back(self) -> bool:
        """Look if it is time to; return whether Label Studio answers again that did not before."""
        if time.monotonic() < self._look_at:
            return False
        was_up, began = self.is_up, time.monotonic()
        self._look_at = began + LOOK_AGAIN_SECONDS  # if another error ends this
        try:
            self._api.whoami()
        except LabelStudioError as error:
            self.is_up = False
            if self._problems.stand(_NAME, "label_studio", str(error)):
                _LOG.warning("%s", error)
        else:
            self.is_up = True
            self._problems.end(_NAME)
            if not was_up:  # what goes wrong while it answers has another cause, and stays
                self._problems.forget_of_server(self._answered_at, began)
            self._answered_at = time.monotonic()
        pause = self._look_seconds if self.is_up else min(self._look_seconds, LOOK_AGAIN_SECONDS)
        self._look_at = time.monotonic() + pause
        return self.is_up and not was_up

    def close(self) -> None:
        """Let go of connections."""
        self._api.close()
