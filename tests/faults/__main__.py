"""`python -m tests.faults`: the fault bench on a real broker and a real InfluxDB. Exits 1 if any row falls short."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.faults import bench, servers, table

CANNOT_RUN = 3


def main() -> int:
    """Run the rows asked for, print the table, and say by the exit code whether all held."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # leave no server and no worker behind
    numbers = {int(part) for part in options.rows.split(",")} if options.rows else set()
    specs = [row for row in bench.ROWS if (row.number in numbers if numbers else row.in_subset or not options.subset)]
    began = time.monotonic()
    try:
        servers.install()
        with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as temporary:
            folder = options.keep or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            lines = bench.run(specs, folder.resolve(), full=not options.subset, say=_say)
    except servers.NoServers as why:
        _say(f"the fault bench cannot run here: {why}")
        return CANNOT_RUN
    if options.json:
        options.json.write_text(json.dumps([line.to_dict() for line in lines], indent=1) + "\n", encoding="utf-8")
    spent = f"{time.monotonic() - began:.0f} s"
    sys.stdout.write("\n".join((table.table(lines), spent, table.last_line(lines))) + "\n")
    return 0 if all(line.sound for line in lines) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rows", default="", help="numbers of rows, apart by commas; all if not given")
    parser.add_argument("--subset", action="store_true", help="as short as in `make test`; its rows, if none are named")
    parser.add_argument("--json", type=Path, help="write the table there too")
    parser.add_argument("--keep", type=Path, help="folder for servers, logs and models, kept afterwards")
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
