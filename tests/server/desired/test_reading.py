"""Files of a registry: every mistake is found, each with its place, and what cannot be meant is not read."""

import json
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest

from groat.protocol.errors import ConfigError
from groat.protocol.federation.trust import Review
from groat.protocol.jwk import generate_private_key
from groat.server.desired.forms import trust_form
from groat.server.desired.members import TRUST_MEMBERS
from groat.server.desired.reading import MAX_FINDINGS, raise_all, read_wanted
from groat.server.desired.wanted import Wanted
from tests.certificates import Wish, issued
from tests.protocol.federation.platforms import PLATFORMS


def findings(source: Path) -> list[str]:
    """What is wrong, in words, with paths below the test's directory."""
    base = source if source.is_dir() else source.parent
    return [str(one).replace(f"{base}/", "") for one in read_wanted(source).findings]


def file(directory: Path, text: str, name: str = "registry.toml") -> Path:
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_key_of_an_api_has_no_limits(tmp_path: Path) -> None:
    """It is said where it stands, and not dropped in silence."""
    jwk = dict(generate_private_key("ES256").public.jwk)
    file(tmp_path, json.dumps(jwk), "key.json")
    keys = 'keys = ["key.json", {file = "key.json", not_before = 2026-01-01T00:00:00Z}]'
    path = file(tmp_path, f'[apis.orders]\naudience = "https://orders.example.com"\n{keys}\n')
    found = findings(path)
    assert any("registry.toml:3" in one and "it has no instants" in one for one in found)
    assert any("is there twice" in one for one in found)


WRONG = """
[apis.orders]
audiance = "https://orders.example.com"
scopes = "orders:read"

[clients.billing]
allow = {orders = "orders:read", stock = []}
token_lifetime = "10 minutes"
binding = "dpopp"
strict_typ = "yes"
claims = {sub = "me"}
keys = ["missing.jwk.json", {jwk = {kty = "EC"}}, {file = "a", jwk = {}}, 7]

[[clients.billing.rules]]
match = ["sub"]
trust = "ci"

[trusts.ci]
issuer = "https://ci.example.com"
jwks_uri = "http://ci.example.com/keys"
replay = "twice"

[trusts.other]
discovery = true
jwks_uri = "https://other.example.com"

[client.shipping]
"""
EXPECTED = [
    "registry.toml:3: unknown name audiance; did you mean audience?",
    "registry.toml:4: scopes must be a list of texts",
    "registry.toml:2: api orders needs an audience: what tokens for it carry as aud",
    "registry.toml:8: token_lifetime must be a duration such as",
    "registry.toml:9: binding must be one of none, dpop",
    "registry.toml:10: strict_typ must be true or false",
    "registry.toml:11: claim sub is written by groat itself",
    "registry.toml:7: allow.orders must be a list of texts",
    "registry.toml:7: allow.stock must be a list of scopes that is not empty; leave the API out",
    "registry.toml:12: cannot read missing.jwk.json: No such file or directory",
    "registry.toml:12: ",
    "registry.toml:12: a key must be the name of a file, or a table with one of file and jwk",
    "registry.toml:12: a key must be the name of a file, or a table with one of file and jwk",
    "registry.toml:14: 'sub' is no condition",
    "registry.toml:21: replay must be one of once, bind, reuse, auto",
    "registry.toml:20: ",
    "registry.toml:23: trust other needs one of jwks, jwks_file, jwks_uri, discovery",
    "registry.toml:23: trust other needs its issuer",
    "registry.toml:27: unknown name client; did you mean clients?",
]


def test_every_mistake_is_found_at_once(tmp_path: Path) -> None:
    """Each with file, line, and what would be right."""
    found = findings(file(tmp_path, WRONG))
    assert len(found) == len(EXPECTED), found
    assert [line for line, expected in zip(found, EXPECTED, strict=True) if not line.startswith(expected)] == []


def test_a_directory_is_read_as_one(tmp_path: Path) -> None:
    """Below it, too; without hidden files and folders, in which editors, git and Kubernetes keep copies."""
    api = '[apis.{0}]\naudience = "https://{0}.example.com"\n'
    for name in ("a.toml", "more/b.toml", ".c.toml", "..data/d.toml"):
        file(tmp_path, api.format(name[-6]), name)
    file(tmp_path, "not read", "README.md")
    wanted = read_wanted(tmp_path)
    assert (sorted(wanted.apis), wanted.findings) == (["a", "b"], [])


def test_an_object_named_twice_names_both_places(tmp_path: Path) -> None:
    api = '[apis.orders]\naudience = "https://orders.example.com"\n'
    file(tmp_path, api, "a.toml")
    file(tmp_path, f"\n{api}", "b.toml")
    assert findings(tmp_path) == ["b.toml:2: api orders is there twice, first at a.toml:1"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "[apis.orders]\nx = 1\nx = 2\n", "a.toml:3: not TOML"),
        ("a.toml", f"x = {'[' * 100_000}", "a.toml:1: not TOML that is read here: too deep"),
        ("a.yaml", "apis: {a: {audience: x}, a: {}}", "a.yaml:1: a is there twice, first on line 1"),
        ("a.yaml", "apis:\n  a: &x {audience: y}\n  b: *x", "a.yaml:2: anchors and aliases are not read: write it out"),
        ("a.yaml", "apis:\n  a: !!python/object:os.system x", "a.yaml:2: tags are not read"),
        ("a.yaml", "apis:\n  a: {audience: }", "a.yaml:2: a name without a value"),
        ("a.yaml", "a: 1\n---\nb: 2", "a.yaml:2: not YAML"),
        ("a.yaml", "[1]", "a.yaml:1: it must be one table"),
        ("a.yaml", "[" * 5000, "a.yaml:1: not YAML"),
        ("a.yaml", "a: \0", "a.yaml:1: not YAML"),
        ("a.json", "{}", "a.json: a name ends in one of .toml, .yaml, .yml"),
        ("missing/a.toml", None, "missing/a.toml: cannot read"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "none",
)
def test_what_is_not_read(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    """One finding with its place, and nothing else."""
    path = file(tmp_path, text, name) if text is not None else tmp_path / name
    (found,) = read_wanted(path).findings
    assert str(found).replace(f"{tmp_path}/", "").startswith(said), found


def test_yaml_bombs_do_not_go_off(tmp_path: Path) -> None:
    """Nine aliases of nine aliases of nine ... are refused where the first one is."""
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))]
    assert findings(file(tmp_path, "\n".join(lines), "bomb.yaml")) == [
        "bomb.yaml:1: anchors and aliases are not read: write it out"
    ]


def test_a_directory_without_files_is_no_empty_wish(tmp_path: Path) -> None:
    """A slip in the name would take everything away, with --prune."""
    with pytest.raises(ConfigError, match="there is no file that ends in"):
        read_wanted(tmp_path)


def test_very_many_mistakes_are_not_all_told(tmp_path: Path) -> None:
    text = "".join(f"[apis.a{number}]\n" for number in range(MAX_FINDINGS + 5))
    with pytest.raises(ConfigError) as refused:
        raise_all(read_wanted(file(tmp_path, text)).findings)
    assert len(refused.value.findings) == MAX_FINDINGS + 1
    assert str(refused.value.findings[-1]) == "and 5 more findings"


def test_yaml_says_what_toml_says(tmp_path: Path) -> None:
    """The same objects, on their own lines; `no` and 010 are texts where texts are meant."""
    key = generate_private_key("ES256").public
    file(tmp_path, json.dumps(dict(key.jwk)), "billing.jwk.json")
    toml = """
[apis.orders]
audience = "https://orders.example.com"
scopes = ["orders:read"]
[clients.billing]
allow = {orders = ["orders:read"]}
labels = {country = "no"}
token_lifetime = "5m"
keys = [{file = "billing.jwk.json", expires_at = 2047-01-31T00:00:00Z}]
[[clients.billing.rules]]
trust = "ci"
match = ["sub=x"]
"""
    yaml = """
apis:
  orders:
    audience: https://orders.example.com
    scopes: [orders:read]
clients:
  billing:
    allow: {orders: ["orders:read"]}
    labels: {country: no}
    token_lifetime: 5m
    keys:
      - file: billing.jwk.json
        expires_at: 2047-01-31T00:00:00Z
    rules:
      - trust: ci
        match: [sub=x]
"""
    one, other = (
        read_wanted(file(tmp_path / kind, text.replace("billing.jwk", "../billing.jwk"), f"registry.{kind}"))
        for kind, text in (("toml", toml), ("yaml", yaml))
    )
    assert (one.findings, other.findings) == ([], [])
    assert _plain(one) == _plain(other)
    assert (one.clients["billing"].place.line, other.clients["billing"].place.line) == (5, 7)


def _plain(wanted: Wanted) -> list[object]:
    api, client = wanted.apis["orders"], wanted.clients["billing"]
    assert client.keys is not None
    keys = [(one.key.kid, one.limits) for one in client.keys]
    rules = [(one.trust, one.conditions) for one in client.rules]
    return [api.audience, api.scopes, client.allow, client.settings, keys, rules]


def test_who_reviews_tokens_is_written_and_read_again() -> None:
    """As a table of its own in the trust; half of one is said to be none."""
    review = Review("https://10.0.0.1:6443", "/run/review-token")
    cluster = replace(PLATFORMS["kubernetes"].trust, review=review)
    form = trust_form(cluster)
    assert form["review"] == {"server": "https://10.0.0.1:6443", "token_file": "/run/review-token"}
    assert TRUST_MEMBERS["review"](form["review"]) == review
    assert "review" not in trust_form(PLATFORMS["kubernetes"].trust)
    whole = form["review"]
    for wrong in ("https://10.0.0.1", {"server": "https://10.0.0.1"}, {**whole, "ca": "/ca"}, {**whole, "ca_file": 1}):
        with pytest.raises(ValueError):
            TRUST_MEMBERS["review"](wrong)


def test_certificates_are_read_from_their_files(tmp_path: Path) -> None:
    """In PEM, beside the file that names them; what is written out stands for itself."""
    made = issued(Wish())
    made.write(tmp_path, "billing")
    written = b64encode(made.der).decode()
    text = f'[clients.billing]\ncertificates = ["billing.pem", "{written}"]\n'
    wanted = read_wanted(file(tmp_path, text))
    assert (wanted.findings, wanted.clients["billing"].settings.certificates) == ([], (written, written))
    (found,) = findings(file(tmp_path, '[clients.billing]\ncertificates = ["nothing.pem"]\n'))
    assert found == "registry.toml:2: cannot read nothing.pem: No such file or directory"
