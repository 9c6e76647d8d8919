from tests.ui.conftest import *
from tests.conftest import *
from tests.ui.test_history import *
def test_a(rig, full):
    model, view = full.history.model, full.history.view
    rig.window.activateWindow()
    rig.qtbot.waitActive(rig.window)
    view.setFocus()
    print("focus", view.hasFocus())
    click(view, 0)
    print("focus", view.hasFocus(), view.currentIndex().row(), QApplication.focusWidget(), view.visualRect(model.index(0)), view.visualRect(model.index(1)), view.size(), view.gridSize())
    QTest.keyClick(view, Qt.Key.Key_Right)
    print(view.currentIndex().row(), full.work.title, view.hasFocus())
def test_b(rig):
    tab = rig.tab("image")
    work = rig.made("image", "a red square", seed=1234567, steps=3, width=72)
    rig.until(lambda: tab.details.work is not None and tab.details.work.id == work.id)
    print([label.text() for label in tab.details._grid_holder.findChildren(QLabel)])
