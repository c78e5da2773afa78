"""`router.providers`: a program's own classes by the names of their providers."""

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from django.db import transaction

from providers.models import Provider
from providers.registry import PROVIDER_KINDS
from routerplatform.library.errors import BadRequestError
from routerplatform.library.model_services import COMPATIBLE, provider_name_checked
from routerplatform.library.python_providers import ADDRESS

Run = Callable[[Callable[[], Any]], Any]


class PythonProviders(MutableMapping[str, Any]):
    """Set an object with `async call_model(model_name, prompt)`; its models are `name/any-model`, or what
    `router.registry.models` adds. Holds what this program has registered, and nothing else."""

    def __init__(self, objects: dict[str, Any], run: Run) -> None:
        self._objects = objects
        self._run = run

    def __getitem__(self, name: str) -> Any:
        return self._objects[name]

    def __setitem__(self, name: str, provider: Any) -> None:
        """:raises BadRequestError: no `call_model`, a name that cannot be, or one that belongs to a vendor."""
        if not callable(getattr(provider, "call_model", None)):
            text = (
                f"A provider needs “async def call_model(self, model_name, prompt)”, unlike {type(provider).__name__}."
            )
            raise BadRequestError("invalid_provider", text)
        if isinstance(provider, type):
            text = f"Give an object of {provider.__name__}, not the class: {provider.__name__}()."
            raise BadRequestError("invalid_provider", text)
        self._run(lambda: python_provider_ensure(name=name))
        self._objects[name] = provider

    def __delitem__(self, name: str) -> None:
        del self._objects[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)


@transaction.atomic
def python_provider_ensure(*, name: str) -> Provider:
    """The row of a provider that is a Python class.

    :raises BadRequestError: the name cannot be one, or another kind of provider has it.
    """
    provider_name_checked(name)
    address = ADDRESS + name
    provider = Provider.objects.filter(name=name).first()
    if provider is None and name not in PROVIDER_KINDS:
        return Provider.objects.create(name=name, label=f"{name} (Python)", kind=COMPATIBLE, base_url=address)
    if provider is None or provider.base_url != address:
        raise BadRequestError("name_taken", f"“{name}” is another provider already. Choose another name.")
    if not provider.is_active:
        provider.is_active = True
        provider.save(update_fields=["is_active"])
    return provider
