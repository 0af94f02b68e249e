"""Tokens kept and renewed: one request in flight for each wish, whoever and however many are waiting.

A flight is a short-lived daemon thread and a `concurrent.futures.Future`, so that threads and event loops wait for
the same one. The lock guards a dictionary for some microseconds and is never held over I/O.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from math import inf
from typing import Final

from groat.client.errors import ClientClosed, ClientError, ServerUnreachable
from groat.client.fork import renew_in_child
from groat.client.retry import RefreshPolicy
from groat.client.token import Issued, Token, Wish
from groat.client.token_files import TokenFiles
from groat.outbound.clocks import Clocks

MAX_WISHES: Final = 1024
GRACE: Final = 1.0
Flight = Future[Token]
logger = logging.getLogger("groat.client")


@dataclass(slots=True)
class _Slot:
    """What is known for one wish.

    From the age `soft` on the token is renewed, from `hard` on nobody gets it. `pause_until`: monotonic, and for
    background requests only.
    """

    issued: Issued | None = None
    flight: Flight | None = None
    soft: float = 0.0
    hard: float = 0.0
    pause_until: float = 0.0


class TokenCache:
    """Hands out tokens that are good for a while yet, and has them renewed ahead of time.

    `fetch` blocks and gets one token. `patience`: seconds of real time that a caller waits for a flight; one that
    takes longer is given up, and the next caller starts another. `files`: where tokens outlive the process.
    """

    def __init__(
        self,
        fetch: Callable[[Wish], Issued],
        policy: RefreshPolicy,
        clocks: Clocks,
        patience: float,
        files: TokenFiles | None = None,
    ) -> None:
        self._fetch = fetch
        self._files = files
        self._policy = policy
        self._clocks = clocks
        self._patience = patience + GRACE
        self._slots: dict[Wish, _Slot] = {}
        self._closed = False
        self._lock = threading.Lock()
        renew_in_child(self)

    def renew_after_fork(self) -> None:
        """Keep the tokens; forget flights, whose threads stayed in the parent.

        Each child draws its refresh times anew, or all workers of a server would refresh in the same instant.
        """
        self._lock = threading.Lock()
        for slot in self._slots.values():
            slot.flight = None
            if slot.issued is not None:
                self._schedule(slot, slot.issued)

    def get(self, wish: Wish) -> Token:
        """A token, waiting in this thread if there is none yet. Raises ClientError."""
        found = self._look(wish)
        if isinstance(found, Token):
            return found
        try:
            return found.result(self._patience)
        except TimeoutError:
            raise self._give_up(wish, found) from None

    async def aget(self, wish: Wish) -> Token:
        """The same for an asyncio event loop. Cancelling one waiter touches neither the flight nor the others."""
        found = self._look(wish)
        if isinstance(found, Token):
            return found
        try:
            async with asyncio.timeout(self._patience):
                await _landing(found)
        except TimeoutError:
            raise self._give_up(wish, found) from None
        return found.result()

    def drop(self, wish: Wish, refused: Token) -> None:
        """Forget this very token; one that has replaced it meanwhile stays."""
        if self._files is not None:
            self._files.forget(wish, refused)
        with self._lock:
            slot = self._slots.get(wish)
            if slot is not None and slot.issued is not None and slot.issued.token.value == refused.value:
                slot.issued = None

    def forget_certificates(self, *, but: str) -> None:
        """Forget the tokens that were got with another certificate than this one: nobody can use them any more."""
        with self._lock:
            old = {wish: slot.issued for wish, slot in self._slots.items() if wish.certificate not in (None, but)}
            for wish in old:
                del self._slots[wish]
        for wish, issued in old.items():
            if self._files is not None and issued is not None:
                self._files.forget(wish, issued.token)

    def close(self) -> None:
        """Forget all tokens and refuse further calls."""
        with self._lock:
            self._closed = True
            self._slots.clear()

    def _look(self, wish: Wish) -> Token | Flight:
        with self._lock:
            if self._closed:
                raise ClientClosed("the MachineClient was closed")
            slot = self._slots.get(wish) or self._new_slot(wish)
            age = inf if slot.issued is None else slot.issued.age(self._clocks)
            token = slot.issued.token if slot.issued is not None and age < slot.hard else None
            waiting = slot.flight
            due = token is None or (age >= slot.soft and self._clocks.monotonic() >= slot.pause_until)
            starting: Flight | None = None
            if waiting is None and due:
                starting = slot.flight = Future()
                starting.set_running_or_notify_cancel()  # from here on nobody can cancel it
        if starting is not None:
            self._take_off(wish, starting, "background" if token is not None else "caller")
        if token is not None:
            return token
        flight = waiting or starting
        assert flight is not None  # without a token a flight is due
        return flight

    def _new_slot(self, wish: Wish) -> _Slot:
        if len(self._slots) >= MAX_WISHES:
            self._prune()
        slot = self._slots[wish] = _Slot()
        return slot

    def _prune(self) -> None:
        """Make room: first what has expired, and if nothing has, the oldest wish without a flight."""
        idle = [wish for wish, slot in self._slots.items() if slot.flight is None]
        expired = [wish for wish in idle if self._is_over(self._slots[wish])]
        for wish in expired or idle[:1]:
            del self._slots[wish]

    def _is_over(self, slot: _Slot) -> bool:
        return slot.issued is None or slot.issued.age(self._clocks) >= slot.hard

    def _take_off(self, wish: Wish, flight: Flight, trigger: str) -> None:
        thread = threading.Thread(target=self._fly, args=(wish, flight, trigger), name="groat-token", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # No more threads: the system's limit, or the interpreter is shutting down.
            self._crash(wish, flight, ClientError(f"no thread for the token request: {error}", transient=True))

    def _fly(self, wish: Wish, flight: Flight, trigger: str) -> None:
        try:
            issued = self._from_disk(wish) or self._from_server(wish)
        except BaseException as error:
            if trigger == "background":
                shown = error if isinstance(error, ClientError) else type(error).__name__
                logger.warning("token refresh failed, the present token stays in use: %s: %s", wish, shown)
            self._crash(wish, flight, error)
        else:
            self._land(wish, flight, issued)

    def _from_disk(self, wish: Wish) -> Issued | None:
        """A kept token; not the one at hand, which two clocks have judged already while a file knows but one."""
        found = self._files.find(wish) if self._files is not None else None
        with self._lock:
            slot = self._slots.get(wish)
            at_hand = slot.issued.token.value if slot is not None and slot.issued is not None else None
        return None if found is None or found.token.value == at_hand else found

    def _from_server(self, wish: Wish) -> Issued:
        issued = self._fetch(wish)
        if self._files is not None:
            self._files.keep(wish, issued)
        return issued

    def _land(self, wish: Wish, flight: Flight, issued: Issued) -> None:
        with self._lock:
            slot = self._slots.get(wish)
            if slot is not None:
                if slot.flight is flight:
                    slot.flight = None
                # A flight that was given up may land after its successor: the newer request counts.
                if slot.issued is None or issued.sent_at >= slot.issued.sent_at:
                    slot.issued = issued
                    self._schedule(slot, issued)
        flight.set_result(issued.token)

    def _crash(self, wish: Wish, flight: Flight, error: BaseException) -> None:
        asked = getattr(error, "retry_after", None) or 0.0
        pause = self._policy.pause * (1.0 + self._clocks.random())
        with self._lock:
            slot = self._slots.get(wish)
            if slot is not None and slot.flight is flight:
                slot.flight = None
                slot.pause_until = self._clocks.monotonic() + max(asked, pause)
        flight.set_exception(error)

    def _schedule(self, slot: _Slot, issued: Issued) -> None:
        slot.issued = issued
        slot.soft = self._policy.soft_age(issued.lifetime, self._clocks.random())
        slot.hard = self._policy.hard_age(issued.lifetime)

    def _give_up(self, wish: Wish, flight: Flight) -> ServerUnreachable:
        with self._lock:
            slot = self._slots.get(wish)
            if slot is not None and slot.flight is flight:
                slot.flight = None
        return ServerUnreachable(f"no token within {self._patience:.1f} s: {wish}")


async def _landing(flight: Flight) -> None:
    """Wait until the flight is over, without being able to disturb it."""
    loop = asyncio.get_running_loop()
    landed = loop.create_future()

    def wake(_: Flight) -> None:
        # A loop that is closed by now has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_release, landed)

    flight.add_done_callback(wake)
    await landed


def _release(landed: asyncio.Future[None]) -> None:
    if not landed.done():
        landed.set_result(None)
