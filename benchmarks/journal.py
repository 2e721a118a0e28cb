"""What the call journal costs a call: 64 callers whose provider answers at once.

    python -m benchmarks.journal [--callers 64] [--calls 10] [--processes 4]

Each process has its own journal and pool on one embedded PostgreSQL; all callers begin at
once and make their calls one after the other. Prints, for each setting of limits, the time
from asking to sending (the claim), that from the answer to its return (settling and reading
back), and the calls per second of all together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from services.common import embedded_postgres
from services.common.database import create_engine
from services.common.llm import budgets
from services.common.llm.admission import RatePolicy
from services.common.llm.journal import CallJournal
from services.common.llm.limits import Limiter
from services.orchestrator.store.migrate import migrate
from tests.common.llm.callers import OK, facts, key

SETTINGS = {
    "no limits": RatePolicy(),
    "limits per minute, never reached": RatePolicy(requests_per_minute=1e9, tokens_per_minute=1e12),
    "same, and budgets of explanation, campaign, project": RatePolicy(
        requests_per_minute=1e9, tokens_per_minute=1e12
    ),
}


def _owner(setting: int, caller: int) -> str:
    return f"projects/s{setting}/explanations/e{caller}"


async def _one(
    journal: CallJournal, owner: str, number: int, claims: list[float], ends: list[float]
) -> None:
    begin = time.perf_counter()
    answered = begin

    async def send():
        nonlocal answered
        answered = time.perf_counter()
        claims.append(answered - begin)
        return OK

    await journal.call(key(number, owner), facts(), send)
    ends.append(time.perf_counter() - answered)


async def _process(url: str, setting: int, first: int, callers: int, calls: int) -> None:
    """The callers of one process; prints their times as JSON."""
    engine = create_engine(url)
    policy = list(SETTINGS.values())[setting]
    journal = CallJournal(engine, limiter=Limiter(policy))
    claims: list[float] = []
    ends: list[float] = []
    await _one(journal, f"{_owner(setting, first)}w", 0, [], [])
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)

    async def caller(number: int) -> None:
        for call in range(calls):
            await _one(journal, _owner(setting, number), call, claims, ends)

    begin = time.perf_counter()
    await asyncio.gather(*(caller(first + number) for number in range(callers)))
    seconds = time.perf_counter() - begin
    print(json.dumps({"claims": claims, "ends": ends, "seconds": seconds}), flush=True)
    await engine.dispose()


async def _measure(url: str, setting: int, args: argparse.Namespace) -> None:
    if setting == 2:
        await _set_budgets(url, setting, args.callers)
    each = args.callers // args.processes
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.journal", "--worker", url, str(setting)),
            *(str(number * each), str(each), str(args.calls)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**24,
        )
        for number in range(args.processes)
    ]
    for process in processes:
        await process.stdout.readline()
    for process in processes:
        process.stdin.write(b"\n")
    found = [json.loads((await process.communicate())[0]) for process in processes]
    claims = [value for part in found for value in part["claims"]]
    ends = [value for part in found for value in part["ends"]]
    rate = len(claims) / max(part["seconds"] for part in found)
    print(f"| {list(SETTINGS)[setting]} | {_times(claims)} | {_times(ends)} | {rate:.0f} |")


async def _set_budgets(url: str, setting: int, callers: int) -> None:
    engine, project = create_engine(url), f"projects/s{setting}"
    async with engine.begin() as connection:
        for owner in (project, f"{project}/campaigns/c"):
            await budgets.create_budget(connection, owner, max_token_count=10**12)
        for number in range(callers):
            await budgets.create_budget(
                connection,
                _owner(setting, number),
                max_token_count=10**9,
                campaign=f"{project}/campaigns/c",
            )
    await engine.dispose()


def _times(values: list[float]) -> str:
    ordered = statistics.quantiles(values, n=100)
    return " | ".join(f"{1000 * ordered[place - 1]:.0f} ms" for place in (50, 99))


async def main(args: argparse.Namespace) -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory(prefix="saexplain-pg-", ignore_cleanup_errors=True) as folder:
        server = await embedded_postgres.start(Path(folder) / "data")
        try:
            await asyncio.to_thread(migrate, server.url)
            print("| limits | claim p50 | p99 | end p50 | p99 | calls/s |")
            print("| --- | --- | --- | --- | --- | --- |")
            for setting in range(len(SETTINGS)):
                await _measure(server.url, setting, args)
            print("one caller alone:")
            for setting in range(len(SETTINGS)):
                await _alone(server.url, setting)
        finally:
            await server.stop()


async def _alone(url: str, setting: int, calls: int = 100) -> None:
    """One caller, on keys that the others did not use."""
    engine = create_engine(url)
    journal = CallJournal(engine, limiter=Limiter(list(SETTINGS.values())[setting]))
    claims: list[float] = []
    ends: list[float] = []
    for number in range(calls):
        await _one(journal, _owner(setting, 0), 10_000 + number, claims, ends)
    print(f"| {list(SETTINGS)[setting]} | {_times(claims)} | {_times(ends)} | |")
    await engine.dispose()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        url, *numbers = sys.argv[2:]
        asyncio.run(_process(url, *map(int, numbers)))
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--callers", type=int, default=64)
        parser.add_argument("--calls", type=int, default=10)
        parser.add_argument("--processes", type=int, default=4)
        asyncio.run(main(parser.parse_args()))
