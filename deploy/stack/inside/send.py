"""Runs inside the stack, with an operator's rights: the rig's readings onto Kafka, one native row a record.

    send.py SINCE(ns) ROWS NORMAL FAULTY PER_SECOND

The first NORMAL rows are normal, the next FAULTY ones out of range, then normal again, the last five say "off". Each
acknowledged row is told on standard output with its partition.
"""

import json
import sys
import time
from datetime import UTC, datetime

from pipelines import topics
from pipelines.adapters.kafka_log import KafkaLog
from pipelines.adapters.partitioning import partition_of
from pipelines.ports import NewRecord
from pipelines.settings import Settings
from pipelines.wiring_servers import kafka_config

ASSET = "smoke/test/rig"
SECOND = 1_000_000_000

since, rows, normal, faulty, pace = (int(word) for word in sys.argv[1:6])
settings = Settings()
log = KafkaLog(kafka_config(settings))
home = partition_of(ASSET.encode(), len(log.ends(topics.READINGS)))
print(json.dumps({"partition": home}), flush=True)
began = time.monotonic()
for number in range(rows):
    time.sleep(max(0.0, began + number / pace - time.monotonic()))
    out = normal <= number < normal + faulty
    stamp = datetime.fromtimestamp(since // SECOND + number, UTC).isoformat().replace("+00:00", "Z")
    values = {"load": 250.0 if out else 50.0 + number % 7, "state": 0 if number >= rows - 5 else 1}
    row = json.dumps({"asset": ASSET, "ts": stamp, "values": values}).encode()
    log.append([NewRecord(topics.READINGS, ASSET.encode(), row)])
    print(json.dumps({"row": number}), flush=True)
log.close()
