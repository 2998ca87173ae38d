"""The servers that a Redis URL names, as links in either colour that know the same of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .._redis_url import Place, Seeds
from ._cluster import ClusterLink
from ._link import Link
from ._links import Links
from ._routes import Means
from ._sentinel import Master, SentinelLink
from ._settings import Settings
from ._slots import Slots


class Deployment:
    """What *url* names; the other arguments are those of Settings."""

    def __init__(self, url: str, timeout: float, size: int, retries: int) -> None:
        place = Place.read(url)
        self.settings = settings = Settings.read(place.url, timeout, size, retries)
        self._make: Callable[..., Link] | None = None
        self._is_cluster = place.kind == "cluster"
        self.place: tuple[Any, ...] = settings.place
        if self._is_cluster:
            self.place = "redis", "cluster", Seeds.of(place.seeds)
            self._make = partial(ClusterLink, Slots(place.seeds, settings.timeout), settings)
        elif place.kind == "sentinel":
            seeds, db = Seeds.of(place.seeds), settings.place[-1]
            self.place = "redis", "sentinel", seeds, place.service, db
            sentinel = Settings.read(place.sentinel_url, timeout, size, retries)
            sentinels = [sentinel.at(address) for address in place.seeds]
            self._make = partial(SentinelLink, Master(sentinels, place.service), settings)

    @property
    def may_move(self) -> bool:
        """Whether other servers may take its place."""
        return self._make is not None

    def links(self, means: Means) -> Links:
        """Give the links for all threads, or for the tasks of the running loop."""
        kind: Any = means.cluster_links if self._is_cluster else means.links
        settings = self.settings
        make = partial(self._make, means) if self._make else partial(means.connect, settings)
        return kind(make, settings.size, settings.patience)  # type: ignore[no-any-return]
