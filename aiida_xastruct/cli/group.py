"""Command groups that start fast and say in one sentence what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from typing import Any, NamedTuple, TypeVar, cast

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.utils.decorators import with_dbenv

Command = TypeVar("Command", bound=Callable[..., Any])


def with_profile(command: Command) -> Command:
    """Load the profile's database before a command runs; without any profile, say how to make one."""

    @wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        from aiida.manage import get_manager
        from aiida.manage.configuration import get_config

        if get_manager().get_profile() is None and get_config(create=True).default_profile_name is None:
            raise click.ClickException("there is no AiiDA profile yet; `verdi presto` makes one that needs no services.")
        return with_dbenv()(command)(*args, **kwargs)

    return cast(Command, wrapper)


class LazyCommand(NamedTuple):
    """Where a command is, and its line in the list of commands."""

    target: str
    help: str


class XastructGroup(VerdiCommandGroup):
    """Group whose commands are imported when they are run, and whose errors are one sentence with exit status 1.

    Args:
        lazy: target (`module:attribute`) and help of each command that is to be imported when it is needed.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, LazyCommand] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, sorted."""
        return sorted({*super().list_commands(ctx), *self.lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, imported now if it is a lazy one."""
        if cmd_name in self.lazy and cmd_name not in self.commands:
            module, _, attribute = self.lazy[cmd_name].target.partition(":")
            self.add_command(getattr(import_module(module), attribute), cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing the lazy ones."""
        rows = []
        for name in self.list_commands(ctx):
            if name in self.lazy:
                rows.append((name, self.lazy[name].help))
            elif (command := self.get_command(ctx, name)) is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(formatter.width)))
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error that a user can mend ends in one sentence."""
        from aiida.common.exceptions import AiidaException

        from ..engine.errors import XastructError

        try:
            return super().invoke(ctx)
        except (XastructError, AiidaException) as error:
            raise click.ClickException(str(error)) from error
