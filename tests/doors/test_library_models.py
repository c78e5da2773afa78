"""What a program says of models and policies, as it is kept: the rules of the library's services."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from providers.models import CatalogueModel, Deployment, Price, PriceSource, Provider
from routerplatform.doors.library import BadRequestError, ModelConfig, RoutingPolicy, TaskType
from routerplatform.library.model_registry import ModelRegistry, models_listed
from routerplatform.library.model_services import model_deploy, model_register, model_withdraw
from routerplatform.library.policies import policy_put
from routerplatform.library.python_registry import PythonProviders, python_provider_ensure
from routing.models import ModelAlias, PolicyCandidate
from routing.models import RoutingPolicy as PolicyRow
from routing.services.policy_rules import document_of
from tests.conftest import configure_two_vendors
from tests.factories import CatalogueModelFactory

pytestmark = pytest.mark.django_db

BOX = "http://10.0.0.7:8000/v1"


@pytest.fixture(autouse=True)
def installation() -> None:
    """With the aliases `swift` and `sage`, and no server behind them."""
    configure_two_vendors("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1")


@pytest.fixture
def in_a_folder(settings: Settings) -> None:
    """An installation that is the program's own."""
    settings.LOGGING_CONFIG = None


def of(name: str = "m-1", provider: str = "alpha", **said: Any) -> ModelConfig:
    return ModelConfig(name, provider, **said)


def deployment(name: str = "m-1") -> Deployment:
    return Deployment.objects.get(upstream_model=name)


def refused(work: Callable[[], Any]) -> BadRequestError:
    counts = [kind.objects.count() for kind in (Provider, Deployment, ModelAlias, CatalogueModel, Price, PolicyRow)]
    with pytest.raises(BadRequestError) as caught:
        work()
    assert counts == [
        kind.objects.count() for kind in (Provider, Deployment, ModelAlias, CatalogueModel, Price, PolicyRow)
    ], "what is refused leaves nothing behind"
    return caught.value


# --- adding a model -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"cost_per_1k_tokens": -0.01}, "cost_per_1k_tokens is a number from 0 on"),
        ({"cost_per_1k_tokens": "0.01"}, "cost_per_1k_tokens is a number"),
        ({"cost_per_1k_tokens": float("nan")}, "cost_per_1k_tokens is a number"),
        ({"cost_per_1k_tokens": 10**400}, "cost_per_1k_tokens is a number"),
        ({"input_cost_per_1k": float("inf")}, "input_cost_per_1k is a number"),
        ({"output_cost_per_1k": 100_000}, "output_cost_per_1k is a number from 0 on, below 100,000"),
        ({"avg_latency": "fast"}, "avg_latency is a number"),
        ({"avg_latency": True}, "avg_latency is a number"),
        ({"max_tokens": 0}, "max_tokens is a whole number from 1"),
        ({"max_tokens": "4096"}, "max_tokens is a whole number"),
        ({"max_tokens": 4096.0}, "max_tokens is a whole number"),
        ({"max_tokens": 10**12}, "max_tokens is a whole number"),
        ({"context_window": -1}, "context_window is a whole number"),
        ({"strengths": None}, "strengths is a list of texts"),
        ({"strengths": 7}, "strengths is a list of texts"),
        ({"capabilities": None}, "capabilities is a list of texts"),
        ({"capabilities": ["flying"]}, "flying"),
        ({"capabilities": ["vision", "vision"]}, "each once"),
        ({"provider": "nobody"}, "no provider “nobody”"),
        ({"provider": None}, "provider and base_url are texts"),
        ({"base_url": 7}, "provider and base_url are texts"),
        ({"provider": "My Box", "base_url": BOX}, "cannot be a provider’s name"),
        ({"provider": "x" * 61, "base_url": BOX}, "60 at most"),
        ({"provider": "box", "base_url": "10.0.0.7:8000"}, "Provider “box”"),
        ({"provider": "box", "base_url": "file:///etc/passwd"}, "http"),
        ({"provider": "box", "base_url": BOX, "allowed_networks": ["10.0.0.0/33"]}, "10.0.0.0/33"),
        ({"provider": "box", "base_url": BOX, "allowed_networks": "all"}, "all"),
        ({"name": ""}, "the name “” cannot be"),
        ({"name": "a b"}, "the name “a b” cannot be"),
        ({"name": "a\n"}, "cannot be"),
        ({"name": "\ud800"}, "cannot be"),
        ({"name": "nul\x00"}, "cannot be"),
        ({"name": None}, "the name “None” cannot be"),
        ({"name": "x" * 121}, "120 characters at most"),
    ],
)
def test_a_model_that_cannot_be_is_refused_with_the_field(said: dict[str, Any], words: str) -> None:
    assert words in refused(lambda: model_register(name="new", config=of(**said))).message


@pytest.mark.parametrize("name", ["auto", "", "a b", "../x", "\ud800", "a\x00", None, 7, ("a",), "x" * 121, "ä"])
def test_a_name_that_requests_cannot_say_is_refused(name: Any) -> None:
    error = refused(lambda: model_register(name=name, config=of()))
    assert error.code == "invalid_model"


@pytest.mark.parametrize("config", [None, "gpt-4o", {"name": "m", "provider": "alpha"}, ModelConfig])
def test_a_model_is_a_model_config(config: Any) -> None:
    assert "A model is a ModelConfig, not a" in refused(lambda: model_register(name="new", config=config)).message


@pytest.mark.parametrize("name", ["a", "Llama3.2", "org/model:70b", "x" * 120, "7b"])
def test_a_name_may_be_what_vendors_use(name: str) -> None:
    model_register(name=name, config=of(name))
    assert models_listed()[name].is_callable


@pytest.mark.parametrize(
    ("strengths", "shown"),
    [
        ((), ()),
        (["Private", "SIMPLE_QA"], ("Private", "SIMPLE_QA")),
        ("Private, SIMPLE_QA", ("Private", "SIMPLE_QA")),
        ((TaskType.CODING,), ("CODING",)),
        ({"Fast"}, ("Fast",)),
    ],
)
def test_strengths_are_a_list_or_a_text_with_commas(strengths: Any, shown: tuple[str, ...]) -> None:
    model_register(name="new", config=of(strengths=strengths))
    assert models_listed()["new"].strengths == shown


def test_strengths_that_are_many_are_cut_off() -> None:
    model_register(name="new", config=of(strengths="long " * 100))
    assert len(CatalogueModel.objects.get(name="m-1").strengths) <= 200


@pytest.mark.parametrize(
    ("said", "into", "out"),
    [
        ({"cost_per_1k_tokens": 0}, 0, 0),
        ({"cost_per_1k_tokens": 0.002}, 2, 2),
        ({"cost_per_1k_tokens": 0.1 + 0.2}, 300, 300),
        ({"cost_per_1k_tokens": 1 / 3}, Decimal("333.333333"), Decimal("333.333333")),
        ({"cost_per_1k_tokens": 1e-9}, Decimal("0.000001"), Decimal("0.000001")),
        ({"input_cost_per_1k": 0.001, "output_cost_per_1k": 0.003}, 1, 3),
        ({"cost_per_1k_tokens": 0.002, "output_cost_per_1k": 0.003}, 2, 3),
        ({"input_cost_per_1k": 0.001}, 1, None),
    ],
)
def test_a_price_is_kept_as_exactly_as_it_can_be(said: dict[str, Any], into: Any, out: Any) -> None:
    for _ in range(2):  # a program says it at each of its starts
        model_register(name="new", config=of(**said))
    [price] = Price.objects.filter(deployment=deployment(), source=PriceSource.OVERRIDE)
    assert (price.input_usd, price.output_usd) == (into, out)


def test_another_price_is_another_row_and_no_price_says_nothing() -> None:
    for config in (of(cost_per_1k_tokens=0.001), of(cost_per_1k_tokens=0.002), of()):
        model_register(name="new", config=config)
    assert Price.objects.filter(deployment=deployment()).count() == 2
    assert models_listed()["new"].input_cost_per_1k == pytest.approx(0.002)
    model_register(name="free", config=of("m-2"))
    assert models_listed()["free"].input_cost_per_1k is None


def test_what_a_program_does_not_say_stays_as_it_was() -> None:
    model_register(name="new", config=of(max_tokens=4096, avg_latency=1.5))
    model_register(name="new", config=of())
    shown = models_listed()["new"]
    assert (shown.max_tokens, shown.avg_latency) == (4096, 1.5)
    model_register(name="new", config=of(max_tokens=100, avg_latency=0))
    assert (deployment().max_output_tokens, deployment().expected_latency_ms) == (100, 0)


def test_two_names_may_stand_for_one_model_and_one_name_for_no_two() -> None:
    model_register(name="one", config=of())
    model_register(name="two", config=of())
    assert Deployment.objects.filter(upstream_model="m-1").count() == 1
    error = refused(lambda: model_register(name="one", config=of("m-2")))
    assert (error.code, "“one” stands for alpha/m-1 already" in error.message) == ("name_taken", True)


def test_in_the_platform_s_installation_a_program_moves_no_provider(settings: Settings) -> None:
    before = Provider.objects.get(name="alpha")
    error = refused(lambda: model_register(name="new", config=of(base_url="http://evil.example/v1")))
    assert (error.code, "“alpha” is another provider already" in error.message) == ("name_taken", True)
    settings.VENDOR_BASE_URLS = {"alpha": "http://10.9.9.9/v1"}
    model_register(name="new", config=of())
    after = Provider.objects.get(name="alpha")
    assert (after.base_url, after.allowed_networks) == (before.base_url, before.allowed_networks)
    model_register(name="same", config=of("m-2", base_url=before.base_url))
    assert models_listed()["same"].is_callable


def test_in_the_platform_s_installation_a_program_joins_no_policy() -> None:
    PolicyRow.objects.update(strategy="lowest_cost")
    before = list(PolicyCandidate.objects.values_list("policy__name", "alias__name"))
    model_register(name="new", config=of(cost_per_1k_tokens=0, strengths=["CODING"]))
    assert list(PolicyCandidate.objects.values_list("policy__name", "alias__name")) == before


def test_in_a_folder_of_its_own_it_does_both(in_a_folder: None) -> None:
    PolicyRow.objects.update(strategy="lowest_cost")
    model_register(name="new", config=of("m-1", "box", base_url=BOX, strengths="CODING"))
    assert PolicyCandidate.objects.filter(policy__name="default", alias__name="new").exists()
    model_register(name="new", config=of("m-1", "box", base_url="http://10.0.0.8:8000/v1"))
    box = Provider.objects.get(name="box")
    assert (box.base_url, box.allowed_networks) == ("http://10.0.0.8:8000/v1", "10.0.0.8/32")


@pytest.mark.parametrize(
    ("said", "networks"),
    [
        ({"base_url": BOX}, "10.0.0.7/32"),
        ({"base_url": "http://box.local/v1", "allowed_networks": ["10.0.0.0/8", "192.168.0.0/16"]},
         "10.0.0.0/8\n192.168.0.0/16"),
        ({"base_url": "http://box.local/v1", "allowed_networks": "10.0.0.0/8, 192.168.0.0/16"},
         "10.0.0.0/8\n192.168.0.0/16"),
        ({"base_url": "https://api.example.com/v1"}, ""),
    ],
)  # fmt: skip
def test_of_private_addresses_only_what_is_meant_is_opened(said: dict[str, Any], networks: str) -> None:
    model_register(name="new", config=of("m-1", "box", **said))
    assert Provider.objects.get(name="box").allowed_networks == networks


@pytest.mark.parametrize(
    ("provider", "base_url", "wanted"),
    [
        ("ollama", "http://10.0.0.7:11434", "http://10.0.0.7:11434/api"),
        ("ollama", "http://10.0.0.7:11434/", "http://10.0.0.7:11434/api"),
        ("ollama", "http://10.0.0.7:11434/api", "http://10.0.0.7:11434/api"),
        ("vllm", "http://10.0.0.7:8000", "http://10.0.0.7:8000/v1"),
        ("ollama", "", ""),
    ],
)
def test_a_local_server_needs_no_key_and_no_path(provider: str, base_url: str, wanted: str) -> None:
    model_register(name="new", config=of("m-1", provider, cost_per_1k_tokens=0, base_url=base_url))
    row = Provider.objects.get(name=provider)
    assert (row.base_url, row.kind) == (wanted, provider)
    shown = models_listed()["new"]
    assert (shown.provider, shown.cost_per_1k_tokens, shown.is_callable) == (provider, 0, True)


def test_a_vendor_without_a_key_is_told_which_variable_to_set() -> None:
    assert "Set OPENAI_API_KEY" in refused(lambda: model_register(name="new", config=of("gpt-4o", "openai"))).message


# --- the mapping ----------------------------------------------------------------------------------------------------


@pytest.fixture
def registry() -> ModelRegistry:
    return ModelRegistry(lambda work: work())


@pytest.mark.parametrize("name", ["nobody", "", 7, None, ("a",), "\ud800"])
def test_what_is_not_there_is_a_key_error(registry: ModelRegistry, name: Any) -> None:
    with pytest.raises(KeyError, match="There is no model"):
        registry.models[name]
    assert name not in registry.models
    assert registry.models.get(name) is None


def test_the_mapping_shows_what_can_be_called_and_the_catalogue(registry: ModelRegistry) -> None:
    CatalogueModel.objects.create(
        name="old-1", label="Old", vendor="Maker", status="retired", strengths="Fast, Cheap", list_price_per_1k="0.002",
        replaced_by=CatalogueModelFactory.create(name="new-1"),
    )  # fmt: skip
    shown = registry.models["old-1"]
    assert (shown.is_callable, shown.is_retired, shown.replaced_by) == (False, True, "new-1")
    assert (shown.strengths, shown.cost_per_1k_tokens) == (("Fast", "Cheap"), 0.002)
    assert registry.models["swift"].is_callable
    assert len(registry.models) == len(list(registry.models)) == len(models_listed())
    assert dict(registry.models.items()) == models_listed()


def test_all_models_are_read_in_one_look(registry: ModelRegistry, django_assert_max_num_queries: Any) -> None:
    for look in (registry.models.items, registry.models.values, registry.models.__len__):
        with django_assert_max_num_queries(8):
            assert look()
    with django_assert_max_num_queries(8):
        assert {one.provider for one in registry.models.values() if one.is_callable} == {"alpha", "beta"}


def test_a_model_can_be_taken_away_and_come_back(registry: ModelRegistry) -> None:
    registry.models["new"] = of()
    del registry.models["new"]
    assert not ModelAlias.objects.get(name="new").is_active
    for _ in range(2):
        with pytest.raises(KeyError, match="No request can name “new”"):
            del registry.models["new"]
    registry.models["new"] = of()
    assert registry.models["new"].is_callable
    assert registry.models.pop("new").name == "m-1"
    with pytest.raises(KeyError):
        model_withdraw(name="\ud800nobody".encode("utf-8", "ignore").decode())


# --- naming a model -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("gpt-4oo", "model_not_found", "Did you mean “gpt-4o”"),
        ("nobody/gpt-4o", "model_not_found", "There is no model “nobody/gpt-4o”"),
        ("", "model_not_found", "can be no model’s name"),
        ("a b", "model_not_found", "'a b' can be no model’s name"),
        ("custom/\ud800", "model_not_found", r"'custom/\ud800' can be"),
        ("custom/a\x00b", "model_not_found", r"\x00"),
        ("custom/" + "x" * 200, "model_not_found", "can be no model’s name"),
        ("claude-3-5-sonnet-20241022", "model_retired", "was retired by Anthropic on"),
        ("claude-sonnet-5-5", "no_vendor_key", "Set ANTHROPIC_API_KEY"),
    ],
)
def test_a_model_that_nobody_serves_is_told_why(name: str, code: str, words: str) -> None:
    python_provider_ensure(name="custom")
    error = refused(lambda: model_deploy(name=name))
    assert (error.code, error.param) == (code, "model")
    assert words in error.message


def test_any_model_of_a_class_is_made_as_it_is_asked_for() -> None:
    python_provider_ensure(name="custom")
    for _ in range(2):
        assert model_deploy(name="custom/any:1") == "custom/any:1"
    assert deployment("any:1").provider.name == "custom"
    assert ModelAlias.objects.get(name="custom/any:1").targets.count() == 1


# --- classes --------------------------------------------------------------------------------------------------------


class Echo:
    async def call_model(self, model_name: str, prompt: str) -> str:
        return prompt


@pytest.mark.parametrize("name", ["", "No Name", "a/b", "x" * 61, "ä", "a\n", 7, None, ("a",), "-a", "openai", "alpha"])
def test_a_name_that_no_class_can_have_is_refused(name: Any) -> None:
    classes = PythonProviders({}, lambda work: work())

    def give() -> None:
        classes[name] = Echo()

    assert refused(give).code in {"invalid_provider", "name_taken"}
    assert len(classes) == 0


@pytest.mark.parametrize("provider", [None, "echo", object(), Echo, lambda model, prompt: prompt])
def test_what_is_no_provider_is_refused(provider: Any) -> None:
    classes = PythonProviders({}, lambda work: work())
    with pytest.raises(BadRequestError, match=r"call_model|Echo\(\)"):
        classes["custom"] = provider
    assert not Provider.objects.filter(name="custom").exists()


def test_a_class_comes_back_at_the_next_start() -> None:
    classes = PythonProviders({}, lambda work: work())
    for _ in range(2):
        classes["custom"] = Echo()
        classes["custom"] = again = Echo()
        assert classes["custom"] is again
        Provider.objects.filter(name="custom").update(is_active=False)
    assert python_provider_ensure(name="custom").is_active
    del classes["custom"]
    with pytest.raises(KeyError):
        classes["custom"]


@pytest.mark.usefixtures("in_a_folder")
def test_a_class_is_not_turned_into_a_server() -> None:
    python_provider_ensure(name="custom")
    error = refused(lambda: model_register(name="new", config=of("m", "custom", base_url=BOX)))
    assert (error.code, "“custom” is another provider already" in error.message) == ("name_taken", True)


# --- policies -------------------------------------------------------------------------------------------------------


def put(task: Any = TaskType.CODING, policy: Any = None, **said: Any) -> str:
    given = RoutingPolicy(task, **{"preferred_models": ["swift"], **said}) if policy is None else policy
    return policy_put(task_type=task, policy=given, now=timezone.now())


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"preferred_models": ()}, "at least one of preferred_models"),
        ({"preferred_models": None}, "at least one of preferred_models"),
        ({"preferred_models": None, "fallback_models": ["sage"]}, "at least one of preferred_models"),
        ({"preferred_models": "swift"}, "lists of names"),
        ({"preferred_models": b"swift"}, "lists of names"),
        ({"preferred_models": 7}, "lists of names"),
        ({"preferred_models": ["swift", None]}, "lists of names"),
        ({"preferred_models": [["swift"]]}, "lists of names"),
        ({"preferred_models": {"swift": 1}}, "lists of names"),
        ({"fallback_models": "sage"}, "lists of names"),
        ({"fallback_models": ["sagee"]}, "no model alias “sagee”. Did you mean “sage”?"),
        ({"preferred_models": ["auto"]}, "no model alias “auto”"),
        ({"max_cost_per_request": -0.1}, "max_cost_per_request is a number from 0 to 9,999"),
        ({"max_cost_per_request": float("nan")}, "max_cost_per_request is a number"),
        ({"max_cost_per_request": "0.5"}, "max_cost_per_request is a number"),
        ({"max_cost_per_request": 10**400}, "max_cost_per_request is a number"),
        ({"max_cost_per_request": 0}, "leaves every request without any model: swift"),
        ({"max_latency": 86_401}, "max_latency is a number from 0 to 86,400"),
        ({"max_latency": True}, "max_latency is a number"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_with_the_field(said: dict[str, Any], words: str) -> None:
    assert words in refused(lambda: put(**said)).message


@pytest.mark.parametrize("task", ["ANY", TaskType.ANY, "POETRY", "", None, 7])
def test_a_policy_is_for_one_kind_of_work(task: Any) -> None:
    assert "is no kind of work. There are: CODING" in refused(lambda: put(task)).message


@pytest.mark.parametrize("policy", [["swift"], {"preferred_models": ["swift"]}, "swift", RoutingPolicy])
def test_a_policy_is_a_routing_policy(policy: Any) -> None:
    assert "A policy is a RoutingPolicy, not a" in refused(lambda: put(policy=policy)).message


def candidates(name: str) -> list[tuple[str, bool]]:
    document = document_of(PolicyRow.objects.get(name=name))
    return [(one.alias, one.is_fallback) for one in document.candidates]


@pytest.mark.parametrize(
    ("preferred", "fallbacks", "wanted"),
    [
        (["swift"], None, [("swift", False)]),
        (["swift"], ["sage"], [("swift", False), ("sage", True)]),
        (["sage", "swift", "sage"], ["swift"], [("sage", False), ("swift", False)]),
        (("sage",), {"swift"}, [("sage", False), ("swift", True)]),
    ],
)
def test_models_are_asked_in_the_order_that_is_given(preferred: Any, fallbacks: Any, wanted: Any) -> None:
    name = put(preferred_models=preferred, fallback_models=fallbacks)
    assert candidates(name) == wanted


def test_lists_may_be_read_once_only() -> None:
    name = put(preferred_models=iter(["swift"]), fallback_models=(one for one in ("sage", "swift")))
    assert candidates(name) == [("swift", False), ("sage", True)]


def test_a_policy_that_is_added_again_is_another_version() -> None:
    assert {put(), put(max_cost_per_request=1), put(max_latency=0.5, fallback_models=["sage"])} == {"library-coding"}
    row = PolicyRow.objects.get(name="library-coding")
    assert (row.max_cost_per_request, row.max_latency_ms, row.versions.count()) == (None, 500, 3)
    assert put("complex_reasoning") == "library-complex-reasoning"


def test_one_that_an_operator_has_switched_off_serves_again() -> None:
    name = put()
    PolicyRow.objects.filter(name=name).update(is_active=False)
    assert put(preferred_models=["sage"]) == name
    assert PolicyRow.objects.get(name=name).is_active
    assert candidates(name) == [("sage", False)]


def test_in_a_folder_a_policy_may_name_what_the_catalogue_knows(in_a_folder: None) -> None:
    error = refused(lambda: put(preferred_models=["gpt-4oo"]))
    assert re.search("no model “gpt-4oo”.*Did you mean “gpt-4o”", error.message)
    assert refused(lambda: put(preferred_models=["gpt-4o"])).code == "no_vendor_key"
    Provider.objects.create(name="openai", label="OpenAI", kind="openai")
    CatalogueModelFactory.create(name="gpt-4o")
    assert refused(lambda: put(preferred_models=["gpt-4o", "gpt-4oo"])).code == "model_not_found"
