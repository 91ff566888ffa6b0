"""The namespace of keys, which name series in bodies: one tenant and one format."""

from typing import NamedTuple


class KeySpace(NamedTuple):
    """Within it, equal keys mean equal series."""

    tenant_id: int
    format: str
