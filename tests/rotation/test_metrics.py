"""What the metrics say about the ring."""

from dataclasses import replace
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from groat.keys.ring.keyring import SigningKey
from groat.server.endpoints.exposition import Metrics
from groat.server.log.audit import Audit

from .simulator import START, fresh_key

NAME: Final = "groat_signing_key_next_rotation_timestamp_seconds"


def families(*keys: SigningKey) -> dict[str, list[float]]:
    """The values of every family for this ring."""
    text = Metrics(Audit().tally).render(keys, START + 10).decode()
    return {family.name: [sample.value for sample in family.samples] for family in text_string_to_metric_families(text)}


@pytest.mark.rule("KEY-22")
def test_the_next_rotation_is_a_metric_while_one_is_planned() -> None:
    """Its absence is what an alert on a ring that nobody rotates looks for."""
    lonely = fresh_key("k1", START)
    leaving, heir = replace(lonely, retires_at=START + 900), replace(fresh_key("k2", START), activates_at=START + 900)
    assert families(leaving, heir)[NAME] == [START + 900]
    assert families(leaving, heir)["groat_signing_key_age_seconds"] == [10, 10]
    assert NAME not in families(lonely)
