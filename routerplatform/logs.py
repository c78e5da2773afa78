"""How a log line looks: JSON for machines, or coloured columns for people in DEBUG."""

import structlog
from structlog.typing import Processor


def about_request(request_id: str) -> None:
    """What this task logs from now on is about a request; the id stands in every line."""
    structlog.contextvars.bind_contextvars(request_id=request_id)


SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def formatter(*, pretty: bool) -> structlog.stdlib.ProcessorFormatter:
    """The formatter that settings.LOGGING names: for structlog's lines and for those of the logging module alike."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: Processor = structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=SHARED,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
