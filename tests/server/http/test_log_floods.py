"""What strangers send without number has a line now and then, and no more."""

import json
from collections import Counter
from collections.abc import Callable

import pytest

from groat.server.http.entrance import MAX_CHEAP_LINES
from tests.proofs import proof
from tests.server.builders import NOW, TE, base
from tests.server.lab import Lab
from tests.server.wire import FORM, check_refused, send


@pytest.mark.rule("ST-5", "ST-8", "I14")
@pytest.mark.parametrize(
    ("reason", "method", "target", "media"),
    [
        ("method", "GET", "/token", FORM),
        ("content_type", "POST", "/token", "text/plain"),
        ("content_type", "POST", "/client-keys", "text/plain"),
        ("query", "POST", "/token?scope=b", FORM),
        ("form", "POST", "/token?a=%", FORM),
        ("body_size", "POST", "/token", FORM),
    ],
)
def test_what_is_refused_for_its_form_does_not_fill_the_log(
    fresh_lab: Callable[..., Lab], reason: str, method: str, target: str, media: str
) -> None:
    """Some hundreds a minute of each reason have a line; a client's own refusals have theirs beside them."""
    lab, body = fresh_lab(), b"a=b"
    for _ in range(MAX_CHEAP_LINES + 100):
        headers = [("Content-Type", media)]
        if reason == "body_size":
            send(lab.address, method, target, [*headers, ("Content-Length", "100000")], body)
        else:
            send(lab.address, method, target, headers, body)
    lab.post(base("a.b.c"))
    reasons = Counter(json.loads(line)["reason"] for line in lab.lines() if b'"reason"' in line)
    assert MAX_CHEAP_LINES <= reasons[reason] < MAX_CHEAP_LINES + 80
    assert reasons["assertion_malformed"] == 1


@pytest.mark.rule("ST-5", "I14", "AS-DP-16")
def test_challenges_do_not_fill_the_log(fresh_lab: Callable[..., Lab]) -> None:
    """Strangers can cause as many as they like, since nothing of them is counted as a failure; the counters have all."""
    lab, body, text = fresh_lab(), base("a.b.c"), proof(TE, NOW, nonce="stale")
    for _ in range(MAX_CHEAP_LINES + 100):
        check_refused(lab.post(body, FORM, ("DPoP", text)), "use_dpop_nonce")
    reasons = Counter(json.loads(line)["reason"] for line in lab.lines() if b'"reason"' in line)
    assert MAX_CHEAP_LINES <= reasons["dpop_nonce"] < MAX_CHEAP_LINES + 80
