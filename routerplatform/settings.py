"""The platform's settings: read once from the environment (or `.env`), typed, and listed in docs/settings.md."""

from pathlib import Path
from typing import Any

import django_stubs_ext
import environ
from csp.constants import NONCE, NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE

from providers.registry import PROVIDER_KINDS
from routerplatform.configuration.server_file import read_server_ports
from routerplatform.environment import open_environment, read_addresses, read_choice, read_port, read_secrets
from routerplatform.navigation import UNFOLD as UNFOLD

django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent
env = open_environment()
if env.bool("READ_DOTENV", default=True):
    environ.Env.read_env(BASE_DIR / ".env")

# --- what kind of installation this is -------------------------------------------------------------------------
DEBUG: bool = env.bool("DEBUG", default=False)
ENVIRONMENT: str = env.str("ENVIRONMENT", default="Demo data")
LOG_LEVEL: str = env.str("LOG_LEVEL", default=env.str("AI_ROUTER_LOG_LEVEL", default="INFO")).upper()
LOG_REQUESTS: bool = env.bool("LOG_REQUESTS", default=False)
SERVER_PORTS = read_server_ports(env.str("AI_ROUTER_CONFIG", default=""))
PORT: int = read_port(env, "PORT", SERVER_PORTS.get("http_port", 8000))
DATA_DIR = Path(env.str("DATA_DIR", default=str(BASE_DIR / "var"))).absolute()

# --- secrets: no default outside DEBUG; a missing or unusable one stops the start with the command that fixes it
SECRET_KEY, KEY_PEPPER, FIELD_KEYS = read_secrets(env)

# --- web ---------------------------------------------------------------------------------------------------------
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[])
BEHIND_TLS: bool = env.bool("BEHIND_TLS", default=False)
TRUSTED_PROXIES: list[str] = env.list("TRUSTED_PROXIES", default=["127.0.0.1"])
ROUTER_KEY: str = env.str("ROUTER_KEY", default="")
PUBLIC_URL: str = env.str("PUBLIC_URL", default="http://127.0.0.1:8000")
ROOT_URLCONF = "routerplatform.urls"
ASGI_APPLICATION = "routerplatform.asgi.application"
WSGI_APPLICATION = "routerplatform.wsgi.application"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = BEHIND_TLS
SECURE_HSTS_SECONDS = 31_536_000 if BEHIND_TLS else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_TLS else None
SESSION_COOKIE_HTTPONLY = True
X_FRAME_OPTIONS = "DENY"
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/dashboards/"
LOGOUT_REDIRECT_URL = "/login/"

INSTALLED_APPS = [
    "daphne",
    "unfold",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "unfold.contrib.inlines",
    "unfold.contrib.simple_history",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "axes",
    "channels",
    "csp",
    "django_celery_beat",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "rest_framework",
    "simple_history",
    "providers",
    "routing",
    "analytics",
    "routerplatform",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "routerplatform.content_security.PagePolicyMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
    "axes.middleware.AxesMiddleware",
]

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
            ],
        },
    },
]

AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_TEMPLATE = "lockout.html"
AXES_VERBOSE = False

# Pages of our own are strict; Unfold's admin needs eval (Alpine) and inline styles, so /admin/ has its own policy.
CONTENT_SECURITY_POLICY: dict[str, Any] = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "img-src": [SELF, "data:"],
        "connect-src": [SELF, "ws:", "wss:"] if DEBUG else [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    },
}
ADMIN_CONTENT_SECURITY_POLICY = {
    "script-src": [SELF, UNSAFE_EVAL],
    "style-src": [SELF, UNSAFE_INLINE],
}

# --- storage -----------------------------------------------------------------------------------------------------
DATABASE_URL: str = env.str("DATABASE_URL", default="") or f"sqlite:///{DATA_DIR / 'router.sqlite3'}"
DATABASES: dict[str, Any] = {"default": env.db_url_config(DATABASE_URL)}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    # a file, not memory: only then do the threads of a test meet the locks that production has
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        timeout=20,
        transaction_mode="IMMEDIATE",
        init_command="PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-16000;",
    )
else:  # a database that falls silent must fail soon: revocations are read from it, and records wait for it
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 5,  # seconds
        "tcp_user_timeout": 15_000,  # milliseconds
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    } | DATABASES["default"].get("OPTIONS", {})
DATA_UPLOAD_MAX_MEMORY_SIZE = 20 * 1024 * 1024
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_ADDR: str = env.str("REDIS_ADDR", default="")
REDIS_URL: str = env.str("REDIS_URL", default=f"redis://{REDIS_ADDR}/0" if REDIS_ADDR else "")
CACHES: dict[str, Any] = {
    "default": (
        {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
        if REDIS_URL
        else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    ),
}

# --- background work ---------------------------------------------------------------------------------------------
CELERY_QUEUE_DIR = DATA_DIR / "queue"
CELERY_BROKER_URL: str = REDIS_URL or "filesystem://"
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = (
    {"visibility_timeout": 3600}
    if REDIS_URL
    else {
        "data_folder_in": str(CELERY_QUEUE_DIR),
        "data_folder_out": str(CELERY_QUEUE_DIR),
        "control_folder": str(CELERY_QUEUE_DIR / "control"),
        "store_processed": False,
    }
)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_TIME_LIMIT = 300
CELERY_TIMEZONE = "UTC"

# --- mail: alerts go by it ---------------------------------------------------------------------------------------
EMAIL_URL: str = env.str("EMAIL_URL", default="") or ("consolemail://" if DEBUG else "")
DEFAULT_FROM_EMAIL: str = env.str("DEFAULT_FROM_EMAIL", default="router-platform@localhost")
EMAIL_TIMEOUT = 10
if EMAIL_URL:
    globals().update(env.email_url_config(EMAIL_URL))

# --- the request path --------------------------------------------------------------------------------------------
MAX_BODY_BYTES: int = env.int("MAX_BODY_BYTES", default=20 * 1024 * 1024)
REQUEST_TIMEOUT_S: float = env.float("REQUEST_TIMEOUT_S", default=env.float("AI_ROUTER_TIMEOUT", default=600.0))
STOP_ANNOUNCE_S: float = max(0.0, env.float("STOP_ANNOUNCE_S", default=5.0))
STOP_DRAIN_S: float = max(0.0, env.float("STOP_DRAIN_S", default=REQUEST_TIMEOUT_S))
CACHE_TTL: int = env.int("CACHE_TTL", default=3600)
STREAM_KEEP_ALIVE_S: float = env.float("STREAM_KEEP_ALIVE_S", default=15.0)
MAX_ATTEMPTS: int = env.int("MAX_ATTEMPTS", default=1 + env.int("AI_ROUTER_MAX_RETRIES", default=3))
RETRY_BUDGET: float = max(0.0, env.float("RETRY_BUDGET", default=0.1))
CIRCUIT_BREAKER_MAX_REQUESTS: int = max(1, env.int("CIRCUIT_BREAKER_MAX_REQUESTS", default=5))
CIRCUIT_BREAKER_TIMEOUT: float = max(1.0, env.float("CIRCUIT_BREAKER_TIMEOUT", default=60.0))
ROUTER_CLASSIFIER: str = env.str("ROUTER_CLASSIFIER", default="")
ROUTER_CLASSIFIER_KEY: str = env.str("ROUTER_CLASSIFIER_KEY", default="")
ROUTER_CLASSIFIER_NETWORKS: list[str] = env.list("ROUTER_CLASSIFIER_NETWORKS", default=[])
ROUTER_GRADE_KEY: str = env.str("ROUTER_GRADE_KEY", default="")
AI_MODEL_SERVICE_ADDR: str = env.str("AI_MODEL_SERVICE_ADDR", default="")
METRICS_DIR = Path(env.str("METRICS_DIR", default=str(DATA_DIR / "metrics"))).absolute()
METRICS_PORT: int = env.int("METRICS_PORT", default=0)
METRICS_HOST: str = env.str("METRICS_HOST", default="127.0.0.1")
TRACES_ENDPOINT: str = env.str("TRACES_ENDPOINT", default="")
METRICS_TOKEN: str = env.str("METRICS_TOKEN", default="")
env.ENVIRON["PROMETHEUS_MULTIPROC_DIR"] = str(METRICS_DIR)  # prometheus_client asks when it is imported, after this
CONFIG_POLL_S: float = env.float("CONFIG_POLL_S", default=0.5)
POLICY_REVIEW: bool = env.bool("POLICY_REVIEW", default=False)
GATEWAY_PROCESSES: int = max(1, env.int("GATEWAY_PROCESSES", default=1))
JOURNAL_DIR = Path(env.str("JOURNAL_DIR", default=str(DATA_DIR / "journal"))).absolute()
JOURNAL_DURABILITY: str = read_choice(env, "JOURNAL_DURABILITY", ("disk", "process", "database"))
USAGE_RETENTION_MONTHS: int = max(0, env.int("USAGE_RETENTION_MONTHS", default=0))
RESPONSES_KEPT_DAYS: int = max(0, env.int("RESPONSES_KEPT_DAYS", default=30))
DECISIONS_KEPT_DAYS: int = max(0, env.int("DECISIONS_KEPT_DAYS", default=30))
PROMPTS_KEPT_DAYS: int = max(0, env.int("PROMPTS_KEPT_DAYS", default=30))
WEBHOOK_EVENTS_KEPT_DAYS: int = max(0, env.int("WEBHOOK_EVENTS_KEPT_DAYS", default=30))
BATCH_INLINE_MAX: int = max(1, env.int("BATCH_INLINE_MAX", default=50))
BATCH_MAX_ITEMS: int = max(1, env.int("BATCH_MAX_ITEMS", default=10_000))
BATCH_MAX_PARALLEL: int = max(1, env.int("BATCH_MAX_PARALLEL", default=32))
BATCH_KEPT_DAYS: int = max(1, env.int("BATCH_KEPT_DAYS", default=7))
WEBSOCKET_ALLOWED_ORIGINS: list[str] = env.list("WEBSOCKET_ALLOWED_ORIGINS", default=[])
WEBSOCKET_MAX_SOCKETS: int = env.int("WEBSOCKET_MAX_SOCKETS", default=1000)
WEBSOCKET_MAX_SOCKETS_PER_KEY: int = env.int("WEBSOCKET_MAX_SOCKETS_PER_KEY", default=100)

# --- gRPC: a process of its own, `manage.py rungrpc` -------------------------------------------------------------
GRPC_HOST: str = env.str("GRPC_HOST", default="127.0.0.1")
GRPC_PORT: int = read_port(env, "GRPC_PORT", SERVER_PORTS.get("grpc_port", 50051))
GRPC_TLS_CERT: str = env.str("GRPC_TLS_CERT", default="")
GRPC_TLS_KEY: str = env.str("GRPC_TLS_KEY", default="")
GRPC_PLAINTEXT: bool = env.bool("GRPC_PLAINTEXT", default=False)
GRPC_REFLECTION: bool = env.bool("GRPC_REFLECTION", default=False)

# --- the demo, and the vendors whose keys are in the environment ------------------------------------------------
DEMO_PROVIDER_PORT: int = env.int("DEMO_PROVIDER_PORT", default=8901)
VENDOR_KEYS: dict[str, str] = {
    kind: env.str(name, default="")
    for kind, name in (
        ("openai", "OPENAI_API_KEY"),
        ("anthropic", "ANTHROPIC_API_KEY"),
        ("groq", "GROQ_API_KEY"),
        ("gemini", "GEMINI_API_KEY"),
        ("cohere", "COHERE_API_KEY"),
        ("mistral", "MISTRAL_API_KEY"),
        ("together", "TOGETHER_API_KEY"),
        ("openrouter", "OPENROUTER_API_KEY"),
        ("deepseek", "DEEPSEEK_API_KEY"),
        ("xai", "XAI_API_KEY"),
        ("perplexity", "PERPLEXITY_API_KEY"),
        ("fireworks", "FIREWORKS_API_KEY"),
        ("ai21", "AI21_API_KEY"),
    )
}

VENDOR_BASE_URLS: dict[str, str] = read_addresses(env, "AI_ROUTER_BASE_URLS", PROVIDER_KINDS)

# --- API, language, files ----------------------------------------------------------------------------------------
REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Router Platform",
    "DESCRIPTION": "One request in, the right model out: routed chat, personas and providers.",
    "VERSION": "1",
    "APPEND_COMPONENTS": {"securitySchemes": {"virtualKey": {"type": "http", "scheme": "bearer"}}},
    "SECURITY": [{"virtualKey": []}],
    "SERVE_INCLUDE_SCHEMA": False,
    "ENUM_NAME_OVERRIDES": {
        "ListEnum": ["list"],
        "LivenessEnum": ["ok", "unavailable"],
        "CapabilityEnum": "routerplatform.api.management.serializers.CAPABILITIES",
        "BreakerStateEnum": ["closed", "open", "half_open"],
        "BreakerOverrideEnum": "providers.models.BreakerOverride",
        "KeyStateEnum": "routing.models.KeyState",
        "DraftStateEnum": "routing.models.DraftState",
        "RaiseStateEnum": "analytics.models.RaiseState",
        "ReplayStateEnum": "analytics.models.ReplayState",
        "UsageStateEnum": "analytics.models.UsageState",
        "TeamRoleEnum": "routing.models.TeamRole",
        "ModelStatusEnum": "providers.models.ModelStatus",
        "HealthEnum": "providers.models.Health",
    },
    "PREPROCESSING_HOOKS": ["routerplatform.api.documented.with_described"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
DATE_FORMAT, DATETIME_FORMAT = "j M Y", "j M Y, H:i"
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "routerplatform.logs.formatter", "pretty": DEBUG}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "django.request": {"level": "ERROR"},
        "aiohttp.access": {"level": "WARNING"},
        "httpx2": {"level": "WARNING"},  # the SDKs of the health checks speak through it
        "daphne": {"level": "WARNING"},
        "apprise": {"level": "CRITICAL"},  # it quotes tokens; why a message was not sent stands with the message
        "urllib3": {"level": "WARNING"},  # so does the client under it
        "uvicorn": {"level": "WARNING"},
    },
}
