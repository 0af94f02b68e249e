"""Reload at SIGHUP: from the settings, read again, to what the server goes by."""

import asyncio
import signal
from typing import Final

from groat.server.connection.descriptors import room
from groat.server.http.in_force import InForce, Limits
from groat.server.settings.config import Config
from groat.server.settings.reload import Reloader

_LIMITS: Final = ("client_failures", "source_failures", "failure_share")


def in_force(settings: Config) -> InForce:
    """What RELOADED lists, but for the log, which is adjusted where it is read."""
    connections = settings["server.connections"], settings["server.source_connections"]
    return InForce(
        policy=settings.policy,
        timing=settings.timing,
        limits=Limits(*(settings[f"throttle.{name}"] for name in _LIMITS)),
        room=room(*connections, secure=settings.tls is not None),
        trusted_proxies=settings["server.trusted_proxies"],
    )


async def reload_at_hangup(reloader: Reloader) -> None:
    """Listen for the signal until cancelled."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reloader.reload)
    try:
        await loop.create_future()
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
