"""Which addresses are of the public internet."""

import re

from finemask.inference.content.public_addresses import is_public

# Both sides of the edges of the ranges that IANA lists, and what stands for an IPv4 address.
PRIVATE = re.findall(
    r"\S+",
    """127.0.0.1 127.8.9.1 10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 169.254.169.254
    0.0.0.0 100.64.0.1 100.127.255.255 192.0.2.1 198.18.0.1 224.0.0.1 239.1.1.1 240.0.0.1
    255.255.255.255 ::1 :: fe80::1 fe80::1%eth0 fc00::1 fd12::1 ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1
    64:ff9b::7f00:1 64:ff9b::a00:1 2002:7f00:1:: 2002:a00:1:: 2001:db8::1
    64:ff9b:1::808:808 ::10.0.0.1 2001:0:808:808::1""",
)
PUBLIC = re.findall(
    r"\S+",
    """8.8.8.8 9.255.255.255 11.0.0.0 172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0 100.63.255.255
    100.128.0.0 169.253.255.255 169.255.0.0 223.255.255.255 2606:4700::1111 ::ffff:8.8.8.8
    64:ff9b::808:808 2002:808:808::""",
)


def test_addresses_of_the_public_internet_are_told_from_all_others():
    assert [one for one in PRIVATE if is_public(one)] == []
    assert [one for one in PUBLIC if not is_public(one)] == []
