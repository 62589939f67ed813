"""What each command does: values in, a result out. Nothing here prints."""

from __future__ import annotations

from collections.abc import Callable

from kennel.driver.commands import jobs, machine, money, reports, serving
from kennel.driver.commands.context import Context, Result

COMMANDS: dict[str, Callable[[Context], Result]] = {
    "up": machine.up,
    "down": machine.down,
    "status": machine.status,
    "env": machine.env,
    "doctor": machine.examine,
    "data": machine.data,
    "train": jobs.train,
    "jobs": jobs.jobs,
    "logs": jobs.logs,
    "stop": jobs.stop,
    "report": reports.report,
    "deploy": serving.deploy,
    "predict": serving.predict,
    "transform": serving.transform,
    "endpoints": serving.endpoints,
    "clean": money.clean,
    "cost": money.cost,
}
