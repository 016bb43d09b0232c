"""The JSON text in which every backend stores an object's attributes.

Metaflow 2.19 writes the same: a sidecar on local disk (``plugins/datastores/local_storage.py``), one metadata
entry in the clouds (``s3_storage.py``, ``azure_storage.py``, ``gs_storage.py``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import cast

from asyncstore.errors import ConfigError, IntegrityError
from asyncstore.types import Attributes, Json

MAX_ATTRIBUTE_BYTES = 2000
"""What S3 has room for beside the entry's own name (2 KiB of user metadata in all), held on every backend."""

_PLAIN_INT = 1 << 63

# ASCII with the separators of json.dumps, as Metaflow writes it; NaN and infinities are not JSON.
_ENCODER = json.JSONEncoder(allow_nan=False)


def encode_attributes(attributes: Attributes | None) -> str | None:
    """Return the text to store, or None if there is nothing to store (None or ``{}``).

    Raises `ConfigError` for what is not JSON, what JSON would give back as something else, and for more than
    2000 bytes.
    """
    if not attributes:
        return None
    plain = _encode_plain(attributes)
    if plain is not None:
        return plain
    try:
        fault = _fault(attributes, "attributes")
        # The annotation says Json, the caller may not have been type-checked.
        text = "" if fault else _ENCODER.encode(dict(attributes))
    except RecursionError:
        fault, text = "attributes are nested too deeply", ""
    if fault is None and len(text) > MAX_ATTRIBUTE_BYTES:
        fault = f"attributes have {len(text)} bytes as JSON; at most {MAX_ATTRIBUTE_BYTES} are allowed"
    if fault is not None:
        raise ConfigError(fault)
    return text


def decode_attributes(text: str | bytes) -> dict[str, Json]:
    """Return the attributes in a stored text, or raise `IntegrityError` if it is not a JSON object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"stored attributes are not JSON: {error}") from error
    if not isinstance(value, dict):
        raise IntegrityError(f"stored attributes are a JSON {type(value).__name__}, not an object")
    return cast("dict[str, Json]", value)


def _encode_plain(attributes: Attributes) -> str | None:
    """Return the text for what nearly every blob has: few names, each with a bool, a number or a word; else None.

    An encoder of the standard library takes several times as long, which shows where a blob has 1 KiB.
    """
    parts: list[str] = []
    for name, value in attributes.items():
        if not (type(name) is str and name.isidentifier() and name.isascii()) or len(name) > 40 or len(parts) == 20:
            return None
        if type(value) is bool:
            parts.append(f'"{name}": true' if value else f'"{name}": false')
        elif type(value) is int and -_PLAIN_INT < value < _PLAIN_INT:
            parts.append(f'"{name}": {value}')
        elif type(value) is str and len(value) <= 40 and value.isascii() and value.replace("-", "").isalnum():
            parts.append(f'"{name}": "{value}"')
        else:
            return None
    return "{" + ", ".join(parts) + "}"


def _fault(value: object, name: str) -> str | None:
    """Say why JSON would refuse the value, or give back another one."""
    if value is None or isinstance(value, bool | int | str):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{name} is {value}, which JSON cannot hold"
    if isinstance(value, list):
        faults = (_fault(item, f"{name}[{index}]") for index, item in enumerate(cast("list[object]", value)))
    # Deeper mappings must be dicts, which is all that the encoder takes.
    elif isinstance(value, dict) or (name == "attributes" and isinstance(value, Mapping)):
        faults = (
            _fault(item, f"{name}[{key!r}]") if isinstance(key, str) else f"{name} has a key that is no str: {key!r}"
            for key, item in cast("Mapping[object, object]", value).items()
        )
    else:
        return f"{name} is a {type(value).__name__}, which JSON cannot hold"
    return next((fault for fault in faults if fault), None)
