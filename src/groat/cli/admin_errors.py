"""What the admin API of a running server says no with, and that nobody answers there."""


class AdminRefused(Exception):
    """The admin API said no. `status` as it was answered; the text is for people."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class AdminUnreachable(Exception):
    """Nobody answers there."""
