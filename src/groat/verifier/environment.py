"""What the environment says of a verifier."""

from collections.abc import Mapping
from typing import Final, TypedDict

from groat.protocol.differences import shown
from groat.protocol.errors import ConfigError
from groat.protocol.resource_metadata import ResourceDescription
from groat.protocol.stray import blanks, stray, without_user
from groat.verifier.certificates import Certificates
from groat.verifier.possession import Dpop
from groat.verifier.status.revocation import MAX_CACHE_SECONDS, Mode, Revocation

_REQUIRED: Final = ("GROAT_ISSUER", "GROAT_AUDIENCE")
_PROXIES, _DIALECT = "GROAT_CERTIFICATE_PROXIES", "GROAT_CERTIFICATE_DIALECT"
_BINDING: Final = "GROAT_REQUIRE_BINDING"
_REPLAY: Final = "GROAT_DPOP_REPLAY"
_REVOCATION, _UNKNOWN = "GROAT_REVOCATION", "GROAT_ON_STATUS_UNKNOWN"
_API, _API_KEY, _SECONDS = "GROAT_API_NAME", "GROAT_API_KEY_FILE", "GROAT_INTROSPECTION_CACHE"
_STATUS, _ORIGINS = "GROAT_REQUIRE_STATUS", "GROAT_STATUS_ORIGINS"
_OF_REVOCATION: Final = (_API, _API_KEY, _SECONDS, _STATUS, _ORIGINS)
_OPTIONAL: Final = (
    *("GROAT_JWKS_URI", "GROAT_ALGORITHMS", "GROAT_ALLOW_HTTP_HOSTS", "GROAT_PUBLIC_URL"),
    *(_PROXIES, _DIALECT, _BINDING, _REPLAY, _REVOCATION, _UNKNOWN, *_OF_REVOCATION),
)
_NAME, _DOCUMENTATION = "GROAT_RESOURCE_NAME", "GROAT_RESOURCE_DOCUMENTATION"


class Found(TypedDict, total=False):
    """The keywords of Verifier that variables stand for, where they are set."""

    jwks_uri: str
    algorithms: tuple[str, ...]
    allow_http_hosts: tuple[str, ...]
    description: ResourceDescription
    public_url: tuple[str, ...]
    certificates: Certificates
    require_binding: str
    dpop: Dpop
    revocation: Revocation
    on_status_unknown: str


def from_environment(env: Mapping[str, str]) -> Found:
    """What is optional, once GROAT_ISSUER and GROAT_AUDIENCE are known to be there and good. Raises ConfigError.

    An empty variable is one that is not set.
    """
    findings = [f"{name} is not set" for name in _REQUIRED if not env.get(name)] + _odd_variables(env)
    if findings:
        raise ConfigError(*findings)
    found: Found = {}
    if jwks_uri := env.get("GROAT_JWKS_URI"):
        found["jwks_uri"] = jwks_uri
    if algorithms := _listed(env, "GROAT_ALGORITHMS"):
        found["algorithms"] = algorithms
    if hosts := _listed(env, "GROAT_ALLOW_HTTP_HOSTS"):
        found["allow_http_hosts"] = hosts
    if public := _listed(env, "GROAT_PUBLIC_URL"):
        found["public_url"] = public
    if env.get(_PROXIES) or env.get(_DIALECT):
        found["certificates"] = _certificates(env)
    if binding := env.get(_BINDING):
        found["require_binding"] = binding
    if replay := env.get(_REPLAY):
        found["dpop"] = _dpop(replay)
    if env.get(_NAME) or env.get(_DOCUMENTATION):
        found["description"] = ResourceDescription(env.get(_NAME, ""), env.get(_DOCUMENTATION, ""))
    return found | _about_revocation(env)


def _certificates(env: Mapping[str, str]) -> Certificates:
    """Raises ConfigError by the names of the variables: nobody has written the keyword."""
    try:
        return Certificates(_listed(env, _PROXIES), env.get(_DIALECT, ""))
    except ConfigError as error:
        raise ConfigError(f"{_PROXIES} and {_DIALECT}: {error}") from None


def _dpop(replay: str) -> Dpop:
    """Raises ConfigError by the name of the variable; its value may hold a password."""
    try:
        return Dpop(replay=replay)
    except ConfigError as error:
        raise ConfigError(f"{_REPLAY}: {error}") from None


def _about_revocation(env: Mapping[str, str]) -> Found:
    found: Found = {}
    if any(env.get(name) for name in (_REVOCATION, *_OF_REVOCATION)):
        found["revocation"] = _revocation(env)
    if unknown := env.get(_UNKNOWN):
        found["on_status_unknown"] = unknown
    return found


def _revocation(env: Mapping[str, str]) -> Revocation:
    """Raises ConfigError by the names of the variables."""
    mode = env.get(_REVOCATION) or Mode.NONE
    seconds, required = env.get(_SECONDS) or f"{MAX_CACHE_SECONDS:.0f}", env.get(_STATUS) or "0"
    if not (seconds.isascii() and seconds.isdigit() and len(seconds) < 10) or required not in ("0", "1"):
        raise ConfigError(f"{_SECONDS} must be a number of seconds, and {_STATUS} 1 or 0")
    try:
        return Revocation(
            mode,
            required == "1",
            _listed(env, _ORIGINS),
            api=env.get(_API, ""),
            key_file=env.get(_API_KEY) or None,
            cache_seconds=int(seconds),
        )
    except ConfigError as error:
        said = ", ".join(name for name in (_REVOCATION, *_OF_REVOCATION) if env.get(name))
        raise ConfigError(f"{said}: {error}") from None


def _odd_variables(env: Mapping[str, str]) -> list[str]:
    """Quotes, blanks and marks that came with a value: an audience of those would refuse every token."""
    values = {name: env.get(name, "") for name in (*_REQUIRED, *_OPTIONAL)}
    odd = {name: stray(value) or blanks(value) for name, value in values.items()}
    # A URL of a database may have its password anywhere.
    values[_REPLAY] = "***"
    return [f"{name}: {words}: {shown(without_user(values[name]))}" for name, words in odd.items() if words]


def _listed(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in env.get(name, "").split(",") if item.strip())
