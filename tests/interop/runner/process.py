"""Peers as processes: starts them, sends them commands, and sees to it that none is left behind."""

import atexit
import itertools
import json
import os
import queue
import shlex
import signal
import subprocess
import threading

# How long a process may take until it listens: Python takes seconds when twenty start at once.
START_SECONDS = 60
# How much longer than its own timeout an answer is waited for.
GRACE_SECONDS = 5

running = set()


def kill_all():
    """Ends every process that is still there."""
    for peer in list(running):
        peer.kill()


atexit.register(kill_all)


class Failed(Exception):
    """A command was answered with an error, or not at all."""


class Peer:
    """One process, and the node in it."""

    def __init__(self, kind, command, *, mode="server", seed=None, listen=None, k=20, max_seconds=600, log=None):
        self.kind = kind
        self.mode = mode
        self.seed = seed or os.urandom(32).hex()
        self._again = {"command": command, "mode": mode, "seed": self.seed, "k": k, "log": log}
        arguments = shlex.split(command)
        arguments += ["--mode", mode, "--seed", self.seed, "--k", str(k), "--max-seconds", str(max_seconds)]
        if listen:
            arguments += ["--listen", listen]
        self._log = open(log, "ab") if log else subprocess.DEVNULL
        # A group of its own: whatever it has started ends with it.
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        running.add(self)
        self._ids = itertools.count(1)
        self._waiting = {}
        self._lock = threading.Lock()
        self._ready = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.id = None

    def ready(self):
        """Waits until the node listens."""
        if self.id is None:
            try:
                line = self._ready.get(timeout=START_SECONDS)
            except queue.Empty:
                line = None
            if line is None:
                self.kill()
                raise Failed(f"{self.kind} has not started")
            self.id = line["peerId"]
            self.addr = line["addrs"][0]
            self.version = line["version"]
            self.impl = line["impl"]
        return self

    def _read(self):
        for line in self._process.stdout:
            try:
                line = json.loads(line)
            except ValueError:
                continue
            if line.get("ready"):
                self._ready.put(line)
                continue
            with self._lock:
                answer = self._waiting.pop(line.get("id"), None)
            if answer is not None:
                answer.put(line)
        self._ready.put(None)
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer.put({"ok": False, "error": "the process has ended"})

    def begin(self, cmd, timeout=30, **parameters):
        """Sends a command, and returns a function that waits for its result."""
        answer = queue.Queue()
        id = next(self._ids)
        with self._lock:
            self._waiting[id] = answer
        line = json.dumps({"id": id, "cmd": cmd, "timeoutMs": int(timeout * 1000), **parameters})
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise Failed(f"{self.kind} {cmd}: the process has ended") from error

        def end():
            try:
                line = answer.get(timeout=timeout + GRACE_SECONDS)
            except queue.Empty:
                raise Failed(f"{self.kind} {cmd}: no answer") from None
            if not line["ok"]:
                raise Failed(f"{self.kind} {cmd}: {line['error']}")
            return line["result"]

        return end

    def call(self, cmd, timeout=30, **parameters):
        """Sends a command and returns its result."""
        return self.begin(cmd, timeout, **parameters)()

    def table(self):
        return set(self.call("routingTable")["peers"])

    def kill(self):
        """Ends the process as a crash would."""
        running.discard(self)
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()

    def again(self, mode=None):
        """Starts the same node anew, at the same place."""
        listen = self.addr.split("/p2p/")[0]
        options = self._again | ({"mode": mode} if mode else {})
        return Peer(self.kind, listen=listen, **options)
