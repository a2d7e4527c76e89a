"""The inner loop between NumPy and a kernel: it compiles the kernel, and runs it in parallel.

`inner_loop` is compiled once and shared by all ufuncs; it finds its kernel through the ``data``
that NumPy passes along, whose layout is `LOOP_DATA`. `run_chunk` is the task that the threads of
the pool run.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import types
from numba.extending import intrinsic

from fastact.runtime.crew import run_by_crew
from fastact.runtime.schedule import chunk_length, thread_count, wanted_threads
from fastact.simd.compilable import internal
from fastact.simd.float_status import (
    DEFAULT_FLOAT_STATUS,
    emit_read_float_status,
    emit_write_float_status,
)
from fastact.simd.memory import address_of, call_at, reserve_words, stack, words
from fastact.system.memory_layout import LOOP_DATA, SETTING


class _TaskLayout(NamedTuple):
    """Indices into the array that `inner_loop` passes to `run_chunk`."""

    kernel: int = 0
    args: int = 1
    dimensions: int = 2
    steps: int = 3
    operands: int = 4
    core_dimensions: int = 5
    chunk: int = 6
    streaming: int = 7


_TASK = _TaskLayout()

_call_kernel = call_at(types.void, 4)
_call_parallel_for = call_at(types.void, 8)
_call_get = call_at(types.intp, 0)
_call_set = call_at(types.void, 1)
_call_with_one = call_at(types.intp, 1)
_call_set_async_exc = call_at(types.void, 2)

_new_task = stack(len(_TASK))
_new_word = stack(1)


# Comparing with NaN, or an exponential that underflows in an intermediate result, raises a
# floating-point flag that NumPy would report as a warning. So the flags are saved and restored. So
# is the mode: other libraries set one that flushes subnormal numbers to zero, such as
# `torch.set_flush_denormal`, and kernels must give the same bits in it.
@intrinsic
def _read_float_status(context: Any) -> Any:
    return types.int64(), lambda context, builder, call, values: emit_read_float_status(builder)


@intrinsic
def _write_float_status(context: Any, status: Any) -> Any:
    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        emit_write_float_status(builder, values[0])
        return context.get_dummy_value()

    return types.void(types.int64), emit


@internal
def _is_order_free(args: Any, steps: Any, n: int, inputs: int, operands: int) -> bool:
    """Whether the elements may be computed in any order.

    NumPy allows an output to trail its input in the same memory, as in ``f(x[1:], out=x[:-1])``,
    and relies on the loop to run from the first element to the last.
    """
    for i in range(inputs):
        for o in range(inputs, operands):
            if args[i] == args[o] and steps[i] == steps[o]:
                continue
            input_low = min(args[i], args[i] + (n - 1) * steps[i])
            input_high = max(args[i], args[i] + (n - 1) * steps[i]) + max(abs(steps[i]), 16)
            output_low = min(args[o], args[o] + (n - 1) * steps[o])
            output_high = max(args[o], args[o] + (n - 1) * steps[o]) + max(abs(steps[o]), 16)
            if input_low < output_high and output_low < input_high:
                return False
    return True


@internal
def _is_recurrence(args: Any, steps: Any, inputs: int, operands: int) -> Any:
    """Whether each element depends on the previous result, as in NumPy's reduce and accumulate."""
    if inputs < 2 or operands != inputs + 1:
        return False
    return steps[inputs] == 0 or args[0] + steps[inputs] == args[inputs]


@internal
def _run_element_by_element(args: Any, dimensions: Any, steps: Any, loop_data: Any) -> None:
    own_args, own_dimensions = reserve_words(loop_data[LOOP_DATA.operands]), _new_word()
    own_dimensions[0] = 1
    for i in range(dimensions[0]):
        for k in range(loop_data[LOOP_DATA.operands]):
            own_args[k] = args[k] + i * steps[k]
        _call_kernel(loop_data[LOOP_DATA.kernel], (own_args, own_dimensions, steps, 0))


@internal
def _elements_per_step(dimensions: Any, core_dimensions: int) -> Any:
    """Return the number of elements of one iteration: the product of the core dimensions."""
    elements = 1
    for k in range(core_dimensions):
        elements *= dimensions[k + 1]
    return elements


@internal
def _is_streaming(dimensions: Any, steps: Any, loop_data: Any, settings: Any) -> Any:
    """Whether the operands are so large that outputs should use non-temporal stores."""
    moved = 0
    for k in range(loop_data[LOOP_DATA.operands]):
        moved += abs(steps[k])
    return moved * dimensions[0] >= settings[SETTING.streaming]


@internal
def _thread_count(args: Any, dimensions: Any, steps: Any, loop_data: Any, settings: Any) -> Any:
    """Return the number of threads for this call."""
    n, core_dimensions = dimensions[0], loop_data[LOOP_DATA.core_dimensions]
    elements = n * _elements_per_step(dimensions, core_dimensions)
    wanted = wanted_threads(elements, settings[SETTING.threshold])
    if wanted <= 1 or settings[SETTING.threads] <= 1:
        return 1
    if core_dimensions == 0 and not _is_order_free(
        args, steps, n, loop_data[LOOP_DATA.inputs], loop_data[LOOP_DATA.operands]
    ):
        return 1
    if settings[SETTING.started] < settings[SETTING.threads]:
        _call_python(settings, settings[SETTING.start_pool])
    available = min(settings[SETTING.threads], settings[SETTING.started])
    if available > 1:
        mask = _thread_mask(settings)
        if mask > 0:
            available = min(available, mask)
    return thread_count(wanted, available, settings[SETTING.has_fixed_team])


@internal
def _thread_mask(settings: Any) -> Any:
    """Return this thread's limit set with `numba.set_num_threads`; 0 if there is none.

    A pool that Numba itself did not start answers -1, and would do so in this thread for good.
    """
    mask = _call_get(settings[SETTING.get_num_threads], ())
    if mask < 0:
        _call_set(settings[SETTING.set_num_threads], (0,))
        return 0
    return mask


@internal
def _run_in_parallel(
    arguments: Any,
    dimensions: Any,
    steps: Any,
    loop_data: Any,
    settings: Any,
    threads: int,
    streaming: int,
) -> None:
    """Split a call into chunks and run them on the crew or the pool."""
    n, core_dimensions = dimensions[0], loop_data[LOOP_DATA.core_dimensions]
    task = _new_task()
    task[_TASK.kernel] = loop_data[LOOP_DATA.kernel]
    task[_TASK.args] = address_of(arguments)
    task[_TASK.dimensions] = address_of(dimensions)
    task[_TASK.steps] = address_of(steps)
    task[_TASK.operands] = loop_data[LOOP_DATA.operands]
    task[_TASK.core_dimensions] = core_dimensions
    task[_TASK.streaming] = streaming
    elements = _elements_per_step(dimensions, core_dimensions)
    chunk = chunk_length(n, elements, threads, settings[SETTING.chunk])
    task[_TASK.chunk] = chunk

    chunks, first, one = _new_word(), _new_word(), _new_word()
    chunks[0] = -(-n // chunk)
    if settings[SETTING.has_fixed_team] == 0:
        threads = min(threads, chunks[0])  # a few long rows
    if settings[SETTING.crew] != 0:
        if not run_by_crew(words(settings[SETTING.crew]), task, chunks[0], threads):
            _call_kernel(task[_TASK.kernel], (arguments, dimensions, steps, streaming))
        return
    first[0] = address_of(task)
    one[0] = 1
    mask = _thread_mask(settings)
    _call_parallel_for(
        settings[SETTING.parallel_for],
        (settings[SETTING.run_chunk], first, chunks, one, task, 0, 1, threads),
    )
    _call_set(settings[SETTING.set_num_threads], (mask,))


def run_chunk(position: Any, count: Any, one: Any, data: Any) -> None:
    """Run some chunks of a call on the calling thread.

    `position` is a base address plus the index of the first chunk, as ``numba_parallel_for``
    computes it; the base is the address of the task.
    """
    task = words(data)
    args = words(task[_TASK.args])
    dimensions = words(task[_TASK.dimensions])
    steps = words(task[_TASK.steps])
    own_args = reserve_words(task[_TASK.operands])
    own_dimensions = reserve_words(1 + task[_TASK.core_dimensions])
    for k in range(task[_TASK.core_dimensions]):
        own_dimensions[k + 1] = dimensions[k + 1]
    begin = (address_of(position[0]) - address_of(data)) * task[_TASK.chunk]
    own_dimensions[0] = min(count[0] * task[_TASK.chunk], dimensions[0] - begin)
    for k in range(task[_TASK.operands]):
        own_args[k] = args[k] + begin * steps[k]
    status = _read_float_status()
    _write_float_status(DEFAULT_FLOAT_STATUS)
    _call_kernel(task[_TASK.kernel], (own_args, own_dimensions, steps, task[_TASK.streaming]))
    _write_float_status(status)


@internal
def _raise(settings: Any, error: int) -> None:
    """Raise an error in this thread as soon as the running ufunc returns to Python.

    An inner loop cannot report errors; without this the caller would go on with outputs that were
    never computed, after Ctrl-C during compilation for instance.
    """
    state = _call_get(settings[SETTING.gil_ensure], ())
    _raise_under_gil(settings, error)
    _call_set(settings[SETTING.gil_release], (state,))


@internal
def _raise_under_gil(settings: Any, error: int) -> None:
    """Raise an error asynchronously, after probing that this works.

    Python 3.11 keeps the state of a thread that it failed to start, under the id of the thread that
    tried, and would raise the error in that state. In this case the error is set here and now, and
    surfaces as the cause of a SystemError.
    """
    thread = _call_get(settings[SETTING.thread_ident], ())
    _call_set_async_exc(settings[SETTING.set_async_exc], (thread, settings[SETTING.probe_error]))
    result = _call_with_one(settings[SETTING.call_no_args], (settings[SETTING.probe],))
    if result == 0:
        found = _call_get(settings[SETTING.error_occurred], ())
        if found != settings[SETTING.probe_error]:
            error = found  # raised by a signal handler
        _call_set_async_exc(settings[SETTING.set_async_exc], (thread, error))
        _call_get(settings[SETTING.clear_error], ())
    else:
        _call_set(settings[SETTING.dec_ref], (result,))
        _call_set(settings[SETTING.set_error], (error,))


@internal
def _call_python(settings: Any, function: int) -> Any:
    """Call a function made by `fastact.runtime.threads.returning_error`; return whether it failed.

    No exception is lost, wherever the function is interrupted; ctypes would print it and carry on.
    """
    state = _call_get(settings[SETTING.gil_ensure], ())
    result = _call_with_one(settings[SETTING.call_no_args], (function,))
    if result == 0:
        error = _call_get(settings[SETTING.error_occurred], ())
        _call_set(settings[SETTING.inc_ref], (error,))
        _call_get(settings[SETTING.clear_error], ())
        _raise_under_gil(settings, error)
        _call_set(settings[SETTING.dec_ref], (error,))
    else:
        if result != settings[SETTING.none]:
            _raise_under_gil(settings, result)
        _call_set(settings[SETTING.dec_ref], (result,))
    _call_set(settings[SETTING.gil_release], (state,))
    return result != settings[SETTING.none]


def inner_loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
    """Run a kernel over all elements, on one thread or several."""
    loop_data = words(data)
    settings = words(loop_data[LOOP_DATA.settings])
    if loop_data[LOOP_DATA.kernel] == 0:
        # NumPy may call again before Python raises the error: only the first call compiles.
        if loop_data[LOOP_DATA.error] == 0 and _call_python(settings, loop_data[LOOP_DATA.compile]):
            return
        if loop_data[LOOP_DATA.error] != 0:
            _raise(settings, loop_data[LOOP_DATA.error])
        if loop_data[LOOP_DATA.kernel] == 0:
            return
    status = _read_float_status()
    _write_float_status(DEFAULT_FLOAT_STATUS)
    args = words(arguments)
    is_recurrence = (
        dimensions[0] > 1
        and loop_data[LOOP_DATA.core_dimensions] == 0
        and _is_recurrence(args, steps, loop_data[LOOP_DATA.inputs], loop_data[LOOP_DATA.operands])
    )
    if is_recurrence:
        _run_element_by_element(args, dimensions, steps, loop_data)
        _write_float_status(status)
        return
    threads = _thread_count(args, dimensions, steps, loop_data, settings)
    streaming = 1 if _is_streaming(dimensions, steps, loop_data, settings) else 0
    if threads > 1:
        _run_in_parallel(arguments, dimensions, steps, loop_data, settings, threads, streaming)
    else:
        _call_kernel(loop_data[LOOP_DATA.kernel], (arguments, dimensions, steps, streaming))
    _write_float_status(status)
