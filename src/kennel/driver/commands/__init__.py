"""What each command does: values in, a result out. Nothing here prints."""

from __future__ import annotations

from collections.abc import Callable

from kennel.driver.commands import insight, jobs, machine, money, reports, serving, tuning
from kennel.driver.commands.context import Context, Result

COMMANDS: dict[str, Callable[[Context], Result]] = {
    "up": machine.up,
    "down": machine.down,
    "status": machine.status,
    "env": machine.env,
    "doctor": machine.examine,
    "data": machine.data,
    "train": jobs.train,
    "tune": tuning.tune,
    "tune show": tuning.show,
    "tune jobs": tuning.jobs,
    "tune stop": tuning.stop,
    "jobs": jobs.jobs,
    "logs": jobs.logs,
    "stop": jobs.stop,
    "rules": insight.rules,
    "report": reports.report,
    "deploy": serving.deploy,
    "predict": serving.predict,
    "transform": serving.transform,
    "endpoints": serving.endpoints,
    "clean": money.clean,
    "cost": money.cost,
}
