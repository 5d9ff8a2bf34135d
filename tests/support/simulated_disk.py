"""Clocks and a file server in memory, for tests of what holds among hosts that share a folder.

A `SimulatedDisk` is what one host sees of the server, with the habits of an NFS client: it
remembers for a while that a name is absent and when a file was written, it meets ESTALE where
another host has replaced a file, and a reply may be lost. `interleave` runs one function for each
host, one file operation at a time, in any order, and time passes between any two operations.
"""

from __future__ import annotations

import errno
import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from merge.storage.disk import Write

ABSENT_REMEMBERED_S = 30.0
ATTRIBUTES_REMEMBERED_S = 3.0


class HostCrashed(BaseException):
    """The host has lost its power: none of its code runs on, not even `finally`."""


class Abandoned(BaseException):
    """Ends the threads of an interleaving that the test gives up."""


@dataclass
class World:
    """The true time, in seconds, and what runs before each operation of a host."""

    time: float = 1_000_000.0
    before_operation: Callable[[], None] = lambda: None


@dataclass
class SimulatedClock:
    """Of one host: `offset_s` is how wrong its wall clock is, now; tests change it to let it jump.

    Of the seam `merge.storage.clock.Clock`.
    """

    world: World
    offset_s: float = 0.0
    booted: float = 0.0

    def now(self) -> float:
        return self.world.time + self.offset_s

    def monotonic(self) -> float:
        return self.world.time - self.booted

    def sleep(self, seconds: float) -> None:
        until = self.world.time + seconds
        while self.world.time < until:
            self.world.before_operation()


@dataclass(eq=False)
class Inode:
    content: bytes
    st_mtime: float
    st_nlink: int = 1


@dataclass
class FileServer:
    """What all hosts share."""

    world: World
    files: dict[Path, Inode] = field(default_factory=dict)
    folders: set[Path] = field(default_factory=lambda: {Path("/")})
    on_new_name: Callable[[Path], None] = lambda _: None
    """Called for each name that a link or a rename makes."""

    def need_folder(self, folder: Path) -> None:
        if folder not in self.folders:
            raise FileNotFoundError(errno.ENOENT, "No such folder", str(folder))


@dataclass(eq=False)
class SimulatedDisk:
    """Of the seam `merge.storage.disk.Disk`."""

    server: FileServer
    loses_replies: bool = False
    """Of links: the server makes them, sees them asked for again, and says that they exist."""
    crashes_after: int | None = None
    """Operations until the host loses its power."""
    _absent: dict[Path, float] = field(default_factory=dict)
    _attributes: dict[Path, tuple[Inode, float]] = field(default_factory=dict)
    """As last asked, and when."""
    _opened: dict[Path, Inode] = field(default_factory=dict)

    def make_folder(self, folder: Path) -> tuple[Path, ...]:
        self._operate()
        new = [one for one in (folder, *folder.parents) if one not in self.server.folders]
        self.server.folders.update(new)
        self._forget(folder)
        return tuple(one.parent for one in reversed(new))

    def create(self, path: Path, write: Write) -> None:
        self._operate()
        self.server.need_folder(path.parent)
        if path in self.server.files:
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        inode = self.server.files[path] = Inode(b"", self.server.world.time)
        # Between these two a crash leaves a part of the file.
        self._operate()
        buffer = io.BytesIO()
        write(buffer)
        inode.content, inode.st_mtime = buffer.getvalue(), self.server.world.time
        self._forget(path)

    def fsync(self, path: Path) -> None:
        del path
        self._operate()

    def link(self, source: Path, target: Path) -> None:
        self._operate()
        self._forget(source, target)
        inode = self.server.files[source]
        if target in self.server.files:
            raise FileExistsError(errno.EEXIST, "File exists", str(target))
        self.server.files[target] = inode
        inode.st_nlink += 1
        self.server.on_new_name(target)
        if self.loses_replies:
            raise FileExistsError(errno.EEXIST, "File exists", str(target))

    def rename(self, source: Path, target: Path) -> None:
        self._operate()
        self._forget(source, target)
        self.server.files[target] = self.server.files.pop(source)
        self._opened[target] = self.server.files[target]
        self.server.on_new_name(target)

    def unlink(self, path: Path) -> None:
        self._operate()
        self._forget(path)
        if path not in self.server.files:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(path))
        self.server.files.pop(path).st_nlink -= 1

    def names(self, folder: Path) -> list[str]:
        self._operate()
        self._refuse_remembered_absence(folder)
        if folder not in self.server.folders:
            self._remember_absence(folder)
            self.server.need_folder(folder)
        self._forget_below(folder)
        return [path.name for path in self.server.files if path.parent == folder]

    def read(self, path: Path) -> bytes:
        self._operate()
        self._refuse_remembered_absence(path)
        inode = self._found(path)
        if self._opened.setdefault(path, inode) is not inode:
            del self._opened[path]
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        self._attributes[path] = (Inode(b"", inode.st_mtime, inode.st_nlink), self._time)
        return inode.content

    def status(self, path: Path) -> Inode:
        self._operate()
        remembered, when = self._attributes.get(path, (None, 0.0))
        if remembered and self._time - when < ATTRIBUTES_REMEMBERED_S:
            return remembered
        self._refuse_remembered_absence(path)
        inode = self._found(path)
        self._attributes[path] = (Inode(b"", inode.st_mtime, inode.st_nlink), self._time)
        return inode

    def exists(self, path: Path) -> bool:
        self._operate()
        if self._time < self._absent.get(path, 0.0):
            return False
        return path in self.server.files or path in self.server.folders

    def revalidate(self, folder: Path) -> None:
        self._operate()
        self.server.need_folder(folder)
        self._forget_below(folder)

    @property
    def _time(self) -> float:
        return self.server.world.time

    def _operate(self) -> None:
        self.server.world.before_operation()
        if self.crashes_after is not None:
            if self.crashes_after <= 0:
                raise HostCrashed
            self.crashes_after -= 1

    def _found(self, path: Path) -> Inode:
        if path not in self.server.files:
            self._remember_absence(path)
            raise FileNotFoundError(errno.ENOENT, "No such file", str(path))
        return self.server.files[path]

    def _refuse_remembered_absence(self, path: Path) -> None:
        if self._time < self._absent.get(path, 0.0):
            raise FileNotFoundError(errno.ENOENT, "No such file, as remembered", str(path))

    def _remember_absence(self, path: Path) -> None:
        self._absent[path] = self._time + ABSENT_REMEMBERED_S

    def _forget(self, *paths: Path) -> None:
        for path in paths:
            self._absent.pop(path, None)
            self._attributes.pop(path, None)

    def _forget_below(self, folder: Path) -> None:
        for path in [path for path in self._absent if path.parent == folder]:
            del self._absent[path]


def interleave(
    world: World, actors: Sequence[Callable[[], object]], schedule: Sequence[tuple[int, float]]
) -> None:
    """Run `actors`, each in a thread, one operation at a time until all have ended.

    Each (actor, seconds) of `schedule` lets `seconds` pass and then one operation of that actor
    happen; after its end they take turns, a second for each. Raises what an actor raises.
    """
    stage = _Stage(world, actors)
    try:
        for index, seconds in schedule:
            world.time += seconds
            stage.let(index % len(actors))
        while stage.num_playing:
            for index in range(len(actors)):
                world.time += 1.0
                stage.let(index)
    finally:
        stage.clear()


class _Stage:
    """At any moment either the director (the test's thread) runs, or one actor."""

    def __init__(self, world: World, actors: Sequence[Callable[[], object]]) -> None:
        self._world = world
        self._turns = [threading.Semaphore(0) for _ in actors]
        self._director = threading.Semaphore(0)
        self._errors: list[BaseException] = []
        self._is_over = False
        self._playing: int = -1
        self._ended: set[int] = set()
        world.before_operation = self._wait_for_turn
        self._threads = [
            threading.Thread(target=self._play, args=(index, actor), daemon=True)
            for index, actor in enumerate(actors)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def num_playing(self) -> int:
        return len(self._threads) - len(self._ended)

    def let(self, index: int) -> None:
        """Have the actor `index` do what it does up to its next operation, or its end."""
        if index in self._ended:
            return
        self._playing = index
        self._turns[index].release()
        self._director.acquire()
        if self._errors:
            raise self._errors[0]

    def clear(self) -> None:
        self._is_over = True
        for turn in self._turns:
            turn.release()
        for thread in self._threads:
            thread.join()
        self._world.before_operation = lambda: None

    def _play(self, index: int, actor: Callable[[], object]) -> None:
        self._turns[index].acquire()
        try:
            if not self._is_over:
                actor()
        except (Abandoned, HostCrashed):
            pass
        except BaseException as error:  # noqa: BLE001 - raised in the test's thread
            self._errors.append(error)
        finally:
            self._ended.add(index)
            self._director.release()

    def _wait_for_turn(self) -> None:
        if not self._is_over:
            index = self._playing
            self._director.release()
            self._turns[index].acquire()
        if self._is_over:
            raise Abandoned
