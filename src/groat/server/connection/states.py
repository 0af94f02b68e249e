"""The life of a connection as data: its states, what moves it from one to the next, and how long each may last.

The parser never reads past the request that is being answered, so one state says both what the peer is sending and what
is owed to it. No clock, socket or parser in here.

    ARRIVING -> NEW -> HEAD -> BODY -> WORKING -> IDLE -> HEAD ...
                               BODY -> REST (answered early) -> IDLE
                any of these -> LAST (the last answer is written) -> CLOSED
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final


class State(Enum):
    """Where a connection stands."""

    ARRIVING = "accepted; TLS is being agreed on, or will be"
    NEW = "connected; nothing of a request has come"
    IDLE = "all that was asked is answered; nothing of another request has come"
    HEAD = "a head has begun and is not whole"
    BODY = "the head is whole, and its body is on its way"
    WORKING = "the request is whole and not answered; whatever comes behind it waits, unread"
    REST = "answered before the body was whole; the rest of it is thrown away"
    LAST = "the last answer is written; whatever comes is thrown away"
    CLOSED = "nothing comes or goes any more"

    __hash__ = object.__hash__  # looked up a few times for each request


class Event(Enum):
    """What moves a connection on."""

    CONNECTED = "bytes can be read and written"
    BEGUN = "the first byte of a head came"
    HEADED = "the last byte of a head came"
    WHOLE = "the last byte of a request came"
    ANSWERED = "an answer is written, and the connection stays"
    SHED = "a whole request was answered without a look at it"
    REREAD = "the head is read once more, without the upgrade that nobody accepts"
    ENDED = "the last answer is written"


S = State
_OPEN: Final = (S.NEW, S.IDLE, S.HEAD, S.BODY, S.WORKING, S.REST)
# An event that its state does not know is a bug; the look-up raises.
TRANSITIONS: Final[Mapping[Event, Mapping[State, State]]] = {
    Event.CONNECTED: {S.ARRIVING: S.NEW},
    Event.BEGUN: {S.NEW: S.HEAD, S.IDLE: S.HEAD},
    Event.HEADED: {S.HEAD: S.BODY},
    Event.WHOLE: {S.BODY: S.WORKING, S.REST: S.IDLE},
    Event.ANSWERED: {S.WORKING: S.IDLE, S.BODY: S.REST},
    Event.SHED: {S.NEW: S.IDLE, S.IDLE: S.IDLE},
    Event.REREAD: {S.BODY: S.NEW},
    Event.ENDED: dict.fromkeys(_OPEN, S.LAST),
}

HANDSHAKE_SECONDS: Final = 10.0
HEAD_SECONDS: Final = 10.0
# Longer than a load balancer that follows our recipes keeps an idle connection, so that it is the one who closes:
# whoever closes an idle connection may meet a request that is on its way (docs/decisions/0016-idle-connections.md).
KEEP_ALIVE_SECONDS: Final = 75
LINGER_SECONDS: Final = 5.0
CROWDED_SECONDS: Final = 2.0

# How long a state may last. BODY and WORKING are the application's to end: a body has 15 s (server/http/forms.py).
SECONDS: Final[dict[State, float]] = {
    S.ARRIVING: HANDSHAKE_SECONDS,
    S.NEW: HEAD_SECONDS,
    S.HEAD: HEAD_SECONDS,
    S.IDLE: KEEP_ALIVE_SECONDS,
    S.REST: KEEP_ALIVE_SECONDS,
    S.LAST: LINGER_SECONDS,
}
# The same for those who have shown nothing yet, while there is hardly room for anybody else.
SECONDS_WHEN_CROWDED: Final[dict[State, float]] = dict.fromkeys((S.ARRIVING, S.NEW, S.HEAD), CROWDED_SECONDS)

READING: Final = frozenset({S.NEW, S.IDLE, S.HEAD, S.BODY, S.REST})  # what comes is given to the parser
OWING: Final = frozenset({S.BODY, S.WORKING})  # an answer
BETWEEN: Final = frozenset({S.NEW, S.IDLE})  # two requests
# Whoever has waited longest in one of these goes first when there is no room: no work of ours is lost with it.
REPLACEABLE: Final = frozenset({S.ARRIVING, S.NEW, S.IDLE, S.HEAD, S.BODY, S.REST, S.LAST})
