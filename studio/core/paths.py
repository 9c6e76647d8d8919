"""Where things are kept. A value that is passed around, never a global."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Paths(msgspec.Struct, frozen=True):
    """The folders of one studio; `home` holds them all, so moving it moves everything."""

    home: Path

    @property
    def database(self) -> Path:
        return self.home / "studio.db"

    @property
    def works(self) -> Path:
        return self.home / "works"

    @property
    def inputs(self) -> Path:
        """Pictures that works are made from."""
        return self.home / "inputs"

    @property
    def staging(self) -> Path:
        return self.home / "staging"

    @property
    def models(self) -> Path:
        return self.home / "models"

    @property
    def datasets(self) -> Path:
        """What models learn from; made when the first is."""
        return self.home / "datasets"

    @property
    def runs(self) -> Path:
        """Checkpoints of trainings; made when the first begins."""
        return self.home / "runs"

    @property
    def trained(self) -> Path:
        """Models that were trained here. They are found like all others."""
        return self.models / "trained"

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def backups(self) -> Path:
        return self.home / "backups"

    @property
    def damaged(self) -> Path:
        return self.home / "damaged"

    @property
    def log_file(self) -> Path:
        return self.logs / "studio.log"

    @property
    def settings(self) -> Path:
        return self.home / "settings.json"

    def make(self) -> None:
        """Create the folders, readable by their owner only: prompts and works are private.

        Raises:
            OSError: the home cannot be created or is not a folder.
        """
        for folder in (self.home, self.works, self.staging, self.models, self.cache, self.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def assets_folder() -> Path:
    """The folder of shipped files: pictures for latent maps and the starter picture model."""
    return Path(__file__).resolve().parent.parent.parent / "assets"
