"""Standard streams that are closed, whose reader is gone, or that are full: the command does its work all the same."""

import contextlib
import errno
import os
import sys
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final, TextIO, cast

# Nobody reads any more: a pipe's reader ended, a terminal was closed.
_NOBODY: Final = frozenset({errno.EPIPE, errno.EIO})


def fill_closed() -> None:
    """Open descriptors 0 to 2 that are closed (`>&-`, some of cron): what is opened next would be taken for them."""
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for good


class Output:
    """A text stream that takes everything; what cannot be written is dropped, and `fault` says why it could not."""

    def __init__(self, stream: TextIO, *, shared: bool = False) -> None:
        """`shared`: others write there as well, and may again once there is room on the disk."""
        self._stream = stream
        self._shared = shared
        self.fault: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def write_bytes(self, data: bytes) -> None:
        """Bytes as they are, behind what was written so far."""
        try:
            self._stream.flush()
            self._stream.buffer.write(data)
        except OSError as error:
            self._give_up(error)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.fault = self.fault or error
        if error.errno in _NOBODY or not self._shared:
            self._divert()

    def end(self) -> None:
        """Nothing more is written; without this Python's own last flush would change the exit code."""
        self.flush()
        if self.fault is not None:
            self._divert()

    def _divert(self) -> None:
        """Let the rest go nowhere."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@dataclass(frozen=True, slots=True)
class Outputs:
    """Both outputs of a command."""

    out: Output
    err: Output

    def lost(self) -> str | None:
        """Why the result did not reach whoever waits for it; None where it did, or where nobody reads any more."""
        self.out.flush()
        fault = self.out.fault
        return None if fault is None or fault.errno in _NOBODY else fault.strerror


def reader_is_gone() -> bool:
    """Whether nobody reads standard output any more: what goes on for ever may end."""
    sys.stdout.flush()
    return getattr(sys.stdout, "fault", None) is not None


@contextlib.contextmanager
def patient_outputs() -> Generator[Outputs, None, None]:
    """Within the block nothing that is printed raises."""
    before = sys.stdout, sys.stderr
    outputs = Outputs(Output(sys.stdout), Output(sys.stderr, shared=True))
    sys.stdout, sys.stderr = cast(TextIO, outputs.out), cast(TextIO, outputs.err)
    try:
        yield outputs
    finally:
        outputs.out.end()
        outputs.err.end()
        sys.stdout, sys.stderr = before
