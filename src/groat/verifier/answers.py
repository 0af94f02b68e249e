"""Answers as bytes: the one place where adapters get status, headers and body from, so that all give the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from groat.protocol import strict_json
from groat.protocol.errors import KeysUnavailable, MissingToken, VerificationError

_MISSING: Final = {"detail": "Authentication is required."}
_UNAVAILABLE: Final = {
    "error": "temporarily_unavailable",
    "error_description": "The access token cannot be checked at the moment. Try again later.",
}


METADATA_MAX_AGE: Final = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; header names are in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers as ASGI wants them."""
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers]


def refusal(error: VerificationError, *, explain: bool = False) -> Answer:
    """Write a refusal (RFC 6750 3): the body has fixed phrases only, and the reason stays in the log.

    `explain` adds the hint for a human at a development machine; no hint ever quotes a token.
    """
    body = {**_phrases(error), **({"hint": error.hint} if explain and error.hint else {})}
    content = strict_json.dumps(body)
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(content))),
        ("cache-control", "no-store"),
    ]
    if error.www_authenticate is not None:
        headers.append(("www-authenticate", error.www_authenticate))
    if error.nonce is not None:
        headers.append(("dpop-nonce", error.nonce))
    if isinstance(error, KeysUnavailable):
        headers.append(("retry-after", str(error.retry_after)))
    return Answer(error.status, tuple(headers), content)


def public_document(document: Mapping[str, Any]) -> Answer:
    """Write what anybody may read, pages of other origins too (RFC 9728 3.2)."""
    content = strict_json.dumps(document)
    headers = (
        ("content-type", "application/json"),
        ("content-length", str(len(content))),
        ("cache-control", f"public, max-age={METADATA_MAX_AGE}"),
        ("access-control-allow-origin", "*"),
    )
    return Answer(200, headers, content)


def _phrases(error: VerificationError) -> dict[str, str]:
    if isinstance(error, MissingToken):
        return _MISSING
    if isinstance(error, KeysUnavailable):
        return _UNAVAILABLE
    return {"error": error.code or "", "error_description": error.description}
