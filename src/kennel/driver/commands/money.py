"""Commands about what was created and what it costs."""

from __future__ import annotations

from kennel.driver import tables
from kennel.driver.account import cleaning, spending
from kennel.driver.commands.context import Context, Result
from kennel.driver.session import prices


def clean(context: Context) -> Result:
    """Delete what was created; 1 while something that should be gone is left."""
    arguments, session = context.arguments, context.session
    elsewhere = len(session.record.alive()) - len(cleaning.due(session))
    if elsewhere:
        other = "aws" if session.is_local else "local"
        session.reporter.say(f"Recorded on {other}: {elsewhere}; kennel clean --on {other} deletes them.")
    if arguments.dry_run:
        kinds = [kind for kind in cleaning.ORDER if arguments.data or kind != cleaning.DATA]
        due = cleaning.due(session, kinds)
        rows = [(entry.kind, entry.name) for entry in due]
        text = tables.columns(rows, ("would delete", "")) if rows else "Nothing to delete."
        return Result(text, [{"kind": entry.kind, "name": entry.name} for entry in due])
    if not cleaning.due(session):
        return Result("Nothing to delete.", cleaning.Cleaned().to_json())
    done = cleaning.clean(session, data=arguments.data)
    lines = [f"deleted  {entry.kind}  {entry.name}" for entry in done.deleted]
    lines += [f"left     {entry.kind}  {entry.name}: {reason}" for entry, reason in done.left]
    unwanted = [entry for entry, _ in done.left if entry.kind != cleaning.DATA or arguments.data]
    return Result("\n".join(lines), done.to_json(), int(bool(unwanted)))


def cost(context: Context) -> Result:
    """Estimate what was spent."""
    spending.refresh(context.session)
    found = prices.costs(context.session.record.entries())
    rows = [
        (c.entry.on, c.entry.kind, c.entry.name, tables.duration(c.seconds), tables.dollars(c.usd), c.remark)
        for c in found
    ]
    total = sum(c.usd for c in found if c.usd is not None)
    unknown = sum(c.usd is None for c in found)
    table = prices.table()
    more = f", and {unknown} not known" if unknown else ""
    note = f"Estimate: {total:.2f} USD{more} (on demand, {table['region']}, table of {table['date']}); check the bill."
    data = {
        "estimate_usd": round(total, 4),
        "unknown": unknown,
        "price_table": {"date": table["date"], "region": table["region"], "source": table["source"]},
        "resources": [
            {"on": c.entry.on, "kind": c.entry.kind, "name": c.entry.name, "seconds": c.seconds, "usd": c.usd,
             "remark": c.remark}
            for c in found
        ],
    }  # fmt: skip
    shown = tables.columns(rows, ("on", "kind", "name", "time", "estimate", "")) + "\n" if rows else ""
    return Result(shown + note, data)
