import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("providers", "0002_price_tiers")]

    operations = [
        migrations.AddField(
            model_name='deployment',
            name='max_parallel_requests',
            field=models.PositiveIntegerField(blank=True, help_text='Most requests that may be under way at once. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='requests at a time'),
        ),
        migrations.AddField(
            model_name='deployment',
            name='rpm_limit',
            field=models.PositiveIntegerField(blank=True, help_text='Most requests in any 60 seconds. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='requests per minute'),
        ),
        migrations.AddField(
            model_name='deployment',
            name='tpm_limit',
            field=models.PositiveIntegerField(blank=True, help_text='Most tokens in any 60 seconds, prompts and answers together. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='tokens per minute'),
        ),
        migrations.AddField(
            model_name='historicaldeployment',
            name='max_parallel_requests',
            field=models.PositiveIntegerField(blank=True, help_text='Most requests that may be under way at once. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='requests at a time'),
        ),
        migrations.AddField(
            model_name='historicaldeployment',
            name='rpm_limit',
            field=models.PositiveIntegerField(blank=True, help_text='Most requests in any 60 seconds. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='requests per minute'),
        ),
        migrations.AddField(
            model_name='historicaldeployment',
            name='tpm_limit',
            field=models.PositiveIntegerField(blank=True, help_text='Most tokens in any 60 seconds, prompts and answers together. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='tokens per minute'),
        ),
    ]
