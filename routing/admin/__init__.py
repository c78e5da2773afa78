"""The pages where ops decide who may call and which model serves: Django finds them here."""

from routing.admin.access import TeamAdmin, VirtualKeyAdmin
from routing.admin.drafts import PolicyDraftAdmin
from routing.admin.experiments import ExperimentAdmin
from routing.admin.learning import ClassifierPlugInAdmin, RouterArtefactAdmin
from routing.admin.policies import RoutingPolicyAdmin
from routing.admin.rules import ModelAliasAdmin, PersonaAdmin
from routing.admin.templates import PromptTemplateAdmin
from routing.admin.tokens import AccessTokenAdmin

__all__ = [
    "AccessTokenAdmin",
    "ClassifierPlugInAdmin",
    "ExperimentAdmin",
    "ModelAliasAdmin",
    "PersonaAdmin",
    "PolicyDraftAdmin",
    "PromptTemplateAdmin",
    "RouterArtefactAdmin",
    "RoutingPolicyAdmin",
    "TeamAdmin",
    "VirtualKeyAdmin",
]
