"""What thinc loads whenever it looks for operations, as it does in every process: this must not fail."""

from __future__ import annotations

from typing import Any, NoReturn

try:
    from fastact.backends.thinc import FastactOps
except ImportError as error:
    _message = str(error)

    class FastactOps:  # type: ignore[no-redef]
        """Operations that raise the ImportError of the adapter when somebody selects them."""

        name = "fastact"

        def __init__(self, **options: Any) -> NoReturn:
            raise ImportError(_message)


__all__ = ["FastactOps"]
