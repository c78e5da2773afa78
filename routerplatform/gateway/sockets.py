"""How many sockets are open here, in all and for each virtual key."""

from collections import Counter


class OpenSockets:
    """Counts the sockets of one process. A socket enters, may take a key, may change it, and leaves; no locks: one
    event loop."""

    def __init__(self, *, most: int, most_per_key: int) -> None:
        self._most = most
        self._most_per_key = most_per_key
        self._keys: dict[object, int | None] = {}  # of each socket; None while nobody has signed in
        self._per_key: Counter[int] = Counter()

    def enter(self, socket: object) -> bool:
        """Count a new socket; False if there are too many already."""
        if len(self._keys) >= self._most:
            return False
        self._keys[socket] = None
        return True

    def take_key(self, socket: object, key_id: int) -> bool:
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

    def leave(self, socket: object) -> None:
        """Harmless for one that never got in."""
        self._drop(self._keys.pop(socket, None))

    def __len__(self) -> int:
        return len(self._keys)

    def _drop(self, key_id: int | None) -> None:
        if key_id is None:
            return
        self._per_key[key_id] -= 1
        if not self._per_key[key_id]:
            del self._per_key[key_id]
