"""Whom the platform can call: providers, their keys, the model catalogue, deployments and what they cost."""

from decimal import Decimal

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from simple_history.models import HistoricalRecords

from providers.addresses import address_complaints
from providers.domain.pricing import complaint_about_tiers
from providers.domain.types import Capability
from providers.fields import SealedTextField
from providers.registry import kind_choices, wire_choices

slug_name = RegexValidator(
    r"^[a-z0-9][a-z0-9._-]*$", "Lower-case letters, digits, dot, dash and underscore; starts with a letter or digit."
)


class Health(models.TextChoices):
    UNKNOWN = "unknown", "Not checked yet"
    HEALTHY = "healthy", "Healthy"
    DEGRADED = "degraded", "Degraded"
    DOWN = "down", "Down"


class KeyStrategy(models.TextChoices):
    ROUND_ROBIN = "round_robin", "In turn"
    LEAST_USED = "least_used", "The one with the fewest requests under way"


class Provider(models.Model):
    """An endpoint that serves models: a vendor, a cloud, or a server of one's own."""

    name = models.CharField(
        max_length=60,
        unique=True,
        validators=[slug_name],
        help_text="Short name used in model names (openai/gpt-4o-mini), logs and reports. It cannot be changed later.",
    )
    label = models.CharField(max_length=80, help_text="The name people see.")
    kind = models.CharField(
        max_length=40,
        choices=kind_choices,
        help_text="Whose protocol this endpoint speaks. Choose OpenAI-compatible for vLLM, LM Studio and others.",
    )
    base_url = models.URLField(
        "base URL",
        blank=True,
        help_text="Leave empty for the vendor's own address. Include the version part, for example https://host/v1.",
    )
    region = models.CharField(
        max_length=20,
        blank=True,
        validators=[slug_name],
        help_text="Where it processes requests, for example eu. Policies can be limited to regions.",
    )
    is_active = models.BooleanField(
        "active", default=True, help_text="Off: no request is sent here and every route through it is skipped."
    )
    timeout_s = models.FloatField(
        "timeout (s)",
        default=120,
        validators=[MinValueValidator(1)],
        help_text="Longest silence while waiting for the first or the next bytes of an answer.",
    )
    connect_timeout_s = models.FloatField(
        "connect timeout (s)",
        default=5,
        validators=[MinValueValidator(0.1)],
        help_text="Longest wait for a connection.",
    )
    allowed_networks = models.TextField(
        "allowed private networks",
        blank=True,
        help_text="Only public addresses are called unless listed here: one network per line, for example 10.0.0.0/8 "
        "or 127.0.0.1/32 for a model server on this machine.",
    )
    key_strategy = models.CharField(
        "how keys are chosen",
        max_length=12,
        choices=KeyStrategy.choices,
        default=KeyStrategy.ROUND_ROBIN,
        help_text="Among the active keys. One that the vendor has refused or limited rests for a while.",
    )
    health = models.CharField(max_length=10, choices=Health.choices, default=Health.UNKNOWN, editable=False)
    health_note = models.CharField(max_length=300, blank=True, editable=False)
    checked_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    history = HistoricalRecords(excluded_fields=["health", "health_note", "checked_at"])

    class Meta:
        ordering = ["label"]

    def __str__(self) -> str:
        return self.label

    def clean(self) -> None:
        self.allowed_networks = "\n".join(self.allowed_networks.split())
        wrong = address_complaints(kind=self.kind, base_url=self.base_url, networks=self.allowed_networks)
        if wrong:
            raise ValidationError(wrong)


class ProviderKey(models.Model):
    """A credential at a provider. The key itself is write-only: encrypted at rest and never shown again."""

    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="keys")
    label = models.CharField(max_length=80, help_text="Tells this key from the others, for example “production, EU”.")
    sealed = SealedTextField(editable=False)
    last4 = models.CharField("ends with", max_length=4, editable=False)
    is_active = models.BooleanField(
        "active", default=True, help_text="Off: the key is kept but not used. Active keys of a provider take turns."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    rotated_at = models.DateTimeField("last replaced", null=True, blank=True, editable=False)

    history = HistoricalRecords(excluded_fields=["sealed"])

    class Meta:
        ordering = ["provider", "label"]
        constraints = [models.UniqueConstraint(fields=["provider", "label"], name="provider_key_label_unique")]

    def __str__(self) -> str:
        return f"{self.label} (…{self.last4})"


class CostTier(models.TextChoices):
    FREE = "free", "Free"
    ECONOMY = "economy", "Economy"
    STANDARD = "standard", "Standard"
    PREMIUM = "premium", "Premium"


class ModelStatus(models.TextChoices):
    CURRENT = "current", "Current"
    RETIRED = "retired", "Retired by the vendor"


def validate_capabilities(value: object) -> None:
    """A list of known capability names, each once."""
    known = {c.value for c in Capability}
    if not isinstance(value, list) or len(set(map(str, value))) != len(value):
        raise ValidationError("Capabilities are a list of names, each once.")
    unknown = [str(item) for item in value if item not in known]
    if unknown:
        raise ValidationError(f"Unknown capability: {', '.join(unknown)}. Known: {', '.join(sorted(known))}.")


class CatalogueModel(models.Model):
    """What a model is, whoever serves it: abilities, sizes, tier. Deployments make it callable."""

    name = models.CharField(max_length=120, unique=True, help_text="The vendor's own model name.")
    label = models.CharField(max_length=120)
    vendor = models.CharField(max_length=60, help_text="Who makes the model.")
    status = models.CharField(max_length=10, choices=ModelStatus.choices, default=ModelStatus.CURRENT)
    replaced_by = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, help_text="What to use instead of a retired model."
    )
    capabilities = models.JSONField(
        default=list, blank=True, validators=[validate_capabilities], help_text="What a request may ask of this model."
    )
    context_window = models.PositiveIntegerField(
        "context window (tokens)", null=True, blank=True, help_text="Prompt and answer together. Empty: not known."
    )
    max_output_tokens = models.PositiveIntegerField("longest answer (tokens)", null=True, blank=True)
    cost_tier = models.CharField(max_length=10, choices=CostTier.choices, default=CostTier.STANDARD)
    strengths = models.CharField(max_length=200, blank=True, help_text="What it is best for, in a few words.")
    list_price_per_1k = models.DecimalField(
        "single list price (USD per 1K tokens)",
        max_digits=12,
        decimal_places=6,
        null=True,
        blank=True,
        help_text="One round figure for people to compare models by. Bills use the dated prices below.",
    )

    history = HistoricalRecords()

    class Meta:
        ordering = ["vendor", "name"]
        verbose_name = "model"
        constraints = [
            models.CheckConstraint(
                condition=Q(status="retired") | Q(replaced_by__isnull=True), name="only_retired_models_are_replaced"
            )
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.replaced_by_id is None:
            return
        if self.status != ModelStatus.RETIRED:
            raise ValidationError({"replaced_by": "Only a retired model is replaced. Retire it, or leave this empty."})
        if self.replaced_by_id == self.pk:
            raise ValidationError({"replaced_by": "A model that replaces itself helps nobody. Choose another one."})


class RateLimitFields(models.Model):
    """Columns of whatever can be kept from too much traffic."""

    rpm_limit = models.PositiveIntegerField(
        "requests per minute",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Most requests in any 60 seconds. Empty: no limit.",
    )
    tpm_limit = models.PositiveIntegerField(
        "tokens per minute",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Most tokens in any 60 seconds, prompts and answers together. Empty: no limit.",
    )
    max_parallel_requests = models.PositiveIntegerField(
        "requests at a time",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Most requests that may be under way at once. Empty: no limit.",
    )

    class Meta:
        abstract = True

    def limits_in_words(self) -> str:
        """“60 requests/min, 5 at a time”; empty where nothing is limited."""
        limits = {
            "requests/min": self.rpm_limit,
            "tokens/min": self.tpm_limit,
            "at a time": self.max_parallel_requests,
        }
        return ", ".join(f"{limit:,} {unit}" for unit, limit in limits.items() if limit is not None)


class BreakerOverride(models.TextChoices):
    AUTOMATIC = "", "By its failures"
    OPEN = "open", "Forced open: nothing is sent here"
    CLOSED = "closed", "Forced closed: failures are ignored"


class Deployment(RateLimitFields):
    """A model at a provider: the unit that a route ends at. At its rate limit it is passed over."""

    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="deployments")
    model = models.ForeignKey(CatalogueModel, on_delete=models.PROTECT, related_name="deployments")
    upstream_model = models.CharField(
        "model name at the provider", max_length=120, help_text="Sent as “model” in the call to the provider."
    )
    is_active = models.BooleanField("active", default=True, help_text="Off: every route skips this deployment.")
    max_output_tokens = models.PositiveIntegerField(
        "longest answer (tokens)", null=True, blank=True, help_text="Empty: as the model says."
    )
    expected_latency_ms = models.PositiveIntegerField(
        "expected latency (ms)",
        null=True,
        blank=True,
        help_text="Usual time to a full answer; policies with a latency ceiling skip slower ones. Empty: not known.",
    )

    wire = models.CharField(
        "API",
        max_length=30,
        blank=True,
        choices=wire_choices,
        help_text="Only for a model that its provider serves through one API alone. Empty: as the provider does.",
    )
    breaker = models.CharField(
        "circuit breaker",
        max_length=6,
        blank=True,
        choices=BreakerOverride.choices,
        default=BreakerOverride.AUTOMATIC,
        help_text="Force it by hand while you know better than the failures do.",
    )
    breaker_reset_at = models.DateTimeField(null=True, blank=True, editable=False)

    history = HistoricalRecords()

    class Meta:
        ordering = ["provider", "upstream_model"]
        constraints = [models.UniqueConstraint(fields=["provider", "upstream_model"], name="deployment_unique")]

    def __str__(self) -> str:
        return f"{self.provider.name}/{self.upstream_model}"


class PriceSource(models.TextChoices):
    GENAI_PRICES = "genai-prices", "Price list (genai-prices)"
    REGISTRY = "registry", "Model registry"
    OVERRIDE = "override", "Own price"
    DEMO = "demo", "Invented for the demo"


def _rate(label: str, help_text: str = "") -> "models.DecimalField[Decimal | None, Decimal | None]":
    return models.DecimalField(
        label,
        max_digits=14,
        decimal_places=6,
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal(0))],
        help_text=help_text or "USD per 1M tokens. Empty: not known (never treated as free).",
    )


def validate_price_tiers(value: object) -> None:
    """A list of tiers as `providers.domain.pricing.TIER_FIELDS` has them, each above the one before."""
    if complaint := complaint_about_tiers(value):
        raise ValidationError(complaint)


class Price(models.Model):
    """What a model costs from a date on, for everybody or for one deployment. A row is never edited once it has begun.

    A deployment's own row wins over the model's; among equals the latest that has begun wins; an own price wins over
    the price list.
    """

    model = models.ForeignKey(CatalogueModel, null=True, blank=True, on_delete=models.CASCADE, related_name="prices")
    deployment = models.ForeignKey(Deployment, null=True, blank=True, on_delete=models.CASCADE, related_name="prices")
    source = models.CharField(max_length=20, choices=PriceSource.choices, default=PriceSource.OVERRIDE)
    effective_from = models.DateTimeField(
        default=timezone.now, help_text="Requests from this moment on are billed at it."
    )
    input_usd = _rate("input (USD per 1M)")
    output_usd = _rate("output (USD per 1M)")
    cache_read_usd = _rate("cache read (USD per 1M)", "Empty: billed like input.")
    cache_write_usd = _rate("cache write (USD per 1M)", "Empty: billed like input.")
    cache_write_1h_usd = _rate(
        "cache write for 1 hour (USD per 1M)",
        "Empty: billed like other cache writes. Anthropic asks twice the input rate.",
    )
    per_request_usd = models.DecimalField(
        "per request (USD)",
        max_digits=14,
        decimal_places=9,
        default=Decimal(0),
        validators=[MinValueValidator(Decimal(0))],
        help_text="A flat charge on top of the tokens.",
    )
    tiers = models.JSONField(
        "long prompts",
        default=list,
        blank=True,
        validators=[validate_price_tiers],
        help_text="A request with more input tokens than this, all of it: cached, written to the cache and new ones "
        "together, is billed at these rates altogether, its output too. An empty input or output rate is not known; "
        "empty cache rates are billed like this line’s input.",
    )

    history = HistoricalRecords()

    class Meta:
        ordering = ["-effective_from"]
        constraints = [
            models.CheckConstraint(
                condition=Q(model__isnull=True, deployment__isnull=False)
                | Q(model__isnull=False, deployment__isnull=True),
                name="price_is_for_a_model_or_a_deployment",
            ),
            models.UniqueConstraint(
                fields=["model", "source", "effective_from"],
                condition=Q(model__isnull=False),
                name="model_price_unique",
            ),
            models.UniqueConstraint(
                fields=["deployment", "source", "effective_from"],
                condition=Q(deployment__isnull=False),
                name="deployment_price_unique",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.deployment or self.model} from {self.effective_from:%Y-%m-%d}"

    def clean(self) -> None:
        """The constraints of this table, in words for people."""
        if (self.model_id is None) == (self.deployment_id is None):
            raise ValidationError({"deployment": "A price is for a model or for a deployment: choose one of the two."})
        if Price.objects.filter(pk=self.pk, effective_from__lte=timezone.now()).exists():
            raise ValidationError("This price has begun and stays as it is. Add another one that begins now or later.")
        others = Price.objects.filter(model=self.model_id, deployment=self.deployment_id, source=self.source)
        if others.filter(effective_from=self.effective_from).exclude(pk=self.pk).exists():
            raise ValidationError({"effective_from": "Another price of the same begins at this very moment."})


class ProviderCheck(models.Model):
    """One health check of a provider. Kept for a while, then thinned out by a task."""

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="checks")
    checked_at = models.DateTimeField(default=timezone.now)
    health = models.CharField(max_length=10, choices=Health.choices)
    note = models.CharField(max_length=300, blank=True)
    latency_ms = models.PositiveIntegerField(null=True, blank=True)
    is_passive = models.BooleanField(default=False, help_text="Judged from real traffic; no call was made.")

    class Meta:
        ordering = ["-checked_at"]
        indexes = [models.Index(fields=["provider", "-checked_at"], name="provider_check_latest")]

    def __str__(self) -> str:
        return f"{self.provider_id} {self.health} {self.checked_at:%H:%M:%S}"
