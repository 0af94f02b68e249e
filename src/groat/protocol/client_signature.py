"""Whether a JWT is signed by a key of the client that it names; what is not takes the same time, whoever is registered.

Refusals: docs/decisions/0025-equal-refusals.md.
"""

from typing import Final

from groat.protocol import jose
from groat.protocol.errors import InvalidClient, JoseError
from groat.protocol.jwk import PublicKey, decoy_key, printable
from groat.protocol.key_limits import UNLIMITED, OutOfTime
from groat.protocol.models import Client
from groat.protocol.platforms import platform_hint
from groat.protocol.shell import command

_DECOY_BITS: Final = (2048, 3072, 4096)
_NOBODY: Final = Client("nobody", (decoy_key("ES256"),))


def prove_signature(
    jwt: jose.UnverifiedJwt, client_id: str, client: Client | None, now: float, tolerance: float
) -> PublicKey:
    """Check the signature; where there is no key to check it with, a decoy makes that cost the same.

    A key outside its limits is no key of the client; that is looked at after the signature, so that only its owner can
    take that step and nobody else can time it. `tolerance`: how far ahead its not-before may lie, in seconds.
    """
    key = None if client is None else _key_of(client, jwt.header, now, tolerance)
    if client is None or key is None or not fits_size(jwt, key):
        check_nothing(jwt)
    elif _verified(jwt, key):
        if client.limits and (fault := client.limits.get(key.kid, UNLIMITED).fault(now, tolerance)):
            raise _out_of_time(client_id, key, fault)
        return key
    refusal = _no_proof(jwt, client_id, client, key)
    refusal.unproven = True
    raise refusal


def _key_of(client: Client, header: jose.Header, now: float, tolerance: float) -> PublicKey | None:
    """The key that the header means; where no kid says which, those out of time make no choice ambiguous."""
    key = jose.find_key(header, client.keys)
    if key is not None or header.kid is not None or not client.limits:
        return key
    counting = [key for key in client.keys if not client.limits.get(key.kid, UNLIMITED).fault(now, tolerance)]
    return jose.find_key(header, counting)


def _out_of_time(name: str, key: PublicKey, fault: OutOfTime) -> InvalidClient:
    what, option = ("has expired", "--expires") if fault is OutOfTime.EXPIRED else ("is not valid yet", "--not-before")
    remedy = command("client key update", name, key.kid, options=f"{option} WHEN")
    return InvalidClient(fault.value, f"key {printable(key.kid)} {what}. {remedy}")


def _verified(jwt: jose.UnverifiedJwt, key: PublicKey) -> bool:
    try:
        jose.verify_signature(jwt, key)
    except JoseError:
        return False
    return True


def fits_size(jwt: jose.UnverifiedJwt, key: PublicKey) -> bool:
    """RSA fails at once on a signature of another size than the modulus: that would tell that there is a key."""
    if jwt.header.algorithm.key_type != "RSA":
        return True
    return bool(key.native.key_size == len(jwt.signature) * 8)


def check_nothing(jwt: jose.UnverifiedJwt) -> None:
    """Spend what the check of this signature would cost, where there is no key to check it with."""
    _verified(jwt, _decoy(jwt))


def _decoy(jwt: jose.UnverifiedJwt) -> PublicKey:
    bits = len(jwt.signature) * 8
    return decoy_key(jwt.header.algorithm.name, bits if bits in _DECOY_BITS else _DECOY_BITS[0])


def _no_proof(jwt: jose.UnverifiedJwt, name: str, client: Client | None, key: PublicKey | None) -> InvalidClient:
    """Why there is no proof. Every case does the same work and says about as much: both take time that can be seen."""
    header, foreign = jwt.header, platform_hint(jwt.claims)
    reason, hint = jose.no_key(header, (client or _NOBODY).keys)
    if foreign:  # the claims alone decide: it tells nothing about who is registered
        code = "client_unknown" if client is None else "assertion_signature" if key else "assertion_key"
        return InvalidClient(code, foreign)
    if client is None:
        # Some 150 characters, as those below: docs/benchmarks.md, "Who is registered".
        return InvalidClient(
            "client_unknown",
            f"{hint}: no client {printable(name)} is registered. "
            + command("client add", name, options="--allow API=SCOPE --public-key FILE"),
        )
    if key is not None:
        signed = f"not signed by key {printable(key.kid)} of {name}, or changed since"
        return InvalidClient(
            "assertion_signature", f"{signed}; its owner may have a new key. {command('client key list', name)}"
        )
    code, remedy = "assertion_algorithm", command("client key list", name)
    if reason == "key_unknown":
        code = "assertion_key"
        if client.settings.jwks_uri is not None:
            remedy = f"it publishes its keys: this one must be at its jwks_uri. {command('client show', name)}"
        elif header.kid is not None:
            remedy = command("client key add", name, options="FILE")
    return InvalidClient(code, f"{hint}; registered: {client.shown_keys}. {remedy}")
