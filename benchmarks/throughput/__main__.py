"""Analyse all functions for all processors, and print the tables."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import throughput
from benchmarks.throughput.analysis import MissingError, Result, analyse, read
from benchmarks.throughput.processors import PROCESSORS, function_names
from benchmarks.throughput.tables import page, print_tables

PAGE = Path(__file__).parents[2] / "docs" / "instructions.md"


def main(arguments: Sequence[str] | None = None) -> None:
    """Analyse, and print the tables."""
    options = _options(arguments)
    results, before = _results(options), read(options.before) if options.before else []
    if options.json:
        rows = [dataclasses.asdict(each) for each in results]
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    if options.docs:
        PAGE.write_text(page(results, before))
    print_tables(results, before)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput",
        description=throughput.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("functions", nargs="*", metavar="function", help="all by default")
    parser.add_argument(
        "--processor",
        action="append",
        help=f"repeatable; all by default: {', '.join(PROCESSORS)}",
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--from", dest="file", type=Path, help="read them from such a file instead")
    parser.add_argument("--before", type=Path, help="compare with such a file")
    parser.add_argument("--docs", action="store_true", help="write docs/instructions.md")
    options = parser.parse_args(arguments)
    _check(parser, "function", options.functions, function_names())
    _check(parser, "processor", options.processor or (), PROCESSORS)
    return options


def _check(
    parser: argparse.ArgumentParser, kind: str, given: Sequence[str], known: Sequence[str]
) -> None:
    for each in given:
        if each not in known:
            parser.error(f"unknown {kind} {each!r}; choose from {', '.join(known)}")


def _results(options: argparse.Namespace) -> list[Result]:
    functions = options.functions or function_names()
    processors = options.processor or list(PROCESSORS)
    if options.file:
        found = read(options.file)
        return [
            each for each in found if each.function in functions and each.processor in processors
        ]
    found = []
    try:
        for result in analyse(functions, processors):
            found.append(result)
            if sys.stderr.isatty():
                sys.stderr.write(f"\r\033[K{result.processor}: {result.function}")
    except MissingError as error:
        raise SystemExit(f"python -m benchmarks.throughput: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
    return found


if __name__ == "__main__":
    main()
