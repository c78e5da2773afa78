"""What of a request's words routing looks at: the last human turn, how the conversation began, how it goes on."""

from typing import Final

import msgspec

from providers.domain.conversation import Message, Role, TextPart, ToolResultPart
from providers.domain.types import ChatRequest, Operation
from providers.wires import UnsupportedFeature
from routerplatform.gateway.errors import GatewayError

# said where it matters: by the wire that has to say it
UNREADABLE: Final = (GatewayError, UnsupportedFeature, msgspec.DecodeError, RecursionError)
LONGEST_START: Final = 48_000  # characters: rules and classifiers run on the event loop, and texts may have millions
LONGEST_END: Final = 16_000


class PromptReading:
    """Reads a conversation once, and only if somebody asks. One that cannot be read has no words: its own wire may
    well understand it."""

    __slots__ = ("_messages", "_request")

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._messages: tuple[Message, ...] | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        if self._messages is None:
            self._messages = _messages_of(self._request)
        return self._messages

    def last_turn(self) -> str:
        """What a person said last; what tools answered since is none of it. A very long text lacks its middle."""
        turns = (_words(message) for message in reversed(self.messages) if message.role is Role.USER)
        return _without_middle(next(filter(None, turns), ""))

    def first_turn(self) -> str:
        """What a person said first. The examples of a template are not it, unless the caller begins with an answer:
        then the template's last turn is what was answered."""
        count = self._request.turns_before
        before, own = self.messages[:count], self.messages[count:]
        begins = next((message.role for message in own if message.role is not Role.SYSTEM), None)
        said = reversed(before) if before and begins is not Role.USER else own
        turns = (_words(message) for message in said if message.role is Role.USER)
        return _without_middle(next(filter(None, turns), ""))

    def system(self) -> str:
        said = (_words(one) for one in self.messages if one.role is Role.SYSTEM)
        return _without_middle("\n".join(filter(None, (self._request.system, *said))))

    def is_tool_loop(self) -> bool:
        """Whether the model is told what its tools have answered, and goes on from there."""
        return bool(self.messages) and any(isinstance(part, ToolResultPart) for part in self.messages[-1].parts)


def _messages_of(request: ChatRequest) -> tuple[Message, ...]:
    if request.operation is not Operation.CHAT:
        return ()
    try:
        return request.conversation().messages
    except UNREADABLE:
        return ()


def _words(message: Message) -> str:
    return "\n".join(part.text for part in message.parts if isinstance(part, TextPart))


def _without_middle(text: str) -> str:
    if len(text) <= LONGEST_START + LONGEST_END:
        return text
    return f"{text[:LONGEST_START]}\n{text[-LONGEST_END:]}"
