"""Notice new and changed pipeline files while `penstock up` runs."""

from pathlib import Path

Seen = dict[str, tuple[int, int]]


class FolderWatch:
    """The pipeline files of a folder, as they were at the last deploy and at the last look."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._deployed = self._last = self._look()

    def has_changed(self) -> bool:
        """Whether files differ from the last deploy, and have not changed since the last look.

        An editor or a checkout that is still writing is left to finish.
        """
        now, last = self._look(), self._last
        self._last = now
        if now != last or now == self._deployed:
            return False
        self._deployed = now
        return True

    def _look(self) -> Seen:
        found: Seen = {}
        for file in self._folder.glob("*.yaml"):
            try:
                status = file.stat()
            except OSError:  # it has just gone
                continue
            found[file.name] = (status.st_mtime_ns, status.st_size)
        return found
