"""Painting on a large picture: `python benchmarks/paint.py [--side 4096] [--layers 1 3] [--moves 200]`.

For each case the time from a move of the mouse (or a turn of the wheel) to the end of the paint event that shows it, as
one line of JSON: median, 95th percentile and worst in ms. The history is kept in a folder and written meanwhile, as in
the studio. Also: a flood on 1024×1024 px, opening what was kept, and the operations on the whole mask: of those, which
are done on another thread, how long each turn of the window's loop took meanwhile (`turn`), and the whole (`total_ms`).
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QColor, QImage, QLinearGradient, QMouseEvent, QPainter, QPaintEvent, QWheelEvent
from PySide6.QtWidgets import QApplication

from studio.ui import theme
from studio.ui.paint import edits, regions
from studio.ui.paint.board import Board
from studio.ui.paint.document import MASK, Document
from studio.ui.paint.strokes import Brush

NO_BUTTON, LEFT, MIDDLE = Qt.MouseButton.NoButton, Qt.MouseButton.LeftButton, Qt.MouseButton.MiddleButton
PLAIN = Qt.KeyboardModifier.NoModifier


class Watched(Board):
    """Counts its paint events."""

    painted = 0

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        self.painted += 1


def picture(side: int) -> QImage:
    """A gradient with grain, so that tiles do not pack to nothing."""
    made = QImage(side, side, QImage.Format.Format_ARGB32_Premultiplied)
    shade = QLinearGradient(0, 0, side, side)
    for at, colour in ((0.0, "#20304a"), (0.5, "#d08850"), (1.0, "#408060")):
        shade.setColorAt(at, QColor(colour))
    random.seed(1)
    grain = QImage(random.randbytes(256 * 256), 256, 256, 256, QImage.Format.Format_Grayscale8).copy()
    painter = QPainter(made)
    painter.fillRect(made.rect(), shade)
    painter.setOpacity(0.15)
    for y in range(0, side, 256):
        for x in range(0, side, 256):
            painter.drawImage(x, y, grain)
    painter.end()
    return made


def told(name: str, took: list[float], **more: Any) -> None:
    took = sorted(it * 1000 for it in took)
    line = {
        "case": name, **more, "median_ms": round(statistics.median(took), 2),
        "p95_ms": round(took[min(len(took) - 1, math.ceil(len(took) * 0.95) - 1)], 2), "worst_ms": round(took[-1], 2),
        "count": len(took),
    }  # fmt: skip
    print(json.dumps(line), flush=True)


def shown(board: Watched, event: QEvent) -> float:
    """Seconds from an event to the end of the paint event that it causes."""
    count, began = board.painted, time.perf_counter()
    QApplication.sendEvent(board, event)
    while board.painted == count:
        QApplication.processEvents()
        if time.perf_counter() - began > 2:
            raise SystemExit("nothing was painted")
    return time.perf_counter() - began


def mouse(board: Board, kind: QEvent.Type, at: QPointF, button: Qt.MouseButton) -> QMouseEvent:
    pressed = NO_BUTTON if kind is QEvent.Type.MouseButtonRelease else button
    changed = NO_BUTTON if kind is QEvent.Type.MouseMove else button
    return QMouseEvent(kind, at, QPointF(board.mapToGlobal(at)), changed, pressed, PLAIN)


def drag(board: Watched, places: Iterator[QPointF], button: Qt.MouseButton) -> list[float]:
    first = next(places)
    QApplication.sendEvent(board, mouse(board, QEvent.Type.MouseButtonPress, first, button))
    QApplication.processEvents()
    took, last = [], first
    for last in places:
        took.append(shown(board, mouse(board, QEvent.Type.MouseMove, last, button)))
    QApplication.sendEvent(board, mouse(board, QEvent.Type.MouseButtonRelease, last, button))
    QApplication.processEvents()
    return took


def curve(board: Board, moves: int, swing: float = 0.38) -> Iterator[QPointF]:
    """A quick hand: about 20 px of the screen from one move to the next."""
    for i in range(moves):
        angle = i * 0.055
        yield QPointF(
            board.width() * (0.5 + swing * math.sin(angle)), board.height() * (0.5 + swing * math.sin(1.7 * angle))
        )


def cases(board: Watched, document: Document, moves: int, layers: int) -> None:
    top = document.layers[-1].id
    brushes = (
        ("stroke on the mask", MASK, Brush(200, 0.0)),
        ("stroke on the mask, opacity 0.5", MASK, Brush(200, 0.0, opacity=0.5)),
        ("stroke on a layer", top, Brush(200, 0.0, colour=0xFFE02040)),
        ("stroke on a layer, opacity 0.5", top, Brush(200, 0.0, opacity=0.5, colour=0xFFE02040)),
    )
    for zoom in ("fit", "100 %"):
        (board.fit if zoom == "fit" else board.actual_size)()
        QApplication.processEvents()
        for name, target, brush in brushes:
            board.set_target(target)
            board.set_brush(brush)
            QApplication.processEvents()
            told(name, drag(board, curve(board, moves), LEFT), zoom=zoom, layers=layers)
        hover = [shown(board, mouse(board, QEvent.Type.MouseMove, at, NO_BUTTON)) for at in curve(board, moves)]
        told("hover", hover, zoom=zoom, layers=layers)
    for scale in (1.0, 0.6, 3.0):
        board.actual_size()
        board._zoom_to(scale)
        QApplication.processEvents()
        told("pan", drag(board, curve(board, moves, 0.3), MIDDLE), zoom=f"{scale:.0%}", layers=layers)
    board.fit()
    QApplication.processEvents()
    for _ in range(20):
        QApplication.processEvents()
    took = []
    at = QPointF(board.width() * 0.4, board.height() * 0.6)
    for i in range(moves // 2):
        turned = QPoint(0, 60 if (i // 20) % 2 == 0 else -60)
        wheel = QWheelEvent(
            at, QPointF(board.mapToGlobal(at)), QPoint(), turned, NO_BUTTON, PLAIN, Qt.ScrollPhase.NoScrollPhase, False
        )
        took.append(shown(board, wheel))
    told("zoom by the wheel", took, zoom="fit and in", layers=layers)


def timed(name: str, does: Callable[[], Any], rounds: int = 3, **more: Any) -> Any:
    took, made = [], None
    for _ in range(rounds):
        began = time.perf_counter()
        made = does()
        took.append(time.perf_counter() - began)
    told(name, took, **more)
    return made


def operations(board: Watched, document: Document) -> None:
    small = picture(1024)
    at = QPoint(5, 5)
    timed("select by colour, connected", lambda: regions.select(small, at, 60), px="1024×1024")
    timed(
        "select by colour, everywhere",
        lambda: regions.select(small, at, 60, contiguous=False),
        px="1024×1024",
    )
    px = f"{document.width}×{document.height}"
    top = document.layers[-1].id
    red, middle = QColor("red"), QPoint(document.width // 2, document.height // 2)
    works: tuple[tuple[str, edits.Edit], ...] = (
        ("invert the mask", edits.invert),
        ("feather the mask by 16 px", lambda it, check: edits.feather(it, 16, check)),
        ("feather the mask by 200 px", lambda it, check: edits.feather(it, 200, check)),
        ("grow the mask by 16 px", lambda it, check: edits.grow(it, 16, check)),
        ("select by colour, connected", lambda it, check: edits.select(it, middle, 60, check)),
        ("flood a layer", lambda it, check: edits.flood(it, top, middle, red, 60, check)),
        ("clear the mask", lambda it, check: edits.fill(it, 0, check)),
    )
    for name, edit in works:
        turns(board, name, edit, px)
    turns(board, "undo", None, px)
    turns(board, "undo", None, px)


def turns(board: Watched, name: str, edit: edits.Edit | None, px: str) -> None:
    """How long the turns of the loop take while something is done (None: undone), and until it is seen."""
    took: list[float] = []
    began = last = time.perf_counter()
    if edit is not None:
        board.work("grow", edit)
    else:
        board.undo()
    calm = 0
    while calm < 30:
        QApplication.processEvents()
        time.sleep(0.001)
        now = time.perf_counter()
        took.append(now - last)
        last = now
        calm = 0 if board.busy else calm + 1
    told(f"{name}, turn", took, px=px, total_ms=round((last - began) * 1000))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=4096, help="px")
    parser.add_argument("--layers", type=int, nargs="*", default=[1, 3])
    parser.add_argument("--moves", type=int, default=200)
    parser.add_argument("--window", type=int, nargs=2, default=[1600, 1000], metavar=("WIDTH", "HEIGHT"))
    given = parser.parse_args()
    app = QApplication([])
    theme.apply(app, theme.DARK)
    with tempfile.TemporaryDirectory() as folder:
        for layers in given.layers:
            kept = Path(folder) / str(layers)
            document = Document(given.side, given.side, kept, picture=picture(given.side))
            for i in range(1, layers):
                layer = document.add_layer(name=f"Layer {i}")
                document.set_blend(layer.id, "multiply" if i % 2 else "screen")
                document.fill_layer(layer.id, QColor(120, 90, 200, 60))
            board = Watched()
            board.resize(*given.window)
            board.set_document(document)
            board.show()
            while not board.painted:
                app.processEvents()
            board.set_overlay(True)
            cases(board, document, given.moves, layers)
            if layers == given.layers[0]:
                operations(board, document)
            began = time.perf_counter()
            document.close()
            told("close", [time.perf_counter() - began], layers=layers)
            board.set_document(None)
            size = sum(it.stat().st_size for it in kept.iterdir())
            opened = timed(
                "open", functools.partial(Document.open, kept), 1, layers=layers, megabytes=size // 1_000_000
            )
            opened.close()
            board.close()


if __name__ == "__main__":
    main()
