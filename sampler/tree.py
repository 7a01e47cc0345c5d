"""The memo tree: the row of every prefix ever evaluated for a prompt, so that no row is computed twice.

Proposals are sharp, so they keep walking where the chain, or another chain of the same prompt, has been. A proposal
first walks this tree, drawing *fresh* tokens from stored rows by its own keys, and asks the engine from the first
prefix that was never evaluated. Only rows are reused, never a continuation that somebody happened to draw: rows are
functions of the prefix, so the law is untouched and chains stay independent. The first token always comes from the
stored row at the cut, which makes it literally true that this row is common to the trace and to its proposal.

A tree belongs to (model, prompt, α, support) and dies with its request. Memory is bounded: the least recently used
subtrees go first, the chains' current traces never. What was dropped costs tokens again and changes nothing.
"""

from collections import OrderedDict
from collections.abc import Sequence

from sampler.rng import DrawKey
from sampler.row import Row
from sampler.trace import Token
from sampler.watch import Watcher

NODE_BYTES = 800
"""What a node takes beside its row's arrays: objects, dictionary entries (measured with tracemalloc)."""


MAX_BYTES = 256 << 20
"""Default bound of one tree: some 200,000 prefixes."""


class Node:
    """A response prefix; `row` is its next-token law once evaluated, `pins` counts the current traces over it."""

    __slots__ = ("children", "parent", "pins", "row", "token")

    def __init__(self, token: int, parent: "Node | None") -> None:
        self.token, self.parent = token, parent
        self.row: Row | None = None
        self.children: dict[int, Node] = {}
        self.pins = 0


class MemoTree:
    """Rows by response prefix, shared by all chains of one prompt: coroutines of one loop, so it needs no lock."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._root = Node(-1, None)
        self._recent: OrderedDict[Node, None] = OrderedDict()  # oldest first; a parent is newer than its children
        self._pinned: dict[int, list[Node]] = {}

    def clear(self) -> None:
        """Forget every row."""
        self.bytes = 0
        self._root = Node(-1, None)
        self._recent.clear()
        self._pinned.clear()

    def find(self, prefix: Sequence[int]) -> Node | None:
        """The node of a prefix, None where the tree does not reach."""
        node = self._root
        for token in prefix:
            child = node.children.get(token)
            if child is None:
                return None
            node = child
        return node

    def insert(self, prefix: Sequence[int], tokens: Sequence[int], rows: Sequence[Row]) -> None:
        """Store rows[i], the row after `prefix` and tokens[:i]. A row that is already there stays: one row a prefix."""
        node = self._root
        for token in prefix:
            node = self._child(node, token)
        for i, row in enumerate(rows):
            if node.row is None:
                node.row = row
                self.bytes += row.nbytes
            if i < len(tokens):
                node = self._child(node, tokens[i])
        self.touch(node)
        self._evict()

    def pin(self, chain: int, ids: Sequence[int]) -> None:
        """Keep the rows along a chain's current trace, and let go of its former one."""
        for node in self._pinned.pop(chain, []):
            node.pins -= 1
        path: list[Node] = [self._root]
        for token in ids:
            child = path[-1].children.get(token)
            if child is None:
                break
            path.append(child)
        for node in path:
            node.pins += 1
        self._pinned[chain] = path

    def touch(self, node: Node) -> None:
        """Count a node and its ancestors as used now."""
        while node.parent is not None:
            self._recent[node] = None
            self._recent.move_to_end(node)
            node = node.parent

    def _child(self, node: Node, token: int) -> Node:
        child = node.children.get(token)
        if child is None:
            child = node.children[token] = Node(token, node)
            self.bytes += NODE_BYTES
        return child

    def _evict(self) -> None:
        """Drop the oldest leaves until the bound holds; pinned ones are passed over."""
        spared: list[Node] = []
        while self.bytes > self.max_bytes and self._recent:
            node, _ = self._recent.popitem(last=False)
            if node.pins or node.children:
                spared.append(node)
                continue
            assert node.parent is not None
            del node.parent.children[node.token]
            self.bytes -= NODE_BYTES + (node.row.nbytes if node.row is not None else 0)
        for node in reversed(spared):
            self._recent[node] = None
            self._recent.move_to_end(node, last=False)


def walk(tree: MemoTree, prefix: Sequence[int], key: DrawKey, watcher: Watcher, allowed: int) -> list[Row]:
    """Draw up to `allowed` tokens after `prefix` from stored rows, as far as tree and watcher go; the rows used.

    A uniform beyond the stored head of a row over the whole vocabulary ends the walk: the engine evaluates that row
    again and draws with the same uniform.
    """
    rows: list[Row] = []
    node = tree.find(prefix)
    while node is not None and node.row is not None and watcher.end is None and len(rows) < allowed:
        row = node.row
        index = row.find(key.uniform(len(prefix) + len(rows)))
        if index is None:
            break
        token = Token(int(row.ids[index]), row.log_p(index), row.log_z, row.entropy, row.log_mass)
        rows.append(row)
        watcher((token,))
        child = node.children.get(token.id)
        if child is None:
            break
        node = child
    if node is not None:
        tree.touch(node)
    return rows
