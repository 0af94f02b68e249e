"""Reload at SIGHUP: from the settings, read again, to what the server goes by."""

import asyncio
import signal
from typing import Final

from groat.server.connection.descriptors import room
from groat.server.http.in_force import InForce
from groat.server.settings.config import Config
from groat.server.settings.reload import Reloader

_LIMITS: Final = ("client_failures", "source_failures", "failure_share")


def in_force(settings: Config) -> InForce:
    """What RELOADED lists, but for the log, which is adjusted where it is read."""
    capacity, secure = settings.capacity, settings.listener.tls is not None
    return InForce(
        policy=settings.policy,
        timing=settings.timing,
        limits=settings.limits,
        room=room(capacity.connections, capacity.source_connections, secure=secure),
        trusted_proxies=capacity.trusted_proxies,
        certificate_proxies=capacity.proxy,
    )


async def reload_at_hangup(reloader: Reloader) -> None:
    """Listen for the signal until cancelled."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reloader.reload)
    try:
        await loop.create_future()
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
