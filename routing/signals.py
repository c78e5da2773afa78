"""An edit of anything that the gateway's snapshot is compiled from counts the configuration's revision up."""

from typing import Any

from django.db.models import Model, ProtectedError
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete
from django.dispatch import receiver

from providers.models import CatalogueModel, Deployment, Price, Provider, ProviderKey
from routing.models import (
    AliasTarget,
    ClassifierPlugIn,
    DraftCandidate,
    Experiment,
    ModelAlias,
    Persona,
    PolicyCandidate,
    PolicyDraft,
    PromptTemplate,
    RouterArtefact,
    RoutingPolicy,
    RoutingRule,
    Team,
    VirtualKey,
)
from routing.services import config_revision_bump

COMPILED: tuple[type[Model], ...] = (
    Provider,
    ProviderKey,
    CatalogueModel,
    Deployment,
    Price,
    Team,
    ModelAlias,
    AliasTarget,
    RoutingPolicy,
    PolicyCandidate,
    PolicyDraft,
    DraftCandidate,
    Experiment,
    RoutingRule,
    RouterArtefact,
    ClassifierPlugIn,
    PromptTemplate,
    Persona,
    VirtualKey,
)
HEALTH_FIELDS = frozenset({"health", "health_note", "checked_at"})


def _saved(sender: type[Model], update_fields: frozenset[str] | None, **_: Any) -> None:
    if sender is Provider and update_fields and update_fields <= HEALTH_FIELDS:
        return
    config_revision_bump()


def _deleted(**_: Any) -> None:
    config_revision_bump()


@receiver(m2m_changed, sender=VirtualKey.allowed_models.through)
def _keys_models_changed(action: str, **_: Any) -> None:
    if action.startswith("post_"):
        config_revision_bump()


@receiver(pre_delete, sender=ModelAlias)
def _alias_that_limits_a_key(instance: ModelAlias, **_: Any) -> None:
    """A key that is limited to this alias alone would be limited to nothing, and that means everything."""
    keys: set[Model] = set(instance.keys.all())
    if keys:
        raise ProtectedError("Keys are limited to this alias: take it off their lists first.", keys)


# Per sender: a listener for all senders would make Django load every row before it deletes any, usage included.
for model in COMPILED:
    post_save.connect(_saved, sender=model)
    post_delete.connect(_deleted, sender=model)
