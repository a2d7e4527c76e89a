"""The crew: threads of fastact's own that help callers, and stay awake for a moment between two calls.

The protocol, of which all steps are sequentially consistent:

1. A caller takes a free job, from state 0 to ``SEAT``, or computes alone if there is none. It fills the job in, opens it by adding
   a seat for each helper, rings the bell, and wakes helpers that are asleep, but waits for none.
2. Member k enters a job that has a seat k by raising its state by one, in one step with the check that it is open. Only inside does
   it read the job, and through it the caller's stack.
3. All who are there claim chunks from cursors: first those of the share that belongs to their seat, so that a repeated call finds
   its data in the caches of the same cores, and then what is left of the others' shares.
4. When there is no chunk left, the caller closes the job by taking the seats away, waits until nobody is inside, and frees it.
   So a member that sleeps, is preempted or does not exist costs nothing; one that is inside, at most a chunk.
5. A member notes the bell, visits all jobs once, and waits for the bell to change: at first awake, then asleep. It says that it is
   asleep before it looks at the bell a last time; the caller rings before it looks who is asleep. Who takes the word "asleep" back
   decides: a waker then owes the semaphore one post, and the sleeper awaits it.
"""

from __future__ import annotations

import time
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastact.simd.compilable import internal
from fastact.simd.lowering import call_llvm
from fastact.simd.memory import address_of, call_at, stack, words, words_behind
from fastact.system.memory_layout import CREW, JOB, JOBS, LINE, MEMBER, SEAT, WORD
from fastact.system.target import TARGET

# From the end of a job on, in nanoseconds. To wake a member takes longer than most calls that are just large enough for two
# threads; within this time comes the next call of a loop that does something else in between.
_STAYS_AWAKE = 100_000
_POLLS = 32  # between two looks at the clock
# By each who comes to a job: so the number awake doubles and more in the time of one wake-up.
_MOST_WOKEN = 2
_MONOTONIC = getattr(time, "CLOCK_MONOTONIC", 0)
_INT = 2**32 - 1  # the half of a register in which C returns an int

_call_void_4 = call_at(types.void, 4)
_call_0 = call_at(types.intp, 0)
_call_1 = call_at(types.intp, 1)
_call_2 = call_at(types.intp, 2)
_new_word = stack(1)
_timespec = stack(2)


@intrinsic
def _load(context: Any, pointer: Any) -> Any:
    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        return builder.load_atomic(values[0], "seq_cst", WORD)

    return types.intp(pointer), emit


@intrinsic
def _swap(context: Any, pointer: Any, value: Any) -> Any:
    """Store a word, and return what was there."""

    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        return builder.atomic_rmw("xchg", *values, "seq_cst")

    return types.intp(pointer, types.intp), emit


@intrinsic
def _add(context: Any, pointer: Any, value: Any) -> Any:
    """Add to a word, and return what was there."""

    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        return builder.atomic_rmw("add", *values, "seq_cst")

    return types.intp(pointer, types.intp), emit


@intrinsic
def _replace(context: Any, pointer: Any, expected: Any, value: Any) -> Any:
    """Store a word if an expected one is there; return whether it was."""

    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        result = builder.cmpxchg(*values, "seq_cst", "seq_cst")
        return builder.zext(builder.extract_value(result, 1), ir.IntType(64))

    return types.intp(pointer, types.intp, types.intp), emit


@intrinsic
def _pause(context: Any) -> Any:
    """Leave the core to its other thread for a moment."""

    def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
        if TARGET.is_x86:
            call_llvm(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
        elif TARGET.is_arm:
            yield_hint = ir.Constant(ir.IntType(32), 1)
            call_llvm(builder, "llvm.aarch64.hint", ir.VoidType(), [yield_hint])
        return context.get_dummy_value()

    return types.void(), emit


@internal
def _job(crew: Any, number: int) -> Any:
    size = JOB.cursors + LINE * crew[CREW.members]
    return words_behind(words(crew[CREW.jobs]), number * size)


@internal
def _wake(crew: Any, seats: int) -> None:
    """Wake some members that are asleep and have a seat."""
    left, index = _MOST_WOKEN, 1
    while left > 0 and index < seats:
        member = words_behind(crew, CREW.first_member + index * MEMBER.size)
        if _load(member) != 0 and _swap(member, 0) != 0:
            _call_1(crew[CREW.sem_post], (words_behind(member, MEMBER.semaphore),))
            left -= 1
        index += 1


@internal
def _work(crew: Any, job: Any, seat: int, seats: int) -> None:
    """Run chunks until there are none left."""
    task, chunks = job[JOB.task], job[JOB.chunks]
    position, one = _new_word(), _new_word()
    one[0] = 1
    share = seat
    for _ in range(seats):
        cursor = words_behind(job, JOB.cursors + share * LINE)
        end = (share + 1) * chunks // seats
        while _load(cursor) < end:
            chunk = _add(cursor, 1)
            if chunk < end:
                position[0] = task + chunk
                _call_void_4(crew[CREW.run_chunk], (position, one, one, task))
        share = share + 1 if share + 1 < seats else 0


@internal
def run_by_crew(crew: Any, task: Any, chunks: int, seats: int) -> bool:
    """Run the chunks of a task on the calling thread and members of the crew; return whether there was a free job."""
    for number in range(JOBS):
        job = _job(crew, number)
        if _load(job) == 0 and _replace(job, 0, SEAT) != 0:
            job[JOB.task], job[JOB.chunks] = address_of(task), chunks
            for share in range(seats):
                job[JOB.cursors + share * LINE] = share * chunks // seats
            helpers = (seats - 1) * SEAT
            _add(job, helpers)
            _add(crew, 1)
            _wake(crew, seats)
            _work(crew, job, 0, seats)
            _add(job, -helpers)
            polls = 0
            while _load(job) != SEAT:
                _pause()
                polls += 1
                if polls % _POLLS == 0:  # who is inside may need this CPU
                    _call_0(crew[CREW.sched_yield], ())
            _swap(job, 0)
            return True
    return False


@internal
def _visit(crew: Any, job: Any, seat: int) -> None:
    """Help with a job if it is open."""
    state = _load(job)
    while seat < state // SEAT:
        if _replace(job, state, state + 1) != 0:
            _wake(crew, state // SEAT)
            _work(crew, job, seat, state // SEAT)
            _add(job, -1)
            return
        state = _load(job)


@internal
def _now(crew: Any) -> Any:
    """Return the time in nanoseconds."""
    timespec = _timespec()
    _call_2(crew[CREW.clock], (_MONOTONIC, timespec))
    return timespec[0] * 10**9 + timespec[1]


@internal
def _await(crew: Any, member: Any, bell: int) -> None:
    """Wait until the bell has been rung."""
    end = _now(crew) + _STAYS_AWAKE
    while _now(crew) < end:
        for _ in range(_POLLS):
            if _load(crew) != bell:
                return
            _pause()
        # Others may need this CPU: the caller itself, where the member was woken on its CPU.
        _call_0(crew[CREW.sched_yield], ())
    _swap(member, 1)
    if _load(crew) != bell and _swap(member, 0) != 0:
        return
    while _call_1(crew[CREW.sem_wait], (words_behind(member, MEMBER.semaphore),)) & _INT != 0:
        pass  # interrupted


def crew_member(address: Any) -> Any:
    """Be a member of the crew, for ever."""
    member = words(address)
    crew = words(member[MEMBER.crew])
    seat = member[MEMBER.seat]
    bell = -1
    while bell != 0:  # always
        bell = _load(crew)
        for number in range(JOBS):
            _visit(crew, _job(crew, (number + seat) % JOBS), seat)
        _await(crew, member, bell)
    return 0
