"""Figures about a verifier, for whatever metrics library the API uses; this package depends on none.

With prometheus-client, for example:

    class Figures(Observer):
        def verified(self, result: str, reason: str) -> None:
            VERIFIED.labels(result, reason).inc()            # groat_verify_total{result,reason}

        def refreshed(self, issuer: str, result: str, trigger: str) -> None:
            REFRESHED.labels(result, trigger).inc()          # groat_verify_jwks_refresh_total{result,trigger}

        def status_refreshed(self, issuer: str, result: str) -> None:
            STATUS.labels(result).inc()                      # groat_verify_status_refresh_total{result}

        def status_unknown(self, issuer: str) -> None:
            UNKNOWN.inc()                                    # groat_verify_status_unknown_total

    verifier = Verifier(..., observer=Figures())
    AGE.set_function(lambda: verifier.jwks_age() or float("nan"))   # groat_verify_jwks_age_seconds
"""

import logging

logger = logging.getLogger("groat.verifier")


class Observer:
    """Override what is of interest. Called in the thread or event loop that verifies, so it must not block.

    What it raises is logged and changes no verdict.
    """

    def verified(self, result: str, reason: str) -> None:
        """One verdict. `result`: accepted, refused, or unavailable (503); `reason`: that of the error, else empty."""

    def refreshed(self, issuer: str, result: str, trigger: str) -> None:
        """One fetch of an issuer's keys has ended. `result`: ok or failed; `trigger`: first (there were none),
        schedule, unknown_kid, or forced (by `warm`)."""

    def status_refreshed(self, issuer: str, result: str) -> None:
        """A list or feed was fetched, or a token asked about. `result`: ok or failed."""

    def status_unknown(self, issuer: str) -> None:
        """A token was accepted although nobody could tell whether it was taken back (`on_status_unknown`)."""


class Guarded(Observer):
    """Around somebody's observer: a fault of theirs ends here."""

    def __init__(self, inner: Observer) -> None:
        self._inner = inner

    def verified(self, result: str, reason: str) -> None:
        try:
            self._inner.verified(result, reason)
        except Exception:
            logger.exception("the observer failed")

    def refreshed(self, issuer: str, result: str, trigger: str) -> None:
        try:
            self._inner.refreshed(issuer, result, trigger)
        except Exception:
            logger.exception("the observer failed")

    def status_refreshed(self, issuer: str, result: str) -> None:
        try:
            self._inner.status_refreshed(issuer, result)
        except Exception:
            logger.exception("the observer failed")

    def status_unknown(self, issuer: str) -> None:
        try:
            self._inner.status_unknown(issuer)
        except Exception:
            logger.exception("the observer failed")
