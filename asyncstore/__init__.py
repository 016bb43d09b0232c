"""Asyncio-native storage engine for the data and metadata of Metaflow-style workflows."""
