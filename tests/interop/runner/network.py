"""Mixed networks: three of each kind that do everything with each other, and many that all ask at once."""

import os
import random
import time

from cells import eventually, expect
from keys import bare, from_base58, multihash, nearest
from pairs import key

# Of twelve nodes eight are the closest, so that some have to ask for what others hold.
SMALL_K = 8
LOOKUPS = 20
# How many of the lookups of our nodes have to be exact, of a hundred.
BAR = 95


def together(nodes, work):
    """Begins something at each node and waits for all: results and errors by node."""
    ends = [(node, work(node)) for node in nodes]
    results = []
    for node, end in ends:
        try:
            results.append((node, end(), None))
        except Exception as error:
            results.append((node, None, str(error)))
    return results


def join(nodes, kinds):
    """Lets each node connect to the first of each kind, and waits until they have found each other."""
    firsts = [next(node for node in nodes if node.kind == kind) for kind in kinds]
    for node in nodes:
        for first in firsts:
            if first is not node:
                try:
                    node.call("connect", addr=first.addr)
                except Exception as error:
                    print(f"        {node.kind} does not reach {first.kind}: {error}", flush=True)
    # Each search makes a node known to those that it asks.
    for _ in range(3):
        together(nodes, lambda node: node.begin("getClosestPeers", key=from_base58(node.id).hex()))
        time.sleep(1)
    return firsts


def tables(nodes, kinds):
    """Prints how full the tables are."""
    for kind in kinds:
        sizes = [node.call("routingTableSize")["size"] for node in nodes if node.kind == kind]
        print(f"        tables of {kind}: {sizes}", flush=True)


class Mixed:
    """A network of some of each kind."""

    def __init__(self, start, cells, kinds, each):
        self.cells, self.kinds = cells, kinds
        self.start, self.each = start, each
        self.nodes = []

    def of(self, kind):
        return [node for node in self.nodes if node.kind == kind]

    def run(self):
        try:
            self.nodes = [
                self.start(kind, k=SMALL_K) for _ in range(self.each) for kind in self.kinds
            ]
            for node in self.nodes:
                node.ready()
            join(self.nodes, self.kinds)
            tables(self.nodes, self.kinds)
            self.table()
            self.closest()
            for a in self.kinds:
                self.records(a)
                self.providers(a)
                self.find_peer(a)
            self.restart()
        finally:
            for node in self.nodes:
                node.kill()

    def table(self):
        """Nobody but servers is in our tables: a client of each kind has asked everything."""
        ours = self.of(self.cells.ours)
        for kind in self.kinds:
            client = self.start(kind, mode="client", k=SMALL_K).ready()
            try:
                for node in self.nodes:
                    client.call("connect", addr=node.addr)
                client.call("getClosestPeers", key=os.urandom(32).hex())

                def kept_out(client=client):
                    for node in ours:
                        expect(client.id not in node.table(), "a client is in our table")

                self.cells.check("mixed: client kept out", (kind, self.cells.ours), kept_out)
            finally:
                client.kill()

    def closest(self):
        """Each node looks up some keys; the truth are the closest of all servers but itself."""
        for kind in self.kinds:

            def exact(kind=kind):
                good = total = 0
                for node in self.of(kind):
                    truth = [other.id for other in self.nodes if other is not node]
                    for _ in range(5):
                        target = os.urandom(32)
                        found = node.call("getClosestPeers", key=target.hex())["peers"]
                        good += is_exact(found, node, target, truth, SMALL_K)
                        total += 1
                expect(good == total, f"{good} of {total} lookups are exact")
                return f"{good} of {total} lookups are exact"

            self.cells.check("mixed: closest", (kind,), exact)

    def records(self, putter):
        name, value = key(), os.urandom(100).hex()
        node = self.of(putter)[-1]

        def put():
            stored = node.call("put", key=name, value=value)
            expect(stored["stored"] is None or stored["stored"] > 0, f"nobody has stored it: {stored['errors']}")
            return f"stored by {stored['stored']}, errors: {len(stored['errors'])}"

        self.cells.check("mixed: put", (putter,), put)
        for getter in self.kinds:

            def get(getter=getter):
                for node in self.of(getter)[:-1]:
                    found = node.call("get", key=name)
                    expect(found["value"] == value, "another value")

            self.cells.check("mixed: get", (getter, putter), get)

    def providers(self, provider):
        content = multihash(os.urandom(8))
        node = self.of(provider)[-1]

        def provide():
            return f"sent: {node.call('provide', multihash=content)['sent']}"

        self.cells.check("mixed: provide", (provider,), provide)
        for finder in self.kinds:

            def find(finder=finder):
                for asker in self.of(finder)[:-1]:

                    def found(asker=asker):
                        found = asker.call("findProviders", multihash=content)["providers"]
                        return bare(node.addr) in [
                            bare(a) for p in found if p["peerId"] == node.id for a in p["addrs"]
                        ]

                    eventually(8, found, "the provider is not found with its address")

            self.cells.check("mixed: find providers", (finder, provider), find)

    def find_peer(self, wanted):
        """Found through others: the asker joins late and knows one node that is neither."""
        target = self.of(wanted)[-1]
        for kind in self.kinds:

            def find(kind=kind):
                asker = self.of(kind)[0]
                found = asker.call("findPeer", peerId=target.id, network=True)
                expect(bare(target.addr) in map(bare, found["addrs"]), "not at its address")

            self.cells.check("mixed: find_peer", (kind, wanted), find)

    def restart(self):
        """One of each kind is killed, and started again: our next query is right each time, and quick."""
        asker = self.of(self.cells.ours)[0]
        for kind in self.kinds:
            victim = self.of(kind)[1]
            target = from_base58(victim.id)
            others = [node.id for node in self.nodes if node is not asker]

            def restarted(kind=kind, target=target, others=others):
                """At once, so that nobody has noticed."""
                victim = self.of(kind)[1]
                victim.kill()
                self.nodes[self.nodes.index(victim)] = victim.again().ready()
                return timed(asker, target, others)

            self.cells.check("mixed: restarted", (self.cells.ours, kind), restarted)

            def dead(kind=kind, target=target, others=others):
                victim = self.of(kind)[1]
                victim.kill()
                return timed(asker, target, [id for id in others if id != victim.id])

            self.cells.check("mixed: killed", (self.cells.ours, kind), dead)

            def back(kind=kind, target=target, others=others):
                """After a query without it; it joins as it did the first time."""
                victim = self.of(kind)[1]
                again = victim.again().ready()
                self.nodes[self.nodes.index(victim)] = again
                begin = time.monotonic()
                for other in self.kinds:
                    first = self.of(other)[0]
                    if first is not asker:
                        again.call("connect", addr=first.addr)

                def found():
                    again.call("getClosestPeers", key=target.hex())
                    return exact(asker, target, others)[0]

                eventually(90, found, f"it is not found again: {exact(asker, target, others)[1]}")
                return f"found {time.monotonic() - begin:.1f} s after it came back"

            self.cells.check("mixed: comes back", (self.cells.ours, kind), back)


def exact(asker, target, truth):
    """Whether a lookup is exact, and whom it misses."""
    found = asker.call("getClosestPeers", key=target.hex())["peers"]
    ids = {peer["peerId"] for peer in found}
    missing = [id[-6:] for id in nearest(target, truth)[:SMALL_K] if id not in ids]
    return is_exact(found, asker, target, truth, SMALL_K), f"{missing} are missing"


def timed(asker, target, truth):
    begin = time.monotonic()
    found = asker.call("getClosestPeers", key=target.hex())
    seconds = time.monotonic() - begin
    expect(not found["errors"], f"errors: {found['errors']}")
    exact = is_exact(found["peers"], asker, target, truth, SMALL_K)
    missing = [id[-6:] for id in nearest(target, truth)[:SMALL_K] if id not in {p["peerId"] for p in found["peers"]}]
    expect(exact, f"not the closest servers: {missing} are missing, after {seconds:.1f} s")
    expect(seconds < 8, f"a whole timeout has passed: {seconds:.1f} s")
    return f"{seconds:.2f} s"


def is_exact(found, asker, target, truth, k):
    """Whether a lookup has found the closest of all others; it may list the asker itself, or not."""
    ids = [peer["peerId"] for peer in found if peer["peerId"] != asker.id]
    least = min(k - 1 if len(ids) < len(found) else k, len(truth))
    return len(ids) >= least and ids == nearest(target, truth)[: len(ids)]


def rounds(nodes, rng, at_once):
    """Lets every node begin a number of lookups at once, again and again."""
    for _ in range(LOOKUPS // at_once):
        asked = []
        for _ in range(at_once):
            for node in nodes:
                target = rng.randbytes(32)
                asked.append((node, target, node.begin("getClosestPeers", timeout=90, key=target.hex())))
        yield asked


def judge(asked, nodes, ours, exact, failed, short):
    """Waits for lookups, and counts those that are exact; of ours notes what the others lack."""
    kind_of = {node.id: node.kind for node in nodes}
    for node, target, end in asked:
        truth = [other.id for other in nodes if other is not node]
        try:
            found = end()["peers"]
        except Exception as error:
            failed[node.kind] += 1
            if node.kind == ours:
                print(f"        {error}", flush=True)
            continue
        good = is_exact(found, node, target, truth, 20)
        exact[node.kind] += good
        if not good and node.kind == ours:
            ids = {peer["peerId"] for peer in found}
            missing = [kind_of[id] for id in nearest(target, truth)[:20] if id not in ids]
            strange = sum(id not in kind_of for id in ids)
            short.append(f"{len(found)} found, missing {missing}, unknown {strange}")


def crowd(start, cells, kinds, each, at_once):
    """Many mixed servers that look up many keys, all at once; each so many at a time."""
    ours = cells.ours
    nodes = []
    try:
        nodes = [start(kind) for _ in range(each) for kind in kinds]
        for node in nodes:
            node.ready()
        join(nodes, kinds)
        tables(nodes, kinds)
        rng = random.Random(1)
        exact, failed = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0)
        short = []
        begin = time.monotonic()
        for asked in rounds(nodes, rng, at_once):
            judge(asked, nodes, ours, exact, failed, short)
        seconds = time.monotonic() - begin
        total = each * LOOKUPS
        for kind in kinds:
            print(
                f"        exact lookups of {kind}: {exact[kind]} of {total}, failed: {failed[kind]}", flush=True
            )
        for line in short[:10]:
            print(f"        {line}", flush=True)

        def bar():
            share = 100 * exact[ours] / total
            expect(share >= BAR, f"{exact[ours]} of {total} lookups are exact: {share:.1f} %, at least {BAR}")
            return f"{exact[ours]} of {total} are exact, {len(nodes) * LOOKUPS} lookups in {seconds:.1f} s"

        cells.check(f"crowd of {len(nodes)}: closest", (ours,), bar)
    finally:
        for node in nodes:
            node.kill()
