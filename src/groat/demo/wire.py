"""A tap on the wire between the client library and the token endpoint: what it really sent, and how long it took."""

import time
from typing import Any
from urllib.parse import parse_qsl

import httpx2

from groat.demo.stage import DemoFailed


class Wire:
    """The HTTP client that is given to MachineClient; remembers its last POST. Holds a secret: the assertion."""

    def __init__(self) -> None:
        self.http = httpx2.Client(trust_env=False, event_hooks={"request": [self._sent], "response": [self._received]})
        self.status = 0
        self.seconds = 0.0
        self._form: dict[str, str] = {}
        self._sent_at = 0.0

    @property
    def asked(self) -> bool:
        """Whether a token request was sent."""
        return bool(self._form)

    @property
    def assertion(self) -> str:
        """The client assertion of the last token request. Raises DemoFailed if there was none."""
        try:
            return self._form["client_assertion"]
        except KeyError:
            raise DemoFailed("the client sent no assertion") from None

    @property
    def grant_type(self) -> str:
        """The grant of the last token request."""
        return self._form.get("grant_type", "")

    @property
    def foreign_token(self) -> str:
        """The platform's token that the last request presented. Raises DemoFailed if there was none."""
        return self._form.get("assertion") or self.assertion

    def _sent(self, request: Any) -> None:
        if request.method == "POST":
            self._form = dict(parse_qsl(request.content.decode("ascii")))
            self._sent_at = time.perf_counter()

    def _received(self, response: Any) -> None:
        if response.request.method == "POST":
            self.status, self.seconds = response.status_code, time.perf_counter() - self._sent_at
