"""The tag that explains a strange window best need not be the one that is farthest off."""

from __future__ import annotations

import numpy as np

from anomaly.isolating import SUSPECTS, isolate


def test_the_suspect_is_the_tag_without_which_least_is_left() -> None:
    shares = np.array([[0.5, 0.3, 0.2, 0.0], [0.7, 0.1, 0.1, 0.1]])
    left = np.array([[1.8, 0.4, 1.9, 2.0], [0.3, 0.9, 0.9, 0.9]])
    asked = []

    def without(tags: np.ndarray) -> np.ndarray:
        asked.append(tags.tolist())
        return np.asarray(left[np.arange(2), tags])

    rest, found = isolate(np.array([2.0, 1.2]), shares, without)
    assert rest.tolist() == [0.4, 0.3]
    assert found.argmax(axis=1).tolist() == [1, 0]
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    np.testing.assert_allclose(found[0], [0.1, 0.86, 0.04, 0.0])  # 1.6 of 2.0 goes away with it
    assert asked == [[0, 0], [1, 1], [2, 2]]
    assert len(asked) == SUSPECTS


def test_a_tag_that_explains_nothing_leaves_the_contributions_as_they_are() -> None:
    shares = np.array([[0.6, 0.4]])
    rest, found = isolate(np.array([2.0]), shares, lambda tags: np.full(1, 2.5))
    assert rest.tolist() == [2.5]
    np.testing.assert_array_equal(found, shares)


def test_what_cannot_be_scored_without_a_tag_is_not_known() -> None:
    shares = np.array([[0.6, 0.4], [1.0, 0.0]])
    left = np.array([[np.nan, 0.5], [np.nan, np.nan]])
    rest, found = isolate(np.array([2.0, 2.0]), shares, lambda tags: left[np.arange(2), tags])
    np.testing.assert_array_equal(rest, [0.5, np.nan])
    assert found[0].argmax() == 1
    np.testing.assert_array_equal(found[1], shares[1])
    assert shares.tolist() == [[0.6, 0.4], [1.0, 0.0]]  # what was given is not written to
