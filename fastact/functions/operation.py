"""Operations of functions, such as the backward pass, and the methods that run them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from fastact.catalogue.definition import REQUIRED
from fastact.functions.options import OUT, Argument
from fastact.kernels.kernel import Kernel
from fastact.system import hooks

# What most functions of whole arrays say of their operations.
SUMMARIES = {
    "forward": "the value",
    "backward": "the gradient with respect to the input",
    "forward_backward": "the value and the gradient with respect to the input in one pass",
}


@dataclass(frozen=True)
class Operation:
    """An operation of a function.

    Attributes
    ----------
    name : str
        ``"forward"``, run by calling the function itself, or the name of a method.
    summary : str
        The continuation of "Compute" in its docstring.
    arrays : tuple of Argument
        The positional-only arguments.
    options : tuple of Argument
        The other arguments.
    returns : dict of str to str
        The results, by name.
    run : callable
        Takes the function, the operation, the arrays and the options, and returns the results, or the
        `fastact.arrays.plans.Call` that computes them, whose plan is kept for calls like it.
    raises : dict of str to str
        The errors, by class.
    plain : callable, optional
        A shortcut for calls without options, or with only `out`. Takes the function, the arrays and ``out=None``.
    example : str
        An example for its docstring, in which ``{f}`` stands for the function.
    """

    name: str
    summary: str
    arrays: tuple[Argument, ...]
    options: tuple[Argument, ...]
    returns: Mapping[str, str]
    run: Callable[..., Any]
    raises: Mapping[str, str]
    plain: Callable[..., Any] | None = None
    example: str = ""

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The names of the arrays."""
        return tuple(each.name for each in self.arrays)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The names of the results."""
        return tuple(self.returns)

    @cached_property
    def saved(self) -> tuple[str, ...]:
        """What a backward pass needs from the forward pass: all inputs but the output gradients."""
        return tuple(each.name for each in self.arrays if not each.is_gradient)

    @cached_property
    def arguments(self) -> dict[str, Argument]:
        """All arguments by name, in the order of the signature."""
        own = {each.name: each for each in (*self.arrays, *self.options)}
        return {name: own[name] for name in self.signature.parameters}

    @cached_property
    def option_names(self) -> dict[str, Argument]:
        """The options by name."""
        return {each.name: each for each in self.options}

    @cached_property
    def positional(self) -> tuple[str, ...]:
        """The names of the options that may be passed by position."""
        return tuple(each.name for each in self.options if each.is_positional)

    @cached_property
    def signature(self) -> inspect.Signature:
        """The signature of the method, without `self`."""
        kinds = inspect.Parameter
        arrays = [
            kinds(each.name, kinds.POSITIONAL_ONLY, default=each.default) for each in self.arrays
        ]
        options = sorted(self.options, key=lambda each: not each.is_positional)
        return inspect.Signature([*arrays, *(each.parameter for each in options)])

    def bind(
        self, caller: Callable[[str], str], args: Sequence[Any], options: dict[str, Any]
    ) -> None:
        """Add positional arguments to the options under their names, in front of the others."""
        names = self.positional
        if len(args) > len(names):
            raise TypeError(
                f"{caller(self.name)}: {len(args)} positional arguments after the arrays; it takes "
                f"{', '.join(names) or 'none'} (pass out by keyword)"
            )
        bound = dict(zip(names, args, strict=False))
        for name in bound.keys() & options.keys():
            raise TypeError(f"{caller(self.name)}: multiple values for argument {name!r}")
        by_name = dict(options)
        options.clear()
        options.update(bound | by_name)

    def unknown(self, caller: str, name: str) -> str:
        """Return the message for an unknown argument, which lists the known ones."""
        near = difflib.get_close_matches(name, self.option_names, n=1)
        hint = f" did you mean {near[0]!r}?" if near else ""
        known = ", ".join(self.option_names)
        return f"{caller}: unknown argument {name!r};{hint} it takes {known}"


@dataclass(frozen=True)
class Family:
    """The operations of a definition, and the kernels that they run.

    Attributes
    ----------
    operations : dict of str to Operation
        The operations, by name.
    ufuncs : tuple of str
        The names of the kernels whose ufuncs are public.
    kernel : callable
        Takes a key and returns the kernel.
    missing : dict of str to str
        The operations that it lacks although others of its kind have them, and why.
    others : tuple
        The keys of the kernels that are not among `ufuncs`.
    vjp : callable, optional
        Runs the operation `vjp`, if more than a forward pass that keeps what `backward` takes.
    vjp_options : tuple of Argument
        The options that it has beside those of the forward pass.
    vjp_example : str
        Its `Operation.example`.
    constants : callable
        Takes a function and returns a function from a dtype to its parameters as arrays for that dtype.
    """

    operations: Mapping[str, Operation]
    ufuncs: tuple[str, ...]
    kernel: Callable[[Any], Kernel]
    missing: Mapping[str, str] = field(default_factory=dict)
    others: tuple[Any, ...] = ()
    vjp: Callable[..., Any] | None = None
    vjp_options: tuple[Argument, ...] = ()
    vjp_example: str = ""
    constants: Callable[[Any], Callable[[Any], Any]] = lambda function: lambda dtype: None


def make_method(operation: Operation) -> Callable[..., Any]:
    """Return the method that runs an operation, with the operation's signature."""
    parameters = ", ".join(
        each.name if each.default is REQUIRED else f"{each.name}={each.default!r}"
        for each in operation.arrays
    )
    has_plain, has_out = operation.plain is not None, operation.option_names.get("out") is OUT
    factory = _factory(parameters, ", ".join(operation.inputs), has_plain, has_out)
    method: Any = factory(operation, operation.plain)
    method.__name__ = "__call__" if operation.name == "forward" else operation.name
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    signature = operation.signature
    method.__signature__ = signature.replace(parameters=[itself, *signature.parameters.values()])
    made: Callable[..., Any] = method
    return made


def replay_key(operation: str, positional: int, options: Iterable[str]) -> Any:
    """Return the key of the replays of an operation, given how many options are passed by position and which by name.

    Methods write it out, as a call takes 0.1 us.
    """
    return (operation, positional, *options) if positional or options else operation


class _Foreign(dict[type, bool]):
    """Whether arrays of a class are another library's that go through DLPack.

    Those that have `__array_ufunc__` are asked by NumPy instead.
    """

    def __missing__(self, kind: type) -> bool:
        return self.setdefault(
            kind, hasattr(kind, "__dlpack__") and not hasattr(kind, "__array_ufunc__")
        )


_foreign = _Foreign()


def _exchange(*call: Any) -> Any:
    return hooks.exchange(*call)


@cache
def _factory(parameters: str, arrays: str, has_plain: bool, has_out: bool) -> Callable[..., Any]:
    """Return a factory of methods with these arrays as parameters, so that Python binds them and names a missing one."""
    # Arrays of custom functions have any names: those of the method have more underscores in front.
    names = arrays.split(", ")
    own = "_" * (1 + max(len(name) - len(name.lstrip("_")) for name in names))
    args, options, plain = f"{own}args", f"{own}options", f"{own}plain"
    foreign, exchange = f"{own}foreign", f"{own}exchange"
    any_is_foreign = " or ".join(f"{foreign}[{own}type({name})]" for name in names)
    shorter = f"if not ({args} or {options}): return {plain}({own}self, {arrays})"
    only_out = f'not {args} and len({options}) == 1 and "out" in {options}'
    with_out = f"if {only_out}: return {plain}({own}self, {arrays}, **{options})"
    source = f"""
def factory({own}operation, {plain}):
    {own}name = {own}operation.name
    def method({own}self, {parameters}, /, *{args}, **{options}):
        if {args} or {options}:
            {own}replay = {own}self._replays.get(({own}name, len({args}), *{options}))
            {own}results = {own}replay and {own}replay({arrays}, *{args}, *{options}.values())
        else:
            {own}replay = {own}self._replays.get({own}name)
            {own}results = {own}replay and {own}replay({arrays})
        if {own}results is not None:
            return {own}results
        if {any_is_foreign}:
            return {exchange}({own}self, {own}operation, ({arrays},), {args}, {options})
        {shorter if has_plain else "pass"}
        {with_out if has_plain and has_out else "pass"}
        return {own}self._call({own}operation, ({arrays},), {args}, {options})
    return method
"""
    known: dict[str, Any] = {
        "__name__": __name__,
        foreign: _foreign,
        exchange: _exchange,
        f"{own}type": type,
    }
    exec(source, known)
    factory: Callable[..., Any] = known["factory"]
    return factory
