"""requests: the token on its way to an API."""

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urljoin, urlsplit

from groat.client.bearer import Bearer
from groat.client.machine_client import MachineClient, Scopes
from groat.client.origin import DEFAULT_PORTS, Origin
from groat.client.token import Token
from groat.extras import needs_extra

try:
    from requests import PreparedRequest, Response
    from requests.auth import AuthBase
except ModuleNotFoundError as error:
    raise needs_extra(__name__, error) from None


class MachineAuth(AuthBase):
    """For `requests.get(..., auth=...)` and `Session.auth`: what `MachineClient.auth` is for httpx2 and httpx.

    Puts the token into the Authorization header, and only there. `resource`: the API's identifier (RFC 8707), which is
    also the only origin that gets the token, unless `origins` lists others; behind a redirect to another origin there
    is none. A 401 invalid_token drops that token and repeats the request once with a new one, if its body is nothing,
    bytes, text, or a file that can be rewound. Every other answer is passed on as it is: for a 403 see
    `groat.client.raise_for_scope`. Safe to share among sessions and threads. Raises ConfigError, and
    KeyUnusable for a key file of `dpop`; its requests raise ClientError.
    """

    def __init__(
        self,
        machine: MachineClient,
        resource: str | None = None,
        scopes: Scopes = (),
        *,
        origins: Iterable[str] | None = None,
    ) -> None:
        self._bearer = machine.bearer(resource, scopes, origins=origins)

    def __repr__(self) -> str:
        return f"MachineAuth({self._bearer.wish})"

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        """What requests calls for each request; waits for a token in this thread. Raises ClientError."""
        self._bearer.check(_origin(r.url or ""))
        token = self._bearer.get()
        r.headers.update(self._bearer.headers(token, r.method or "", r.url or ""))
        # Along redirects requests copies the hook with the request: what is in it belongs to all of them.
        r.hooks["response"].append(_Flow(self._bearer, token, _rewinding(r.body)))
        return r


class _Flow:
    """One request of a caller, with the redirects that it led to."""

    def __init__(self, bearer: Bearer, token: Token, rewind: Callable[[], bool] | None) -> None:
        self._bearer = bearer
        self._token = token
        self._rewind = rewind
        self._repeated = False

    def __call__(self, response: Response, *_: Any, **options: Any) -> Response:
        """What requests does with each answer of this request, before it follows a redirect."""
        if response.is_redirect or self._repeated:
            self._bearer.heed(response, _origin(response.url), response.url)
        if response.is_redirect:
            self._leave_behind(response)
        elif not self._repeated and self._is_refused(response):
            return self._repeat(response, options)
        return response

    def _leave_behind(self, response: Response) -> None:
        """Take the token off where the redirect leads elsewhere; requests keeps it from http to https of a host."""
        target = urljoin(response.url, response.headers["location"])
        headers = response.request.headers
        if _origin(target) not in self._bearer.origins:
            headers.pop("Authorization", None)
            headers.pop("DPoP", None)
        elif "DPoP" in headers:  # a proof is for one URL alone
            method = _method_behind(response.status_code, response.request.method or "")
            headers.update(self._bearer.headers(self._token, method, target))

    def _is_refused(self, response: Response) -> bool:
        return self._bearer.is_refused(response, _origin(response.url), self._token, response.url)

    def _repeat(self, response: Response, options: dict[str, Any]) -> Response:
        """Send it once more, with a new token, by the adapter that it went out by."""
        adapter = getattr(response, "connection", None)  # adapters of tests have none
        if adapter is None or self._rewind is None or not self._rewind():
            return response
        self._repeated = True
        self._token = self._bearer.get()
        request = response.request
        # The request itself and no copy, because a redirect that comes now is followed with what stands there.
        request.headers.update(self._bearer.headers(self._token, request.method or "", request.url or ""))
        _ = response.content  # to the end, so that the connection is free again
        response.close()
        again: Response = adapter.send(request, **options)
        again.history.append(response)
        return self(again)


def _method_behind(status: int, method: str) -> str:
    """What requests asks the target of a redirect with (`SessionRedirectMixin.rebuild_method`)."""
    changes = (status in (302, 303) and method != "HEAD") or (status == 301 and method == "POST")
    return "GET" if changes else method


def _origin(url: str) -> Origin:
    """The origin that requests will connect to, by the parser that its adapter takes for that."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ("", "", 0)
    return (parts.scheme, parts.hostname or "", port or DEFAULT_PORTS.get(parts.scheme, 0))


def _rewinding(body: Any) -> Callable[[], bool] | None:
    """How to bring the body back to where it begins; None for what is gone once it is sent."""
    if body is None or isinstance(body, str | bytes | bytearray):
        return lambda: True
    try:
        start = body.tell()
    except (AttributeError, OSError):
        return None

    def rewind() -> bool:
        try:
            body.seek(start)
        except (AttributeError, OSError, ValueError):
            return False
        return True

    return rewind


__all__ = ["MachineAuth"]
