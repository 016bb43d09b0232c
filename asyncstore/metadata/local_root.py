"""Where Metaflow keeps its local files: the directory ``.metaflow``."""

from __future__ import annotations

import os
from typing import Final

ROOT_NAME: Final = ".metaflow"


def find_local_root(directory: str | os.PathLike[str], *, sysroot: str | None = None) -> str:
    """Return the root that Metaflow would use in ``directory``; it need not exist.

    Below ``sysroot`` (``METAFLOW_DATASTORE_SYSROOT_LOCAL``) if that is given, else the nearest in ``directory`` or
    above it, else a new one in it. Looks at the file system, a few calls for each directory above.
    """
    if sysroot:
        return os.path.join(os.path.abspath(sysroot), ROOT_NAME)
    start: str = os.path.abspath(directory)
    above = start
    while not os.path.isdir(os.path.join(above, ROOT_NAME)):
        if above == os.path.dirname(above):
            return os.path.join(start, ROOT_NAME)
        above = os.path.dirname(above)
    return os.path.join(above, ROOT_NAME)
