"""The analysis of inner loops for processors that are not at hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from fresh_process import assert_clean, run_python

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.throughput import __main__ as throughput  # noqa: E402
from benchmarks.throughput import analysis  # noqa: E402
from benchmarks.throughput.hot_block import hot_block  # noqa: E402

sys.path.remove(str(ROOT))

LOOP = """
entry:
	testq	%rdi, %rdi
	je	.LBB0_4
.LBB0_1:
	vmovups	(%rsi,%rax,4), %zmm0
	vmaxps	64(%rsp), %zmm0, %zmm1          # 64-byte Folded Reload
	vmovups	%zmm1, 128(%rsp)
	testq	%rcx, %rcx
	jne	.LBB0_3
	vmovups	%zmm1, (%rdx,%rax,4)
	vmovups	%zmm0, (%r8,%rax,4)
.LBB0_2:
	addq	$16, %rax
	cmpq	%rax, %rdi
	jne	.LBB0_1
	jmp	.LBB0_4
.LBB0_3:
	vmovntps	%zmm1, (%rdx,%rax,4)
	vmovntps	%zmm0, (%r8,%rax,4)
	jmp	.LBB0_2
.LBB0_4:
	retq
fastact.copy.4.True:
.LBB1_1:
	vmovups	%zmm1, (%rdx)
	vmovups	%zmm1, 64(%rdx)
	vmovups	%zmm1, 128(%rdx)
	jne	.LBB1_1
	retq
"""


def test_hot_block_is_the_way_around_with_ordinary_stores() -> None:
    block = hot_block(LOOP)
    assert len(block.lines) == 10
    assert block.vector_instructions == 5
    assert block.spills == 2
    assert block.bytes_stored == 128


def test_without_a_loop() -> None:
    with pytest.raises(ValueError, match="no loop"):
        hot_block("f:\n\tvmovups\t%zmm1, (%rdx)\n\tretq\n")


def test_relu_on_three_kinds_of_vectors(tmp_path: Path) -> None:
    try:
        analysis.llvm_mca()
    except analysis.MissingError as error:
        pytest.skip(str(error))
    file = tmp_path / "results.json"
    processors = {"Zen 4": 64, "Haswell": 32, "Neoverse V2": 16}
    options = [word for each in processors for word in ("--processor", each)]
    words = ["relu", *options, "--json", str(file)]
    script = f"from benchmarks.throughput.__main__ import main; main({words!r})"
    printed = assert_clean(run_python(script, path=ROOT))
    found = {each["processor"]: each for each in json.loads(file.read_text())}
    assert set(found) == set(processors)
    for processor, size in processors.items():
        result = found[processor]
        assert result["registers"] % 2 == 0
        # Two loads, two stores and the arithmetic; none of these processors loads two registers in less than a cycle.
        assert 5 < result["instructions"] < 20
        assert 0.5 < result["throughput"] * size / 4 < result["chain"] * size / 4 * 1.01 < 20
    assert all(each in printed for each in processors)


def test_missing_program_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="needs llvm-mca") as stop:
        throughput.main(["relu"])
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize("wrong", [["rleu"], ["relu", "--processor", "Zen 17"]])
def test_unknown_names_are_wrong_usage(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        throughput.main(wrong)
    assert stop.value.code == 2
    assert wrong[-1] in capsys.readouterr().err.splitlines()[-1]
