"""Arguments of a command, with wrong ones told in one line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from fusionzoo.cli import UsageError
from fusionzoo.errors import did_you_mean

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """``argparse`` that raises :class:`UsageError` instead of printing a screen of usage."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)
        # fusionzoo.cli.main takes it before the command gets its arguments.
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def error(self, message: str) -> NoReturn:
        """Raise what ``argparse`` found wrong.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{message}; see {self.prog} --help")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse all arguments.

        Raises:
            UsageError: a wrong or unknown one; the closest option is named.
        """
        parsed, unknown = self.parse_known_args(args, namespace)
        for argument in unknown:
            if argument.startswith("-"):
                name = argument.partition("=")[0]
                hint = did_you_mean(name, self._option_string_actions, 1)
                raise UsageError(f"there is no option {name}; {hint or f'see {self.prog} --help'}")
        if unknown:
            self.too_many(unknown)
        return parsed

    def too_many(self, rest: Sequence[str]) -> NoReturn:
        """Refuse arguments that have no place; a command may say more of them.

        Raises:
            UsageError: always.
        """
        self.error(f"{rest[0]!r} is one argument too many")
