"""Reading the token endpoint's answer: a token (RFC 6749 5.1), or the typed reason why not (5.2)."""

import math
from collections.abc import Mapping
from typing import Any, Final

from groat.client.errors import (
    ClientError,
    ScopeNarrowed,
    ServerUnreachable,
    TokenRequestRefused,
    TokenResponseInvalid,
    foreign,
)
from groat.client.retry import RefreshPolicy, http_date, retry_after
from groat.client.token import Issued, Token, Wish
from groat.client.wire import Answer
from groat.protocol import strict_json
from groat.protocol.errors import JoseError
from groat.protocol.grammar import ACCESS_TOKEN, SCOPE_TOKEN
from groat.protocol.shell import command

CLOCK_HINT_SECONDS: Final = 5.0
_HINTS: Final[Mapping[str, str]] = {
    "invalid_client": "check that the client id is right, enabled, and has this key registered: {key_list}",
    "invalid_grant": "the server takes this workload for none of its clients; its log has the nearest rule, and "
    "groat trust test there explains a token",
    "invalid_dpop_proof": "tokens of this client may have to be bound: dpop=True, or --dpop KEYFILE; or set the clock",
    "unauthorized_client": "the client may not use client_credentials",
    "unsupported_grant_type": "the server does not offer client_credentials",
    "invalid_scope": "ask for scopes that it has ({show}), or grant more: {update} with all that it shall have there",
    "invalid_target": "the resource is unknown, or the client has no grant for it: {show}",
}


def issued_token(
    answer: Answer, wish: Wish, policy: RefreshPolicy, *, sent_at: float, now: float, narrowed_ok: bool = False
) -> Issued | TokenResponseInvalid:
    """Accept a 200 answer, or say what is wrong with it: an exception from here would carry the token in its frames.

    `sent_at`: monotonic, `now`: epoch seconds, both from before the request went out. Not checked: anything inside
    the token, and members that we do not know.
    """
    members = _object(answer)
    if members is None:
        return TokenResponseInvalid("the token response is not a JSON object", status=answer.status)
    value, token_type = members.get("access_token"), members.get("token_type")
    if not isinstance(value, str) or ACCESS_TOKEN.fullmatch(value) is None:
        return TokenResponseInvalid("access_token is missing or cannot stand in a header", status=answer.status)
    # A token of a type that we cannot present as it must be is of no use (RFC 6749 7.1).
    # One for bearers where a bound one was asked is not what the caller counts on (RFC 9449 5).
    kind = "Bearer" if wish.thumbprint is None else "DPoP"
    if not isinstance(token_type, str) or token_type.lower() != kind.lower():
        shown = foreign(token_type) if isinstance(token_type, str) else "missing"
        return TokenResponseInvalid(f"token_type is {shown}, not {kind}", status=answer.status)
    scopes = _granted(members.get("scope"), wish)
    missing = set(wish.scopes) - set(scopes)
    if missing and not narrowed_ok:
        return ScopeNarrowed(f"granted without {' '.join(sorted(missing))}", granted=scopes, missing=missing)
    lifetime = _lifetime(members.get("expires_in"), policy)
    return Issued(Token(value, now + lifetime, scopes, kind), sent_at, lifetime)


def is_nonce_challenge(answer: Answer) -> bool:
    """Whether a proof of possession is wanted with the nonce of this answer (RFC 9449 8)."""
    return answer.status == 400 and (_object(answer) or {}).get("error") == "use_dpop_nonce"


def is_credential_refused(answer: Answer) -> bool:
    """Whether the server does not take what says who asks (RFC 6749 5.2), as grant or as authentication."""
    return answer.status in (400, 401) and (_object(answer) or {}).get("error") in ("invalid_grant", "invalid_client")


def refused_answer(answer: Answer, wish: Wish, kid: str | None, now: float) -> ClientError:
    """The error for any other answer than 200. `kid`: the key that signed; `now`: epoch seconds."""
    status = answer.status
    wait = retry_after(answer.headers, now)
    members = _object(answer) or {}
    code = members.get("error")
    if status >= 400 and isinstance(code, str) and code:
        return _oauth_error(answer, members, wish, kid, now)
    if status == 429 or status >= 500:
        return ServerUnreachable(f"the token endpoint answered {status}", status=status, retry_after=wait)
    if 300 <= status < 400:
        return TokenResponseInvalid(f"the token endpoint redirects ({status}), which is never followed", status=status)
    return TokenResponseInvalid(f"the token endpoint answered {status} without an OAuth error", status=status)


def _oauth_error(
    answer: Answer, members: Mapping[str, Any], wish: Wish, kid: str | None, now: float
) -> TokenRequestRefused:
    code, told = foreign(members["error"]), members.get("error_description")
    description = foreign(told) if isinstance(told, str) else ""
    return TokenRequestRefused(
        f"{code}: {description}" if description else code,
        code=code,
        description=description,
        status=answer.status,
        hint=_hint(code, wish, kid, _clock_difference(answer, now)),
        retry_after=retry_after(answer.headers, now),
    )


def _hint(code: str, wish: Wish, kid: str | None, difference: float) -> str:
    if code == "invalid_client" and not wish.client_id:
        return _HINTS["invalid_grant"]
    hint = _HINTS.get(code, "").format(
        key_list=command("client key list", wish.client_id),
        show=command("client show", wish.client_id),
        update=command("client update", wish.client_id, options="--allow API=SCOPE,SCOPE"),
    )
    if code != "invalid_client":
        return hint
    if kid is not None:
        hint += f"; this key: {kid}"
    if abs(difference) >= CLOCK_HINT_SECONDS:
        direction = "ahead of" if difference > 0 else "behind"
        hint += f"; this host's clock is about {abs(difference):.0f} s {direction} the server's"
    return hint


def _clock_difference(answer: Answer, now: float) -> float:
    """How far this host's clock is ahead of the Date header; only ever a hint, never a correction."""
    date = http_date(answer.headers.get("date", ""))
    return 0.0 if date is None else now - date


def _object(answer: Answer) -> dict[str, Any] | None:
    try:
        return strict_json.loads_object(answer.body)
    except JoseError:
        return None


def _granted(scope: Any, wish: Wish) -> tuple[str, ...]:
    """What was granted; a scope member that is absent or no string means what was asked for.

    What is no scope by its characters (RFC 6749 3.3) grants nothing, and is not carried on.
    """
    if not isinstance(scope, str):
        return wish.scopes
    return tuple(sorted({name for name in scope.split(" ") if SCOPE_TOKEN.fullmatch(name)}))


def _lifetime(expires_in: Any, policy: RefreshPolicy) -> float:
    # True is an int to Python, and a server may write 3599.0: neither an error nor a reason to keep a token for ever.
    number = isinstance(expires_in, int | float) and not isinstance(expires_in, bool)
    if not number or not math.isfinite(expires_in) or expires_in <= 0:
        return policy.default_lifetime
    return min(float(expires_in), policy.max_lifetime)
