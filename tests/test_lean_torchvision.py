"""torchvision without torch's compiler: the compiler is there when it is wanted."""

import os
import subprocess
import sys
from pathlib import Path

AFTERWARDS = """
import sys
from finemask.lean_torchvision import torchvision
assert "torch._dynamo" not in sys.modules and "torch._dynamo.utils" not in sys.modules
import torch
question = sys.modules["torchvision.ops.roi_align"].is_compile_supported
answer = question("cpu")
from torch._dynamo.utils import is_compile_supported
assert answer is is_compile_supported("cpu") and question(torch.device("meta")) is is_compile_supported("meta")
boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.9], [5.0, 5.0, 9.0, 9.0]])
keep = torch.compile(lambda boxes: torchvision.ops.nms(boxes, boxes[:, 3], 0.5), backend="eager")
assert keep(boxes).tolist() == [2, 0]
"""
OF_OTHER_NEEDS = """
from finemask.lean_torchvision import torchvision
import torch._dynamo.utils as real
assert torchvision.counters is real.counters and torchvision.utils is real
assert torchvision.is_compile_supported("cpu") is real.is_compile_supported("cpu")
"""


def run(code: str, *folders: Path) -> None:
    path = os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr


def test_the_compiler_is_imported_when_it_is_asked_for() -> None:
    run(AFTERWARDS)


def test_a_torchvision_that_needs_more_of_the_compiler_gets_it(tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text(
        "from torch._dynamo.utils import is_compile_supported\n"
        "from torch._dynamo.utils import counters\n"
        "import torch._dynamo.utils as utils\n"
    )
    run(OF_OTHER_NEEDS, tmp_path)
