"""A process of its own for test_kill: it forks gateways that settle requests as fast as they can, until killed.

Commands come on stdin, a line each: `gateway` forks one more, `report` adopts what the dead left and writes the rows.
Every line of the log is one write(2), so that a kill never cuts one. Needs a Django that is set up.
"""

import asyncio
import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import cast
from uuid import uuid4

import msgspec
from django.conf import settings

from analytics.ledger.adoption import adopt_once
from analytics.ledger.ledger import Durability, Ledger
from analytics.ledger.shipping import SqlUsageStore
from analytics.models import UsageRecord
from tests.analytics.ledger.samples import dispatch, opened, settled

CALLERS = 20
BOUND_NANO = 5000


class Nursery:
    def __init__(self, journal_dir: Path, durability: Durability, log: Path) -> None:
        self.journal_dir = journal_dir
        self.durability = durability
        self.log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(self, **what: object) -> None:
        os.write(self.log_fd, json.dumps(what).encode() + b"\n")

    def obey(self, command: str) -> None:
        if command == "report":
            adopt_once(self.journal_dir, SqlUsageStore())
            rows = UsageRecord.objects.values_list("request_id", "state", "cost_nano")
            self.tell(rows=[(str(request_id), state, cost) for request_id, state, cost in rows])
        elif os.fork() == 0:
            random.seed()
            asyncio.run(self.gateway())

    async def gateway(self) -> None:
        ledger = Ledger(journal_dir=self.journal_dir, durability=self.durability, store=SqlUsageStore())
        await ledger.start()
        self.tell(pid=os.getpid())
        await asyncio.gather(*(self.caller(ledger) for _ in range(CALLERS)))

    async def caller(self, ledger: Ledger) -> None:
        while True:
            request_id, cost = str(uuid4()), random.randrange(1, BOUND_NANO)
            ledger.reserve(msgspec.structs.replace(opened(), request_id=request_id))
            await asyncio.sleep(random.random() * 0.01)
            ledger.dispatched(msgspec.structs.replace(dispatch(bound_nano=BOUND_NANO), request_id=request_id))
            self.tell(sent=request_id)
            await asyncio.sleep(random.random() * 0.01)
            await ledger.settle(msgspec.structs.replace(settled(), request_id=request_id, cost_nano=cost))
            self.tell(acknowledged=request_id, cost=cost)


def main(journal_dir: str, durability: str, log: str, database: str) -> None:
    settings.DATABASES["default"]["NAME"] = database
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    nursery = Nursery(Path(journal_dir), cast(Durability, durability), Path(log))
    for line in sys.stdin:
        nursery.obey(line.strip())
