"""Every action of the window, declared once: the menus, the palette, the tooltips and the F1 sheet read this list."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Action:
    """One thing the user can do.

    Attributes:
        name: also the method of the tab or of the window that does it.
        title: for menus and the palette. keys: shortcuts, the first is the one shown.
        group: heading in the F1 sheet. tab: kind of the only tab that has it, or empty.
        palette: whether the palette lists it.
    """

    name: str
    title: str
    keys: tuple[str, ...] = ()
    group: str = "General"
    tab: str = ""
    palette: bool = True


ACTIONS: tuple[Action, ...] = (
    Action("make", "Generate", ("Ctrl+Return", "Ctrl+Enter"), "Making"),
    Action("stop", "Cancel what runs in this tab", ("Esc",), "Making"),
    Action("focus_prompt", "Go to the prompt", ("Ctrl+L",), "Making"),
    Action("reuse_work", "Reuse the parameters of the shown work", ("Ctrl+R",), "Making"),
    Action("vary_work", "Make the shown work once more with another seed", ("Ctrl+Shift+R",), "Making"),
    Action("open_recipe", "Open a picture or recipe …", ("Ctrl+O",), "Making"),
    Action("paste_in", "Paste a picture, recipe or text", ("Ctrl+Shift+V",), "Making"),
    Action("show_text", "Text", ("Ctrl+1",), "Going places"),
    Action("show_image", "Image", ("Ctrl+2",), "Going places"),
    Action("show_audio", "Audio", ("Ctrl+3",), "Going places"),
    Action("show_train", "Train", ("Ctrl+4",), "Going places"),
    Action("show_evaluate", "Evaluate", ("Ctrl+5",), "Going places"),
    Action("palette", "Search works and commands", ("Ctrl+K",), "Going places", palette=False),
    Action("focus_search", "Search the history", ("Ctrl+F",), "Going places"),
    Action("older", "Next older work", ("Ctrl+PgDown",), "Going places"),
    Action("newer", "Next newer work", ("Ctrl+PgUp",), "Going places"),
    Action("toggle_history", "Show or hide the history", ("Ctrl+B",), "Going places"),
    Action("toggle_queue", "Show or hide the queue", ("Ctrl+J",), "Going places"),
    Action("save_as", "Save as …", ("Ctrl+S",), "The shown work"),
    Action("save_several", "Save all chosen works …", ("Ctrl+Alt+S",), "The shown work"),
    Action("copy_work", "Copy the shown work", ("Ctrl+Shift+C",), "The shown work"),
    Action("star_work", "Star the shown work", ("Ctrl+D",), "The shown work"),
    Action("remove_work", "Remove the shown work", ("Ctrl+Shift+Del",), "The shown work"),
    Action("reveal_work", "Show the file in its folder", ("Ctrl+Shift+F",), "The shown work"),
    Action("new_conversation", "New conversation", ("Ctrl+N",), "Text", "text"),
    Action("regenerate", "Answer once more", ("Ctrl+Shift+Return",), "Text", "text"),
    Action("read_aloud", "Read the shown text aloud", ("Ctrl+Shift+A",), "Text", "text"),
    Action("paint_text", "Paint the shown text", ("Ctrl+Shift+I",), "Text", "text"),
    Action("paint", "Paint on the shown picture, or stop painting", ("Ctrl+M",), "Image", "image"),
    Action("toggle_live", "Paint while you type, or stop that", ("Ctrl+Shift+M",), "Image", "image"),
    Action("enlarge", "Enlarge the shown picture …", ("Ctrl+U",), "Image", "image"),
    Action("adjust", "Adjust the shown picture …", ("Ctrl+Shift+U",), "Image", "image"),
    Action("zoom_in", "Zoom in", ("Ctrl++", "Ctrl+="), "Image", "image"),
    Action("zoom_out", "Zoom out", ("Ctrl+-",), "Image", "image"),
    Action("zoom_fit", "Fit the picture", ("Ctrl+0",), "Image", "image"),
    Action("zoom_full", "Show the picture at 100 %", ("Ctrl+Alt+0",), "Image", "image"),
    Action("compare", "Compare with the work before", ("Ctrl+E",), "Image", "image"),
    Action("grid", "Make a grid of variations …", ("Ctrl+Alt+G",), "Image", "image"),
    Action("flicker", "Compare by showing one picture and the other in turn", ("Ctrl+Alt+E",), "Image", "image"),
    Action("toggle_grid", "Show the batch as a grid", ("Ctrl+G",), "Image", "image"),
    Action("toggle_play", "Play or pause", ("Ctrl+Space",), "Audio", "speech"),
    Action("sample_voice", "Hear the voice", ("Ctrl+Shift+H",), "Audio", "speech"),
    Action("estimate", "Estimate what the training takes", ("Ctrl+Shift+Y",), "Train", "train"),
    Action("pause_queue", "Pause or go on with the queue", ("Ctrl+Shift+P",), "Jobs"),
    Action("settings", "Settings …", ("Ctrl+,",), "General"),
    Action("toggle_theme", "Switch between light and dark", ("Ctrl+Shift+T",), "General"),
    Action("shortcuts", "Keyboard shortcuts", ("F1",), "General"),
    Action("open_data", "Open the data folder", ("Ctrl+Shift+O",), "General"),
    Action("open_log", "Open the log", ("Ctrl+Shift+L",), "General"),
    Action("empty_bin", "Empty the bin …", ("Ctrl+Shift+E",), "General"),
    Action("about", "About and licences", ("Shift+F1",), "General"),
    Action("close", "Quit", ("Ctrl+Q",), "General"),
)

BY_NAME = {action.name: action for action in ACTIONS}


def keys_of(name: str) -> str:
    """The shown shortcut of an action, or an empty string."""
    keys = BY_NAME[name].keys
    return keys[0].replace("Return", "Enter") if keys else ""
