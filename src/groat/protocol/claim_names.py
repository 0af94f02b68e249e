"""Which claims mean something to whoever reads an access token, and so are nobody's to set."""

from typing import Final

# What groat writes itself, or would: no setting may stand in its place. A stored one is refused, too.
REGISTERED_CLAIMS: Final = frozenset(
    {"iss", "exp", "aud", "sub", "client_id", "iat", "nbf", "jti", "scope", "cnf", "act", "may_act", "status"}
)
# The rest of the IANA registry "JSON Web Token Claims", members that introspection (RFC 7662 2.2) puts beside claims,
# and one that others have for scope. An API that reads one of them may take it for what its standard says, and
# nobody here has checked that.
FOREIGN_CLAIMS: Final = frozenset(
    {
        # who somebody is (OpenID Connect Core 5.1, Identity Assurance)
        "name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture",
        "website", "email", "email_verified", "gender", "birthdate", "zoneinfo", "locale", "phone_number",
        "phone_number_verified", "address", "updated_at", "verified_claims", "place_of_birth", "nationalities",
        "birth_family_name", "birth_given_name", "birth_middle_name", "salutation", "title", "msisdn",
        "also_known_as", "sub_id", "sub_jwk",
        # what he may do (RFC 9068 2.2.3, RFC 9396, and how others spell it)
        "roles", "groups", "entitlements", "authorization_details", "scp",
        # how and when he proved it, to whom
        "auth_time", "acr", "amr", "azp", "sid", "nonce", "at_hash", "c_hash", "s_hash", "st_hash", "vot", "vtm",
        "htm", "htu", "ath", "cnonce", "exi", "ace_profile",
        # what kind of token this is, and what became of it
        "events", "toe", "txn", "status_list", "token_introspection", "token_type", "active", "username",
        "_claim_names", "_claim_sources", "vc", "vp", "vct", "sig_val_claims",
        # calls, contents and devices
        "orig", "dest", "mky", "div", "opt", "rph", "rcd", "rcdi", "crn", "attest", "origid", "atc", "jcard",
        "sip_from_tag", "sip_date", "sip_callid", "sip_cseq_num", "sip_via_branch", "cdniv", "cdnicrit", "cdniip",
        "cdniuc", "cdniets", "cdnistt", "cdnistd", "eat_nonce", "ueid", "sueids", "oemid", "hwmodel", "hwversion",
        "oemboot", "dbgstat", "location", "eat_profile", "submods", "uptime", "bootcount", "bootseed", "dloas",
        "swname", "swversion", "manifests", "measurements", "measres", "intuse",
    }
)  # fmt: skip
OWN_PREFIX: Final = "groat:"


def claim_fault(name: str) -> str:
    """Why this name is not free for a claim of an operator's own, as the end of a sentence; empty where it is.

    Whatever its case: to readers that look for members without it (Go's encoding/json) `Roles` is `roles`.
    """
    plain = name.lower()
    if plain in REGISTERED_CLAIMS or plain in FOREIGN_CLAIMS:
        return "is a registered claim, which APIs read as its standard says"
    if plain.startswith(OWN_PREFIX):
        return f"begins with {OWN_PREFIX}, which is for claims of groat"
    return ""
