"""How many sockets are open here, in all and for each virtual key; and how they are asked to leave."""

from collections import Counter
from typing import Protocol


class Guest(Protocol):
    """A socket, as far as this module is concerned. Told once that the process stops."""

    def retire(self) -> None:
        """Finish what is running, begin nothing new, and leave."""


class OpenSockets:
    """Counts the sockets of one process. A socket enters, may take a key, may change it, and leaves; no locks: one
    event loop."""

    def __init__(self, *, most: int, most_per_key: int) -> None:
        self._most = most
        self._most_per_key = most_per_key
        self._keys: dict[Guest, int | None] = {}  # of each socket; None while nobody has signed in
        self._per_key: Counter[int] = Counter()
        self.are_retiring = False

    def enter(self, socket: Guest) -> bool:
        """Count a new socket; False if there are too many already."""
        if len(self._keys) >= self._most:
            return False
        self._keys[socket] = None
        return True

    def take_key(self, socket: Guest, key_id: int) -> bool:
        """`socket` is signed in with this key from now on; False if the key has too many, and nothing changes."""
        before = self._keys[socket]
        if before == key_id:
            return True
        if self._per_key[key_id] >= self._most_per_key:
            return False
        self._drop(before)
        self._keys[socket] = key_id
        self._per_key[key_id] += 1
        return True

    def leave(self, socket: Guest) -> None:
        """Harmless for one that never got in."""
        self._drop(self._keys.pop(socket, None))

    def retire(self) -> None:
        """Ask every socket to leave as soon as its chats are over; who comes from now on sees `are_retiring`."""
        self.are_retiring = True
        for socket in list(self._keys):
            socket.retire()

    def __len__(self) -> int:
        return len(self._keys)

    def _drop(self, key_id: int | None) -> None:
        if key_id is None:
            return
        self._per_key[key_id] -= 1
        if not self._per_key[key_id]:
            del self._per_key[key_id]
