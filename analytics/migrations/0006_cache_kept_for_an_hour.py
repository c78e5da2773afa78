from django.db import migrations, models


class Migration(migrations.Migration):
    """Nullable, so that no database rewrites its usage: records from before have none."""

    dependencies = [("analytics", "0005_idempotent_answers")]

    operations = [
        migrations.AlterModelOptions(
            name="usageadjustment", options={"ordering": ["-created_at"], "verbose_name": "correction"}
        ),
        migrations.AddField(
            model_name="usagerecord",
            name="cache_creation_1h_input_tokens",
            field=models.PositiveBigIntegerField(
                blank=True,
                help_text="Of what was written to the cache.",
                null=True,
                verbose_name="of which kept for 1 hour",
            ),
        ),
    ]
