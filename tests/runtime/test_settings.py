"""Settings: where their values come from, what is believed of a measured file, and that no result depends on them."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fresh_process import assert_clean, run_python

import fastact as fa
from fastact.runtime import cache_folder, settings, tuned

ROOT = Path(__file__).parents[2]
MEASURED = {
    "parallel_threshold": 12_345,
    "chunk_size": 2_048,
    "streaming_threshold": 7_654_321,
    "output_cache_min_bytes": 99_999,
}
RANGES = {each.name: (each.least, sys.maxsize) for each in settings.TABLE if each.is_tuned}
SHOW = "import fastact as fa; print({k: (v.value, v.source) for k, v in fa.info().items()})"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a cache with what was measured, as a process finds it that begins."""
    tmp_path.chmod(0o755)
    monkeypatch.setenv("FASTACT_CACHE", str(tmp_path))
    forget_folder()
    tuned.write(MEASURED)
    return tmp_path


def forget_folder() -> None:
    for function in (cache_folder.directory, cache_folder.distrust, cache_folder.warn):
        function.cache_clear()


@pytest.fixture(autouse=True)
def begin_anew() -> Iterator[None]:
    """Forget afterwards what this process knows of its cache."""
    yield
    forget_folder()


def found_by(script: str = SHOW, **environment: str) -> dict[str, tuple[int, str]]:
    """Return what a process says of its settings."""
    return eval(assert_clean(run_python(script, **environment)))  # type: ignore[no-any-return]


# Where values come from ------------------------------------------------------------------------


def test_every_setting_is_measured_or_not() -> None:
    assert set(MEASURED) == set(RANGES)


def test_defaults(tmp_path: Path) -> None:
    found = found_by(FASTACT_CACHE=str(tmp_path))
    assert {source for name, (_, source) in found.items() if name != "kernel_cache"} == {"default"}
    assert found["kernel_cache"] == (str(tmp_path), "environment")
    assert found["parallel_threshold"][0] == settings.PARALLEL_ELEMENTS


def test_precedence(folder: Path) -> None:
    """A call counts for more than the environment, which counts for more than a measurement."""
    found = found_by(FASTACT_CACHE=str(folder))
    assert {name: found[name] for name in MEASURED} == {
        name: (value, "tuned") for name, value in MEASURED.items()
    }
    assert found["num_threads"][1] == found["output_cache"][1] == "default"
    given = {"FASTACT_CHUNK_SIZE": "77", "FASTACT_OUTPUT_CACHE_MIN_BYTES": "1000"}
    found = found_by(FASTACT_CACHE=str(folder), **given)
    assert found["chunk_size"] == (77, "environment")
    assert found["output_cache_min_bytes"] == (1000, "environment")
    assert found["parallel_threshold"] == (12_345, "tuned")
    called = SHOW.replace(
        "; print", "; fa.set_chunk_size(78); fa.set_output_cache(min_bytes=5); print"
    )
    found = found_by(called, FASTACT_CACHE=str(folder), **given)
    assert found["chunk_size"] == (78, "call")
    assert found["output_cache_min_bytes"] == (5, "call")


@pytest.mark.parametrize(
    "setting", [each for each in settings.TABLE if each.variable], ids=lambda each: each.name
)
def test_environment(setting: settings.Setting) -> None:
    """Each variable sets what the table says, and a wrong value is an error that names it."""
    assert setting.variable
    value = str(max(1, setting.least))
    assert found_by(**{setting.variable: value})[setting.name] == (int(value), "environment")
    for wrong in ("-1", "1.5", "two", *(["0"] if setting.least else [])):
        done = run_python(SHOW, **{setting.variable: wrong})
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert last == (
            f"ValueError: the environment variable {setting.variable} must be an integer from "
            f"{setting.least} on; got '{wrong}'"
        )


SETTERS: dict[str, tuple[Callable[[int], None], Callable[[], int]]] = {
    "chunk_size": (fa.set_chunk_size, fa.get_chunk_size),
    "parallel_threshold": (fa.set_parallel_threshold, fa.get_parallel_threshold),
    "streaming_threshold": (fa.set_streaming_threshold, fa.get_streaming_threshold),
    "output_cache_min_bytes": (
        lambda n: fa.set_output_cache(min_bytes=n),
        lambda: fa.output_cache_info().min_bytes,
    ),
}


@pytest.mark.parametrize("name", SETTERS)
def test_setters(name: str) -> None:
    """What is set can be got, `info` says so, and what is out of range changes nothing."""
    set_value, get_value = SETTERS[name]
    before, least = get_value(), RANGES[name][0]
    try:
        for value in (least, 4096, sys.maxsize):
            set_value(value)
            assert get_value() == value
            assert fa.info()[name][:1] == (value,)
            assert fa.info()[name].source == "call"
        for wrong in (least - 1, -5, sys.maxsize + 1):
            with pytest.raises(ValueError, match=f"must be from {least} to {sys.maxsize}"):
                set_value(wrong)
        for wrong in (1.5, "1", None):
            if wrong is None and name == "output_cache_min_bytes":
                continue  # not given
            with pytest.raises(TypeError, match="must be an integer"):
                set_value(wrong)  # type: ignore[arg-type]
        assert get_value() == sys.maxsize
    finally:
        set_value(before)


def test_info_as_text() -> None:
    lines = repr(fa.info()).splitlines()
    assert [line.split()[0] for line in lines] == [*fa.info()]
    assert all(re.search(r" (call|environment|tuned|default): ", line) for line in lines)


def test_threads_that_the_system_refuses() -> None:
    """The pool then sets their number itself; so it does in a forked process."""
    script = """
        import fastact as fa
        from fastact.system.memory_layout import SETTING, SETTINGS
        fa.get_num_threads()
        SETTINGS[SETTING.threads] = 0
        print(fa.info()["num_threads"])
    """
    assert "none can be started" in assert_clean(run_python(script))


def test_page() -> None:
    """Its table has a line for each setting, in the words of the program."""
    page = " ".join((ROOT / "docs" / "settings.md").read_text(encoding="utf-8").split())
    for each in settings.TABLE:
        variable = f"`{each.variable}` |" if each.variable else "|"
        line = f"| `fa.{each.call}` | {variable} {each.meaning} (default: {each.default_is}"
        assert line in page, each.name


# What is believed ------------------------------------------------------------------------------


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


def test_a_file_that_is_right(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = tuned.read(RANGES)
    assert found is not None
    assert found.values == MEASURED
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", found.when)
    path = tuned.file()
    assert path is not None
    assert path.parent == folder
    assert path.stat().st_mode & 0o777 == 0o644
    assert not warnings_of(caplog)


SPOILT = {
    "nothing": b"",
    "half": b'{"key": ',
    "a number": b"3",
    "binary": bytes(range(256)),
    "deep": b"[" * 60_000,
    "huge": b" " * 70_000 + b"{}",
    "no settings": {"settings": None},
    "a list": {"settings": [1]},
    "another machine": {"key": "0" * 16},
    "no date": {"when": None},
    "a date to print": {"when": "\x1b[31m2026"},
    "text": {"settings": {"chunk_size": "5"}},
    "a truth": {"settings": {"chunk_size": True}},
    "a fraction": {"settings": {"chunk_size": 5.0}},
    "zero": {"settings": {"chunk_size": 0}},
    "negative": {"settings": {"streaming_threshold": -1}},
    "too large": {"settings": {"parallel_threshold": 2**63}},
    "many digits": b'{"settings": {"chunk_size": ' + b"9" * 10_000 + b"}}",
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_broken_file(folder: Path, caplog: pytest.LogCaptureFixture, fault: str) -> None:
    """It is ignored as a whole, and one line says so."""
    path, change = tuned.file(), SPOILT[fault]
    assert path is not None
    if isinstance(change, dict):
        change = json.dumps(json.loads(path.read_text()) | change).encode()
    path.write_bytes(change)
    assert tuned.read(RANGES) is None
    (said,) = warnings_of(caplog)
    assert said.startswith(f"ignored {path}: it ")
    assert "\n" not in said
    assert "\x1b" not in said


def test_settings_of_another_release(folder: Path) -> None:
    """Unknown names are left out, and what is missing has its default."""
    path = tuned.file()
    assert path is not None
    text = json.loads(path.read_text())
    path.write_text(json.dumps(text | {"settings": {"chunk_size": 5, "colour": "red"}}))
    found = found_by(FASTACT_CACHE=str(folder))
    assert found["chunk_size"] == (5, "tuned")
    assert found["parallel_threshold"][1] == "default"


def test_another_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file for other processors, CPUs or quotas is not looked at."""
    here = tuned.this_machine()
    others = [
        here._replace(cpus=here.cpus + 1),
        here._replace(quota=1.5),
        here._replace(processor=here.processor._replace(model=here.processor.model + 1)),
        here._replace(caches={}),
    ]
    assert len({each.key for each in (here, *others)}) == 5
    for other in others:
        monkeypatch.setattr(tuned, "this_machine", lambda other=other: other)
        assert tuned.read(RANGES) is None
    assert str(others[1]).endswith("a quota of 1.5")


def test_a_folder_that_others_can_change(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is in it does not count, without a word: whoever loads a kernel is warned."""
    folder.chmod(0o777)
    cache_folder.distrust.cache_clear()
    assert tuned.read(RANGES) is None
    with (
        pytest.warns(RuntimeWarning, match="compiles its kernels anew"),
        pytest.raises(OSError, match="can be written to by others"),
    ):
        tuned.write(MEASURED)
    assert not warnings_of(caplog)
    found = found_by(FASTACT_CACHE=str(folder))
    assert found["chunk_size"][1] == "default"


@pytest.mark.parametrize("mode", [0o666, 0o664])
def test_a_file_that_others_can_change(
    folder: Path, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    path = tuned.file()
    assert path is not None
    path.chmod(mode)
    assert tuned.read(RANGES) is None
    assert "can be written to by others" in warnings_of(caplog)[0]


def test_a_link(folder: Path) -> None:
    path = tuned.file()
    assert path is not None
    path.rename(folder / "elsewhere")
    path.symlink_to(folder / "elsewhere")
    assert tuned.read(RANGES) is None


def test_a_folder_that_is_read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there counts, but nothing can be kept; for root, who may write everywhere, that is made up."""
    folder.chmod(0o555)
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    try:
        assert tuned.read(RANGES) is not None
        with pytest.raises(OSError, match="cannot be written to"):
            tuned.write(MEASURED)
    finally:
        folder.chmod(0o755)


def test_a_disk_that_is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there stays, whole."""

    def refuse(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        tuned.write({"chunk_size": 1})
    found = tuned.read(RANGES)
    assert found is not None
    assert found.values == MEASURED
    assert len(list(folder.iterdir())) == 1


def test_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTACT_CACHE", "0")
    cache_folder.directory.cache_clear()
    assert tuned.file() is None
    assert tuned.read(RANGES) is None
    assert not tuned.forget()
    with pytest.raises(OSError, match="FASTACT_CACHE is 0"):
        tuned.write(MEASURED)
    found = found_by(FASTACT_CACHE="0")
    assert found["kernel_cache"] == (None, "environment")
    assert found["chunk_size"][1] == "default"


def test_forget(folder: Path) -> None:
    assert tuned.forget()
    assert not list(folder.iterdir())
    assert not tuned.forget()


# What does not depend on them ------------------------------------------------------------------

DIGEST = """
import hashlib, sys
import numpy as np
import fastact as fa

digest = hashlib.sha256()
random = np.random.default_rng(0)
for n in (1, 700, 5_000, 70_001, 300_000):
    x = random.standard_normal(n, np.float32)
    rows = x[: n // 7 * 7].reshape(-1, 7)
    for _ in range(3):
        results = [fa.gelu(x), *fa.tanh.forward_backward(x, x), *fa.relu.forward_backward(x, x)]
        results += [fa.dropout(x, 0.5, rng=1), fa.prelu.backward(x, x, 0.25)[1]]
        if rows.size:
            results += [fa.softmax(rows), fa.layer_norm(rows), fa.silu(rows, bias=rows[0])]
            results += fa.gelu.backward(rows, rows, bias=rows[0])
        for each in results:
            digest.update(np.asarray(each).tobytes())
print(digest.hexdigest())
"""


def test_results_do_not_depend_on_them() -> None:
    """Whatever is streamed, shared among threads, in chunks of any size, and in memory used before."""
    expected = assert_clean(run_python(DIGEST))
    for environment in (
        {"FASTACT_STREAMING_THRESHOLD": "0", "FASTACT_PARALLEL_THRESHOLD": "1"},
        {"FASTACT_PARALLEL_THRESHOLD": "1", "FASTACT_CHUNK_SIZE": "1"},
        {"FASTACT_PARALLEL_THRESHOLD": "1000", "FASTACT_CHUNK_SIZE": "1000000"},
        {"FASTACT_OUTPUT_CACHE_MIN_BYTES": "1", "FASTACT_STREAMING_THRESHOLD": "0"},
        {"FASTACT_OUTPUT_CACHE_MIN_BYTES": "1000000000"},
    ):
        assert assert_clean(run_python(DIGEST, **environment)) == expected, environment


def test_calls_follow_min_bytes() -> None:
    """Also those that were repeated before it changed."""
    x, before = np.ones(20_000, np.float32), fa.output_cache_info().min_bytes
    try:
        for value, uses_pool in ((10**6, False), (1_000, True), (10**6, False)):
            fa.set_output_cache(min_bytes=value)
            for function in (fa.relu, fa.gelu):
                for options in ({}, {"bias": x}):
                    for _ in range(4):
                        function(x, **options)
                    hits = fa.output_cache_info().hits
                    function(x, **options)
                    assert (fa.output_cache_info().hits > hits) == uses_pool, (value, options)
    finally:
        fa.set_output_cache(min_bytes=before)
