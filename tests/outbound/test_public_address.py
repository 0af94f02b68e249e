"""Addresses that a stranger wrote: which of them are on the public internet, and which spellings are taken at all."""

import ipaddress

import pytest

from groat.outbound.public_address import is_public, may_be_called

# The IANA IPv4 and IPv6 special-purpose address registries, and the other blocks that are nobody's unicast address.
SPECIAL_V4 = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.0.0/29", "192.0.0.8/32", "192.0.0.9/32", "192.0.0.10/32", "192.0.0.170/32", "192.0.0.171/32", "192.0.2.0/24",
    "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15",
    "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32",
)  # fmt: skip
SPECIAL_V6 = (
    "::1/128", "::/128", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64",
    "2001::/32", "2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48",
    "2001:10::/28", "2001:20::/28", "2001:30::/28", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
    "3ffe::/16", "5f00::/16", "fc00::/7", "fd00:ec2::254/128", "fe80::/10", "fec0::/10", "ff00::/8", "4000::/3", "8000::/1",
    "::ffff:0.0.0.0/104", "::ffff:10.0.0.0/104", "::ffff:127.0.0.0/104", "::ffff:169.254.0.0/112",
)  # fmt: skip


@pytest.mark.rule("AS-CA-18", "K06", "ST-15")
@pytest.mark.parametrize("network", [*SPECIAL_V4, *SPECIAL_V6])
def test_special_ranges_are_not_public(network: str) -> None:
    """Neither the first nor the last nor an inner address of any special-purpose range."""
    block = ipaddress.ip_network(network)
    inside = {block[0], block[-1], block[block.num_addresses // 2], block[block.num_addresses // 3]}
    assert [str(address) for address in inside if is_public(str(address))] == []


@pytest.mark.rule("AS-CA-18", "K06", "ST-15")
@pytest.mark.parametrize(
    "address",
    [
        "127.8.9.1", "172.16.5.4", "169.254.169.254", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:0:7f00:1",
        "::ffff:0:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::a00:1", "2002:7f00:1::",
        "2001:0:7f00:1::", "3fff::1", "3fff:fff::1", "5f00::1", "fec0::1", "2606:4700::5efe:7f00:1",
        "2606:4700::200:5efe:a00:1", "fe80::1%eth0", "2606:4700:4700::1111%lo", "127.1", "0177.0.0.1", "08.8.8.8",
        "0x8.8.8.8", "134744072", "", "localhost", "8.8.8.8.8", "8.8.8.8 ",
    ],
)  # fmt: skip
def test_what_wraps_or_disguises_an_address_is_not_public(address: str) -> None:
    """Mapped, translated, compatible, NAT64, 6to4, Teredo, ISATAP, scoped, and IPv4 in other than its plain form."""
    assert not is_public(address)
    assert not may_be_called(address, ())


@pytest.mark.rule("AS-CA-18")
@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "192.0.1.1", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2606:4700:4700::1111",
     "2001:4860:4860::8888", "2001:200::1", "2a00::1", "2003::1", "::ffff:8.8.8.8"],
)  # fmt: skip
def test_public_addresses(address: str) -> None:
    """The rest of the internet."""
    assert is_public(address)


@pytest.mark.rule("AS-CA-18", "K06")
def test_listed_networks_may_be_called_in_every_form() -> None:
    """A network that the operator listed, also as a mapped address; its neighbours stay closed."""
    listed = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00:1::/32"))
    assert all(may_be_called(address, listed) for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd00:1::5", "8.8.8.8"))
    assert not any(may_be_called(address, listed) for address in ("10.2.0.1", "fd00:2::1", "fd00:1::5%eth0"))
