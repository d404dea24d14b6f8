"""`aiida-xastruct explore`: the same answers on a web page of this machine."""

from __future__ import annotations

import json

import click

from .group import with_profile
from .output import json_option


@click.command("explore")
@click.option("-p", "--port", type=click.IntRange(0, 65535), default=0, help="Port of 127.0.0.1.  [default: a free one]")
@click.option("-F", "--family", help="Label of the models.  [default: the family that ships with this package]")
@click.option("--read-only", is_flag=True, help="Store nothing and start nothing: to look only.")
@click.option("--no-browser", is_flag=True, help="Print the address and open no browser.")
@json_option
@with_profile
def explore(port: int, family: str | None, read_only: bool, no_browser: bool, as_json: bool) -> None:
    """Open a page where crystals and spectra are dropped and answers are looked at.

    It is served on 127.0.0.1 only, to browsers that know its address with the token. Ctrl-C ends it.
    """
    from aiida.manage import get_manager

    from ..engine.errors import XastructError

    try:
        import nicegui  # noqa: F401
    except ImportError as error:
        raise XastructError("the explorer needs NiceGUI; pip install 'aiida-xastruct[explore]'.") from error
    from ..explore.app import Explorer, free_port, serve
    from ..explore.guard import Door

    profile = get_manager().get_profile()
    assert profile is not None
    door = Door.new(free_port(port))
    click.echo(json.dumps({"url": door.url, "port": door.port}) if as_json else f"open {door.url}\nCtrl-C ends it.")
    serve(Explorer(profile.name, family, read_only), door, show=not no_browser)
