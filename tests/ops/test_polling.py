"""How gRPC waits for the network: whether the setting does what it is there for, in the gRPC that we have."""

import os
import subprocess
import sys
from pathlib import Path

import ops
from ops.polling import PLAIN_POLLING

ROOT = Path(ops.__file__).parents[1]
CALLS = 300
ECHO = f"""
import asyncio, os
from pathlib import Path
import grpc

async def echo(request, context):
    return request

async def main():
    server = grpc.aio.server()
    handlers = {{"Echo": grpc.unary_unary_rpc_method_handler(echo)}}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{{port}}") as channel:
        for _ in range({CALLS}):
            await channel.unary_unary("/test/Echo")(b"x")
    print(sum(wakings(task) for task in Path("/proc/self/task").iterdir()))
    await server.stop(None)

def wakings(task):
    if (task / "comm").read_text().strip() != "event_engine":
        return 0
    return int((task / "status").read_text().split("\\nvoluntary_ctxt_switches:")[1].split()[0])

asyncio.run(main())
"""
COMMAND = f"""
import sys
from ops.cli import main
sys.argv = ["parkgate", "--version"]
try:
    main()
except SystemExit:
    pass
{ECHO}
"""


def test_a_message_passes_no_further_thread() -> None:
    """In a process of the command, against gRPC as it comes."""
    as_it_comes, ours = _wakings(ECHO), _wakings(COMMAND)
    assert as_it_comes > CALLS
    assert ours < as_it_comes / 5


def test_a_setting_of_the_operator_stays() -> None:
    assert _wakings(COMMAND, GRPC_EXPERIMENTS="event_engine_client,event_engine_listener") > CALLS


def _wakings(program: str, **more: str) -> int:
    """How often the threads of gRPC's event engine waited, which is how often a message passed one."""
    environment = {name: value for name, value in os.environ.items() if name not in PLAIN_POLLING} | more
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert "experiment" not in done.stderr
    return int(done.stdout.split()[-1])
