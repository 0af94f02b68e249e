"""Random registries with everything in them that an operator can register, made by the operations that do so."""

import json
import string
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from groat.protocol.binding import Binding
from groat.protocol.client_settings import CLIENT_SETTINGS, ClientSettings
from groat.protocol.federation.claim_paths import parse_path
from groat.protocol.federation.conditions import Condition
from groat.protocol.federation.trust import KeySource, Replay, SourceKind, Use
from groat.protocol.jwk import PublicKey, generate_private_key, import_public_jwk
from groat.protocol.key_limits import KeyLimits
from groat.protocol.unset import UNSET, Unset
from groat.server import operations
from groat.server.operations import Operator, TrustChange

NOW: Final = 1_800_000_000
SCOPES: Final = ("read", "write", "orders:read", "https://scopes.example/all", "a'b#c=d[e]")
_ODD: Final = "aZ09._-~!#$%&'()*+,/:;<=>?@[]^`{|}"
_TEXTS: Final = ("x", "team billing", 'says "so"', "it's", "Bücher & Söhne", "# no comment", "a = [1]", "日本")


def text(random: Random) -> str:
    return random.choice(_TEXTS) + str(random.randrange(100))


NAMED: Final = {
    "certificate_dns": "billing.example.com",
    "certificate_uri": "spiffe://prod/billing",
    "certificate_dn": "CN=billing,O=Example",
    "certificate_ip": "10.0.0.1",
    "certificate_email": "billing@example.com",
}


@cache
def certificate() -> str:
    """One, as a setting has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name.from_rfc4514_string("CN=billing")
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    made = made.serial_number(7).not_valid_before(moment).not_valid_after(moment + timedelta(days=9000))
    return b64encode(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)).decode()


# One for each setting: a new one without a row here fails every test that makes registries.
SAMPLES: Final[Mapping[str, Callable[[Random, Sequence[str]], Any]]] = {
    "default_scopes": lambda random, granted: random.sample(granted, random.randint(0, len(granted))),
    "grant_types": lambda random, _: random.choice([("client_credentials",), ("client_credentials", "other")]),
    "assertion_audience": lambda random, _: random.choice(["issuer", "issuer-or-token-endpoint"]),
    "max_assertion_lifetime": lambda random, _: random.choice([None, 10, 61, 300, 3600]),
    "signing_alg": lambda random, _: random.choice([None, "ES256", "Ed25519", "PS256"]),
    "strict_typ": lambda random, _: random.random() < 0.5,
    "jwks_uri": lambda random, _: random.choice([None, "https://billing.example/keys?a=1&b='x'"]),
    "token_lifetime": lambda random, _: random.choice([None, 60, 61, 300, 3600]),
    "scope_policy": lambda random, _: random.choice(["strict", "narrow"]),
    "claims": lambda random, _: {f"https://x.example/{n}": text(random) for n in range(random.randint(0, 2))},
    "owner": lambda random, _: random.choice([None, text(random)]),
    "labels": lambda random, _: {f"a.b/{n}": text(random) for n in range(random.randint(0, 2))},
    "binding": lambda random, _: random.choice(["none", "dpop", "any"]),
    "certificates": lambda random, _: random.choice([(), (certificate(),)]),
    # An authority goes with one name, so these are chosen together.
    "certificate_ca": lambda random, _: (),
    **dict.fromkeys(NAMED, lambda random, _: None),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of trust: what it is called, whose tokens, and conditions that its preset takes."""

    preset: str
    issuer: str
    match: tuple[str, ...]
    allow: frozenset[str] = frozenset()


KINDS: Final = (
    Kind("", "https://ci.example/{}", ("sub=robot {}", '"a.b".user_id:=1,2')),
    Kind("kubernetes", "https://cluster-{}.example", ('"kubernetes.io".namespace=ns-{}',), frozenset({"default"})),
    Kind("github", "https://token.actions.githubusercontent.com", ("repository_owner_id=65", "repository_id={}", "environment=prod")),
    Kind("spiffe", "spiffe://prod-{}.example", ("sub^=spiffe://prod-{}.example/ns/",)),
)  # fmt: skip


@cache
def _pool() -> tuple[PublicKey, ...]:
    algorithms = ["ES256"] * 12 + ["Ed25519"] * 8 + ["ES384", "ES512", "RS256", "PS256"]
    return tuple(generate_private_key(name, 2048).public for name in algorithms)


async def fill(operator: Operator, random: Random) -> None:
    """Register some of everything."""
    keys = random.sample(_pool(), len(_pool()))
    names = [f"{number}{random.choice(string.ascii_letters + '._-')}" for number in range(random.randint(1, 4))]
    for name in names:
        lifetime, binding = random.choice([None, 60, 900, 3599]), random.choice([Binding.NONE, Binding.DPOP])
        scopes = random.sample(SCOPES, random.randint(0, len(SCOPES)))
        await operations.add_api(
            operator, name, f"https://{name}.example/'a'?b=#"[:-1], scopes, operations.ApiTerms(lifetime, binding)
        )
        for _ in range(random.randint(0, 2)):
            await operations.add_api_keys(operator, name, [keys.pop()])
    trusts = [await _trust(operator, random, number) for number in range(random.randint(0, 3))]
    for number in range(random.randint(0, 4)):
        await _client(operator, random, f"{number}{''.join(random.choices(_ODD, k=6))}", keys)
        for _ in range(random.randint(0, 2) if trusts else 0):
            await _rule(operator, random, random.choice(trusts))


async def _client(operator: Operator, random: Random, name: str, keys: list[PublicKey]) -> None:
    allow = {
        api.name: random.sample(api.scopes, random.randint(1, len(api.scopes)))
        for api in await operations.list_apis(operator)
        if api.scopes and random.random() < 0.7
    }
    granted = sorted({scope for scopes in allow.values() for scope in scopes})
    assert SAMPLES.keys() == CLIENT_SETTINGS.keys()
    chosen = {name: sample(random, granted) for name, sample in SAMPLES.items() if random.random() < 0.5}
    if random.random() < 0.3:
        chosen |= {"certificate_ca": (certificate(),)} | dict([random.choice(sorted(NAMED.items()))])
    await operations.add_client(operator, name, allow, None, ClientSettings(**chosen))
    for _ in range(min(random.randint(0, 3), len(keys))):
        key = keys.pop()
        kid = random.choice([key.kid, f"{text(random)} {len(keys)}"])
        renamed = import_public_jwk({**key.jwk, "kid": kid})
        begin = random.choice([None, NOW - 900, 0])
        end = random.choice([None, NOW - 60, NOW + 86400])
        await operations.add_client_keys(operator, name, [renamed], KeyLimits(begin, end), ended=True)
    if random.random() < 0.3:
        await operations.enable_client(operator, name, enabled=False)


async def _trust(operator: Operator, random: Random, number: int) -> tuple[str, Kind, int]:
    kind, name = KINDS[(number + random.randrange(4)) % 4 if number == 0 else number], f"t{number}"
    replays: list[Replay | Unset] = [UNSET, Replay.ONCE, Replay.REUSE]
    uses: list[frozenset[Use] | Unset] = [UNSET, frozenset({Use.GRANT}), frozenset({Use.AUTHENTICATION})]
    audiences: list[tuple[str, ...] | Unset] = [UNSET, ("https://as.example", text(random))]
    lifetimes: list[int | Unset] = [UNSET, 60, 3600, 3601]
    change = TrustChange(
        source=_source(random, kind),
        audiences=random.choice(audiences),
        max_lifetime=random.choice(lifetimes),
        replay=UNSET if kind.preset == "spiffe" else random.choice(replays),
        uses=random.choice(uses),
    )
    taken = {record.trust.issuer for record in await operations.list_trusts(operator)}
    if (issuer := kind.issuer.format(number)) in taken:
        kind = KINDS[0]
        issuer = kind.issuer.format(number)
        change = TrustChange(source=KeySource(SourceKind.DISCOVERY))
    await operations.add_trust(operator, name, issuer, kind.preset, change)
    if random.random() < 0.3:
        await operations.enable_trust(operator, name, enabled=False)
    return name, kind, number


def _source(random: Random, kind: Kind) -> KeySource:
    if kind.preset == "spiffe":
        return KeySource(SourceKind.FILE, "/run/spire/it's.json")
    keys = [{**key.jwk, "x5c": None, "n1": 1.5} for key in _pool() if key.algorithm in ("ES256", "RS256")]
    copied = json.dumps({"keys": keys}, indent=random.choice([None, 2]))
    return random.choice(
        [
            KeySource(SourceKind.COPIED, copied),
            KeySource(SourceKind.FILE, "/etc/groat/cluster.json"),
            KeySource(SourceKind.URI, "https://10.0.0.1/jwks", "/etc/ca.pem", "/run/token"),
            KeySource(SourceKind.DISCOVERY),
        ]
    )


async def _rule(operator: Operator, random: Random, trust: tuple[str, Kind, int]) -> None:
    name, kind, number = trust
    client = random.choice([one.record.client_id for one in await operations.list_clients(operator)])
    conditions = [
        Condition.parse(text.format(number if "spiffe" in text else random.randrange(9))) for text in kind.match
    ]
    copied = [parse_path(path) for path in random.sample(["sub", '"a.b".c'], random.randint(0, 2))]
    allows = kind.allow if random.random() < 0.5 else frozenset[str]()
    await operations.add_rule(operator, client, name, conditions, copied, allows)
