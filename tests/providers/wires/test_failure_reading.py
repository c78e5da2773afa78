import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.domain.errors import Failure, FailureKind
from providers.wires.failure_reading import MESSAGE_LIMIT, clean, read_failure


def failure(status: int, body: bytes | object = b"", headers: dict[str, str] | None = None) -> Failure:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return read_failure(status, headers or {}, content)


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ({"error": {"message": "No.", "type": "invalid_request_error", "code": None}}, "No.", "invalid_request_error"),
        ({"error": {"message": "No.", "type": "t", "code": "c"}}, "No.", "c"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "No."}}, "No.", "overloaded_error"),
        ([{"error": {"code": 400, "message": "No.", "status": "INVALID_ARGUMENT"}}], "No.", "INVALID_ARGUMENT"),
        ({"object": "error", "message": "No.", "type": "BadRequestError", "code": 400}, "No.", "BadRequestError"),
        (
            {"error": {"message": "No.", "type": "rate_limit_error", "details": {"error_code": "ramp_limit_exceeded"}}},
            "No.",
            "ramp_limit_exceeded",
        ),
        ({"error": "No.", "code": "c"}, "No.", "c"),
        ({"message": "No."}, "No.", ""),
        ({"detail": "No."}, "No.", ""),
        ({"detail": [{"loc": ["body"], "msg": "No."}]}, "No.", ""),
        ({"success": False, "errors": [{"code": 7003, "message": "No."}]}, "No.", ""),
        ("No.", "No.", ""),
        (b"No.\r\n", "No.", ""),
        (b"<html><head><title>502 Bad\nGateway</title></head><body>x</body></html>", "502 Bad Gateway", ""),
        (b"<h1>Sorry</h1><style>p{}</style><p>Down &amp; out</p>", "Sorry Down & out", ""),
        (b"\xff\xfe", "��", ""),
        (b"", "HTTP 418 I'm a Teapot", ""),
        ({}, "HTTP 418 I'm a Teapot", ""),
        ({"error": {"message": ["x"], "type": 7, "code": {}}}, "HTTP 418 I'm a Teapot", ""),
        (b'{"error":' * 5000, None, ""),
    ],
)
def test_the_vendors_words_are_found_wherever_they_stand(body: bytes | object, message: str | None, code: str) -> None:
    found = failure(418, body)
    assert found.message == message or message is None
    assert found.vendor_code == code
    assert found.http_status == 418


def test_an_unknown_status_has_a_message_all_the_same() -> None:
    assert failure(599).message == "HTTP 599"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "20"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "9e99"}, 86_400.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Fri, 20 Nov 2026 15:00:30 GMT"}, None),
        ({"retry-after": "Fri, 20 Nov 2026 15:00:30 GMT", "date": "Fri, 20 Nov 2026 15:00:00 GMT"}, 30.0),
        ({"retry-after": "Fri, 20 Nov 2026 14:00:30 GMT", "date": "Fri, 20 Nov 2026 15:00:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 20 Nov 2026 15:00:30 GMT", "date": "yesterday"}, None),
        ({"retry-after": "Fri, 20 Nov 2026 15:00:30", "date": "Fri, 20 Nov 2026 15:00:00 GMT"}, None),
    ],
)
def test_the_wait_that_a_vendor_asks_for_is_seconds(headers: dict[str, str], seconds: float | None) -> None:
    assert failure(429, b"", headers).retry_after_s == seconds


def test_geminis_retry_delay_counts_when_there_is_no_header() -> None:
    body = [
        {
            "error": {
                "code": 429,
                "message": "x",
                "details": [{"@type": "t/google.rpc.RetryInfo", "retryDelay": "34.5s"}],
            }
        }
    ]
    assert failure(429, body).retry_after_s == 34.5
    assert failure(429, body, {"retry-after": "2"}).retry_after_s == 2.0


@pytest.mark.parametrize("name", ["x-request-id", "request-id", "Request-Id"])
def test_the_vendors_request_id_is_kept(name: str) -> None:
    assert failure(500, b"", {name: "req_011\n"}).vendor_request_id == "req_011"


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-{}. You can find your key",
        "sk-ant-api03-{} is wrong",
        "header Authorization: Bearer {} refused",
        "bearer {}",
        "gsk_{}",
        "xai-{}",
        "AIza{}",
        "AQ.{}",
        "fw_{}",
        'x-api-key: "{}"',
        "api_key={}",
        "token {}{}",
    ],
)
def test_nothing_that_looks_like_a_key_survives(text: str) -> None:
    secret = "Zm9vYmFy1234567890qux"
    for body in ({"error": {"message": text.replace("{}", secret)}}, text.replace("{}", secret).encode()):
        assert secret[:8] not in failure(401, body).message
        assert "***" in failure(401, body).message


def test_a_key_at_the_place_of_the_cut_does_not_survive_in_part() -> None:
    assert "sk-" not in clean("x" * (MESSAGE_LIMIT - 10) + " sk-" + "a1" * 40)


@pytest.mark.parametrize("text", ["req_011CZTSUs5qZwEwHKSvppcnq", "gpt-4o-mini-2024-07-18", "risk-averse", "a Bearer"])
def test_ordinary_words_and_ids_are_left_alone(text: str) -> None:
    assert clean(text) == text


def test_messages_are_one_short_printable_line() -> None:
    message = failure(400, {"error": {"message": "a\nb\x1b[31m" + "é" * 10_000}}).message
    assert message.startswith("a b�[31m")
    assert len(message) == MESSAGE_LIMIT


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "type", "code", "detail", "details", "errors", "msg", "status"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.integers(100, 999), st.binary(max_size=80) | JSON.map(msgspec.json.encode), st.text(max_size=12))
def test_reading_a_failure_never_raises(status: int, body: bytes, header: str) -> None:
    found = read_failure(status, {"retry-after": header, "date": header, "x-request-id": header}, body)
    assert found.message
    assert len(found.message) <= MESSAGE_LIMIT
    assert isinstance(found.kind, FailureKind)
