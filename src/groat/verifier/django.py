"""Django, by WSGI and ASGI: who may call, for a whole project or said above a view."""

from collections.abc import Awaitable, Callable, MutableMapping
from functools import wraps
from typing import Any, Final, TypeVar

from groat.extras import needs_extra
from groat.protocol.access_token import AnyOf, Caller
from groat.protocol.errors import ConfigError, VerificationError
from groat.verifier import asgi, wsgi
from groat.verifier.answers import Answer
from groat.verifier.demands import Demand
from groat.verifier.protected_resource import OFFERED, ApiRequest, named_scopes

try:
    from asgiref.sync import iscoroutinefunction, markcoroutinefunction
    from django.apps import AppConfig
    from django.core import checks
    from django.core.handlers.asgi import ASGIRequest
    from django.http import Http404, HttpRequest, HttpResponse
    from django.http.response import HttpResponseBase
    from django.urls import URLPattern, get_resolver, re_path, resolve
    from django.utils.cache import patch_vary_headers
    from django.views.decorators.http import require_safe

    from groat.verifier import django_settings
except ModuleNotFoundError as error:
    raise needs_extra(__name__, error) from None

View = TypeVar("View", bound=Callable[..., Any])

# Where a view says what it needs, for the challenge of whoever is refused before it is called.
SCOPES: Final = "groat_scopes"


class GroatRequest(HttpRequest):
    """A request in a guarded view, as type checkers should see it."""

    caller: Caller


class GroatMiddleware:
    """Lets only verified callers through to a Django project; under WSGI and ASGI.

        MIDDLEWARE = ["groat.verifier.django.GroatMiddleware", ...]
        GROAT_ISSUER = "https://auth.example.com"
        GROAT_AUDIENCE = "https://orders.example.com"
        GROAT_EXEMPT = ["/health"]

    The caller is `request.caller`; None where GROAT_EXEMPT lets anybody in. These are exact paths as URLconfs see
    them, without SCRIPT_NAME. Every other request needs a token, for paths that do not exist too; GROAT_REQUIRED_SCOPES
    says what each needs, and `require` what a view needs besides. The API's metadata (RFC 9728) are served to anybody.
    Put CORS handling before it, since preflight requests carry no token. Raises ImproperlyConfigured when the project
    starts. Not checked: finer rights than scopes.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        django_settings.resource()
        django_settings.announce()
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._later(request)
        if (answer := _open(request)) is not None:
            return answer
        if not _exempt(request):
            try:
                let_in(request, django_settings.resource().admit(api_request(request)))
            except VerificationError as error:
                return refusal(error, _demanded(request))
        response: HttpResponseBase = self._get_response(request)
        return no_store(request, response)

    async def _later(self, request: HttpRequest) -> HttpResponseBase:
        if (answer := _open(request)) is not None:
            return answer
        if not _exempt(request):
            try:
                let_in(request, await django_settings.resource().aadmit(api_request(request)))
            except VerificationError as error:
                return refusal(error, _demanded(request))
        return no_store(request, await self._get_response(request))

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer a refusal that a view raised itself."""
        return refusal(exception) if isinstance(exception, VerificationError) else None


def require(*scopes: str | AnyOf) -> Callable[[View], View]:
    """A decorator for views: all of these scopes, or `any_of(...)` as the one argument.

    For functions, async ones too; for classes `@method_decorator(require(...), name="dispatch")`. The caller is
    `request.caller`. Behind GroatMiddleware it asks for scopes only; without, it judges the request itself. A scope
    that is not in GROAT_SCOPES, where that is set, is a ConfigError when the view is defined. CSRF checks are off for
    the view: no browser adds a bearer token by itself.
    """
    demand = django_settings.demand(scopes)
    return lambda view: _guarded(view, demand)


def metadata_urls() -> list[URLPattern]:
    """URLs for the API's metadata (RFC 9728), for projects without GroatMiddleware.

    `urlpatterns = [*metadata_urls(), ...]` in the root URLconf; challenges name them from then on.
    """
    django_settings.announce()
    return [re_path(r"^\.well-known/oauth-protected-resource(?:/.*)?\Z", _metadata)]


class GroatConfig(AppConfig):
    """In INSTALLED_APPS it makes `manage.py check` look at the GROAT_ settings; nothing else needs it."""

    name = "groat.verifier.django"
    label = "groat"

    def ready(self) -> None:
        """Called by Django when the project is loaded."""
        checks.register(django_settings.check, checks.Tags.security)


def api_request(request: Any) -> ApiRequest:
    """What of a request decides who is let in, under either kind of server."""
    inner = getattr(request, "_request", request)  # Django REST framework puts a request around Django's
    if isinstance(inner, ASGIRequest):
        scope: Any = inner.scope
        return asgi.api_request(scope)
    return wsgi.api_request(inner.META)


def admitted(request: Any) -> Caller | None:
    """Who was let in with this request already, or None. Not `request.caller`, which anybody may set."""
    caller = getattr(request, "_groat_caller", None)
    return caller if isinstance(caller, Caller) else None


def let_in(request: Any, caller: Caller) -> Caller:
    """Say who was let in."""
    request._groat_caller = request.caller = caller
    return caller


def declared(*owners: Any) -> tuple[str, ...]:
    """Every scope that one of these says it needs."""
    return tuple(name for owner in owners for name in named_scopes(getattr(owner, SCOPES, ())))


def refusal(error: VerificationError, route: Demand = ()) -> HttpResponse:
    """The answer to a refused request; `route`: what the view needs."""
    return _response(django_settings.resource().refusal(error, route))


def no_store(request: Any, response: HttpResponseBase) -> HttpResponseBase:
    """Keep what a caller gets out of caches unless the view has its own rule (RFC 6750 5.3).

    A cache of Django's own that stands before the guard may then have it for this very token, and for no other.
    """
    caller = admitted(request)
    if caller is not None:
        patch_vary_headers(response, ["Authorization"])
        if not response.has_header("Cache-Control"):
            response["Cache-Control"] = "no-store"
        if caller.confirmation is not None and "no-store" in response["Cache-Control"].lower():
            _hand_on(api_request(request).memo(), response)
    return response


def _hand_on(memo: MutableMapping[Any, Any], response: HttpResponseBase) -> None:
    """The next nonce, if there is one."""
    if OFFERED in memo:
        response["DPoP-Nonce"] = memo[OFFERED]


def _response(answer: Answer) -> HttpResponse:
    return HttpResponse(answer.body, status=answer.status, headers=dict(answer.headers))


def _open(request: HttpRequest) -> HttpResponse | None:
    """The metadata, if that is what the request asks for."""
    answer = django_settings.resource().public(request.method or "", request.path_info, request.path)
    if answer is None:
        return None
    # Views say which scopes there are, and Django imports them when the first is asked for.
    get_resolver(getattr(request, "urlconf", None)).url_patterns  # noqa: B018
    return _response(django_settings.resource().public("GET", request.path_info, request.path) or answer)


def _exempt(request: Any) -> bool:
    exempt = django_settings.resource().exempts(request.path_info)
    if exempt:
        request.caller = None
    return exempt


def _demanded(request: HttpRequest) -> Demand:
    """What the view needs that would have been called: only for the words of a refusal."""
    try:
        view: Any = resolve(request.path_info, getattr(request, "urlconf", None)).func
    except Http404:
        return ()
    # Views of Django REST framework say it by their permissions.
    inner = getattr(view, "initkwargs", {}).get("permission_classes", getattr(view, "cls", None))
    return declared(view, *getattr(inner, "permission_classes", inner or ()))


@require_safe
def _metadata(request: HttpRequest) -> HttpResponse:
    if (answer := _open(request)) is None:
        raise Http404
    return answer


def _guarded(view: View, demand: Demand) -> View:
    if isinstance(view, type):
        hint = 'write @method_decorator(require(...), name="dispatch") above it'
        raise ConfigError(f"{view.__name__} is a class: {hint}")

    @wraps(view)
    def guarded(request: Any, *args: Any, **kwargs: Any) -> Any:
        resource = django_settings.resource()
        try:
            caller = admitted(request) or let_in(request, resource.admit(api_request(request)))
            resource.permit(caller, demand)
        except VerificationError as error:
            return refusal(error, demand)
        return no_store(request, view(request, *args, **kwargs))

    @wraps(view)
    async def guarded_async(request: Any, *args: Any, **kwargs: Any) -> Any:
        resource = django_settings.resource()
        try:
            caller = admitted(request) or let_in(request, await resource.aadmit(api_request(request)))
            resource.permit(caller, demand)
        except VerificationError as error:
            return refusal(error, demand)
        return no_store(request, await view(request, *args, **kwargs))

    chosen: Any = guarded_async if _is_async(view) else guarded
    setattr(chosen, SCOPES, demand)
    chosen.csrf_exempt = True
    return chosen  # type: ignore[no-any-return]


def _is_async(view: Any) -> bool:
    """Whether it gives a coroutine; `dispatch` of a class with async methods does, and is no coroutine function."""
    owner = getattr(getattr(view, "func", None), "__self__", None)  # method_decorator hands over a partial
    return iscoroutinefunction(view) or bool(getattr(owner, "view_is_async", False))


__all__ = ["GroatConfig", "GroatMiddleware", "GroatRequest", "metadata_urls", "require"]
