"""A DNS server of one name, for a network namespace of its own: answers A for NAME with ADDRESS, nothing else.

usage: dns-responder.py LISTEN NAME ADDRESS LOG

Every question is appended to LOG. Ends by itself after ten minutes.
"""

import signal
import socket
import struct
import sys

listen, name, address, log_path = sys.argv[1:]
signal.alarm(600)
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((listen, 53))
with open(log_path, "a", buffering=1, encoding="ascii") as log:
    log.write("listening\n")
    while True:
        query, client = server.recvfrom(512)
        try:
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii"))
                at += 1 + query[at]
            kind = struct.unpack(">H", query[at + 1 : at + 3])[0]
            question = query[12 : at + 5]
        except (IndexError, UnicodeDecodeError, struct.error):
            continue
        asked = ".".join(labels).lower()
        log.write(f"{asked} {kind}\n")
        known = asked == name
        answers = b""
        if known and kind == 1:
            answers = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 5, 4) + socket.inet_aton(address)
        # Response, recursion available; NOERROR, or NXDOMAIN for any other name.
        flags = 0x8580 | (0 if known else 3)
        header = query[:2] + struct.pack(">HHHHH", flags, 1, 1 if answers else 0, 0, 0)
        server.sendto(header + question + answers, client)
