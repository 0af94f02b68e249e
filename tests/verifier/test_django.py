"""What is particular to Django: settings, prefixes, sync and async views, classes, CSRF, tests that change settings."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import cache_page

from groat.verifier import ConfigError, Verifier, any_of, django_settings
from groat.verifier.django import GroatMiddleware, GroatRequest, metadata_urls, require
from tests.verifier.django_site import MIDDLEWARE, site
from tests.verifier.issuer import JWKS, Answer, Issuer, serving
from tests.verifier.tokens import AUD

METADATA: Final = "/.well-known/oauth-protected-resource"
verifier: Verifier | None = None  # what a dotted path leads to


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def whoever(request: Any) -> HttpResponse:
    return HttpResponse(request.caller.client_id if request.caller else "nobody")


async def whoever_later(request: Any) -> HttpResponse:
    await asyncio.sleep(0)
    return whoever(request)


class Orders(View):
    def get(self, request: GroatRequest, number: int = 0) -> HttpResponse:
        return HttpResponse(f"{number} {request.caller.client_id}")

    def post(self, request: GroatRequest, number: int = 0) -> HttpResponse:
        return self.get(request, number)


class OrdersLater(View):
    async def get(self, request: GroatRequest) -> HttpResponse:
        return HttpResponse(request.caller.client_id)


def of_class(demand: Any, inner: type[View], name: str = "dispatch") -> Any:
    """The class, decorated as Django's documentation does it."""
    decorated: Any = method_decorator(demand, name=name)(type("Decorated", (inner,), {}))
    return decorated.as_view()


def urls() -> list[Any]:
    reads, writes = require("orders:read"), require("orders:write")
    return [
        path("health", whoever),
        path("whoever", whoever),
        path("read", reads(whoever)),
        path("write", writes(whoever)),
        path("either", require(any_of("orders:read", "orders:write"))(whoever)),
        path("later", reads(whoever_later)),
        path("class/<int:number>", of_class(reads, Orders)),
        path("method/<int:number>", of_class(reads, Orders, "get")),
        path("class-later", of_class(reads, OrdersLater)),
        path("method-later", of_class(reads, OrdersLater, "get")),
        path("as-view", reads(OrdersLater.as_view())),
        path("inner/", include([path("read", reads(whoever))])),
    ]


GUARDED: Final = ["/read", "/either", "/later", "/class/7", "/class-later", "/as-view", "/inner/read"]


class Answered:
    """One answer, whichever client asked."""

    def __init__(self, response: Any) -> None:
        self.status: int = response.status_code
        self.headers: dict[str, str] = {name.lower(): value for name, value in response.items()}
        self.body: bytes = response.content

    @property
    def challenge(self) -> str:
        return self.headers.get("www-authenticate", "")


Ask = Callable[..., Answered]


def ask_sync(path: str, token: str | None = None, **options: Any) -> Answered:
    return Answered(Client().get(path, headers=bearer(token) if token else {}, **options))


def ask_async(path: str, token: str | None = None, **options: Any) -> Answered:
    async def asking() -> Any:
        return await AsyncClient().get(path, headers=bearer(token) if token else {}, **options)

    return Answered(asyncio.run(asking()))


@pytest.fixture(params=[ask_sync, ask_async], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    chosen: Ask = request.param
    return chosen


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has served metadata, asked for scopes or built anything yet."""
    monkeypatch.setattr(django_settings, "_state", django_settings._State())


@pytest.mark.rule("RS-02", "RS-09", "RS-22", "RS-MD-08")
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("where", GUARDED)
def test_views_of_every_kind(running: Issuer, ask: Ask, where: str, alone: bool) -> None:
    """With the middleware and without it `require` answers the same, by WSGI and ASGI."""
    with site(running, urls(), alone=alone):
        assert ask(where, running.token()).status == 200
        assert b"billing" in ask(where, running.token()).body
        assert ask(where, running.token()).headers["cache-control"] == "no-store"
        for token, status in ((None, 401), ("garbage", 401), (running.token(scope="other"), 403)):
            got = ask(where, token)
            assert got.status == status
            wanted = "orders:read orders:write" if where == "/either" else "orders:read"
            assert f'scope="{wanted}"' in got.challenge
            assert (METADATA in got.challenge) is not alone
            assert got.headers["cache-control"] == "no-store"


def test_a_decorated_method_alone(running: Issuer, ask: Ask) -> None:
    """The middleware does not know what it needs, and still refuses; the method itself asks for its scopes."""
    with site(running, urls()):
        assert (ask("/method/7").status, "scope=" in ask("/method/7").challenge) == (401, False)
        assert ask("/method/7", running.token(scope="other")).status == 403
        assert ask("/method/7", running.token()).body == b"7 billing"
        assert ask("/method-later", running.token(scope="other")).status == 403
        assert ask("/method-later", running.token()).body == b"billing"


@pytest.mark.rule("ST-12")
def test_what_the_middleware_covers(running: Issuer, ask: Ask) -> None:
    """Every path, those that do not exist too; and `require` without it covers its view."""
    with site(running, urls(), GROAT_EXEMPT=["/health"]):
        for where in ("/whoever", "/nowhere", "/", "/admin/", "/health/", "//health", "/health/x", "/Health"):
            assert ask(where).status == 401
        assert ask("/nowhere", running.token()).status == 404
        assert ask("/nowhere", running.token()).headers["cache-control"] == "no-store"
        assert (ask("/health").status, ask("/health").body) == (200, b"nobody")
        assert ask("/%68ealth").status == 200
        assert "cache-control" not in ask("/health").headers
    with site(running, urls(), alone=True):
        assert (ask("/nowhere").status, ask("/read").status) == (404, 401)


@pytest.mark.rule("FO-6")
def test_an_exempt_path_below_a_prefix(running: Issuer) -> None:
    """By SCRIPT_NAME, FORCE_SCRIPT_NAME or root_path: exempt is what URLconfs see, whatever is put in front."""
    with site(running, urls(), GROAT_EXEMPT=["/health"]):
        for script, where, status in (
            ("/base", "/base/health", 200),
            ("/base", "/base/whoever", 401),
            ("/health", "/health/whoever", 401),
            ("/health", "/health/health", 200),
        ):
            inner = where.removeprefix(script)
            assert Client().get(inner, SCRIPT_NAME=script).status_code == status
            assert asyncio.run(by_asgi(where, root_path=script)) == status
    with site(running, urls(), GROAT_EXEMPT=["/health"], FORCE_SCRIPT_NAME="/base"):
        assert [ask_sync(where).status for where in ("/health", "/whoever")] == [200, 401]
        assert asyncio.run(by_asgi("/base/health")) == 200
        assert asyncio.run(by_asgi("/base/whoever")) == 401


async def by_asgi(where: str, headers: list[tuple[bytes, bytes]] | None = None, **more: Any) -> int:
    """The status of a request as an ASGI server hands it over."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    requests: list[Any] = [{"type": "http.request", "body": b""}]

    async def receive() -> Any:
        if not requests:
            await asyncio.sleep(60)  # nobody hangs up
        return requests.pop()

    scope = {"type": "http", "method": "GET", "path": where, "query_string": b"", "headers": headers or [], **more}
    app: Any = get_asgi_application()
    await app(scope, receive, send)
    status: int = sent[0]["status"]
    return status


@pytest.mark.rule("RS-05")
def test_two_headers(running: Issuer) -> None:
    """Seen as they came by ASGI, and told apart again by WSGI."""
    token = running.token()
    both = [(b"authorization", b"Basic x"), (b"authorization", f"Bearer {token}".encode())]
    with site(running, urls()):
        assert asyncio.run(by_asgi("/read", both)) == 400
        assert asyncio.run(by_asgi("/read", both[1:])) == 200
        assert Client().get("/read", headers={"Authorization": f"Basic x,Bearer {token}"}).status_code == 400
        assert asyncio.run(by_asgi("/read", both[1:], query_string=b"access_token=x")) == 400
        assert Client().get("/read?access_token=x", headers=bearer(token)).status_code == 400


def test_a_caller_that_somebody_else_set(running: Issuer) -> None:
    """`require` goes by what groat itself has proven, not by an attribute that anybody may set."""

    def spoof(get_response: Any) -> Any:
        def middleware(request: Any) -> Any:
            request.caller = request.auth = "root"
            request._groat_caller = "root"
            return get_response(request)

        return middleware

    with site(running, urls(), MIDDLEWARE=[f"{__name__}.spoof_middleware"]):
        globals()["spoof_middleware"] = spoof
        assert ask_sync("/read").status == 401
        assert ask_sync("/read", running.token()).body == b"billing"


def test_require_behind_an_exempt_path(running: Issuer, ask: Ask) -> None:
    """What the middleware lets by is judged by the view's own guard."""
    with site(running, urls(), GROAT_EXEMPT=["/read"]):
        assert ask("/read").status == 401
        assert ask("/read", running.token(scope="x")).status == 403
        assert ask("/read", running.token()).body == b"billing"


@pytest.mark.parametrize("alone", [False, True])
def test_scopes_that_every_request_needs(running: Issuer, ask: Ask, alone: bool) -> None:
    """GROAT_REQUIRED_SCOPES, besides what a view needs; the challenge names both."""
    with site(running, urls(), alone=alone, GROAT_REQUIRED_SCOPES=["orders:read"]):
        assert 'scope="orders:read orders:write"' in ask("/write").challenge
        assert ask("/write", running.token(scope="orders:write")).status == 403
        assert ask("/write", running.token()).status == 403
        assert ask("/write", running.token(scope="orders:write orders:read")).status == 200
    with site(running, urls(), GROAT_REQUIRED_SCOPES=any_of("orders:read", "orders:write")):
        assert ask("/whoever", running.token(scope="orders:write")).status == 200
        assert ask("/whoever", running.token(scope="x")).status == 403


@pytest.mark.rule("RS-MD-03", "RS-MD-06")
def test_the_metadata(running: Issuer, ask: Ask) -> None:
    """From the middleware, or by `metadata_urls`; challenges name them where they are served."""
    with site(running, urls(), alone=True):
        assert ask(METADATA).status == 404
        assert METADATA not in ask("/read").challenge
    with site(running, urls(), GROAT_SCOPES={"orders:read": "Read", "orders:write": "Write", "orders:rare": "More"}):
        served = ask(METADATA)
        assert json.loads(served.body)["scopes_supported"] == ["orders:rare", "orders:read", "orders:write"]
    scopes = ["orders:rare", "orders:read", "orders:write"]
    with site(running, [*metadata_urls(), *urls()], alone=True, GROAT_SCOPES=scopes):
        got = ask(METADATA)
        assert (got.status, got.body, got.headers) == (200, served.body, served.headers)
        assert f'resource_metadata="{AUD}{METADATA}"' in ask("/read").challenge
        assert ask(METADATA + "/x").status == 404
        assert Client().post(METADATA).status_code == 405


@pytest.mark.rule("RS-MD-06")
def test_the_metadata_know_views_that_were_never_asked_for(
    running: Issuer, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process says the same, though Django imports views late."""
    name = f"urls_{ask.__name__}"
    (tmp_path / f"{name}.py").write_text(
        "from django.http import HttpResponse\nfrom django.urls import path\nfrom groat.verifier.django import require\n"
        "urlpatterns = [path('rare', require('orders:rare')(lambda request: HttpResponse()))]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with site(running, []), override_settings(ROOT_URLCONF=name):
        assert name not in sys.modules
        assert json.loads(ask(METADATA).body)["scopes_supported"] == ["orders:rare"]


@pytest.mark.rule("RS-26")
def test_the_views_own_rule_for_caches(running: Issuer, ask: Ask) -> None:
    """It stays, with the middleware and without."""
    own = path("own", require()(lambda request: HttpResponse(headers={"Cache-Control": "private, max-age=5"})))
    for alone in (False, True):
        with site(running, [own], alone=alone):
            assert ask("/own", running.token()).headers["cache-control"] == "private, max-age=5"


@pytest.mark.rule("RS-26")
@pytest.mark.parametrize("rule", [None, "max-age=60"])
def test_caches_of_django(running: Issuer, rule: str | None) -> None:
    """Before the guard, behind it or around the project: what one caller got is given to no other, and to no stranger."""

    def says(request: Any) -> HttpResponse:
        return HttpResponse(request.caller.client_id, headers={"Cache-Control": rule} if rule else {})

    both = ["django.middleware.cache.UpdateCacheMiddleware", "django.middleware.cache.FetchFromCacheMiddleware"]
    keeps, guards = cache_page(60), require("orders:read")
    urls = [path("before", keeps(guards(says))), path("behind", guards(keeps(says))), path("view", guards(says))]
    tokens = {name: running.token(client_id=name, sub=name) for name in ("a", "b")}
    for number, middleware in enumerate(([MIDDLEWARE], [], [MIDDLEWARE, *both], [*both, MIDDLEWARE], both)):
        with site(running, urls, MIDDLEWARE=middleware, CACHE_MIDDLEWARE_KEY_PREFIX=f"{number}{rule}"):
            for where in ("/before", "/behind", "/view"):
                for name in ("a", "b", "a"):
                    assert ask_sync(where, tokens[name]).body == name.encode()
                assert ask_sync(where).status == 401
                assert ask_sync(where, running.token(scope="x")).status == 403


def test_csrf(running: Issuer) -> None:
    """A view that needs a bearer token needs no cookie against forgeries: no browser adds the token by itself."""
    csrf = "django.middleware.csrf.CsrfViewMiddleware"
    for middleware in ([MIDDLEWARE, csrf], [csrf, MIDDLEWARE], [csrf]):
        with site(running, urls(), MIDDLEWARE=middleware):
            client = Client(enforce_csrf_checks=True)
            assert client.post("/read", headers=bearer(running.token())).status_code == 200
            assert client.post("/class/7", headers=bearer(running.token())).status_code == 200
            assert client.post("/read").status_code == 401
            assert client.post("/whoever", headers=bearer(running.token())).status_code == 403


def test_a_refusal_that_a_view_raises_itself(running: Issuer, ask: Ask) -> None:
    """The middleware answers it."""
    own = running.verifier()
    with site(running, [path("own", lambda request: HttpResponse(own.verify("garbage").client_id))]):
        got = ask("/own", running.token())
        assert (got.status, json.loads(got.body)["error"]) == (401, "invalid_token")


@pytest.mark.rule("RS-21")
def test_keys_that_cannot_be_had(ask: Ask) -> None:
    """503 with Retry-After and no challenge, with the middleware and without."""
    with serving() as issuer:
        issuer.spoil(JWKS, Answer(status=500))
        for alone in (False, True):
            with site(issuer, urls(), alone=alone):
                got = ask("/read", issuer.token())
                assert (got.status, got.challenge, int(got.headers["retry-after"]) >= 1) == (503, "", True)


def test_each_request_has_its_own_caller(running: Issuer) -> None:
    """Threads and tasks do not see one another's."""
    tokens = {name: running.token(client_id=name, sub=name) for name in ("a", "b", "c", "d")}
    with site(running, urls()):
        with ThreadPoolExecutor(8) as pool:
            answers = pool.map(lambda name: (name, ask_sync("/read", tokens[name]).body), list(tokens) * 10)
            assert all(name.encode() == body for name, body in answers)

        async def together() -> list[Any]:
            asked = [AsyncClient().get("/later", headers=bearer(tokens[name])) for name in tokens]
            return await asyncio.gather(*asked)

        assert [response.content.decode() for response in asyncio.run(together())] == list(tokens)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"GROAT_ISSUER": None}, "GROAT_ISSUER is not set"),
        ({"GROAT_ISSUER": "", "GROAT_AUDIENCE": None}, "GROAT_AUDIENCE is not set"),
        ({"GROAT_ISSUER": "http://auth.example.com"}, "https"),
        ({"GROAT_AUDIENCE": ["https://a.example"]}, "audience must be one string"),
        ({"GROAT_EXEMPT": ["health"]}, "exempt must hold paths such as /health"),
        ({"GROAT_EXEMPT": ["/health*"]}, "is a pattern"),
        ({"GROAT_EXEMPT": 7}, "exempt must be a list of strings"),
        ({"GROAT_SCOPES": "orders:read"}, "GROAT_SCOPES must be a list of strings"),
        ({"GROAT_SCOPES": ["a b"]}, "not a scope: 'a b'"),
        ({"GROAT_REQUIRED_SCOPES": "orders:read"}, "GROAT_REQUIRED_SCOPES must be a list of strings"),
        ({"GROAT_REQUIRED_SCOPES": ["x"], "GROAT_SCOPES": ["y"]}, "'x' is none of GROAT_SCOPES: y"),
        ({"GROAT_VERIFIER": f"{__name__}.verifier"}, "give GROAT_VERIFIER, or GROAT_ISSUER and GROAT_AUDIENCE"),
        ({"GROAT_VERIFIER": "nowhere.x", "GROAT_ISSUER": "", "GROAT_AUDIENCE": ""}, "GROAT_VERIFIER: No module"),
        ({"GROAT_VERIFIER": f"{__name__}.nowhere", "GROAT_ISSUER": "", "GROAT_AUDIENCE": ""}, "GROAT_VERIFIER: Module"),
        ({"GROAT_VERIFIER": f"{__name__}.whoever", "GROAT_ISSUER": "", "GROAT_AUDIENCE": ""}, "not a function"),
    ],
)
def test_wrong_settings(running: Issuer, changes: dict[str, Any], words: str) -> None:
    """The project does not start with the middleware; without it guarded views refuse, and `check` tells it anyway."""
    with site(running, [], **changes):
        for start in (get_wsgi_application, get_asgi_application):
            with pytest.raises(ImproperlyConfigured, match=words):
                start()
        assert [(one.id, words.replace("\\", "") in str(one)) for one in django_settings.check()] == [
            ("groat.E001", True)
        ]
    if not {"GROAT_SCOPES", "GROAT_REQUIRED_SCOPES"} & changes.keys():
        with site(running, urls(), alone=True, **changes):
            response = Client(raise_request_exception=False).get("/read", headers=bearer(running.token()))
            assert response.status_code == 500


def test_a_name_that_is_nearly_ours(running: Issuer) -> None:
    """`manage.py check` asks about it; other names with the prefix are the project's own."""
    with site(running, [], GROAT_EXEMPTS=["/health"], GROAT_CLIENT_ID="billing"):
        (found,) = django_settings.check()
        assert (found.id, found.hint) == ("groat.W001", "Did you mean GROAT_EXEMPT?")


def test_a_verifier_of_the_projects_own(running: Issuer, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its dotted path, or itself as tests do."""
    own = running.verifier(realm="orders")
    monkeypatch.setattr(f"{__name__}.verifier", own)
    for given in (f"{__name__}.verifier", own):
        with site(running, urls(), GROAT_ISSUER=None, GROAT_AUDIENCE=None, GROAT_VERIFIER=given):
            assert 'realm="orders"' in ask("/read").challenge
            assert ask("/read", running.token()).status == 200


def test_settings_that_a_test_changes(running: Issuer) -> None:
    """What was built of the old settings serves no more, not even in a client that is there already."""
    with site(running, urls()):
        client = Client()
        assert client.get("/health").status_code == 401
        with override_settings(GROAT_EXEMPT=["/health"]):
            assert client.get("/health").status_code == 200
        assert client.get("/health").status_code == 401


@pytest.mark.parametrize(
    ("scopes", "words"),
    [
        (("orders:reed",), "'orders:reed' is none of GROAT_SCOPES: orders:read"),
        (("orders:read", any_of("orders:read")), "either scopes or one any_of"),
        ((whoever,), "must hold strings only, not a function"),
        (("a b",), "is none of"),
    ],
)
def test_a_scope_that_nobody_knows(running: Issuer, scopes: Any, words: str) -> None:
    """An error when the view is defined; without GROAT_SCOPES any scope may be asked for that is one."""
    with site(running, [], GROAT_SCOPES={"orders:read": "Read orders"}):
        with pytest.raises(ConfigError, match=words):
            require(*scopes)
    require("orders:reed")
    with pytest.raises(ConfigError, match="not a scope"):
        require("a b")


def test_a_class_is_no_view() -> None:
    """What to write instead is said."""
    with pytest.raises(ConfigError, match=r'Orders is a class: write @method_decorator\(require\(\.\.\.\), name="dis'):
        require("orders:read")(Orders)


def test_a_view_called_by_hand(running: Issuer) -> None:
    """As unit tests do, with a request of Django's factory and no project around it."""
    view = require("orders:read")(whoever)
    with site(running, []):
        assert view(RequestFactory().get("/x")).status_code == 401
        good = RequestFactory().get("/x", headers=bearer(running.token()))
        assert view(good).content == b"billing"
        assert GroatMiddleware(whoever)(RequestFactory().get("/x")).status_code == 401  # type: ignore[union-attr]


CHECK: Final = """
import django, sys
from django.conf import settings
from django.core.management import call_command
settings.configure(INSTALLED_APPS=["groat.verifier.django.GroatConfig"], ROOT_URLCONF=(), **eval(sys.argv[1]))
django.setup()
call_command("check")
"""


def test_the_system_check() -> None:
    """The app makes `manage.py check` look at the settings."""

    def check(changes: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-c", CHECK, repr(changes)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    wrong = check({"GROAT_ISSUER": "https://auth.example.com"})
    assert (wrong.returncode, "(groat.E001) GROAT_* in the settings: GROAT_AUDIENCE is not set" in wrong.stderr) == (
        1,
        True,
    )
    right = check({"GROAT_ISSUER": "https://auth.example.com", "GROAT_AUDIENCE": AUD})
    assert (right.returncode, right.stdout) == (0, "System check identified no issues (0 silenced).\n")


def test_json_responses_and_streams(running: Issuer, ask: Ask) -> None:
    """Every kind of response is kept out of caches."""
    with site(running, [path("json", require()(lambda request: JsonResponse({"a": 1})))], alone=True):
        assert ask("/json", running.token()).headers["cache-control"] == "no-store"


def test_what_views_are_called(running: Issuer) -> None:
    """The name stays, for URL reversing by function and for logs."""
    guarded: Callable[[HttpRequest], HttpResponse] = require()(whoever)
    assert guarded.__name__ == "whoever"
