"""Addresses of the dashboards."""

from django.urls import path

from analytics import alert_views, experiment_views, model_views, views

app_name = "analytics"
urlpatterns = [
    path("", views.spend, name="spend"),
    path("providers/", views.provider_list, name="providers"),
    path("providers/check/", views.check_now, name="check-now"),
    path("requests/", views.request_log, name="requests"),
    path("requests/<uuid:request_id>/", views.one_request, name="request"),
    path("keys/", views.key_list, name="keys"),
    path("keys/new/", views.new_key, name="new-key"),
    path("keys/<int:key_id>/revoke/", views.revoke_key, name="revoke-key"),
    path("models/", model_views.dominated_list, name="models"),
    path("experiments/", experiment_views.experiment_list, name="experiments"),
    path("experiments/<int:experiment_id>/", experiment_views.one_experiment, name="experiment"),
    path("experiments/<int:experiment_id>/act/", experiment_views.act_on_experiment, name="act-on-experiment"),
    path("alerts/", alert_views.alert_list, name="alerts"),
    path("alerts/<int:alert_id>/", alert_views.one_alert, name="alert"),
    path("alerts/<int:alert_id>/act/", alert_views.act, name="act-on-alert"),
]
