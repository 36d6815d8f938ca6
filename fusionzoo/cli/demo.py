"""``fusionzoo demo``: a page in the browser to try models on pairs."""

from __future__ import annotations

import sys
import threading
import webbrowser
from collections.abc import Sequence

from fusionzoo.cli import UsageError
from fusionzoo.cli.options import chosen_device, positive
from fusionzoo.cli.parser import Parser

PORT = 7860

_EPILOG = """\
The page stays on this machine: it is served at 127.0.0.1, loads nothing from the internet and
sends nothing to it. Uploaded files and results are deleted when the command ends (Ctrl-C).

--host 0.0.0.0 lets other machines use the page. There is no password: do so in a network that you
trust, or behind a server that asks for one.
"""


def main(name: str, arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run the command; see ``fusionzoo demo --help``."""
    args = _parser().parse_args(arguments)
    if not 0 <= args.port <= 65535:
        raise UsageError(f"--port {args.port}: give a number from 1 to 65535, or 0 for a free one")
    device = str(chosen_device(args.device))
    from fusionzoo.demo.server import serving

    with serving(
        host=args.host, port=args.port, device=device, max_pixels=args.max_pixels
    ) as address:
        print(f"{address}  (Ctrl-C ends it)", flush=True)
        if args.host not in ("127.0.0.1", "localhost", "::1"):
            print("other machines can use this page, without a password", file=sys.stderr)
        if args.open:
            webbrowser.open(address)
        _wait()
    return 0


def _wait() -> None:
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print()


def _parser() -> Parser:
    parser = Parser(
        prog="fusionzoo demo",
        description="Try models on pairs of images in the browser.",
        epilog=_EPILOG,
    )
    parser.add_argument("--port", type=int, default=PORT, help="default: %(default)s")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default: %(default)s)"
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, mps; by default the GPU if there is one"
    )
    parser.add_argument(
        "--max-pixels",
        type=positive,
        default=4_000_000,
        metavar="N",
        help="refuse larger images (default: %(default)s)",
    )
    return parser
