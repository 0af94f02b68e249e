"""Django REST framework: callers by an authentication class, scopes by a permission.

    class Orders(APIView):
        authentication_classes = [GroatAuthentication]
        permission_classes = [HasScopes("orders:read")]

The settings are those of `groat.verifier.django`, whose middleware may be there or not.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from groat.extras import needs_extra
from groat.protocol.access_token import AnyOf, Caller, require_scopes
from groat.protocol.errors import InsufficientScope, VerificationError
from groat.verifier.answers import Answer

try:
    from django.http import HttpResponse
    from rest_framework.authentication import BaseAuthentication
    from rest_framework.exceptions import APIException, NotAuthenticated, PermissionDenied
    from rest_framework.permissions import BasePermission, SingleOperandHolder
    from rest_framework.request import Request

    from groat.verifier import django, django_settings
except ModuleNotFoundError as error:
    raise needs_extra(__name__, error) from None

_SCOPE: Final = "groat_insufficient_scope"


@dataclass(frozen=True)
class Principal:
    """What `request.user` is: a machine. It is authenticated, is no row of a table and has no rights of Django's.

    `pk` (for throttles) is the subject of its token, `username` the client's id.
    """

    caller: Caller
    is_authenticated = True
    is_active = True
    is_anonymous = False
    is_staff = False
    is_superuser = False

    @property
    def pk(self) -> str:
        return self.caller.subject

    @property
    def id(self) -> str:
        return self.caller.subject

    @property
    def username(self) -> str:
        return self.caller.client_id

    def get_username(self) -> str:
        """The client's id."""
        return self.caller.client_id

    def __str__(self) -> str:
        return self.caller.client_id

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """No: rights come with scopes."""
        return False

    def has_perms(self, perm_list: object, obj: object = None) -> bool:
        """No: rights come with scopes."""
        return False

    def has_module_perms(self, app_label: str) -> bool:
        """No: rights come with scopes."""
        return False


class Refused(APIException):
    """A refusal on its way out; status and challenge are right even where only DRF handles it."""

    def __init__(self, error: VerificationError) -> None:
        answer = django_settings.resource().refusal(error)
        super().__init__(json.loads(answer.body))
        headers = dict(answer.headers)
        self.error = error
        self.status_code = answer.status
        self.auth_header = headers.get("www-authenticate")
        self.wait = int(headers["retry-after"]) if "retry-after" in headers else None


class GroatAuthentication(BaseAuthentication):
    """Authenticates callers by their access tokens: `request.auth` and `request.caller` are the Caller.

    `request.user` is a `Principal`. Without a token other authentication classes are asked; where none knows who it
    is, and this class is the first, the answer is the 401 of every other adapter. A token that is not good is refused
    at once. Answers to callers are kept out of caches unless the view has its own rule. Not checked: scopes, and
    whether there is a caller at all: that is for permissions.
    """

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """The caller; None without a token. Raises Refused, an APIException."""
        _take_over((request.parser_context or {}).get("view"), request)
        caller = django.admitted(request)
        if caller is None:
            api, resource = django.api_request(request), django_settings.resource()
            if not resource.carries_token(api):
                request._request.caller = None  # type: ignore[attr-defined]
                return None
            try:
                caller = resource.admit(api)
            except VerificationError as error:
                raise Refused(error) from None
        django.let_in(request._request, caller)
        return Principal(caller), caller

    def authenticate_header(self, request: Request) -> str:
        """The challenge that DRF adds where another class has refused what it was sent."""
        view = (request.parser_context or {}).get("view")
        return django_settings.resource().challenge(() if view is None else _declared(view))


class GroatRequest(Request):
    """A request as a view for callers has it, for type checkers."""

    caller: Caller
    auth: Caller
    user: Principal  # type: ignore[assignment]


# For DRF and for type checkers an instance is like the outcome of `|` and `~`: those may stand in permission_classes.
class HasScopes(SingleOperandHolder, BasePermission):
    """Permits callers with all of these scopes, or with one of `any_of(...)` as the one argument.

    An instance goes into `permission_classes`, alone or in a composition (`HasScopes("a") | IsAdminUser`). Whoever is
    not a caller, such as a user with a session, has no scopes and is not permitted; so `~HasScopes("a")` permits
    strangers: write `HasScopes() & ~HasScopes("a")`. A scope that is not in
    GROAT_SCOPES, where that is set, is a ConfigError when the view is defined.
    """

    code = _SCOPE

    def __init__(self, *scopes: str | AnyOf) -> None:
        self.groat_scopes = django_settings.demand(scopes)

    def __call__(self, *args: Any, **kwargs: Any) -> "HasScopes":
        """DRF makes permissions by calling what stands in the list."""
        return self

    def has_permission(self, request: Request, view: Any) -> bool:
        """Whether the caller has the scopes."""
        _take_over(view, request)
        # A view may put authentication off until somebody asks; an authentication of another's may give a Caller too.
        auth: object = request.auth
        caller = django.admitted(request) or (auth if isinstance(auth, Caller) else None)
        if caller is None:
            request._request.caller = None  # type: ignore[attr-defined]
            return False
        django.let_in(request._request, caller)
        try:
            require_scopes(caller, self.groat_scopes)
        except InsufficientScope:
            request._request._groat_wanted = self.groat_scopes  # type: ignore[attr-defined]
            return False
        return True

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        """As for the request: scopes are no rights to single objects."""
        return self.has_permission(request, view)


def _take_over(view: Any, request: Request) -> None:
    """From now on this view, which DRF makes anew for each request, answers refusals as every adapter does.

    Its exception handler, DRF's or the project's, would give them another body and drop headers.
    """
    if view is None or "_groat" in vars(view):
        return
    view._groat = True
    theirs, finalize = view.get_exception_handler, view.finalize_response

    def handler(exc: Exception, context: Any) -> Any:
        answer = _answer(exc, request, view)
        if answer is None:
            return theirs()(exc, context)
        from rest_framework.views import set_rollback  # needs settings, which this module is imported without

        set_rollback()
        return HttpResponse(answer.body, status=answer.status, headers=dict(answer.headers))

    def finalized(*args: Any, **kwargs: Any) -> Any:
        return django.no_store(request, finalize(*args, **kwargs))

    view.get_exception_handler = lambda: handler
    view.finalize_response = finalized


def _answer(exc: Exception, request: Request, view: Any) -> Answer | None:
    """What is answered to this exception, if it is a refusal of ours."""
    resource, caller = django_settings.resource(), django.admitted(request)
    if isinstance(exc, Refused):
        return resource.refusal(exc.error, _declared(view))
    if isinstance(exc, VerificationError):  # of a view that judges something itself
        return resource.refusal(exc)
    if isinstance(exc, NotAuthenticated) and caller is None and _is_first(request):
        return _refused(lambda: resource.admit(django.api_request(request)), _declared(view))
    if isinstance(exc, PermissionDenied) and caller is not None and exc.get_codes() == _SCOPE:
        wanted = getattr(request, "_groat_wanted", ())
        return _refused(lambda: resource.permit(caller, wanted))
    return None


def _refused(judge: Callable[[], object], route: tuple[str, ...] = ()) -> Answer | None:
    """The refusal that the verifier has logged only now, as nobody else was found who would let the request in."""
    try:
        judge()
    except VerificationError as error:
        return django_settings.resource().refusal(error, route)
    return None


def _is_first(request: Request) -> bool:
    """DRF's rule: the first authentication class says how a request without credentials is answered."""
    return isinstance(next(iter(request.authenticators or ()), None), GroatAuthentication)


def _declared(view: Any) -> tuple[str, ...]:
    """What the view says it needs, for this request; only for the words of a refusal, so that no fault of it counts.

    Not before there is a `request.user`, for which `get_permissions` may ask.
    """
    try:
        return django.declared(*view.get_permissions())
    except Exception:
        return django.declared(*view.permission_classes)


__all__ = ["GroatAuthentication", "GroatRequest", "HasScopes", "Principal", "Refused"]
