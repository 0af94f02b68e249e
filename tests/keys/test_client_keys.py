"""The life of a client's keys as tables: states, who may go, whose end locks a client out."""

import pytest

from groat.keys.client_keys import (
    LAST_USE_RESOLUTION,
    ClientExpiry,
    ClientKeyState,
    Expiry,
    KeyLife,
    expiries,
    removal_verdict,
    span,
)
from groat.protocol.key_limits import KeyLimits

NOW = 1_800_000_000
DAY = 86400
IDLE = 7 * DAY
WARNING = 14 * DAY
FREE = KeyLimits()


def life(
    kid: str = "k", *, created: int = -100 * DAY, used: float | None = None, limits: tuple[float, float] | None = None
) -> KeyLife:
    """A key whose instants are given relative to NOW; in `limits`, 0 stands for none."""
    begin, end = limits or (0, 0)
    spans = KeyLimits(NOW + int(begin) if begin else None, NOW + int(end) if end else None)
    return KeyLife(kid, NOW + created, spans, None if used is None else NOW + int(used))


@pytest.mark.rule("KEY-23")
@pytest.mark.parametrize(
    ("limits", "state"),
    [
        (FREE, ClientKeyState.VALID),
        (KeyLimits(NOW + 1), ClientKeyState.NOT_YET_VALID),
        (KeyLimits(NOW), ClientKeyState.VALID),
        (KeyLimits(None, NOW + WARNING), ClientKeyState.VALID),
        (KeyLimits(None, NOW + WARNING - 1), ClientKeyState.EXPIRING),
        (KeyLimits(None, NOW + 1), ClientKeyState.EXPIRING),
        (KeyLimits(None, NOW), ClientKeyState.EXPIRED),
        (KeyLimits(NOW + 1, NOW + 2), ClientKeyState.NOT_YET_VALID),
    ],
)
def test_states(limits: KeyLimits, state: ClientKeyState) -> None:
    """At their boundaries."""
    assert KeyLife("k", NOW, limits).state(NOW, WARNING) is state


OTHER = life("other", used=-10)
EDGE = -(IDLE + LAST_USE_RESOLUTION)


@pytest.mark.rule("KEY-23")
@pytest.mark.parametrize(
    ("key", "others", "safe", "why"),
    [
        pytest.param(life(used=EDGE), [OTHER], True, "not used for", id="idle long enough"),
        pytest.param(life(used=EDGE + 1), [OTHER], False, "wait", id="a second too early"),
        pytest.param(life(used=-5), [OTHER], False, "no other valid key was used since", id="in use"),
        pytest.param(life(), [OTHER], True, "not used for", id="never used, long registered"),
        pytest.param(life(created=EDGE), [OTHER], True, "not used for", id="never used, just long enough"),
        pytest.param(life(created=EDGE + 1), [OTHER], False, "wait", id="never used, registered lately: the next key"),
        pytest.param(life(limits=(EDGE + 1, 0)), [OTHER], False, "wait", id="counts only since lately"),
        pytest.param(life(limits=(5, 0)), [OTHER], False, "still to come", id="its time is to come"),
        pytest.param(life(used=-5, limits=(0, -1)), [OTHER], True, "expired", id="expired, whenever it was used"),
        pytest.param(life(limits=(0, -1)), [life("o")], True, "expired", id="expired, another one is valid"),
        pytest.param(life(limits=(0, -1)), [], False, "no other", id="expired and the only one"),
        pytest.param(life(used=EDGE), [], False, "no other key is valid", id="the only one"),
        pytest.param(life(used=EDGE), [life("o", used=-1, limits=(0, -1))], False, "no other", id="other expired"),
        pytest.param(life(used=EDGE), [life("o", limits=(1, 0))], False, "no other key", id="other still to come"),
        pytest.param(life(used=EDGE), [life("o")], False, "was used since", id="nobody ever used the other one"),
        pytest.param(life(), [life("o")], False, "was used since", id="nobody ever used either"),
        pytest.param(
            life(used=EDGE), [life("o", used=EDGE + 60)], False, "used since", id="order within the resolution"
        ),
        pytest.param(life(used=EDGE), [life("o", used=EDGE + 61)], True, "not used", id="order beyond it"),
        pytest.param(life(used=EDGE), [life("a"), OTHER], True, "not used", id="one of several others is in use"),
    ],
)
def test_which_keys_may_go(key: KeyLife, others: list[KeyLife], safe: bool, why: str) -> None:
    """Safe needs proof that the client moved on; every doubt is a no, with its reason."""
    verdict = removal_verdict(key, [key, *others], NOW, IDLE)
    assert (verdict.safe, why in verdict.why) == (safe, True), verdict


@pytest.mark.rule("KEY-23")
def test_no_use_within_the_resolution_is_overlooked() -> None:
    """With no idle time asked for at all, a key that may have been used since the last flush is not called safe."""
    assert not removal_verdict(life(used=-59), [OTHER, life("x", used=5)], NOW, 0).safe
    assert removal_verdict(life(used=-60), [life("x", used=5)], NOW, 0).safe


@pytest.mark.rule("KEY-23")
@pytest.mark.parametrize(
    ("keys", "found"),
    [
        pytest.param([], [], id="no keys"),
        pytest.param([life()], [], id="no end"),
        pytest.param([life(limits=(0, WARNING))], [], id="end far away"),
        pytest.param([life(limits=(0, WARNING - 1))], [("k", WARNING - 1, False)], id="end near"),
        pytest.param([life(limits=(0, 5)), life("o")], [("k", 5, True)], id="replaced"),
        pytest.param([life(limits=(0, 5)), life("o", limits=(5, 0))], [("k", 5, True)], id="replaced to the second"),
        pytest.param([life(limits=(0, 5)), life("o", limits=(6, 0))], [("k", 5, False)], id="a gap of a second"),
        pytest.param(
            [life(limits=(0, 5)), life("o", limits=(0, 5))], [("k", 5, False), ("o", 5, False)], id="both at once"
        ),
        pytest.param(
            [life(limits=(0, 9)), life("o", limits=(0, 5))], [("o", 5, True), ("k", 9, False)], id="one after the other"
        ),
        pytest.param([life(limits=(0, -5))], [("k", -5, False)], id="just over, nothing left"),
        pytest.param([life(limits=(0, -5)), life("o")], [], id="over, and replaced"),
        pytest.param([life(limits=(0, -WARNING - 1))], [], id="long over"),
    ],
)
def test_whose_end_matters(keys: list[KeyLife], found: list[tuple[str, int, bool]]) -> None:
    """Ends ahead are all told; ends that are over only where they left nothing."""
    assert [(e.kid, e.expires_at - NOW, e.replaced) for e in expiries(keys, NOW, WARNING)] == found


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 s"), (0.5, "1 s"), (119, "119 s"), (120, "2 min"), (121, "3 min"), (7199, "120 min"), (7200, "2 h"),
     (172799, "48 h"), (172800, "2 d"), (172801, "3 d"), (20 * DAY, "20 d")],
)  # fmt: skip
def test_spans_for_people(seconds: float, text: str) -> None:
    """In the largest unit of which there are two, never too short."""
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("end", "replaced", "words"),
    [
        (600, True, "key k expires in 10 min; another key takes over"),
        (-600, False, "key k expired 10 min ago; no other key is valid"),
    ],
)
def test_words_about_an_end(end: int, replaced: bool, words: str) -> None:
    """What the log and the doctor say."""
    assert ClientExpiry("billing", Expiry("k", NOW + end, replaced)).words(NOW) == words
