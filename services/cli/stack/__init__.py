"""The whole stack on one machine, as separate processes.

`async with Stack(StackConfig(state_dir=...)) as stack:` starts it, waits until every
health check says SERVING, and stops it whatever happens in the body.
"""

from services.cli.stack.config import StackConfig
from services.cli.stack.record import StackRecord, read_record
from services.cli.stack.stack import Stack
from services.cli.stack.teardown import take_down

__all__ = ["Stack", "StackConfig", "StackRecord", "read_record", "take_down"]
