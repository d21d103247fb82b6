"""Answers of InfluxDB as blocks: what others wrote into our buckets harms nobody."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.adapters.influx_client import Table
from pipelines.adapters.influx_tables import reading_rows

HEADER = ",result,table,_time,_value,_field\r\n"
COLUMNS = ("", "result", "table", "_time", "_value", "_field")


def table(*rows: str) -> Table:
    return Table("rows", COLUMNS, HEADER + "".join(f",rows,0,{row}\r\n" for row in rows))


def test_a_value_that_is_no_number_is_passed_over_and_the_others_are_read() -> None:
    """Somebody wrote a text where we write floats: the fault bench found that nothing of the asset could be read."""
    numbers = table("1970-01-01T00:00:01Z,2.5,v.a", "1970-01-01T00:00:02Z,0.30000000000000004,v.a")
    words = table("1970-01-01T00:00:03Z,words,v.a")
    mixed = table("1970-01-01T00:00:04Z,true,v.b", "1970-01-01T00:00:05Z,7,v.b")
    block = reading_rows("p", ("a", "b"), [numbers, words, mixed])
    assert block.times.tolist() == [1_000_000_000, 2_000_000_000, 5_000_000_000]
    np.testing.assert_array_equal(block.values, [[2.5, np.nan], [0.30000000000000004, np.nan], [np.nan, 7.0]])


@pytest.mark.parametrize("words", ["words", "", "v.a"])
def test_a_table_of_nothing_but_words_holds_no_readings(words: str) -> None:
    assert len(reading_rows("p", ("a",), [table(f"1970-01-01T00:00:03Z,{words},v.a")])) == 0
