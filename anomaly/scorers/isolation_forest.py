"""Isolation forest: how few random cuts set a row apart from normal ones (Liu, Ting & Zhou 2008). A rival.

scikit-learn (extra `rivals`) grows the trees and is not needed afterwards: they are kept as arrays of numbers and
walked here, all trees at once, so that nothing is ever pickled. Its figures equal scikit-learn's own (a test says so).
For `plantwatch evaluate` only: bundles do not take it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, Int64

from anomaly.domain import Rung
from anomaly.errors import ConfigurationError
from anomaly.scorers import Raw, State

LENGTH = 1
"""Rows in a window: as it is used in the literature, on single rows."""
TREES = 100
LEAF = -1
"""In `children`: there are none."""
GAIN = 0.5
"""What a normal spread of the anomaly score (which lives in 0..1, where ratios mean little) is in ln(raw score)."""


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """All trees, one after the other. `tag`: what a node cuts, at `cut` (scaled units; not above: left); `children`:
    left and right, places in these arrays; `depth`: cuts up to here, and those that its training rows would still need.
    """

    roots: Int32[np.ndarray, " tree"]
    tag: Int32[np.ndarray, " node"]
    cut: Float[np.ndarray, " node"]
    children: Int32[np.ndarray, "node 2"]
    depth: Float[np.ndarray, " node"]
    usual_depth: float
    """Mean depth in a tree grown on so many rows: a row of this depth scores ½."""

    def anomaly(self, rows: Float32[np.ndarray, "row tag"]) -> Float[np.ndarray, " row"]:
        """2^(-mean depth / usual depth), 0..1: near 1 is strange, well below ½ is normal."""
        place = np.tile(self.roots, (len(rows), 1))
        number = np.arange(len(rows))[:, None]
        while True:
            inner = self.children[place, 0] != LEAF
            if not inner.any():
                break
            right = rows[number, np.maximum(self.tag[place], 0)] > self.cut[place]
            place = np.where(inner, self.children[place, right.astype(np.intp)], place)
        return np.asarray(2.0 ** (-self.depth[place].sum(axis=1) / (len(self.roots) * self.usual_depth)))


@dataclass(frozen=True, slots=True, eq=False)
class IsolationForest:
    """A forest and how its anomaly scores lie on normal rows. `usual`: each tag's median, put where it is not seen."""

    forest: Forest
    usual: Float32[np.ndarray, " tag"]
    middle: float
    spread: float

    @property
    def rung(self) -> Rung:
        """The step of the cold-start ladder that it stands beside: it never serves."""
        return Rung.WINDOW_PCA

    @property
    def length(self) -> int:
        """Rows in a window."""
        return LENGTH

    def score(
        self,
        values: Float32[np.ndarray, "window time tag"],
        mask: Bool[np.ndarray, "window time tag"],
        times: Int64[np.ndarray, " window"] | None = None,
    ) -> Raw:
        """Score by the anomaly score in deviations from its normal median, raised to e; NaN where no tag is seen.

        A forest does not explain itself: a tag is blamed by how far the score falls when the tag alone is put back to
        its median (occlusion). It expects nothing.
        """
        del times
        seen = mask[:, -1]
        rows = np.where(seen, values[:, -1], self.usual).astype(np.float32)
        found = self.forest.anomaly(rows)
        falls = np.zeros(seen.shape)
        for tag in range(seen.shape[1]):
            without = rows.copy()
            without[:, tag] = self.usual[tag]
            falls[:, tag] = np.where(seen[:, tag], np.maximum(found - self.forest.anomaly(without), 0.0), 0.0)
        total = falls.sum(axis=1, keepdims=True)
        equal = seen / np.maximum(seen.sum(axis=1, keepdims=True), 1)
        raw = np.exp(GAIN * (found - self.middle) / self.spread)
        return Raw(
            np.where(seen.any(axis=1), raw, np.nan),
            np.where(total > 0, falls / np.where(total > 0, total, 1.0), equal),
            np.full(seen.shape, np.nan),
        )

    def state(self) -> State:
        """Numbers and arrays that rebuild it."""
        forest = self.forest
        return {
            "roots": forest.roots,
            "tag": forest.tag,
            "cut": forest.cut,
            "children": forest.children,
            "depth": forest.depth,
            "usual_depth": forest.usual_depth,
            "usual": self.usual,
            "middle": self.middle,
            "spread": self.spread,
        }

    @classmethod
    def from_state(cls, state: State) -> IsolationForest:
        """The scorer of that state."""
        whole = {name: np.asarray(state[name], np.int32) for name in ("roots", "tag", "children")}
        parts = {name: np.asarray(state[name], float) for name in ("cut", "depth")}
        usual_depth, middle, spread = (float(np.asarray(state[n])) for n in ("usual_depth", "middle", "spread"))
        forest = Forest(**whole, **parts, usual_depth=usual_depth)
        return cls(forest, np.asarray(state["usual"], np.float32), middle, spread)


def fit_isolation_forest_model(
    values: Float32[np.ndarray, "window time tag"], mask: Bool[np.ndarray, "window time tag"], seed: int = 0
) -> IsolationForest:
    """Grow the trees on the last rows of scaled normal windows (256 of them a tree), as scikit-learn does by default.

    Raises ConfigurationError if scikit-learn is not there.
    """
    seen = mask[:, -1]
    usual = np.array(
        [np.median(cells[there]) if there.any() else 0.0 for cells, there in zip(values[:, -1].T, seen.T, strict=True)]
    )
    rows = np.where(seen, values[:, -1], usual).astype(np.float32)
    forest = forest_of(_grown(rows, seed))
    found = forest.anomaly(rows)
    middle, high = np.quantile(found, [0.5, 0.95])
    return IsolationForest(forest, usual.astype(np.float32), float(middle), max(float(high - middle) / 1.645, 1e-3))


def forest_of(grown: Any) -> Forest:
    """The trees of a fitted `sklearn.ensemble.IsolationForest` that looks at every tag, as arrays."""
    trees = [one.tree_ for one in grown.estimators_]
    starts = np.cumsum([0, *(tree.node_count for tree in trees)])
    pairs = [np.stack([tree.children_left, tree.children_right], axis=1) for tree in trees]
    children = [np.where(pair == LEAF, LEAF, pair + start) for pair, start in zip(pairs, starts[:-1], strict=True)]
    return Forest(
        roots=starts[:-1].astype(np.int32),
        tag=np.concatenate([tree.feature for tree in trees]).astype(np.int32),
        cut=np.concatenate([tree.threshold for tree in trees]).astype(np.float64),
        children=np.concatenate(children).astype(np.int32),
        depth=np.concatenate([_depths(tree) for tree in trees]),
        usual_depth=max(_mean_depth(int(grown.max_samples_)), 1e-9),
    )


def _grown(rows: Float32[np.ndarray, "row tag"], seed: int) -> Any:
    try:
        from sklearn.ensemble import IsolationForest as Grower  # noqa: PLC0415  (an extra that only rivals need)
    except ImportError as error:
        raise ConfigurationError(
            "the rival isolation_forest needs scikit-learn, which is not installed; "
            "expected the extra `rivals`: pip install 'plantwatch[rivals]'"
        ) from error
    return Grower(n_estimators=TREES, random_state=seed, n_jobs=1).fit(rows)


def _depths(tree: Any) -> Float[np.ndarray, " node"]:
    """Cuts down to each node, and the mean number that the training rows left there would still need."""
    depth = np.zeros(tree.node_count)
    for node in range(tree.node_count):  # a parent stands before its children
        for child in (tree.children_left[node], tree.children_right[node]):
            if child != LEAF:
                depth[child] = depth[node] + 1.0
    return np.asarray(depth + np.array([_mean_depth(int(rows)) for rows in tree.n_node_samples]))


def _mean_depth(rows: int) -> float:
    """Mean depth of a row in a random tree on so many rows (Liu et al. 2008, equation 1).

    >>> _mean_depth(1), _mean_depth(2), round(_mean_depth(256), 2)
    (0.0, 1.0, 10.24)
    """
    if rows <= 2:
        return float(max(rows - 1, 0))
    return 2.0 * (math.log(rows - 1.0) + float(np.euler_gamma)) - 2.0 * (rows - 1.0) / rows
