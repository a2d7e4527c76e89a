"""What is compiled, for commands that show progress on a terminal: a line of the log would break theirs."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Handler(logging.Handler):
    """Hands on what is logged."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.DEBUG:  # it begins; that it has ended is of no interest then
            self._tell(record.getMessage())


@contextmanager
def compilations_told_to(tell: Callable[[str], object]) -> Iterator[None]:
    """Pass on which kernel is compiled, instead of logging it afterwards."""
    logger = logging.getLogger("fastact")
    handlers, level = logger.handlers, logger.level
    logger.handlers = [_Handler(tell)]
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.handlers = handlers
        logger.setLevel(level)
