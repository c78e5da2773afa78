"""Gemini and Cohere are spoken in their own APIs now: addresses of their OpenAI-compatible ones give way to the usual.

Only the vendors' own addresses are touched; those of proxies stay. Going back needs nothing: an empty field meant the
OpenAI-compatible address before.
"""

from typing import Any

from django.db import migrations

FORMER = {
    "gemini": ("https://generativelanguage.googleapis.com/v1beta/openai",),
    "cohere": ("https://api.cohere.ai/compatibility/v1", "https://api.cohere.com/compatibility/v1"),
}


def forwards(apps: Any, _: Any) -> None:
    providers = apps.get_model("providers", "Provider").objects
    for kind, addresses in FORMER.items():
        written = [address + end for address in addresses for end in ("", "/")]
        providers.filter(kind=kind, base_url__in=written).update(base_url="")


class Migration(migrations.Migration):
    dependencies = [("providers", "0004_breakers_and_key_choice")]
    operations = [migrations.RunPython(forwards, migrations.RunPython.noop)]
