"""Flask: who may call, said above a view."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakSet

from groat.extras import needs_extra
from groat.protocol.access_token import AnyOf
from groat.protocol.errors import ConfigError, VerificationError
from groat.verifier import wsgi
from groat.verifier.demands import Demand, demanded, described
from groat.verifier.protected_resource import OFFERED, ProtectedResource
from groat.verifier.verifier import Verifier

try:
    from flask import Flask, Response, after_this_request, current_app, g, request
except ModuleNotFoundError as error:
    raise needs_extra(__name__, error) from None

View = TypeVar("View", bound=Callable[..., Any])


class Guard:
    """Makes the decorators that protect views.

        guard = Guard(verifier, scopes={"orders:read": "Read orders"})
        guard.install(app)

        @app.get("/orders")
        @guard("orders:read")
        def orders(): ...  # flask.g.caller is the Caller

    `scopes`: every scope of this API with a line about it; a view that names another is a ConfigError when it is
    defined. It works on views, async ones too, in blueprints, in the `decorators` of class-based views and on their
    methods, and on `before_request` functions: one on the application covers every request, paths that do not exist
    too. Write it below `@app.route` and above everything else, such as a cache: above the route, Flask would know the
    view without it, which is a ConfigError once such a view is asked for.

    Not protected: views without a guard, `static`, and the OPTIONS that Flask answers itself (it says the methods).
    """

    def __init__(self, verifier: Verifier, *, scopes: Mapping[str, str] | None = None) -> None:
        self._known = described(scopes)
        self._resource = ProtectedResource(verifier, known=self._known, announce=False)
        # What decorators were given: Flask must know what they made of it instead.
        self._bare: WeakSet[Any] = WeakSet()

    def __call__(self, *scopes: str | AnyOf) -> Callable[[View], View]:
        """A decorator: all of these scopes, or `any_of(...)` as the one argument. Raises ConfigError."""
        required = demanded(scopes, self._known)
        return lambda view: self._guarded(view, required)

    def install(self, app: Flask) -> None:
        """Serve the API's metadata (RFC 9728) and name them in challenges.

        Also answers a VerificationError that a view raises itself, and refuses to run a view whose guard was written
        above its route.
        """
        self._resource.announce()
        app.wsgi_app = wsgi.Public(app.wsgi_app, self._resource)  # type: ignore[method-assign]
        app.register_error_handler(VerificationError, self._answer)
        app.before_request(self._check_order)

    def _guarded(self, view: View, required: Demand) -> View:
        if isinstance(view, type):
            raise ConfigError(f"{view.__name__} is a class: write decorators = [guard(...)] in it")
        with suppress(TypeError):  # a view of a strange kind, which nobody can look for
            self._bare.add(view)

        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                g.caller = caller = self._resource.admit(wsgi.api_request(request.environ), required)
            except VerificationError as error:
                # Returned, not raised: the application's own handlers of 401 or HTTPException would write over it.
                return self._answer(error)
            after_this_request(_no_store if caller.confirmation is None else _hand_on)
            return current_app.ensure_sync(view)(*args, **kwargs)

        return guarded  # type: ignore[return-value]

    def _answer(self, error: VerificationError) -> Response:
        answer = self._resource.refusal(error)
        return Response(answer.body, answer.status, list(answer.headers))

    def _check_order(self) -> None:
        known = current_app.view_functions
        view = known.get(request.endpoint or "")
        # Who registers a view both with its guard and without means it.
        if view in self._bare and not any(_is_around(other, view) for other in known.values()):
            raise ConfigError(f"{request.endpoint}: write @guard(...) below @app.route, or nothing guards it")


def _is_around(function: Any, view: Any) -> bool:
    while (function := getattr(function, "__wrapped__", None)) is not None:
        if function is view:
            return True
    return False


def _no_store(response: Response) -> Response:
    """Keep it out of caches unless the view has its own rule (RFC 6750 5.3)."""
    if "cache-control" not in response.headers:
        response.headers["cache-control"] = "no-store"
    return response


def _hand_on(response: Response) -> Response:
    """The same, with the next nonce, if there is one and no cache may keep it."""
    response = _no_store(response)
    if OFFERED in request.environ and "no-store" in response.headers["cache-control"].lower():
        response.headers["dpop-nonce"] = request.environ[OFFERED]
    return response


__all__ = ["Guard"]
