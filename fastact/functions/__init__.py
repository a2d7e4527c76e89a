"""The function objects that users call, made from the catalogue."""

from fastact.functions.function import Function, function_of, make_function

__all__ = ["Function", "function_of", "make_function"]
