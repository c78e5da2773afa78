"""What the platform promises, row by row. Each row is one thing that somebody outside can try."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Promise:
    """`row` names it for good; `says` is the promise in one sentence."""

    row: str
    says: str


CHAPTERS: Final = {
    "A": "gRPC and HTTP router",
    "B": "Model router library",
    "C": "Proxy service",
    "D": "Persona router",
    "E": "Chat API",
    "P": "The platform",
    "X": "Where promises disagree, this holds",
}

PROMISES: Final = tuple(
    Promise(row, says)
    for row, says in (
        ("A1", "OpenAI and Anthropic serve, and further providers can be added"),
        ("A2", "gRPC and HTTP do the same: answer, cost and record are alike"),
        ("A3", "gRPC service AIRouter: RouteRequest gives an AIResponse"),
        ("A4", "StreamingRouteRequest streams AIResponses as they are made"),
        ("A5", "a request may pin one model at one provider"),
        ("A6", "a new kind of provider and a new strategy each fit one protocol, and replace one row"),
        ("A7", "a config.yaml with each provider's default_model can be imported"),
        ("A8", "server.grpc_port and server.http_port are taken from that file and from the environment"),
        ("A9", "adding a provider is a short documented recipe"),
        ("A10", ".proto, reproducible generated code, API reference and a picture of the architecture are there"),
        ("B1", "AIModelRouter().route(prompt) and POST /api/v1/route tell model_used, cost and response"),
        ("B2", "the five task types are detected"),
        ("B3", "the cheapest model that still meets the wanted quality is chosen"),
        ("B4", "another model answers when one is down or overloaded"),
        ("B5", "a circuit breaker keeps requests from a provider that fails"),
        ("B6", "cost, latency and success rate over all calls can be looked at"),
        ("B7", "OpenAI, Anthropic, Groq and others are known providers"),
        ("B8", "add_policy(TaskType.CODING, RoutingPolicy(...)) decides who serves that task"),
        ("B9", "get_stats() and GET /api/v1/stats tell total_cost, avg_latency, success_rate, model_usage"),
        ("B10", "the seven models of the table are in the catalogue with price and strengths"),
        ("B11", "OPENAI_API_KEY, ANTHROPIC_API_KEY and GROQ_API_KEY are enough to start"),
        ("B12", "AI_ROUTER_LOG_LEVEL, AI_ROUTER_MAX_RETRIES and AI_ROUTER_TIMEOUT hold"),
        ("B13", "custom models: ModelConfig(...), also a free local one"),
        ("B14", "many prompts at once, with what they cost together"),
        ("B15", "a custom classifier: any object with classify(prompt)"),
        ("B16", "an alert when spend reaches a threshold, watched in the background"),
        ("B17", "a custom provider: a class with call_model, registered by name"),
        ("B18", "local models: Ollama, vLLM and Hugging Face TGI"),
        ("B19", "streaming"),
        ("B20", "a response cache in Redis"),
        ("B21", "load balancing over several keys of a provider"),
        ("B22", "a web dashboard that follows what happens"),
        ("B23", "prompt templates"),
        ("B24", "A/B tests of models"),
        ("B25", "rate limits for each model"),
        ("B26", "webhooks"),
        ("B27", "Cohere, AI21 and other clouds"),
        ("C1", "a request passes cache, router, circuit breaker and provider"),
        ("C2", "Claude, GPT and Ollama stand behind one interface"),
        ("C3", "the breaker opens after 5 failures in a row, fails fast for 60 s, then lets one request try"),
        ("C4", "CIRCUIT_BREAKER_MAX_REQUESTS and CIRCUIT_BREAKER_TIMEOUT hold"),
        ("C5", "answers at temperature 0 are kept for CACHE_TTL seconds, and given again to the same request only"),
        ("C6", "a provider's keys are used in turn"),
        ("C7", "gRPC Complete and StreamComplete"),
        ("C8", "gRPC HealthCheck"),
        ("C9", "gRPC GetProviderStatus"),
        ("C10", "POST /v1/complete, GET /v1/health and GET /v1/providers/status"),
        ("C11", "metric ai_proxy_requests_total by model, provider and status"),
        ("C12", "metric ai_proxy_request_duration_seconds"),
        ("C13", "metric ai_proxy_tokens_used_total by type"),
        ("C14", "metric ai_proxy_cost_total"),
        ("C15", "metric ai_proxy_cache_hits_total"),
        ("C16", "metric ai_proxy_circuit_breaker_state"),
        ("C17", "PORT and METRICS_PORT hold; AI_MODEL_SERVICE_ADDR names an external model registry"),
        ("C18", "a request costs what its input and output cost per million tokens"),
        ("C19", ".env.example, a Dockerfile and tests are there"),
        ("D1", "the four personas serve by rules that persona_policy.yaml brings in and takes out"),
        ("D2", "Claude, OpenAI and Gemini"),
        ("D3", "a model is picked that can what the request needs; capabilities.yaml goes in and out"),
        ("D4", "streaming in real time, and GET /health"),
        ("D5", "GET /api/v1/personas and GET /api/v1/providers"),
        ("D6", "POST /api/v1/chat takes persona, messages, stream, temperature and max_tokens"),
        ("D7", "light: no machine-learning framework at run time, a quick start, a small image"),
        ("D8", "GEMINI_API_KEY makes Gemini callable"),
        ("E1", "POST /chat/ takes message, chat_model_name and stream"),
        ("E2", "it answers with one JSON body, or in pieces"),
        ("E3", "OpenAI, Anthropic and Cohere each answer by their name"),
        ("E4", "COHERE_API_KEY, .env and docker compose"),
        ("P1", "providers, keys, personas, policies and records of each request are kept as rows"),
        ("P2", "REST answers whole, a WebSocket streams"),
        ("P3", "the worker checks health, tells of budgets, and sums costs by day"),
        ("P4", "people edit policies and keys in the admin, and traffic follows"),
        ("P5", "an application calls the REST API"),
        ("P6", "a person chats over WebSocket in the playground"),
        ("P7", "dashboards show each team's spend"),
        ("P8", "each package of the list does real work"),
        ("P9", "the top level holds what it should"),
        ("X1", "one port serves HTTP and WebSocket, gRPC has its own, /metrics can have its own"),
        ("X2", "prices are per million tokens in and out; retired models name their successor"),
        ("X3", "a kept answer never crosses teams, and a request may opt in above temperature 0"),
        ("X4", "budgets, limits and policies hold at every door"),
    )
)
