"""Ctrl-C at any moment ends the command: also inside asyncio, and also where Python would lose it."""

import contextlib
import signal
import sys
import threading
from collections.abc import Generator
from types import FrameType
from typing import Final, NoReturn

AGAIN_SECONDS: Final = 0.05


@contextlib.contextmanager
def ended_by_ctrl_c() -> Generator[None, None, None]:
    """Within the block every SIGINT becomes a KeyboardInterrupt; where SIGINT is ignored, it stays ignored.

    asyncio would take the first one as a wish to cancel, and a task that is blocked or about to fail does not see
    that. Python drops what is raised while it runs a finalizer or the callback of a weak reference, and imports are
    full of these; such a signal is sent again a moment later.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    report = sys.unraisablehook
    sent_again: list[threading.Timer] = []

    def again(dropped: "sys.UnraisableHookArgs") -> None:
        if dropped.exc_type is not KeyboardInterrupt:
            report(dropped)
            return
        # From another thread: raised in here it would be dropped once more.
        timer = threading.Timer(AGAIN_SECONDS, signal.raise_signal, (signal.SIGINT,))
        timer.daemon = True
        timer.start()
        sent_again.append(timer)

    signal.signal(signal.SIGINT, _end)  # asyncio replaces only Python's own handler
    sys.unraisablehook = again
    try:
        yield
    finally:
        for timer in sent_again:  # the command is over; nothing is left to end
            timer.cancel()
        sys.unraisablehook = report
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
