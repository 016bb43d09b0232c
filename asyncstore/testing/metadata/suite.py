"""The whole suite."""

from __future__ import annotations

from asyncstore.testing.metadata.reading import ReadingSuite
from asyncstore.testing.metadata.registering import RegisteringSuite
from asyncstore.testing.metadata.tagging import TaggingSuite


class MetadataProviderSuite(RegisteringSuite, ReadingSuite, TaggingSuite):
    """Holds for every metadata provider.

    A subclass gives two fixtures: ``open_provider`` (a further handle on one store, empty when a test begins) and
    ``raw_run`` (a stored run as a dict, behind the provider's back).
    """
