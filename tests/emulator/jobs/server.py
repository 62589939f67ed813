"""Looks after the jobs of a home, in a process that a test can kill: `server.py HOME RUNNER`."""

import sys
import threading
from pathlib import Path

from kennel.emulator.runners import make_runner
from kennel.emulator.state.home import Home
from kennel.emulator.state.store import Store
from kennel.emulator.training.jobs import TrainingJobs

home = Home(Path(sys.argv[1]))
jobs = TrainingJobs(Store(home.state_file), home, make_runner(sys.argv[2], home), "eu-central-1", stop_grace_s=3)
jobs.recover()
sys.stdout.write("ready\n")
sys.stdout.flush()
threading.Event().wait()
