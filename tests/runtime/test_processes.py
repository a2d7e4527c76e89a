"""Threads, forks, threading layers and interrupts, as a process sees them that uses fastact."""

import os
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fresh_process import assert_clean, run_python, runner
from representatives import only_long

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
needs_two_cpus = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2 if hasattr(os, "sched_getaffinity") else os.cpu_count() == 1,
    reason="with one CPU no threads start",
)

# Numba says this where its user has started its pool on TBB in another thread than the one that forks.
FOREIGN_FORK = (
    "Numba: Attempted to fork from a non-main thread, the TBB library may be in an invalid state "
    "in the child process."
)

PRELUDE = """
import multiprocessing, os, signal, sys, threading, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
import numpy as np
import fastact as fa
from fresh_process import JOBS, LARGE, SMALL, check, check_all, in_fork

def check_both(seed=0):
    check_all(SMALL, seed)
    check_all(LARGE, seed)

def in_thread(work, *arguments):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work, *arguments).result()
"""

Run = Callable[..., str]


# The default is TBB where it is installed: see `test_layer`.
@pytest.fixture(params=["default", "omp", "workqueue", *only_long("tbb")])
def layer(request: pytest.FixtureRequest, require_layer: Callable[[str], str]) -> str:
    """Return a threading layer that the process is told to use."""
    return require_layer(request.param)


@pytest.fixture
def run(layer: str, warm_cache: Path) -> Run:
    """Run a script under the layer, with a warm cache; it must end well and complain of nothing."""
    return runner(PRELUDE, FASTACT_CACHE=str(warm_cache), NUMBA_THREADING_LAYER=layer)


@pytest.fixture
def run_default(warm_cache: Path) -> Run:
    """Run a script with a warm cache; it must end well and complain of nothing."""
    return runner(PRELUDE, FASTACT_CACHE=str(warm_cache))


# Threads


@pytest.mark.parametrize("count", [4, 8])
def test_threads(run: Run, count: int) -> None:
    """Python threads that all call at once, from the very first call on, small and large."""
    run(f"""
        barrier = threading.Barrier({count})

        def work(seed):
            jobs = list(JOBS)
            barrier.wait()
            for job in jobs[seed:] + jobs[:seed]:
                for _ in range(2):
                    check(job, SMALL, seed)
                    check(job, LARGE, seed)

        with ThreadPoolExecutor({count}) as pool:
            list(pool.map(work, range({count})))
    """)


USERS_FUNCTION = """
import numba

@numba.njit(parallel=True)
def users_function(x):
    total = 0.0
    for i in numba.prange(x.size):
        total += np.sqrt(x[i])
    return total

numbers = np.arange(100_000.0)
right = np.sqrt(numbers).sum()

def use(turns):
    for _ in range(turns):
        assert abs(users_function(numbers) - right) < 1e-9 * right
"""


def test_threads_beside_users_parallel_function(run: Run, layer: str) -> None:
    """Somebody else's parallel function runs in threads of its own at the same time."""
    # Two threads in such a function are more than workqueue allows, whatever fastact does.
    users = 1 if layer == "workqueue" else 2
    run(
        "check('sigmoid', LARGE)\n"
        + USERS_FUNCTION
        + textwrap.dedent(f"""
            use(1)
            barrier = threading.Barrier(4 + {users})

            def work(number):
                barrier.wait()
                if number < 4:
                    check_both(seed=number)
                else:
                    use(100)

            with ThreadPoolExecutor(4 + {users}) as pool:
                list(pool.map(work, range(4 + {users})))
        """)
    )


@needs_fork
def test_users_parallel_function_first(run_default: Run) -> None:
    """Numba's pool was there before fastact's first call."""
    run_default(
        USERS_FUNCTION
        + textwrap.dedent("""
            use(1)
            layer = numba.threading_layer()
            in_fork(check_both)
            check_both()
            use(1)
            assert numba.threading_layer() == layer
            in_fork(check_both)
        """)
    )


def test_nested_pools(run: Run) -> None:
    """Thread pools in threads of pools."""
    run("""
        def inner(seed):
            check_both(seed)
            return fa.relu(np.full(LARGE, seed, "f4")).sum()

        def outer(seed):
            with ThreadPoolExecutor(2) as pool:
                return list(pool.map(inner, [seed, seed + 1]))

        with ThreadPoolExecutor(3) as pool:
            sums = list(pool.map(outer, range(3)))
        assert sums == [[seed * LARGE, (seed + 1) * LARGE] for seed in range(3)], sums
    """)


MEASURE = """
        x = np.linspace(-5, 5, 4_000_000, dtype="f4")
        y = np.empty_like(x)
        fa.sigmoid(x, out=y)  # starts the pool

        def seconds_of_calls():
            own, all = time.thread_time(), time.process_time()
            for _ in range(10):
                fa.sigmoid(x, out=y)
            own, all = time.thread_time() - own, time.process_time() - all
            return own, all - own

        def check_is_serial():
            seconds_of_calls()  # threads of OpenMP wait awake for a while
            own, others = np.sum([seconds_of_calls() for _ in range(4)], axis=0)
            assert others < 0.2 * own, (own, others)
"""


@needs_two_cpus
def test_all_python_threads_share_their_calls(run: Run, layer: str) -> None:
    """Large calls use the pool from the main thread and from every other; none does under workqueue."""
    run(
        MEASURE
        + f"""
        if {layer!r} == "workqueue":
            check_use = check_is_serial
        else:
            def check_use():
                others, deadline = 0.0, time.monotonic() + 60
                while others < 0.02:
                    others += seconds_of_calls()[1]
                    assert time.monotonic() < deadline, others

        check_use()
        in_thread(check_use)
        in_thread(check_use)
        check_use()
        """
    )


# Numba's settings


@needs_two_cpus
def test_layer(run: Run, layer: str, installed_layers: set[str]) -> None:
    """The layer is the one asked for; TBB where it is installed and nothing is asked for."""
    threads, found = run("""
        check_both()
        from fastact.runtime.pool import POOL
        print(fa.get_num_threads(), POOL.layer)
    """).split()
    if layer == "default":
        layer = next(name for name in ("tbb", "omp", "workqueue") if name in installed_layers)
    # Numba's workqueue would abort the process when two threads use it.
    assert found == ("None" if layer == "workqueue" else layer)
    assert (int(threads) == 1) == (layer == "workqueue")


HIDE_TBB = {
    "not installed": "raise importlib.metadata.PackageNotFoundError(name)",
    "no list of files": "return None",
    "no files": "return []",
    "missing file": """
        path = importlib.metadata.PackagePath("lib/libtbb.so.12")
        path.dist = importlib.metadata.distribution("numpy")
        return [path]
    """,
}


@needs_two_cpus
@pytest.mark.parametrize("how", HIDE_TBB)
def test_missing_tbb(run_default: Run, how: str) -> None:
    """Without TBB the layer is the one that Numba alone would choose, OpenMP."""
    alone = run_python("import numba; numba.get_num_threads(); print(numba.threading_layer())")
    body = textwrap.indent(textwrap.dedent(HIDE_TBB[how]).strip(), "    ")
    found = run_default(f"""
import importlib.metadata
original = importlib.metadata.files

def files(name):
    if name != "tbb":
        return original(name)
{body}

importlib.metadata.files = files
check_both()
import numba
print(numba.threading_layer())
    """)
    assert found == alone.stdout


@pytest.mark.parametrize("name", ["tbb", "omp", "nonsense", "safe"])
def test_layer_that_is_missing(run_default: Run, name: str) -> None:
    """A layer that was asked for and is not there leaves calls serial."""
    run_default(
        """
        import importlib.metadata
        importlib.metadata.files = lambda name: None
        for missing in "tbb", "omp":
            sys.modules[f"numba.np.ufunc.{missing}pool"] = None
        check_both()
        assert fa.get_num_threads() == 1, fa.get_num_threads()
        """,
        NUMBA_THREADING_LAYER=name,
    )


def test_thread_mask_is_left_alone(run: Run) -> None:
    """Calls neither change the number of threads that Numba's user has set nor use more."""
    run("""
        import numba

        def check_mask():
            for number in range(1, numba.config.NUMBA_NUM_THREADS + 1):
                numba.set_num_threads(number)
                check_both()
                assert numba.get_num_threads() == number

        check_both()
        check_mask()
        in_thread(check_mask)
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(check_mask) for _ in range(4)]:
                done.result()

        in_fork(check_mask)
    """)


@needs_two_cpus
def test_thread_mask_is_respected(run: Run) -> None:
    """Under a mask of one thread, no other thread works."""
    run(
        MEASURE
        + """
        import numba

        def check_mask():
            numba.set_num_threads(1)
            check_is_serial()
            assert numba.get_num_threads() == 1

        check_mask()
        in_thread(check_mask)
        """
    )


# Forks


@needs_fork
def test_fork_after_use(run: Run) -> None:
    """A child calls after its parent has used threads; so do its own child and the parent."""
    run("""
        def family():
            check_both(1)
            in_fork(lambda: check_both(2))
            check_both(3)

        check_both()
        in_fork(family)
        check_both(4)
        in_fork(family)
        check_both(5)
    """)


@needs_fork
def test_fork_before_use(run: Run) -> None:
    """A child makes the first call, then the parent does."""
    run("""
        in_fork(check_both)
        check_both()
        in_fork(check_both)
    """)


@needs_fork
def test_fork_after_small_use(run: Run) -> None:
    """The child makes the first call that is large enough for threads."""
    run("""
        check_all(SMALL)
        in_fork(check_both)
        check_both()
    """)


@needs_fork
def test_forked_child_uses_threads(run: Run) -> None:
    """Python threads in a forked child all call at once."""
    # Threads end a moment after Python has joined them, and OpenMP's own after those: no library can promise
    # a child anything that was forked amid that.
    run(
        """
        def threads():
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(check_both, range(4)))
            time.sleep(0.2)

        in_fork(threads)
        threads()
        in_fork(threads)
        """,
    )


@needs_fork
@pytest.mark.parametrize("starter", ["main", "forking", "third"])
def test_fork_from_a_thread(run: Run, starter: str) -> None:
    """Another thread than the main one forks; the pool was started by either of them, or by a third."""
    start = {"main": "check_both()", "forking": "", "third": "in_thread(check_both)"}[starter]
    run(
        start
        + textwrap.dedent("""
            def work():
                check_both(1)
                in_fork(lambda: check_both(2))
                check_both(3)

            in_thread(work)
            in_thread(work)
            check_both(4)
        """),
    )


@needs_fork
def test_fork_from_main_of_a_threads_pool(run: Run) -> None:
    """The main thread forks after another thread has started the pool."""
    run(
        """
        in_thread(check_both)
        in_fork(check_both)
        check_both()
        in_fork(check_both)
        """,
    )


@needs_fork
def test_fork_from_main_of_a_users_threads_pool(run_default: Run) -> None:
    """Another thread has started Numba's pool, and not by fastact."""
    run_default(
        "from fastact.runtime import pool\ncheck('sigmoid', SMALL)\npool._preload_tbb()\n"
        + USERS_FUNCTION
        + textwrap.dedent("""
            in_thread(use, 1)
            in_fork(check_both)
            check_both()
            in_fork(check_both)
        """),
        allowed=FOREIGN_FORK,
    )


@needs_fork
def test_fork_amid_calls(run: Run) -> None:
    """The main thread forks while others are in the middle of large calls."""
    run("""
        check_both()
        x = np.linspace(-5, 5, 1_000_000, dtype="f4")
        right = fa.sigmoid(x)
        begun, finished = threading.Semaphore(0), threading.Event()
        wrong = []

        def work():
            y = np.empty_like(x)
            while not finished.is_set():
                begun.release()
                fa.sigmoid(x, out=y)
                if not np.array_equal(y, right):
                    wrong.append(y)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for seed in range(6):
            begun.acquire()
            in_fork(lambda: check_both(seed))
        finished.set()
        for thread in threads:
            thread.join()
        assert not wrong
        check_both()
    """)


@needs_fork
@pytest.mark.parametrize("imported", ["", "numba"])
def test_fork_amid_compilation(run_default: Run, tmp_path: Path, imported: str) -> None:
    """The main thread forks while another one compiles its first kernels."""
    run_default(
        f"""
        {imported and "import " + imported}
        from fastact.runtime import loading
        load, begun = loading.load, threading.Event()

        def load_and_tell(name, build, *signature):
            def build_and_tell():
                begun.set()
                return build()

            return load(name, build_and_tell, *signature)

        loading.load = load_and_tell
        def work():
            check("sigmoid", SMALL)
            check("relu", LARGE)

        thread = threading.Thread(target=check, args=("sigmoid", SMALL))
        thread.start()
        begun.wait()
        for _ in range(3):
            in_fork(work)
        thread.join()
        work()
        in_fork(work)
        """,
        FASTACT_CACHE=str(tmp_path),
    )


@needs_fork
@needs_two_cpus
def test_fork_amid_start_of_pool(run: Run) -> None:
    """The main thread forks while another one starts the pool."""
    run(
        """
        from fastact.runtime import pool
        preload, begun = pool._preload_tbb, threading.Event()

        def tell():
            begun.set()
            return preload()

        pool._preload_tbb = tell
        thread = threading.Thread(target=check, args=("sigmoid", LARGE))
        thread.start()
        begun.wait()
        for _ in range(3):
            in_fork(check_both)
        thread.join()
        check_both()
        in_fork(check_both)
        """,
    )


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(run: Run, method: str) -> None:
    """Workers of each kind call after their parent has."""
    if method not in __import__("multiprocessing").get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    run(f"""
        check_both()
        context = multiprocessing.get_context({method!r})
        arrays = [np.linspace(-5, 5, n, dtype="f4") for n in (SMALL, LARGE) * 2]
        right = [fa.sigmoid(x) for x in arrays]
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            for y, one in zip(pool.map(fa.sigmoid, arrays), right, strict=True):
                assert np.array_equal(y, one)
            for done in [pool.submit(check_all, LARGE, seed) for seed in range(4)]:
                done.result()
        process = context.Process(target=check_all, args=(LARGE,))
        process.start()
        process.join()
        assert process.exitcode == 0
        check_both()
    """)


# Interrupts and errors


def test_interrupt_of_calls(run: Run) -> None:
    """Ctrl-C in the midst of large calls is a KeyboardInterrupt, and calls go on to be right."""
    run("""
        check_both()
        x = np.linspace(-5, 5, 2_000_000, dtype="f4")
        right = fa.sigmoid(x)
        ready, set_ready = os.pipe()

        def interrupt():
            while os.read(ready, 1):
                os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        for _ in range(20):
            try:
                os.write(set_ready, b".")
                while True:
                    y = fa.sigmoid(x)
                    assert np.array_equal(y, right)
            except KeyboardInterrupt:
                pass
            assert np.array_equal(fa.sigmoid(x), right)
        check_both()
    """)


INTERRUPTED = """
original, calls = {place}, []

def interrupted(*arguments):
    calls.append(arguments)
    if len(calls) == {turn}:
        os.kill(os.getpid(), signal.SIGINT)
        signal.pthread_sigmask(signal.SIG_BLOCK, [])  # a system call: the signal is here
    return original(*arguments)

{place} = interrupted
try:
    check("sigmoid", {size})
    print("right")
except KeyboardInterrupt:
    print("interrupted")
assert len(calls) >= {turn}
check("sigmoid", {size})
check("sigmoid64", SMALL)
"""


@needs_fork  # such systems have these signals too
@pytest.mark.parametrize("turn", [1, 3])
@pytest.mark.parametrize(
    "place", ["compiler.compile_function", "kernel_cache.read", "kernel_cache.write"]
)
def test_interrupt_of_compilation(run_default: Run, tmp_path: Path, place: str, turn: int) -> None:
    """Ctrl-C while the first call compiles the inner loop (two functions) or the kernel."""
    script = INTERRUPTED.format(place=place, turn=turn, size="SMALL")
    script = "from fastact.runtime import compiler, kernel_cache\n" + script
    output = run_default(script, FASTACT_CACHE=str(tmp_path))
    assert output == "interrupted\n"


BREAK_LOAD = """
from fastact.runtime import loading, threads
threads.inner_loop_address()  # loaded: only kernels fail below
original = loading.load

def fail(name, build, *signature):
    raise {error}

loading.load = fail
x = np.linspace(-5, 5, {count}, dtype="f4")
"""


@pytest.mark.parametrize("count", [1, 1_000, 100_000])
def test_error_of_compiler(run_default: Run, count: int) -> None:
    """A kernel that cannot be compiled is an error that tells why; later calls try again."""
    run_default(
        BREAK_LOAD.format(error="ValueError('no such instruction')", count=count)
        + textwrap.dedent("""
            def check_error(call, *arguments, **options):
                try:
                    call(*arguments, **options)
                except RuntimeError as error:
                    assert "no such instruction" in str(error), str(error)
                    assert "ValueError" in str(error), str(error)
                else:
                    raise AssertionError("no error")

            def check_errors():
                check_error(fa.sigmoid, x)
                check_error(fa.sigmoid, x[0])
                check_error(fa.sigmoid, x, out=np.empty_like(x))
                check_error(fa.sigmoid, x, where=x < 0, out=x.copy())
                check_error(fa.sigmoid.forward_backward, x, x)
                check_error(fa.sigmoid, x.astype("i4"))
                check_error(fa.prelu.backward, x, x, 0.5)
                check_error(fa.maxout, np.concatenate([x, x]), 2)
                # The inner loop is called many times.
                check_error(fa.sigmoid, np.ones((50, 60, 70), "f4")[::2, ::2, ::2])
                check_error(fa.sigmoid, np.ones((500, 3), "f4")[:, ::2], dtype="f8")

            check_errors()
            in_thread(check_errors)
            y = fa.sigmoid(x[:0])
            assert y.shape == (0,)
            loading.load = original
            check_both()
        """)
    )


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("KeyboardInterrupt", "KeyboardInterrupt"),
        ("MemoryError('too little')", "RuntimeError"),
        ("SystemExit(3)", "SystemExit"),
        ("UnicodeDecodeError('utf-8', b'x', 0, 1, 'why')", "RuntimeError"),
    ],
)
def test_kind_of_error(run_default: Run, error: str, kind: str) -> None:
    """Only errors are wrapped; what ends a program stays what it is."""
    run_default(
        BREAK_LOAD.format(error=error, count=1_000)
        + textwrap.dedent(f"""
            for call in lambda: fa.sigmoid(x), lambda: fa.tanh.forward_backward(x, x):
                try:
                    call()
                except {kind}:
                    pass
                else:
                    raise AssertionError("no error")
            loading.load = original
            check_both()
        """)
    )


@needs_fork  # such systems have interval timers too
def test_interrupt_on_the_way_to_first_loop(run_default: Run) -> None:
    """Ctrl-C while NumPy prepares a call (here it copies the input) whose loop is not loaded yet."""
    run_default("""
        import sys
        from fastact.runtime import loading
        dropped = set()
        sys.unraisablehook = lambda lost: dropped.add(lost.exc_type)
        from fastact.functions import make_function
        from fastact.catalogue import catalogue
        x = np.linspace(-5, 5, 1_000_001, dtype="f4")
        right = fa.sigmoid(x)[:-1]
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        address = loading.load("sigmoid.forward.float32", None)
        loading.load = lambda name, build, *signature: address

        def call(delay):
            sigmoid = make_function(catalogue()["sigmoid"]).ufuncs["forward"]
            y = x.copy()
            try:
                signal.setitimer(signal.ITIMER_REAL, delay)
                sigmoid(y[:-1], out=y[1:])
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                return "interrupt"
            return "right" if np.array_equal(y[1:], right) else "wrong"

        def seconds():
            begin = time.perf_counter()
            call(100)
            return time.perf_counter() - begin

        usual = np.median([seconds() for _ in range(11)])
        outcomes = {call(delay) for delay in np.linspace(1e-5, usual, 1_000)}
        assert outcomes == {"right", "interrupt"}, outcomes
        assert not dropped, dropped
    """)


def test_error_of_inner_loop(run_default: Run, tmp_path: Path) -> None:
    """The inner loop itself cannot be compiled."""
    run_default(
        """
        from fastact.runtime import compiler
        original = compiler.compile_function

        def fail(build, signature):
            raise ValueError("no such instruction")

        compiler.compile_function = fail
        x = np.ones(5)
        for _ in range(2):
            try:
                fa.sigmoid(x)
            except Exception as error:
                assert "no such instruction" in str(error), str(error)
            else:
                raise AssertionError("no error")
        compiler.compile_function = original
        check("sigmoid", SMALL)
        check("sigmoid", LARGE)
        """,
        FASTACT_CACHE=str(tmp_path),
    )


# The environment

DIGESTS = """
import hashlib
x = np.linspace(-20, 20, 200_003, dtype="f4")
digest = hashlib.sha256()
for n in (0, 1, 7, 1_000, 40_000, x.size):
    results = [fa.sigmoid(x[:n]), *fa.tanh.forward_backward(x[:n], x[:n])]
    results += fa.prelu.backward(x[:n].astype("f8"), x[:n].astype("f8"), 0.25)
    for result in results:
        digest.update(np.asarray(result).tobytes())
print(fa.get_num_threads(), fa.get_parallel_threshold(), digest.hexdigest())
"""


def test_environment_variables(run_default: Run) -> None:
    """They set what they name, and results do not depend on them."""
    threads, threshold, digest = run_default(DIGESTS).split()
    cpus = int(threads)
    for given, expected in (("1", 1), ("2", min(2, cpus)), (" 1 ", 1), ("999", cpus), ("", cpus)):
        found = run_default(DIGESTS, FASTACT_NUM_THREADS=given).split()
        assert found == [str(expected), threshold, digest], given
    for given in ("1", "1000", "1000000000", ""):
        found = run_default(DIGESTS, FASTACT_PARALLEL_THRESHOLD=given).split()
        assert found == [threads, given or threshold, digest], given


@pytest.mark.parametrize("name", ["FASTACT_NUM_THREADS", "FASTACT_PARALLEL_THRESHOLD"])
@pytest.mark.parametrize(
    "value", ["0", "-1", "two", "1.5", "1e3", "1 2", "99999999999999999999999"]
)
def test_wrong_environment_variables(name: str, value: str) -> None:
    """A wrong value is an error that names the variable."""
    result = run_python(
        f"""
        try:
            import fastact
            print("imported", fastact.get_num_threads())
        except ValueError as error:
            assert {name!r} in str(error), str(error)
            assert {value!r} in str(error), str(error)
            print("refused")
        """,
        **{name: value},
    )
    output = assert_clean(result)
    assert output == "refused\n"


def test_numba_without_avx(run_default: Run, tmp_path: Path) -> None:
    """Numba is told to leave AVX alone, as it does by itself on some CPUs."""
    environment = {"NUMBA_ENABLE_AVX": "0", "FASTACT_CACHE": str(tmp_path)}
    run_default("check('sigmoid', SMALL); check('sigmoid', LARGE)", **environment)


@needs_two_cpus
def test_pool_without_numba(run_default: Run, installed_layers: set[str]) -> None:
    """With a warm cache and TBB nothing imports Numba; imported later, it finds the pool and can use it."""
    if "tbb" not in installed_layers:
        pytest.skip("the layer tbb is not installed")
    run_default(
        """
        before = len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else None
        check_both()
        assert "numba" not in sys.modules
        assert fa.get_num_threads() > 1
        if before is not None:
            assert len(os.listdir("/proc/self/task")) > before
        """
        + textwrap.indent(USERS_FUNCTION + "use(3)", " " * 8)
        + """
        assert numba.threading_layer() == "tbb"
        check_both()
        in_thread(use, 3)
        """
    )


@pytest.mark.parametrize(
    "environment", [{"FASTACT_NUM_THREADS": "1"}, {"FASTACT_PARALLEL_THRESHOLD": "1000000000"}]
)
def test_serial_calls_start_no_pool(run_default: Run, environment: dict[str, Any]) -> None:
    """Where no call is shared among threads, Numba is not even imported."""
    run_default("check_both(); assert 'numba' not in sys.modules", **environment)
