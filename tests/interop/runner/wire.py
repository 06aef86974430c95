"""The bytes: what each kind sends to a probe that is no DHT, and what it answers the probe; streams are counted."""

import json
import os
import pathlib
import time

from cells import Wrong, eventually, expect
from keys import from_base58, multihash

PUT_VALUE, GET_VALUE, ADD_PROVIDER, GET_PROVIDERS, FIND_NODE, PING = range(6)
NAMES = ["PUT_VALUE", "GET_VALUE", "ADD_PROVIDER", "GET_PROVIDERS", "FIND_NODE", "PING"]


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytes([number]))


def field(tag, data):
    """A field of bytes."""
    return varint(tag << 3 | 2) + varint(len(data)) + data


def number(tag, value):
    return varint(tag << 3) + varint(value)


def framed(message):
    return varint(len(message)) + message


def request(kind, key=b"", record=None, providers=()):
    """A message with its length before it."""
    out = number(1, kind)
    if key:
        out += field(2, key)
    if record is not None:
        out += field(3, field(1, key) + field(2, record))
    for provider in providers:
        out += field(9, provider)
    return framed(out)


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data):
    """The fields of a message: tag and value."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        if tag & 7 == 0:
            value, at = read_varint(data, at)
        elif tag & 7 == 2:
            length, at = read_varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            raise Wrong(f"wire type {tag & 7}")
        yield tag >> 3, value


def kind_of(frame):
    """The type of a message that comes as hexadecimal digits with its length."""
    data = bytes.fromhex(frame)
    _, at = read_varint(data, 0)
    return dict(fields(data[at:])).get(1, 0)


class Wire:
    """One kind and the probe."""

    def __init__(self, start, probe, cells, kind):
        self.cells, self.kind = cells, kind
        self.start, self.start_probe = start, probe

    def check(self, name, work):
        return self.cells.check(f"wire: {name}", (self.kind, "probe") if self.kind != self.cells.ours else (self.kind,), work)

    def run(self):
        nodes = []
        try:
            self.probe = self.start_probe()
            self.peer = self.start(self.kind)
            nodes = [self.probe, self.peer]
            for node in nodes:
                node.ready()
            self.peer.call("connect", addr=self.probe.addr)
            eventually(15, lambda: self.probe.id in self.peer.table(), "the probe is not in the table")
            self.check("many on one stream", self.sequential)
            self.check("pipelined", self.pipelined)
            self.check("half-closed", self.half_closed)
            self.check("PING", self.ping)
            self.check("unknown type", self.unknown)
            self.check("empty message", self.empty)
            self.check("streams it opens", self.reuse)
        except Exception as error:
            self.check("set up", lambda error=error: (_ for _ in ()).throw(Wrong(str(error))))
        finally:
            for node in nodes:
                node.kill()

    def send(self, frames, **options):
        frames = [frame.hex() for frame in frames]
        return self.probe.call("send", peerId=self.peer.id, frames=frames, **options)

    def find(self, n=1):
        return [request(FIND_NODE, os.urandom(32)) for _ in range(n)]

    def sequential(self):
        got = self.send(self.find(5), idleMs=200)
        expect(len(got["answers"]) == 5, f"{len(got['answers'])} of 5 answered, then {got['end']}")

    def pipelined(self):
        got = self.send(self.find(5), pipelined=True)
        expect(len(got["answers"]) == 5, f"{len(got['answers'])} of 5 answered, then {got['end']}")

    def half_closed(self):
        got = self.send(self.find(), close=True)
        expect(len(got["answers"]) == 1, f"not answered, but {got['end']}")

    def ping(self):
        got = self.send([request(PING)])
        expect(len(got["answers"]) == 1, f"not answered, but {got['end']}")
        expect(kind_of(got["answers"][0]) == PING, "answered with something else")

    def unknown(self):
        got = self.send([framed(number(1, 9) + field(2, b"key"))], waitMs=3000)
        expect(got["end"] != "silent", "silent for ever")
        return got["end"] if not got["answers"] else "answered"

    def empty(self):
        got = self.send([framed(b"")], waitMs=3000)
        expect(not got["answers"], "taken for a PUT_VALUE and answered")
        expect(got["end"] != "silent", "silent for ever")
        return got["end"]

    def reuse(self):
        """Five searches, one after the other: how many streams does it take?"""
        before = self.probe.call("seen")["streams"]
        for _ in range(5):
            self.peer.call("getClosestPeers", key=os.urandom(32).hex())
        after = self.probe.call("seen")["streams"]
        requests = count(after) - count(before)
        fresh = after[len(before) :]
        closed = sum(stream["end"] != "open" for stream in fresh)
        expect(requests >= 5, f"only {requests} requests for five searches")
        if self.kind == self.cells.ours:
            expect(len(fresh) <= 1, f"{len(fresh)} new streams for five searches")
        return f"{len(fresh)} new streams, {closed} of them closed, for {requests} requests"


def count(streams):
    return sum(len(stream["exchanges"]) for stream in streams)


def record(start, start_probe, kind, folder):
    """Writes down what a kind sends, and what it answers."""
    vectors = []
    probe, peer, third = start_probe(seed="03" * 32), start(kind, seed="01" * 32), start(kind, seed="02" * 32)
    try:
        for node in (probe, peer, third):
            node.ready()
        version = f"{peer.impl} {peer.version}"
        ids = f"{kind} is {peer.id} at {peer.addr.split('/p2p/')[0]}, the probe {probe.id} at {probe.addr.split('/p2p/')[0]}"
        peer.call("connect", addr=probe.addr)
        eventually(15, lambda: probe.id in peer.table(), "the probe is not in the table")
        # Somebody else for the answers to name.
        third.call("connect", addr=peer.addr)
        third.call("provide", multihash=multihash(b"third's vector"))
        eventually(15, lambda: third.id in peer.table(), "the third is not in the table")
        ids += f", another {kind} {third.id} at {third.addr.split('/p2p/')[0]}"
        name = b"/test/golden"
        content = multihash(b"golden vector")
        for cmd, parameters, note in (
            ("getClosestPeers", {"key": bytes(range(32)).hex()}, "lookup of the key 00 01 .. 1f"),
            ("findPeer", {"peerId": UNKNOWN_PEER, "network": True}, f"search for {UNKNOWN_PEER}, which does not exist"),
            ("get", {"key": name.hex()}, "lookup of /test/golden, which nobody has"),
            ("put", {"key": name.hex(), "value": b"golden value".hex()}, "'golden value' under /test/golden"),
            ("provide", {"multihash": content}, "sha2-256 multihash of 'golden vector'"),
            ("findProviders", {"multihash": multihash(b"nothing")}, "sha2-256 multihash of 'nothing'"),
        ):
            before = seen(probe, peer)
            try:
                peer.call(cmd, **parameters)
            except Exception as error:
                print(f"        {kind} {cmd}: {error}", flush=True)
            # The last message may still be on its way: nobody awaits an answer to ADD_PROVIDER.
            time.sleep(1)
            told = set()
            for request_hex, _, end in seen(probe, peer)[len(before) :]:
                name_ = NAMES[kind_of(request_hex)]
                if name_ in told:
                    continue
                told.add(name_)
                vectors.append(
                    {
                        "name": name_ if cmd == "getClosestPeers" else f"{name_} of {cmd}",
                        "direction": "request",
                        "type": name_,
                        "hex": request_hex,
                        "note": f"{note}; {version}; {ids}",
                    }
                )
        vectors += answers(probe, peer, version, ids)
    finally:
        for node in (probe, peer, third):
            node.kill()
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}.json"
    path.write_text(json.dumps(vectors, indent=1) + "\n")
    print(f"        {len(vectors)} vectors of {kind}: {path}", flush=True)


# The id of the Ed25519 key whose seed is 7 thirty-two times: no node has it.
UNKNOWN_PEER = "12D3KooWRm8J3iL796zPFi2EtGGtUJn58AG67gcRzMkQ7FpuPsx4"


def seen(probe, peer):
    """All requests of a peer, in the order of the streams: with the answer, and how the stream ended."""
    return [
        (exchange["request"], exchange["answer"], stream["end"])
        for stream in probe.call("seen")["streams"]
        if stream["peerId"] == peer.id
        for exchange in stream["exchanges"]
    ]


def answers(probe, peer, version, ids):
    """Asks a peer everything, and notes what it answers."""
    vectors = []
    name, content = b"/test/recorded", bytes.fromhex(multihash(b"recorded vector"))
    me = from_base58(probe.id)
    address = bytes.fromhex("047f00000106") + int(probe.addr.split("/")[4]).to_bytes(2, "big")
    provider = field(1, me) + field(2, address) + number(3, 1)
    requests = [
        ("FIND_NODE", request(FIND_NODE, bytes(range(32))), "the key 00 01 .. 1f"),
        ("FIND_NODE of itself", request(FIND_NODE, from_base58(peer.id)), "the key is its own id"),
        ("FIND_NODE of the asker", request(FIND_NODE, me), "the key is the id of the probe"),
        ("GET_VALUE, miss", request(GET_VALUE, name), "/test/recorded, which it does not have"),
        ("PUT_VALUE", request(PUT_VALUE, name, b"recorded value"), "'recorded value' under /test/recorded"),
        ("PUT_VALUE, equal", request(PUT_VALUE, name, b"recorded value"), "the same value again"),
        ("PUT_VALUE, worse", request(PUT_VALUE, name, b"a worse value"), "a value that is bytewise less"),
        ("GET_VALUE, hit", request(GET_VALUE, name), "/test/recorded, which it has"),
        ("GET_PROVIDERS, miss", request(GET_PROVIDERS, content), "sha2-256 multihash of 'recorded vector'"),
        (
            "GET_PROVIDERS, somebody else",
            request(GET_PROVIDERS, bytes.fromhex(multihash(b"third's vector"))),
            "sha2-256 multihash of 'third's vector', which the other one provides",
        ),
        ("ADD_PROVIDER", request(ADD_PROVIDER, content, providers=[provider]), "the probe, with its address"),
        ("GET_PROVIDERS, hit", request(GET_PROVIDERS, content), "the provider is the probe"),
        ("PING", request(PING), "no key"),
        ("empty message", framed(b""), "no type, no key, no record"),
        ("unknown type", framed(number(1, 9) + field(2, b"key")), "type 9"),
    ]
    for title, frame, note in requests:
        got = probe.call("send", peerId=peer.id, frames=[frame.hex()], waitMs=2500)
        vector = {
            "name": title,
            "direction": "response",
            "type": next((name for name in NAMES if title.startswith(name)), "none"),
            "request_hex": frame.hex(),
        }
        ending = {"open": "", "silent": "no answer", "closed": "it closes the stream", "reset": "it resets the stream"}
        if got["answers"]:
            vector["hex"] = got["answers"][0]
        vector["note"] = "; ".join(filter(None, [note, ending[got["end"]], version, ids]))
        vectors.append(vector)
    return vectors
