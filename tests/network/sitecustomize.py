"""Refuse and note every call to another machine, in this process and all that it starts."""

import ipaddress
import os
import sys
import traceback

NOTED = os.environ["STM_KERAS_TEST_NETWORK"]
HOSTS = {  # event: which of its arguments names whom it is about
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
}


def is_here(address):
    """Tell whether an address is a Unix socket, or one of this machine alone."""
    host = address[0] if isinstance(address, tuple) else address
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in (None, "", "localhost") or not isinstance(address, tuple) and "/" in host:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse(event, arguments):
    """Stop a call and write it down."""
    if event not in HOSTS:
        return
    whom = arguments[HOSTS[event]]
    family = getattr(arguments[0], "family", None)
    if family is not None and family.name not in ("AF_INET", "AF_INET6"):
        return
    if is_here(whom):
        return
    with open(NOTED, "a", encoding="utf-8") as file:  # noqa: PTH123
        place = traceback.extract_stack()[-2]
        case = os.environ.get("STM_KERAS_TEST_CASE", "")
        file.write(f"{case}: {event} {whom!r} at {place.filename}:{place.lineno}\n")
    raise ConnectionRefusedError(f"{event}: {whom!r} is not this machine")


sys.addaudithook(refuse)
