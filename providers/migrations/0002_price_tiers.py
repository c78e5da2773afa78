from decimal import Decimal

import django.core.validators
from django.db import migrations, models

import providers.models


def cache_write_1h() -> models.Field:
    return models.DecimalField(
        blank=True,
        decimal_places=6,
        help_text="Empty: billed like other cache writes. Anthropic asks twice the input rate.",
        max_digits=14,
        null=True,
        validators=[django.core.validators.MinValueValidator(Decimal("0"))],
        verbose_name="cache write for 1 hour (USD per 1M)",
    )


def tiers() -> models.Field:
    return models.JSONField(
        blank=True,
        default=list,
        help_text="A request with more input tokens than this, all of it: cached, written to the cache and new ones "
        "together, is billed at these rates altogether, its output too. An empty input or output rate is not known; "
        "empty cache rates are billed like this line’s input.",
        validators=[providers.models.validate_price_tiers],
        verbose_name="long prompts",
    )


class Migration(migrations.Migration):
    dependencies = [("providers", "0001_initial")]

    operations = [
        migrations.AddField("price", "cache_write_1h_usd", cache_write_1h()),
        migrations.AddField("price", "tiers", tiers()),
        migrations.AddField("historicalprice", "cache_write_1h_usd", cache_write_1h()),
        migrations.AddField("historicalprice", "tiers", tiers()),
    ]
