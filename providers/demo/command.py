"""The command line of the demo provider, shared by `manage.py demo_provider` and `python -m providers.demo`."""

import argparse
import asyncio
import ipaddress
import os
import sys

from providers.demo.server import DEFAULT_HOST, DEFAULT_PORT, serve


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
        asyncio.run(serve(host=host, port=port, pace_factor=pace_factor, announce=_announce))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        sys.stderr.write(f"The demo provider cannot listen on {host}:{port}: {reason}\n")
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m providers.demo", description="Serve the demo provider.")
    add_arguments(parser)
    options = parser.parse_args(argv)
    return run(host=options.host, port=options.port, pace_factor=options.pace_factor)


def _announce(url: str) -> None:
    sys.stdout.write(f"Demo provider on {url}/v1 (OpenAI and Anthropic wires, any key)\n")
    sys.stdout.flush()


def _pace_factor(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1000:
        raise argparse.ArgumentTypeError("takes a number from 0 to 1000")
    return value


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
