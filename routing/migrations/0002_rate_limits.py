import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("routing", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name='historicalmodelalias',
            name='max_parallel_requests',
            field=models.PositiveIntegerField(blank=True, help_text='Most requests that may be under way at once. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='requests at a time'),
        ),
        migrations.AddField(
            model_name='historicalmodelalias',
            name='rpm_limit',
            field=models.PositiveIntegerField(blank=True, help_text='Most requests in any 60 seconds. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='requests per minute'),
        ),
        migrations.AddField(
            model_name='historicalmodelalias',
            name='tpm_limit',
            field=models.PositiveIntegerField(blank=True, help_text='Most tokens in any 60 seconds, prompts and answers together. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='tokens per minute'),
        ),
        migrations.AddField(
            model_name='historicalteam',
            name='max_parallel_requests',
            field=models.PositiveIntegerField(blank=True, help_text='Most requests that may be under way at once. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='requests at a time'),
        ),
        migrations.AddField(
            model_name='historicalteam',
            name='rpm_limit',
            field=models.PositiveIntegerField(blank=True, help_text='Most requests in any 60 seconds. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='requests per minute'),
        ),
        migrations.AddField(
            model_name='historicalteam',
            name='tpm_limit',
            field=models.PositiveIntegerField(blank=True, help_text='Most tokens in any 60 seconds, prompts and answers together. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='tokens per minute'),
        ),
        migrations.AddField(
            model_name='historicalvirtualkey',
            name='max_parallel_requests',
            field=models.PositiveIntegerField(blank=True, help_text='Most requests that may be under way at once. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='requests at a time'),
        ),
        migrations.AddField(
            model_name='historicalvirtualkey',
            name='rpm_limit',
            field=models.PositiveIntegerField(blank=True, help_text='Most requests in any 60 seconds. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='requests per minute'),
        ),
        migrations.AddField(
            model_name='historicalvirtualkey',
            name='tpm_limit',
            field=models.PositiveIntegerField(blank=True, help_text='Most tokens in any 60 seconds, prompts and answers together. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='tokens per minute'),
        ),
        migrations.AddField(
            model_name='modelalias',
            name='max_parallel_requests',
            field=models.PositiveIntegerField(blank=True, help_text='Most requests that may be under way at once. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='requests at a time'),
        ),
        migrations.AddField(
            model_name='modelalias',
            name='rpm_limit',
            field=models.PositiveIntegerField(blank=True, help_text='Most requests in any 60 seconds. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='requests per minute'),
        ),
        migrations.AddField(
            model_name='modelalias',
            name='tpm_limit',
            field=models.PositiveIntegerField(blank=True, help_text='Most tokens in any 60 seconds, prompts and answers together. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='tokens per minute'),
        ),
        migrations.AddField(
            model_name='team',
            name='max_parallel_requests',
            field=models.PositiveIntegerField(blank=True, help_text='Most requests that may be under way at once. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='requests at a time'),
        ),
        migrations.AddField(
            model_name='team',
            name='rpm_limit',
            field=models.PositiveIntegerField(blank=True, help_text='Most requests in any 60 seconds. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='requests per minute'),
        ),
        migrations.AddField(
            model_name='team',
            name='tpm_limit',
            field=models.PositiveIntegerField(blank=True, help_text='Most tokens in any 60 seconds, prompts and answers together. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='tokens per minute'),
        ),
        migrations.AddField(
            model_name='virtualkey',
            name='max_parallel_requests',
            field=models.PositiveIntegerField(blank=True, help_text='Most requests that may be under way at once. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='requests at a time'),
        ),
        migrations.AddField(
            model_name='virtualkey',
            name='rpm_limit',
            field=models.PositiveIntegerField(blank=True, help_text='Most requests in any 60 seconds. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='requests per minute'),
        ),
        migrations.AddField(
            model_name='virtualkey',
            name='tpm_limit',
            field=models.PositiveIntegerField(blank=True, help_text='Most tokens in any 60 seconds, prompts and answers together. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='tokens per minute'),
        ),
    ]
