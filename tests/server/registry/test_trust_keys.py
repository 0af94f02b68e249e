"""The keys of trusted issuers from where they publish them: discovery, and bundles that must not go back."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from groat.outbound import published
from groat.protocol.federation.trust import KeySource, SourceKind, Trust
from groat.protocol.jwk import PublicKey
from groat.server.registry.trust_keys import TrustKeys
from tests.key_set_server import KEY, LOOPBACK, Target, http, target
from tests.protocol.federation.platforms import GENERIC, SPIFFE


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """A server whose certificate the system's authorities vouch for."""
    with target(tmp_path) as (made, _):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        published._tls.cache_clear()
        yield made
    published._tls.cache_clear()


def look(keys: TrustKeys, trust: Trust) -> tuple[PublicKey, ...]:
    """What is at hand after one look at where they are."""

    async def work() -> tuple[PublicKey, ...]:
        keys.at_hand(trust)
        await keys.sets.settle(5)
        return keys.at_hand(trust)

    return asyncio.run(work())


@pytest.mark.rule("AS-JB-08")
@pytest.mark.parametrize(
    "wrong",
    [{}, {"issuer": "https://other.example"}, {"issuer": None}, {"jwks_uri": "http://127.0.0.1/"}, {"jwks_uri": 7}],
)
def test_discovery(server: Target, wrong: dict[str, Any]) -> None:
    """Only metadata that speak for the issuer lead to its keys; of others nothing is used, and somebody is told."""
    issuer, told = server.uri.removesuffix("/keys"), list[tuple[str, str]]()
    # One answer for both addresses: the metadata and the set.
    document = {"issuer": issuer, "jwks_uri": server.uri, "keys": [dict(KEY.public.jwk)], **wrong}
    server.answer = http(json.dumps(document).encode())
    trust = replace(GENERIC.trust, issuer=issuer, source=KeySource(SourceKind.DISCOVERY))
    keys = TrustKeys(LOOPBACK, lambda host, why: told.append((host, why)))
    found = look(keys, trust)
    assert [key.kid for key in found] == ([] if wrong else [KEY.kid])
    assert ("the metadata of the issuer" in told[-1][1]) is bool(wrong), told
    assert server.hits == (1 if wrong else 2)


@pytest.mark.rule("AS-SP-07")
def test_a_bundle_does_not_go_back(tmp_path: Path) -> None:
    """An older one is not taken: the keys of the newer one stay."""
    file, told = tmp_path / "bundle.json", list[str]()
    trust = replace(SPIFFE.trust, source=KeySource(SourceKind.FILE, str(file)))
    keys = TrustKeys(report=lambda host, why: told.append(why))

    def write(sequence: int, *entries: PublicKey) -> None:
        listed = [{**entry.jwk, "use": "jwt-svid"} for entry in entries]
        file.write_text(json.dumps({"keys": listed, "spiffe_sequence": sequence}))

    write(7, KEY.public)
    assert [key.kid for key in look(keys, trust)] == [KEY.kid]
    write(6)

    async def again() -> tuple[PublicKey, ...]:
        keys.ask(trust)
        await keys.sets.settle(5)
        return keys.at_hand(trust)

    assert [key.kid for key in asyncio.run(again())] == [KEY.kid]
    assert "an older one" in told[-1]
