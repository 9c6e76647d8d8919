"""The bar above the board: what the hand holds, what it paints on, and what can be done with the mask.

Knows the board; knows nothing of works or files.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QColor, QIcon, QPainter, QPen, QPixmap
from PySide6.QtWidgets import (
    QBoxLayout,
    QButtonGroup,
    QCheckBox,
    QColorDialog,
    QHBoxLayout,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from studio.ui import theme
from studio.ui.paint import edits
from studio.ui.paint.board import TITLES, Board, Tool
from studio.ui.paint.chores import TITLES as TITLES_OF_WORK
from studio.ui.paint.document import MASK, Document
from studio.ui.paint.edits import Edit
from studio.ui.paint.strokes import SIZE_LEAST, SIZE_MOST
from studio.ui.strings import as_tip, tr
from studio.ui.widgets import Label, Slider, ToolButton, one_stop, row

ICONS = {
    Tool.BRUSH: "brush",
    Tool.ERASER: "eraser",
    Tool.FILL: "paint-bucket",
    Tool.SELECT: "wand",
    Tool.PICK: "pipette",
    Tool.MOVE: "move",
    Tool.FRAME: "crop",
    Tool.HAND: "hand",
}
_STEPS = 1000  # of the size slider
_REACH_MOST = 256  # px, of growing and softening


NARROW = 480  # px
ROW = 32  # px, of the second and third row


class Swatch(QToolButton):
    """A button that shows a colour."""

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "flat")
        self.setIconSize(QSize(20, 20))
        self._colour = QColor("#000000")
        self.show_colour(self._colour)

    def show_colour(self, colour: QColor) -> None:
        self._colour = colour
        ratio = self.devicePixelRatioF()
        side = round(20 * ratio)
        made = QPixmap(side, side)
        made.setDevicePixelRatio(ratio)
        made.fill(Qt.GlobalColor.transparent)
        painter = QPainter(made)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(theme.current().soft), 1.5))
        painter.setBrush(colour)
        painter.drawRoundedRect(1, 1, 18, 18, 5, 5)
        painter.end()
        self.setIcon(QIcon(made))
        name = tr("Colour of the brush: {name}", name=colour.name())
        self.setAccessibleName(name)
        self.setToolTip(as_tip(tr("{what}  (Alt and press picks one)", what=name)))

    def retheme(self) -> None:
        self.show_colour(self._colour)


class _Amount(QWidget):
    """A named slider with its value beside it."""

    def __init__(
        self, title: str, least: int, most: int, spoken: str, say: Callable[[int], str], moved: Callable[[int], Any]
    ) -> None:
        super().__init__()
        self.slider = Slider()
        self.slider.setRange(least, most)
        self.slider.setAccessibleName(spoken)
        self.slider.setToolTip(as_tip(spoken))
        self.slider.setMinimumWidth(60)
        self._say, self._setting = say, False
        self.value = Label("", role="soft")
        self.value.setMinimumWidth(46)
        self.value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        inside = QHBoxLayout(self)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setSpacing(6)
        self.title = Label(title, role="soft")
        inside.addWidget(self.title)
        inside.addWidget(self.slider, 1)
        inside.addWidget(self.value)
        self.slider.valueChanged.connect(self._moved)
        self._told = moved

    def _moved(self, value: int) -> None:
        if not self._setting:
            self._told(value)
        self.value.setText(self._say(value))

    def put(self, value: int, said: str = "") -> None:
        """Show a value without telling."""
        self._setting = True
        self.slider.setValue(value)
        self._setting = False
        self.value.setText(said or self._say(value))


def size_of_step(step: int) -> float:
    """The brush of a place on the slider, px: fine at the small end."""
    size = SIZE_LEAST * (SIZE_MOST / SIZE_LEAST) ** (step / _STEPS)
    return float(round(size)) if size >= 3 else round(size * 2) / 2


def step_of_size(size: float) -> int:
    return round(_STEPS * math.log(max(SIZE_LEAST, size) / SIZE_LEAST) / math.log(SIZE_MOST / SIZE_LEAST))


class Tools(QWidget):
    """Three rows: tools, what belongs to the tool, and what can be done with the mask or the layer."""

    def __init__(self, board: Board, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("bar")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self._board = board
        self._document: Document | None = None
        self._layer_before = 0  # the layer that was painted on before the mask
        self._tools: dict[Tool, ToolButton] = {}
        group = QButtonGroup(self)
        for tool in Tool:
            button = ToolButton(tr(TITLES[tool]), ICONS[tool], shortcut=tool.value, checkable=True)
            button.setObjectName(f"tool_{tool.name.lower()}")
            button.clicked.connect(lambda _=False, it=tool: board.set_tool(it))
            group.addButton(button)
            self._tools[tool] = button
        self._tools[board.tool].setChecked(True)
        one_stop(group)
        self.on_mask = ToolButton(tr("Paint on the mask"), text=tr("Mask"), role="segment", checkable=True)
        self.on_layer = ToolButton(tr("Paint on a layer"), text=tr("Layer"), role="segment", checkable=True)
        self.on_mask.clicked.connect(lambda: board.set_target(MASK))
        self.on_layer.clicked.connect(self._to_layer)
        where = QButtonGroup(self)
        for button in (self.on_mask, self.on_layer):
            where.addButton(button)
        self.on_mask.setChecked(True)
        one_stop(where)
        self.undo_button = ToolButton(tr("Undo"), "undo-2", shortcut="Ctrl+Z", clicked=board.undo)
        self.redo_button = ToolButton(tr("Redo"), "redo-2", shortcut="Ctrl+Shift+Z", clicked=board.redo)
        self.keys_button = ToolButton(
            tr("Paint with the keyboard"), "keyboard", shortcut="K", checkable=True,
            clicked=lambda: board.set_keyboard(self.keys_button.isChecked()),
        )  # fmt: skip

        self.brush_size = _Amount(
            tr("Size"), 0, _STEPS, tr("Size of the brush, in px  ([ and ])"), lambda it: f"{size_of_step(it):g} px",
            lambda it: self._brush(size=size_of_step(it)),
        )  # fmt: skip
        self.hardness = _Amount(
            tr("Hardness"), 0, 100, tr("Hardness of the brush, in percent  (Shift+[ and Shift+])"),
            lambda it: f"{it} %", lambda it: self._brush(hardness=it / 100),
        )  # fmt: skip
        self.opacity = _Amount(
            tr("Opacity"), 1, 100, tr("Opacity of the brush, in percent"),
            lambda it: f"{it} %", lambda it: self._brush(opacity=it / 100),
        )  # fmt: skip
        self.tolerance = _Amount(
            tr("Tolerance"), 0, 255, tr("How different a colour may be, 0 to 255"), str, board.set_tolerance
        )
        self.contiguous = QCheckBox(tr("Connected only"))
        self.contiguous.setMinimumHeight(28)
        self.contiguous.setToolTip(as_tip(tr("Take only what is connected with the place that is pressed")))
        self.contiguous.toggled.connect(board.set_contiguous)
        self.swatch = Swatch()
        self.swatch.clicked.connect(self.choose_colour)
        self.crop_button = ToolButton(tr("Make the picture as large as its frame"), "check", text=tr("Apply"))
        self.crop_button.clicked.connect(lambda: self._do(lambda it: it.crop_to_frame()))
        self.unframe_button = ToolButton(tr("Put the frame back around the picture"), "x", text=tr("Reset"))
        self.unframe_button.clicked.connect(lambda: self._do(lambda it: it.set_frame(0, 0, 0, 0)))
        self.frame_hint = Label(
            tr("Drag an edge, or push it with an arrow; Shift pulls it in."), role="soft", elide=True
        )

        self._busy: dict[str, tuple[ToolButton, str, str, str]] = {}  # what it begins -> button, icon, name, shortcut

        def works(
            what: str, name: str, picture: str, does: Callable[[], Any], key: str = "", text: str = ""
        ) -> ToolButton:  # fmt: skip
            """A button for what may take long: while it does, the button stops it."""
            button = ToolButton(name, picture, text=text, shortcut=key)
            button.setObjectName(what)
            button.clicked.connect(lambda: board.stop() if board.busy == what else does())
            self._busy[what] = (button, picture, name, key)
            return button

        def mask_button(what: str, name: str, picture: str, edit: Edit, key: str = "") -> ToolButton:
            return works(what, name, picture, lambda: board.work(what, edit), key)

        self.fill_button = mask_button(
            "fill_mask", tr("Mask everything"), "square", lambda it, check: edits.fill(it, 255, check)
        )
        self.invert_button = mask_button("invert", tr("Invert the mask"), "contrast", edits.invert, "Ctrl+I")
        self.clear_button = works("clear", tr("Clear the mask"), "trash-2", board.clear_mask, "Del")
        self.grow_button = works("grow", tr("Grow the mask"), "expand", lambda: self._reach_out("grow", 1))
        self.shrink_button = works("shrink", tr("Shrink the mask"), "shrink", lambda: self._reach_out("shrink", -1))
        self.feather_button = works("feather", tr("Soften the edge of the mask"), "feather", self._soften)
        self.colour_button = works(
            "colour",
            tr("Give the whole layer the colour of the brush"),
            "paint-bucket",
            board.colour_layer,
            text=tr("Fill"),
        )
        self.colour_masked_button = works(
            "colour_masked", tr("Colour the layer where the mask is"), "contrast",
            lambda: board.colour_layer(masked=True), text=tr("Fill where masked"),
        )  # fmt: skip
        self.empty_button = works(
            "clear_layer", tr("Clear the layer"), "trash-2", board.clear_layer, text=tr("Clear")
        )  # fmt: skip
        self.layers_button = ToolButton(tr("Show the layers"), "panel-right", checkable=True)
        self.layers_button.setObjectName("show_layers")
        self.reach = QSpinBox()
        self.reach.setObjectName("reach")
        self.reach.setRange(1, _REACH_MOST)
        self.reach.setValue(8)
        self.reach.setSuffix(tr(" px"))
        self.reach.setMinimumHeight(28)
        self.reach.setFixedWidth(64)
        self.reach.setAccessibleName(tr("By how much the mask is grown, shrunk or softened, px"))
        self.reach.setToolTip(as_tip(self.reach.accessibleName()))
        self.overlay_button = ToolButton(
            tr("Show the mask"), "eye", shortcut="M", checkable=True,
            clicked=lambda: board.set_overlay(self.overlay_button.isChecked()),
        )  # fmt: skip
        self._mask_row = QWidget()
        self._mask_row.setLayout(
            row(
                self.overlay_button,
                Label(tr("Mask"), role="soft"),
                4,
                self.fill_button,
                self.invert_button,
                self.clear_button,
                8,
                self.reach,
                self.grow_button,
                self.shrink_button,
                self.feather_button,
                None,
                spacing=2,
            )
        )
        self.layer_name = Label("", role="soft", elide=True)
        self._layer_row = QWidget()
        across = row(self.colour_button, self.colour_masked_button, self.empty_button, 8, spacing=2)
        across.addWidget(self.layer_name, 1)
        self._layer_row.setLayout(across)
        around = QVBoxLayout(self)
        around.setContentsMargins(theme.UNIT, 4, theme.UNIT, 4)
        around.setSpacing(2)
        self._top = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self._top.setSpacing(2)
        self._top.addLayout(row(*self._tools.values(), None, spacing=2))
        self._top.addLayout(
            row(
                self.on_mask,
                self.on_layer,
                None,
                self.keys_button,
                self.undo_button,
                self.redo_button,
                self.layers_button,
                spacing=2,
            ),
            1,
        )
        around.addLayout(self._top)
        second = QHBoxLayout()
        second.setSpacing(theme.UNIT)
        for widget, stretch in (
            (self.swatch, 0), (self.brush_size, 3), (self.hardness, 2), (self.opacity, 2), (self.tolerance, 3),
            (self.contiguous, 0), (self.frame_hint, 1), (self.unframe_button, 0), (self.crop_button, 0),
        ):  # fmt: skip
            second.addWidget(widget, stretch)
        second.addStretch(0)
        holder = QWidget()
        holder.setFixedHeight(ROW)
        second.setContentsMargins(0, 0, 0, 0)
        holder.setLayout(second)
        around.addWidget(holder)
        for third in (self._mask_row, self._layer_row):
            third.setFixedHeight(ROW)
            around.addWidget(third)
        board.tool_changed.connect(self._follow)
        board.busy_changed.connect(self._show_busy)
        board.changed.connect(self._history)
        board.mask_changed.connect(lambda *_: self._history())
        board.frame_changed.connect(lambda *_: self._history())
        self._follow()

    def resizeEvent(self, event: Any) -> None:
        """Where it is narrow the first row becomes two, and sliders lose their names, which are in their tips."""
        super().resizeEvent(event)
        narrow = self.width() < NARROW
        ways = QBoxLayout.Direction
        self._top.setDirection(ways.TopToBottom if narrow else ways.LeftToRight)
        for amount in (self.brush_size, self.hardness, self.opacity, self.tolerance):
            amount.title.setVisible(not narrow)

    def minimumSizeHint(self) -> QSize:
        return QSize(320, super().minimumSizeHint().height())

    def _follow(self) -> None:
        """Show what the board holds now."""
        board = self._board
        if self._document is not board.document:
            self._document, self._layer_before = board.document, 0
        brush, tool, on_mask = board.brush, board.tool, board.target == MASK
        if not on_mask:
            self._layer_before = board.target
        self._tools[tool].setChecked(True)
        (self.on_mask if on_mask else self.on_layer).setChecked(True)
        self.keys_button.setChecked(board.keyboard)
        self.overlay_button.setChecked(board.overlay)
        self.overlay_button.set_icon("eye" if board.overlay else "eye-off")
        painting = tool in (Tool.BRUSH, Tool.ERASER)
        colouring = not on_mask and tool in (Tool.BRUSH, Tool.FILL, Tool.PICK)
        self.swatch.setVisible(colouring)
        for amount in (self.brush_size, self.hardness):
            amount.setVisible(painting)
        self.opacity.setVisible(painting or (tool is Tool.FILL and not on_mask))
        choosing = tool in (Tool.FILL, Tool.SELECT)
        self.tolerance.setVisible(choosing)
        self.contiguous.setVisible(tool is Tool.SELECT or (tool is Tool.FILL and not on_mask))
        for widget in (self.frame_hint, self.crop_button, self.unframe_button):
            widget.setVisible(tool is Tool.FRAME)
        # one of the two always, so that nothing below jumps
        masking = on_mask or tool is Tool.SELECT
        if masking:
            self._layer_row.hide()
        self._mask_row.setVisible(masking)
        self._layer_row.setVisible(not masking)
        self.brush_size.put(step_of_size(brush.size), f"{brush.size:g} px")
        self.hardness.put(round(brush.hardness * 100))
        self.opacity.put(round(brush.opacity * 100))
        self.tolerance.put(board.tolerance)
        if self.contiguous.isChecked() != board.contiguous:
            self.contiguous.setChecked(board.contiguous)
        self.swatch.show_colour(QColor.fromRgba(brush.colour))
        self._history()

    def _history(self) -> None:
        """Say what can be undone, and grey out what has nothing to work on."""
        document = self._board.document
        self.setEnabled(document is not None)
        if document is None:
            return
        undo, redo = document.history.undo_name, document.history.redo_name
        self.undo_button.setEnabled(bool(undo))
        self.redo_button.setEnabled(bool(redo))
        self.undo_button.name(tr("Undo: {what}", what=undo) if undo else tr("Undo"), "Ctrl+Z")
        self.redo_button.name(tr("Redo: {what}", what=redo) if redo else tr("Redo"), "Ctrl+Shift+Z")
        masked = not document.is_empty_mask()
        for button in (self.clear_button, self.grow_button, self.shrink_button, self.feather_button):
            button.setEnabled(masked or bool(self._board.busy))
        self.colour_masked_button.setEnabled(masked)
        for button in (self.fill_button, self.invert_button, self.colour_button, self.empty_button):
            button.setEnabled(True)
        layer = next((it for it in document.layers if it.id == self._board.target), None)
        self.layer_name.setText(layer.name if layer is not None else "")
        framed = document.frame != (0, 0, 0, 0)
        self.crop_button.setEnabled(framed)
        self.unframe_button.setEnabled(framed)

    def _reach_out(self, what: str, way: int) -> None:
        by = self.reach.value() * way
        self._board.work(what, lambda it, check: edits.grow(it, by, check))

    def _soften(self) -> None:
        radius = self.reach.value()
        self._board.work("feather", lambda it, check: edits.feather(it, radius, check))

    def _show_busy(self) -> None:
        """The button of what is being done stops it."""
        for what, (button, picture, name, key) in self._busy.items():
            going = what == self._board.busy
            button.set_icon("circle-stop" if going else picture)
            button.name(tr("{what}: stop", what=tr(TITLES_OF_WORK[what])) if going else name, "Esc" if going else key)
        self._history()

    def _to_layer(self) -> None:
        document = self._board.document
        if document is not None:
            known = [it.id for it in document.layers]
            self._board.set_target(self._layer_before if self._layer_before in known else known[-1])

    def _brush(self, **changes: Any) -> None:
        self._board.set_brush(replace(self._board.brush, **changes))

    def _do(self, does: Callable[[Document], Any]) -> None:
        document = self._board.document
        if document is None:
            return
        self._board.release()
        try:
            does(document)
        except ValueError as problem:
            self._board.refused.emit(str(problem))

    def choose_colour(self) -> QColorDialog:
        """Ask for a colour beside the work; it is taken over as it is chosen."""
        before = self._board.brush.colour
        dialog = QColorDialog(QColor.fromRgba(before), self)
        dialog.setOption(QColorDialog.ColorDialogOption.DontUseNativeDialog)
        dialog.setWindowTitle(tr("Colour of the brush"))
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.currentColorChanged.connect(lambda colour: self._brush(colour=colour.rgba()))
        dialog.rejected.connect(lambda: self._brush(colour=before))
        dialog.open()
        return dialog

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.PaletteChange:
            for button in self.findChildren(ToolButton):
                button.retheme()
            self.swatch.retheme()
        super().changeEvent(event)
