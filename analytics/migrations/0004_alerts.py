"""Alerts of every kind in place of those of budgets alone, with the channels and the outbox of their messages.

An alert of a budget is taken over into its window and threshold. Of one budget and threshold only the latest can be
unresolved: the others belong to windows that are over. Backwards, alerts of other kinds are lost.
"""

import uuid

import django.db.models.deletion
import django.utils.timezone
import simple_history.models
from django.conf import settings
from django.db import migrations, models

import analytics.models.alerts
import providers.fields

KIND = "budget_threshold"


def take_over(apps, schema_editor):
    BudgetAlert, AlertRule = apps.get_model("analytics", "BudgetAlert"), apps.get_model("analytics", "AlertRule")
    Alert, AlertEvent = apps.get_model("analytics", "Alert"), apps.get_model("analytics", "AlertEvent")
    rule, _ = AlertRule.objects.get_or_create(kind=KIND)
    later = {}  # by budget and threshold: when the next window began
    old = BudgetAlert.objects.select_related("budget__team", "budget__key", "budget__persona", "budget__alias")
    for alert in old.order_by("-window_start"):
        budget = alert.budget
        subject = budget.team or budget.key or budget.persona or budget.alias
        name = str(getattr(subject, "name", subject))
        over = later.get((budget.pk, alert.threshold))
        later[budget.pk, alert.threshold] = alert.window_start
        title = f"{name} has spent {alert.threshold} % of its budget"
        spent = f"${alert.spent_nano / 10**9:,.2f} of ${budget.max_budget:,.2f}"
        new = Alert.objects.create(
            rule=rule,
            subject=f"budget:{budget.pk}",
            window_starts_at=alert.window_start,
            threshold=str(alert.threshold),
            subject_name=name,
            team_id=budget.team_id or (budget.key.team_id if budget.key else None),
            budget_id=budget.pk,
            severity=30 if alert.threshold >= 100 else 20 if alert.threshold >= 80 else 10,
            title=title,
            text=f"{name} had spent {spent} since {alert.window_start:%Y-%m-%d} when this alert opened.",
            link=f"/admin/analytics/budget/{budget.pk}/change/",
            value=alert.spent_nano,
            limit=int(budget.max_budget * 10**9),
            unit="nano_usd",
            state="resolved" if over else "acknowledged" if alert.acknowledged_at else "open",
            opened_at=alert.opened_at,
            last_seen_at=alert.opened_at,
            acknowledged_at=alert.acknowledged_at,
            resolved_at=over,
        )
        moves = {"opened": alert.opened_at, "acknowledged": alert.acknowledged_at, "resolved": over}
        for kind, at in moves.items():
            if at:
                AlertEvent.objects.create(
                    alert=new, kind=kind, at=at, title=title, text=new.text, value=alert.spent_nano
                )


def give_back(apps, schema_editor):
    BudgetAlert, Alert = apps.get_model("analytics", "BudgetAlert"), apps.get_model("analytics", "Alert")
    BudgetAlert.objects.bulk_create(
        BudgetAlert(
            budget_id=alert.budget_id,
            window_start=alert.window_starts_at,
            threshold=int(alert.threshold),
            spent_nano=alert.value,
            opened_at=alert.opened_at,
            acknowledged_at=alert.acknowledged_at or alert.resolved_at,
        )
        for alert in Alert.objects.filter(rule__kind=KIND).exclude(budget=None)
        if alert.threshold.isdecimal()
    )


def rename_permissions(apps, schema_editor):
    """Who might see and acknowledge alerts of budgets may do so with all of them."""
    _rename(apps, "budgetalert", "alert")


def rename_permissions_back(apps, schema_editor):
    _rename(apps, "alert", "budgetalert")


def _rename(apps, old, new):
    ContentType, Permission = apps.get_model("contenttypes", "ContentType"), apps.get_model("auth", "Permission")
    types = ContentType.objects.filter(app_label="analytics")
    if not types.filter(model=old).exists() or types.filter(model=new).exists():
        return
    types.filter(model=old).update(model=new)
    for permission in Permission.objects.filter(content_type__app_label="analytics", content_type__model=new):
        permission.codename = permission.codename.removesuffix(old) + new
        permission.save(update_fields=["codename"])


class Migration(migrations.Migration):
    dependencies = [
        ("analytics", "0003_hourly_rollups"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='AlertRule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('budget_threshold', 'Budget threshold'), ('budget_forecast', 'Budget forecast'), ('spend_anomaly', 'Unusual spend'), ('unpriced_usage', 'Usage of unknown price'), ('zero_cost', 'Priced usage that cost nothing'), ('provider_down', 'Provider down'), ('error_rate', 'Error rate of a provider'), ('ledger', 'Ledger not in order')], max_length=30, unique=True)),
                ('is_active', models.BooleanField(default=True, help_text='Off: nothing opens, and what is open resolves.', verbose_name='active')),
                ('parameters', models.JSONField(blank=True, default=dict)),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.CreateModel(
            name='Alert',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('subject', models.CharField(max_length=160)),
                ('window_starts_at', models.DateTimeField()),
                ('threshold', models.CharField(blank=True, max_length=10)),
                ('subject_name', models.CharField(max_length=200, verbose_name='about')),
                ('severity', models.PositiveSmallIntegerField(choices=[(10, 'Info'), (20, 'Warning'), (30, 'Critical')])),
                ('title', models.CharField(max_length=200)),
                ('text', models.TextField()),
                ('link', models.CharField(blank=True, max_length=300)),
                ('value', models.BigIntegerField(default=0)),
                ('limit', models.BigIntegerField(blank=True, null=True)),
                ('unit', models.CharField(blank=True, choices=[('nano_usd', 'nano-USD'), ('percent', '%'), ('requests', 'requests'), ('differences', 'differences'), ('', 'nothing')], default='', max_length=20)),
                ('state', models.CharField(choices=[('open', 'Open'), ('acknowledged', 'Acknowledged'), ('snoozed', 'Snoozed'), ('resolved', 'Resolved')], default='open', max_length=15)),
                ('opened_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('last_seen_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('acknowledged_at', models.DateTimeField(blank=True, null=True)),
                ('snoozed_until', models.DateTimeField(blank=True, null=True)),
                ('resolved_at', models.DateTimeField(blank=True, null=True)),
                ('acknowledged_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('budget', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='alerts', to='analytics.budget')),
                ('resolved_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('team', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='alerts', to='routing.team')),
                ('rule', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='alerts', to='analytics.alertrule')),
            ],
            options={
                'ordering': ['-opened_at', '-id'],
            },
        ),
        migrations.CreateModel(
            name='AlertChannel',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='For example “On-call, Slack”.', max_length=80, unique=True)),
                ('kind', models.CharField(choices=[('email', 'Email'), ('apprise', 'Slack, Teams, PagerDuty …'), ('webhook', 'Webhook of your own')], max_length=10, verbose_name='by')),
                ('target', providers.fields.SealedTextField(editable=False)),
                ('signing_secret', providers.fields.SealedTextField(blank=True, default='', editable=False)),
                ('hint', models.CharField(editable=False, max_length=200, verbose_name='goes to')),
                ('allowed_networks', models.TextField(blank=True, help_text='For a webhook: only public addresses are called unless listed here, one network per line, for example 10.0.0.0/8. Only what is listed may be called by http://.', validators=[analytics.models.alerts.validate_networks], verbose_name='allowed private networks')),
                ('minimum_severity', models.PositiveSmallIntegerField(choices=[(10, 'Info'), (20, 'Warning'), (30, 'Critical')], default=20, verbose_name='from severity')),
                ('kinds', models.JSONField(blank=True, default=list, help_text='None chosen: all.', validators=[analytics.models.alerts.validate_kinds], verbose_name='kinds of alerts')),
                ('is_active', models.BooleanField(default=True, verbose_name='active')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('team', models.ForeignKey(blank=True, help_text='Only alerts about this team. Empty: all alerts.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='alert_channels', to='routing.team')),
            ],
            options={
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='AlertEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('opened', 'Opened'), ('reopened', 'Opened again'), ('woken', 'Open after its snooze'), ('acknowledged', 'Acknowledged'), ('snoozed', 'Snoozed'), ('resolved', 'Resolved')], max_length=15)),
                ('at', models.DateTimeField()),
                ('title', models.CharField(max_length=200)),
                ('text', models.TextField()),
                ('value', models.BigIntegerField(default=0)),
                ('until', models.DateTimeField(blank=True, help_text='Of a snooze.', null=True)),
                ('alert', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='events', to='analytics.alert')),
                ('by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['at', 'id'],
            },
        ),
        migrations.CreateModel(
            name='AlertDelivery',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('sent', 'Sent'), ('failed', 'Given up')], default='waiting', max_length=10)),
                ('attempts', models.PositiveSmallIntegerField(default=0, verbose_name='tries')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('next_attempt_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('sent_at', models.DateTimeField(blank=True, null=True)),
                ('note', models.CharField(blank=True, max_length=300, verbose_name='last answer')),
                ('channel', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='analytics.alertchannel')),
                ('event', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='analytics.alertevent')),
            ],
            options={
                'verbose_name_plural': 'alert deliveries',
                'ordering': ['-created_at', 'id'],
            },
        ),
        migrations.CreateModel(
            name='HistoricalAlertChannel',
            fields=[
                ('id', models.BigIntegerField(auto_created=True, blank=True, db_index=True, verbose_name='ID')),
                ('name', models.CharField(db_index=True, help_text='For example “On-call, Slack”.', max_length=80)),
                ('kind', models.CharField(choices=[('email', 'Email'), ('apprise', 'Slack, Teams, PagerDuty …'), ('webhook', 'Webhook of your own')], max_length=10, verbose_name='by')),
                ('hint', models.CharField(editable=False, max_length=200, verbose_name='goes to')),
                ('allowed_networks', models.TextField(blank=True, help_text='For a webhook: only public addresses are called unless listed here, one network per line, for example 10.0.0.0/8. Only what is listed may be called by http://.', validators=[analytics.models.alerts.validate_networks], verbose_name='allowed private networks')),
                ('minimum_severity', models.PositiveSmallIntegerField(choices=[(10, 'Info'), (20, 'Warning'), (30, 'Critical')], default=20, verbose_name='from severity')),
                ('kinds', models.JSONField(blank=True, default=list, help_text='None chosen: all.', validators=[analytics.models.alerts.validate_kinds], verbose_name='kinds of alerts')),
                ('is_active', models.BooleanField(default=True, verbose_name='active')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('history_id', models.AutoField(primary_key=True, serialize=False)),
                ('history_date', models.DateTimeField(db_index=True)),
                ('history_change_reason', models.CharField(max_length=100, null=True)),
                ('history_type', models.CharField(choices=[('+', 'Created'), ('~', 'Changed'), ('-', 'Deleted')], max_length=1)),
                ('history_user', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('team', models.ForeignKey(blank=True, db_constraint=False, help_text='Only alerts about this team. Empty: all alerts.', null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='routing.team')),
            ],
            options={
                'verbose_name': 'historical alert channel',
                'verbose_name_plural': 'historical alert channels',
                'ordering': ('-history_date', '-history_id'),
                'get_latest_by': ('history_date', 'history_id'),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name='HistoricalAlertRule',
            fields=[
                ('id', models.BigIntegerField(auto_created=True, blank=True, db_index=True, verbose_name='ID')),
                ('kind', models.CharField(choices=[('budget_threshold', 'Budget threshold'), ('budget_forecast', 'Budget forecast'), ('spend_anomaly', 'Unusual spend'), ('unpriced_usage', 'Usage of unknown price'), ('zero_cost', 'Priced usage that cost nothing'), ('provider_down', 'Provider down'), ('error_rate', 'Error rate of a provider'), ('ledger', 'Ledger not in order')], db_index=True, max_length=30)),
                ('is_active', models.BooleanField(default=True, help_text='Off: nothing opens, and what is open resolves.', verbose_name='active')),
                ('parameters', models.JSONField(blank=True, default=dict)),
                ('history_id', models.AutoField(primary_key=True, serialize=False)),
                ('history_date', models.DateTimeField(db_index=True)),
                ('history_change_reason', models.CharField(max_length=100, null=True)),
                ('history_type', models.CharField(choices=[('+', 'Created'), ('~', 'Changed'), ('-', 'Deleted')], max_length=1)),
                ('history_user', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'historical alert rule',
                'verbose_name_plural': 'historical alert rules',
                'ordering': ('-history_date', '-history_id'),
                'get_latest_by': ('history_date', 'history_id'),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.AddIndex(
            model_name='alertdelivery',
            index=models.Index(condition=models.Q(('state', 'waiting')), fields=['next_attempt_at'], name='alert_delivery_due'),
        ),
        migrations.AddConstraint(
            model_name='alertdelivery',
            constraint=models.UniqueConstraint(fields=('event', 'channel'), name='one_delivery_per_event_and_channel'),
        ),
        migrations.AddIndex(
            model_name='alert',
            index=models.Index(fields=['team', '-opened_at'], name='alert_team_latest'),
        ),
        migrations.AddConstraint(
            model_name='alert',
            constraint=models.UniqueConstraint(fields=('rule', 'subject', 'window_starts_at', 'threshold'), name='alert_once'),
        ),
        migrations.AddConstraint(
            model_name='alert',
            constraint=models.UniqueConstraint(condition=models.Q(('state', 'resolved'), _negated=True), fields=('rule', 'subject', 'threshold'), name='one_unresolved_alert_per_trouble'),
        ),
        migrations.RunPython(take_over, give_back),
        migrations.RunPython(rename_permissions, rename_permissions_back),
        migrations.DeleteModel(
            name='BudgetAlert',
        ),
    ]
