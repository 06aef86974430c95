"""One node of py-libp2p's DHT as a process that speaks the JSON protocol.

Wired as its users wire it: a host with TCP, Noise and Yamux, and a peer that was connected to is handed to the DHT.
"""

import argparse
import contextvars
import importlib.metadata
import json
import logging
import os
import queue
import sys
import threading

import multiaddr
import trio

from libp2p import kad_dht, new_host
from libp2p.bitswap.cid import parse_cid
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.kad_dht import common, peer_routing, provider_store, routing_table, value_store
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.kad_dht.utils import sort_peer_ids_by_distance
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.records.pubkey import PublicKeyValidator
from libp2p.records.validator import NamespacedValidator, Validator
from libp2p.tools.anyio_service import background_trio_service

TIMEOUT_MS = 30_000

# How many peers have acknowledged a value: the library counts them, and tells only its log.
acknowledged: contextvars.ContextVar[list | None] = contextvars.ContextVar("acknowledged", default=None)


class Greatest(Validator):
    """Takes any value; of several the bytewise greatest wins, the first among equals."""

    def validate(self, key, value):
        pass

    def select(self, key, values):
        return values.index(max(values))


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", choices=["server", "client"], default="server")
    parser.add_argument("--protocol", default="/ipfs/kad/1.0.0")
    parser.add_argument("--listen", default="/ip4/127.0.0.1/tcp/0")
    parser.add_argument("--namespace", default="test")
    parser.add_argument("--seed", default=os.urandom(32).hex())
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--max-seconds", type=float, default=600)
    return parser.parse_args()


def configure(protocol, k):
    """Sets the name of the protocol and `k`, which are constants of its modules."""
    for module in (kad_dht.kad_dht, common, peer_routing, provider_store, routing_table, value_store):
        if hasattr(module, "PROTOCOL_ID"):
            module.PROTOCOL_ID = TProtocol(protocol)
        if hasattr(module, "BUCKET_SIZE"):
            module.BUCKET_SIZE = k
    # How many peers a search returns is a default, too.
    peer_routing.PeerRouting.find_closest_peers_network.__defaults__ = (k,)


def say(line):
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def named(info):
    return {"peerId": str(info.peer_id), "addrs": [str(address) for address in info.addrs]}


class Node:
    """The commands."""

    def __init__(self, host, dht):
        self.host = host
        self.dht = dht
        store_at_peer = dht.value_store._store_at_peer

        async def counted(*args, **kwargs):
            stored = await store_at_peer(*args, **kwargs)
            count = acknowledged.get()
            if count is not None and stored:
                count[0] += 1
            return stored

        dht.value_store._store_at_peer = counted

    def addrs(self, peer):
        try:
            return self.host.get_peerstore().addrs(peer)
        except Exception:
            # It throws if it does not know the peer.
            return []

    def named(self, peer):
        return {"peerId": str(peer), "addrs": [str(address) for address in self.addrs(peer)]}

    async def connect(self, call):
        info = info_from_p2p_addr(multiaddr.Multiaddr(call["addr"]))
        await self.host.connect(info)
        await self.dht.routing_table.add_peer(info)
        return {"peerId": str(info.peer_id)}

    async def disconnect(self, call):
        await self.host.disconnect(ID.from_string(call["peerId"]))
        return {}

    async def connections(self, call):
        return {"peers": [str(peer) for peer in self.host.get_connected_peers()]}

    async def findPeer(self, call):
        peer = ID.from_string(call["peerId"])
        if call.get("network"):
            # Its own search looks into the table and the peer store first.
            closest = await self.dht.peer_routing.find_closest_peers_network(peer.to_bytes())
            if peer in closest and self.addrs(peer):
                return self.named(peer)
            raise LookupError("not found")
        info = await self.dht.find_peer(peer)
        if info is None:
            raise LookupError("not found")
        return named(info)

    async def getClosestPeers(self, call):
        key = bytes.fromhex(call["key"])
        peers = await self.dht.peer_routing.find_closest_peers_network(key)
        return {"peers": [self.named(peer) for peer in sort_peer_ids_by_distance(key, peers)], "errors": []}

    async def put(self, call):
        # Its keys are text.
        key = bytes.fromhex(call["key"]).decode()
        count = [0]
        token = acknowledged.set(count)
        try:
            await self.dht.put_value(key, bytes.fromhex(call["value"]))
        finally:
            acknowledged.reset(token)
        return {"stored": count[0], "errors": []}

    async def get(self, call):
        value = await self.dht.get_value(bytes.fromhex(call["key"]).decode())
        if value is None:
            raise LookupError("not found")
        return {"value": value.hex(), "errors": []}

    def multihash(self, call):
        if "cid" in call:
            return parse_cid(call["cid"]).multihash
        return bytes.fromhex(call["multihash"])

    async def provide(self, call):
        sent = await self.dht.provider_store.provide(self.multihash(call))
        if not sent:
            raise RuntimeError("nobody has taken the provider record")
        return {"sent": None, "errors": []}

    async def findProviders(self, call):
        key = self.multihash(call)
        found = await self.dht.provider_store.find_providers(key, call.get("count", 20))
        # Each peer that knows a provider has named it.
        providers = {str(info.peer_id): named(info) for info in found}
        return {"providers": list(providers.values()), "errors": []}

    async def routingTable(self, call):
        return {"peers": [str(peer) for peer in self.dht.routing_table.get_peer_ids()]}

    async def routingTableSize(self, call):
        return {"size": self.dht.get_routing_table_size()}

    async def setMode(self, call):
        """Beyond the protocol: changes the mode of a node that runs."""
        await self.dht.switch_mode(DHTMode[call["mode"].upper()])
        return {}


COMMANDS = {
    name: getattr(Node, name)
    for name in (
        "connect disconnect connections findPeer getClosestPeers put get provide findProviders routingTable "
        "routingTableSize setMode"
    ).split()
}


async def obey(node, call):
    id, timeout = call.get("id"), call.get("timeoutMs", TIMEOUT_MS)
    try:
        command = COMMANDS.get(call.get("cmd"))
        if command is None:
            raise ValueError(f"unknown command {call.get('cmd')}")
        with trio.fail_after(timeout / 1000):
            result = await command(node, call)
        say({"id": id, "ok": True, "result": result})
    except trio.TooSlowError:
        say({"id": id, "ok": False, "error": f"timeout after {timeout} ms"})
    except Exception as error:
        say({"id": id, "ok": False, "error": f"{error}" or type(error).__name__})


def read_lines(lines):
    """Reads stdin in a thread of its own, since a read of it cannot be given up."""
    for line in sys.stdin:
        lines.put(line)
    lines.put(None)


async def serve(node):
    """Carries out the lines of stdin, all at once, until they end or one says `stop`."""
    lines = queue.Queue()
    threading.Thread(target=read_lines, args=(lines,), daemon=True).start()
    async with trio.open_nursery() as nursery:
        while True:
            try:
                line = lines.get_nowait()
            except queue.Empty:
                await trio.sleep(0.005)
                continue
            if line is None:
                end(0)
            if not line.strip():
                continue
            try:
                call = json.loads(line)
            except ValueError as error:
                say({"id": None, "ok": False, "error": f"not a line of JSON: {error}"})
                continue
            if call.get("cmd") == "stop":
                say({"id": call.get("id"), "ok": True, "result": {}})
                end(0)
            nursery.start_soon(obey, node, call)


def end(code):
    """Ends the process at once: its services can take long to close."""
    sys.stdout.flush()
    os._exit(code)


async def main(given):
    configure(given.protocol, given.k)
    host = new_host(key_pair=create_new_key_pair(bytes.fromhex(given.seed)), muxer_preference="YAMUX")
    mode = DHTMode[given.mode.upper()]
    async with host.run(listen_addrs=[multiaddr.Multiaddr(given.listen)]), trio.open_nursery() as nursery:
        nursery.start_soon(host.get_peerstore().start_cleanup_task, 60)
        validator = NamespacedValidator({"pk": PublicKeyValidator(), given.namespace: Greatest()})
        dht = KadDHT(host, mode, validator=validator, validator_changed=True)
        async with background_trio_service(dht):
            say(
                {
                    "ready": True,
                    "impl": "py",
                    "version": importlib.metadata.version("libp2p"),
                    "peerId": str(host.get_id()),
                    "addrs": [str(address) for address in host.get_addrs()],
                    "protocol": given.protocol,
                    "mode": given.mode,
                }
            )
            await serve(Node(host, dht))


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    given = options()
    # Not left to the event loop, which may be busy.
    timer = threading.Timer(given.max_seconds, end, (3,))
    timer.daemon = True
    timer.start()
    trio.run(main, given)
