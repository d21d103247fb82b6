"""What `plantwatch run` says at its end: what was taken in, what was refused and why, which machines have a score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from anomaly.domain import State
from pipelines import topics
from pipelines.ports import HistorianReader, Log, Partition

_PAGE: Final = 500
_WORDS: Final = {
    "duplicate": "came twice",
    "late": "came too late to be scored",
    "unknown_tag": "are of tags that the plant file does not have",
}


def dead_letters_end(log: Log) -> Mapping[Partition, int]:
    """Where the next dead letters will be."""
    return {partition: end for partition, (_, end) in log.ends(topics.DEAD_LETTERS).items()}


def closing_words(
    log: Log, historian: HistorianReader, counts: Mapping[str, int], before: Mapping[Partition, int], machines: int
) -> Iterator[str]:
    """Lines for people. `counts`: of the score service; `before`: `dead_letters_end` at the start; `machines`:
    how many the plant has.
    """
    yield f"{counts.get('acknowledged', 0) - counts.get('dead_lettered', 0):,} readings taken in" + "".join(
        f"; {counts[name]:,} {words}" for name, words in _WORDS.items() if counts.get(name)
    )
    yield from _refused(log, before)
    newest = historian.latest()
    rungs = Counter(row.rung for row in newest if row.state == State.OK)
    by = f" ({', '.join(f'{count} by {rung}' for rung, count in sorted(rungs.items()))})" if rungs else ""
    yield f"{rungs.total()} of {machines} machines have a score now{by}"
    bare = [row for row in newest if row.state == State.INSUFFICIENT_COVERAGE and row.rung == "rules"]
    if bare:
        names = ", ".join(row.asset for row in bare[:5]) + ("…" if len(bare) > 5 else "")
        yield (
            f"no score for {names}: no model serves yet, and too few tags have engineering ranges in the plant file; "
            "next: plantwatch train --stored, then plantwatch models promote"
        )


def _refused(log: Log, before: Mapping[Partition, int]) -> Iterator[str]:
    """Dead letters since then, by reason, each with the words of its first one."""
    reasons: Counter[str] = Counter()
    words: dict[str, str] = {}
    for partition, (start, end) in log.ends(topics.DEAD_LETTERS).items():
        offset = max(start, before.get(partition, start))
        while offset < end:
            page = log.read(partition, offset, _PAGE)
            if not page:
                break
            for record in page:
                headers = dict(record.headers)
                reason = headers.get("x-reason", b"unknown").decode("utf-8", "replace")
                reasons[reason] += 1
                words.setdefault(reason, headers.get("x-exception", b"").decode("utf-8", "replace"))
            offset = page[-1].offset + 1
    for reason, count in reasons.most_common():
        yield f"REFUSED {count:,} records ({reason}), kept as dead letters: {words[reason]}"
