"""What stands between NumPy and a serial loop: compile it on first use, share it among threads.

Two functions, compiled once for all activations. `drive` is the inner loop that every ufunc holds; what
it needs to know of its own loop it finds in the record that NumPy passes as ``data``. `run_chunk` is
what a thread of the pool runs.

Records and settings are arrays of ``intp`` that Python writes and compiled code reads; `SETTING` and
`RECORD` name their places.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastact.simd.compilable import internal
from fastact.simd.lowering import call_llvm
from fastact.simd.memory import address_of, call_at, reserve_words, stack, words, words_behind
from fastact.system.memory_layout import MEETING, RECORD, SETTING, TEAM_SIZES, TEAMS
from fastact.system.target import TARGET


class _FramePlaces(NamedTuple):
    """Places in what `drive` hands to `run_chunk`."""

    loop: int = 0
    args: int = 1
    dimensions: int = 2
    steps: int = 3
    operands: int = 4
    core_dimensions: int = 5
    chunk: int = 6
    streaming: int = 7


_FRAME = _FramePlaces()
_CHUNKS_PER_THREAD = 4
_CHUNK_MULTIPLE = 64


_call_loop = call_at(types.void, 4)
_call_parallel_for = call_at(types.void, 8)
_call_get = call_at(types.intp, 0)
_call_set = call_at(types.void, 1)
_call_with_one = call_at(types.intp, 1)
_call_set_async_exc = call_at(types.void, 2)


_one_frame = stack(len(_FRAME))
_one_word = stack(1)


# A comparison with a NaN, or an exponential that underflows on its way to a right result, raises a
# floating-point flag that NumPy would report as a warning. The flags are put back as they were.
_ON_X86 = TARGET.is_x86


@intrinsic
def _read_float_status(context: Any) -> Any:
    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        if not _ON_X86:
            return ir.Constant(ir.IntType(32), 0)
        place = cgutils.alloca_once(builder, ir.IntType(32))
        call_llvm(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), [_byte_pointer(builder, place)])
        return builder.load(place)

    return types.int32(), emit


@intrinsic
def _write_float_status(context: Any, status: Any) -> Any:
    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        if _ON_X86:
            place = cgutils.alloca_once_value(builder, values[0])
            pointer = _byte_pointer(builder, place)
            call_llvm(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), [pointer])
        return context.get_dummy_value()

    return types.void(types.int32), emit


def _byte_pointer(builder: Any, pointer: Any) -> Any:
    return builder.bitcast(pointer, ir.IntType(8).as_pointer())


@internal
def _is_shareable(args: Any, steps: Any, n: int, inputs: int, operands: int) -> bool:
    """Whether threads may take the elements in any order.

    NumPy allows an output to lie behind its input in the same memory, as in ``f(x[1:], out=x[:-1])``,
    and counts on a loop that goes from the first element to the last.
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
    """Whether each element needs the result of the one before: NumPy's reduce and accumulate."""
    if inputs < 2 or operands != inputs + 1:
        return False
    return steps[inputs] == 0 or args[0] + steps[inputs] == args[inputs]


@internal
def _run_one_by_one(args: Any, dimensions: Any, steps: Any, record: Any) -> None:
    own_args, own_dimensions = reserve_words(record[RECORD.operands]), _one_word()
    own_dimensions[0] = 1
    for i in range(dimensions[0]):
        for k in range(record[RECORD.operands]):
            own_args[k] = args[k] + i * steps[k]
        _call_loop(record[RECORD.loop], (own_args, own_dimensions, steps, 0))


@internal
def _elements_of_one(dimensions: Any, core_dimensions: int) -> Any:
    """Return how many elements one step of the loop is about: 1 but for a generalized ufunc."""
    elements = 1
    for k in range(core_dimensions):
        elements *= dimensions[k + 1]
    return elements


@internal
def _is_streaming(dimensions: Any, steps: Any, record: Any, settings: Any) -> Any:
    """Whether the operands are so large that outputs should go past the caches."""
    moved = 0
    for k in range(record[RECORD.operands]):
        moved += abs(steps[k])
    return moved * dimensions[0] >= settings[SETTING.streaming]


@internal
def _thread_count(args: Any, dimensions: Any, steps: Any, record: Any, settings: Any) -> Any:
    """Return how many threads this call should use."""
    n, core_dimensions = dimensions[0], record[RECORD.core_dimensions]
    elements = n * _elements_of_one(dimensions, core_dimensions)
    if elements < settings[SETTING.threshold] or settings[SETTING.threads] <= 1:
        return 1
    if core_dimensions == 0 and not _is_shareable(
        args, steps, n, record[RECORD.inputs], record[RECORD.operands]
    ):
        return 1
    if settings[SETTING.parallel_for] == 0:
        _call_python(settings, settings[SETTING.start_pool])
        if settings[SETTING.parallel_for] == 0:
            return 1
    threads = settings[SETTING.threads]
    mask = _thread_mask(settings)
    if mask > 0:
        threads = min(threads, mask)
    if threads > 1 and settings[SETTING.teams] != 0:
        return _team_size(settings, threads)
    return threads


@internal
def _thread_mask(settings: Any) -> Any:
    """Return how many threads Numba's user lets this thread use; 0 where Numba has not said so.

    Its pool says -1 where Numba itself has not started it, and would go on to say so in this thread.
    """
    mask = _call_get(settings[SETTING.get_num_threads], ())
    if mask < 0:
        _call_set(settings[SETTING.set_num_threads], (0,))
        return 0
    return mask


@internal
def _team_size(settings: Any, threads: int) -> Any:
    """Return how many threads this thread may use under OpenMP, which makes it a team of its own."""
    state = _call_get(settings[SETTING.this_thread], ())
    thread = _call_with_one(settings[SETTING.thread_id], (state,))
    team = words_behind(words(settings[SETTING.teams]), thread % TEAMS)
    wanted = thread * TEAM_SIZES + threads
    if team[0] // TEAM_SIZES != wanted:
        _call_python(settings, settings[SETTING.form_team])
    found = team[0]
    return found % TEAM_SIZES if found // TEAM_SIZES == wanted else 1


@internal
def _share(
    arguments: Any,
    dimensions: Any,
    steps: Any,
    record: Any,
    settings: Any,
    threads: int,
    streaming: int,
) -> None:
    """Cut a call into chunks and let the pool run them."""
    n, core_dimensions = dimensions[0], record[RECORD.core_dimensions]
    frame = _one_frame()
    frame[_FRAME.loop] = record[RECORD.loop]
    frame[_FRAME.args] = address_of(arguments)
    frame[_FRAME.dimensions] = address_of(dimensions)
    frame[_FRAME.steps] = address_of(steps)
    frame[_FRAME.operands] = record[RECORD.operands]
    frame[_FRAME.core_dimensions] = core_dimensions
    frame[_FRAME.streaming] = streaming
    # Several chunks for each thread, so that one that loses its core for a while does not hold up the
    # call, and not fewer, so that few blocks are shared evenly; whole cache lines of any type, so that no
    # two threads write to one.
    elements = _elements_of_one(dimensions, core_dimensions)
    chunk = max(settings[SETTING.chunk] // elements, n // (threads * _CHUNKS_PER_THREAD))
    multiple = max(1, _CHUNK_MULTIPLE // elements)
    chunk = max(1, -(-chunk // multiple)) * multiple
    frame[_FRAME.chunk] = chunk

    chunks, first, one = _one_word(), _one_word(), _one_word()
    chunks[0] = -(-n // chunk)
    first[0] = address_of(frame)
    one[0] = 1
    mask = _thread_mask(settings)
    _call_parallel_for(
        settings[SETTING.parallel_for],
        (settings[SETTING.run_chunk], first, chunks, one, frame, 0, 1, threads),
    )
    _call_set(settings[SETTING.set_num_threads], (mask,))


def run_chunk(position: Any, count: Any, one: Any, data: Any) -> None:
    """Run some chunks of a call on the thread that calls.

    Numba's ``numba_parallel_for`` hands on a base address plus the index of the first chunk; the base
    is the frame's own address.
    """
    frame = words(data)
    args = words(frame[_FRAME.args])
    dimensions = words(frame[_FRAME.dimensions])
    steps = words(frame[_FRAME.steps])
    own_args = reserve_words(frame[_FRAME.operands])
    own_dimensions = reserve_words(1 + frame[_FRAME.core_dimensions])
    for k in range(frame[_FRAME.core_dimensions]):
        own_dimensions[k + 1] = dimensions[k + 1]
    begin = (address_of(position[0]) - address_of(data)) * frame[_FRAME.chunk]
    own_dimensions[0] = min(count[0] * frame[_FRAME.chunk], dimensions[0] - begin)
    for k in range(frame[_FRAME.operands]):
        own_args[k] = args[k] + begin * steps[k]
    _call_loop(frame[_FRAME.loop], (own_args, own_dimensions, steps, frame[_FRAME.streaming]))


def meet(position: Any, count: Any, one: Any, data: Any) -> None:
    """Wait until all others have come as well, so that each of them takes a thread of the pool.

    Each is an index, as in `run_chunk`.
    """
    meeting = words(data)
    come = words_behind(meeting, len(MEETING))
    for index in range(count[0]):
        come[address_of(position[0]) - address_of(data) + index] = 1
    for _ in range(meeting[MEETING.turns]):
        missing = meeting[MEETING.expected]
        for index in range(meeting[MEETING.expected]):
            missing -= come[index]
        if missing == 0:
            return
        _call_with_one(meeting[MEETING.sleep], (meeting[MEETING.microseconds],))


@internal
def _raise(settings: Any, error: int) -> None:
    """Raise an error in this thread as soon as the ufunc that is running returns to Python.

    An inner loop has no way to report an error; without this the caller, its output not computed, would
    go on (think of Ctrl-C during the compilation).
    """
    state = _call_get(settings[SETTING.gil_ensure], ())
    _raise_under_gil(settings, error)
    _call_set(settings[SETTING.gil_release], (state,))


@internal
def _raise_under_gil(settings: Any, error: int) -> None:
    """Raise an error where Python does so for asynchronous ones, after a trial.

    Python 3.11 keeps a thread that it could not start, under the number of the one that tried, and would
    raise in that. Then the error is set here and now, and comes out as the cause of a SystemError.
    """
    thread = _call_get(settings[SETTING.thread_ident], ())
    _call_set_async_exc(settings[SETTING.set_async_exc], (thread, settings[SETTING.trial_error]))
    result = _call_with_one(settings[SETTING.call], (settings[SETTING.trial],))
    if result == 0:
        found = _call_get(settings[SETTING.error_occurred], ())
        if found != settings[SETTING.trial_error]:
            error = found  # of a signal handler
        _call_set_async_exc(settings[SETTING.set_async_exc], (thread, error))
        _call_get(settings[SETTING.clear_error], ())
    else:
        _call_set(settings[SETTING.release], (result,))
        _call_set(settings[SETTING.set_error], (error,))


@internal
def _call_python(settings: Any, function: int) -> Any:
    """Call a function of `fastact.runtime.threads.raised_by_driver`; return whether there was an error to raise.

    Nothing that it raises is lost, wherever it is interrupted: ctypes would print it and go on.
    """
    state = _call_get(settings[SETTING.gil_ensure], ())
    result = _call_with_one(settings[SETTING.call], (function,))
    if result == 0:
        error = _call_get(settings[SETTING.error_occurred], ())
        _call_set(settings[SETTING.keep], (error,))
        _call_get(settings[SETTING.clear_error], ())
        _raise_under_gil(settings, error)
        _call_set(settings[SETTING.release], (error,))
    else:
        if result != settings[SETTING.none]:
            _raise_under_gil(settings, result)
        _call_set(settings[SETTING.release], (result,))
    _call_set(settings[SETTING.gil_release], (state,))
    return result != settings[SETTING.none]


def drive(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
    """Run a loop over all its elements, on one thread or several."""
    record = words(data)
    settings = words(record[RECORD.settings])
    if record[RECORD.loop] == 0:
        # NumPy may call many times before Python raises the error: only the first time compiles.
        if record[RECORD.error] == 0 and _call_python(settings, record[RECORD.compile]):
            return
        if record[RECORD.error] != 0:
            _raise(settings, record[RECORD.error])
        if record[RECORD.loop] == 0:
            return
    status = _read_float_status()
    args = words(arguments)
    is_recurrence = (
        dimensions[0] > 1
        and record[RECORD.core_dimensions] == 0
        and _is_recurrence(args, steps, record[RECORD.inputs], record[RECORD.operands])
    )
    if is_recurrence:
        _run_one_by_one(args, dimensions, steps, record)
        _write_float_status(status)
        return
    threads = _thread_count(args, dimensions, steps, record, settings)
    streaming = 1 if _is_streaming(dimensions, steps, record, settings) else 0
    if threads > 1:
        _share(arguments, dimensions, steps, record, settings, threads, streaming)
    else:
        _call_loop(record[RECORD.loop], (arguments, dimensions, steps, streaming))
    _write_float_status(status)
