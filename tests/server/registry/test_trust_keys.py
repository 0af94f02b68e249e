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
from groat.server.endpoints.workloads import NoKey, Workloads
from groat.server.registry.host_turns import HostTurns
from groat.server.registry.trust_keys import TrustKeys, _place
from groat.server.registry.trusts import Trusts
from tests.key_set_server import KEY, LOOPBACK, Target, http, target
from tests.protocol.federation.platforms import GENERIC, SPIFFE
from tests.server.registry.test_registry import Scene


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


def bundle(path: Path, sequence: int = 1) -> str:
    listed = [{**KEY.public.jwk, "use": "jwt-svid"}]
    path.write_text(json.dumps({"keys": listed, "spiffe_sequence": sequence}))
    return str(path)


def test_what_belongs_to_a_trust_goes_with_it(tmp_path: Path) -> None:
    """Its set and the number of its bundle; and a fetch that comes too late says so."""
    told = list[str]()

    async def work() -> None:
        keys = TrustKeys(report=lambda host, why: told.append(why))
        trust = replace(SPIFFE.trust, source=KeySource(SourceKind.FILE, bundle(tmp_path / "one.json")))
        keys.keep({trust.issuer: trust})
        keys.sets.tend()
        keys.keep({})  # while it is being read
        await keys.sets.settle(5)
        nobodys = dict[str, Trust]()
        keys.keep(nobodys)
        assert not keys.sets._sets
        assert not keys._sequences
        keys.keep({trust.issuer: trust})
        keys.sets.tend()
        await keys.sets.settle(5)
        assert keys._sequences == {_place(trust): 1}
        assert [key.kid for key in keys.at_hand(trust)] == [KEY.kid]
        keys.keep({})
        assert not keys._sequences
        keys.sets.at_hand(_place(trust))
        await keys.sets.settle(5)

    asyncio.run(work())
    assert told[-1] == "its trust was removed"


def test_newer_keys_are_news_only_where_others_came(tmp_path: Path) -> None:
    """A forged kid does not cost a second signature: not for a copied set, nor in the pause, nor before any came."""

    async def work() -> None:
        async with Scene(tmp_path) as scene:
            keys = TrustKeys()
            workloads = Workloads(scene.registry, Trusts(scene.store, scene.registry), keys)

            async def news(trust: Trust, found: tuple[PublicKey, ...]) -> bool:
                return await workloads.newer_keys(NoKey("no key", trust, found), 5)

            copied = replace(
                GENERIC.trust, source=KeySource(SourceKind.COPIED, json.dumps({"keys": [dict(KEY.public.jwk)]}))
            )
            assert not await news(copied, keys.at_hand(copied))
            file = replace(SPIFFE.trust, source=KeySource(SourceKind.FILE, bundle(tmp_path / "one.json")))
            assert await news(file, keys.at_hand(file)), "they came after the token was judged"
            assert await news(file, keys.at_hand(file)), "asked for, and read anew"
            assert not await news(file, keys.at_hand(file)), "in the pause"
            assert await news(file, ()), "what came before this was asked"
            missing = replace(file, source=KeySource(SourceKind.FILE, str(tmp_path / "none.json")))
            assert not await news(missing, keys.at_hand(missing))

    asyncio.run(work())


def test_files_have_turns_of_their_own(tmp_path: Path) -> None:
    """A disk that hangs holds up its own files; and the turns are those of the caller, so the bounds are, too."""

    async def work() -> None:
        turns = HostTurns()
        keys = TrustKeys(turns=turns)
        one, other = (
            replace(SPIFFE.trust, source=KeySource(SourceKind.FILE, bundle(tmp_path / name))) for name in ("a", "b")
        )
        async with turns.turn(str(tmp_path / "a"), troubled=False), turns.turn(str(tmp_path / "a"), troubled=False):
            keys.keep({"one": one, "other": other})
            keys.sets.tend()
            await keys.sets.settle(0.5)
            assert keys.at_hand(one) == ()
            assert [key.kid for key in keys.at_hand(other)] == [KEY.kid]
        await keys.sets.settle(5)
        assert [key.kid for key in keys.at_hand(one)] == [KEY.kid]

    asyncio.run(work())
