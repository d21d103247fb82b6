"""Payload formats of the readings topic, one a module; `pipelines.decoding.decode` is the door to them.

names          the formats a setting may name
recognising    which format a record has: a header says it, else its shape
trees          bytes → JSON tree, strict first, then what gateways write
native         rows, column batches, narrow readings (formats 1 to 3)
telegraf       Telegraf's JSON (4); line_protocol: InfluxDB's text (5); metrics: what both have in common
opcua          OPC UA PubSub JSON (6)
connect        Kafka Connect and Debezium: unwrapped (7); cloudevents: likewise (8)
rows           readings of one time → column blocks
naming, cells  what may be a name, what is a number
"""
