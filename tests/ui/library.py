"""A library full of works with real files, without making them one by one."""

from __future__ import annotations

from typing import Any

from studio.core.recipes import ImageRecipe
from studio.core.works import Asset, Work
from studio.library.jobs import new_id
from tests.ui.fakes import png


def fill(session: Any, count: int) -> list[Work]:
    """Add `count` pictures; every tenth has a thumbnail of its own, the others share one file."""
    folder = session.paths.works / "2026" / "01"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shared.png").write_bytes(png(192, 192, (90, 120, 160)))
    works = []
    for at in range(count):
        name = "shared.png"
        if at % 10 == 0:
            name = f"own-{at}.png"
            (folder / name).write_bytes(png(192, 192, (at % 256, 80, 255 - at % 256)))
        path = f"2026/01/{name}"
        size = (folder / name).stat().st_size
        asset = Asset(path=path, role="master", sha256="", bytes=size)
        thumbnail = Asset(path=path, role="thumbnail", sha256="", bytes=size)
        works.append(
            Work(
                id=new_id("w"), seq=at + 1, job="jnone", index=0, kind="image", title=f"picture number {at}",
                created=f"2026-01-{1 + at % 28:02}T12:00:00.000Z", assets=(asset, thumbnail),
                recipe=ImageRecipe(prompt=f"picture number {at}", model="painter", seed=at),
                meta={"width": 192, "height": 192},
            )
        )  # fmt: skip
    session._works.add(tuple(works))
    return works
