"""Processes that may start no threads, or have no memory for them: calls are right on one thread, or say what is missing."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fresh_process import runner
from test_processes import PRELUDE, needs_two_cpus

resource = pytest.importorskip("resource", reason="this system has no limits of resources")

Run = Callable[..., str]

LIMITS = """
import ctypes, resource, warnings

def limit_threads(count):
    # Root may start any number of threads: as another user, who can still read root's files.
    if os.getuid() == 0:
        os.setresuid(54_321, 54_321, 0)
        ctypes.CDLL(None).setfsuid(0)
    _, most = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (count, most))

def threads():
    return len(os.listdir("/proc/self/task"))

warned = []
warnings.showwarning = lambda message, kind, *place: warned.append((str(message), kind, place[0]))
"""


@pytest.fixture(params=["tbb", "omp"])
def layer(request: pytest.FixtureRequest, require_layer: Callable[[str], str]) -> str:
    """Return a threading layer that has a pool."""
    return require_layer(request.param)


@pytest.fixture
def run(layer: str, warm_cache: Path) -> Run:
    """Run a script under the layer, with a warm cache; it must end well and complain of nothing."""
    return runner(
        PRELUDE + LIMITS,
        FASTACT_CACHE=str(warm_cache),
        NUMBA_THREADING_LAYER=layer,
        OPENBLAS_NUM_THREADS="1",  # whose threads count as well
    )


CHECK_SERIAL = """
assert fa.get_num_threads() == 1
(message, kind, file), = warned
assert kind is RuntimeWarning and "one thread" in message and "FASTACT_NUM_THREADS=1" in message
assert "fastact" + os.sep not in file.replace("/tests/", ""), file
"""


@needs_two_cpus
@pytest.mark.parametrize("when", ["before anything", "after small calls", "in a thread"])
def test_no_thread_can_start(run: Run, when: str) -> None:
    """One thread serves where no other can be started, and one warning says so."""
    first = {"before anything": "", "after small calls": "check_all(SMALL)", "in a thread": ""}
    call = "in_thread(check_twice)" if when == "in a thread" else "check_twice()"
    count = 2 if when == "in a thread" else 1
    script = "def check_twice(): check_both(); check_both()\n"
    run(script + f"{first[when]}\nlimit_threads({count})\n{call}" + CHECK_SERIAL)


@needs_two_cpus
def test_warning_as_error(run: Run) -> None:
    """A warning that is an error comes out of the call; the next one is right."""
    run(
        """
        limit_threads(1)
        try:
            check("sigmoid", LARGE)
        except RuntimeWarning as error:
            assert "one thread" in str(error)
        else:
            raise AssertionError("no warning")
        check_both()
        """,
        "-W",
        "error::RuntimeWarning",
    )


def test_error_after_a_thread_that_did_not_start(run: Run) -> None:
    """Python 3.11 keeps a thread that it could not start, and raises asynchronous errors there: none is lost."""
    run("""
        from fastact.runtime import loading
        check("sigmoid", SMALL)
        limit_threads(1)
        try:
            threading.Thread(target=print).start()
        except RuntimeError:
            pass

        load, x = loading.load, np.ones(5, "f4")

        def fail(name, build, *signature):
            raise ValueError("no such instruction")

        for _ in range(2):
            loading.load = fail
            try:
                fa.sigmoid.derivative(x)
            except (RuntimeError, SystemError) as error:
                assert "no such instruction" in str(error) + str(error.__cause__), repr(error)
            else:
                raise AssertionError("no error")
            loading.load = load
            check("sigmoid64", SMALL)
    """)


@needs_two_cpus
def test_as_many_threads_as_are_needed(run: Run) -> None:
    """Where the limit is just high enough, threads start, and nobody is warned."""
    run("""
        needed = fa.get_num_threads()
        limit_threads(needed)
        check_both()
        assert fa.get_num_threads() == needed and threads() == needed
        assert not warned
    """)


@needs_two_cpus
def test_no_more_threads_can_start(run: Run) -> None:
    """The pool runs when a limit is set: the main thread keeps it, others use it or do without."""
    run("""
        check_both()
        before = threads()
        limit_threads(before + 2)
        ready, finished = threading.Barrier(3), threading.Event()

        def work(seed):
            ready.wait()
            for _ in range(3):
                check_both(seed)
            finished.wait()

        workers = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
        for worker in workers:
            worker.start()
        ready.wait()
        check_both()
        finished.set()
        for worker in workers:
            worker.join()
        check_both()
        assert len(warned) <= 1, warned
    """)


@needs_two_cpus
def test_no_more_threads_after_a_fork(run: Run) -> None:
    """A limit is set after a fork, before which TBB may have ended its threads."""
    run("""
        check_both()
        in_fork(check_both)
        limit_threads(1)
        check_both()
        check_both()
        assert len(warned) <= 1, warned
    """)


@needs_two_cpus
def test_limit_of_a_mask(run: Run) -> None:
    """Numba's user narrows the mask and widens it again: OpenMP then starts threads anew."""
    run("""
        import numba
        check_both()
        numba.set_num_threads(1)
        check_both()
        limit_threads(1)
        numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
        check_both()
        assert numba.get_num_threads() == numba.config.NUMBA_NUM_THREADS
        assert len(warned) <= 1, warned
    """)


@contextlib.contextmanager
def group_of_processes(most: int) -> Iterator[Path]:
    """Make a control group that allows so many threads."""
    for root in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")):
        group = root / f"fastact-test-{os.getpid()}"
        try:
            group.mkdir()
            (group / "pids.max").write_text(str(most))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        try:
            yield group / "cgroup.procs"
        finally:
            with contextlib.suppress(OSError):
                group.rmdir()
        return
    pytest.skip("no control group can be made here")


@needs_two_cpus
@pytest.mark.parametrize("most", [1, 2])
def test_container_without_threads(run: Run, most: int) -> None:
    """A container's limit on processes, which holds for root as well."""
    with group_of_processes(most) as members:
        enter = f"Path({str(members)!r}).write_text(str(os.getpid()))"
        check = CHECK_SERIAL if most == 1 else "assert fa.get_num_threads() == 2 and not warned"
        run(f"from pathlib import Path\n{enter}\ncheck_both()\ncheck_both()\n{check}")


@needs_two_cpus
@pytest.mark.parametrize("is_warm", [True, pytest.param(False, marks=pytest.mark.long)])
@pytest.mark.parametrize("step", [60, pytest.param(4, marks=pytest.mark.long, id="small steps")])
def test_little_memory(run: Run, tmp_path: Path, is_warm: bool, step: int) -> None:
    """Whatever the limit of address space: a right result or an error of Python's, no abort and no hang."""
    environment = {} if is_warm else {"FASTACT_CACHE": str(tmp_path)}
    outcomes = run(
        f"""
        def child(room):
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + room,) * 2)
            try:
                check_both()
            except (MemoryError, ImportError):
                os._exit(3)
            os._exit(0)

        for room in range(8, 1300, {step}):
            child_id = os.fork()
            if child_id == 0:
                signal.alarm(200)
                child(room << 20)
            print(os.waitstatus_to_exitcode(os.waitpid(child_id, 0)[1]))
        """,
        **environment,
    ).split()
    assert set(outcomes) == {"0", "3"}, outcomes
    assert outcomes[-1] == "0", outcomes
