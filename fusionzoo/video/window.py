"""A window that shows frames as they come, by tkinter, which Python brings, and Pillow."""

from __future__ import annotations

import contextlib
import time
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from fusionzoo.errors import InputError

__all__ = ["Window"]

# Of the screen, what a window takes at most.
_SHARE = 0.9
# Seconds between two looks at keys and buttons while a frame waits for its time.
_LOOK = 0.02


class Window:
    """Shows frames at their times; closing it, ``q`` and Escape end that.

    It is to be made and used in the main thread, and appears with the first frame.

    Args:
        title: of the window.

    Raises:
        InputError: there is no display, or this Python has no tkinter.
    """

    def __init__(self, title: str) -> None:
        try:
            import tkinter

            from PIL import ImageTk
        except ImportError as error:
            raise InputError(
                f"showing needs tkinter, which this Python lacks ({error}); install it "
                "(Debian and Ubuntu: apt install python3-tk), or write to a file"
            ) from None
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise InputError(
                f"showing needs a display, and there is none ({error}); run this on a desktop, "
                "or with ssh -X, or write to a file"
            ) from None
        self._picture_of = ImageTk.PhotoImage
        self._picture: Any = None  # tkinter does not keep it
        self._start = 0.0
        self._open = True
        self._root.withdraw()
        self._root.title(title)
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._root.protocol("WM_DELETE_WINDOW", self._end)
        for key in ("q", "<Escape>"):
            self._root.bind(key, lambda _: self._end())

    def show(self, image: np.ndarray, at: float) -> bool:
        """Show a frame at its time, or at once where that has passed.

        Args:
            image: uint8 ``(H, W, 3)``; scaled down if the screen is smaller.
            at: its time in seconds; the first frame is shown at once.

        Returns:
            False once the window was closed.
        """
        if self._picture is None:
            self._start = time.monotonic() - at
        shown = Image.fromarray(image)
        screen = self._root.winfo_screenwidth(), self._root.winfo_screenheight()
        shown.thumbnail((int(_SHARE * screen[0]), int(_SHARE * screen[1])))
        while self._look() and (left := self._start + at - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK))
        if not self._open:
            return False
        first = self._picture is None
        self._picture = self._picture_of(shown)
        self._label.configure(image=self._picture)
        if first:
            self._root.deiconify()
        return self._look()

    def close(self) -> None:
        """Take the window away."""
        self._end()
        with contextlib.suppress(Exception):  # it may be gone, or the display
            self._root.destroy()

    def __enter__(self) -> Window:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _end(self) -> None:
        self._open = False

    def _look(self) -> bool:
        """Let the window draw and answer; whether it is open still."""
        if self._open:
            self._root.update()
        return self._open
