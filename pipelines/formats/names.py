"""The names of payload formats, as the setting `readings_format` has them."""

from __future__ import annotations

from enum import StrEnum

from anomaly.errors import ConfigurationError
from pipelines.suggesting import did_you_mean


class Format(StrEnum):
    """How readings are written. `AUTO`: by headers, else by shape, record by record."""

    AUTO = "auto"
    NATIVE = "native"
    TELEGRAF = "telegraf"
    INFLUX = "influx"
    OPCUA = "opcua"
    CONNECT = "connect"
    CLOUDEVENTS = "cloudevents"


def known_format(name: str) -> Format:
    """The format of that name. Raises ConfigurationError.

    >>> known_format("telegraf").value
    'telegraf'
    """
    try:
        return Format(name)
    except ValueError:
        known = ", ".join(Format)
        raise ConfigurationError(
            f"{name!r} is no format of readings{did_you_mean(name, Format)}; expected one of {known}"
        ) from None
