"""Why a token of another issuer makes nobody a client, in the form of `reasons`."""

from typing import Final

WORKLOAD_TEXT: Final = """
workload_algorithm
    The algorithm of the foreign token is not one of its trust, or outside the profile.
    groat trust update --alg, if the platform really signs so.
workload_ambiguous
    The workload is several clients, and the request does not say which.
    Send client_id, or let one rule less fit.
workload_anothers
    Another key used the foreign token first, and its trust binds each token to that key.
    Keep one DPoP key for as long as a token lives (a key file); if none of yours came first, the token was stolen.
workload_audience
    The foreign token is not for this issuer alone.
    Ask the platform for a token whose audience is this issuer; the default audience of a platform is never it.
workload_claims
    A claim of the foreign token is missing or of the wrong type.
    The hint names it; without jti its trust cannot take each token once.
workload_client
    The workload is a client by its rules, and not the one that the request names.
    The hint has the rule that came nearest and what it misses; leave client_id out, or correct the rule.
workload_copy
    A claim that the rule copies is no string or number, or all of them are too long.
    Copy less; groat client trust list shows the rule.
workload_disabled
    The workload is a client that an operator has disabled, or removed.
    groat client enable, if that is over.
workload_expired
    The foreign token is over.
    The workload reads or asks for a new one before each request.
workload_gone
    The cluster, which the trust asks, says that the token counts no more: its pod or service account is gone.
    A running pod gets a new token by itself; groat trust update --no-review asks nobody.
workload_issuer
    Nobody here trusts the issuer of the token, or the trust is disabled.
    groat trust list; groat trust add for another issuer, written exactly as iss has it.
workload_key
    The trusted issuer has no key of that kid, as far as this server knows.
    After a rotation bring the new set to where the trust reads it; another cluster's token looks like this, too.
workload_lifetime
    The foreign token lives longer than its trust allows.
    Have the platform make shorter ones, or groat trust update --max-lifetime.
workload_malformed
    The foreign token is no signed JWT in the strict sense.
    The hint says what.
workload_not_yet
    The foreign token begins in the future.
    Set the clocks.
workload_platform
    The token says something that its platform's preset never takes: an unbound one, one of a person, a fork's.
    The hint says what; the guide of the platform says how to get a right one.
workload_replayed
    The foreign token was used before, and its trust takes each once.
    The job asks its platform for one token for each request; groat trust update --replay reuse lets one be used again.
workload_rule
    The token is good, and no rule makes it any client.
    The hint has the rule that came nearest and what it misses; groat trust test tells the same offline.
workload_signature
    The foreign token is not signed by the key that it names, or was changed afterwards.
    A key of the same name in another cluster or instance: the trust has the wrong set.
workload_type
    The typ of the token says that it is another kind of JWT.
    Present the token that the platform makes for workloads; an access token is for an API.
workload_unproven
    The trust binds each token to the first key that uses it, and the request has no proof of possession.
    Have the workload send DPoP proofs, or groat trust update --replay auto, which is for clients without proofs, too.
workload_use
    The trust is not for tokens that are presented in this way.
    Send it as assertion of the JWT bearer grant or as client_assertion, whichever the trust takes.
"""
