"""Memory of one forward pass serves the next."""

from __future__ import annotations

import subprocess
import sys

_PASSES = """
import resource, sys, threading
import numpy as np
from services.activation.encoder.allocator import keep_freed_memory

kept = sys.argv[1] == "kept" and keep_freed_memory()
def run():
    for _ in range(4):  # eight tensors of 1,024 tokens in an MLP, alive together
        held = [np.ones((1_024, 1_536), dtype=np.float32) for _ in range(8)]
def faults():
    run()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    run()
    print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=faults)
thread.start()
thread.join()
"""


def _page_faults(how: str) -> tuple[str, int]:
    command = [sys.executable, "-c", _PASSES, how]
    kept, faults = subprocess.check_output(command, text=True).split()
    return kept, int(faults)


def test_a_second_pass_on_another_thread_faults_hardly_any_pages() -> None:
    """Guards against every pass paying anew for its pages, some tenth of its time."""
    usual, (kept, faults) = _page_faults("usual")[1], _page_faults("kept")
    assert kept == "True"
    assert faults < 200 < 1_000 < usual
