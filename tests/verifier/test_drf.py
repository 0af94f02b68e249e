"""What is particular to Django REST framework: its handlers and renderers, other authentications, compositions."""

import json
from types import SimpleNamespace
from typing import Any, Final

import pytest
from django.test import Client
from django.urls import include, path

from groat.verifier import ConfigError, Dpop, any_of, django_settings
from groat.verifier.django import metadata_urls
from groat.verifier.drf import GroatAuthentication, GroatRequest, HasScopes, Principal
from tests.verifier.django_site import site
from tests.verifier.issuer import JWKS, Answer, Issuer, serving
from tests.verifier.test_observer import Figures
from tests.verifier.tokens import AUD

# isort: split
from rest_framework.authentication import BaseAuthentication
from rest_framework.decorators import action, api_view, authentication_classes, permission_classes
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated, PermissionDenied
from rest_framework.permissions import AllowAny, BasePermission, IsAdminUser, IsAuthenticated
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

METADATA: Final = "/.well-known/oauth-protected-resource"


class ByName(BaseAuthentication):
    """Another way in: whoever says a name is one of the staff."""

    def authenticate(self, request: Any) -> Any:
        name = request.META.get("HTTP_X_NAME")
        if name == "bad":
            raise AuthenticationFailed("not you")
        user = SimpleNamespace(is_authenticated=True, is_staff=name == "admin", pk=name, username=name)
        return None if name is None else (user, None)


class Says(APIView):
    """Says who asks; `changes` of `view()` are its classes."""

    def get(self, request: GroatRequest) -> Response:
        return Response(
            {"user": getattr(request.user, "username", None), "caller": str(getattr(request.caller, "client_id", None))}
        )

    def post(self, request: GroatRequest) -> Response:
        return self.get(request)


def view(*permissions: Any, by: Any = (GroatAuthentication,), base: type[APIView] = Says, **more: Any) -> Any:
    attributes = {"authentication_classes": list(by), "permission_classes": list(permissions), **more}
    made: Any = type("Made", (base,), attributes)
    return made.as_view()


@api_view(["GET"])
@authentication_classes([GroatAuthentication])
@permission_classes([HasScopes("orders:read")])
def function(request: Any) -> Response:
    return Response(request.auth.client_id)


class Orders(ViewSet):
    authentication_classes = [GroatAuthentication]
    permission_classes = [HasScopes("orders:read")]

    def list(self, request: Any) -> Response:
        return Response([request.caller.client_id])

    @action(detail=False, permission_classes=[HasScopes("orders:write")])
    def more(self, request: Any) -> Response:
        return Response([request.caller.client_id])


def bearer(token: str | None, **headers: str) -> dict[str, str]:
    return {**({"Authorization": f"Bearer {token}"} if token else {}), **headers}


def ask(where: str, token: str | None = None, **headers: str) -> Any:
    return Client().get(
        where, headers=bearer(token, **{name.replace("_", "-"): value for name, value in headers.items()})
    )


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has served metadata, asked for scopes or built anything yet."""
    monkeypatch.setattr(django_settings, "_state", django_settings._State())


def mine(exc: Exception, context: Any) -> Response:
    """An exception handler as projects have them."""
    return Response({"mine": True}, status=418)


def urls() -> list[Any]:
    router = SimpleRouter()
    router.register("orders", Orders, basename="orders")
    reads = HasScopes("orders:read")
    return [
        path("read", view(reads)),
        path("either", view(HasScopes(any_of("orders:read", "orders:write")))),
        path("any", view(IsAuthenticated)),
        path("bare", view(HasScopes)),
        path("open", view(AllowAny)),
        path("function", function),
        path("", include(router.urls)),
        path("unauthenticated", view(reads, by=())),
    ]


@pytest.mark.rule("RS-28", "RS-MD-08")
@pytest.mark.parametrize("where", ["/read", "/function", "/orders/", "/orders/more/", "/either", "/any", "/bare"])
def test_the_same_bytes(running: Issuer, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the middleware, without it, for browsers, and whatever exception handler the project has."""
    with site(running, urls()):
        sent = (None, "garbage", "a b", running.token(scope="other"))
        expected = [ask(where, token) for token in sent]
        assert [response.status_code for response in expected] == [
            401,
            401,
            400,
            200 if where in ("/any", "/bare") else 403,
        ]
        if where not in ("/any", "/bare"):
            scope = {"/orders/more/": "orders:write", "/either": "orders:read orders:write"}.get(where, "orders:read")
            for response in (*expected[:2], expected[3]):
                assert f'scope="{scope}"' in response["WWW-Authenticate"]
    for handler in ({}, {"EXCEPTION_HANDLER": f"{__name__}.mine"}):
        with site(running, [*metadata_urls(), *urls()], alone=True, REST_FRAMEWORK=handler):
            for accept in ("*/*", "text/html", "application/json"):
                for token, wanted in zip(sent, expected, strict=True):
                    got = ask(where, token, Accept=accept)
                    if wanted.status_code == 200:
                        continue
                    assert (got.status_code, got.content) == (wanted.status_code, wanted.content)
                    for name in ("WWW-Authenticate", "Cache-Control", "Content-Type"):
                        assert got[name] == wanted[name]


@pytest.mark.rule("RS-01", "RS-26")
@pytest.mark.parametrize("alone", [False, True])
def test_who_asks(running: Issuer, alone: bool) -> None:
    """`request.user` is a machine, `request.auth` and `request.caller` the Caller; no cache keeps the answer."""
    seen: list[Any] = []

    class Looks(Says):
        def get(self, request: GroatRequest) -> Response:
            seen.append((request.user, request.auth, request.caller))
            return super().get(request)

    with site(running, [path("looks", view(IsAuthenticated, base=Looks)), *urls()], alone=alone):
        got = ask("/looks", running.token())
        assert (got.json(), got["Cache-Control"]) == ({"user": "billing", "caller": "billing"}, "no-store")
        for where in ("/function", "/orders/"):
            assert ask(where, running.token())["Cache-Control"] == "no-store"
    user, auth, caller = seen[0]
    assert isinstance(user, Principal)
    assert auth is caller is user.caller
    assert (str(user), user.get_username(), user.pk, user.id) == ("billing", "billing", caller.subject, caller.subject)
    assert (user.is_authenticated, user.is_active, user.is_anonymous, user.is_staff) == (True, True, False, False)
    rights = [user.is_superuser, user.has_perm("x"), user.has_perms(["x"]), user.has_module_perms("x")]
    assert rights == [False] * 4


def test_without_a_permission_nobody_is_refused(running: Issuer) -> None:
    """DRF's rule: authentication says who it is, permissions who may; a token that is not good is refused all the same."""
    with site(running, urls(), alone=True):
        assert ask("/open").json() == {"user": "", "caller": "None"}
        assert "Cache-Control" not in ask("/open")
        assert ask("/open", running.token()).json()["caller"] == "billing"
        assert ask("/open", "garbage").status_code == 401


@pytest.mark.rule("RS-09")
def test_beside_another_authentication(running: Issuer) -> None:
    """Whoever has no token may come another way; without scopes he is permitted where something else permits him."""
    both, other_first = (GroatAuthentication, ByName), (ByName, GroatAuthentication)
    reads = HasScopes("orders:read")
    with site(
        running,
        [
            path("scopes", view(reads, by=both)),
            path("or", view(reads | IsAdminUser, by=both)),
            path("ro", view(IsAdminUser | reads, by=both)),
            path("and", view(reads & HasScopes("orders:write"), by=both)),
            path("not", view(~reads, by=both)),
            path("caller-not", view(HasScopes() & ~reads, by=both)),
            path("other-first", view(reads | IsAdminUser, by=other_first)),
        ],
        alone=True,
    ):
        token, other = running.token(), running.token(scope="other")
        assert ask("/scopes", X_Name="admin").status_code == 403
        assert "WWW-Authenticate" not in ask("/scopes", X_Name="admin")
        for where in ("/or", "/ro", "/other-first"):
            assert ask(where, X_Name="admin").json() == {"user": "admin", "caller": "None"}
            assert ask(where, X_Name="somebody").status_code == 403
            assert ask(where, token).json()["caller"] == "billing"
            assert ask(where, other).status_code == 403
        assert ask("/or").status_code == 401
        assert ask("/or")["WWW-Authenticate"].startswith("Bearer ")
        assert ask("/other-first").status_code == 403
        assert [
            ask("/and", running.token(scope=scope)).status_code for scope in ("orders:read", "orders:read orders:write")
        ] == [403, 200]
        assert [ask("/not", one).status_code for one in (token, other, None)] == [403, 200, 200]
        assert [ask("/caller-not", one).status_code for one in (token, other, None)] == [403, 200, 401]
        failed = ask("/or", X_Name="bad")
        assert (failed.status_code, failed.json()) == (401, {"detail": "not you"})
        assert failed["WWW-Authenticate"] == ask("/or")["WWW-Authenticate"]


@pytest.mark.rule("RS-28", "RS-MD-03", "RS-MD-08")
def test_the_challenge_of_another_authentications_refusal(running: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """That of a request without credentials: scopes, metadata, DPoP. Nobody was refused by the verifier: no word."""
    figures = Figures()
    verifier = running.verifier(dpop=Dpop(), observer=figures)
    own = {"GROAT_VERIFIER": verifier, "GROAT_ISSUER": None, "GROAT_AUDIENCE": None}
    both = (GroatAuthentication, ByName)
    with site(running, [*metadata_urls(), path("read", view(HasScopes("orders:read"), by=both))], alone=True, **own):
        failed = ask("/read", X_Name="bad")
        assert (failed.status_code, failed.json(), figures.verdicts) == (401, {"detail": "not you"}, [])
        assert [record for record in caplog.records if record.name == "groat.verifier"] == []
        challenge = failed["WWW-Authenticate"]
        assert challenge == ask("/read")["WWW-Authenticate"]
        assert all(word in challenge for word in ('scope="orders:read"', f"{AUD}{METADATA}", 'DPoP realm="api"'))


def test_no_refusal_is_told_where_nobody_was_refused(running: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """The log of the verifier does not speak of people who come another way; it does once they are refused."""
    reads = HasScopes("orders:read")
    both = (GroatAuthentication, ByName)
    with site(
        running, [path("or", view(reads | IsAdminUser, by=both)), path("read", view(reads, by=both))], alone=True
    ):
        assert ask("/or", X_Name="admin").status_code == 200
        assert [record for record in caplog.records if record.name == "groat.verifier"] == []
        ask("/read")
        ask("/read", running.token(scope="other"))
        told = [record.getMessage() for record in caplog.records if record.name == "groat.verifier"]
        assert [words.split()[1] for words in told] == ["reason=missing", "reason=scope"]


def test_scopes_need_a_caller(running: Issuer) -> None:
    """Neither middleware nor authentication: nobody is permitted. Behind the middleware its caller counts."""
    with site(running, urls(), alone=True):
        assert ask("/unauthenticated", running.token()).status_code == 403
    with site(running, urls()):
        assert ask("/unauthenticated", running.token()).status_code == 200
        assert ask("/unauthenticated", running.token(scope="x")).status_code == 403
        assert ask("/unauthenticated").status_code == 401


def test_exempt_paths_of_the_middleware(running: Issuer) -> None:
    """The view's own classes judge what it lets by."""
    with site(running, urls(), GROAT_EXEMPT=["/read", "/open"]):
        assert (ask("/open").status_code, ask("/read").status_code) == (200, 401)
        assert ask("/read", running.token()).status_code == 200


@pytest.mark.rule("RS-21")
@pytest.mark.parametrize("handler", [{}, {"EXCEPTION_HANDLER": f"{__name__}.mine"}])
def test_keys_that_cannot_be_had(handler: dict[str, str]) -> None:
    """503 with Retry-After and no challenge, with the middleware and without."""
    with serving() as issuer:
        issuer.spoil(JWKS, Answer(status=500))
        for alone in (False, True):
            with site(issuer, urls(), alone=alone, REST_FRAMEWORK=handler):
                got = ask("/read", issuer.token())
                assert (got.status_code, int(got["Retry-After"]) >= 1, "WWW-Authenticate" in got) == (503, True, False)
                assert got.json()["error"] == "temporarily_unavailable"
                assert got["Cache-Control"] == "no-store"


def test_refusals_that_are_not_ours(running: Issuer) -> None:
    """What a view or another permission says stays as it is; a VerificationError of its own is answered."""
    own = running.verifier()

    class Raises(Says):
        def get(self, request: GroatRequest) -> Response:
            kind = request.GET["kind"]
            if kind == "token":
                own.verify("garbage")
            raise {"denied": PermissionDenied("no"), "who": NotAuthenticated("who?"), "bug": KeyError("x")}[kind]

    class Never(BasePermission):
        def has_permission(self, request: Any, view: Any) -> bool:
            return False

    reads = HasScopes("orders:read")
    with site(running, [path("raises", view(reads, base=Raises)), path("never", view(reads, Never))], alone=True):
        assert ask("/raises?kind=denied", running.token()).json() == {"detail": "no"}
        assert ask("/raises?kind=who", running.token()).json() == {"detail": "who?"}
        assert ask("/raises?kind=token", running.token()).json()["error"] == "invalid_token"
        assert ask("/never", running.token()).json() == {"detail": "You do not have permission to perform this action."}
        assert ask("/never").status_code == 401
        with pytest.raises(KeyError):
            ask("/raises?kind=bug", running.token())


def test_views_that_put_things_off(running: Issuer) -> None:
    """Authentication at the first question, permissions that ask for the user, objects of their own."""

    class Later(Says):
        def perform_authentication(self, request: Any) -> None:
            return

    class AsksUser(Says):
        def get_permissions(self) -> Any:
            user: object = self.request.user
            return [HasScopes("orders:read")() if user else AllowAny()]

        def get(self, request: GroatRequest) -> Response:
            self.check_object_permissions(request, object())
            return super().get(request)

    class ByHeader(Says):
        def get_permissions(self) -> Any:
            user: object = self.request.user
            assert not isinstance(user, Principal)
            return [HasScopes("orders:write" if "HTTP_AUTHORIZATION" in self.request.META else "orders:read")]

    class Broken(Says):
        def get_permissions(self) -> Any:
            raise KeyError("x")

    urls = [
        path("later", view(HasScopes("orders:read"), base=Later)),
        path("asks", view(base=AsksUser)),
        path("method", view(base=ByHeader)),
        path("broken", view(HasScopes("orders:more"), base=Broken)),
    ]
    with site(running, urls, alone=True):
        for where in ("/later", "/asks"):
            assert ask(where, "garbage").status_code == 401
            assert ask(where, running.token()).json()["caller"] == "billing"
        assert ask("/later").status_code == 401
        for token in (None, "garbage"):
            scope = "orders:write" if token else "orders:read"
            assert f'scope="{scope}"' in ask("/method", token)["WWW-Authenticate"]
        assert 'scope="orders:more"' in ask("/broken", "garbage")["WWW-Authenticate"]
        assert ask("/later", running.token(scope="x")).json()["error"] == "insufficient_scope"


def test_pages_for_browsers(running: Issuer) -> None:
    """The browsable API asks permissions for its forms; OPTIONS does for its metadata."""
    with site(running, urls(), alone=True):
        page = ask("/read", running.token(), Accept="text/html")
        assert (page.status_code, page["Content-Type"]) == (200, "text/html; charset=utf-8")
        described = Client().options("/read", headers=bearer(running.token()))
        assert (described.status_code, described["Cache-Control"]) == (200, "no-store")
        assert Client().options("/read").status_code == 401
        assert Client(enforce_csrf_checks=True).post("/read", headers=bearer(running.token())).status_code == 200


def test_throttles(running: Issuer) -> None:
    """Each client has a bucket of its own."""

    class Twice(UserRateThrottle):
        rate = "2/hour"

    with site(running, [path("read", view(HasScopes("orders:read"), throttle_classes=[Twice]))], alone=True):
        tokens = [running.token(sub=name, client_id=name) for name in ("a", "a", "a", "b")]
        assert [ask("/read", token).status_code for token in tokens] == [200, 200, 429, 200]


@pytest.mark.rule("RS-26")
def test_the_views_own_rule_for_caches(running: Issuer) -> None:
    """It stays."""

    class Own(Says):
        def get(self, request: GroatRequest) -> Response:
            return Response("mine", headers={"Cache-Control": "private, max-age=5"})

    for alone in (False, True):
        with site(running, [path("own", view(HasScopes(), base=Own))], alone=alone):
            assert ask("/own", running.token())["Cache-Control"] == "private, max-age=5"


def test_tests_that_force_a_caller(running: Issuer) -> None:
    """APIClient.force_authenticate with a Caller, as tests of projects do."""
    caller = running.verifier().verify(running.token())
    with site(running, urls(), alone=True):
        client: Any = APIClient()
        client.force_authenticate(user=Principal(caller), token=caller)
        assert client.get("/read").json() == {"user": "billing", "caller": "billing"}
        client.force_authenticate(user=SimpleNamespace(is_authenticated=True), token="Caller")
        assert client.get("/read").status_code == 403


def test_a_caller_that_somebody_else_set(running: Issuer) -> None:
    """`request.caller` of other middleware proves nothing."""

    def spoof(get_response: Any) -> Any:
        def middleware(request: Any) -> Any:
            request.caller = request.auth = request.user = "root"
            return get_response(request)

        return middleware

    globals()["spoof_middleware"] = spoof
    with site(running, urls(), MIDDLEWARE=[f"{__name__}.spoof_middleware"]):
        assert ask("/read").status_code == 401
        assert ask("/unauthenticated").status_code == 403
        assert ask("/open").json()["caller"] == "None"


@pytest.mark.parametrize("scopes", [("orders:reed",), (IsAuthenticated,), ("orders:read", any_of("orders:read"))])
def test_a_scope_that_nobody_knows(running: Issuer, scopes: Any) -> None:
    """An error when the view is defined."""
    with site(running, [], GROAT_SCOPES=["orders:read"]):
        with pytest.raises(ConfigError):
            HasScopes(*scopes)


@pytest.mark.rule("RS-MD-06")
def test_scopes_of_permissions_are_in_the_metadata(running: Issuer) -> None:
    """What views ask for, without GROAT_SCOPES."""
    with site(running, [*metadata_urls(), path("x", view(HasScopes("orders:rare")))], alone=True):
        assert json.loads(ask(METADATA).content)["scopes_supported"] == ["orders:rare"]
