"""Conformance suite of metadata providers: subclass `MetadataProviderSuite`, give it a fixture, run it with pytest."""
