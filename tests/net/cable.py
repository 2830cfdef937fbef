"""A cable between the gateway and what it depends on. It forwards, until it is told to lose, hold or twist what it carries,
or to lead elsewhere: the faults of a network and of a peer, made at will."""

import os
import socket
import threading

import harness


class Cable:
    """Listens on a unix socket (`path`) or else on a free port of loopback; `target` is a socket's path or "host:port"."""

    def __init__(self, target, path=None):
        self.target = target  # of connections that are made from now on
        self.twist = None     # what comes back is given to it; what it returns arrives
        self.accepted = 0     # connections so far
        self._answers_pass = threading.Event()
        self._answers_pass.set()
        self._is_cut = False
        self._ends = []
        self._threads = []
        self._path = path
        if path:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self.address = f"unix:{path}"
        else:
            self._listener = socket.socket()
            self._listener.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._listener.listen(64)
        self._spawn(self._accept)

    def cut(self):
        """Half-open: nothing passes any more, and nobody hears of an end; new connections are taken, and answered by nobody."""
        self._is_cut = True
        for end in list(self._ends):
            end.is_dead = True

    def mend(self):
        """New connections pass; those that were cut stay dead."""
        self._is_cut = False

    def pull(self):
        """Every connection ends, at both ends; new ones pass."""
        for end in list(self._ends):
            end.shut()

    def hold_answers(self):
        """A target that is slower than anybody waits: its answers come when they are let go."""
        self._answers_pass.clear()

    def let_answers_go(self):
        self._answers_pass.set()

    def close(self):
        self.let_answers_go()
        for end in [*self._ends, End(self._listener)]:
            end.shut()
        for thread in self._threads:
            thread.join(harness.PATIENCE)
        for end in self._ends:
            end.socket.close()
        self._listener.close()
        if self._path:
            os.unlink(self._path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _spawn(self, target, *arguments):
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            near = End(near, self._is_cut)
            self._ends.append(near)
            try:
                far = End(connect(self.target), near.is_dead)
            except OSError:  # refused there, so reset here
                near.shut()
                continue
            self._ends.append(far)
            self._spawn(self._carry, near, far, False)
            self._spawn(self._carry, far, near, True)

    def _carry(self, source, sink, is_answer):
        while True:
            try:
                data = source.socket.recv(65536)
            except OSError:
                data = b""
            if is_answer:
                self._answers_pass.wait(10)
            if source.is_dead:
                if data:
                    continue
                return  # nor is an end passed on
            if not data:
                break
            if is_answer and self.twist:
                data = self.twist(data)
            try:
                sink.socket.sendall(data)
            except OSError:
                break
        sink.shut()


class End:
    def __init__(self, of, is_dead=False):
        self.socket = of
        self.is_dead = is_dead

    def shut(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def connect(target):
    target = str(target)
    if target.startswith("/"):
        made = socket.socket(socket.AF_UNIX)
    else:
        made = socket.socket()
        target = harness.place_of(target)
    try:
        made.connect(target)
    except OSError:
        made.close()
        raise
    return made
