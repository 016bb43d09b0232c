"""Moves one large object in concurrent parts, within a window of memory.

Works on the storage contract alone, so that what wraps a storage (retries, limits) holds for each part.
"""

from __future__ import annotations

from asyncstore.storage.download import Download, download, download_into, download_window
from asyncstore.storage.upload import upload, upload_buffer, upload_window

__all__ = ["Download", "download", "download_into", "download_window", "upload", "upload_buffer", "upload_window"]
