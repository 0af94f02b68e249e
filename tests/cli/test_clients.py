"""`groat client`: registering, changing, switching off and removing those who may ask."""

import json
from base64 import b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from groat.keys import files
from groat.protocol.certificate_names import NAMES
from groat.protocol.jwk import PrivateKey, base64url_decode, base64url_encode, generate_private_key, import_private_jwk
from tests.certificates import Wish, issued

from .running import Home

ALLOW = ("--allow", "orders=orders:read")
Command = tuple[str, ...]


def public_jwk(key: PrivateKey, **members: Any) -> str:
    """The public half as JSON, with these members on top."""
    return json.dumps({**key.public.jwk, **members})


def ids(home: Home) -> list[str]:
    """Every registered client."""
    return home.ok("-q", "client", "list").out.split()


def kids(home: Home, client_id: str) -> list[str]:
    """The kids of a client."""
    return home.ok("-q", "client", "key", "list", client_id).out.split()


def test_a_client_is_shown_as_it_was_registered(home: Home) -> None:
    """Every setting that add takes is in the answer, and in every later one."""
    settings: Command = (
        "--default-scope", "orders:read", "--assertion-audience", "issuer-or-token-endpoint",
        "--max-assertion-lifetime", "120", "--signing-alg", "Ed25519", "--strict-typ",
    )  # fmt: skip
    added = home.ok(
        "--json", "client", "add", "fleet", "--allow", "orders=orders:read,orders:write",
        "--new-key", "fleet.json", "--alg", "Ed25519", *settings,
    ).json  # fmt: skip
    assert added | {"created_at": 0} == {
        "client_id": "fleet",
        "allow": {"orders": ["orders:read", "orders:write"]},
        "created_at": 0,
        "enabled": True,
        "default_scopes": ["orders:read"],
        "grant_types": ["client_credentials"],
        "assertion_audience": "issuer-or-token-endpoint",
        "max_assertion_lifetime": 120,
        "signing_alg": "Ed25519",
        "strict_typ": True,
        "jwks_uri": None,
        "token_lifetime": None,
        "scope_policy": "strict",
        "claims": {},
        "owner": None,
        "labels": {},
        "binding": "none",
        "certificates": [],
        "certificate_ca": [],
        **dict.fromkeys(NAMES),
    }
    assert home.ok("--json", "client", "show", "fleet").json == added
    assert added | {"unused_since": added["created_at"]} in home.ok("--json", "client", "list").json


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        (("--allow", "orders=orders:write"), {"allow": {"orders": ["orders:write"]}}),
        (("--allow", "orders="), {"allow": {}}),
        (("--default-scope", "orders:read"), {"default_scopes": ["orders:read"]}),
        (("--assertion-audience", "issuer-or-token-endpoint"), {"assertion_audience": "issuer-or-token-endpoint"}),
        (("--max-assertion-lifetime", "10"), {"max_assertion_lifetime": 10}),
        (("--signing-alg", "EdDSA"), {"signing_alg": "Ed25519"}),
        (("--strict-typ",), {"strict_typ": True}),
        (("--lenient-typ",), {"strict_typ": False}),
        ((), {}),
    ],
)
def test_an_update_changes_what_it_names(home: Home, arguments: Command, changes: dict[str, Any]) -> None:
    """And leaves everything else as it was."""
    before = home.ok("--json", "client", "show", "billing").json
    assert home.ok("--json", "client", "update", "billing", *arguments).json == before | changes
    assert home.ok("--json", "client", "show", "billing").json == before | changes


def test_allow_may_be_given_several_times(home: Home) -> None:
    """For one API or for several; the scopes of one add up."""
    home.ok("api", "add", "stock", "--audience", "https://stock.example.com", "--scope", "s")
    allow = [word for value in ("orders=orders:read", "stock=s", "orders=orders:write") for word in ("--allow", value)]
    added = home.ok("--json", "client", "add", "both", *allow, "--new-key", "both.json").json
    assert added["allow"] == {"orders": ["orders:read", "orders:write"], "stock": ["s"]}


def test_disable_and_enable(home: Home) -> None:
    """The switch and its two ways."""
    assert home.ok("--json", "client", "disable", "billing").json["enabled"] is False
    assert home.ok("--json", "client", "show", "billing").json["enabled"] is False
    assert home.ok("--json", "client", "enable", "billing").json["enabled"] is True


@pytest.mark.rule("KEY-06", "KEY-07", "KEY-13")
@pytest.mark.parametrize("suffix", ["json", "pem"])
@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512", "Ed25519", "EdDSA", "RS256", "PS256"])
def test_a_new_key_is_registered_by_its_public_half(home: Home, algorithm: str, suffix: str) -> None:
    """The file holds the private half of the key that the store knows by its public one."""
    name = f"k.{suffix}"
    home.ok("client", "add", "new", *ALLOW, "--new-key", name, "--alg", algorithm, "--rsa-bits", "2048")
    key = files.read_private_key(home.directory / name, algorithm)
    (record,) = home.ok("--json", "client", "key", "list", "new").json
    assert record["jwk"] == dict(key.public.jwk)
    assert (record["kid"], record["algorithm"]) == (key.kid, key.algorithm)
    assert (home.directory / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.rule("KEY-02")
def test_a_new_rsa_key_has_3072_bits(home: Home) -> None:
    """Unless another size is asked for."""
    home.ok("client", "add", "rsa", *ALLOW, "--new-key", "rsa.json", "--alg", "RS256")
    assert len(base64url_decode(home.document("rsa.json")["n"])) == 384


@pytest.mark.rule("KEY-02")
@pytest.mark.parametrize("bits", ["1024", "2047", "0", "-1", "4097", "8193"])
def test_an_rsa_key_of_another_size_is_not_made(home: Home, bits: str) -> None:
    """No file, no client, exit code 3."""
    done = home("client", "add", "rsa", *ALLOW, "--new-key", "rsa.json", "--alg", "RS256", "--rsa-bits", bits)
    assert (done.code, done.out) == (3, "")
    assert "2048 to 4096 bits" in done.err
    assert not (home.directory / "rsa.json").exists()
    assert ids(home) == ["billing"]


@pytest.mark.rule("KEY-02", "KEY-15")
def test_a_small_rsa_key_is_not_registered(home: Home) -> None:
    """One line, without warnings of libraries around it."""
    small = rsa.generate_private_key(65537, 1024).public_key()
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    home.file("small.pem", small.public_bytes(serialization.Encoding.PEM, spki))
    done = home.script("client", "add", "small", *ALLOW, "--public-key", "small.pem")
    assert (done.code, done.out) == (3, "")
    assert (
        done.err == "groat: small.pem holds no usable public key: an RSA key needs 2048 to 4096 bits, and n has 1024\n"
    )


@pytest.mark.rule("ST-7", "KEY-15")
@pytest.mark.parametrize(
    ("bits", "exponent", "words"),
    [(4104, 65537, "needs 2048 to 4096 bits, and n has 4104"), (2048, 2**32 + 1, "exponent is over 2^32")],
)
def test_an_rsa_key_that_costs_too_much_is_not_registered(home: Home, bits: int, exponent: int, words: str) -> None:
    """As PEM and as JWK: exit code 3, and the line says what is the bound."""
    numbers = rsa.RSAPublicNumbers(exponent, (1 << bits - 1) | 1)
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    home.file("large.pem", numbers.public_key().public_bytes(serialization.Encoding.PEM, spki))
    members = {"n": numbers.n, "e": numbers.e}
    jwk = {name: base64url_encode(n.to_bytes((n.bit_length() + 7) // 8)).decode() for name, n in members.items()}
    home.file("large.json", json.dumps({"kty": "RSA", "alg": "RS256", **jwk}).encode())
    for file in ("large.pem", "large.json"):
        done = home("client", "add", "large", *ALLOW, "--public-key", file, "--alg", "RS256")
        assert (done.code, done.out) == (3, "")
        assert words in done.err
    assert ids(home) == ["billing"]


@pytest.mark.rule("KEY-08", "DEMO-19")
def test_a_new_key_does_not_go_over_a_file(home: Home) -> None:
    """The file stays, and nothing is registered."""
    home.file("precious", "old")
    done = home("client", "add", "new", *ALLOW, "--new-key", "precious")
    assert (done.code, done.out) == (3, "")
    assert "precious exists; nothing was written" in done.err
    assert (home.directory / "precious").read_text() == "old"
    assert ids(home) == ["billing"]


@pytest.mark.rule("AS-CA-21", "KEY-08")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("billing", *ALLOW), 3, "exists"),
        (("a b", *ALLOW), 3, "client id must be 1 to 128"),
        (("a\nb", *ALLOW), 3, "client id must be 1 to 128"),
        (("", *ALLOW), 3, "client id must be 1 to 128"),
        (("ü", *ALLOW), 3, "client id must be 1 to 128"),
        (("x" * 129, *ALLOW), 3, "client id must be 1 to 128"),
        (("new", "--allow", "nothing=x"), 3, "no API nothing; registered: groat-admin, orders"),
        (("new", "--allow", "orders=delete"), 3, "API orders has no scope delete; it has: orders:read orders:write"),
        (("new", "--allow", "orders"), 2, "--allow takes API=scope,scope, not 'orders'"),
        (("new", "--allow", "=x"), 2, "--allow takes API=scope,scope"),
        (("new", *ALLOW, "--default-scope", "orders:write"), 3, "not among the allowed ones"),
        (("new", *ALLOW, "--max-assertion-lifetime", "9"), 3, "must be 10 to 3600 seconds"),
        (("new", *ALLOW, "--max-assertion-lifetime", "3601"), 3, "must be 10 to 3600 seconds"),
        (("new", *ALLOW, "--alg", "HS256"), 2, "'HS256' is not one of"),
        (("new", *ALLOW, "--assertion-audience", "any"), 2, "'any' is not one of"),
        (("new",), 2, "Missing option '--allow'"),
        (("new", *ALLOW, "--jwks", "x"), 2, "give exactly one of"),
    ],
)
def test_a_client_that_cannot_be_registered_leaves_no_key(home: Home, arguments: Command, code: int, said: str) -> None:
    """Whatever the reason: no client, no file, one reason on standard error."""
    before = home.snapshot().keys()
    done = home("client", "add", *arguments, "--new-key", "left.json")
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert home.snapshot().keys() == before
    assert ids(home) == ["billing"]


def test_one_source_of_keys_is_needed(home: Home) -> None:
    """A client without any could never authenticate."""
    done = home("client", "add", "new", *ALLOW)
    assert (done.code, "give exactly one of --new-key, --jwks, --public-key" in done.err) == (2, True)


@pytest.mark.rule("AS-MT-01", "AS-MT-02")
def test_a_client_that_is_known_by_certificates(home: Home) -> None:
    """Itself or by who signs it: files in PEM or DER, several of them, and no key besides; a bad file leaves nothing."""
    one, two = issued(Wish("CN=one")), issued(Wish("CN=two"))
    authority, other = (issued(Wish(f"CN={name}", authority=True)) for name in ("ca", "other"))
    (home.directory / "one.pem").write_bytes(one.pem + two.pem)
    (home.directory / "two.der").write_bytes(two.der)
    (home.directory / "ca.pem").write_bytes(authority.pem + other.pem)
    added = home.ok("--json", "client", "add", "self", *ALLOW, "--certificate", "one.pem").json
    assert added["certificates"] == [b64encode(made.der).decode() for made in (one, two)]
    updated = home.ok("--json", "client", "update", "self", "--certificate", "two.der", "--binding", "mtls").json
    assert (updated["certificates"], updated["binding"]) == ([b64encode(two.der).decode()], "mtls")
    signed = ("--certificate-ca", "ca.pem", "--certificate-dn", "CN=a, O=b")
    named = home.ok(
        "--json", "client", "add", "named", *ALLOW, "--certificate-ca", "ca.pem", "--certificate-ip", "::1"
    ).json
    assert (len(named["certificate_ca"]), named["certificate_ip"]) == (2, "::1")
    assert home.ok("--json", "client", "key", "list", "named").json == []
    for arguments, code, said in (
        (("--certificate", "ca.key"), 3, "ca.key"),
        (("--certificate", "groat.toml"), 3, "holds no certificate"),
        (("--certificate-ca", "ca.pem"), 3, "belong together"),
        (("--certificate-dns", "a.example"), 2, "give exactly one of"),
        ((*signed, "--certificate-dns", "a.example"), 3, "certificate_dn"),
        (("--certificate-ca", "ca.pem", "--certificate-dns", "*.example"), 3, "there are no wildcards"),
    ):
        done = home("client", "add", "bad", *ALLOW, *arguments)
        assert (done.code, done.out) == (code, ""), arguments
        assert said in done.err
    assert "bad" not in ids(home)


@pytest.mark.rule("AS-CA-21")
def test_a_removed_id_is_never_given_again(home: Home) -> None:
    """A token or log line of the old client can never be taken for one of a new one."""
    home.ok("--yes", "client", "remove", "billing")
    assert ids(home) == []
    done = home("client", "add", "billing", *ALLOW, "--new-key", "again.json")
    assert (done.code, "never reassigned" in done.err) == (3, True)
    assert not (home.directory / "again.json").exists()


@pytest.mark.rule("AS-CA-22", "DEMO-01")
def test_one_key_belongs_to_one_client(home: Home) -> None:
    """Neither by add nor by key add, and under no other kid."""
    key = import_private_jwk(home.document("billing.key.json"))
    home.file("other.json", public_jwk(key, kid="other"))
    for command in (("client", "add", "second", *ALLOW, "--jwks"), ("client", "key", "add", "third")):
        if command[1] == "key":
            home.ok("client", "add", "third", *ALLOW, "--new-key", "third.json")
        done = home(*command, "other.json")
        assert (done.code, "one key, one owner" in done.err) == (3, True)
    assert ids(home) == ["billing", "third"]
    assert len(kids(home, "third")) == 1


@pytest.mark.rule("AS-CA-22", "KEY-01", "DEMO-01")
def test_the_issuers_key_is_no_clients_key(home: Home) -> None:
    """Nobody could tell a token of the issuer from an assertion of such a client."""
    home.file("issuer.json", home.ok("key", "export", "--format", "jwk").out)
    home.file("issuer.pem", home.ok("key", "export", "--format", "pem").out)
    for command in (
        ("client", "add", "evil", *ALLOW, "--jwks", "issuer.json"),
        ("client", "add", "evil", *ALLOW, "--public-key", "issuer.pem"),
        ("client", "key", "add", "billing", "issuer.json"),
    ):
        done = home(*command)
        assert (done.code, done.out) == (3, "")
        assert "one key, one owner" in done.err
    assert ids(home) == ["billing"]


@pytest.mark.rule("KEY-10", "K05")
def test_two_keys_of_a_client_have_two_kids(home: Home) -> None:
    """The message is about the kid, and not about the client."""
    first, second = generate_private_key("ES256"), generate_private_key("ES256")
    jwks = {"keys": [json.loads(public_jwk(key, kid="same")) for key in (first, second)]}
    home.file("twins.json", json.dumps(jwks))
    done = home("client", "add", "twins", *ALLOW, "--jwks", "twins.json")
    assert (done.code, done.out) == (3, "")
    assert "kid" in done.err
    assert "never reassigned" not in done.err
    assert ids(home) == ["billing"]


@pytest.mark.rule("AS-CA-22")
def test_registering_a_key_again_is_not_called_somebody_elses(home: Home) -> None:
    """The owner is this client itself, and the message says so."""
    key = import_private_jwk(home.document("billing.key.json"))
    home.file("again.json", public_jwk(key))
    done = home("client", "key", "add", "billing", "again.json")
    assert done.code == 3
    assert "somebody else" not in done.err


@pytest.mark.rule("KEY-17", "KEY-14")
@pytest.mark.parametrize("form", ["jwk", "jwks", "pem"])
def test_a_private_key_is_not_registered(home: Home, form: str) -> None:
    """By whichever way it comes: refused, and not a character of it is shown."""
    key = generate_private_key("ES256")
    text = {
        "jwk": json.dumps(key.private_jwk()),
        "jwks": json.dumps({"keys": [key.private_jwk()]}),
        "pem": files.private_key_bytes(key, pem=True).decode(),
    }[form]
    home.file("private", text)
    option = "--public-key" if form == "pem" else "--jwks"
    for command in (("add", "leak", *ALLOW, option, "private"), ("key", "add", "billing", "private")):
        done = home("--debug", "-v", "client", *command)
        assert (done.code, done.out) == (3, "")
        assert "private" in done.err
        assert str(key.private_jwk()["d"]) not in done.err
        assert "BEGIN" not in done.err
    assert ids(home) == ["billing"]


@pytest.mark.rule("KEY-23")
def test_a_client_changes_over_to_a_new_key(home: Home) -> None:
    """Both are registered for a while, then the old one goes."""
    old = kids(home, "billing")
    new = generate_private_key("Ed25519")
    home.file("new.pub", files.public_key_pem(new.public))
    (added,) = home.ok("--json", "client", "key", "add", "billing", "new.pub").json
    assert (added["kid"], added["client_id"], added["algorithm"]) == (new.kid, "billing", "Ed25519")
    assert sorted(kids(home, "billing")) == sorted([*old, new.kid])
    removed = home.ok("--json", "client", "key", "remove", "billing", "--", *old).json
    assert removed == {"client_id": "billing", "kid": old[0], "outcome": "removed"}
    assert kids(home, "billing") == [new.kid]


@pytest.mark.rule("KEY-23")
def test_a_kid_may_begin_with_a_dash(home: Home) -> None:
    """One thumbprint in 64 does; the command line takes it for what it is."""
    key = next(key for key in (generate_private_key("ES256") for _ in range(5000)) if key.kid.startswith("-"))
    home.file("dash.json", public_jwk(key))
    home.ok("client", "key", "add", "billing", "dash.json")
    done = home("client", "key", "remove", "billing", key.kid)
    assert done.code == 0, done.err
    assert key.kid not in kids(home, "billing")


@pytest.mark.parametrize(
    "command",
    [
        ("client", "show", "nobody"),
        ("client", "update", "nobody"),
        ("client", "enable", "nobody"),
        ("client", "disable", "nobody"),
        ("--yes", "client", "remove", "nobody"),
        ("client", "key", "list", "nobody"),
        ("client", "key", "add", "nobody", "public.json"),
        ("client", "key", "remove", "nobody", "kid"),
        ("client", "key", "remove", "billing", "nobody"),
    ],
)
def test_what_is_not_registered_is_named(home: Home, command: Command) -> None:
    """One line, exit code 3."""
    home.file("public.json", public_jwk(generate_private_key("ES256")))
    done = home(*command)
    assert (done.code, done.out, len(done.err.splitlines())) == (3, "", 1)
    assert "nobody" in done.err


@pytest.mark.rule("KEY-13")
def test_the_profile_decides_which_keys_are_taken(home: Home) -> None:
    """A server of profile fapi2 registers no key that could never sign for it."""
    done = home(
        "client", "add", "rs", *ALLOW, "--new-key", "rs.json", "--alg", "RS256", GROAT_PROFILE="fapi2"
    )  # fmt: skip
    assert (done.code, "profile fapi2 refuses" in done.err) == (3, True)
    assert not (home.directory / "rs.json").exists()


@pytest.mark.rule("AS-CA-15")
@pytest.mark.parametrize(
    ("name", "option", "value", "field", "default"),
    [
        ("signing-alg", "--signing-alg", "ES256", "signing_alg", None),
        ("max-assertion-lifetime", "--max-assertion-lifetime", "600", "max_assertion_lifetime", None),
        ("default-scope", "--default-scope", "orders:read", "default_scopes", []),
    ],
)
def test_a_setting_can_be_taken_back(
    home: Home, name: str, option: str, value: str, field: str, default: object
) -> None:
    """`--clear` brings one setting back to its default and leaves the others; not together with a new value."""
    home.ok("client", "update", "billing", "--strict-typ", option, value)
    before = home.ok("--json", "client", "show", "billing").json
    assert before[field] not in (None, [])
    both = home("client", "update", "billing", option, value, "--clear", name)
    assert (both.code, "say one of them" in both.err) == (2, True)
    assert home.ok("--json", "client", "show", "billing").json == before
    cleared = home.ok("--json", "client", "update", "billing", "--clear", name).json
    assert cleared == {**before, field: default}
    assert home("client", "update", "billing", "--clear", "allow").code == 2
