"""Writes of the routing floor: virtual keys, the default policy, and the revision that tells gateways of an edit.

How the rules of a policy change is `services.lifecycle`.
"""

from routing.services.access import (
    IssuedKey,
    kept_answers_purge,
    key_issue,
    key_limit_set,
    key_revoke,
    playground_key_for,
)
from routing.services.policies import default_policy_set
from routing.services.revision import config_revision_bump
from routing.services.templates import template_version_create, template_version_set

__all__ = [
    "IssuedKey",
    "config_revision_bump",
    "default_policy_set",
    "kept_answers_purge",
    "key_issue",
    "key_limit_set",
    "key_revoke",
    "playground_key_for",
    "template_version_create",
    "template_version_set",
]
