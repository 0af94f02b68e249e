"""What an API says about our token: its WWW-Authenticate header (RFC 9110 11.6.1, RFC 6750 3)."""

import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

from groat.client.errors import InsufficientScope, foreign, request_id
from groat.protocol.grammar import QUOTED, SCOPE_TOKEN, TOKEN, TOKEN68

_PARAMETER: Final = re.compile(rf'[\s,]*({TOKEN})\s*=\s*(?:"({QUOTED})"|({TOKEN}))\s*(?=,|$)')
_SCHEME: Final = re.compile(rf"[\s,]*({TOKEN})(?:\s+{TOKEN68}\s*(?=,|$)|\s+|(?=,)|$)")


class ApiResponse(Protocol):
    """What we read of the Response of httpx2, httpx or requests."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Any: ...


def bearer_challenge(response: ApiResponse, wanted: str = "bearer") -> Mapping[str, str]:
    """The parameters of the first challenge of this scheme, names in lower case; empty if there is none."""
    for value in _lines(response.headers, "www-authenticate"):
        for scheme, parameters in parse_challenges(value):
            if scheme == wanted:
                return parameters
    return {}


def _lines(headers: Any, name: str) -> list[str]:
    """The values of a header; requests has them as one, joined by commas, as the grammar allows (RFC 9110 5.3)."""
    if hasattr(headers, "get_list"):
        return list(headers.get_list(name))
    return [headers[name]] if name in headers else []


def named_metadata(response: ApiResponse) -> str | None:
    """Where a challenge of any scheme says that the API's metadata are (RFC 9728 5.1), unproven."""
    for value in _lines(response.headers, "www-authenticate"):
        for _, parameters in parse_challenges(value):
            if parameters.get("resource_metadata"):
                return parameters["resource_metadata"]
    return None


def challenges_of(value: str) -> Mapping[str, Mapping[str, str]]:
    """The parameters of the first challenge of each scheme, in lower case."""
    found: dict[str, Mapping[str, str]] = {}
    for scheme, parameters in parse_challenges(value):
        found.setdefault(scheme, parameters)
    return found


def parse_challenges(value: str) -> list[tuple[str, dict[str, str]]]:
    """Take one header value apart into schemes (lower case) and their parameters; the rest of a broken one is left."""
    challenges: list[tuple[str, dict[str, str]]] = []
    at = 0
    while at < len(value):
        parameter = _PARAMETER.match(value, at) if challenges else None
        found = parameter or _SCHEME.match(value, at)
        if found is None:
            break
        if parameter is None:
            challenges.append((found[1].lower(), {}))
        else:
            text = parameter[3] if parameter[3] is not None else re.sub(r"\\(.)", r"\1", parameter[2])
            challenges[-1][1].setdefault(parameter[1].lower(), text)
        at = found.end()
    return challenges


def is_token_refused(response: ApiResponse) -> bool:
    """Whether the API says that this token is no good, so that a new one may help (RFC 6750 3.1)."""
    return response.status_code == 401 and "invalid_token" in _errors(response)


def wants_nonce(response: ApiResponse) -> bool:
    """Whether the API wants a proof of possession with the nonce of this answer (RFC 9449 9)."""
    return response.status_code == 401 and "use_dpop_nonce" in _errors(response)


def _errors(response: ApiResponse) -> set[str | None]:
    """Of the first challenge of either scheme: who takes both says what was wrong in that which was tried."""
    return {bearer_challenge(response).get("error"), bearer_challenge(response, "dpop").get("error")}


def raise_for_scope(response: ApiResponse) -> None:
    """Raise InsufficientScope for a 403 that asks for more scopes; let every other response pass.

    The auth flow hands a 403 through untouched and never repeats it; call this to learn which scopes to ask for.
    """
    if response.status_code != 403:
        return
    challenge = bearer_challenge(response)
    if challenge.get("error") != "insufficient_scope":
        challenge = bearer_challenge(response, "dpop")
    if challenge.get("error") != "insufficient_scope":
        return
    required = [name for name in challenge.get("scope", "").split(" ") if SCOPE_TOKEN.fullmatch(name)]
    said = f"the API wants scope {foreign(' '.join(required)) or '(unnamed)'}"
    raise InsufficientScope(said, required=required).about(request_id(response.headers))
