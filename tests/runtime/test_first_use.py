"""The first use of anything: forks, signals and other threads in its midst, and what Numba's users pay for it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fresh_process import assert_clean, run_python, runner
from test_processes import PRELUDE, needs_fork, needs_two_cpus

Run = Callable[..., str]

EVERYTHING = """
def own_function(x, beta=1.5):
    return x * fa.math.logistic(beta * x)

x = np.linspace(-3, 3, 240, dtype="f4").reshape(12, 20)
labels = np.arange(12) % 20
calls = [
    lambda: fa.gelu(x),
    lambda: fa.elu.forward_backward(x, x, alpha=0.5),
    lambda: fa.leaky_relu(x, convention="tensorflow"),
    lambda: fa.get("swish", beta=1.5)(x),
    lambda: fa.gelu(x, bias=np.ones(20, "f4"), dropout=0.1, rng=1),
    lambda: fa.prelu.forward_backward(x, x, weight=np.full(20, 0.25, "f4")),
    lambda: fa.maxout.forward_with_index(x, pieces=2),
    lambda: fa.rrelu(x),
    lambda: fa.softmax(x, axis=0, where=x > -2),
    lambda: fa.gumbel_softmax(x, rng=1, hard=True),
    lambda: fa.logsumexp.forward_backward(x, np.ones(12, "f4")),
    lambda: fa.softmax_cross_entropy.forward_backward(x, labels),
    lambda: fa.sigmoid_binary_cross_entropy(x, x > 0),
    lambda: fa.dropout(x, 0.1, rng=1),
    lambda: fa.swiglu(x),
    lambda: fa.crelu(x),
    lambda: fa.math.exp(x),
    lambda: fa.activation(own_function)(x),
    lambda: fa.relu(np.ones(300_000)),
    lambda: fa.sigmoid.ufuncs["backward"](x, x),
]

def use_everything():
    mistakes = [
        lambda: fa.gelus(x),
        lambda: fa.get("gelus"),
        lambda: fa.gelu("text"),
        lambda: fa.gelu(x, slope=1),
        lambda: fa.dropout(x, 0.1, rng="seed"),
        lambda: fa.dropout(x, 0.1),
        lambda: fa.rrelu(x, rng="seed"),
        lambda: fa.relu(x, out=np.empty(3)),
        lambda: fa.relu(x.astype("c8")),
        lambda: fa.activation(lambda x: x.upper())(x),
        lambda: fa.set_num_threads(10**9),
    ]
    results = [call() for call in calls]
    for mistake in mistakes:
        try:
            mistake()
        except (TypeError, ValueError, AttributeError, RuntimeError):
            pass
        else:
            raise AssertionError("no error")
    return results
"""


@pytest.fixture(scope="session")
def full_cache(filled_by: Callable[[str], Path]) -> Path:
    """Return a cache folder with all kernels that `EVERYTHING` and the jobs need."""
    return filled_by(PRELUDE + EVERYTHING + "check_both(); use_everything()")


@pytest.fixture
def run(full_cache: Path) -> Run:
    """Run a script with a warm cache; it must end well and complain of nothing."""
    return runner(PRELUDE, FASTACT_CACHE=str(full_cache))


@pytest.fixture(params=["tbb", "omp"])
def layer(request: pytest.FixtureRequest, require_layer: Callable[[str], str]) -> str:
    """Return a threading layer that has a pool."""
    return require_layer(request.param)


# Imports


@pytest.mark.parametrize("is_warm", [True, pytest.param(False, marks=pytest.mark.long)])
def test_imports_are_under_the_lock(run: Run, tmp_path: Path, is_warm: bool) -> None:
    """No call imports anything while forks do not wait for it: a child would wait for ever for the import's lock."""
    environment = {} if is_warm else {"FASTACT_CACHE": str(tmp_path)}
    output = run(
        EVERYTHING
        + """
import fastact.system.first_use as first_use

unprotected = []

def note(event, arguments):
    if event == "import" and not first_use._lock._is_owned() and not first_use._is_compiling():
        unprotected.append(arguments[0])

sys.addaudithook(note)
use_everything()
in_thread(use_everything)
print(unprotected)
""",
        **environment,
    )
    assert output == "[]\n"


def test_other_users_of_numba_import_nothing(run: Run) -> None:
    """A process that compiles something with Numba meets the entry point alone, and no fork waits for anybody."""
    output = assert_clean(
        run_python("""
            import os, sys
            import numba

            registered = []
            register = os.register_at_fork

            def note(**functions):
                registered.extend(getattr(each, "__module__", "") for each in functions.values())
                register(**functions)

            os.register_at_fork = note

            @numba.njit
            def add(a, b):
                return a + b

            assert add(1, 2) == 3
            print(sorted(name for name in sys.modules if name.partition(".")[0] == "fastact"))
            print([name for name in registered if str(name).startswith("fastact")])
        """)
    )
    modules, registered = map(eval, output.splitlines())
    assert set(modules) <= {
        "fastact",
        "fastact.system",
        "fastact.system.first_use",
        "fastact.system.hooks",
        "fastact.numba_support",
        "fastact.numba_support.extension",
    }
    assert registered == []


# Forks

STORM = """
import random
np.random.default_rng()  # whose import is the test's own

def storm(seed, forks):
    chosen = random.Random(seed)
    barrier = threading.Barrier(9)

    def call():
        check(chosen.choice(list(JOBS)), chosen.choice([SMALL, LARGE]))
        for function in chosen.sample(calls, 3):
            function()

    def work():
        barrier.wait()
        for _ in range(4):
            call()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    barrier.wait()
    for _ in range(forks):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(60)
                call()
                status = 0
            finally:
                os._exit(status)
        children.append(child)
        time.sleep(chosen.uniform(0, 0.01))
    for thread in threads:
        thread.join()

children = []
"""


@needs_fork
@pytest.mark.parametrize("storms", [1, pytest.param(100, marks=pytest.mark.long, id="100 storms")])
def test_fork_storms(run: Run, storms: int, tmp_path: Path) -> None:
    """The main thread forks while eight others are in their first calls; every child can call."""
    for seed in range(storms):
        run(
            EVERYTHING
            + STORM
            + f"""
storm({seed}, 24)
statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
assert not any(statuses), statuses
"""
        )


IN_HANDLER = """
import fastact.{module} as place

original, children = place.{function}, []

def interrupted(*arguments):
    place.{function} = original
    signal.raise_signal(signal.SIGUSR1)
    return original(*arguments)

def handle(number, frame):
    children.append(os.fork())
    if children[-1] == 0:
        signal.alarm(100)
        if {in_handler}:
            check_both()
            os._exit(0)

signal.signal(signal.SIGUSR1, handle)
place.{function} = interrupted
check("sigmoid", LARGE)
check_both()
assert len(children) == 1
if children == [0]:
    os._exit(0)
_, status = os.waitpid(children[0], 0)
assert os.waitstatus_to_exitcode(status) == 0, status
"""

# Where a signal arrives: while the pool starts, while a kernel is read, while a ufunc is made.
PLACES = [
    ("runtime.pool", "_preload_tbb"),
    ("runtime.kernel_cache", "read"),
    ("system.numpy_api", "ufunc_function"),
]


@needs_fork
@needs_two_cpus
@pytest.mark.parametrize("in_handler", [True, False])
@pytest.mark.parametrize(("module", "function"), PLACES)
def test_fork_in_a_handler(run: Run, module: str, function: str, in_handler: bool) -> None:
    """A handler forks in the midst of a first use; the child calls at once, or returns and goes on."""
    run(IN_HANDLER.format(module=module, function=function, in_handler=in_handler))


@needs_fork
@needs_two_cpus
def test_fork_after_many_threads(run: Run) -> None:
    """The main thread forks while eight others, which have used the pool, are there: nobody says a word."""
    output = run("""
        check_both()
        used, finished = threading.Barrier(9), threading.Event()

        def work(seed):
            check_both(seed)
            used.wait()
            finished.wait()

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        used.wait()
        in_fork(check_both)
        in_thread(in_fork, check_both)
        finished.set()
        for thread in threads:
            thread.join()
        check_both()
    """)
    assert output == ""


@needs_fork
def test_users_compilation_amid_a_fork(run: Run) -> None:
    """A fork waits for what another thread compiles with Numba, whose lock the child would never get."""
    run(
        """
        import numba
        from numba.core import compiler

        begun, run_passes = threading.Event(), compiler.CompilerBase._compile_core

        def tell(self):
            begun.set()
            time.sleep(0.2)
            return run_passes(self)

        compiler.CompilerBase._compile_core = tell

        @numba.njit
        def users(x):
            return fa.gelu(x) + 1

        check("relu", SMALL)
        thread = threading.Thread(target=users, args=(1.0,))
        thread.start()
        begun.wait()

        def child():
            signal.alarm(100)
            fa.activation(lambda x: x * 3)(np.ones(3))

        in_fork(child)
        thread.join()
        """
    )


# Signals

INTERRUPTED = """
import fastact.{module} as place

original = place.{function}

def interrupted(*arguments):
    place.{function} = original
    os.kill(os.getpid(), signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, [])  # a system call: the signal is here
    return original(*arguments)

place.{function} = interrupted
try:
    check("sigmoid", LARGE)
except KeyboardInterrupt:
    print("interrupted")
check("sigmoid", LARGE)
check_both()
"""


@needs_fork  # such systems have these signals too
@needs_two_cpus
@pytest.mark.parametrize(("module", "function"), PLACES)
def test_interrupt_of_first_call(run: Run, layer: str, module: str, function: str) -> None:
    """Ctrl-C while the pool starts comes out of the call, and the next one uses the pool."""
    script = INTERRUPTED.format(module=module, function=function)
    output = run(script + "assert fa.get_num_threads() > 1", NUMBA_THREADING_LAYER=layer)
    assert output == "interrupted\n"


@needs_fork
@pytest.mark.parametrize("module", ["numba", "numba.core.types", "numba.core.dispatcher"])
def test_interrupt_of_numbas_import(run: Run, tmp_path: Path, module: str) -> None:
    """Ctrl-C while Numba is imported leaves no half of it behind."""
    output = run(
        f"""
        def interrupt(event, arguments):
            if event == "import" and arguments[0] == {module!r} and not done:
                done.append(True)
                os.kill(os.getpid(), signal.SIGINT)

        done = []
        sys.addaudithook(interrupt)
        try:
            check("sigmoid", SMALL)
        except KeyboardInterrupt:
            print("interrupted")
        check("sigmoid", SMALL)
        """,
        FASTACT_CACHE=str(tmp_path),
    )
    assert output == "interrupted\n"


@needs_fork
@needs_two_cpus
@pytest.mark.parametrize("count", [10, pytest.param(1_000, marks=pytest.mark.long)])
def test_interrupt_at_any_time(run: Run, layer: str, count: int) -> None:
    """Ctrl-C at some moment of a process's first call: it comes out of the call, and the next one is right."""
    run(
        f"""
        import fastact.functions.registry, fastact.runtime.threads

        def child(delay):
            called = []

            def handle(number, frame):
                called.append(number)
                raise KeyboardInterrupt

            signal.signal(signal.SIGALRM, handle)
            caught = False
            try:
                signal.setitimer(signal.ITIMER_REAL, delay)
                fa.sigmoid(x)
                is_over.append(True)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                caught = True
            assert caught == bool(called), (caught, called)
            check("sigmoid", LARGE)
            check("tanh", SMALL)

        x, is_over = np.linspace(-5, 5, LARGE, dtype="f4"), []
        begin = time.perf_counter()
        in_fork(lambda: child(100))
        whole = time.perf_counter() - begin
        for delay in np.linspace(1e-5, whole, {count}):
            in_fork(lambda: child(delay))
        """,
        NUMBA_THREADING_LAYER=layer,
    )


@needs_fork
def test_error_of_a_handler(run: Run) -> None:
    """What another handler raises comes out as it is, from calls through C as well, and once."""
    run("""
        import functools
        from fastact.runtime import kernel_cache
        original = kernel_cache.read

        def interrupted(name):
            signal.raise_signal(signal.SIGALRM)
            return original(name)

        class Late(Exception):
            def __init__(self, reason, number):
                super().__init__(reason, number)

        def handle(number, frame):
            calls.append(number)
            raise Late("too late", number)

        signal.signal(signal.SIGALRM, handle)
        x = np.ones(5, "f4")
        ways = [
            lambda: fa.elu(x),
            lambda: fa.softsign.ufuncs["forward"](x),
            lambda: list(map(fa.tanh, [x, x])),
            functools.partial(fa.mish, x),
            lambda: fa.softmax(x),
            lambda: fa.dropout(x, 0.5, rng=1),
        ]
        for way in ways:
            calls = []
            kernel_cache.read = interrupted
            try:
                way()
            except Late as error:
                assert error.args == ("too late", signal.SIGALRM), error.args
            else:
                raise AssertionError("lost")
            finally:
                kernel_cache.read = original
            assert calls
            way()
        """)


@needs_fork
def test_handlers_are_left_as_they_were(run: Run) -> None:
    """A signal that waits is seen once, by its handler and by an event loop, and handlers are put back."""
    run("""
        import asyncio
        from fastact.runtime import kernel_cache
        original = kernel_cache.read

        def interrupted(name):
            kernel_cache.read = original
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGUSR2)
            return original(name)

        async def main():
            seen = []
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
            signal.signal(signal.SIGUSR2, lambda number, frame: seen.append(2))
            before = [signal.getsignal(number) for number in signal.valid_signals()]
            kernel_cache.read = interrupted
            check("sigmoid", SMALL)
            assert [signal.getsignal(number) for number in signal.valid_signals()] == before
            assert seen == [2], seen
            await asyncio.sleep(0.05)
            assert seen == [2, 1], seen

        asyncio.run(main())
    """)


@needs_fork
@pytest.mark.parametrize("signals", [["SIGINT"], ["SIGINT", "SIGUSR1"]])
def test_interrupt_of_a_fork_that_waits(run: Run, signals: list[str]) -> None:
    """Ctrl-C while a fork waits for another thread's first use comes out of the fork, and in the parent only."""
    output = run(f"""
        from fastact.runtime import loading
        load, begun = loading.load, threading.Event()

        def load_slowly(name, build, *signature):
            def build_slowly():
                begun.set()
                time.sleep(1)
                return build()

            return load(None, build_slowly, *signature)

        loading.load = load_slowly
        signal.signal(signal.SIGUSR1, lambda number, frame: print("another"))
        thread = threading.Thread(target=check, args=("sigmoid", SMALL))
        thread.start()
        begun.wait()

        def interrupt():
            time.sleep(0.2)
            for name in {signals}:
                os.kill(os.getpid(), getattr(signal, name))

        threading.Thread(target=interrupt).start()
        parent = os.getpid()
        try:
            child = os.fork()
            if child == 0:
                os._exit(0)
            for _ in range(10):
                pass
        except KeyboardInterrupt:
            print("interrupted")
        assert os.getpid() == parent
        thread.join()
        status = os.waitstatus_to_exitcode(os.waitpid(-1, 0)[1])
        assert status == 0, status
    """)
    assert sorted(output.split()) == sorted(["interrupted", "another"][: len(signals)])
