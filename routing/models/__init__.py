"""Who may call and which model serves, as the database keeps it."""

from routing.models.access import (
    AccessToken,
    KeyState,
    Membership,
    Team,
    TeamRole,
    VirtualKey,
    default_scopes,
    validate_scopes,
)
from routing.models.aliases import AliasTarget, ModelAlias
from routing.models.experiments import Experiment, ExperimentKind, ExperimentState, ExperimentUnit, canary_stages
from routing.models.learning import ClassifierKind, ClassifierPlugIn, RouterArtefact
from routing.models.lifecycle import (
    OPEN_STATES,
    DraftCandidate,
    DraftState,
    PolicyDraft,
    PolicyVersion,
    everybody_at_once,
    validate_stages,
)
from routing.models.names import callable_name, slug_name
from routing.models.personas import Persona
from routing.models.policies import (
    CacheMode,
    CandidateGroup,
    CandidateRow,
    PolicyCandidate,
    PolicyRules,
    RoutingPolicy,
    validate_escalations,
    validate_regions,
)
from routing.models.revision import ConfigRevision
from routing.models.rules import RoutingRule, RuleMatch, RuleOutcome, RuleSubject
from routing.models.templates import PromptTemplate, PromptTemplateVersion

__all__ = [
    "OPEN_STATES",
    "AccessToken",
    "AliasTarget",
    "CacheMode",
    "CandidateGroup",
    "CandidateRow",
    "ClassifierKind",
    "ClassifierPlugIn",
    "ConfigRevision",
    "DraftCandidate",
    "DraftState",
    "Experiment",
    "ExperimentKind",
    "ExperimentState",
    "ExperimentUnit",
    "KeyState",
    "Membership",
    "ModelAlias",
    "Persona",
    "PolicyCandidate",
    "PolicyDraft",
    "PolicyRules",
    "PolicyVersion",
    "PromptTemplate",
    "PromptTemplateVersion",
    "RouterArtefact",
    "RoutingPolicy",
    "RoutingRule",
    "RuleMatch",
    "RuleOutcome",
    "RuleSubject",
    "Team",
    "TeamRole",
    "VirtualKey",
    "callable_name",
    "canary_stages",
    "default_scopes",
    "everybody_at_once",
    "slug_name",
    "validate_escalations",
    "validate_regions",
    "validate_scopes",
    "validate_stages",
]
