"""The pages where ops decide who may call and which model serves: Django finds them here."""

from routing.admin.access import TeamAdmin, VirtualKeyAdmin
from routing.admin.rules import ModelAliasAdmin, PersonaAdmin, RoutingPolicyAdmin

__all__ = ["ModelAliasAdmin", "PersonaAdmin", "RoutingPolicyAdmin", "TeamAdmin", "VirtualKeyAdmin"]
