"""Directive that describes an AiiDA process by its entry point: what it does, its inputs, outputs and exit codes.

`aiida.sphinxext` has directives for this, which leave out the exit codes and join the lines of the docstring.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util.docutils import SphinxDirective


class ProcessDirective(SphinxDirective):
    """`.. process:: aiida.workflows:xastruct.predict`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Nodes of the description."""
        from aiida.plugins.entry_point import load_entry_point

        group, _, name = self.arguments[0].partition(":")
        process = load_entry_point(group, name)
        docstring = inspect.getdoc(process) or ""
        config = Config(napoleon_custom_sections=[("Inputs", "params_style"), ("Outputs", "params_style")])
        lines = [f"``{process.__module__}.{process.__name__}``", "", *str(GoogleDocstring(docstring, config)).splitlines(), ""]
        spec = process.spec()
        lines += ["**Specification of inputs**", "", *_ports(spec.inputs), ""]
        lines += ["**Specification of outputs**", "", *_ports(spec.outputs), ""]
        lines += ["**Exit codes**", ""]
        for label, code in sorted(spec.exit_codes.items(), key=lambda item: item[1].status):
            # Those below 300 are AiiDA's own, the same for every process.
            if code.status >= 300:
                lines.append(f"- **{code.status}** ``{label}`` {_plain(code.message)}")
        section = nodes.section()
        section.document = self.state.document
        self.state.nested_parse(StringList(lines, source=self.arguments[0]), self.content_offset, section)
        return section.children


def _ports(namespace: Any, prefix: str = "") -> Iterator[str]:
    """One list item for each port, those of namespaces under dotted names; AiiDA's own metadata ports are left out."""
    for name, port in sorted(namespace.items()):
        if name == "metadata":
            continue
        if hasattr(port, "items") and len(port):
            yield from _ports(port, f"{prefix}{name}.")
            continue
        types = port.valid_type if isinstance(port.valid_type, tuple) else (port.valid_type,)
        named = " or ".join(kind.__name__ for kind in types if kind is not None and kind is not type(None))
        dynamic = ", any number under names of its own" if hasattr(port, "items") else ""
        has_default = getattr(port, "has_default", lambda: False)()
        optional = "" if port.required and not has_default else ", optional"
        yield f"- **{prefix}{name}** ({named}{optional}{dynamic}) {_plain(port.help)}".rstrip()


def _plain(text: str | None) -> str:
    """Help text on one line; braces of exit messages are code."""
    return " ".join((text or "").split()).replace("{", "``{").replace("}", "}``")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("process", ProcessDirective)
    return {"parallel_read_safe": True}
