"""Starts peers of several kinds as processes and checks that they live with each other.

A kind is a command line that speaks the JSON protocol of README.md. The first one is ours: cells without it are listed
if they fail, and do not count. The exit code is 1 if any that counts has failed.
"""

import argparse
import os
import signal
import sys
import time

import network
import wire
from cells import Cells
from pairs import Pair
from process import Peer, kill_all


def options():
    parser = argparse.ArgumentParser(prog="tests/interop/run", description=__doc__)
    parser.add_argument(
        "--kind", action="append", metavar="NAME=COMMAND", required=True, help="a kind of peer; the first one is ours"
    )
    parser.add_argument("--probe", metavar="COMMAND", help="the peer that sees the bytes")
    parser.add_argument(
        "--part",
        action="append",
        choices=["wire", "pairs", "mixed", "crowd"],
        help="do only this part; any number of times",
    )
    parser.add_argument("--only", metavar="CHECK", help="do only the checks whose names begin so")
    parser.add_argument("--pair", metavar="ASKER,ANSWERER", help="of the pairs do only this one")
    parser.add_argument("--ours", action="store_true", help="of the pairs do only those with us")
    parser.add_argument("--at-once", type=int, default=1, help="how many lookups each node of the crowd makes at once")
    parser.add_argument("--record", metavar="DIR", help="write down what the others send, and do nothing else")
    parser.add_argument("--log", metavar="DIR", help="keep what the peers write to stderr")
    return parser.parse_args()


def main():
    given = options()
    kinds = dict(kind.split("=", 1) for kind in given.kind)
    names = list(kinds)
    cells = Cells(names[0], given.only)

    def log(kind):
        return os.path.join(given.log, f"{kind}.log") if given.log else None

    def start(kind, **more):
        return Peer(kind, kinds[kind], log=log(kind), **more)

    def probe(**more):
        return Peer("probe", given.probe, log=log("probe"), **more)

    if given.record:
        for kind in names[1:]:
            wire.record(start, probe, kind, given.record)
        return 0
    parts = given.part or ["wire", "pairs", "mixed", "crowd"]
    begin = time.monotonic()
    if "wire" in parts and given.probe:
        for kind in names:
            wire.Wire(start, probe, cells, kind).run()
    if "pairs" in parts:
        for asker in names:
            for answerer in names:
                if given.pair and given.pair != f"{asker},{answerer}":
                    continue
                if given.ours and cells.ours not in (asker, answerer):
                    continue
                cells.twice(lambda: Pair(start, cells, asker, answerer).run())
    # At least twelve nodes, and twenty-four, however many kinds there are.
    if "mixed" in parts:
        cells.twice(lambda: network.Mixed(start, cells, names, max(3, -(-12 // len(names)))).run())
    if "crowd" in parts:
        cells.twice(lambda: network.crowd(start, cells, names, -(-24 // len(names)), given.at_once))
    print(f"{time.monotonic() - begin:.0f} s")
    return cells.summary()


if __name__ == "__main__":
    # So that processes are ended on any way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        code = main()
    finally:
        kill_all()
    sys.exit(code)
