"""What a caller reads of an API after a 401 (RFC 9728): whether they trust the same issuer, and nothing else."""

from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import pytest

from groat.client import (
    ApiMetadata,
    IssuerNotTrusted,
    MachineClient,
    MetadataInvalid,
    ServerUnreachable,
    TokenResponseInvalid,
)
from groat.client.challenge import named_metadata
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import generate_private_key
from groat.protocol.resource_metadata import RESOURCE_WELL_KNOWN, resource_metadata
from tests.client.servers import Reply, Seen, Server

JSON = {"Content-Type": "application/json"}


class DescribedApi(Server):
    """An API that refuses everybody, and describes itself; `challenge` is what its 401 says."""

    def __init__(self) -> None:
        super().__init__()
        self.document: Any = resource_metadata(self.url, ["https://auth.example.com"], ["orders:read"])
        self.reply: Reply | None = None
        self.challenge = f'Bearer realm="api", resource_metadata="{self.url}{RESOURCE_WELL_KNOWN}"'

    def answer(self, request: Seen) -> Reply:
        if request.path.startswith(RESOURCE_WELL_KNOWN):
            return self.reply or Reply(200, self.document, JSON)
        return Reply(401, {}, {"WWW-Authenticate": self.challenge})


@pytest.fixture
def api() -> Iterator[DescribedApi]:
    with DescribedApi() as running:
        yield running


@pytest.fixture
def attacker() -> Iterator[Server]:
    with Server() as running:
        yield running
        assert running.seen == []


def machine(issuer: str) -> MachineClient:
    return MachineClient(issuer, "billing", generate_private_key("ES256"))


@pytest.mark.rule("CL-33", "RS-MD-04")
@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
def test_an_api_that_trusts_our_issuer(api: DescribedApi, library: Any) -> None:
    """From the 401, or from the identifier alone; nobody is sent a token."""
    client = machine("https://auth.example.com")
    found = ApiMetadata(api.url, ("https://auth.example.com",), ("orders:read",))
    with library.Client(trust_env=False) as http:
        assert client.check_api(api.url, http.get(f"{api.url}/orders")) == found
    assert client.check_api(api.url) == found
    assert [request.header("authorization") for request in api.seen] == [None] * 3
    assert [request.method for request in api.seen] == ["GET"] * 3


@pytest.mark.rule("CL-33", "RS-MD-05")
def test_an_api_that_names_other_issuers(api: DescribedApi, attacker: Server) -> None:
    """An error that names both sides; the issuers in the list are not asked, whoever they are."""
    api.document = resource_metadata(
        api.url, [attacker.url, "https://b.example", "https://c.example", "https://d.example"]
    )
    with pytest.raises(IssuerNotTrusted) as caught:
        machine("https://auth.example.com").check_api(api.url, httpx.get(api.url, trust_env=False))
    said = str(caught.value)
    assert f"{api.url} trusts {attacker.url}, https://b.example, https://c.example and 1 more" in said
    assert "this client is of https://auth.example.com" in said
    assert caught.value.issuers[0] == attacker.url


@pytest.mark.rule("CL-33", "FO-20")
def test_an_issuer_that_is_nearly_ours(api: DescribedApi) -> None:
    """Compared letter by letter, with what the eye passes over."""
    with pytest.raises(IssuerNotTrusted, match="they differ by the trailing slash only"):
        machine("https://auth.example.com/").check_api(api.url)


@pytest.mark.rule("CL-33")
def test_an_api_that_names_nobody(api: DescribedApi) -> None:
    """The list is optional (RFC 9728 2): then nothing follows from it."""
    api.document = {"resource": api.url}
    assert machine("https://auth.example.com").check_api(api.url) == ApiMetadata(api.url)


@pytest.mark.rule("RS-MD-04")
@pytest.mark.parametrize("other", ["{url}/", "{url}/orders", "https://orders.example.com", 7, None])
def test_metadata_of_another_api(api: DescribedApi, other: Any) -> None:
    """Nothing of them is used, also where our issuer is in them."""
    api.document = {**api.document, "resource": other.format(url=api.url) if isinstance(other, str) else other}
    with pytest.raises(MetadataInvalid, match="another API"):
        machine("https://auth.example.com").check_api(api.url)


@pytest.mark.rule("RS-MD-04")
@pytest.mark.parametrize(
    "named",
    ["{attacker}/x", "http://169.254.169.254/latest", "file:///etc/passwd", "//x", "https://u@127.0.0.1/", "\\"],
)
def test_an_address_that_is_not_at_home(api: DescribedApi, attacker: Server, named: str) -> None:
    """What answers in the API's place cannot send us anywhere."""
    api.challenge = f'Bearer resource_metadata="{named.format(attacker=attacker.url)}"'
    response = httpx.get(api.url, trust_env=False)
    if named != "\\":  # that one is no challenge at all
        with pytest.raises(MetadataInvalid, match="they were not read"):
            machine("https://auth.example.com").check_api(api.url, response)
    assert len(api.seen) == 1


@pytest.mark.rule("RS-MD-04")
@pytest.mark.parametrize(
    "reply",
    [
        Reply(404, "<h1>no</h1>"),
        Reply(302, "", {"Location": "/elsewhere"}),
        Reply(200, "{}", {"Content-Type": "text/html"}),
        Reply(200, "[]", JSON),
        Reply(200, '{"resource": "a", "resource": "b"}', JSON),
        Reply(200, {"resource": "x", "authorization_servers": "https://a"}, JSON),
        Reply(200, {"resource": "x", "scopes_supported": [1]}, JSON),
    ],
    ids=["404", "302", "HTML", "array", "twice", "no array", "no strings"],
)
def test_what_is_no_metadata(api: DescribedApi, reply: Reply) -> None:
    """One error, one request, and the id that the API gave it."""
    api.reply = Reply(reply.status, reply.body, {**reply.headers, "X-Request-Id": "r-17"})
    with pytest.raises(MetadataInvalid) as caught:
        machine("https://auth.example.com").check_api(api.url)
    assert caught.value.request_id == "r-17"
    assert len(api.seen) == 1


@pytest.mark.rule("RS-MD-04", "C07")
def test_bounds(api: DescribedApi) -> None:
    """Too large, too slow, out of order: the errors of any other exchange."""
    client = MachineClient("https://auth.example.com", "billing", generate_private_key("ES256"), timeout=0.5)
    api.reply = Reply(200, b" " * 70_000, JSON)
    with pytest.raises(TokenResponseInvalid, match="longer than 65536"):
        client.check_api(api.url)
    api.reply = Reply(200, b" " * 100, JSON, drip=0.05)
    with pytest.raises(ServerUnreachable):
        client.check_api(api.url)
    api.reply = Reply(503, "", {"X-Request-Id": "r-18"})
    with pytest.raises(ServerUnreachable) as caught:
        client.check_api(api.url)
    assert caught.value.request_id == "r-18"


@pytest.mark.rule("RS-MD-04")
@pytest.mark.parametrize("resource", ["urn:example:orders", "http://orders.example.com", "orders", ""])
def test_what_has_no_metadata(resource: str) -> None:
    """An identifier that is no https URL."""
    with pytest.raises(ConfigError):
        machine("https://auth.example.com").check_api(resource)


@pytest.mark.rule("CL-33")
def test_text_of_an_api_is_foreign(api: DescribedApi) -> None:
    """Made printable, cut, and masked where it looks like a secret."""
    api.document = {"resource": api.url, "authorization_servers": ["https://x/\x1b[31m", "eyJ" + "a" * 60]}
    with pytest.raises(IssuerNotTrusted) as caught:
        machine("https://auth.example.com").check_api(api.url)
    assert "\x1b" not in str(caught.value)
    assert "eyJaaa" not in str(caught.value)


@pytest.mark.rule("CL-33")
@pytest.mark.parametrize(
    ("challenge", "found"),
    [
        ('Bearer resource_metadata="https://a/x"', "https://a/x"),
        ('Basic realm="x", DPoP algs="ES256", resource_metadata="https://a/x"', "https://a/x"),
        ('Bearer realm="resource_metadata=https://evil"', None),
        ("Bearer", None),
        ('Bearer resource_metadata=""', None),
    ],
)
def test_where_a_challenge_names_it(challenge: str, found: str | None) -> None:
    """Of any scheme (RFC 9728 5.1)."""
    assert named_metadata(httpx.Response(401, headers={"WWW-Authenticate": challenge})) == found
