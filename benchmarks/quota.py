"""Hold processes to a share of a core, so that what drives them finds room on the same machine.

By the kernel's CPU bandwidth control (cgroup v2 `cpu.max`, or v1 `cpu.cfs_quota_us`); needs root. Only v1 was tried.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

UNIFIED = Path("/sys/fs/cgroup")
LEGACY = UNIFIED / "cpu"
# Short, so that nobody waits long for a worker that ran out of its share while it held the database's lock.
PERIOD_US = 10_000


@contextmanager
def held_to(share: float, pids: Sequence[int]) -> Iterator[None]:
    """Give each of these processes at most `share` of one core, its children included.

    Raises OSError without root, or where neither cgroup hierarchy has a CPU controller.
    """
    with ExitStack() as held:
        for pid in pids:
            group = _new_group(f"groat-bench-{pid}")
            held.callback(_dissolve, group)
            _limit(group, round(PERIOD_US * share))
            (group / "cgroup.procs").write_text(str(pid))
        yield


def _new_group(name: str) -> Path:
    parent = UNIFIED if (UNIFIED / "cgroup.controllers").exists() else LEGACY
    group = parent / name
    group.mkdir()
    return group


def _limit(group: Path, quota_us: int) -> None:
    if group.parent == UNIFIED:
        (UNIFIED / "cgroup.subtree_control").write_text("+cpu")
        (group / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
        return
    (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
    (group / "cpu.cfs_quota_us").write_text(str(quota_us))


def _dissolve(group: Path) -> None:
    """Send the group's processes back to the root of the hierarchy; a group that holds any cannot go."""
    for pid in (group / "cgroup.procs").read_text().split():
        with suppress(ProcessLookupError):
            (group.parent / "cgroup.procs").write_text(pid)
    with suppress(OSError):
        os.rmdir(group)
