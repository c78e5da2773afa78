"""What arguments of commands may be; argparse tells people what is wrong with theirs."""

from argparse import ArgumentTypeError


def port_number(text: str) -> int:
    port = int(text)
    if not 0 < port < 65_536:
        raise ArgumentTypeError(f"{port} is not a port (1 to 65535)")
    return port


def seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ArgumentTypeError(f"{text} is not a number of seconds")
    return value
