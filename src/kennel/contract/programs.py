"""The programs that one part starts by name, as `python -m NAME`: arrows that no import statement shows.

`tests/test_imports.py` reads this table: each name is a module, and nobody writes one elsewhere.
"""

TRAINER = "kennel.classifier"
STANDBY = "kennel.classifier.processes.standby"  # imported by a trainer that waits for its job
SAMPLER = "kennel.classifier.profiler.sampler"  # system metrics beside a job
INSIGHT = "kennel.insight"  # rules and reports
EMULATOR = "kennel.emulator"
FEEDER = "kennel.emulator.training.feeder"  # fills the pipes of a host
CHILD = "kennel.emulator.runners.child"  # holds a program of the process runner
FORK_SERVER = "kennel.emulator.runners.fork_server"  # forks such programs with their imports done
SERVER = "serving"  # answers for a model
