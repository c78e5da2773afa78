import analytics.models.alerts
import analytics.models.webhooks
import django.core.validators
import django.db.models.deletion
import django.utils.timezone
import providers.fields
import simple_history.models
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("analytics", "0008_decisions"),
        ("providers", "0007_registry_prices"),
        ("routing", "0005_access_tokens"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="BreakerTold",
            fields=[
                (
                    "deployment",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="providers.deployment",
                    ),
                ),
                (
                    "override",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("", "By its failures"),
                            ("open", "Forced open: nothing is sent here"),
                            ("closed", "Forced closed: failures are ignored"),
                        ],
                        default="",
                        max_length=10,
                    ),
                ),
                ("is_open", models.BooleanField(default=False)),
            ],
            options={
                "verbose_name_plural": "breakers told",
                "ordering": ["deployment"],
            },
        ),
        migrations.CreateModel(
            name="FailedRequest",
            fields=[
                ("request_id", models.UUIDField(primary_key=True, serialize=False)),
            ],
            options={
                "ordering": ["request_id"],
            },
        ),
        migrations.CreateModel(
            name="HistoricalWebhookEndpoint",
            fields=[
                ("id", models.BigIntegerField(auto_created=True, blank=True, db_index=True, verbose_name="ID")),
                (
                    "name",
                    models.CharField(db_index=True, help_text="For example “Billing, production”.", max_length=80),
                ),
                ("hint", models.CharField(editable=False, max_length=200, verbose_name="goes to")),
                (
                    "events",
                    models.JSONField(
                        default=list,
                        help_text="What it is told of.",
                        validators=[analytics.models.webhooks.validate_events],
                    ),
                ),
                (
                    "failures_per_minute",
                    models.PositiveSmallIntegerField(
                        default=60,
                        help_text="So many are told of one by one; the others of that minute are counted in one event. 0: all are.",
                        validators=[
                            django.core.validators.MinValueValidator(0),
                            django.core.validators.MaxValueValidator(600),
                        ],
                        verbose_name="failed requests per minute",
                    ),
                ),
                (
                    "allowed_networks",
                    models.TextField(
                        blank=True,
                        help_text="Only public addresses are called unless listed here, one network per line, for example 10.0.0.0/8. Only what is listed may be called by http://.",
                        validators=[analytics.models.alerts.validate_networks],
                        verbose_name="allowed private networks",
                    ),
                ),
                (
                    "is_active",
                    models.BooleanField(
                        default=True, help_text="Off: it is told nothing, later neither.", verbose_name="active"
                    ),
                ),
                (
                    "switched_off",
                    models.CharField(
                        blank=True, default="", editable=False, max_length=300, verbose_name="switched off because"
                    ),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                ("history_change_reason", models.CharField(max_length=100, null=True)),
                (
                    "history_type",
                    models.CharField(choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="Only events of this team. Empty: of all teams, and of the platform itself.",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="routing.team",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical webhook endpoint",
                "verbose_name_plural": "historical webhook endpoints",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="WebhookEndpoint",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(help_text="For example “Billing, production”.", max_length=80, unique=True)),
                ("target", providers.fields.SealedTextField(editable=False)),
                ("hint", models.CharField(editable=False, max_length=200, verbose_name="goes to")),
                ("signing_secret", providers.fields.SealedTextField(editable=False)),
                ("previous_secret", providers.fields.SealedTextField(blank=True, default="", editable=False)),
                ("previous_until", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "events",
                    models.JSONField(
                        default=list,
                        help_text="What it is told of.",
                        validators=[analytics.models.webhooks.validate_events],
                    ),
                ),
                (
                    "failures_per_minute",
                    models.PositiveSmallIntegerField(
                        default=60,
                        help_text="So many are told of one by one; the others of that minute are counted in one event. 0: all are.",
                        validators=[
                            django.core.validators.MinValueValidator(0),
                            django.core.validators.MaxValueValidator(600),
                        ],
                        verbose_name="failed requests per minute",
                    ),
                ),
                (
                    "allowed_networks",
                    models.TextField(
                        blank=True,
                        help_text="Only public addresses are called unless listed here, one network per line, for example 10.0.0.0/8. Only what is listed may be called by http://.",
                        validators=[analytics.models.alerts.validate_networks],
                        verbose_name="allowed private networks",
                    ),
                ),
                (
                    "is_active",
                    models.BooleanField(
                        default=True, help_text="Off: it is told nothing, later neither.", verbose_name="active"
                    ),
                ),
                ("failing_since", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "switched_off",
                    models.CharField(
                        blank=True, default="", editable=False, max_length=300, verbose_name="switched off because"
                    ),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "team",
                    models.ForeignKey(
                        blank=True,
                        help_text="Only events of this team. Empty: of all teams, and of the platform itself.",
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="webhook_endpoints",
                        to="routing.team",
                    ),
                ),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="WebhookEvent",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("kind", models.CharField(max_length=30, verbose_name="type")),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
                ("payload", models.JSONField(default=dict)),
                (
                    "team",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="routing.team",
                    ),
                ),
            ],
            options={
                "ordering": ["-at", "id"],
            },
        ),
        migrations.CreateModel(
            name="WebhookDelivery",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                (
                    "state",
                    models.CharField(
                        choices=[("waiting", "Waiting"), ("sent", "Sent"), ("failed", "Given up")],
                        default="waiting",
                        max_length=10,
                    ),
                ),
                ("attempts", models.PositiveSmallIntegerField(default=0, verbose_name="tries")),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("next_attempt_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("sent_at", models.DateTimeField(blank=True, null=True)),
                ("note", models.CharField(blank=True, max_length=300, verbose_name="last answer")),
                (
                    "endpoint",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="analytics.webhookendpoint",
                    ),
                ),
                (
                    "event",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="analytics.webhookevent",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "webhook deliveries",
                "ordering": ["-created_at", "id"],
            },
        ),
        migrations.AddIndex(
            model_name="webhookevent",
            index=models.Index(fields=["-at"], name="webhook_event_latest"),
        ),
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(
                condition=models.Q(("state", "waiting")), fields=["next_attempt_at"], name="webhook_delivery_due"
            ),
        ),
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(fields=["endpoint", "-created_at"], name="webhook_delivery_latest"),
        ),
        migrations.AddConstraint(
            model_name="webhookdelivery",
            constraint=models.UniqueConstraint(
                fields=("event", "endpoint"), name="one_delivery_per_event_and_endpoint"
            ),
        ),
    ]
