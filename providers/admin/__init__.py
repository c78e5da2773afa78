"""The pages where ops run providers: Django finds them here."""

from providers.admin.catalogue import CatalogueModelAdmin, DeploymentAdmin, PriceAdmin
from providers.admin.vendors import ProviderAdmin, ProviderCheckAdmin, ProviderKeyAdmin

__all__ = [
    "CatalogueModelAdmin",
    "DeploymentAdmin",
    "PriceAdmin",
    "ProviderAdmin",
    "ProviderCheckAdmin",
    "ProviderKeyAdmin",
]
