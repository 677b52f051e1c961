"""The packages that the measures need and a plain installation lacks."""

from __future__ import annotations

from importlib.util import find_spec

from nearfield.errors import MissingDependencyError

__all__ = ["require_packages"]

_EXTRA = "quality"
_MEASURES = {"sklearn": "scikit-learn", "scipy": "scipy"}
_PAGE = {"jinja2": "jinja2", "plotly": "plotly"}


def require_packages(purpose: str, *, page: bool = False) -> None:
    """Raise ``MissingDependencyError`` where a package of the extra is not installed.

    Args:
        purpose: What needs it.
        page: Whether those that write the page are needed too.
    """
    for module, package in (_MEASURES | _PAGE if page else _MEASURES).items():
        if find_spec(module) is None:
            raise MissingDependencyError(package, extra=_EXTRA, purpose=purpose)
