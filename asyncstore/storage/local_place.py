"""The steps of one object's way to its name, taken under the lock of its directory."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from asyncstore.layout import sidecar_path
from asyncstore.storage.local_errors import is_directory, refused_link
from asyncstore.storage.local_get import read_sidecar
from asyncstore.storage.local_os import UNSUPPORTED, OsCalls, same_inode, size_of, write_all, written_lately
from asyncstore.storage.local_sync import Sync
from asyncstore.storage.local_tmp import Temporaries
from asyncstore.types import Attributes, Buffer, WriteMode

_NO_LINKS = UNSUPPORTED | {errno.EPERM, errno.EMLINK}


class Placement:
    """One object on its way: ``data`` is its body's content, ``text`` its sidecar's (None: it has none).

    A body that the caller has written already comes as the name of a temporary file, with ``data`` None; the caller
    removes it if it does not get its name.
    """

    # Defaults of the class: most writes need few of these, and there are many writes.
    directory = -1
    """Descriptor of its directory, while that is open."""
    body: str | None = None
    body_status: os.stat_result | None = None
    replaces = False
    keeps_sidecar = False
    sidecar: str | None = None
    sidecar_status: os.stat_result | None = None
    old_sidecar: str | None = None
    found = False
    """It was in place already, and is left as it was."""
    found_fresh = False
    """The same, and it may not be on the disk."""
    written = False

    def __init__(self, path: str, data: Buffer | None, text: bytes | None, attributes: Attributes) -> None:
        self.path = path
        self.data = data
        self.text = text
        self.attributes = attributes
        self.parent, _, self.name = path.rpartition("/")

    @property
    def size(self) -> int:
        """Bytes of the body that are still to be written."""
        return 0 if self.data is None else size_of(self.data)

    @property
    def finished(self) -> bool:
        return self.written or self.found


class Placer:
    """Takes the steps. Between them the caller sees to it that names reach the disk in this order."""

    def __init__(
        self,
        calls: OsCalls,
        root: str,
        temporaries: Temporaries,
        sync: Sync,
        *,
        file_mode: int | None,
        follow: bool,
        mode: WriteMode,
    ) -> None:
        self._calls = calls
        self._root = root
        self._temporaries = temporaries
        self._sync = sync
        self._file_mode = file_mode
        self._follow = follow
        self.create = mode == "create"
        self.at = ""
        """Path of the object whose step was taken last: what a failure is about."""

    def put(self, item: Placement) -> None:
        """Take all steps at once, where nothing has to reach the disk in between."""
        if self.admit(item):
            if item.replaces:
                self.clear(item)
            if not item.keeps_sidecar:
                self.place_sidecar(item)
            self.publish(item)

    def stage(self, item: Placement) -> None:
        """Write the body to a temporary file, unless that is done."""
        self.at = item.path
        if item.body is None:
            assert item.data is not None
            name = self._temporaries.name()
            item.body_status = self._write(name, self._temporaries.open(), item.data, item.path)
            item.body = name

    def admit(self, item: Placement) -> bool:
        """Say whether the object is to be written; decide what becomes of an old body and sidecar."""
        if self.present(item):
            if self.create:
                item.found = True
                return False
            self.stage(item)
            old = read_sidecar(self._calls, item.directory, item.name, follow=self._follow)
            item.keeps_sidecar = old == item.text
            item.replaces = not item.keeps_sidecar
            if item.replaces and item.text is not None:
                if self._is_directory(sidecar_path(item.name), item.directory):
                    raise is_directory("put", sidecar_path(self._where(item)))
                # Before the old body goes: a full disk must not cost the old object.
                name = self._temporaries.name()
                self._write(name, self._temporaries.open(), item.text, item.path)
                item.sidecar = name
        else:
            item.replaces = item.keeps_sidecar = False
            self.stage(item)
        return True

    def present(self, item: Placement) -> bool:
        """Say whether an object is in place. Directories without any file give way to an object."""
        self.at = item.path
        if not self._calls.exists(item.name, item.directory):
            return False
        status = self._calls.stat(item.name, item.directory, follow=False)
        if stat.S_ISLNK(status.st_mode) and not self._follow:
            raise refused_link("put", self._where(item))
        if not stat.S_ISDIR(status.st_mode):
            item.found_fresh = self.create and written_lately(status)
            return True
        if not self._remove_empty(item.name, item.directory):
            raise is_directory("put", self._where(item))
        return False

    def keep(self, item: Placement) -> None:
        """Put an object that is in place already on the disk: whoever wrote it may not have done so."""
        self.at = item.path
        for name in (item.name, sidecar_path(item.name)):
            try:
                fd = self._calls.open_file(name, item.directory, follow=self._follow)
            except FileNotFoundError:
                continue
            try:
                self._sync.file(fd, None, item.path)
            finally:
                self._calls.close(fd)

    def clear(self, item: Placement) -> None:
        """Take away the old body, whose attributes are not the new ones."""
        self.at = item.path
        self._calls.unlink(item.name, item.directory)

    def place_sidecar(self, item: Placement) -> bool:
        """Bring the sidecar to its new state, while there is no body; say whether anything changed."""
        self.at = item.path
        name = sidecar_path(item.name)
        if item.sidecar is not None:
            self._calls.rename(item.sidecar, self._temporaries.open(), name, item.directory)
            item.sidecar = None
            return True
        if item.text is None:
            return self._set_aside(item, name)
        try:
            item.sidecar_status = self._write(name, item.directory, item.text, item.path)
        except FileExistsError:
            # Left by a crash, or by a writer that takes no lock and has just finished (see `publish`).
            if not self._set_aside(item, name):
                raise is_directory("put", sidecar_path(self._where(item))) from None
            item.sidecar_status = self._write(name, item.directory, item.text, item.path)
        return True

    def publish(self, item: Placement) -> None:
        """Give the body its name: the commit."""
        self.at = item.path
        assert item.body is not None
        source = self._temporaries.open()
        if self.create:
            while not self._link(item.body, source, item):
                if self.present(item):
                    # A writer that takes no lock was faster: the object is its own, and so is the sidecar.
                    self._give_back_sidecar(item)
                    item.found = True
                    return
        else:
            self._calls.rename(item.body, source, item.name, item.directory)
        item.written = True
        if self.create or item.data is None:
            # A rename onto another link of the same file does nothing, and leaves the temporary name.
            with contextlib.suppress(FileNotFoundError):
                self._calls.unlink(item.body, source)
        item.body = None

    def discard(self, item: Placement) -> None:
        """Remove what is left of temporary files."""
        body = None if item.data is None else item.body
        for name in (body, item.sidecar, item.old_sidecar):
            if name is not None:
                with contextlib.suppress(FileNotFoundError):
                    self._calls.unlink(name, self._temporaries.open())
        item.sidecar = item.old_sidecar = None
        if body is not None:
            item.body = None

    def _where(self, item: Placement) -> str:
        return os.path.join(self._root, item.path)

    def _write(self, name: str, directory: int, data: Buffer, path: str) -> os.stat_result:
        calls = self._calls
        fd = calls.create(name, directory, 0o666 if self._file_mode is None else self._file_mode)
        try:
            write_all(calls, fd, data)
            if self._file_mode is not None:
                calls.chmod(fd, self._file_mode)
            self._sync.file(fd, data, path)
            return calls.fstat(fd)
        except BaseException:
            calls.unlink(name, directory)
            raise
        finally:
            calls.close(fd)

    def _link(self, body: str, source: int, item: Placement) -> bool:
        try:
            self._calls.link(body, source, item.name, item.directory)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # No hard links here: the lock alone keeps two creators apart.
            if self._calls.exists(item.name, item.directory):
                return False
            self._calls.rename(body, source, item.name, item.directory)
        return True

    def _set_aside(self, item: Placement, name: str) -> bool:
        """Move a sidecar away, so that it can come back; say whether there was one."""
        if not self._calls.exists(name, item.directory) or self._is_directory(name, item.directory):
            return False  # a directory of that name is legal as long as the object has no attributes
        aside = self._temporaries.name()
        self._calls.rename(name, item.directory, aside, self._temporaries.open())
        item.old_sidecar = aside
        return True

    def _is_directory(self, name: str, directory: int) -> bool:
        try:
            return stat.S_ISDIR(self._calls.stat(name, directory, follow=False).st_mode)
        except FileNotFoundError:
            return False

    def _give_back_sidecar(self, item: Placement) -> None:
        name = sidecar_path(item.name)
        with contextlib.suppress(FileNotFoundError):
            if item.sidecar_status is not None and same_inode(
                item.sidecar_status, self._calls.stat(name, item.directory, follow=False)
            ):
                self._calls.unlink(name, item.directory)
        if item.old_sidecar is not None:
            with contextlib.suppress(FileExistsError):
                self._calls.link(item.old_sidecar, self._temporaries.open(), name, item.directory)

    def _remove_empty(self, name: str, directory: int) -> bool:
        """Remove a directory if there are only directories below it."""
        try:
            fd = self._calls.open_directory(name, directory, follow=False)
        except FileNotFoundError:
            return True
        try:
            if not all(self._remove_empty(entry, fd) for entry in os.listdir(fd)):
                return False
        except NotADirectoryError:
            return False
        finally:
            self._calls.close(fd)
        try:
            self._calls.rmdir(name, directory)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            return False
        return True
