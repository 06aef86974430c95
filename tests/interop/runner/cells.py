"""Results: one line for each, and what counts."""

import threading
import time
import traceback

from process import Failed


class Wrong(Exception):
    """A check has found something else than it should."""


class Skipped(Exception):
    """A check does not apply."""


def expect(condition, text):
    if not condition:
        raise Wrong(text)


def eventually(seconds, condition, text):
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while True:
        if condition():
            return
        if time.monotonic() > end:
            raise Wrong(f"{text}, after {seconds} s")
        time.sleep(0.2)


class Cells:
    """The cells of the matrix, as they are checked."""

    def __init__(self, ours, only=None):
        self.ours = ours
        self.only = only
        self.lock = threading.Lock()
        self.passed = 0
        self.failed = []
        self.others = []

    def wanted(self, check):
        return self.only is None or check.startswith(self.only)

    def check(self, check, kinds, work):
        """Does a check and tells how it went. Between two others a failure is listed and does not count."""
        if not self.wanted(check):
            return None
        where = " -> ".join(kinds)
        counts = self.ours in kinds
        begin = time.monotonic()
        try:
            note = work()
            outcome = "ok"
        except Skipped as reason:
            self._say("--", where, check, str(reason))
            return None
        except (Wrong, Failed) as error:
            outcome, note = "FAILED" if counts else "others", str(error)
        except Exception:
            outcome, note = "FAILED" if counts else "others", traceback.format_exc(limit=2).replace("\n", " | ")
        seconds = time.monotonic() - begin
        self._say(outcome, where, check, f"{note or ''} ({seconds:.1f} s)")
        with self.lock:
            if outcome == "ok":
                self.passed += counts
            elif counts:
                self.failed.append((where, check, note))
            else:
                self.others.append((where, check, note))
        return outcome == "ok"

    def twice(self, work):
        """Does a part, and once more with new processes if something of it that counts has failed; then that counts.

        Real programs on a busy machine now and then miss a deadline of this runner: what is wrong fails twice.
        """
        passed, failed = self.passed, len(self.failed)
        work()
        if len(self.failed) > failed:
            print("again, since something has failed", flush=True)
            self.passed = passed
            del self.failed[failed:]
            work()

    def _say(self, outcome, where, check, note):
        with self.lock:
            print(f"{outcome:7} {where:28} {check:24} {str(note)[:300]}", flush=True)

    def summary(self):
        """Prints what has failed, and returns the code to end with."""
        for title, cells in (
            ("Between two others; they do not count:", self.others),
            ("Failed:", self.failed),
        ):
            if cells:
                print(title)
                for where, check, note in cells:
                    print(f"  {where:28} {check:24} {str(note)[:600]}")
        print(f"{self.passed} passed, {len(self.failed)} failed")
        return 1 if self.failed else 0
