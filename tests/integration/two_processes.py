"""What `test_two_processes.py` starts on every process: FOLDER and, run by run, the changes to its config as JSON."""

import json
import sys
from pathlib import Path

import torch

from seq2seq_distill.run.train import run_config
from tests.tiny_runs import config

if __name__ == "__main__":
    torch.set_num_threads(1)
    for changes in sys.argv[2:]:
        run_config(config(Path(sys.argv[1]), **json.loads(changes)))
