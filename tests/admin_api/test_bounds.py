"""What the admin API may cost the process that it shares with the token endpoint."""

import http.client
import socket
from contextlib import ExitStack, closing

from groat.admin_api.endpoint import MAX_AT_ONCE
from groat.server import operations
from groat.server.operations.client_lists import LOOKED_AT_ONCE, MAX_LOOKED_AT, ClientFilter, list_some_clients
from groat.server.store.audit_trail import Actor, Deed, Face
from groat.server.store.changes import AddClient
from groat.server.store.records import ClientRecord
from tests.admin_api.conftest import Admin

HEAD = (
    b"POST /admin/v1/apis HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 60\r\n"
    b"expect: 100-continue\r\n\r\n"
)


def test_so_many_are_in_work_at_once(admin: Admin) -> None:
    """Whoever does not send his body holds one of the places, for 15 s at most; one more is told to wait."""
    with ExitStack() as stack:
        for _ in range(MAX_AT_ONCE):
            waiting = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
            waiting.settimeout(10)
            waiting.connect(str(admin.socket))
            waiting.sendall(HEAD)
            assert waiting.recv(1024).startswith(b"HTTP/1.1 100")  # it reads the body: it is in
        refused = admin.over_socket("GET", "/admin/v1/apis")
        assert (refused.status, refused.json["reason"]) == (503, "overloaded")
        assert refused.header("retry-after")
        assert admin.lab.token()  # places of the token endpoint are others
    while (found := admin.over_socket("GET", "/admin/v1/apis")).status == 503:
        pass
    assert found.status == 200


def test_a_stranger_sends_no_body(admin: Admin) -> None:
    """It is refused by its head alone."""
    with closing(http.client.HTTPConnection("127.0.0.1", admin.port, timeout=10)) as connection:
        connection.putrequest("POST", "/admin/v1/apis")
        connection.putheader("content-length", "60000")
        connection.endheaders()
        assert connection.getresponse().status == 401


def test_a_part_of_a_long_list_costs_a_bounded_look(admin: Admin) -> None:
    """Of very many clients of which few are meant, a part says how to go on instead of looking at all of them."""
    many = MAX_LOOKED_AT + LOOKED_AT_ONCE

    async def fill(operator: operations.Operator) -> None:
        deed = Deed(Actor("test", Face.CLI), "client.added", operator.now)
        records = [ClientRecord(f"bulk-{number:05}", {}, operator.now) for number in range(many)]
        await operator.store.change(deed, None, [AddClient(record) for record in records])

    admin.lab.operate(fill)
    wanted = ClientFilter(disabled=True)
    part = admin.lab.operate(lambda op: list_some_clients(op, wanted, "bulk", 10))
    assert (part.found, part.last) == ((), f"bulk-{MAX_LOOKED_AT - 1:05}")
    rest = admin.lab.operate(lambda op: list_some_clients(op, wanted, part.last or "", 10))
    assert (rest.found, rest.last) == ((), None)
    page = admin.over_socket("GET", "/admin/v1/clients?limit=500").json
    assert len(page["items"]) == 500
