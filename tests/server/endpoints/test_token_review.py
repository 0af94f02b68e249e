"""Whether a cluster still vouches for a token that its own keys have signed (TokenReview)."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from groat.protocol.federation.trust import Review
from groat.server import operations
from groat.server.operations.trusts import TrustChange
from groat.server.registry import token_reviews
from tests.protocol.federation.platforms import PLATFORMS
from tests.server.api_server import ALLOWED, ApiServer, api_server, good
from tests.server.builders import ISS
from tests.server.lab import Lab, prepare, running
from tests.server.wire import Answer, check_ec, check_ok, check_refused

from .test_workloads import NEAR, admit, authenticate, grant, keyless, trust

POD: Final = PLATFORMS["kubernetes"]


@dataclass
class Reviewed:
    """A server that asks a cluster, and that cluster."""

    lab: Lab
    cluster: ApiServer
    folder: Path
    tokens: int = 0

    def token(self, **claims: Any) -> str:
        """One that nobody has asked about yet."""
        self.tokens += 1
        return POD.token(jti=f"reviewed-{self.tokens}", **claims)

    def change(self, review: Review | None) -> None:
        self.lab.operate(lambda op: operations.update_trust(op, "kubernetes", TrustChange(review=review)))

    @property
    def review(self) -> Review:
        return Review(self.cluster.url, str(self.folder / "may-review"), str(self.folder / "ca.pem"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reviewed]:
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "may-review").write_text(ALLOWED)
    with api_server(folder) as cluster, running(prepare(tmp_path_factory.mktemp("reviewing"), NEAR)) as lab:
        keyless(lab, "kubernetes")
        reviewed = Reviewed(lab, cluster, folder)
        trust(lab, POD, "kubernetes", review=reviewed.review)
        admit(lab, POD, "kubernetes", "kubernetes")
        yield reviewed


@pytest.fixture
def reviewed(installed: Reviewed) -> Iterator[Reviewed]:
    """As it was: the cluster says yes."""
    cluster = installed.cluster
    cluster.says, cluster.status, cluster.pause, cluster.kind = good, 201, 0.0, "TokenReview"
    cluster.asked.clear()
    yield installed
    installed.change(installed.review)


def refused(reviewed: Reviewed, answer: Answer, reason: str, status: int = 400) -> str:
    assert answer.status == status, answer
    assert reviewed.lab.reason(answer) == reason
    return str(reviewed.lab.event(answer)["hint"])


@pytest.mark.rule("AS-WI-03")
def test_a_token_that_the_cluster_vouches_for(reviewed: Reviewed) -> None:
    """It is asked with the token and our audience, and again only when ten seconds are over; in both uses."""
    token = reviewed.token()
    for _ in range(3):
        check_ok(grant(reviewed.lab, token))
    check_ok(authenticate(reviewed.lab, token))
    assert reviewed.cluster.asked == [{"token": token, "audiences": [ISS]}]
    check_ok(grant(reviewed.lab, reviewed.token()))
    assert len(reviewed.cluster.asked) == 2
    assert token_reviews.GOOD_SECONDS <= 10


def status(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda spec: {name: value for name, value in {**good(spec), **changes}.items() if value is not None}


@pytest.mark.rule("AS-WI-03")
@pytest.mark.parametrize(
    ("says", "said"),
    [
        (status(authenticated=False, error="pod not found"), "pod not found"),
        (status(authenticated=None), "counts no more"),
        (status(authenticated="true"), "counts no more"),
        (status(authenticated=1), "counts no more"),
        (status(audiences=None), "audience"),
        (status(audiences=[]), "audience"),
        (status(audiences=ISS), "audience"),
        (status(audiences=["https://kubernetes.default.svc"]), "audience"),
        (status(user=None), "somebody else"),
        (status(user={"username": "system:serviceaccount:other:worker"}), "somebody else"),
    ],
)
def test_a_token_that_it_does_not_vouch_for(
    reviewed: Reviewed, says: Callable[[dict[str, Any]], Any], said: str
) -> None:
    """Is refused as for any fault, each time, and asked about each time; the log says what the cluster said."""
    reviewed.cluster.says = says
    token = reviewed.token()
    answer = grant(reviewed.lab, token)
    check_refused(answer, "invalid_grant", 400)
    assert said in refused(reviewed, answer, "workload_gone")
    check_ec(authenticate(reviewed.lab, token))
    reviewed.cluster.says = good
    check_ok(grant(reviewed.lab, token))
    assert len(reviewed.cluster.asked) >= 3, "a no is not remembered"


@pytest.mark.rule("AS-WI-03")
def test_a_cluster_that_does_not_answer(reviewed: Reviewed) -> None:
    """503 and never a token: away, silent, unknown to our authority, without leave to ask, with another answer."""
    ca, may = str(reviewed.folder / "ca.pem"), str(reviewed.folder / "may-review")
    (reviewed.folder / "may-not").write_text("another-token")
    away, may_not = "https://127.0.0.1:9", str(reviewed.folder / "may-not")
    for review, said in (
        (Review(away, may, ca), "127.0.0.1:9"),
        (Review(reviewed.cluster.url, may), "127.0.0.1"),
        (Review(reviewed.cluster.url, may_not, ca), "401"),
        (Review(reviewed.cluster.url, may + "-gone", ca), "cannot be read"),
        (Review("https://10.1.2.3", may, ca), "not public"),
    ):
        reviewed.change(review)
        assert said in refused(reviewed, grant(reviewed.lab, reviewed.token()), "review_unavailable", 503)
    reviewed.change(reviewed.review)
    reviewed.cluster.status = 200
    refused(reviewed, grant(reviewed.lab, reviewed.token()), "review_unavailable", 503)
    reviewed.cluster.status, reviewed.cluster.kind = 201, "Status"
    refused(reviewed, authenticate(reviewed.lab, reviewed.token()), "review_unavailable", 503)
    reviewed.cluster.kind = "TokenReview"
    check_ok(grant(reviewed.lab, reviewed.token()))


@pytest.mark.rule("AS-WI-03", "P02")
def test_a_silent_cluster_holds_up_its_own_pods_alone(reviewed: Reviewed) -> None:
    """They wait for two seconds, then get 503; a client that signs for itself does not wait at all."""
    reviewed.cluster.pause = 8.0
    answers: list[Answer] = []
    tokens = [reviewed.token() for _ in range(12)]
    threads = [threading.Thread(target=lambda one=one: answers.append(grant(reviewed.lab, one))) for one in tokens]
    for thread in threads:
        thread.start()
    while not reviewed.cluster.asked:
        time.sleep(0.01)
    check_ok(reviewed.lab.ask())
    assert not answers, "who signs for himself was served before"
    for thread in threads:
        thread.join(30)
    assert {answer.status for answer in answers} == {503}


@pytest.mark.rule("AS-WI-03")
def test_the_same_token_at_once_is_one_question(reviewed: Reviewed) -> None:
    """Whoever asks while it is under way waits for the same answer."""
    reviewed.cluster.pause = 0.5
    token, answers = reviewed.token(), list[Answer]()
    threads = [threading.Thread(target=lambda: answers.append(grant(reviewed.lab, token))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {answer.status for answer in answers} == {200}
    assert len(reviewed.cluster.asked) == 1


@pytest.mark.rule("AS-WI-03", "AS-JB-19")
def test_strangers_ask_nobody(reviewed: Reviewed) -> None:
    """Only for a token that holds, and that a rule makes a client, a cluster is asked."""
    wrong = POD.token({"kid": "unknown"}), POD.token(aud="x"), POD.token(**POD.stranger), POD.token()[:-8] + "AAAAAAAA"
    for token in wrong:
        check_refused(grant(reviewed.lab, token), "invalid_grant", 400)
    assert reviewed.cluster.asked == []
    reviewed.change(None)
    check_ok(grant(reviewed.lab, reviewed.token()))
    before = len(reviewed.cluster.asked)
    check_ok(grant(reviewed.lab, reviewed.token()))
    assert len(reviewed.cluster.asked) == before
