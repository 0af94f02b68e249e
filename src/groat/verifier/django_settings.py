"""What the settings of a Django project say of its API: one protected resource for all of the process.

GROAT_ISSUER, GROAT_AUDIENCE   as those of Verifier; or
GROAT_VERIFIER                 the dotted path of a Verifier, or one itself
GROAT_REVOCATION               as `revocation` of Verifier: one word, or a Revocation; for the former two
GROAT_ON_STATUS_UNKNOWN        "refuse" or "accept"; the same
GROAT_EXEMPT                   exact paths that anybody may ask the middleware for
GROAT_SCOPES                   every scope of the API; who asks for another is told when the view is defined
GROAT_REQUIRED_SCOPES          what every request needs
"""

from difflib import get_close_matches
from threading import RLock
from typing import Any, Final

from groat.extras import needs_extra
from groat.protocol.access_token import AnyOf
from groat.protocol.arguments import kind_of, strings
from groat.protocol.errors import ConfigError
from groat.verifier.demands import Demand, demanded
from groat.verifier.protected_resource import ProtectedResource, checked_scopes, named_scopes
from groat.verifier.verifier import Verifier

try:
    from django.conf import settings
    from django.core.checks import CheckMessage, Error, Warning  # noqa: A004
    from django.core.exceptions import ImproperlyConfigured
    from django.core.signals import setting_changed
    from django.utils.module_loading import import_string
except ModuleNotFoundError as error:
    raise needs_extra(__name__, error) from None

NAMES: Final = (
    "GROAT_ISSUER",
    "GROAT_AUDIENCE",
    "GROAT_VERIFIER",
    "GROAT_REVOCATION",
    "GROAT_ON_STATUS_UNKNOWN",
    "GROAT_EXEMPT",
    "GROAT_SCOPES",
    "GROAT_REQUIRED_SCOPES",
)


class _State:
    """What is built once, and what views and URLs have said before it was."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.resource: ProtectedResource | None = None
        self.routes: set[str] = set()
        self.announced = False


_state: Final = _State()


def resource() -> ProtectedResource:
    """What the project's adapters ask. Raises ImproperlyConfigured, which says what is wrong with the settings."""
    built = _state.resource
    if built is None:
        with _state.lock:
            built = _state.resource = _state.resource or _built()
    return built


def announce() -> None:
    """From now on challenges name the metadata, since somebody serves them."""
    with _state.lock:
        _state.announced = True
        if _state.resource is not None:
            _state.resource.announce()


def demand(scopes: tuple[str | AnyOf, ...]) -> Demand:
    """What a route asks for, when it is defined: nothing is built yet. Raises ConfigError."""
    checked = checked_scopes(demanded(scopes, _known(), "GROAT_SCOPES"))
    with _state.lock:
        _state.routes.update(named_scopes(checked))
        if _state.resource is not None:
            _state.resource.know(checked)
    return checked


def check(**_: Any) -> list[CheckMessage]:
    """For `manage.py check`: settings that are wrong, and those that look like a misspelt one of ours."""
    found: list[CheckMessage] = []
    for name in (name for name in dir(settings) if name.startswith("GROAT") and name not in NAMES):
        if close := get_close_matches(name, NAMES, 1, 0.8):
            found.append(Warning(f"{name} is no setting of groat.", f"Did you mean {close[0]}?", id="groat.W001"))
    try:
        resource()
    except ImproperlyConfigured as error:
        found.append(Error(str(error), id="groat.E001"))
    return found


def _built() -> ProtectedResource:
    try:
        known = (*(_known() or ()), *_state.routes)
        return ProtectedResource(
            _verifier(), scopes=_required(), exempt=_value("GROAT_EXEMPT", ()), known=known, announce=_state.announced
        )
    except ConfigError as error:
        raise ImproperlyConfigured(f"GROAT_* in the settings: {error}") from None


def _verifier() -> Verifier:
    given = _value("GROAT_VERIFIER")
    named = {name: _value(name) for name in ("GROAT_ISSUER", "GROAT_AUDIENCE")}
    revocation, unknown = _value("GROAT_REVOCATION"), _value("GROAT_ON_STATUS_UNKNOWN")
    if given is None:
        missing = [f"{name} is not set" for name, value in named.items() if not value]
        if missing:
            raise ConfigError(*missing)
        names = named["GROAT_ISSUER"], named["GROAT_AUDIENCE"]
        return Verifier(*names, revocation=revocation or "none", on_status_unknown=unknown or "refuse")
    if any(named.values()) or revocation or unknown:
        raise ConfigError("give GROAT_VERIFIER, or GROAT_ISSUER and GROAT_AUDIENCE with what belongs to them")
    try:
        found = import_string(given) if isinstance(given, str) else given
    except ImportError as error:
        raise ConfigError(f"GROAT_VERIFIER: {error}") from None
    if not isinstance(found, Verifier):
        raise ConfigError(f"GROAT_VERIFIER must lead to a Verifier, not {kind_of(found)}")
    return found


def _known() -> tuple[str, ...] | None:
    """The scopes of the API, if the settings say them; of a mapping its keys."""
    given = _value("GROAT_SCOPES")
    return None if given is None else strings("GROAT_SCOPES", given)


def _required() -> Demand:
    given = _value("GROAT_REQUIRED_SCOPES", ())
    return demanded(
        (given,) if isinstance(given, AnyOf) else strings("GROAT_REQUIRED_SCOPES", given), _known(), "GROAT_SCOPES"
    )


def _value(name: str, default: Any = None) -> Any:
    value = getattr(settings, name, None)
    return default if value is None else value


def _forget(*, setting: str, **_: Any) -> None:
    """Tests change settings (`override_settings`): what was built of the old ones is built anew."""
    if setting in NAMES:
        with _state.lock:
            _state.resource = None


setting_changed.connect(_forget, dispatch_uid=__name__)

__all__ = ["announce", "check", "demand", "resource"]
