import django.utils.timezone
from django.db import migrations, models

import providers.fields


class Migration(migrations.Migration):
    dependencies = [("analytics", "0004_alerts")]

    operations = [
        migrations.CreateModel(
            name="IdempotentAnswer",
            fields=[
                ("key_digest", models.CharField(max_length=64, primary_key=True, serialize=False, verbose_name="key (SHA-256)")),
                ("body_digest", models.CharField(max_length=64, verbose_name="request (SHA-256)")),
                ("request_id", models.UUIDField(help_text="The run that has the key; its usage record has the same id.", verbose_name="request")),
                ("state", models.CharField(choices=[("running", "running"), ("kept", "kept"), ("too_large", "too large")], max_length=10)),
                ("claimed_until", models.DateTimeField()),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("expires_at", models.DateTimeField(db_index=True)),
                ("sealed", providers.fields.SealedTextField(blank=True, default="", editable=False, verbose_name="answer (encrypted)")),
            ],
            options={
                "ordering": ["-created_at"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("sealed__gt", ""), ("state", "kept")),
                            models.Q(models.Q(("state", "kept"), _negated=True), ("sealed", "")),
                            _connector="OR",
                        ),
                        name="an_answer_is_there_when_it_is_kept",
                    )
                ],
            },
        ),
    ]
