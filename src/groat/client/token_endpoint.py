"""Getting one token: find the endpoint, sign, send, read; and try again where that can help (RFC 6749 4.4.2)."""

import logging
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from groat.client.assertion import Assertion, Credential, Statement
from groat.client.discovery import Directory, Endpoint
from groat.client.errors import ClientError, KeyUnusable
from groat.client.possession import Possession
from groat.client.retry import RefreshPolicy, RetryPolicy
from groat.client.token import Issued, Wish
from groat.client.token_response import is_credential_refused, is_nonce_challenge, issued_token, refused_answer
from groat.client.wire import Outgoing, Transport
from groat.outbound.clocks import Clocks
from groat.protocol.grants.client_credentials import NAME as CLIENT_CREDENTIALS
from groat.protocol.grants.jwt_bearer import NAME as JWT_BEARER_GRANT

FORM_HEADERS: Final = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
logger = logging.getLogger("groat.client")


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """Everything that a token request needs; blocking, so it runs in a thread of its own."""

    directory: Directory
    credential: Credential
    transport: Transport
    clocks: Clocks
    retry: RetryPolicy
    refresh: RefreshPolicy
    assertion_lifetime: int = 60
    narrowed_ok: bool = False
    possession: Possession | None = None

    def fetch(self, wish: Wish) -> Issued:
        """Get a token, trying transient failures again with a new assertion. Raises ClientError, the last one met.

        A wait that would outlast the total deadline is not begun: the error then says how long the server asked for.
        """
        end = self.clocks.monotonic() + self.retry.total
        attempt = 0
        while True:
            try:
                return self._attempt(wish, end, attempt)
            except ClientError as error:
                delay = self.retry.delay(attempt, error.retry_after, self.clocks.random())
                last = attempt >= self.retry.retries or self.clocks.monotonic() + delay >= end
                if last or not error.transient:
                    raise
                logger.warning("token request failed, next try in %.1f s: %s: %s", delay, wish, error)
            self.clocks.sleep(delay)
            attempt += 1

    def _attempt(self, wish: Wish, end: float, attempt: int, spent: frozenset[str] = frozenset()) -> Issued:
        """One request; one more, with all its parts new, if the server gives a nonce that the first did not have.

        And one more for a workload's token that was replaced while it was under way; `spent`: what was tried already.
        """
        endpoint = self.directory.endpoint(end)
        statement = Statement(wish.issuer, wish.client_id, int(self.clocks.now()), self.assertion_lifetime)
        assertion = self.credential.assertion(statement, endpoint)
        logger.debug("token request: %s kid=%s jti=%s attempt=%d", wish, assertion.kid, assertion.jti, attempt + 1)
        proof = {} if self.possession is None else {"DPoP": self.possession.proof("POST", endpoint.url)}
        request = Outgoing("POST", endpoint.url, {**FORM_HEADERS, **proof}, _form(wish, assertion))
        # The server starts counting expires_in at some moment after this one, so the token is never used for too long.
        sent_at, now = self.clocks.monotonic(), self.clocks.now()
        answer = self.transport.exchange(request, end)
        fresh = self.possession is not None and self.possession.heed(endpoint.url, answer.headers)
        if answer.status != 200:
            if fresh and "nonce" not in spent and is_nonce_challenge(answer):
                return self._attempt(wish, end, attempt, spent | {"nonce"})
            unknown = "token" not in spent and is_credential_refused(answer)
            if unknown and self._replaced(assertion, statement, endpoint):
                return self._attempt(wish, end, attempt, spent | {"token"})
            raise refused_answer(answer, wish, assertion.kid, self.clocks.now()).about(answer.request_id)
        issued = issued_token(answer, wish, self.refresh, sent_at=sent_at, now=now, narrowed_ok=self.narrowed_ok)
        if isinstance(issued, ClientError):
            raise issued.about(answer.request_id)
        logger.info("token obtained: %s expires_at=%.0f", wish, issued.token.expires_at)
        return issued

    def _replaced(self, assertion: Assertion, statement: Statement, endpoint: Endpoint) -> bool:
        """Whether another token lies by now where this one was read; one of our own is never tried again."""
        if not assertion.replaced:
            return False
        try:
            return self.credential.assertion(statement, endpoint).value != assertion.value
        except KeyUnusable:  # of two answers the server's says more
            return False


def _form(wish: Wish, assertion: Assertion) -> bytes:
    fields = _presented(assertion)
    if wish.client_id:
        # Not needed beside an assertion (RFC 7521 4.2), but several servers look the client up by it.
        fields["client_id"] = wish.client_id
    if wish.scopes:
        fields["scope"] = wish.scope
    if wish.resource is not None:
        fields["resource"] = wish.resource
    return urlencode(fields).encode("ascii")


def _presented(assertion: Assertion) -> dict[str, str]:
    if not assertion.value:
        return {"grant_type": CLIENT_CREDENTIALS}
    if assertion.as_grant:
        return {"grant_type": JWT_BEARER_GRANT, "assertion": assertion.value}
    return {
        "grant_type": CLIENT_CREDENTIALS,
        "client_assertion_type": assertion.assertion_type,
        "client_assertion": assertion.value,
    }
