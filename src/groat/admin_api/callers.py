"""Who may use the admin API: the holder of one of this server's own access tokens, or the peer of the unix socket.

A token is checked by the keys in memory, nothing is fetched; and by the registry, so that a client which was disabled
or lost a scope is out at once, not when its token ends, and so is whoever has a token that was taken back. The peer's
user is what the kernel says of it (SO_PEERCRED).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from starlette.types import Scope

from groat.protocol.access_token import Caller
from groat.protocol.admin_refusals import AdminForbidden, AdminUnauthenticated
from groat.protocol.errors import MissingToken, OAuthError, VerificationError
from groat.protocol.models import Policy
from groat.server.endpoints.standing import Asked, Standing
from groat.server.http.exchange import exchange_of, header_values
from groat.server.http.throttle import Throttle
from groat.server.operations.admin import READ_SCOPE, WRITE_SCOPE, admin_audience
from groat.server.operations.operation import Access
from groat.server.store.audit_trail import Actor, Face
from groat.verifier.bearer import DPOP, is_dpop, token_of
from groat.verifier.possession import Possession, Shown

PEER: Final = "peer_uid"  # in the state of a connection over the socket
SCOPES: Final = {Access.READ: READ_SCOPE, Access.WRITE: WRITE_SCOPE}
_ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, as the audit trail has it, and what he may do."""

    actor: Actor
    may: frozenset[Access]


def own_users(more: frozenset[int]) -> frozenset[int]:
    """Whose processes are operators at the socket: root, the server's own user, and those of the setting."""
    return more | {_ROOT, os.geteuid()}


@dataclass(frozen=True, slots=True)
class Gate:
    """Lets callers in. `users`: numbers of the users who are operators at the socket."""

    policy: Policy
    standing: Standing
    possession: Possession
    throttle: Throttle
    users: frozenset[int]
    clock: Callable[[], float]

    async def admit(self, scope: Scope) -> Asker:
        """Raises AdminUnauthenticated, AdminForbidden, TooManyRequests, StoreUnavailable.

        Whoever shows a token is judged by that alone, at the socket, too.
        """
        credentials = header_values(scope, b"authorization")
        if not credentials and PEER in scope.get("state", {}):
            return self._peer(scope["state"][PEER])
        exchange = exchange_of(scope)
        self.throttle.check(exchange)
        try:
            caller = await self._caller(scope, credentials)
        except VerificationError as error:
            raise self._refusal(scope, error) from None
        exchange.client = caller.client_id
        self.throttle.succeeded(exchange)
        may = await self._may(caller)
        return Asker(Actor(f"client:{caller.client_id} token:{caller.token_id}", Face.API), may)

    def _peer(self, user: int | None) -> Asker:
        if user not in self.users:
            who = "a user that the system does not tell" if user is None else f"user {user}"
            raise AdminForbidden("admin_peer", f"{who} is no operator; admin.socket_users names those who are")
        return Asker(Actor(f"uid:{user}", Face.SOCKET), frozenset(Access))

    async def _caller(self, scope: Scope, credentials: list[bytes]) -> Caller:
        """Raises VerificationError, StoreUnavailable."""
        token, scheme = token_of(credentials, scope["query_string"])
        now = self.clock()
        caller = await self.standing.counting(Asked(token, admin_audience(self.policy), self.policy, now))
        with exchange_of(scope).timed():
            proofs = header_values(scope, b"dpop")
            shown = Shown(scope["method"], scope["raw_path"].decode("ascii"), proofs) if scheme == DPOP else None
            self.possession.confirm(caller, token, shown, now)
        return caller

    async def _may(self, caller: Caller) -> frozenset[Access]:
        """What the token says, as far as the client may still have it."""
        client = await self.standing.registry.find_client(caller.client_id)
        audience = admin_audience(self.policy)
        if client is None or not client.enabled:
            raise AdminForbidden("admin_scope", f"client {caller.client_id} is disabled, or was removed")
        granted = {
            scope for one in client.permissions if one.api.audience == audience for scope in one.scopes
        } & caller.scopes
        may = {access for access, name in SCOPES.items() if name in granted}
        return frozenset(may | ({Access.READ} if Access.WRITE in may else set()))

    def _refusal(self, scope: Scope, error: VerificationError) -> OAuthError:
        """A failure counts against its source; a request without any credentials is no try."""
        dpop = any(is_dpop(one) for one in header_values(scope, b"authorization"))
        error.realm = "groat-admin"
        self.possession.challenge(error, dpop, self.clock)
        missing = isinstance(error, MissingToken)
        reason = "admin_credentials" if missing else "admin_token"
        refusal = AdminUnauthenticated(reason, error.hint if missing else f"{error.reason}: {error.hint}")
        refusal.challenge, refusal.nonce = error.www_authenticate or "Bearer", error.nonce
        return refusal if missing else self.throttle.failed(exchange_of(scope), refusal)


def demand(asker: Asker, access: Access) -> None:
    """Raises AdminForbidden, which names the scope that is wanted (RFC 6750 3.1)."""
    if access not in asker.may:
        wanted = SCOPES[access]
        error = AdminForbidden("admin_scope", f"this needs the scope {wanted}")
        error.challenge = f'Bearer realm="groat-admin", error="insufficient_scope", scope="{wanted}"'
        raise error


def names_of(host: str, port: int, more: tuple[str, ...]) -> list[str]:
    """The URLs below which callers may know a listener at this address: what a proof of possession may be made for."""
    own = {host, "localhost", "127.0.0.1", "[::1]"} if host else set[str]()
    local = [f"http://{f'[{name}]' if ':' in name and name[0] != '[' else name}:{port}" for name in sorted(own)]
    return local + [f"{scheme}://{name}" for name in more for scheme in ("https", "http")]


def state_of(user: int | None) -> dict[str, Any]:
    """The state of a connection over the socket."""
    return {PEER: user}
