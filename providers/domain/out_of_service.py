"""Why nothing is sent to a target that is configured well.

OutOfService                    the text says why, in words that follow the target's name
  BreakerOpen                   it has failed too often, or an operator wants it so
  KeysResting(failure)          the vendor has refused or limited every key of it
"""

from providers.domain.errors import Failure


class OutOfService(Exception):
    """`may_be_last`: it is still better than nobody. `retry_after_s` is None when waiting may not help."""

    def __init__(self, reason: str, retry_after_s: float | None, *, may_be_last: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.may_be_last = may_be_last


class BreakerOpen(OutOfService):
    pass


class KeysResting(OutOfService):
    """`failure` is the one that the keys rest after."""

    def __init__(self, failure: Failure, *, may_be_last: bool) -> None:
        super().__init__(failure.message, failure.retry_after_s, may_be_last=may_be_last)
        self.failure = failure
