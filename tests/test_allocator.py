"""Freed memory is kept for the next tensors."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys, torch
from iafmsr.cli.allocator import keep_freed_memory
if 'keep' in sys.argv:
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):  # the C library has a shelf of 7 for blocks of a size
    torch.ones(10_000_000)
before = faults()
for _ in range(20):
    torch.ones(10_000_000)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='of glibc')
def test_a_large_tensor_is_not_cleared_by_the_system_again_and_again():
    def faults(*args: str) -> int:
        command = [sys.executable, '-c', CODE, *args]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    kept = min(faults('keep') for _ in range(3))  # a system that is short of memory takes pages back in between
    assert kept < faults() / 10
