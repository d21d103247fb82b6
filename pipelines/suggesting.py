"""'Did you mean …': the known word nearest to one that was typed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, or None if none is like it.

    >>> nearest("dashbord_port", ["data_dir", "dashboard_port"])
    'dashboard_port'
    """
    by_lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word.

    >>> did_you_mean("tikc", ["tick", "tags"]), did_you_mean("x", ["tick", "tags"])
    ("; did you mean 'tick'?", '; known are: tags, tick')
    """
    names = sorted(map(str, known))
    word = nearest(word, names) or ""
    return f"; did you mean {word!r}?" if word else f"; known are: {', '.join(names[:40])}"
