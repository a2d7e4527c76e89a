"""Code from the cache is run: only files that nobody else can have written, whole ones, and none is left behind."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from fresh_process import assert_clean, finish, run_python, start_python

from fastact.runtime import cache_folder, kernel_cache

CODE = b"machine code" * 100
STRANGER = 12_345  # a user that nobody is
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of a cache with one entry, as a process finds it that begins."""
    tmp_path.chmod(0o755)
    place = tmp_path / "above" / "cache"
    monkeypatch.setenv("FASTACT_CACHE", str(place))
    begin_anew()
    kernel_cache.write("kernel", CODE)
    assert kernel_cache.read("kernel") == CODE
    begin_anew()
    yield place
    monkeypatch.undo()
    begin_anew()


def begin_anew() -> None:
    """Forget what this process knows of its cache."""
    for function in (cache_folder.directory, cache_folder.distrust, cache_folder.warn):
        function.cache_clear()


def entry_in(folder: Path) -> Path:
    return folder / str(kernel_cache.key("kernel"))


def test_what_is_written_can_be_read_by_all_and_written_by_one(folder: Path) -> None:
    """Whatever the umask; so root can fill the cache of an image for the users of its services."""
    for umask in (0o000, 0o002, 0o022):
        before = os.umask(umask)
        try:
            kernel_cache.write(f"kernel {umask}", CODE)
            os.environ["FASTACT_CACHE"] = str(folder / f"deeper{umask}" / "still")
            begin_anew()
            kernel_cache.write("kernel", CODE)
            assert kernel_cache.read("kernel") == CODE
        finally:
            os.umask(before)
            os.environ["FASTACT_CACHE"] = str(folder)
            begin_anew()
    for path in folder.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def open_the_folder(folder: Path) -> Path:
    folder.chmod(0o777)
    return folder


def open_it_to_the_group(folder: Path) -> Path:
    folder.chmod(0o775)
    return folder


def open_a_folder_above(folder: Path) -> Path:
    folder.parent.chmod(0o777)
    return folder.parent


def make_it_sticky(folder: Path) -> Path:
    """Everybody can put files into it, though nobody can take them away."""
    folder.chmod(0o1777)
    return folder


def give_the_folder_away(folder: Path) -> Path:
    os.chown(folder, STRANGER, STRANGER)
    return folder


def give_a_folder_above_away(folder: Path) -> Path:
    os.chown(folder.parent, STRANGER, STRANGER)
    return folder.parent


def link_to_an_open_folder(folder: Path) -> Path:
    target = folder.with_name("elsewhere")
    folder.rename(target)
    target.chmod(0o777)
    folder.symlink_to(target)
    return target


def link_below_an_open_folder(folder: Path) -> Path:
    opened = folder.parent.parent / "opened"
    folder.parent.rename(opened)
    opened.chmod(0o777)
    folder.parent.symlink_to(opened)
    return opened


FOLDERS = [
    open_the_folder,
    open_it_to_the_group,
    open_a_folder_above,
    make_it_sticky,
    link_to_an_open_folder,
    link_below_an_open_folder,
    pytest.param(give_the_folder_away, marks=as_root),
    pytest.param(give_a_folder_above_away, marks=as_root),
]


@pytest.mark.parametrize("spoil", FOLDERS)
def test_a_folder_that_others_can_change_is_not_used(folder: Path, spoil: object) -> None:
    place = spoil(folder)  # type: ignore[operator]
    before = sorted(folder.iterdir())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert kernel_cache.read("kernel") is None
        kernel_cache.write("other", CODE)
        assert kernel_cache.read("other") is None
    assert [each.category for each in caught] == [RuntimeWarning]
    assert "FASTACT_CACHE" in str(caught[0].message)
    assert str(place) in str(caught[0].message)
    assert sorted(folder.iterdir()) == before


def test_a_sticky_folder_above_is_safe(folder: Path) -> None:
    """As /tmp is: others can make files there, but not take the place of this one."""
    folder.parent.chmod(0o1777)
    assert kernel_cache.read("kernel") == CODE


def test_a_link_to_a_safe_folder_is_followed_once(folder: Path) -> None:
    target = folder.with_name("elsewhere")
    folder.rename(target)
    folder.symlink_to(target)
    assert kernel_cache.read("kernel") == CODE
    assert cache_folder.directory() == target


def open_the_entry(entry: Path) -> None:
    entry.chmod(0o666)


def open_it_to_its_group(entry: Path) -> None:
    entry.chmod(0o664)


def give_the_entry_away(entry: Path) -> None:
    os.chown(entry, STRANGER, STRANGER)


@pytest.mark.parametrize(
    "spoil",
    [open_the_entry, open_it_to_its_group, pytest.param(give_the_entry_away, marks=as_root)],
)
def test_an_entry_that_others_can_change_is_made_anew(folder: Path, spoil: object) -> None:
    spoil(entry_in(folder))  # type: ignore[operator]
    with pytest.warns(RuntimeWarning, match="is not safe"):
        assert kernel_cache.read("kernel") is None
    kernel_cache.write("kernel", CODE)
    assert kernel_cache.read("kernel") == CODE


def put_a_link(entry: Path) -> None:
    entry.rename(entry.with_name("moved"))
    entry.symlink_to(entry.with_name("moved"))


def put_a_pipe(entry: Path) -> None:
    entry.unlink()
    os.mkfifo(entry)


def put_a_folder(entry: Path) -> None:
    entry.unlink()
    entry.mkdir()


@pytest.mark.parametrize("put", [put_a_link, put_a_pipe, put_a_folder])
def test_what_is_no_file_is_no_entry(folder: Path, put: object) -> None:
    put(entry_in(folder))  # type: ignore[operator]
    assert kernel_cache.read("kernel") is None
    kernel_cache.write("kernel", CODE)
    assert kernel_cache.read("kernel") == (None if put is put_a_folder else CODE)


@pytest.fixture
def open_to_read() -> Iterator[Path]:
    """Return a folder that all users can look into, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@as_root
def test_what_root_has_compiled_serves_a_user(open_to_read: Path) -> None:
    """And what another user has compiled does not serve root."""
    script = """
        import os, sys, warnings
        import numpy as np
        import fastact as fa
        from fastact.runtime import cache_folder, kernel_cache
        reader, folder = {reader}, {folder!r}
        fa.tanh(np.float32(1))  # so that all modules are there, which a stranger may not read
        os.seteuid(reader)
        os.environ["FASTACT_CACHE"] = folder
        cache_folder.directory.cache_clear()
        with warnings.catch_warnings(record=True) as caught:
            print(float(fa.sigmoid(np.float32(0))), "numba" in sys.modules, len(caught))
    """
    warm, shared = open_to_read / "warm", open_to_read / "shared"
    both = "import numpy as np, fastact as fa; fa.tanh(np.float32(1)), fa.sigmoid(np.float32(1))"
    assert_clean(
        run_python(
            "import numpy as np, fastact as fa; fa.tanh(np.float32(1))", FASTACT_CACHE=str(warm)
        )
    )
    assert_clean(run_python(both, FASTACT_CACHE=str(shared)))

    def ask(reader: int) -> str:
        text = script.format(reader=reader, folder=str(shared))
        return assert_clean(run_python(text, FASTACT_CACHE=str(warm)))

    assert ask(STRANGER) == "0.5 False 0\n"
    for path in (shared, *shared.iterdir()):
        os.chown(path, STRANGER, STRANGER)
    assert ask(0) == "0.5 True 1\n"


@as_root
def test_a_folder_out_of_reach(tmp_path: Path) -> None:
    """A user who may not even look whether it is there compiles in memory."""
    tmp_path.chmod(0o700)
    script = f"""
        import os, sys
        from fastact.runtime import kernel_cache
        os.seteuid({STRANGER})
        kernel_cache.write("kernel", b"")
        print(kernel_cache.read("kernel"))
    """
    done = run_python(script, FASTACT_CACHE=str(tmp_path / "below" / "cache"))
    assert assert_clean(done) == "None\n"


def test_no_home_and_a_tilde(tmp_path: Path) -> None:
    script = """
        import os, pwd, sys, warnings
        def getpwuid(number):
            raise KeyError(number)
        pwd.getpwuid = getpwuid
        os.environ.pop("HOME", None) if {homeless} else None
        import numpy as np
        import fastact as fa
        from fastact.runtime import cache_folder, kernel_cache
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            print(cache_folder.directory(), kernel_cache.read("kernel"), kernel_cache.read("kernel"), len(caught))
        kernel_cache.write("kernel", b"")
    """
    for chosen in ("", "~/x"):
        done = run_python(script.format(homeless=True), FASTACT_CACHE=chosen, XDG_CACHE_HOME="")
        assert assert_clean(done) == "None None None 1\n"
    done = run_python(script.format(homeless=False), FASTACT_CACHE="~/x", HOME=str(tmp_path))
    assert assert_clean(done) == f"{tmp_path / 'x'} None None 0\n"
    assert len(list((tmp_path / "x").iterdir())) == 2  # the kernel, and the digest of the sources


def test_damaged_entries(folder: Path) -> None:
    """Flipped, missing, added and foreign bytes: none of 3,500 variants is read."""
    entry = entry_in(folder)
    whole, number = entry.read_bytes(), random.Random(0)
    kernel_cache.write("foreign", CODE[::-1])
    foreign = (folder / str(kernel_cache.key("foreign"))).read_bytes()
    variants = [b"", foreign, whole + b"\0", whole * 2, foreign[:32] + whole[32:]]
    variants += [whole[: number.randrange(len(whole))] for _ in range(500)]
    for _ in range(3_000):
        position = number.randrange(len(whole))
        changed = whole[position] ^ (1 << number.randrange(8))
        variants.append(whole[:position] + bytes([changed]) + whole[position + 1 :])
    for variant in variants:
        entry.write_bytes(variant)
        assert kernel_cache.read("kernel") is None
    entry.write_bytes(whole)
    assert kernel_cache.read("kernel") == CODE


def unfinished(folder: Path) -> list[Path]:
    return list(folder.glob("*.part"))


def test_a_full_disk_leaves_nothing(folder: Path) -> None:
    """The system refuses to write more than so many bytes to a file."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        kernel_cache.write("other", CODE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert unfinished(folder) == []
    assert kernel_cache.read("other") is None
    kernel_cache.write("other", CODE)
    assert kernel_cache.read("other") == CODE


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.EROFS, "read-only")])
def test_an_interrupted_write_leaves_nothing(
    folder: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(*paths: object) -> None:
        raise error

    monkeypatch.setattr(os, "replace", replace)
    if isinstance(error, OSError):
        kernel_cache.write("other", CODE)
    else:
        with pytest.raises(KeyboardInterrupt):
            kernel_cache.write("other", CODE)
    assert unfinished(folder) == []


def test_what_a_killed_process_leaves_is_deleted(folder: Path) -> None:
    """But not what a process writes that still lives."""
    script = """
        import os, signal, sys
        from fastact.runtime import kernel_cache
        def replace(*paths):
            print("writing", flush=True)
            sys.stdin.readline()
        os.fdopen, fdopen = (lambda *args: Stopping(fdopen(*args))), os.fdopen
        class Stopping:
            def __init__(self, file):
                self.file = file
            def __enter__(self):
                return self
            def __exit__(self, *error):
                self.file.close()
            def fileno(self):
                return self.file.fileno()
            def read(self):
                return self.file.read()
            def write(self, content):
                self.file.write(content)
                self.file.flush()
                replace()
        kernel_cache.write("other", b"content")
    """
    process = start_python(script, FASTACT_CACHE=str(folder))
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    assert len(unfinished(folder)) == 1
    assert kernel_cache.read("kernel") == CODE
    assert len(unfinished(folder)) == 1
    process.kill()
    finish(process)
    begin_anew()
    assert kernel_cache.read("kernel") == CODE
    assert unfinished(folder) == []


RACE = """
    import sys
    import numpy as np
    import fastact as fa
    x = np.float32(-0.5)
    for name in {names}:
        value, derivative = fa.get(name).value_and_derivative(x)
        print(name, float(value), float(derivative))
"""
RACING = ["relu", "leaky_relu", "hardtanh", "elu"]


def race(folder: Path, processes: int, random_number: random.Random) -> None:
    """Let processes fill one cache at once, of which some are killed; the others are right, and so is the next."""
    started = []
    for _ in range(processes):
        names = random_number.sample(RACING, len(RACING))
        script = textwrap.dedent(RACE.format(names=names))
        environment = os.environ | {"FASTACT_CACHE": str(folder)}
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment, text=True
            )
        )
    doomed = random_number.sample(started, processes // 2)
    for process in doomed:
        with_patience = random_number.uniform(0.2, 6)
        try:
            process.wait(with_patience)
        except subprocess.TimeoutExpired:
            process.kill()
    expected = {"relu 0.0 0.0", "leaky_relu -0.004999999888241291 0.009999999776482582",
                "hardtanh -0.5 1.0", "elu -0.39346933364868164 0.6065306663513184"}  # fmt: skip
    for process in started:
        output, _ = process.communicate()
        lines = set(output.splitlines())
        if process in doomed and process.returncode == -signal.SIGKILL:
            assert len(lines - expected) <= 1  # a line that it has begun
        else:
            assert process.returncode == 0
            assert lines == expected
    for names in (RACING, RACING):
        script = RACE.format(names=names)
        assert (
            set(assert_clean(run_python(script, FASTACT_CACHE=str(folder))).splitlines())
            == expected
        )
    assert unfinished(folder) == []


def test_a_race_with_kills(tmp_path: Path) -> None:
    race(tmp_path / "cache", 3, random.Random(0))


@pytest.mark.long
def test_fifty_races_with_kills(tmp_path: Path) -> None:
    number = random.Random(1)
    for turn in range(50):
        race(tmp_path / f"cache{turn}", 8, number)
