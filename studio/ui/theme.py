"""Colours, sizes and the style sheet of both themes. Knows colours; knows no widget by name but its own few roles."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication

from studio.core.paths import assets_folder

UNIT = 8  # px, the grid


@dataclass(frozen=True)
class Theme:
    """Colours by role. Text on each ground has a contrast of at least 4.5:1 (a test computes it)."""

    name: str
    ground: str  # the middle of the window
    panel: str  # left and right columns, bars
    field: str  # what can be typed into or pressed
    field_hover: str
    line: str
    text: str
    soft: str  # labels, hints
    accent: str
    accent_text: str  # on the accent
    accent_hover: str
    problem: str
    star: str


DARK = Theme(
    "dark", ground="#18191b", panel="#232427", field="#2f3136", field_hover="#3a3c42", line="#36383d", text="#eceded",
    soft="#a5a8ae", accent="#6ea8fe", accent_text="#0b1220", accent_hover="#8bbaff", problem="#ff8f86", star="#f2b33d",
)  # fmt: skip
LIGHT = Theme(
    "light", ground="#eceef1", panel="#ffffff", field="#eef0f3", field_hover="#e1e4e9", line="#d5d8de", text="#1d1f23",
    soft="#5a5f69", accent="#1f5fd0", accent_text="#ffffff", accent_hover="#184fb2", problem="#b3261e", star="#9a6700",
)  # fmt: skip

THEMES = {"dark": DARK, "light": LIGHT}
SMALL, NORMAL, LARGE = 12, 13, 16  # px, the three text sizes
_PROPERTY = "studio_theme"


def current() -> Theme:
    """The theme the application shows now."""
    app = QApplication.instance()
    return THEMES.get(app.property(_PROPERTY) if app is not None else "", DARK)


def chosen(name: str) -> Theme:
    """The theme of a setting: "system", "light" or "dark"."""
    return THEMES.get(name) or system_theme()


def system_theme() -> Theme:
    """The theme the system asks for; dark where it does not say."""
    scheme = QGuiApplication.styleHints().colorScheme()
    return LIGHT if scheme == Qt.ColorScheme.Light else DARK


def apply(app: QApplication, theme: Theme) -> None:
    """Give a whole application this theme. Widgets that paint themselves are told by their palette's change."""
    colour(app, theme)
    app.setStyleSheet(sheet(theme))


def colour(app: QApplication, theme: Theme) -> None:
    """The palette alone. The window carries the style sheet itself: with one on the application, every widget that is
    put into another is polished anew, with all that is in it, and building a tab takes three times as long."""
    app.setProperty(_PROPERTY, theme.name)
    colours = QPalette()
    roles = {
        QPalette.ColorRole.Window: theme.panel,
        QPalette.ColorRole.WindowText: theme.text,
        QPalette.ColorRole.Base: theme.field,
        QPalette.ColorRole.AlternateBase: theme.panel,
        QPalette.ColorRole.Text: theme.text,
        QPalette.ColorRole.PlaceholderText: theme.soft,
        QPalette.ColorRole.Button: theme.field,
        QPalette.ColorRole.ButtonText: theme.text,
        QPalette.ColorRole.Highlight: theme.accent,
        QPalette.ColorRole.HighlightedText: theme.accent_text,
        QPalette.ColorRole.ToolTipBase: theme.field,
        QPalette.ColorRole.ToolTipText: theme.text,
        QPalette.ColorRole.Link: theme.accent,
        QPalette.ColorRole.Mid: theme.line,
        QPalette.ColorRole.Dark: theme.ground,
    }
    for role, colour in roles.items():
        colours.setColor(role, QColor(colour))
    for role in (QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText, QPalette.ColorRole.WindowText):
        colours.setColor(QPalette.ColorGroup.Disabled, role, QColor(theme.soft))
    app.setPalette(colours)


def sheet(t: Theme) -> str:
    """The style sheet of a theme."""
    edits = "QPlainTextEdit, QLineEdit, QSpinBox, QDoubleSpinBox, QComboBox, QListView"
    idle = ", ".join(f"{name}:disabled" for name in edits.split(", "))
    focused = ", ".join(f"{name}:focus" for name in edits.split(", "))
    return f"""
    * {{ font-size: {NORMAL}px; }}
    QMainWindow, QWidget#ground {{ background: {t.ground}; }}
    QWidget#panel, QWidget#bar, QDialog {{ background: {t.panel}; }}
    QDialog#palette {{ border: 1px solid {t.line}; }}
    QScrollArea {{ border: none; background: transparent; }}
    QScrollArea > QWidget > QWidget {{ background: transparent; }}
    QLabel {{ background: transparent; }}
    QLabel[role="soft"] {{ color: {t.soft}; font-size: {SMALL}px; }}
    QLabel[role="title"] {{ font-size: {LARGE}px; font-weight: 600; }}
    QLabel[role="heading"] {{ font-weight: 600; }}
    QLabel[role="problem"] {{ color: {t.problem}; font-size: {SMALL}px; }}

    {edits} {{
        background: {t.field}; color: {t.text}; border: 1px solid transparent; border-radius: 6px; padding: 4px 8px;
        selection-background-color: {t.accent}; selection-color: {t.accent_text};
    }}
    {focused} {{ border: 1px solid {t.accent}; }}
    QSpinBox, QDoubleSpinBox {{ padding: 4px 2px; }}
    QSpinBox QLineEdit, QDoubleSpinBox QLineEdit {{ padding: 0; border: none; min-height: 0; background: transparent; }}
    QAbstractSpinBox::up-button, QAbstractSpinBox::down-button {{ width: 0; height: 0; border: none; }}
    QSpinBox, QDoubleSpinBox, QLineEdit, QComboBox {{ min-height: 20px; }}
    {idle} {{ color: {t.soft}; background: transparent; border-color: {t.line}; }}
    QComboBox::drop-down {{ border: none; width: 22px; }}
    QComboBox::down-arrow {{ image: url({_arrow(t)}); width: 12px; height: 12px; }}
    QComboBox QAbstractItemView {{ background: {t.panel}; border: 1px solid {t.line}; padding: 4px; outline: none; }}
    QComboBox QAbstractItemView::item {{ min-height: 28px; padding: 0 6px; border-radius: 4px; }}
    QComboBox QAbstractItemView::item:selected {{ background: {t.accent}; color: {t.accent_text}; }}
    QPlainTextEdit[role="prompt"] {{ border-radius: 8px; padding: 4px; border-color: {t.line}; }}
    QPlainTextEdit[role="prompt"]:focus {{ border-color: {t.accent}; }}
    QPlainTextEdit[role="page"], QPlainTextEdit[role="asked"] {{
        background: transparent; padding: 0; border-radius: 4px;
    }}
    QPlainTextEdit[role="asked"] {{ color: {t.soft}; }}
    QPlainTextEdit[role="page"]:focus, QPlainTextEdit[role="asked"]:focus {{ border: 1px solid {t.accent}; }}
    QPlainTextEdit[role="reading"] {{
        background: {t.panel}; border: 1px solid transparent; border-radius: 10px; padding: 12px 16px;
        font-size: {LARGE}px;
    }}
    QPlainTextEdit[role="reading"]:focus {{ border-color: {t.accent}; }}
    QListView[role="list"] {{ background: transparent; padding: 0; outline: none; }}
    QTableView {{
        background: {t.panel}; color: {t.text}; border: 1px solid {t.line}; border-radius: 8px; outline: none;
        selection-background-color: {t.field_hover}; selection-color: {t.text};
    }}
    QTableView:focus {{ border-color: {t.accent}; }}
    QTableView::item {{ padding: 0 8px; }}
    QHeaderView {{ background: transparent; border: none; }}
    QHeaderView::section {{
        background: transparent; color: {t.soft}; border: none; border-bottom: 1px solid {t.line}; padding: 5px 8px;
        font-size: {SMALL}px;
    }}
    QTableCornerButton::section {{ background: transparent; border: none; }}
    QListWidget[role="list"]::item {{ min-height: 30px; padding: 0 8px; border-radius: 6px; color: {t.text}; }}
    QListWidget[role="list"]::item:hover {{ background: {t.field}; }}
    QListWidget[role="list"]::item:selected {{ background: {t.field_hover}; color: {t.text}; }}

    QPushButton, QToolButton {{
        background: {t.field}; color: {t.text}; border: 1px solid transparent; border-radius: 6px; padding: 5px 12px;
        min-height: 18px;
    }}
    QToolButton {{ padding: 5px; min-width: 18px; }}
    QToolButton[popupMode="2"] {{ padding-right: 8px; }}
    QToolButton::menu-indicator {{ image: none; width: 0; }}
    QPushButton:hover, QToolButton:hover {{ background: {t.field_hover}; }}
    QPushButton:focus, QToolButton:focus {{ border: 1px solid {t.accent}; }}
    QPushButton:disabled, QToolButton:disabled {{ color: {t.soft}; }}
    QPushButton:disabled {{ background: transparent; border-color: {t.line}; }}
    QToolButton[role="slot"] {{ background: {t.field}; border: 1px dashed {t.line}; border-radius: 8px; padding: 0;
        min-width: 62px; min-height: 62px; }}
    QToolButton[role="slot"]:hover {{ background: {t.field_hover}; }}
    QToolButton[role="slot"]:focus {{ border: 1px solid {t.accent}; }}
    QToolButton[role="flat"], QPushButton[role="flat"] {{ background: transparent; }}
    QToolButton[role="flat"]:hover, QPushButton[role="flat"]:hover {{ background: {t.field}; }}
    QToolButton[role="flat"]:checked {{ background: {t.field_hover}; }}
    QToolButton[role="flat"]:focus {{ border: 1px solid {t.accent}; }}
    QToolButton[role="reset"] {{
        background: transparent; color: {t.accent}; padding: 0; min-width: 16px; min-height: 26px; font-size: {LARGE}px;
    }}
    QToolButton[role="segment"] {{ background: transparent; color: {t.soft}; padding: 5px 10px; }}
    QToolButton[role="segment"]:hover {{ color: {t.text}; }}
    QToolButton[role="segment"]:checked {{ background: {t.field_hover}; color: {t.text}; }}
    QToolButton[role="segment"]:focus {{ border: 1px solid {t.accent}; }}
    QToolButton[role="round"] {{ background: {t.accent}; border-radius: 15px; }}
    QToolButton[role="round"]:hover {{ background: {t.accent_hover}; }}
    QToolButton[role="round"]:focus {{ border: 2px solid {t.text}; }}
    QToolButton[role="round"]:disabled {{ background: {t.field}; }}
    QToolButton[role="chip"] {{ border-radius: 14px; padding: 4px 12px; color: {t.soft}; }}
    QPushButton[role="primary"] {{
        background: {t.accent}; color: {t.accent_text}; font-weight: 600; min-height: 26px; border-radius: 8px;
    }}
    QPushButton[role="primary"]:hover {{ background: {t.accent_hover}; }}
    QPushButton[role="primary"]:focus {{ border: 2px solid {t.text}; }}
    QPushButton[role="primary"]:disabled {{ background: {t.field}; color: {t.soft}; }}
    QPushButton#go {{ border-top-right-radius: 0; border-bottom-right-radius: 0; }}
    QPushButton#go[busy="true"], QPushButton#send[busy="true"] {{ background: {t.field_hover}; color: {t.text}; }}
    QToolButton[role="more"] {{
        background: {t.accent}; min-height: 26px; min-width: 24px; border-radius: 8px; border-top-left-radius: 0;
        border-bottom-left-radius: 0;
    }}
    QToolButton[role="more"][busy="true"] {{ background: {t.field_hover}; }}
    QToolButton[role="more"]:hover {{ background: {t.accent_hover}; }}
    QToolButton[role="more"]:focus {{ border: 2px solid {t.text}; }}
    QToolButton[role="more"]:disabled {{ background: {t.field}; }}
    QPushButton[role="chip"] {{ border-radius: 14px; text-align: left; padding: 5px 14px; border-color: {t.line}; }}
    QPushButton[role="chip"]:focus {{ border-color: {t.accent}; }}
    QPushButton[role="outline"] {{ background: {t.panel}; border-color: {t.line}; }}
    QPushButton[role="outline"]:hover {{ background: {t.field_hover}; }}
    QPushButton[role="outline"]:focus {{ border-color: {t.accent}; }}
    QPushButton[role="outline"]:disabled {{ background: transparent; }}
    QPushButton[role="pill"] {{ border-radius: 14px; padding: 4px 12px; }}
    QPushButton[role="search"] {{ color: {t.soft}; text-align: left; min-width: 220px; }}
    QToolButton[role="tab"] {{
        background: transparent; border: none; border-bottom: 2px solid transparent; border-radius: 0;
        padding: 11px 16px; color: {t.soft};
    }}
    QToolButton[role="tab"]:hover {{ color: {t.text}; }}
    QToolButton[role="tab"]:checked {{ color: {t.text}; font-weight: 600; border-bottom-color: {t.accent}; }}
    QToolButton[role="tab"]:focus {{ background: {t.field_hover}; }}
    QScrollArea#details {{ border: 1px solid transparent; border-radius: 6px; }}
    QScrollArea#details:focus {{ border-color: {t.accent}; }}
    QToolButton[role="fold"] {{
        background: transparent; color: {t.soft}; text-align: left; padding: 5px 2px; border: 1px solid transparent;
    }}
    QToolButton[role="fold"]:hover {{ color: {t.text}; }}
    QToolButton[role="fold"]:focus {{ border-color: {t.accent}; }}
    QCheckBox::indicator {{
        width: 16px; height: 16px; border: 1px solid {t.soft}; border-radius: 4px; background: {t.field};
    }}
    QCheckBox::indicator:checked {{ background: {t.accent}; border-color: {t.accent}; image: url({_tick(t)}); }}
    QCheckBox::indicator:focus {{ border: 2px solid {t.accent}; }}

    QProgressBar {{ background: {t.field_hover}; border: none; border-radius: 3px; max-height: 6px; min-height: 6px; }}
    QProgressBar::chunk {{ background: {t.accent}; border-radius: 3px; }}
    QSlider {{ border: 1px solid transparent; border-radius: 6px; }}
    QSlider:focus {{ border-color: {t.accent}; }}
    QSlider::groove:horizontal {{ height: 4px; background: {t.field_hover}; border-radius: 2px; }}
    QSlider::sub-page:horizontal {{ background: {t.accent}; border-radius: 2px; }}
    QSlider::sub-page:horizontal:disabled {{ background: {t.line}; }}
    QSlider::handle:horizontal {{ background: {t.text}; width: 14px; margin: -5px 0; border-radius: 7px; }}
    QSlider::handle:horizontal:disabled {{ background: {t.soft}; }}
    QSplitter::handle {{ background: {t.line}; }}
    QSplitter::handle:horizontal {{ width: 1px; }}
    QSplitter::handle:vertical {{ height: 1px; }}
    QScrollBar:vertical {{ background: transparent; width: 10px; margin: 0; }}
    QScrollBar::handle:vertical {{ background: {t.field_hover}; border-radius: 4px; min-height: 24px; margin: 1px; }}
    QScrollBar:horizontal {{ background: transparent; height: 10px; margin: 0; }}
    QScrollBar::handle:horizontal {{ background: {t.field_hover}; border-radius: 4px; min-width: 24px; margin: 1px; }}
    QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; }}
    QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
    QMenu {{ background: {t.panel}; border: 1px solid {t.line}; padding: 4px; }}
    QMenu::item {{ padding: 6px 24px; border-radius: 4px; }}
    QMenu::item:selected {{ background: {t.accent}; color: {t.accent_text}; }}
    QMenu::item:disabled {{ color: {t.soft}; background: transparent; }}
    QMenu::separator {{ height: 1px; background: {t.line}; margin: 4px 8px; }}
    QToolTip {{ background: {t.panel}; color: {t.text}; border: 1px solid {t.line}; padding: 4px; }}
    QFrame[role="line"] {{ background: {t.line}; max-height: 1px; min-height: 1px; border: none; }}
    QFrame[role="card"] {{ background: {t.panel}; border: 1px solid {t.line}; border-radius: 10px; }}
    QFrame[role="entry"] {{ border: 1px solid {t.line}; border-radius: 8px; }}
    QFrame[role="notice"] {{ background: {t.field}; border: 1px solid {t.line}; border-radius: 8px; }}
    QFrame[role="answer"], QFrame[role="answer_chosen"] {{
        background: {t.panel}; border: 1px solid transparent; border-radius: 10px;
    }}
    QFrame[role="answer_chosen"] {{ border-color: {t.accent}; }}
    QFrame[role="question"] {{
        background: transparent; border: none; border-left: 2px solid {t.line}; border-radius: 0;
    }}
    """


def _arrow(t: Theme) -> str:
    return _file("arrow", t)


def _tick(t: Theme) -> str:
    return _file("tick", t)


def _file(name: str, t: Theme) -> str:
    """A style sheet takes pictures as files only, so these two lie ready in both colours."""
    return str(assets_folder() / "icons" / f"{name}-{t.name}.svg").replace("\\", "/")


def contrast(one: str, other: str) -> float:
    """WCAG contrast ratio of two colours, 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    a, b = sorted((luminance(one), luminance(other)))
    return (b + 0.05) / (a + 0.05)
