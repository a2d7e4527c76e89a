"""What the modules of this package need, which is what the extras of their names install."""

from __future__ import annotations

from importlib import metadata


def require(module: str) -> None:
    """Raise an error unless the libraries of an adapter are installed, in releases that it supports.

    Parameters
    ----------
    module : str
        The ``__name__`` of the adapter's module, which calls this before it imports the library. The last part is also
        the name of the extra.

    Raises
    ------
    ImportError
        If a library is missing or of another release; the message names the extra and the supported releases.
    """
    extra = module.rpartition(".")[2].replace("_", "-")
    command = f"pip install 'fastact[{extra}]'"
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        raise ImportError(f"{module} needs packaging: {command}") from None
    for each in map(Requirement, metadata.requires("fastact") or ()):
        if each.marker is None or "extra" not in str(each.marker):
            continue
        if not each.marker.evaluate({"extra": extra}):
            continue
        try:
            installed = metadata.version(each.name)
        except metadata.PackageNotFoundError:
            raise ImportError(f"{module} needs {each.name}{each.specifier}: {command}") from None
        if not each.specifier.contains(installed, prereleases=True):
            raise ImportError(
                f"{module} supports {each.name}{each.specifier}, but {installed} is installed: {command}"
            )
