"""Every pair, in both directions: one node asks, another one answers.

The asker is a client that knows only the answerer, so that what it gets came over the wire. A third node, of the
answerer's kind, has put, provided and joined before.
"""

import os
import time

from cells import Skipped, Wrong, eventually, expect
from keys import bare, from_base58, multihash, nearest

# The largest value that both sides take, in bytes; of kinds not listed the first.
LIMITS = {None: 8_000, "libp2p-kad": 15_000, "js": 60_000, "py": 60_000}
# Longer than any reader of libp2p-kad takes.
TOO_LARGE_FOR_KAD = 20_000
# A query that took so long has waited for the end of a request that nobody answers.
WHOLE_TIMEOUT = 8
# Longer than we keep a stream open that is not used.
IDLE_SECONDS = 32
# Of the peers an answer names these ask only those that are nearer to the target than whoever answered: they find one that
# is farther away than the answerer only if it is in their own table when the search begins.
FOLLOW_NEARER_ONLY = {"js"}


def key(namespace="test"):
    return f"/{namespace}/{os.urandom(8).hex()}".encode().hex()


class Pair:
    """The nodes of one ordered pair."""

    def __init__(self, start, cells, asker, answerer):
        self.cells, self.kinds = cells, (asker, answerer)
        self.asker_kind, self.answerer_kind = asker, answerer
        self.start = start
        self.nodes = []

    def node(self, kind, **options):
        peer = self.start(kind, **options)
        self.nodes.append(peer)
        return peer

    def check(self, name, work):
        return self.cells.check(name, self.kinds, work)

    def limit(self):
        def of(kind):
            return 60_000 if kind == self.cells.ours else LIMITS.get(kind, LIMITS[None])

        return min(of(self.asker_kind), of(self.answerer_kind))

    def run(self):
        try:
            self.server = self.node(self.answerer_kind)
            self.third = self.node(self.answerer_kind)
            self.client = self.node(self.asker_kind, mode="client")
            self.twin = self.node(self.asker_kind)
            for node in self.nodes:
                node.ready()
            self.prepare()
            self.checks()
        except Exception as error:
            self.check("set up", lambda: (_ for _ in ()).throw(Wrong(str(error))))
        finally:
            for node in self.nodes:
                node.kill()

    def prepare(self):
        """Lets the third put and provide, before the asker comes."""
        server, third = self.server, self.third
        third.call("connect", addr=server.addr)
        self.known_to_server(third)
        self.key, self.value = key(), os.urandom(500).hex()
        third.call("put", key=self.key, value=self.value)
        self.content = multihash(os.urandom(8))
        # Before our side provides there is nothing to find, and the cells say so.
        try:
            third.call("provide", multihash=self.content)
        except Exception as error:
            self.unprovided = str(error)
        else:
            self.unprovided = None

    def known_to_server(self, node):
        """Waits until the answerer has a node in its table: py lets in whoever asks it something, and nobody else."""

        def known():
            node.call("getClosestPeers", key=os.urandom(32).hex())
            return node.id in self.server.table()

        eventually(20, known, "the node is not in the answerer's table")

    def third_in_table(self):
        """Waits until the asker has the third in its table: whoever is named and answers a ping comes in."""
        client, third = self.client, self.third

        def known():
            if third.id in client.table():
                return True
            # Another answer that names the third makes the asker try it again, should its ping have been late.
            client.call("getClosestPeers", key=from_base58(third.id).hex())
            return False

        eventually(20, known, "the third, which the answerer has named, is not in the asker's table")

    def checks(self):
        client, server, third, twin = self.client, self.server, self.third, self.twin

        def connect():
            expect(client.call("connect", addr=server.addr)["peerId"] == server.id, "another peer")
            eventually(5, lambda: server.id in client.call("connections")["peers"], "not connected")
            eventually(5, lambda: client.id in server.call("connections")["peers"], "they are not connected")

        self.check("connect", connect)
        self.check(
            "server in the table",
            lambda: eventually(15, lambda: server.id in client.table(), "the answerer is not in the asker's table"),
        )
        self.check("find_peer", self.find_peer)
        self.check("closest", self.both)
        self.check("get", self.get)
        self.check("put", self.put)
        self.check("put a better value", self.better)
        self.check("large value", self.large)
        self.check("too large for libp2p-kad", self.too_large)
        self.check("find providers", self.find_providers)
        self.check("provide", self.provide)
        self.check("client not in the table", self.client_kept_out)
        self.check("servers know each other", self.know_each_other)
        self.check("mode switch", self.mode_switch)
        self.check("restarted", self.restarted)
        self.check("killed", self.killed)
        self.check("comes back", self.comes_back)

    def find_peer(self):
        def found():
            found = self.client.call("findPeer", peerId=self.third.id, network=True)
            return bare(self.third.addr) in map(bare, found["addrs"])

        eventually(5, found, "the address of the third is not among those found")

    def both(self):
        if self.asker_kind in FOLLOW_NEARER_ONLY:
            self.third_in_table()
        self.closest(self.client, [self.server.id, self.third.id])

    @staticmethod
    def closest(asker, truth):
        for n in range(5):
            target = os.urandom(32)
            found = [peer["peerId"] for peer in asker.call("getClosestPeers", key=target.hex())["peers"]]
            found = [id for id in found if id != asker.id]
            expect(found == nearest(target, truth), f"lookup {n}: {len(found)} peers, not the {len(truth)} servers")

    def get(self):
        found = self.client.call("get", key=self.key)
        expect(found["value"] == self.value, "another value")

    def put(self):
        name, value = key(), os.urandom(500).hex()
        stored = self.client.call("put", key=name, value=value)
        expect(stored["stored"] is None or stored["stored"] > 0, f"nobody has stored it: {stored['errors']}")
        self.held_by_server(name, value)

    def held_by_server(self, name, value):
        """The answerer has the value; whether by itself or through the third it need not say."""
        expect(self.server.call("get", key=name)["value"] == value, "another value")

    def better(self):
        name = key()
        self.client.call("put", key=name, value="01" * 10)
        self.client.call("put", key=name, value="02" * 10)
        self.held_by_server(name, "02" * 10)

    def large(self):
        name, value = key(), os.urandom(self.limit()).hex()
        stored = self.client.call("put", key=name, value=value)
        expect(stored["stored"] is None or stored["stored"] > 0, f"nobody has stored it: {stored['errors']}")
        self.held_by_server(name, value)
        return f"{self.limit()} bytes"

    def too_large(self):
        """A record that libp2p-kad cannot read is an error that is told, and harms nothing."""
        if "libp2p-kad" not in self.kinds or self.asker_kind == "libp2p-kad":
            raise Skipped("only toward libp2p-kad")
        begin = time.monotonic()
        try:
            told = self.client.call("put", key=key(), value=os.urandom(TOO_LARGE_FOR_KAD).hex())
            expect(not told["stored"], f"{told['stored']} peers have stored what they cannot read")
            text = "; ".join(told["errors"])
        except Exception as error:
            text = str(error)
        expect(text, "no error is told")
        expect("timeout after" not in text, f"the put has not ended: {text}")
        expect(time.monotonic() - begin < 15, "the put has taken a whole timeout")
        self.put()
        self.closest(self.client, [self.server.id, self.third.id])
        return text[:120]

    def find_providers(self):
        expect(self.unprovided is None, f"the third has not provided: {self.unprovided}")

        def found():
            found = self.client.call("findProviders", multihash=self.content)
            addrs = [bare(a) for p in found["providers"] if p["peerId"] == self.third.id for a in p["addrs"]]
            return bare(self.third.addr) in addrs

        # js leaves itself out of its answers for the first two seconds.
        eventually(8, found, "the third is not found as a provider with its address")

    def provide(self):
        """By the twin, which is a server: a client cannot be dialled by whoever finds it."""
        content = multihash(os.urandom(8))
        twin, server = self.twin, self.server
        twin.call("connect", addr=server.addr)
        eventually(15, lambda: server.id in twin.table(), "the answerer is not in the twin's table")
        twin.call("provide", multihash=content)

        def found():
            found = server.call("findProviders", multihash=content)
            addrs = [bare(a) for p in found["providers"] if p["peerId"] == twin.id for a in p["addrs"]]
            return bare(twin.addr) in addrs

        eventually(8, found, "the twin is not found as a provider with its address")

    def client_kept_out(self):
        if self.answerer_kind != self.cells.ours:
            raise Skipped("whom others let in is their business")
        expect(self.client.id not in self.server.table(), "the client is in the table")
        expect(self.client.id not in self.third.table(), "the client is in the third's table")

    def know_each_other(self):
        twin, server = self.twin, self.server
        twin.call("connect", addr=server.addr)
        eventually(20, lambda: server.id in twin.table(), "the answerer is not in the twin's table")
        self.known_to_server(twin)

    def mode_switch(self):
        """A server that becomes a client leaves our table, and one that becomes a server again enters it."""
        twin, server = self.twin, self.server
        if self.answerer_kind != self.cells.ours:
            raise Skipped("whom others let in is their business")
        twin.call("connect", addr=server.addr)
        self.known_to_server(twin)
        try:
            twin.call("setMode", mode="client")
            how = "while it ran"
        except Exception:
            twin.kill()
            twin = self.twin = twin.again(mode="client").ready()
            self.nodes.append(twin)
            twin.call("connect", addr=server.addr)
            how = "by a restart"
        # Most tell it by identify. py does not, and serves the streams that are open on: ours to it has to be closed for
        # want of use before it is asked on a new one.
        def gone():
            try:
                eventually(5, lambda: twin.id not in server.table(), "it is still in the table")
            except Wrong:
                time.sleep(IDLE_SECONDS)
                server.call("getClosestPeers", key=from_base58(twin.id).hex())
            return twin.id not in server.table()

        begin = time.monotonic()
        eventually(100, gone, "the client is still in the table")
        seconds = time.monotonic() - begin
        if how == "while it ran":
            twin.call("setMode", mode="server")
        else:
            twin.kill()
            twin = self.twin = twin.again(mode="server").ready()
            self.nodes.append(twin)
        twin.call("connect", addr=server.addr)

        def back():
            twin.call("getClosestPeers", key=os.urandom(32).hex())
            return twin.id in server.table()

        try:
            eventually(10, back, "it does not come back")
        except Wrong:
            # Who does not tell it by identify is met as a server when it connects anew.
            twin.call("disconnect", peerId=server.id)
            time.sleep(1)
            twin.call("connect", addr=server.addr)
            eventually(20, back, "the server does not come back into the table")
            how += ", a server again after it connected anew"
        return f"{how}, gone after {seconds:.0f} s"

    def restarted(self):
        """The answerer is killed and starts anew at the same place: the asker's next query finds it, without an error."""
        self.client.call("findPeer", peerId=self.third.id, network=True)
        self.server.kill()
        self.server = self.server.again().ready()
        self.nodes.append(self.server)
        return f"found after {self.finds(self.server):.2f} s"

    def finds(self, node):
        """The asker finds a node in a search for its id, in so many seconds."""
        begin = time.monotonic()
        found = self.client.call("getClosestPeers", key=from_base58(node.id).hex())
        seconds = time.monotonic() - begin
        ids = [peer["peerId"] for peer in found["peers"]]
        expect(node.id in ids, f"the {node.kind} node is not found, after {seconds:.1f} s")
        expect(not found["errors"] or self.asker_kind != self.cells.ours, f"errors: {found['errors']}")
        expect(seconds < WHOLE_TIMEOUT, f"a whole timeout has passed: {seconds:.1f} s")
        return seconds

    def killed(self):
        """Without the answerer, which was killed, the asker's next query still finds the third."""
        self.client.call("findPeer", peerId=self.third.id, network=True)
        self.server.kill()
        return f"found after {self.finds(self.third):.2f} s"

    def comes_back(self):
        """After a query without it the answerer starts anew and joins through the third: the asker finds it again."""
        server = self.server = self.server.again().ready()
        self.nodes.append(server)
        server.call("connect", addr=self.third.addr)
        begin = time.monotonic()

        def found():
            server.call("getClosestPeers", key=os.urandom(32).hex())
            peers = self.client.call("getClosestPeers", key=from_base58(server.id).hex())["peers"]
            return server.id in [peer["peerId"] for peer in peers]

        eventually(60, found, "the answerer is not found")
        return f"found {time.monotonic() - begin:.1f} s after it came back"
