"""What is particular to Flask: where decorators stand, async views, handlers of the application, contexts."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest
from flask import Blueprint, Flask, abort, g
from flask.testing import FlaskClient
from flask.views import MethodView
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from groat.verifier import ConfigError, Verifier, any_of
from groat.verifier.flask import Guard
from tests.verifier.issuer import JWKS, Answer, Issuer, serving
from tests.verifier.tokens import AUD

SCOPES: Final = {"orders:read": "Read orders", "orders:write": "Change orders"}
METADATA: Final = "/.well-known/oauth-protected-resource"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def whoever() -> str:
    return str(g.caller.client_id)


@pytest.fixture
def guard(running: Issuer) -> Guard:
    return Guard(running.verifier(), scopes=SCOPES)


def application(guard: Guard, *, install: bool = True) -> Flask:
    app = Flask(__name__)
    app.testing = True
    if install:
        guard.install(app)
    app.add_url_rule("/whoever", view_func=guard()(whoever))
    app.add_url_rule("/read", "read", guard("orders:read")(whoever))
    app.add_url_rule("/either", "either", guard(any_of("orders:read", "orders:write"))(whoever))
    app.add_url_rule("/open", view_func=lambda: "hello", endpoint="open")
    return app


@pytest.fixture
def client(guard: Guard) -> FlaskClient:
    return application(guard).test_client()


@pytest.mark.rule("RS-09", "RS-22")
def test_scopes(client: FlaskClient, running: Issuer) -> None:
    """None, all, or one of several."""
    reader, other = bearer(running.token()), bearer(running.token(scope="other"))
    for path, good, bad in (("/whoever", 200, 200), ("/read", 200, 403), ("/either", 200, 403), ("/open", 200, 200)):
        assert client.get(path, headers=reader).status_code == good
        assert client.get(path, headers=other).status_code == bad
    assert 'scope="orders:read orders:write"' in client.get("/either").headers["WWW-Authenticate"]
    assert "WWW-Authenticate" not in client.get("/open").headers


@pytest.mark.parametrize(
    ("scopes", "words"),
    [
        (("orders:reed",), "'orders:reed' is none of the guard's scopes: orders:read, orders:write"),
        ((any_of("orders:read", "x"),), "'x' is none"),
        (("orders:read", any_of("orders:write")), "either scopes or one any_of"),
        ((whoever,), "must hold strings only, not a function"),
        ((None,), "strings only, not None"),
        ((["orders:read"],), "strings only, not a list"),
    ],
)
def test_a_scope_that_nobody_knows(guard: Guard, scopes: Any, words: str) -> None:
    """An error when the view is defined; a guard without its brackets is one, too."""
    with pytest.raises(ConfigError, match=words):
        guard(*scopes)


def test_scopes_need_words(running: Issuer) -> None:
    """A list of scopes is not what is asked for."""
    with pytest.raises(ConfigError, match="must say what each is for"):
        Guard(running.verifier(), scopes=["orders:read"])  # type: ignore[arg-type]


@pytest.mark.rule("RS-28")
def test_without_install_it_refuses_the_same(guard: Guard, running: Issuer) -> None:
    """The same bytes; only the metadata are neither served nor named."""
    installed, bare = (
        application(guard).test_client(),
        application(Guard(running.verifier(), scopes=SCOPES), install=False),
    )
    for headers in ({}, bearer("garbage"), {"Authorization": "Bearer"}):
        got, expected = bare.test_client().get("/whoever", headers=headers), installed.get("/whoever", headers=headers)
        assert (got.status_code, got.data) == (expected.status_code, expected.data)
        named = f', resource_metadata="{AUD}{METADATA}"'
        assert got.headers["WWW-Authenticate"] + named == expected.headers["WWW-Authenticate"]
        assert got.headers["Cache-Control"] == "no-store"
    good = bare.test_client().get("/whoever", headers=bearer(running.token()))
    assert (good.text, good.headers["Cache-Control"]) == ("billing", "no-store")
    assert bare.test_client().get(METADATA).status_code == 404


@pytest.mark.rule("RS-28")
def test_handlers_of_the_application_write_over_nothing(guard: Guard) -> None:
    """Neither for the status nor for HTTPException or Exception, in the application or a blueprint."""
    plain = application(guard).test_client().get("/read")
    app, inside = application(guard), Blueprint("inside", __name__, url_prefix="/inside")
    inside.add_url_rule("/read", view_func=guard("orders:read")(whoever))
    for where in (app, inside):
        for what in (401, HTTPException, Exception):
            where.register_error_handler(what, lambda error: ("mine", 418))
    app.register_blueprint(inside)
    for path in ("/read", "/inside/read"):
        got = app.test_client().get(path)
        assert (got.status_code, got.data, list(got.headers)) == (401, plain.data, list(plain.headers))
    assert app.test_client().get("/nowhere").status_code == 418


def test_a_refusal_that_a_view_raises_itself(guard: Guard, running: Issuer) -> None:
    """An installed guard answers it; one that is not leaves it to Flask."""
    verifier = running.verifier()
    app = application(guard)
    app.add_url_rule("/own", view_func=lambda: verifier.verify("garbage").client_id, endpoint="own")
    got = app.test_client().get("/own")
    assert (got.status_code, got.json and got.json["error"]) == (401, "invalid_token")


@pytest.mark.rule("RS-26")
def test_the_views_own_rule_for_caches(guard: Guard, running: Issuer) -> None:
    """It stays; errors of a guarded view are kept out of caches like its answers; open views are as they were."""
    app = application(guard)

    @app.get("/own")
    @guard()
    def own() -> Any:
        return "mine", {"Cache-Control": "private, max-age=5"}

    @app.get("/broken")
    @guard()
    def broken() -> Any:
        abort(404)

    asked = app.test_client()
    token = bearer(running.token())
    assert asked.get("/own", headers=token).headers["Cache-Control"] == "private, max-age=5"
    got = asked.get("/broken", headers=token)
    assert (got.status_code, got.headers["Cache-Control"]) == (404, "no-store")
    assert "Cache-Control" not in asked.get("/open").headers


def test_async_views(guard: Guard, running: Issuer) -> None:
    """As sync ones, methods of classes too."""
    app = application(guard)

    @app.get("/async")
    @guard("orders:read")
    async def later() -> str:
        await asyncio.sleep(0)
        return whoever()

    class Orders(MethodView):
        @guard("orders:read")
        async def get(self) -> str:
            return whoever()

    app.add_url_rule("/method", view_func=Orders.as_view("method"))
    for path in ("/async", "/method"):
        assert app.test_client().get(path).status_code == 401
        assert app.test_client().get(path, headers=bearer(running.token(scope="x"))).status_code == 403
        assert app.test_client().get(path, headers=bearer(running.token())).text == "billing"


def test_class_based_views(guard: Guard, running: Issuer) -> None:
    """By `decorators` or on a method; a decorated class would be no class any more."""

    class Orders(MethodView):
        decorators = [guard("orders:read")]

        def get(self, number: int) -> str:
            return f"{number} {whoever()}"

        @guard("orders:write")
        def post(self, number: int) -> str:
            return f"{number} {whoever()}"

    app = application(guard)
    app.add_url_rule("/orders/<int:number>", view_func=Orders.as_view("orders"))
    asked, both = app.test_client(), bearer(running.token(scope="orders:read orders:write"))
    assert asked.get("/orders/7").status_code == 401
    assert asked.get("/orders/7", headers=bearer(running.token())).text == "7 billing"
    assert asked.post("/orders/7", headers=bearer(running.token())).status_code == 403
    assert asked.post("/orders/7", headers=both).text == "7 billing"
    with pytest.raises(ConfigError, match=r"Orders is a class: write decorators = \[guard"):
        guard("orders:read")(Orders)


@pytest.mark.rule("ST-12")
def test_a_whole_blueprint_or_application(guard: Guard, running: Issuer) -> None:
    """A guarded function before each request: of a blueprint its views, of the application every path."""
    inside = Blueprint("inside", __name__, url_prefix="/inside")
    inside.before_request(guard("orders:read")(lambda: None))
    inside.add_url_rule("/whoever", view_func=whoever)
    inside.add_url_rule("/write", "write", guard("orders:write")(whoever))
    app = application(guard)
    app.register_blueprint(inside)
    asked = app.test_client()
    assert asked.get("/inside/whoever").status_code == 401
    assert asked.get("/inside/whoever", headers=bearer(running.token())).text == "billing"
    assert asked.get("/inside/write", headers=bearer(running.token())).status_code == 403
    assert asked.get("/open").status_code == 200
    everywhere = application(guard)
    everywhere.before_request(guard()(lambda: None))
    for path, status in (("/open", 200), ("/nowhere", 404), ("/static/x", 404)):
        assert everywhere.test_client().get(path).status_code == 401
        assert everywhere.test_client().get(path, headers=bearer(running.token())).status_code == status
    assert everywhere.test_client().get(METADATA).status_code == 200


@pytest.mark.rule("ST-12")
def test_a_guard_above_its_route(guard: Guard, running: Issuer) -> None:
    """Flask has the bare view then: it is not run, and the error says what to do."""
    app, inside = application(guard), Blueprint("inside", __name__, url_prefix="/inside")

    @guard("orders:read")
    @app.get("/wrong")
    def wrong() -> str:
        raise AssertionError

    @guard("orders:read")
    @inside.get("/wrong")
    def wrong_inside() -> str:
        raise AssertionError

    app.register_blueprint(inside)
    for path in ("/wrong", "/inside/wrong"):
        for headers in ({}, bearer(running.token())):
            with pytest.raises(ConfigError, match=r"write @guard\(\.\.\.\) below @app\.route"):
                app.test_client().get(path, headers=headers)
    app.testing = False
    assert app.test_client().get("/wrong").status_code == 500
    assert app.test_client().get("/whoever", headers=bearer(running.token())).status_code == 200


def test_the_decorated_view_keeps_its_name(guard: Guard) -> None:
    """Flask makes endpoints of names."""
    assert guard("orders:read")(whoever).__name__ == "whoever"


def test_one_guard_in_two_applications(guard: Guard, running: Issuer) -> None:
    """Below prefixes of their own, one in the other; both serve the metadata."""
    outer = DispatcherMiddleware(application(guard), {"/inner": application(guard)})
    asked = Client(outer)
    for path in ("/whoever", "/inner/whoever"):
        assert asked.get(path, headers=bearer(running.token())).text == "billing"
        assert asked.get(path).status_code == 401
    assert [asked.get(path + METADATA).status_code for path in ("", "/inner")] == [200, 200]


@pytest.mark.rule("RS-MD-07")
def test_an_audience_with_a_path(running: Issuer) -> None:
    """The metadata are where the identifier says, also where the application sees only the rest of the path."""
    guard = Guard(Verifier(running.url, AUD + "/shop/"))
    app = Client(DispatcherMiddleware(Flask("outer"), {"/shop": application_of(guard)}))
    assert application_of(guard).test_client().get(METADATA + "/shop").status_code == 200
    assert app.get("/shop" + METADATA + "/shop").status_code == 200
    assert application_of(guard).test_client().get(METADATA).status_code == 404


def application_of(guard: Guard) -> Flask:
    app = Flask(__name__)
    guard.install(app)
    return app


def test_each_thread_has_its_own_caller(client: FlaskClient, running: Issuer) -> None:
    """Threads do not see one another's."""
    app = client.application
    tokens = {name: running.token(client_id=name, sub=name) for name in ("a", "b", "c", "d")}

    def ask(name: str) -> bool:
        return app.test_client().get("/whoever", headers=bearer(tokens[name])).text == name

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, list(tokens) * 25))


@pytest.mark.rule("RS-21")
def test_keys_that_cannot_be_had(running: Issuer) -> None:
    """503 with Retry-After and no challenge."""
    with serving() as issuer:
        issuer.spoil(JWKS, Answer(status=500))
        verifier = issuer.verifier()
        app = application(Guard(verifier, scopes=SCOPES))
        got = app.test_client().get("/whoever", headers=bearer(issuer.token()))
        assert (got.status_code, "WWW-Authenticate" in got.headers) == (503, False)
        assert int(got.headers["Retry-After"]) >= 1


def test_explanations(monkeypatch: pytest.MonkeyPatch, running: Issuer) -> None:
    """With GROAT_DEV=1 the body says why."""
    monkeypatch.setenv("GROAT_DEV", "1")
    app = application(Guard(running.verifier(), scopes=SCOPES))
    got = app.test_client().get("/whoever", headers=bearer(running.token(aud=AUD + "/")))
    assert got.json is not None
    assert "trailing slash" in got.json["hint"]
