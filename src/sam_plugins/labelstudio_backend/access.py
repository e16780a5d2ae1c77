"""How Label Studio is asked on behalf of a project."""

from __future__ import annotations

import threading

from sam_plugins.labelstudio_backend.client import LabelStudioClient
from sam_plugins.labelstudio_backend.projects import Project
from sam_plugins.labelstudio_backend.settings import Settings


class Access:
    """Clients of Label Studio, one for each server and token.

    Parameters
    ----------
    settings : Settings
        With address and token; what a setup sent is used only where ``trust_setup`` allows it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients: dict[tuple[str, str], LabelStudioClient] = {}
        self._lock = threading.Lock()

    def client(self, project: Project) -> LabelStudioClient | None:
        """Return who asks Label Studio for a project; None where its address is not known."""
        settings = self._settings
        url, token = settings.url, settings.api_key.get_secret_value()
        if settings.trust_setup:
            url = url or self._mapped(project.hostname)
            # a token of ours goes to our server only, one from a setup to where it came from
            token = token if token and settings.url else project.token.get_secret_value()
        if not url:
            return None
        with self._lock:
            client = self._clients.get((url, token))
            if client is None:
                if len(self._clients) > 100:  # tokens that changed
                    self._clients.clear()
                client = self._clients[url, token] = LabelStudioClient(url, token)
            return client

    def _mapped(self, hostname: str) -> str:
        """Return where Label Studio is for this backend."""
        plain = hostname.rstrip("/")
        for said, real in self._settings.url_map.items():
            if plain == said.rstrip("/"):
                return real.rstrip("/")
        return plain if plain.startswith(("http://", "https://")) else ""


def what_is_missing(settings: Settings) -> str:
    """Say what works and what does not without an address and a token; nothing with both."""
    wanted = {"SAM_PLUGINS_LS_URL": settings.url}
    wanted["SAM_PLUGINS_LS_API_KEY"] = settings.api_key.get_secret_value()
    missing = [name for name, value in wanted.items() if not value]
    if not missing:
        return ""
    said = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set"
    cure = (
        "set both: the address of Label Studio as this machine reaches it, and a personal access "
        "token from its page Account & Settings"
    )
    if settings.trust_setup:
        return (
            f"{said}: what Label Studio sends when it connects is used instead "
            "(SAM_PLUGINS_LS_TRUST_SETUP), which it refuses itself where legacy tokens are "
            "disabled, and nothing makes up for annotations that this backend did not hear of; "
            f"{cure}"
        )
    return (
        f"{said}: clicks work on pictures that need no token (http, https and data: addresses); "
        "what does not is clicks on pictures that were uploaded to Label Studio or lie in its "
        "storages, training on these, predictions that take longer than a request, and making up "
        f"for annotations that this backend did not hear of; {cure}"
    )
