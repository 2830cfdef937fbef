"""What was published, and what became of it on each stream: delivered, or the stream ended with a status that says why.

The events of one user are numbered from 0 and written by one publisher, one after another. A stream must hear its user's
numbers in order and without a gap, from the first that was published after its bootstrap event had come. A number whose
XADD had no answer (Redis was killed) is unsure: it comes in its place, or not at all.
"""

import collections
import threading

import grpc

import harness

VERIFY_EVERY = 16  # signatures: one in so many


class Ledger:
    def __init__(self):
        self.changed = threading.Condition()
        self.sure = collections.defaultdict(bytearray)  # of a user: 1 where Redis has said that it has the event
        self.published = self.unsure = self.delivered = 0
        self.open = set()
        self.ends = collections.Counter()  # (status, message): streams
        self.unheard = collections.Counter()  # (status, message): events that came too late for those streams
        self.faults = []

    def begin(self, user):
        """The number of the user's next event."""
        with self.changed:
            self.sure[user].append(0)
            return len(self.sure[user]) - 1

    def written(self, user, number, sure):
        with self.changed:
            self.sure[user][number] = sure
            self.published += sure
            self.unsure += not sure

    def fault(self, text):
        with self.changed:
            self.faults.append(text)

    def missing(self, stream):
        """How many events this stream has yet to hear."""
        return self.sure[stream.device.user].count(1, stream.next)

    def check_delivered(self):
        """While nothing is published: every open stream hears all that is its own."""
        with self.changed:
            if not self.changed.wait_for(lambda: not any(map(self.missing, self.open)), harness.PATIENCE):
                self.faults += [f"{self.missing(stream)} events did not come to an open stream"
                                for stream in self.open if self.missing(stream)]


class Subscriber:
    """A stream, read by a thread of its own. `may_end`: the statuses that there is a reason to end with."""

    def __init__(self, ledger, gateway, device, call):
        self.ledger, self.gateway, self.device, self.call = ledger, gateway, device, call
        self.may_end = set()
        self.next = self.seen = 0
        self.has_heard = False
        self.is_open, self.has_ended = threading.Event(), threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for event in self.call:
                if event.event_type == "gateway.server_time":
                    self._opened()
                else:
                    self._take(event)
            self._ended(("OK", ""))
        except grpc.RpcError as error:
            self._ended((error.code().name, error.details()))
        except Exception as error:  # a wrong hash or signature, a payload that is none of ours
            self.ledger.fault(f"an event that is wrong: {error!r}")
            self._ended(("", "wrong event"))

    def _opened(self):
        with self.ledger.changed:
            self.next = len(self.ledger.sure[self.device.user])
            self.ledger.open.add(self)
        self.is_open.set()

    def _take(self, event):
        self.seen += 1
        if self.seen % VERIFY_EVERY == 1:
            harness.check_event(self.gateway, event)
        user, _, number = event.event_id.rpartition("/")
        number = int(number)
        ledger = self.ledger
        with ledger.changed:
            ledger.delivered += 1
            if user != self.device.user:
                ledger.faults.append("an event of another user")
            elif number < self.next and self.has_heard:
                ledger.faults.append(f"event {number} came after {self.next - 1}")
            else:
                lost = ledger.sure[user].count(1, self.next, number) if number > self.next else 0
                if lost:
                    ledger.faults.append(f"{lost} events before {number} did not come")
                self.next, self.has_heard = number + 1, True
            ledger.changed.notify_all()

    def _ended(self, end):
        ledger = self.ledger
        with ledger.changed:
            ledger.open.discard(self)
            ledger.ends[end] += 1
            ledger.unheard[end] += ledger.missing(self) if self.is_open.is_set() else 0
            if end[0] not in self.may_end and end not in self.may_end:
                ledger.faults.append(f"a stream ended without a reason: {end}")
            ledger.changed.notify_all()
        self.is_open.set()  # nobody needs to wait for it
        self.has_ended.set()

    def wait(self, event, what):
        if not event.wait(harness.PATIENCE):
            self.ledger.fault(f"a stream did not {what}")
