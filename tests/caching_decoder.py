"""A decoder with a cache of series, as in a running server."""

from collections.abc import Callable, Hashable, Sequence

from decoding import Content, content_of

from infrawatch.ingest.decoded import Decoded, Find
from infrawatch.model.labels import SeriesName


class CachingDecoder:
    """Remembers the keys of stored series with valid names."""

    def __init__(self, decode: Callable[[bytes, Find], Decoded]) -> None:
        self._decode = decode
        self._ids: dict[Hashable, int] = {}

    def find(self, keys: Sequence[Hashable]) -> list[int | None]:
        return [self._ids.get(key) for key in keys]

    def decode(self, body: bytes) -> Content:
        decoded = self._decode(body, self.find)
        for number, key in enumerate(decoded.keys):
            if isinstance(decoded.name_of(number), SeriesName):
                self._ids[key] = number
        return content_of(decoded)
