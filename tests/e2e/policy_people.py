"""Two people for the life of a policy's change: `python -m tests.e2e.policy_people`, the password comes on stdin.

`ann` proposes changes of policies, `ben` approves and publishes them; neither is a superuser.
"""

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "routerplatform.settings")
django.setup()

from django.contrib.auth.models import Permission, User  # noqa: E402

AUTHOR = (
    "view_routingpolicy", "view_policycandidate", "view_modelalias",
    "view_policydraft", "add_policydraft", "change_policydraft",
)  # fmt: skip
APPROVER = ("view_routingpolicy", "view_policycandidate", "view_policydraft", "approve_policydraft")


def employ(password: str) -> None:
    for name, permissions in {"ann": AUTHOR, "ben": APPROVER}.items():
        person = User.objects.create_user(name, password=password, is_staff=True)
        person.user_permissions.set(Permission.objects.filter(codename__in=permissions))


if __name__ == "__main__":
    employ(sys.stdin.readline().strip())
