"""What a request is changed into: each mutator changes one layer of a draft, from the claims to the bytes of HTTP."""

import gzip
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from random import Random
from typing import Any, Final

from .drafts import FORM, Draft, Pairs, b64

ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 1e308, 10**30, 1.5, "", " ", "a", "\0", "\u202e", "\ud800", "é", "x" * 300, "x" * 9000,
    [], [[]], {}, {"a": 1}, ["a", "b"], "null", "true", "1e999", "../../dev/null", "' OR 1=1--", "$(id)", "%00", "\r\nX: y",
)  # fmt: skip
ODD_TEXT: Final = tuple(value for value in ODD if isinstance(value, str))
Mutator = Callable[[Draft], None]


def _change(random: Random, pairs: Pairs, values: tuple[Any, ...] = ODD) -> None:
    """Replace, drop, repeat, rename or move one of the pairs, or add one."""
    if not pairs:
        return
    at = random.randrange(len(pairs))
    name, value = pairs[at]
    action = random.randrange(7)
    if action <= 1:
        pairs[at] = (name, random.choice(values))
    elif action == 2:
        del pairs[at]
    elif action == 3:
        pairs.insert(random.randrange(len(pairs) + 1), (name, random.choice((value, *values))))
    elif action == 4:
        pairs[at] = (random.choice((name.upper(), f" {name}", f"{name}\0", name[:-1], f"{name}[]", "")), value)
    elif action == 5:
        pairs.insert(random.randrange(len(pairs) + 1), (random.choice(ODD_TEXT), random.choice(values)))
    else:
        random.shuffle(pairs)


def _change_bytes(random: Random, raw: bytes, times: int = 3) -> bytes:
    """Flip, drop, repeat, insert or cut some bytes."""
    data = bytearray(raw)
    for _ in range(random.randint(1, times)):
        at = random.randrange(len(data) + 1)
        action = random.randrange(6)
        if action == 0 and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        elif action == 1 and at < len(data):
            del data[at]
        elif action == 2:
            data[at:at] = bytes([random.choice(b"\0\t\n\r \"%&+,./:;=?\\{}[]\x7f\x80\xff") if random.random() < 0.7 else random.randrange(256)])  # fmt: skip
        elif action == 3:
            end = min(len(data), at + random.randint(1, 40))
            data[at:at] = data[at:end]
        elif action == 4:
            del data[at : at + random.randint(1, 40)]
        else:
            del data[at:]
            break
    return bytes(data)


def claim(draft: Draft) -> None:
    _change(draft.random, draft.claims)


def claim_near_limits(draft: Draft) -> None:
    """Times around each limit, and in other units."""
    now, random = time.time(), draft.random
    offsets = (-301, -299, -60, -12, -5, 0, 5, 9, 12, 59, 61, 299, 301, 3600, 10**6, 10**9, 10**12)
    at = random.randrange(len(draft.claims))
    name = random.choice(("exp", "iat", "nbf"))
    value = random.choice((int(now), now, int(now * 1000), 0, -int(now))) + random.choice(offsets)
    draft.claims.insert(at, (name, random.choice((value, value, str(value), [value]))))
    if random.random() < 0.8:
        draft.claims = [pair for index, pair in enumerate(draft.claims) if pair[0] != name or index == at]


def audience(draft: Draft) -> None:
    issuer, random = draft.issuer, draft.random
    values: tuple[Any, ...] = (
        f"{issuer}/", issuer.upper(), f"{issuer}:443", f"{issuer}/token", [issuer], [issuer, "https://other.example"],
        [f"{issuer}/token"], [[issuer]], {"aud": issuer}, issuer[:-1], f" {issuer}", issuer.replace("https", "http"),
        draft.audience, "https://other.example", issuer.encode().hex(), [issuer, issuer], [],
    )  # fmt: skip
    draft.claims = [(name, random.choice(values) if name == "aud" else value) for name, value in draft.claims]


def subject(draft: Draft) -> None:
    """Another client's name, in iss, sub or both; signed by one's own key."""
    other = draft.random.choice(draft.others).client_id
    names = draft.random.choice((("iss",), ("sub",), ("iss", "sub")))
    draft.claims = [(name, other if name in names else value) for name, value in draft.claims]


def header(draft: Draft) -> None:
    _change(draft.random, draft.header)


def header_known(draft: Draft) -> None:
    """Members and values that other readers would act upon."""
    algorithms = (
        "none",
        "None",
        "HS256",
        "RS256",
        "PS256",
        "ES256",
        "ES384",
        "Ed25519",
        "EdDSA",
        "es256",
        "ES256 ",
        "ES256K",
    )
    extra: Pairs = [
        ("alg", draft.random.choice(algorithms)), ("typ", draft.random.choice(("at+jwt", "JWT", "dpop+jwt", "application/JWT"))),
        ("kid", draft.random.choice([other.kid for other in draft.others])), ("crit", ["exp"]), ("crit", []), ("b64", False),
        ("zip", "DEF"), ("cty", "JWT"), ("jku", "http://127.0.0.1:9/k"), ("x5u", "http://127.0.0.1:9/x"), ("enc", "A256GCM"),
        ("jwk", {"kty": "oct", "k": "AA"}), ("x5c", ["AAAA"]), ("x5t#S256", "AA"), ("epk", {}), ("p2c", 2**31 - 1),
    ]  # fmt: skip
    name, value = draft.random.choice(extra)
    draft.header = [pair for pair in draft.header if pair[0] != name or draft.random.random() < 0.2] + [(name, value)]


def json_text(draft: Draft) -> None:
    """JSON that two readers understand differently, or none at all; signed as it stands."""
    random = draft.random
    which = random.choice(("header", "claims"))
    text = draft.json_of(which)
    deep = b'{"deep":' + b"[" * 40 + b"]" * 40 + b"," + text[1:]
    rows = (
        b"\xef\xbb\xbf" + text, text.decode().encode("utf-16"), text + b"\0", text + b"{}", b"[" + text + b"]", b" \n" + text + b"\t",
        text[:-1] + b",}", text[:-1] + b',"exp":NaN}', text[:-1] + b',"n":1e400}', text[:-1] + b',"s":"\xff"}', deep, b"null", b'"x"',
        text[:-1] + b',"s":"\\ud800"}', text[:-1] + b',"n":' + b"9" * 5000 + b"}", text.replace(b'"', b"'"), b"", text[:-1] + b",/**/}",
        text.replace(b"iss", b"\\u0069ss").replace(b"alg", b"\\u0061lg"), text[:-1] + b',"\\u0065xp":9999999999,"\\u0061lg":"none"}',
    )  # fmt: skip
    changed = random.choice(rows) if random.random() < 0.7 else _change_bytes(random, text)
    setattr(draft, f"{which}_json", changed)


def wrong_key(draft: Draft) -> None:
    """Somebody else's signature, a keyed hash of something public, or none."""
    random = draft.random
    fixed = (b"", b"\0" * 64, b"\xff" * 64, random.randbytes(64), random.randbytes(256))
    secret = random.choice((draft.party.kid, draft.issuer, "")).encode()
    draft.signer = random.choice(
        (
            random.choice(draft.others).sign,
            lambda _: random.choice(fixed),
            lambda data: hmac.new(secret, data, hashlib.sha256).digest(),
            lambda data: draft.party.sign(data + b" "),
        )
    )


def signature(draft: Draft) -> None:
    """The true signature in another form: longer, shorter, halves exchanged, one bit off."""
    random, sign = draft.random, draft.signer or draft.party.sign

    def changed(data: bytes) -> bytes:
        good = sign(data) or b"\0"
        half = len(good) // 2
        rows = (
            good[:-1], good + b"\0", b"\0" + good, good[half:] + good[:half], good[:half] * 2,
            bytes([good[0] ^ 1]) + good[1:], b"\x30\x44" + good, good + good,
        )  # fmt: skip
        return random.choice(rows)

    draft.signer = changed


def jwt_text(draft: Draft) -> None:
    """The compact form after it was signed."""
    random, good = draft.random, draft.token()
    parts = good.split(".")
    rows = (
        good + ".", "." + good, ".".join(parts[:2]) + ".", ".".join(parts[:2]), good + "=", good.replace("-", "+").replace("_", "/"),
        f" {good}", f"{good}\n", good + good, ".".join((*parts, parts[2])), "." * 5000, json.dumps({"payload": parts[1]}),
        ".".join((parts[0], b64(b"{}"), parts[2])), good[:-1] + chr(ord(good[-1]) ^ 1), f"Bearer {good}", good.upper(),
    )  # fmt: skip
    if random.random() < 0.5:
        draft.jwt = random.choice(rows)
    else:
        draft.jwt = _change_bytes(random, good.encode()).decode("latin-1")


def splice(draft: Draft) -> None:
    """Parts of two assertions of two clients."""
    other = Draft(draft.random, draft.random.choice(draft.others), draft.others, draft.issuer, draft.audience)
    mine, theirs = draft.token().split("."), other.token().split(".")
    draft.jwt = ".".join(draft.random.choice(pair) for pair in zip(mine, theirs, strict=False))


def form_field(draft: Draft) -> None:
    _change(draft.random, draft.form(), ODD_TEXT)


def form_known(draft: Draft) -> None:
    """Fields that mean something, twice or beside each other."""
    random, form = draft.random, draft.form()
    extra: Pairs = [
        ("client_secret", "s"), ("client_secret", ""), ("client_id", draft.party.client_id), ("client_id", draft.others[0].client_id),
        ("scope", "orders:read"), ("scope", "orders:write"), ("scope", "orders:read orders:read"), ("scope", "orders:read  x"),
        ("resource", draft.audience), ("resource", f"{draft.audience}/"), ("audience", draft.audience), ("resource", "https://x.example"),
        ("audience", "https://x.example"), ("grant_type", "client_credentials"), ("grant_type", "password"), ("assertion", "x"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"), ("client_assertion", draft.token()),
    ]  # fmt: skip
    name, value = random.choice(extra)
    if random.random() < 0.4:
        form[:] = [pair for pair in form if pair[0] != name]
    form.insert(random.randrange(len(form) + 1), (name, value))


def form_bytes(draft: Draft) -> None:
    """The body's own syntax."""
    random, body = draft.random, draft.content()
    rows = (
        body.replace(b"=", b"%3D"), body.replace(b"&", b";"), body + b"&" * 100, body + b"&x=%", body + b"&x=%zz", body + b"&x=%00",
        body + b"&x=\xff", body + b"\r\n", b"\xef\xbb\xbf" + body, body.replace(b"_", b"%5F"), body.replace(b"grant", b"%67%72ant"),
        b"&".join(b"a%d=b" % number for number in range(60)) + b"&" + body, body + b"&pad=" + b"x" * 70_000, b"", body + b"&x=" + b"%41" * 2000,
        b"".join(b"%%%02X" % byte for byte in body[:300]) + body[300:], body.replace(b"&", b"&amp;"), json.dumps({"a": 1}).encode(),
    )  # fmt: skip
    draft.body = random.choice(rows) if random.random() < 0.6 else _change_bytes(random, body)


def http_headers(draft: Draft) -> None:
    random, lines = draft.random, draft.lines()
    extra: Pairs = [
        ("Content-Type", FORM), ("Content-Type", "application/json"), ("content-type", f"{FORM}; charset=utf-16"),
        ("Content-Type", f"{FORM};charset=UTF-8"), ("Content-Type", f"{FORM.upper()} "), ("Content-Type", "multipart/form-data; boundary=x"),
        ("Authorization", "Basic YmlsbGluZzp4"), ("Authorization", "Bearer x"), ("Authorization", ""), ("Content-Encoding", "gzip"),
        ("Content-Encoding", "identity"), ("Expect", "100-continue"), ("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"),
        ("Connection", "close"), ("Host", "other.example"), ("X-Forwarded-For", "203.0.113.7:1"), ("X-HTTP-Method-Override", "GET"),
        ("X Y", "z"), ("Content-Type ", FORM), ("X-Long", "y" * 9000), ("Cookie", "a=b; " * 200), ("X-Fold", "a\r\n b"), ("X-Nul", "a\0b"),
        ("Transfer-Encoding", "chunked"), ("Content-Length", "0"), ("Origin", "null"), ("X", "\u00e9"), ("X-Original-URL", "/livez"),
    ]  # fmt: skip
    name, value = random.choice(extra)
    if random.random() < 0.4:
        lines[:] = [pair for pair in lines if pair[0].lower() != name.lower()]
    lines.insert(random.randrange(len(lines) + 1), (name, value))
    if random.random() < 0.05:
        lines += [(f"X-{number}", "v") for number in range(150)]
    if name == "Content-Encoding" and value == "gzip" and random.random() < 0.5:
        draft.body = gzip.compress(draft.content(), mtime=0)


def http_line(draft: Draft) -> None:
    random = draft.random
    what = random.randrange(3)
    if what == 0:
        draft.method = random.choice(
            ("GET", "PUT", "post", "POST ", "HEAD", "OPTIONS", "DELETE", "PRI", "", "P\0ST", "CONNECT")
        )
    elif what == 1:
        targets = (
            "/token?", "/token?scope=orders:read", "/token?x=y", "//token", "/token/", "/./token", "/TOKEN", "/%74oken", "*", "/token#x",
            "http://127.0.0.1/token", "/token;v=1", "/token?client_id=%zz", "token", "/token /", "/client-keys", "/token\t", "/" + "a" * 70_000,
        )  # fmt: skip
        draft.target = random.choice(targets)
    else:
        draft.version = random.choice(
            ("HTTP/1.0", "HTTP/2.0", "HTTP/1.2", "http/1.1", "HTTP/1.1 ", "", "HTTP/9", "HTTP/0.9")
        )


def framing(draft: Draft) -> None:
    """How long the body is, said wrongly, twice, or in chunks."""
    random, body = draft.random, draft.content()
    size = len(body)
    rows: tuple[tuple[list[bytes], bytes], ...] = (
        ([b"Content-Length: %d" % (size + random.randint(-5, 5))], body),
        ([b"Content-Length: %d" % size] * 2, body),
        ([b"Content-Length: %d" % size, b"Content-Length: %d" % (size - 1)], body),
        ([b"Content-Length: %d, %d" % (size, size)], body),
        ([b"Content-Length: +%d" % size], body),
        ([b"Content-Length: 0x%x" % size], body),
        ([b"Content-Length: %020d" % size], body),
        ([b"Content-Length: 99999999999999999999999"], body),
        ([b"Content-Length: -1"], body),
        ([], body),
        ([b"Transfer-Encoding: chunked"], _chunked(random, body)),
        ([b"Transfer-Encoding: chunked"], _chunked(random, body)[:-2]),
        ([b"Transfer-Encoding: chunked"], _change_bytes(random, _chunked(random, body))),
        ([b"Transfer-Encoding: chunked", b"Content-Length: %d" % size], _chunked(random, body)),
        ([b"Content-Length: %d" % size, b"Transfer-Encoding: chunked"], body),
        ([b"Transfer-Encoding: gzip, chunked"], _chunked(random, body)),
        ([b"Transfer-Encoding: chunked, identity"], _chunked(random, body)),
        ([b"Transfer-Encoding: xchunked"], _chunked(random, body)),
        ([b"Transfer-Encoding : chunked"], _chunked(random, body)),
        ([b"Transfer-Encoding:\x0bchunked"], _chunked(random, body)),
        ([b"Content-Length: %d" % size], body[: random.randrange(size)] if size else b""),
    )  # fmt: skip
    draft.framing, draft.sent_body = random.choice(rows)


def _chunked(random: Random, body: bytes) -> bytes:
    out, at = bytearray(), 0
    while at < len(body):
        piece = body[at : at + random.randint(1, 400)]
        form = random.choice((b"%x", b"%X", b"0%x", b"%x;ext=1", b'%x;a="b"'))
        out += form % len(piece) + b"\r\n" + piece + b"\r\n"
        at += len(piece)
    return bytes(out) + random.choice((b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX-Trailer: y\r\n\r\n", b"000\r\n\r\n"))


def http_bytes(draft: Draft) -> None:
    draft.raw = _change_bytes(draft.random, draft.message(), 5)


def line_ends(draft: Draft) -> None:
    head, _, body = draft.message().partition(b"\r\n\r\n")
    rows = (
        head.replace(b"\r\n", b"\n") + b"\n\n",
        head.replace(b"\r\n", b"\r") + b"\r\r",
        b"\r\n" + head + b"\r\n\r\n",
        head + b"\n\r\n",
    )
    draft.raw = draft.random.choice(rows) + body


def replay(draft: Draft) -> None:
    """The same assertion for the second time, in the same bytes or in others."""
    draft.before.append(draft.message())
    if draft.random.random() < 0.5:
        draft.form()[:] = [
            pair for pair in draft.form() if draft.random.random() < 0.95 or pair[0] == "client_assertion"
        ]
        draft.body = draft.raw = None
    elif draft.random.random() < 0.5:  # the same jti in another assertion
        draft.claims = [
            (name, value + 1 if name == "exp" and type(value) is int else value) for name, value in draft.claims
        ]
        draft.jwt = draft.fields = draft.body = draft.raw = None


def pipeline(draft: Draft) -> None:
    """Several requests on one connection, one of them perhaps inside another."""
    other = Draft(draft.random, draft.random.choice(draft.others), draft.others, draft.issuer, draft.audience)
    if draft.random.random() < 0.5:
        _change(draft.random, other.claims)
    first, second = draft.message(), other.message()
    draft.raw = draft.random.choice(
        (first + second, second + first, first + first, first + b"\r\n\r\n" + second, second + first[:100])
    )


MUTATORS: Final[tuple[Mutator, ...]] = (
    claim, claim_near_limits, audience, subject, header, header_known, json_text, wrong_key, signature, jwt_text, splice,
    form_field, form_known, form_bytes, http_headers, http_line, framing, http_bytes, line_ends, replay, pipeline,
)  # fmt: skip
