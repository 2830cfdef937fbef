"""A relay between the gateway and Redis that can hold one answer back: the races of edge.md §3 made certain."""

import os
import socket
import threading

import harness


class Held:
    def __init__(self, command):
        self.command = command
        self._arrived = threading.Event()
        self._released = threading.Event()

    def wait(self):
        """Until Redis has answered the command."""
        if not self._arrived.wait(harness.PATIENCE):
            raise harness.Failed(f"no answer to {self.command} came to be held")

    def release(self):
        self._released.set()

    def hold(self):
        self._arrived.set()
        self._released.wait(harness.PATIENCE)


class Relay:
    def __init__(self, path, target):
        self.path = path
        self.target = target
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(64)
        self._lock = threading.Lock()
        self._wanted = None
        self._sockets = [self.listener]
        self._threads = []
        self._spawn(self._accept)

    def _spawn(self, target, *arguments):
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def hold_answer_to(self, command):
        """The answer to the next command of this name is held until it is released."""
        held = Held(command)
        with self._lock:
            self._wanted = held
        return held

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self.target))
            self._sockets += [client, server]
            holding = []
            self._spawn(self._commands, client, server, holding)
            self._spawn(self._answers, server, client, holding)

    def _commands(self, client, server, holding):
        while True:
            try:
                data = client.recv(65536)
            except OSError:
                data = b""
            if not data:
                break
            with self._lock:
                wanted = self._wanted
                if wanted and b"\r\n" + wanted.command + b"\r\n" in data:
                    holding.append(wanted)
                    self._wanted = None
            try:
                server.sendall(data)
            except OSError:
                break
        _shut(server)

    def _answers(self, server, client, holding):
        while True:
            try:
                data = server.recv(65536)
            except OSError:
                data = b""
            if not data:
                break
            while holding:
                holding.pop().hold()
            try:
                client.sendall(data)
            except OSError:
                break
        _shut(client)

    def close(self):
        for item in self._sockets:
            _shut(item)
            item.close()
        for thread in self._threads:
            thread.join(harness.PATIENCE)
        os.unlink(self.path)


def _shut(item):
    try:
        item.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
