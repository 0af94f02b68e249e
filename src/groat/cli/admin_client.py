"""Asks the admin API of the running server: over its socket, where this process is an operator, or by a token."""

import os
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import click

from groat.cli.admin_errors import AdminRefused, AdminUnreachable
from groat.cli.session import Session
from groat.protocol.errors import ConfigError

SECONDS: Final = 10.0
URL: Final = click.option(
    "--admin-url", envvar="GROAT_ADMIN_URL", metavar="URL",
    help="The admin listener, by GROAT_ADMIN_TOKEN; default: admin.socket or admin.listen of the configuration.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AdminClient:
    """Where to ask: a socket file, or a URL with a token. Nothing is asked before `get`."""

    url: str
    socket: str | None = None

    @classmethod
    def of(cls, session: Session, url: str | None) -> "AdminClient":
        """By what is said, or else by the configuration. Raises ConfigError."""
        if url:
            return cls(url.rstrip("/"))
        settings = session.config().admin
        if settings.socket is not None:
            return cls("http://localhost", str(settings.socket))
        if settings.listen:
            host, port = settings.address.host, settings.address.port
            # Who listens at every address answers at this one, and to this name.
            everywhere = host in ("0.0.0.0", "::")  # noqa: S104
            return cls(f"http://localhost:{port}" if everywhere else f"http://{settings.listen}")
        raise ConfigError(
            "the server has no admin listener to ask: set admin.socket and restart it, or read its log with --log FILE"
        )

    @property
    def place(self) -> str:
        """For people."""
        return self.socket or self.url

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """One answer. Raises AdminRefused, AdminUnreachable."""
        import httpx2

        token = os.environ.get("GROAT_ADMIN_TOKEN")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        transport = httpx2.HTTPTransport(uds=self.socket) if self.socket else None
        try:
            with httpx2.Client(transport=transport, timeout=SECONDS, trust_env=False) as http:
                answer = http.get(f"{self.url}/admin/v1{path}", params=query, headers=headers)
                document = answer.json()
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise AdminUnreachable(f"no admin API answers at {self.place}: {type(error).__name__}") from None
        if answer.status_code != 200 or not isinstance(document, dict):
            said = document if isinstance(document, dict) else {}
            raise AdminRefused(answer.status_code, str(said.get("detail") or said.get("title") or "no answer"))
        return document

    def refusal(self, request_id: str) -> dict[str, Any]:
        """What is remembered of one request. Raises as `get`."""
        return self.get(f"/refusals/{quote(request_id, safe='')}")
