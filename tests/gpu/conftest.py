"""What only a CUDA device shows. Where there is none these files are not collected, and nothing is skipped by name."""

from importlib.util import find_spec

import torch

collect_ignore_glob = [] if torch.cuda.is_available() else ["test_*.py"]
if find_spec("bitsandbytes") is None:
    collect_ignore_glob.append("test_quantization.py")
