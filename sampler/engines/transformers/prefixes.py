"""Keys and values of prefixes computed before, in a radix tree over token ids.

Any request reuses the longest prefix that any earlier one has computed: the next step of a chain, the other
chains of its prompt, a rejected proposal walked again. Memory is bounded by bytes; the least recently used leaf
goes first. Nothing is promised: a miss is computed again.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any


class _Node:
    __slots__ = ("children", "ids", "kv", "parent")

    def __init__(self, ids: tuple[int, ...], kv: Any, parent: "_Node | None") -> None:
        self.ids, self.kv, self.parent = ids, kv, parent
        self.children: dict[int, _Node] = {}


class PrefixStore:
    """A radix tree whose edges hold tensors [planes, heads, tokens, size]."""

    def __init__(self, max_bytes: int, token_bytes: int) -> None:
        self.max_bytes, self._token_bytes = max_bytes, token_bytes
        self._root = _Node((), None, None)
        self._recent: OrderedDict[_Node, None] = OrderedDict()  # oldest first; a parent is newer than its children
        self._tokens = 0

    @property
    def bytes(self) -> int:
        """Bytes held now."""
        return self._tokens * self._token_bytes

    def resize(self, max_bytes: int) -> None:
        """Set the bound, and drop what no longer fits."""
        self.max_bytes = max(0, max_bytes)
        self._evict()

    def clear(self) -> None:
        """Forget everything."""
        self._root = _Node((), None, None)
        self._recent.clear()
        self._tokens = 0

    def match(self, ids: Sequence[int]) -> list[Any]:
        """The pieces of the longest stored prefix of `ids`, in order; their token counts are in shape[2]."""
        pieces: list[Any] = []
        path, node, at = [self._root], self._root, 0
        while at < len(ids) and (child := node.children.get(ids[at])) is not None:
            shared = common_length(child.ids, ids[at:])
            pieces.append(child.kv[:, :, :shared])
            path.append(child)
            at += shared
            if shared < len(child.ids):
                break
            node = child
        self._touch(path)
        return pieces

    def insert(self, ids: tuple[int, ...], copy: Callable[[int, int], Any]) -> None:
        """Store the prefix `ids`; `copy(start, end)` fetches a copy of the positions that are missing."""
        path, node, at = [self._root], self._root, 0
        while at < len(ids) and (child := node.children.get(ids[at])) is not None:
            shared = common_length(child.ids, ids[at:])
            at += shared
            if shared < len(child.ids):
                if at == len(ids):
                    break
                child = self._split(child, shared)
            path.append(child)
            node = child
        if at < len(ids) and (len(ids) - at) * self._token_bytes <= self.max_bytes:
            leaf = _Node(ids[at:], copy(at, len(ids)), node)
            node.children[ids[at]] = leaf
            self._tokens += len(leaf.ids)
            path.append(leaf)
        self._touch(path)
        self._evict()

    def _split(self, node: _Node, at: int) -> _Node:
        """Cut an edge in two. Both halves are copied, so that dropping one gives its memory back."""
        upper = _Node(node.ids[:at], node.kv[:, :, :at].clone(), node.parent)
        assert node.parent is not None
        node.parent.children[node.ids[0]] = upper
        node.ids, node.kv, node.parent = node.ids[at:], node.kv[:, :, at:].clone(), upper
        upper.children[node.ids[0]] = node
        self._recent[upper] = None
        return upper

    def _touch(self, path: list[_Node]) -> None:
        for node in reversed(path[1:]):
            self._recent[node] = None
            self._recent.move_to_end(node)

    def _evict(self) -> None:
        while self.bytes > self.max_bytes:
            node, _ = self._recent.popitem(last=False)
            assert node.parent is not None
            assert not node.children, "a parent is always used later than its children"
            del node.parent.children[node.ids[0]]
            self._tokens -= len(node.ids)


def common_length(left: Sequence[int], right: Sequence[int]) -> int:
    """How many leading ids two sequences share."""
    for i, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return i
    return min(len(left), len(right))
