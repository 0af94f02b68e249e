"""The rotator by clocks that are wrong: no step while the time is in doubt, and never the end of a key that is in use."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from groat.keys.custody import Signer
from groat.keys.custody.sealed import KeyEncryptionKey
from groat.keys.ring.keyring import active_key
from groat.keys.ring.schedule import GRACE, Timing
from groat.protocol.jwk import PublicKey
from groat.protocol.models import OneTimeKind, OneTimeValue
from groat.server.chores.rotator import SPARE_SECONDS, Rotator
from groat.server.store import Issuance, StoreUnavailable
from groat.server.store.changes import SwitchClient
from groat.server.store.trusted_time import SETTLED_SECONDS, TrustedTime
from groat.server.unavailable import Unavailable
from tests.server.store.places import DEED

from .clock import DAY, KEK, NOW, Clock
from .test_rotator import Scene, run


@dataclass(slots=True)
class Vault:
    """A custodian that tells what it was told to destroy."""

    kek: KeyEncryptionKey = KEK
    destroyed: list[str] = field(default_factory=list)

    async def generate(self, algorithm: str) -> tuple[PublicKey, bytes]:
        return await self.kek.generate(algorithm)

    async def signer(self, public: PublicKey, sealed: bytes) -> Signer:
        return await self.kek.signer(public, sealed)

    async def destroy(self, public: PublicKey, sealed: bytes) -> None:
        self.destroyed.append(public.kid)

    async def reseal(self, public: PublicKey, sealed: bytes) -> bytes | None:
        return None


@dataclass(slots=True)
class Suspect:
    """A server whose wall clock a test turns against its monotonic one."""

    made: Scene
    rotator: Rotator
    monotonic: Clock
    vault: Vault

    @classmethod
    async def of(cls, made: Scene, ahead: float = 0.0) -> "Suspect":
        """One that starts now; its clock may be wrong from the start. The store was served a moment ago."""
        monotonic, vault = Clock(1000.0), Vault()
        made.clock.now += ahead
        rotator = made.rotator()
        rotator.time = TrustedTime(rotator.ring.operator.store, made.clock, monotonic)
        rotator.ring = replace(rotator.ring, custody=vault)
        await rotator.ring.operator.store.raise_horizon(NOW - 600)
        return cls(made, rotator, monotonic, vault)

    def wait(self, seconds: float) -> None:
        """Both clocks go on."""
        self.made.clock.now += seconds
        self.monotonic.now += seconds

    async def idle(self) -> None:
        """It looks, and does nothing for want of a time to go by."""
        before = await self.made.keys()
        with pytest.raises(Unavailable) as caught:
            await self.rotator.look()
        assert caught.value.reason == "clock_in_doubt"
        assert await self.made.keys() == before
        assert self.vault.destroyed == []

    async def use(self, kid: str) -> None:
        """A token is signed with this key; the store remembers it for a year."""
        at = int(self.made.clock.now)
        value = OneTimeValue(OneTimeKind.ASSERTION, "c", f"j{self.monotonic.now}", at + 365 * DAY)
        await self.rotator.ring.operator.store.use_once(value, Issuance(f"t{self.monotonic.now}", "c", kid, at))


@pytest.mark.rule("CL-3", "I12", "I13")
@pytest.mark.parametrize("step", [60 * DAY, 3600, 6, -6, -3600, -60 * DAY])
@pytest.mark.parametrize("running", [True, False], ids=["steps", "starts"])
def test_no_step_by_a_clock_in_doubt(tmp_path: Path, step: float, running: bool) -> None:
    """A clock that stepped, is behind what the store has seen, or far ahead of it; told once, and over when it is."""

    async def work(made: Scene) -> None:
        suspect = await Suspect.of(made, 0 if running else step)
        if running:
            assert await suspect.rotator.look() == 1  # the next key is published
            made.clock.now += step
        elif abs(step) <= 3600 and step > -600:
            return  # nothing gives that away
        for _ in range(3):
            await suspect.idle()
            suspect.wait(30)
        made.clock.now -= step
        await suspect.idle()  # it stepped again
        suspect.wait(SETTLED_SECONDS)
        assert await suspect.rotator.look() == (0 if running else 1)
        assert all(key.sealed for key in await made.keys())

    run(tmp_path, work)


@pytest.mark.rule("CL-3", "I13", "KEY-20")
def test_a_key_in_use_is_never_destroyed(tmp_path: Path) -> None:
    """A wrong clock that everything believes after a while: what uses name stays, the rest waits out its grace."""

    async def work(made: Scene) -> None:
        suspect = await Suspect.of(made)
        await suspect.rotator.look()
        used = active_key(await made.keys(), NOW)
        assert used is not None
        await suspect.use(used.kid)
        made.clock.now += 60 * DAY
        suspect.rotator.time.sample()
        suspect.wait(SETTLED_SECONDS + 1)
        await suspect.rotator.look()
        for _ in range(3):
            suspect.wait(SPARE_SECONDS)
            await suspect.rotator.look()
        assert used.kid not in suspect.vault.destroyed
        assert {key.kid: bool(key.sealed) for key in await made.keys()}[used.kid]
        assert made.events().count("key.spared") == 1

    run(tmp_path, work)


@pytest.mark.rule("CL-3", "I13", "KEY-20")
def test_the_grace(tmp_path: Path) -> None:
    """A day after the last second in which any clock let it sign, and not one second sooner."""

    async def work(made: Scene) -> None:
        suspect = await Suspect.of(made)
        await suspect.rotator.look()
        first, _ = await made.keys()
        assert first.retires_at is not None
        suspect.wait(first.retires_at + 120 + GRACE - 1 - NOW)
        await suspect.rotator.look()
        assert suspect.vault.destroyed == []
        suspect.wait(1)
        await suspect.rotator.look()
        assert suspect.vault.destroyed == [first.kid]

    run(tmp_path, work)


@pytest.mark.rule("CL-3", "I13")
@pytest.mark.parametrize(("rotate_every", "grace"), [(0, DAY), (30 * DAY, DAY), (5 * DAY, DAY // 2), (600, 60)])
def test_the_grace_of_fast_rotations(rotate_every: int, grace: int) -> None:
    """A tenth of the period where that is shorter than a day."""
    assert Timing(rotate_every=rotate_every).grace == grace


@pytest.mark.rule("CL-3", "I13", "OP-2")
@pytest.mark.parametrize("event", ["closed", "moved"])
def test_what_happens_while_uses_are_looked_for(tmp_path: Path, event: str) -> None:
    """It may take a minute: a store that is closed then, or a registry that moved, destroys nothing."""

    async def work(made: Scene) -> None:
        suspect = await Suspect.of(made)
        await suspect.rotator.look()
        suspect.wait(32 * DAY)
        await suspect.rotator.ring.operator.store.raise_horizon(int(made.clock.now) - 600)
        store, names_key = suspect.rotator.ring.operator.store, suspect.rotator.ring.operator.store.names_key

        async def slowly(kid: str) -> bool:
            found = await names_key(kid)
            if event == "closed":
                await store.shut(DEED, NOW)
            else:
                await store.change(DEED, None, [SwitchClient("nobody", enabled=False, now=0)])
            return found

        store.names_key = slowly  # type: ignore[method-assign]
        with pytest.raises(Unavailable) if event == "closed" else pytest.MonkeyPatch.context():
            await suspect.rotator.look()
        assert suspect.vault.destroyed == []

    run(tmp_path, work)


@pytest.mark.rule("CL-3", "I9", "I13")
def test_uses_that_cannot_be_looked_through_in_time(tmp_path: Path) -> None:
    """With too many of them the key is spared, and the store is not kept busy with looking again every half minute."""

    async def work(made: Scene) -> None:
        suspect = await Suspect.of(made)
        await suspect.rotator.look()
        suspect.wait(32 * DAY)
        store, looks = suspect.rotator.ring.operator.store, 0
        await store.raise_horizon(int(made.clock.now) - 600)

        async def never(kid: str) -> bool:
            nonlocal looks
            looks += 1
            raise StoreUnavailable(f"PostgreSQL: canceling statement due to statement timeout ({kid})")

        store.names_key = never  # type: ignore[method-assign]
        for _ in range(3):
            await suspect.rotator.look()
            suspect.wait(SPARE_SECONDS / 4)
        assert (looks, suspect.vault.destroyed, made.events().count("key.spared")) == (1, [], 1)
        suspect.wait(SPARE_SECONDS / 2)
        await suspect.rotator.look()
        assert looks == 2

    run(tmp_path, work)
