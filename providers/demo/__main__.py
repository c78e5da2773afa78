"""The command line: `python -m providers.demo`, without Django; `manage.py demo_provider` shares it."""

import argparse
import asyncio
import contextlib
import ipaddress
import os
import signal
import sys

from providers.demo.server import DEFAULT_HOST, DEFAULT_PORT, running


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default=DEFAULT_HOST, help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--pace-factor",
        type=_pace_factor,
        default=1.0,
        help="stretch the models' times: 0 answers at once, 2 is twice as slow (default: %(default)s)",
    )


def run(*, host: str, port: int, pace_factor: float) -> int:
    """Serves until it is told to stop; the exit code."""
    if not _is_loopback(host):
        sys.stderr.write(f"Warning: {host} is not a loopback address; whoever reaches it can use the demo provider.\n")
    try:
        asyncio.run(_serve(host, port, pace_factor))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        sys.stderr.write(f"The demo provider cannot listen on {host}:{port}: {reason}\n")
        return 1
    except KeyboardInterrupt:
        pass
    return 0


async def _serve(host: str, port: int, pace_factor: float) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends the loop by itself
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(host=host, port=port, pace_factor=pace_factor) as url:
        sys.stdout.write(f"Demo provider on {url}/v1 (OpenAI, Anthropic, Gemini, Cohere and Ollama wires, any key)\n")
        sys.stdout.flush()
        await stop.wait()


def _pace_factor(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1000:
        raise argparse.ArgumentTypeError("takes a number from 0 to 1000")
    return value


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m providers.demo", description="Serve the demo provider.")
    add_arguments(parser)
    options = parser.parse_args(argv)
    return run(host=options.host, port=options.port, pace_factor=options.pace_factor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
