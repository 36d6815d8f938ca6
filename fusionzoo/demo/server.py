"""The server of the page: on this machine alone, unless it is told otherwise."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fusionzoo.demo.pairs import MAX_PIXELS
from fusionzoo.errors import FileError, InputError

__all__ = ["MAX_FILE_SIZE", "serving"]

#: Larger files are refused while they are uploaded.
MAX_FILE_SIZE = "256mb"

#: A browser loads nothing from other places, whatever Gradio's page would like to load.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; frame-ancestors 'self'"
)

#: Read by Gradio and its packages when they are imported.
_QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}

_Receive = Callable[[], Awaitable[Any]]
_Send = Callable[[Any], Awaitable[None]]


class _OwnContentOnly:
    """Adds the policy to every response."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: _Receive, send: _Send) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", _POLICY.encode())
                message = {**message, "headers": [*message.get("headers", ()), policy]}
            await send(message)

        await self._app(scope, receive, with_policy)


@contextmanager
def serving(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    device: str = "cpu",
    max_pixels: int = MAX_PIXELS,
) -> Iterator[str]:
    """Serve the page while the block runs; gives its address.

    Nothing is sent to other machines: Gradio's statistics and its sharing are off, fonts are the
    browser's own, and a policy forbids the browser to load anything from elsewhere. Uploaded files
    and results lie in a folder that is deleted at the end.

    Args:
        host: the address to listen at; another than the usual one lets others in.
        port: 0 takes a free one.
        device: where to compute.
        max_pixels: images of more pixels are refused.

    Raises:
        InputError: Gradio is not installed.
        FileError: the port cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="fusionzoo-demo-") as folder, _quiet(folder):
        try:
            import gradio as gr
        except ModuleNotFoundError as error:
            if error.name != "gradio":
                raise
            raise InputError(
                "the page needs Gradio, which is not installed; run: pip install 'fusionzoo[demo]'"
            ) from None
        from starlette.middleware import Middleware

        from fusionzoo.demo.page import CSS, build

        page = build(device, max_pixels)
        fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
        page.queue(max_size=16)
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port or _free_port(host),
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                ssr_mode=False,
                footer_links=[],
                max_file_size=MAX_FILE_SIZE,
                theme=gr.themes.Default(**fonts),
                css=CSS,
                app_kwargs={"middleware": [Middleware(_OwnContentOnly)]},
            )
        except OSError as error:
            raise FileError(
                f"{host}, port {port} cannot be used ({error}); choose another --port"
            ) from error
        try:
            yield address
        finally:
            page.close(verbose=False)


@contextmanager
def _quiet(folder: str) -> Iterator[None]:
    settings = {**_QUIET, "GRADIO_TEMP_DIR": folder}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _free_port(host: str) -> int:
    import socket

    with socket.socket() as free:
        free.bind((host, 0))
        port: int = free.getsockname()[1]
        return port
