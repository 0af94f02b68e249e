"""Two who apply files at the same moment, on both stores: each is whole, and the later one starts over."""

import asyncio
import threading
from pathlib import Path

from groat.server import operations
from groat.server.desired.reading import read_wanted
from groat.server.operations.desired import DesiredPlan, DesiredWish
from tests.server.store.conftest import place as place
from tests.server.store.places import Place

from .test_export import agree, exported, operator_on


def wish(folder: Path, audience: str) -> DesiredWish:
    file = folder / f"{audience}.toml"
    file.write_text(f'[apis.orders]\naudience = "https://{audience}.example"\nscopes = ["read"]\n')
    return DesiredWish(read_wanted(file))


def test_the_later_one_starts_over_from_what_the_first_one_left(place: Place, tmp_path: Path) -> None:
    """Between its plan and its writing somebody else is faster: it is shown a second plan, and writes that one."""
    plans: list[DesiredPlan] = []

    async def rival() -> None:
        async with place.store() as store:
            await operations.apply_desired(operator_on(store), wish(tmp_path, "first"), agree)

    def judge(plan: DesiredPlan) -> None:
        plans.append(plan)
        if len(plans) == 1:
            thread = threading.Thread(target=asyncio.run, args=(rival(),))
            thread.start()
            thread.join()

    async def work() -> None:
        async with place.store() as store:
            operator = operator_on(store)
            await operations.apply_desired(operator, wish(tmp_path, "second"), judge)
            assert [[one.operation for one in plan.differences] for plan in plans] == [["add"], ["change"]]
            assert "https://second.example" in await exported(operator)
            rows = await store.audit_rows(limit=10)
            assert [row.object for row in rows if row.operation == "registry.applied"] == ["api/orders"] * 2

    asyncio.run(work())
