"""What the rows of trusts and of their rules say; raises as the readers in `rows`."""

import json
from collections.abc import Mapping
from typing import Any

from groat.protocol.federation.claim_paths import parse_path, written
from groat.protocol.federation.conditions import Condition
from groat.protocol.federation.rules import Rule
from groat.protocol.federation.trust import KeySource, Replay, Review, SourceKind, Trust, Use
from groat.server.store.records import RuleRecord, TrustRecord
from groat.server.store.rows import Row, reads


def trust_document(trust: Trust) -> str:
    """What of a trust stands in the JSON column; name, issuer and `enabled` have columns of their own."""
    source = trust.source
    return json.dumps(
        {
            "preset": trust.preset,
            "source": [source.kind, source.at, source.ca_file, source.token_file],
            "algorithms": trust.algorithms,
            "audiences": trust.audiences,
            "max_lifetime": trust.max_lifetime,
            "replay": trust.replay,
            "uses": sorted(trust.uses),
            "review": trust.review and [trust.review.server, trust.review.token_file, trust.review.ca_file],
        }
    )


@reads("a trust")
def trust_record(row: Row) -> TrustRecord:
    document: Mapping[str, Any] = json.loads(row["document"])
    kind, *place = document["source"]
    trust = Trust(
        name=row["name"],
        issuer=row["issuer"],
        enabled=bool(row["enabled"]),
        preset=document["preset"],
        source=KeySource(SourceKind(kind), *place),
        algorithms=tuple(document["algorithms"]),
        audiences=tuple(document["audiences"]),
        max_lifetime=document["max_lifetime"],
        replay=Replay(document["replay"]),
        uses=frozenset(map(Use, document["uses"])),
        review=Review(*review) if (review := document.get("review")) else None,  # rows of before have none
    )
    return TrustRecord(trust, row["created_at"])


def rule_document(rule: Rule) -> str:
    """What of a rule stands in the JSON column."""
    return json.dumps(
        {
            "match": [str(condition) for condition in rule.conditions],
            "copy": [written(path) for path in rule.copied],
            "allow": sorted(rule.allows),
        }
    )


@reads("a rule of a trust")
def rule_record(row: Row) -> RuleRecord:
    document: Mapping[str, Any] = json.loads(row["document"])
    rule = Rule(
        row["rule_id"],
        row["trust"],
        row["client_id"],
        tuple(map(Condition.parse, document["match"])),
        tuple(map(parse_path, document["copy"])),
        frozenset(document["allow"]),
    )
    return RuleRecord(rule, row["found_by"], row["created_at"])
